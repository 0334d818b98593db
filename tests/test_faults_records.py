"""Two sweeps at once, records that somebody spoiled, clocks that run backwards: nothing finished is lost."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from stub_runs import PRESET, record, specs_of
from stub_sweep import ROOT, Forked, place, quick, start  # noqa: F401
from test_faults_kills import SHORT

from mnistmp import cli, paper, paths, records
from mnistmp.sweep import run
from mnistmp.sweep.process import Outcome

pytestmark = [pytest.mark.faults, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the processes of POSIX")]

ROWS = "standard,standard-original"
SWEEP = ("reproduce", "--rows", ROWS, "--seeds", "0-1", "--jobs", "1", "--precision", "float32")


# ---- two at once ----


@pytest.mark.slow
def test_two_sweeps_over_one_folder(quick, ledger, fault_table):
    sweeps = [Forked(quick, *SWEEP) for _ in range(2)]
    looks = 0
    while any(sweep.wait(0.05) is None for sweep in sweeps):
        ledger.look()
        looks += 1
        assert records.status(PRESET, specs_of(ROWS, "0-1")).attrs["problems"] == []
    told = [sweep.said() for sweep in sweeps]
    assert [sweep.wait() for sweep in sweeps] == [0, 0], told
    assert ledger.look() == len(records.load(PRESET)) == 4 and looks > 10
    assert not quick.attempts.exists()
    for out, err in told:
        assert "4 of 4 runs are recorded" in out and not err
    shown = sorted(path.name for path in (quick.folder / "results" / PRESET / "notebooks").iterdir())
    assert shown == ["02_standard.ipynb", "made-from.json"]
    fault_table.add("two sweeps at once over one folder", "(none: both end with 4 of 4 recorded)", ledger, 2)


# ---- records that somebody spoiled ----


def edited(**changes):
    return lambda text: json.dumps({**json.loads(text), **changes})


def faster(text):
    values = json.loads(text)
    return json.dumps({**values, "spec": {**values["spec"], "learning_rate": 0.5}})


def other_run(text):
    return record(paper.spec_for("standard-original", 0, PRESET, "float32", learning_rate=0.5)).to_text()


SPOILED = [
    ("a record truncated", lambda text: text[:300], "is torn or not JSON"),
    ("a record empty", lambda text: "", "is torn or not JSON"),
    ("a record of another format", edited(format=2), "is of format version 2"),
    ("a record of another protocol", edited(protocol=2), "is of protocol version 2"),
    ("a record with a changed field", faster, "a field was changed after the run"),
    ("a record with a changed key", edited(key="0" * 16), "a field was changed after the run"),
    ("a record of another run", other_run, "learning_rate is 0.5 and 0.005 is asked"),
    ("a record of another row under its name", lambda _: record(*specs_of("dropout")).to_text(), "under another name"),
    ("a record that is binary", lambda text: os.urandom(3000), "is torn or not JSON"),
    ("a record of a gigabyte", None, "is larger than 1,000,000 bytes"),
]  # fmt: skip


@pytest.fixture
def here(quick, monkeypatch):
    """The command in this process; its units are done at once."""
    monkeypatch.setattr(paths, "notebooks", lambda: quick.notebooks)

    def run_units(units, jobs, **_):
        for unit in units:
            for spec in unit.specs:
                records.save(record(spec, started="2026-02-02T00:00:00Z"), PRESET)
        return [Outcome(unit) for unit in units]

    monkeypatch.setattr(run, "run_units", run_units)
    return quick


def refused(capsys):
    """The sentence with which the sweep ends before any work."""
    assert cli.main([*SWEEP]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("mnistmp: ") and err.endswith(".\n") and err.count("\n") == 1
    return err


@pytest.mark.parametrize("fault, spoil, words", SPOILED, ids=[line[0] for line in SPOILED])
def test_a_spoiled_record_stops_the_sweep_and_its_remedy_works(here, ledger, fault_table, capsys, fault, spoil, words):
    for row in ("standard", "standard-original"):
        path = records.save(record(*specs_of(row)), PRESET)  # the last one is spoiled
    if spoil is None:
        os.truncate(path, 10**9)
    else:
        spoiled = spoil(path.read_text())
        path.write_bytes(spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    ledger.spoiled.add(path)
    assert ledger.look() == 1
    before = path.stat()
    message = refused(capsys)
    assert words in message and str(path) in message
    after = path.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)  # it is left for its owner to see
    path.unlink()  # what the message says
    ledger.spoiled.clear()
    assert cli.main([*SWEEP]) == 0 and ledger.look() == 4
    fault_table.add(fault, message, ledger)


@pytest.mark.parametrize("copy", ["standard-original/seed-7.json", "standard/seed-0 (copy).json", "a copy/seed-0.json"])
def test_a_duplicate_counts_nowhere(here, ledger, fault_table, capsys, copy):
    path = records.save(record(*specs_of("standard-original")), PRESET)
    ledger.look()
    double = paths.results(PRESET) / "runs" / copy
    double.parent.mkdir(exist_ok=True)
    shutil.copy(path, double)
    ledger.spoiled.add(double)
    message = refused(capsys)
    assert copy in message and ("delete the copy" in message or "move it away" in message)
    double.unlink()
    assert cli.main([*SWEEP]) == 0 and ledger.look() == 4
    fault_table.add("a record duplicated under another name", message, ledger)


# ---- clocks ----

# The wall clock loses a minute every second, for whatever asks the C library.
BACKWARDS = """
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static long begun;
    struct timespec alive;
    int code = syscall(SYS_clock_gettime, clock, now);
    if (clock != CLOCK_REALTIME) return code;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &alive);
    if (!begun) begun = alive.tv_sec;
    now->tv_sec -= 61 * (alive.tv_sec - begun);
    return code;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return out ? (*out = now.tv_sec) : now.tv_sec;
}
int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec, out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


@pytest.fixture
def backwards(place, monkeypatch):
    """Processes started from now on live with a clock that runs backwards."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs Linux and a C compiler")
    (place.folder / "clock.c").write_text(BACKWARDS)
    library = place.folder / "clock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, place.folder / "clock.c"], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))
    code = "import time; a = time.time(); time.sleep(1.1); print(time.time() < a - 30)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"


@pytest.mark.slow
def test_a_sweep_by_a_clock_that_runs_backwards(quick, backwards, ledger, fault_table):
    records.save(record(*specs_of("standard"), started="2226-01-01T00:00:00Z"), PRESET)  # of a machine in the future
    os.utime(records.record_path(PRESET, "standard", 0), (4e9, 4e9))
    ledger.look()
    command = start(quick, *SWEEP)
    out, err = command.communicate(timeout=300)
    assert (command.returncode, err) == (0, ""), out + err
    assert ledger.look() == 4 and "in -" not in out  # no negative times are told
    fault_table.add("a sweep while the clock runs backwards", "(none: 4 of 4 recorded)", ledger)


@pytest.mark.slow
def test_a_training_by_a_clock_that_runs_backwards(place, backwards, ledger, fault_table):
    arguments = ("run", "--rows", "standard", "--seeds", "0", "--precision", "float32")
    done = subprocess.run([sys.executable, "-c", SHORT, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and ledger.look() == 1, done.stdout + done.stderr
    (path,) = (place.folder / "results").glob("*/runs/*/*.json")
    run = records.read(path)
    assert 0 < sum(epoch["seconds"] for epoch in run.history) <= run.seconds < 300
    fault_table.add("a training while the clock runs backwards", "(none: recorded, its seconds are right)", ledger)


def test_a_clock_far_ahead_takes_no_file_from_another_machine(place, ledger, fault_table, monkeypatch):
    path = records.save(record(*specs_of("standard")), PRESET)
    writing = path.with_name(".seed-1.json.7-a.tmp")  # on another machine, right now
    writing.write_text("{")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 1e6)
    records.check_writable(PRESET)
    assert writing.exists() and ledger.look() == 1
    fault_table.add("a clock eleven days ahead of the file system's", "(none)", ledger)
