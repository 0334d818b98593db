"""What is read may be anybody's: nothing floods the memory, no name leads astray, and whatever the bytes are, the
answer is one sentence.
"""

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stub_runs import PRESET, record, specs_of

from mnistmp import evidence, figures, files, paths, records
from mnistmp.errors import InputError


def bounded(examples):
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    return tmp_path / "results"


# ---- nothing floods or stops us ----


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs the files of POSIX")
def test_what_is_read_is_bounded(tmp_path):
    whole = tmp_path / "whole"
    whole.write_bytes(b"x" * 10)
    assert files.read_bounded(whole, 10) == b"x" * 10 and len(files.read_bounded(whole, 4)) == 5
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="not a file"):
            files.read_bounded(tmp_path / name, 10)
    with pytest.raises(IsADirectoryError):
        files.read_bounded(tmp_path, 10)


# ---- whatever the bytes are ----


@bounded(150)
@given(data=st.data())
def test_damaged_evidence_is_refused_or_is_some(results, data):
    path = results / "digits" / "evidence" / "standard" / "look-seed-0.npz"
    if not path.exists():
        evidence.write(path, {"xy": np.arange(80.0).reshape(40, 2)}, {"key": "k"})
    whole, damaged = path.read_bytes(), path.with_name("damaged.npz")
    at = data.draw(st.integers(0, len(whole)))
    damaged.write_bytes(whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + data.draw(st.integers(0, 8)) :])
    try:
        arrays, about = evidence.read(damaged)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(array, np.ndarray) and array.dtype != object for array in arrays.values())


# ---- no name leads astray ----

NAMES = st.text(max_size=30) | st.sampled_from(
    ["..", ".", "", "/", "a/../b", "../../etc", "/etc/passwd", "a\\..\\b", "C:\\x", "~", "~root", ".git", "a\0b", "a\n",
     "*", "-rf", "a" * 101, "seed-0.json/..", "\ud800", "x" * 100, "rcl-inf+weight=10", 3])  # fmt: skip


@bounded(200)
@given(NAMES, NAMES)
def test_no_name_leads_out_of_its_folder(results, name, other):
    for folder, place in (
        (results, lambda: paths.results(name)),
        (results.parent / "figures", lambda: paths.figures(name)),
        (results, lambda: records.record_path(name, other, 0)),
        (results, lambda: records.record_path("paper", name, 0)),
    ):
        try:
            path = place()
        except InputError as error:
            assert "\n" not in str(error)
            continue
        assert path != folder and path.is_relative_to(folder)
        assert not {"..", ".", "~"} & set(path.relative_to(folder).parts)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ""])
def test_no_figure_leaves_its_folder(results, name):
    with pytest.raises(InputError, match="the name of a figure is"):
        figures.save(None, name, PRESET)  # before anything is drawn
    assert not (results.parent / "figures").exists()


def test_a_record_is_never_written_through_a_link(results, tmp_path):
    run = record(*specs_of("standard"))
    path = records.record_path(PRESET, "standard", 0)
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "victim")
    with pytest.raises(records.RecordError, match="is a link to nothing; delete it"):
        records.save(run, PRESET)
    with pytest.raises(records.RecordError, match="is a link to nothing"):
        records.load(PRESET)
    path.unlink()
    assert not (tmp_path / "victim").exists() and records.save(run, PRESET) == path
