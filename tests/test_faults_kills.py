"""SIGKILL at random moments: of whatever writes a record, of a kernel, of a unit, of the whole sweep."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from stub_runs import PRESET, record, specs_of
from stub_sweep import ROOT, Forked, finished, place, processes_in, run, start, units_of, wait_for  # noqa: F401

from mnistmp import cli, records
from mnistmp.sweep import plan

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the processes of POSIX")]


def kill_all(folder):
    """Every process of a sweep in one moment, as when the machine is switched off."""
    for process in processes_in(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def without_times(content):
    """A record's content apart from times: what must not depend on how often a sweep was killed."""
    values = records.RunRecord.from_text(content).to_json()
    del values["started"], values["seconds"]
    return {**values, "history": [{**epoch, "seconds": 0} for epoch in values["history"]]}


def forked(action):
    """A process that does `action` and nothing else, ready before it is let go."""
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            action()
        finally:
            os._exit(0)
    os.read(ready[0], 1)
    for end in (*ready, go[0]):
        os.close(end)
    return child, go[1]


def release(children):
    for _, go in children:
        os.write(go, b"g")
        os.close(go)


# ---- whatever writes a record ----


def test_killed_while_writing(place, ledger, fault_table):
    specs = specs_of("standard,rsc", "0-99")
    chance, kills, began = random.Random(), 100, 0

    def write(some):
        for spec in some:
            records.save(record(spec), PRESET)

    for _ in range(kills):
        missing = [spec for spec in specs if not records.record_path(PRESET, spec.row, spec.seed).exists()]
        child = forked(lambda some=missing: write(some))
        release([child])
        time.sleep(chance.uniform(0, 0.02))
        os.kill(child[0], signal.SIGKILL)
        os.waitpid(child[0], 0)
        before = began
        began = ledger.look()
        assert began >= before
    leftovers = list((place.folder / "results").rglob(".*.tmp"))
    write(missing)
    assert ledger.look() == len(specs) and len(records.load(PRESET)) == len(specs)
    print(f"{kills} kills left {began} of {len(specs)} records, and {len(leftovers)} hidden files that nothing reads")
    fault_table.add("SIGKILL while a record is written", "(killed: none)", ledger, kills)


def test_two_write_the_same_record_at_once(place, ledger, fault_table):
    rounds = 60
    for spec in specs_of("standard", f"0-{rounds - 1}"):

        def save_and_look(seconds, spec=spec):  # what either sees once it has written must be the last word
            path = records.save(record(spec, seconds=seconds), PRESET)
            (place.folder / f"seen-{seconds}").write_bytes(path.read_bytes())

        children = [forked(lambda seconds=seconds: save_and_look(seconds)) for seconds in (1.0, 2.0)]
        release(children)
        for child, _ in children:
            os.waitpid(child, 0)
        path = records.record_path(PRESET, "standard", spec.seed)
        seen = {(place.folder / f"seen-{seconds}").read_bytes() for seconds in (1.0, 2.0)}
        assert seen == {path.read_bytes()}
    assert ledger.look() == rounds
    fault_table.add("two processes record the same run at once", "(none: the first counts)", ledger, rounds)


# ---- a kernel, a unit ----


@pytest.mark.slow
def test_each_fault_stays_alone_and_the_same_command_finishes_the_rest(place, ledger, fault_table, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # would make figures vanish
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MNISTMP_CELL_TIMEOUT", "4")
    names = ("MPLBACKEND", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "MNISTMP_PRECISION")
    place.fault.set("dropout", f'raise ValueError(str([os.environ[n] for n in {names}] + [os.getcwd()]) + "\\nmore")')
    place.fault.set("jigsaw", "sys.exit(0)")
    place.fault.set("reconstruction", "os.kill(os.getpid(), 9)")
    place.fault.set("spectral-decoupling", "os.kill(os.getppid(), 9); time.sleep(600)")
    place.fault.set("rcl-inf", "time.sleep(600)")
    rows = "standard,dropout,jigsaw,reconstruction,spectral-decoupling,rsc,rcl-inf"
    outcomes, shown = run(units_of(place, rows))

    problems = {row: outcome.problem for row, outcome in outcomes.items()}
    assert problems["standard"] is None and problems["rsc"] is None
    folder = place.attempts / "03-dropout-seed-0/1"
    variables = ["module://matplotlib_inline.backend_inline", "1", "1", "float32"]
    assert problems["dropout"] == f"In [3]: ValueError: {[*variables, str(folder)]}"
    assert "without recording" in problems["jigsaw"]
    assert "kernel died" in problems["reconstruction"]
    assert problems["spectral-decoupling"] == "its process was killed (SIGKILL)"
    assert problems["rcl-inf"] == "a cell took longer than the 4 seconds of MNISTMP_CELL_TIMEOUT"
    assert " standard seed 0  done in " in shown and "val 84.7 test 26.4" in shown

    # The notebook of a failure stays, with papermill's banner, and is strict JSON; others leave nothing.
    look = outcomes["dropout"].look
    assert look.name == "03_dropout.ipynb" and "An Exception was encountered" in look.read_text()
    json.loads(look.read_text(), parse_constant=pytest.fail)
    assert {path.name for path in place.attempts.iterdir()} == {
        f"{number}-{row}-seed-0" for number, row in (
            ("03", "dropout"), ("04", "jigsaw"), ("05", "reconstruction"), ("06", "spectral-decoupling"),
            ("08", "rcl-inf"),
        )
    }  # fmt: skip
    assert " rsc seed 0  done in " in shown
    assert "03 dropout seed 0  FAILED after" in shown and f"open {look}" in shown
    wait_for(lambda: not processes_in(place.folder), 30)  # not even the kernel whose unit was killed

    assert ledger.look() == 2
    place.fault.clear()
    missing = plan.missing(specs_of(rows), PRESET)
    assert {spec.row for spec in missing} == set(rows.split(",")) - {"standard", "rsc"}
    outcomes, _ = run(plan.train_units(missing, PRESET, 10, place.notebooks))
    assert all(outcome.problem is None for outcome in outcomes.values())
    assert ledger.look() == 7 and plan.missing(specs_of(rows), PRESET) == []
    for fault, row in (
        ("a cell raises an exception", "dropout"), ("sys.exit in a notebook", "jigsaw"),
        ("a kernel kills itself", "reconstruction"), ("a kernel kills its unit", "spectral-decoupling"),
        ("a cell exceeds its time", "rcl-inf"),
    ):  # fmt: skip
        fault_table.add(fault, problems[row], ledger)


@pytest.mark.slow
@pytest.mark.parametrize(
    "victim, program", [("a kernel", "ipykernel_launcher"), ("a unit's process", "mnistmp.sweep.unit")]
)
def test_killed_again_and_again_it_is_done_in_the_end(place, ledger, fault_table, victim, program):
    chance, rows = random.Random(), "standard,rsc,jigsaw"
    for row in rows.split(","):
        place.fault.set(row, '(stub / f"busy-{os.getpid()}").touch(); time.sleep(1)')
    kills, problems, over = [], set(), threading.Event()

    def murder():
        while len(kills) < 10 and not over.wait(chance.uniform(0.1, 0.9)):
            busy = {int(path.name.partition("-")[2]) for path in (place.folder / "stub").glob("busy-*")}
            with contextlib.suppress(psutil.Error, OSError):  # it was faster
                found = [one for one in processes_in(place.folder) if program in " ".join(one.cmdline())]
                training = [one for one in found if busy & {one.pid, *(child.pid for child in one.children(True))}]
                if found := training if len(kills) % 2 else found:  # every other one in the middle of its training
                    os.kill(chance.choice(found).pid, signal.SIGKILL)
                    kills.append(bool(training))

    murderer = threading.Thread(target=murder, daemon=True)
    murderer.start()
    try:
        while missing := plan.missing(specs_of(rows), PRESET):
            outcomes, shown = run(plan.train_units(missing, PRESET, 10, place.notebooks))
            problems |= {outcome.problem for outcome in outcomes.values()} - {None}
            assert "Traceback" not in shown
            ledger.look()
            for spec in specs_of(rows):  # what is done is forgotten until there were enough kills
                if len(kills) < 10 and records.find(spec, PRESET):
                    records.record_path(PRESET, spec.row, spec.seed).unlink()
                    ledger.known.clear()
    finally:
        over.set()
        murderer.join()
    wait_for(lambda: not processes_in(place.folder), 30)
    assert ledger.look() == 3 and len(kills) == 10
    expected = {"the kernel died (killed, or out of memory)", "its process was killed (SIGKILL)",
                "the kernel died before it answered (killed, or out of memory)"}  # fmt: skip
    assert problems <= expected and sum(kills) >= 5, (problems, kills)
    fault_table.add(f"SIGKILL of {victim} at a random moment", min(problems, key=len), ledger, 10)


# ---- the whole sweep ----


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL], ids=lambda blow: blow.name)
def test_ending_the_batch_ends_every_process_and_keeps_what_is_finished(place, ledger, fault_table, blow):
    for row in ("dropout", "rsc"):
        place.fault.set(row, f'(stub / "{row}-sleeps").touch(); time.sleep(600)')
    records.save(record(*specs_of("standard")), PRESET)
    ledger.look()
    rows = "standard,dropout,rsc"
    command = start(place, "reproduce", "--rows", rows, "--seeds", "0", "--jobs", "2", "--precision", "float32")
    try:
        sleeping = [place.folder / f"stub/{row}-sleeps" for row in ("dropout", "rsc")]
        wait_for(lambda: all(path.exists() for path in sleeping) or command.poll() is not None)
        assert command.poll() is None, command.communicate()
        assert len(processes_in(place.folder)) >= 5  # the batch, two units, two kernels
        clock = time.monotonic()
        command.send_signal(blow)
        out, err = command.communicate(timeout=60)
        wait_for(lambda: not processes_in(place.folder), 30)
    finally:
        command.kill()
    if blow != signal.SIGKILL:
        assert time.monotonic() - clock < 30
        assert command.returncode == 130
        assert err == f"\nmnistmp: {cli.INTERRUPTION}\n"
        assert not place.attempts.exists()  # an interrupted unit did not fail
    assert ledger.look() == 1
    fault_table.add(f"{blow.name} of the sweep while kernels train", err or "(killed: none)", ledger)


@pytest.mark.slow
def test_a_sweep_killed_at_20_random_moments_ends_as_if_nothing_had_happened(place, ledger, fault_table):
    results, rows = place.folder / "results", "standard,standard-original"
    for path in place.notebooks.iterdir():
        if path.stem != "02_standard":
            path.unlink()

    def sweep(seconds=300.0):
        """Run the command, or kill it after so many seconds; its exit code, and what it said."""
        command = Forked(place, "reproduce", "--rows", rows, "--seeds", "0", "--jobs", "2", "--precision", "float32")
        if command.wait(seconds) is None:
            if chance.random() < 0.5:
                kill_all(place.folder)  # else only the sweep itself, whose units must notice
            command.kill()
            wait_for(lambda: not processes_in(place.folder), 30)
        return command.process.exitcode, command.said()

    def outcome():
        """All that a sweep leaves for a reader, apart from times."""
        kept = {name: without_times(content) for name, (content, _) in finished(place).items()}
        shown = [*results.glob(f"{PRESET}/table2.*"), *results.glob(f"{PRESET}/notebooks/*.ipynb")]
        return kept, {path.name: path.read_bytes() for path in shown}

    chance = random.Random(seed := random.randrange(10**6))
    print(f"random.Random({seed})")
    clock = time.monotonic()
    code, said = sweep()
    whole = time.monotonic() - clock
    assert code == 0, said
    undisturbed = outcome()
    assert [len(part) for part in undisturbed] == [2, 4]
    shutil.rmtree(results)

    moments = [whole * (part + chance.random()) / 20 for part in range(20)]  # every phase of a sweep has its share
    chance.shuffle(moments)
    kills = starts = 0
    while moments:
        starts += 1
        left = 0.5 if len(ledger.known) == 2 else 1.0  # where all is recorded there is only half as much to disturb
        code, said = sweep(left * moments[-1])
        ledger.look()
        if code == -signal.SIGKILL:
            kills += 1
            moments.pop()
            continue
        assert code == 0 and outcome() == undisturbed, said  # done before that moment: once more from the start
        assert starts < 60
        shutil.rmtree(results)
        ledger.known = {}
    code, said = sweep()
    assert code == 0 and outcome() == undisturbed, said
    print(f"{kills} kills in {starts} starts of a sweep of {whole:.1f} s")
    fault_table.add("SIGKILL of the whole sweep at a random moment", "(killed: none)", ledger, kills)


# Real trainings, of one epoch each.
SHORT = """
import dataclasses, sys
from mnistmp import cli, paper
digits = paper.PRESETS["digits"]
paper.PRESETS["digits"] = dataclasses.replace(digits, fields={**digits.fields, "epochs": 1})
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_trainings_killed_in_the_middle_give_the_same_records(place, ledger, fault_table):
    def sweep(folder):
        arguments = ("run", "--rows", "standard,dropout", "--seeds", "0", "--jobs", "2", "--precision", "float32")
        return subprocess.Popen([sys.executable, "-c", SHORT, *arguments, "--results", str(place.folder / folder)],
                                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip

    whole = sweep("whole")
    assert whole.wait(300) == 0, whole.stdout.read()
    broken = sweep("results")
    wait_for(lambda: list((place.folder / "results").rglob("unit.json")))  # the units are about to train
    time.sleep(random.uniform(0, 3))
    broken.kill()
    broken.wait()
    wait_for(lambda: not processes_in(place.folder), 30)
    ledger.look()
    again = sweep("results")
    assert again.wait(300) == 0, again.stdout.read()
    ledger.look()
    whole, again = (
        {path.parent.name: without_times(path.read_bytes())
         for path in (place.folder / folder / PRESET / "runs").glob("*/seed-0.json")}
        for folder in ("whole", "results")
    )  # fmt: skip
    assert whole == again and len(whole) == 2
    fault_table.add("SIGKILL of the sweep during real trainings", "(killed: none)", ledger)
