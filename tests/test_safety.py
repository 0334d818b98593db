"""What is read may be anybody's: nothing in it is executed, nothing floods the memory, no name leads astray, and
whatever the bytes are, the answer is one sentence.
"""

import ast
import json
import math
import os
import string
from pathlib import Path

import nbformat
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mnistmp import figures, files, latent, paths, records
from mnistmp.sweep import attempts, notebooks, plan, progress, unit
from mnistmp.latent import file as latent_file
from mnistmp.sweep.unit import Unit
from stub_runs import PRESET, record, specs_of
from test_latent import embedding

ROOT = Path(__file__).resolve().parent.parent


def bounded(examples):
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    return tmp_path / "results"


# ---- nothing that is read is executed ----

SOURCES = sorted(path for folder in ("mnistmp", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml", "jsonpickle"}
CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen", "torch.load", "torch.jit.load",
         "pandas.read_pickle", "pd.read_pickle", "np.fromregex"}  # fmt: skip


def executing(source):
    """What in a source could execute what it reads: line and name."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [(node.lineno, name) for name in names if name.partition(".")[0] in EXECUTING]
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
        closed = isinstance(keywords.get("allow_pickle"), ast.Constant) and keywords["allow_pickle"].value is False
        shell = "shell" in keywords and getattr(keywords["shell"], "value", True) is not False
        if name in CALLS or shell or (name in ("np.load", "numpy.load") and not closed):
            found.append((node.lineno, name))
    return found


def code_of(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    lines = [line for cell in cells for line in cell.splitlines()]
    return "\n".join("" if line.lstrip().startswith(("%", "!")) else line for line in lines)


@pytest.mark.parametrize("path", [*SOURCES, *NOTEBOOKS], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_loads_what_can_execute(path):
    assert executing(code_of(path)) == []


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from joblib import load", "np.load(path)", "np.load(path, allow_pickle=True)", "torch.load(p)",
     "eval(text)", "subprocess.run(text, shell=True)", "pd.read_pickle(path)", "import yaml"],
)  # fmt: skip
def test_the_search_finds_what_it_looks_for(source):
    assert len(executing(source)) == 1


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


def test_every_reader_of_results_is_bounded():
    # A new reader goes through files.read_bounded, or stands here with the reason.
    own = {
        "data.py": "compares the very bytes with published sums",
        "doctor": "reads the system's own files and the lock of the checkout",
        "environment.py": "reads its own source, and the processor's name from the system",
        "readme.py": "reads the README of the checkout",
        "interactive.py": "reads its own template",
        "site": "reads executed notebooks and figures of this machine",
        "unit.py": "reads the notebook that is to be executed, and what papermill made of it",
        "notebooks.py": "reads the notebook that is to be executed",
    }
    words = (".read_text(", ".read_bytes(", "json.load(", ".fromfile(")
    readers = {
        path.relative_to(ROOT / "mnistmp").parts[0]
        for path in (ROOT / "mnistmp").rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert readers <= set(own), f"{readers - set(own)}: use files.read_bounded, or say here why not"


def test_a_log_without_end_is_not_read_whole(results):
    folder = results / "log"
    folder.mkdir(parents=True)
    with open(folder / "log.txt", "wb") as log:
        log.truncate(10**10)
        log.seek(0, os.SEEK_END)
        log.write(b"\nTraceback ...\nmnistmp: In [3]: ValueError: no luck\n")
    assert attempts._reason(folder, 1) == "In [3]: ValueError: no luck"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"row": 1}]', b"[" * 100_000, b"\xff", b'{"a": NaN}'])
def test_a_list_of_runs_that_is_none_is_one_sentence(results, tmp_path, capsys, content):
    (tmp_path / "specs.json").write_bytes(content)
    assert unit.main(["--specs", str(tmp_path / "specs.json"), "--preset", PRESET]) == unit.FAILED
    out = capsys.readouterr().out
    assert out.startswith(f"mnistmp: {tmp_path}/specs.json is no list of runs (") and out.count("\n") == 1


# ---- whatever the bytes are ----


@bounded(150)
@given(data=st.data())
def test_a_damaged_embedding_is_refused_or_is_one(results, data):
    path = latent_file.path_of(PRESET, "standard", "val", 0)
    if not path.exists():
        latent_file.save(embedding(), PRESET)
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    damaged = whole[:at] + data.draw(st.binary(max_size=8)) + whole[at + data.draw(st.integers(0, 8)) :]
    try:
        found = latent_file._parse(damaged, "title")
    except latent.LatentError as error:
        assert "\n" not in str(error)
    else:
        assert np.isfinite(found.xy).all() and found.labels.max() <= 9


LINES = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([b"[" * 50_000, b'{"row": "standard"', b'{"row": [], "seed": 0}', b"1e999", b"null"])
    | st.fixed_dictionaries({
        "row": st.sampled_from(["standard"] * 5 + ["other", 1, None]),
        "seed": st.sampled_from([0] * 5 + ["0", [], 10**400]),
        "epoch": st.integers(-1, 99) | st.integers(1, 9) | st.just([]) | st.floats(),
        "seconds": st.sampled_from([math.nan, math.inf, -math.inf, -1.0, 1e308, 10**400, "1", "x", None]) | st.floats(),
    }).map(lambda entry: json.dumps(entry).encode()),
    max_size=6,
)  # fmt: skip


class Terminal:
    def __init__(self, broken=False):
        self.text, self.broken = "", broken

    def isatty(self):
        return True

    def write(self, text):
        if self.broken:
            raise OSError(28, "No space left on device")
        self.text += text

    def flush(self):
        pass


@bounded(100)
@given(LINES, st.lists(st.text(string.printable.replace("/", ""), max_size=10).filter(lambda name: name.strip("."))))
def test_no_progress_file_stops_a_batch(tmp_path_factory, lines, names):
    folder = tmp_path_factory.mktemp("progress")
    (unit_,) = plan.plan_units(specs_of("standard"), PRESET)
    shown = progress.Progress([unit_], 1, folder, stream=Terminal())
    Path(shown.file(unit_)).write_bytes(b"\n".join(lines))
    for name in names:
        (folder / name).touch()
    shown.tick()
    shown.finished(attempts.Outcome(unit_, "lost", None, seconds=1.0))
    assert "FAILED after 1s: lost" in shown.stream.text
    assert not any(word in shown.stream.text for word in ("None", "nan", "inf", "-"))


def test_neither_a_lost_folder_nor_a_full_log_stops_a_batch(tmp_path):
    (unit_,) = plan.plan_units(specs_of("standard"), PRESET)
    for stream in (Terminal(), Terminal(broken=True)):
        shown = progress.Progress([unit_], 1, tmp_path / "cleared away", stream=stream)
        shown.tick()
        shown.finished(attempts.Outcome(unit_, seconds=1.0))
        shown.close()


@bounded(100)
@given(st.binary(max_size=50) | st.sampled_from([b"[" * 100_000, b'{"notebooks": {"a": 1}, "figures": []}',
       b'{"notebooks": [], "figures": []}', b'{"notebooks": {}, "figures": [[]]}', b" " * 20_000_000]))  # fmt: skip
def test_whatever_the_notebooks_were_made_from_they_are_made_again(results, content):
    (results / PRESET / "notebooks").mkdir(parents=True, exist_ok=True)
    (results / PRESET / "notebooks/made-from.json").write_bytes(content)
    source = results / "02_standard.ipynb"
    source.write_text("{}")
    asked = [Unit("show", "02_standard", PRESET, notebook=str(source), target=str(source))]
    assert notebooks.out_of_date(asked, PRESET) == asked


# ---- no name leads astray ----

NAMES = st.text(max_size=30) | st.sampled_from(
    ["..", ".", "", "/", "a/../b", "../../etc", "/etc/passwd", "a\\..\\b", "C:\\x", "~", "~root", ".git", "a\0b", "a\n",
     "*", "-rf", "a" * 101, "seed-0.json/..", "\ud800", "x" * 100, "rcl-inf+weight=10"])  # fmt: skip


@bounded(200)
@given(NAMES, NAMES)
def test_no_name_leads_out_of_its_folder(results, name, other):
    for folder, place in (
        (results, lambda: paths.results(name)),
        (results.parent / "figures", lambda: paths.figures(name)),
        (results, lambda: records.record_path(name, other, 0)),
        (results, lambda: records.record_path("paper", name, 0)),
        (results, lambda: latent_file.path_of("paper", name, other, 0)),
    ):
        try:
            path = place()
        except paths.PathError as error:
            assert "\n" not in str(error)
            continue
        assert path != folder and path.resolve().is_relative_to(folder.resolve())
        assert not {"..", ".", "~"} & set(path.relative_to(folder).parts)


@pytest.mark.parametrize("name", ["../x", "/x", "a/b", ""])
def test_no_figure_leaves_its_folder(results, name):
    with pytest.raises(paths.PathError, match="the name of a figure is"):
        figures.save(None, name, PRESET)  # before anything is drawn
    assert not (results.parent / "figures").exists()


@pytest.mark.parametrize("link", ["paper", "paper/runs", "paper/runs/rcl-inf"])
def test_no_link_leads_a_record_out_of_the_results(results, tmp_path, link):
    outside = tmp_path / "outside"
    outside.mkdir()
    (results / link).parent.mkdir(parents=True)
    (results / link).symlink_to(outside)
    run = record(*specs_of("rcl-inf"))
    for use in (lambda: records.save(run, "paper"), lambda: records.find(run.spec, "paper")):
        with pytest.raises(paths.PathError, match=f"{link} is a link that leads out of .*; put a folder there"):
            use()
    if link != "paper/runs/rcl-inf":
        with pytest.raises(paths.PathError):
            records.check_writable("paper")
    assert not any(outside.rglob("*"))
    (results / link).unlink()
    within = (results / link).parent / "elsewhere" if link == "paper" else results / "paper/elsewhere"
    within.mkdir()
    (results / link).symlink_to(within)  # a link within is a matter of taste
    assert records.read(records.save(run, "paper")) == run


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
