"""MNIST's files damaged, missing or mixed up: the sweep says so before any work, and goes on once they are right."""

import os

import pytest
import torchvision
from stub_runs import record
from stub_sweep import place  # noqa: F401
from test_data import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, use_tiny_sums, write

from mnistmp import cli, data, records
from mnistmp.sweep import run
from mnistmp.sweep.process import Outcome

pytestmark = pytest.mark.faults

SWEEP = ("run", "--preset", "quick", "--rows", "standard,rsc", "--seeds", "0", "--precision", "float32")


@pytest.fixture
def mnist(place, monkeypatch):
    """The folder of a tiny MNIST, no network to mend it from, and units that are done at once."""
    use_tiny_sums(monkeypatch)
    monkeypatch.setenv("MNISTMP_DATA", str(place.folder / "data"))
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens there

    def run_units(units, jobs, **_):
        for unit in units:
            for spec in unit.specs:
                records.save(record(spec), unit.preset)
        return [Outcome(unit) for unit in units]

    monkeypatch.setattr(run, "run_units", run_units)
    yield write(place.folder / "data")
    data.digits._mnist.cache_clear()


def swap(raw):
    (raw / TRAIN_IMAGES).rename(raw / "x")
    (raw / TEST_IMAGES).rename(raw / TRAIN_IMAGES)
    (raw / "x").rename(raw / TEST_IMAGES)


def replace(name, make):
    def act(raw):
        (raw / name).unlink()
        make(raw / name)

    return act


FAULTS = [
    ("an IDX file truncated", lambda raw: os.truncate(raw / TRAIN_IMAGES, 1000),
     f"{TRAIN_IMAGES} is not the published file, by its SHA-256 (1,000 bytes)"),
    ("an IDX file empty", lambda raw: os.truncate(raw / TEST_LABELS, 0), f"{TEST_LABELS} is not the published file"),
    ("IDX files swapped", swap, f"{TRAIN_IMAGES} is not the published file"),
    ("an IDX file with a wrong magic", replace(TRAIN_LABELS, lambda path: path.write_bytes(b"\0\0\x0d\x01" * 5)),
     f"{TRAIN_LABELS} is not the published file"),
    ("one bit of an IDX file flipped", lambda raw: flip(raw / TEST_IMAGES), f"{TEST_IMAGES} is not the published file"),
    ("an IDX file missing", lambda raw: (raw / TEST_IMAGES).unlink(), "the download failed"),
    ("an IDX file that is a link to nothing", replace(TEST_IMAGES, lambda path: path.symlink_to("nowhere")),
     "the download failed"),
    ("an IDX file that is a link to itself", replace(TEST_IMAGES, lambda path: path.symlink_to(path.name)),
     f"{TEST_IMAGES} cannot be read ("),
    ("an IDX file that is a link to another", replace(TEST_IMAGES, lambda path: path.symlink_to(TRAIN_IMAGES)),
     f"{TEST_IMAGES} is not the published file"),
    ("a folder in place of an IDX file", replace(TRAIN_LABELS, lambda path: path.mkdir()), "cannot be read"),
]  # fmt: skip


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("fault, damage, words", FAULTS, ids=[line[0] for line in FAULTS])
def test_damaged_digits_stop_the_sweep(mnist, place, ledger, fault_table, capsys, fault, damage, words):
    assert cli.main([*SWEEP[:4], "rsc", *SWEEP[5:]]) == 0 and ledger.look() == 1
    data.digits._mnist.cache_clear()  # another command, another process
    capsys.readouterr()
    damage(mnist)
    assert cli.main([*SWEEP]) == 2
    out, message = capsys.readouterr()
    assert out == "" and message.count("\n") == 1 and message.startswith("mnistmp: ") and message.endswith(".\n")
    assert words in message and "--preset digits" in message and "MNISTMP_DATA" in message
    assert ledger.look() == 1
    for path in mnist.iterdir():  # what was not downloaded is put right by hand
        path.rmdir() if path.is_dir() else path.unlink()
    write(place.folder / "data")
    assert cli.main([*SWEEP]) == 0 and ledger.look() == 2
    fault_table.add(fault, message, ledger)


def test_links_to_good_files_are_good_files(mnist, place, ledger, capsys):
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    for path in list(mnist.iterdir()):
        path.rename(elsewhere / path.name)
        path.symlink_to(elsewhere / path.name)
    assert cli.main([*SWEEP]) == 0 and ledger.look() == 2
