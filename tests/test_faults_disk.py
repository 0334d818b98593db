"""A disk that is full, a folder that cannot be written: finished records stay, and the same command goes on."""

import os

import pytest
from places import fill, largest_file, read_only, small_disk
from stub_runs import PRESET, record, specs_of
from stub_sweep import Forked, place, processes_in, quick, wait_for  # noqa: F401

from mnistmp import records

pytestmark = [pytest.mark.faults, pytest.mark.slow,
              pytest.mark.skipif(not hasattr(os, "fork"), reason="needs the processes of POSIX")]  # fmt: skip

SWEEP = ("reproduce", "--rows", "standard,standard-original", "--seeds", "0", "--jobs", "2", "--precision", "float32")


def sweep(place):
    """Exit code, standard output and standard error of the command."""
    command = Forked(place, *SWEEP)
    code, (out, err) = command.wait(), command.said()
    assert "Traceback" not in out + err
    wait_for(lambda: not processes_in(place.folder), 30)
    return code, out, err


def refused(place):
    """The sentence with which the command ends before any work."""
    code, out, err = sweep(place)
    assert (code, out) == (2, "") and err.startswith("mnistmp: ") and err.endswith(".\n") and err.count("\n") == 1
    return err


def failures(out):
    """What is said at the end about what failed."""
    units = [line.strip() for line in out.splitlines() if line.startswith("  ") and ", see " in line]
    return units + [line for line in out.splitlines() if "could not" in line]


def finishes(place, ledger, number=2):
    code, out, err = sweep(place)
    assert (code, err) == (0, ""), out + err
    assert ledger.look() == number


def test_a_full_disk_before_the_sweep(quick, ledger, fault_table):
    with small_disk(quick.folder / "results", 2**20) as disk:
        records.save(record(*specs_of("standard")), PRESET)
        ledger.look()
        filler = fill(disk, leave=0)
        message = refused(quick)
        assert "No space left on device" in message and "free or repair the place, or set MNISTMP_RESULTS" in message
        filler.unlink()
        finishes(quick, ledger)
        fault_table.add("disk full before the sweep", message, ledger)


@pytest.mark.parametrize("leave", [8_000, 24_000])
def test_a_disk_that_fills_up_during_the_sweep(quick, ledger, fault_table, leave):
    with small_disk(quick.folder / "results", 2**20) as disk:
        records.save(record(*specs_of("standard")), PRESET)
        ledger.look()
        filler = fill(disk, leave)
        code, out, err = sweep(quick)
        print(out, err)
        assert code == 1 and not err
        assert failures(out) and all("No space left on device" in line for line in failures(out))
        ledger.look()
        filler.unlink()
        finishes(quick, ledger)
        fault_table.add("disk full during the sweep", failures(out)[0], ledger)


def test_files_that_the_system_lets_grow_no_further(quick, ledger, fault_table):
    records.save(record(*specs_of("standard")), PRESET)
    ledger.look()
    with largest_file(1000):
        code, out, err = sweep(quick)
    print(out, err)
    assert code == 1 and not err and ledger.look() == 1
    assert any("File too large" in line for line in failures(out))
    finishes(quick, ledger)
    fault_table.add("a limit on the size of files", failures(out)[0], ledger)


def test_a_results_folder_that_is_read_only(quick, ledger, fault_table):
    records.save(record(*specs_of("standard")), PRESET)
    ledger.look()
    with read_only(quick.folder / "results"):
        message = refused(quick)
        assert "cannot be written (Read-only file system)" in message or "(Permission denied)" in message
        status = Forked(quick, "status", "--preset", PRESET, "--rows", "standard", "--seeds", "0")
        assert status.wait() == 0 and "1 of 1 done" in status.said()[0]  # what is there can be read
    finishes(quick, ledger)
    fault_table.add("results folder read-only before the sweep", message, ledger)


def test_records_that_become_read_only_during_the_sweep(quick, ledger, fault_table):
    records.save(record(*specs_of("standard")), PRESET)
    ledger.look()
    quick.fault.set("standard-original", "(stub / 'waits').touch()\nwhile not (stub / 'go').exists(): time.sleep(0.05)")
    command = Forked(quick, *SWEEP)
    wait_for(lambda: (quick.folder / "stub/waits").exists())
    with read_only(quick.folder / "results" / PRESET / "runs"):
        (quick.folder / "stub/go").touch()
        code, (out, err) = command.wait(), command.said()
    print(out, err)
    assert code == 1 and not err and len(failures(out)) == 1 and "Traceback" not in out
    assert "1 of 2 runs are recorded" in out and ledger.look() == 1
    finishes(quick, ledger)
    fault_table.add("records read-only during the sweep", failures(out)[0], ledger)
