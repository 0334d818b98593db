"""The cluster: what is refused, and a real one of two workers on this machine, one of which is killed.

The notebooks are stub_sweep's: kernels and processes are real, trainings are not.
"""

import contextlib
import json
import os
import signal
import socket
import sys
from concurrent.futures import Future
from types import SimpleNamespace

import psutil
import pytest
from stub_runs import PRESET, record, specs_of
from stub_sweep import finished, place, processes_in, run, start, units_of, wait_for  # noqa: F401

from mnistmp import cli, paths, records
from mnistmp.errors import InputError
from mnistmp.records import provenance
from mnistmp.sweep import cluster
from mnistmp.sweep import process as unit_process
from mnistmp.sweep import run as sweep_run
from mnistmp.sweep.process import Outcome
from mnistmp.sweep.run import Sweep

ROWS = "standard,jigsaw,rsc,rcl-inf"


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """A scheduler and two worker processes with one thread each."""
    distributed = pytest.importorskip("distributed")
    folder = tmp_path_factory.mktemp("dask")
    with distributed.LocalCluster(
        n_workers=2, processes=True, threads_per_worker=1, host="127.0.0.1",
        dashboard_address="127.0.0.1:0", local_directory=folder, silence_logs="CRITICAL",
    ) as started, distributed.Client(started, set_as_default=False) as client:  # fmt: skip
        yield client


@pytest.fixture
def arguments(place, workers, monkeypatch):
    """The command's arguments that lead to those workers, which know the stubs of this test."""
    stub = os.environ["STUB"]
    workers.run(lambda: os.environ.update(STUB=stub))
    monkeypatch.setattr(paths, "notebooks", lambda: place.notebooks)
    return ["--precision", "float32", "--seeds", "0", "--executor", "dask", "--scheduler", workers.scheduler.address]


def pids(workers):
    return set(workers.run(os.getpid).values())


def left_running(place):
    """Units and kernels, not the workers, which may have inherited this test's environment."""
    found = []
    for process in processes_in(place.folder):
        with contextlib.suppress(psutil.NoSuchProcess):
            if {"mnistmp.sweep.unit", "ipykernel_launcher"} & set(process.cmdline()):
                found.append(process)
    return found


# ---- what is refused ----


@pytest.mark.parametrize(
    "given, words",
    [
        (["--executor", "dask"], "--executor dask needs a scheduler; give --scheduler ADDRESS"),
        (["--scheduler", "tcp://127.0.0.1:1"], "--scheduler is for a cluster; add --executor dask, or leave it out."),
        (["--scheduler", ""], "--scheduler is for a cluster"),
    ],
)
@pytest.mark.parametrize("verb", ["reproduce", "run"])
def test_arguments_that_do_not_fit_together(place, capsys, verb, given, words):
    assert cli.main([verb, *given]) == 2
    assert words in capsys.readouterr().err
    assert not (place.folder / "results").exists()


def test_without_the_extra(place, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert cli.main(["run", "--executor", "dask", "--scheduler", "tcp://127.0.0.1:1"]) == 2
    sentence = capsys.readouterr().err
    assert "needs the package distributed" in sentence and "pip install 'mnistmp[dask]'" in sentence


@pytest.mark.dask
@pytest.mark.parametrize("server", ["nobody", "silent", "nonsense"])
def test_a_scheduler_that_does_not_answer(place, capsys, monkeypatch, server):
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if server == "silent":
            port.listen()
        address = "tcp//nowhere" if server == "nonsense" else f"tcp://127.0.0.1:{port.getsockname()[1]}"
        assert cli.main(["reproduce", "--executor", "dask", "--scheduler", address]) == 2
    err = capsys.readouterr().err
    assert f"mnistmp: No dask scheduler answers at {address} (" in err and "or correct --scheduler.\n" in err
    assert not (place.folder / "results").exists()


def test_jobs_are_no_matter_of_a_cluster(place):
    with pytest.raises(InputError, match="--jobs is for this machine"):
        Sweep(specs_of("rsc"), PRESET, jobs=2, executor=object())


def test_a_worker_that_sees_another_folder_or_has_other_code(place, monkeypatch):
    monkeypatch.setattr(cluster, "VISIBLE", 0.0)
    (unit,) = units_of(place, "rsc")
    code, done = provenance.code_version(), Outcome(unit)
    (place.folder / "mark").touch()

    def begin(code, mark):
        return cluster._begin(str(place.folder / mark), code, lambda *_: done, unit, "sweep", {})

    assert begin(code, "mark") == done
    assert "does not see" in begin(code, "nowhere/mark").problem
    assert "has another mnistmp" in begin("0" * 12, "mark").problem


def test_a_cluster_without_workers_yet_is_planned_for(place):
    waiting = SimpleNamespace(slots=lambda: 0, EXPECTED=4)
    sweep = Sweep(specs_of("standard", "0-7"), PRESET, executor=waiting)
    assert [len(unit.specs) for unit in sweep.units] == [1] * 8  # not one unit for a single worker
    assert sweep.opening().endswith("8 to do in 8 units, as soon as there is a worker, float32.")
    sweep.executor.slots = lambda: 3
    assert ", 3 at a time, float32." in sweep.opening()


def test_settings_travel_to_the_workers(place, monkeypatch):
    monkeypatch.setenv("MNISTMP_KERNELS", "off")
    variables = unit_process.environment("float32")
    assert variables["MNISTMP_KERNELS"] == "off" and variables["MNISTMP_PRECISION"] == "float32"
    monkeypatch.delenv("MNISTMP_KERNELS")
    monkeypatch.setenv("NUMBA_OPT", "2")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "here")
    variables = unit_process.environment("float32")  # a worker's own may say otherwise, and one sweep takes one path
    assert variables["MNISTMP_KERNELS"] == "on" and variables["NUMBA_OPT"] == "2" and "NUMBA_CACHE_DIR" not in variables
    (unit,) = units_of(place, "rsc")
    monkeypatch.setenv("MNISTMP_RESULTS", str(place.folder / "the-worker-s-own"))
    (place.folder / "the-folder").mkdir()
    unit.write(place.folder / "the-folder", place.folder / "results")
    told = json.loads((place.folder / "the-folder/unit.json").read_text())
    assert told["expected"] == [str(place.folder / "results/digits/runs/rsc/seed-0.json")]
    monkeypatch.setattr(unit_process, "_process", lambda *_: 1)
    monkeypatch.setattr(unit_process, "_reason", lambda *_: "no luck")
    assert unit_process.attempt(unit, "sweep", variables).look == place.attempts / "07-rsc-seed-0/1/log.txt"


# ---- records decide ----


class Lossy:
    """An executor that loses every unit, some of them after their runs were recorded."""

    def __init__(self, error, recorded=()):
        self.error, self.recorded = error, recorded

    def submit(self, function, unit, *_):
        future = Future()
        if unit.parameters["rows"] in self.recorded:
            records.save(record(*unit.specs), PRESET)
        if self.error is None:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize(
    "error, words",
    [(RuntimeError("lost 4 times. And more"), "RuntimeError: lost 4 times"),
     (None, "the connection to the executor was lost")],
)  # fmt: skip
def test_what_is_recorded_is_done_whatever_the_engine_says(place, error, words):
    outcomes, shown = run(units_of(place, "rsc,standard"), executor=Lossy(error, recorded=["rsc"]))
    assert outcomes["rsc"].problem is None and "07 rsc seed 0  done in 00:00  val 84.7 test 26.4" in shown
    assert outcomes["standard"].problem == words


def test_records_of_another_machine_are_waited_for(place, monkeypatch):
    (unit,), slept = units_of(place, "rsc"), []

    def sleep(seconds):  # the record comes into sight meanwhile
        slept.append(seconds)
        records.save(record(*unit.specs), PRESET)

    assert sweep_run._recorded(unit, 0.0) == ([], "rsc seed 0 was not recorded")
    monkeypatch.setattr(sweep_run.time, "sleep", sleep)
    assert sweep_run._recorded(unit, 60.0) == (["rsc seed 0  val 84.7 test 26.4"], None) and len(slept) == 1


# ---- two real workers ----


@pytest.mark.dask
@pytest.mark.faults
def test_a_killed_worker_costs_no_run_and_doubles_none(place, workers, arguments, capsys, ledger, fault_table):
    records.save(record(*specs_of("standard")), PRESET)  # by a run on one machine
    before, started = finished(place), pids(workers)
    ledger.look()
    # The kernel of one run ends the worker above it, the first time: kernel < unit < worker.
    place.fault.set("jigsaw", 'first = stub / "killed"\nimport psutil\nif not first.exists():\n    first.touch()\n'
                    "    psutil.Process().parent().parent().kill()\n    time.sleep(600)")  # fmt: skip
    assert cli.main(["reproduce", "--rows", ROWS, "--shard", "0/1", *arguments]) == 0
    out = capsys.readouterr().out
    assert "1 of 4 runs recorded, 3 to do in 3 units, 2 at a time" in out
    assert "4 of 4 runs are recorded" in out and "FAILED" not in out
    assert (place.folder / "stub/killed").exists() and len(started & pids(workers)) == 1

    after = finished(place)
    assert after.pop("standard/seed-0.json") == before["standard/seed-0.json"]
    assert set(after) == {f"{row}/seed-0.json" for row in ROWS.split(",")[1:]}
    for name, (content, _) in after.items():
        assert content == (place.folder / "stub" / name).read_bytes()
    wait_for(lambda: not left_running(place), 30)  # not even those of the killed worker

    message = next(line for line in out.splitlines() if "4 of 4" in line)
    fault_table.add("a worker of a dask cluster killed in mid-run", message, ledger)
    written = finished(place)
    assert cli.main(["run", "--rows", ROWS, *arguments]) == 0  # nothing is done twice
    assert "nothing to train" in capsys.readouterr().out and finished(place) == written


@pytest.mark.dask
@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interruption_cancels_what_waits_and_ends_what_runs(place, workers, arguments, ledger, fault_table):
    records.save(record(*specs_of("standard")), PRESET)
    ledger.look()
    for row in ROWS.split(",")[1:]:
        place.fault.set(row, f'(stub / "begun-{row}").touch(); time.sleep(600)')
    process = start(place, "reproduce", "--rows", ROWS, *arguments)
    try:
        wait_for(lambda: len(list(place.folder.glob("stub/begun-*"))) == 2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130 and err == f"\nmnistmp: {cli.INTERRUPTION}\n"
    wait_for(lambda: not left_running(place), 30)
    wait_for(lambda: not workers.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)), 30)
    assert len(list(place.folder.glob("stub/begun-*"))) == 2
    fault_table.add("Ctrl-C while a dask cluster works", err, ledger)
    wait_for(lambda: not place.attempts.exists(), 30)  # an interrupted unit did not fail
