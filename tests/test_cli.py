"""The command line: what it refuses, in one sentence and before any work, and what it shows.

No notebook is executed and nothing is trained here; see test_sweep.py.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from stub_runs import record, specs_of

from mnistmp import cli, data, engine, paper, paths, records
from mnistmp.errors import InputError
from mnistmp.sweep import notebooks, plan, run
from mnistmp.sweep.process import Outcome

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results and figures of its own, empty notebooks, and units that are done as soon as they are asked for."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    (tmp_path / "notebooks").mkdir()
    for name in ("01_dataset", *sorted({row.notebook for row in paper.TABLE2})):
        (tmp_path / f"notebooks/{name}.ipynb").write_text("{}")
    monkeypatch.setattr(paths, "notebooks", lambda: tmp_path / "notebooks")
    monkeypatch.setattr(engine, "estimate_seconds", lambda spec: 100.0)
    return tmp_path


@pytest.fixture
def started(monkeypatch):
    """The units that a command starts; each ends at once with its records there."""
    units = []

    def run_units(some, *_, **__):
        units.extend(some)
        for unit in some:
            for spec in unit.specs:
                records.save(record(spec), unit.preset)
            if unit.target:
                Path(unit.target).parent.mkdir(parents=True, exist_ok=True)
                Path(unit.target).write_text("{}")
        return [Outcome(unit, seconds=1.0) for unit in some]

    monkeypatch.setattr(run, "run_units", run_units)
    return units


def refused(capsys, started, *arguments):
    """The sentence on stderr of a command that must do nothing and end with 2."""
    try:
        code = cli.main(list(arguments))
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, started) == (2, "", [])
    assert err.startswith("mnistmp: ") and err.endswith(".\n") and err.count("\n") == 1
    return err


# ---- what is refused ----


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--rows", "standart"], "There is no row 'standart'; choose from standard, dropout"),
        (["--rows", ""], "There is no row ''"),
        (["--seeds", "3-1"], "seeds '3-1' run backwards; write 1-3"),
        (["--seeds", "-1"], "seeds '-1' cannot be read; write them like 0-9, 3 or 0,2,5"),
        (["--seeds", "one"], "seeds 'one' cannot be read"),
        (["--seeds", "99999999999"], "cannot be read"),
        (["--jobs", "0"], "'0' is no number of processes"),
        (["--jobs", "two"], "'two' is no number of processes"),
        (["--preset", "papper"], "There is no preset 'papper'; choose one of digits, quick, paper"),
        (["--preset", "../paper"], "There is no preset '../paper'"),
        (["--precision", "float16"], "precision is 'float16'; it should be 'float32' or 'bfloat16'"),
        (["--shard", "2/2"], "shard '2/2' cannot be; write I/N"),
        (["--seed", "0"], "unrecognized arguments: --seed 0"),
        (["--executor", "spark"], "invalid choice: 'spark'"),
    ],
)
def test_bad_arguments(place, started, capsys, arguments, words):
    assert words in refused(capsys, started, "reproduce", *arguments)


def test_no_or_unknown_verb(started, capsys):
    assert "required: VERB" in refused(capsys, started)
    assert "invalid choice: 'reprodcue'" in refused(capsys, started, "reprodcue")


def test_a_truncated_record(place, started, capsys):
    path = records.save(record(*specs_of("rsc")), "digits")
    path.write_text(path.read_text()[:300])
    sentence = refused(capsys, started, "reproduce", "--rows", "standard")
    assert str(path) in sentence and "torn" in sentence and "delete it and run again" in sentence
    other = records.save(record(*specs_of("standard")), "digits")
    other.write_text("")
    assert "(1 more like this: see mnistmp status)." in refused(capsys, started, "run")


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_results_folder_that_cannot_be_written(place, started, capsys):
    blocked = place / "blocked"
    blocked.write_text("a file, so that even root cannot make a folder of it")
    sentence = refused(capsys, started, "run", "--results", str(blocked))
    assert str(blocked) in sentence and "Not a directory" in sentence


def test_places_that_cannot_be(place, started, capsys, monkeypatch):
    monkeypatch.setenv("MNISTMP_METHODS", "")  # so that it is put back, whatever a command sets
    for verb, option, what, kind in (
        ("report", "--out", "--out", "folder"), ("export", "--to", "folder", "folder"),
        ("release", "--to", "folder", "folder"), ("status", "--methods", "MNISTMP_METHODS", "file"),
    ):  # fmt: skip
        sentence = refused(capsys, started, verb, "--preset", "digits", option, "~no-such-user/x")
        assert f"{what} is '~no-such-user/x', which cannot name a {kind}; give the path of another {kind}" in sentence
    for folder in ("~no-such-user/results", "results-\udcff"):
        sentence = refused(capsys, started, "run", "--results", folder)
        assert f"MNISTMP_RESULTS is {folder!r}, which cannot name a folder; give the path of another folder" in sentence


def test_missing_mnist_without_network(place, started, capsys, monkeypatch):
    monkeypatch.setenv("MNISTMP_DATA", str(place / "nothing"))

    def offline(folder, download):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    import torchvision

    monkeypatch.setattr(torchvision.datasets, "MNIST", offline)
    for verb in ("reproduce", "run"):
        sentence = refused(capsys, started, verb, "--preset", "paper", "--seeds", "0")
        assert "the download failed" in sentence and "--preset digits" in sentence
    assert "the download failed" in refused(capsys, started, "data")
    assert "is missing" in refused(capsys, started, "data", "--check")


def test_a_missing_notebook(place, started, capsys):
    (place / "notebooks/07_rsc.ipynb").unlink()
    assert "07_rsc.ipynb is missing; restore it" in refused(capsys, started, "reproduce", "--rows", "rsc")
    assert "There is no notebook '12'" in refused(capsys, started, "notebooks", "12")


def test_a_table_of_nothing(place, started, capsys):
    records.save(record(paper.spec_for("rsc", 0, "quick", "float32"), val_total=10_000, test_total=10_000), "quick")
    sentence = refused(capsys, started, "table")
    assert sentence == ("mnistmp: Preset paper has no records yet; run mnistmp reproduce --preset paper, "
                        "or choose --preset quick.\n")  # fmt: skip


def test_what_shows_takes_the_papers_records_and_what_trains_the_digits():
    default = {verb: getattr(cli._parser().parse_args([verb]), "preset", None) for verb in
               ("status", "table", "figures", "report", "reproduce", "run")}  # fmt: skip
    assert default == {"status": "paper", "table": "paper", "figures": "paper", "report": "paper",
                       "reproduce": "digits", "run": "digits"}  # fmt: skip


def test_a_mistake_of_ours_keeps_its_traceback(place, monkeypatch):
    monkeypatch.setattr(data, "load", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["data"])


# ---- what is done ----


def test_reproduce_trains_shows_and_tabulates_and_again_does_nothing(place, started, capsys):
    assert cli.main(["reproduce", "--rows", "standard,rcl-inf", "--precision", "float32"]) == 0
    out = capsys.readouterr().out
    trained = {(spec.row, spec.seed) for unit in started for spec in unit.specs}
    assert trained == {("standard", 0), ("standard", 1), ("rcl-inf", 0), ("rcl-inf", 1)}
    shown = [Path(unit.notebook).stem for unit in started if not unit.specs]
    assert sorted(shown) == ["01_dataset", "02_standard", "08_rcl_margin_sweep"]  # nothing that these rows do not need
    assert "0 of 4 runs recorded, 4 to do in" in out and "float32." in out
    assert "4 of 4 runs are recorded in" in out
    for word in ("Standard Training Procedure", "RCL, m = ∞", "Table:", "table2.md", "Figures:", "Notebooks:"):
        assert word in out
    assert (place / "results/digits/table2.csv").is_file()

    started.clear()
    assert cli.main(["reproduce", "--rows", "standard,rcl-inf"]) == 0  # at the precision of the records
    assert started == []
    assert "4 of 4 runs recorded, nothing to train." in capsys.readouterr().out


def test_run_trains_the_same_specs_without_notebooks(place, started, capsys):
    assert cli.main(["run", "--rows", "standard", "--seeds", "3", "--results", str(place / "elsewhere")]) == 0
    (unit,) = started
    assert (unit.notebook, [(s.row, s.seed) for s in unit.specs]) == ("", [("standard", 3)])
    assert (place / "elsewhere/digits/runs/standard/seed-3.json").is_file()


def test_a_shard_trains_its_part_and_leaves_the_rest_to_the_others(place, started, capsys):
    for part in ("0/2", "1/2"):
        assert cli.main(["reproduce", "--seeds", "0", "--shard", part]) == 0
        assert "This was a part" in capsys.readouterr().out
    assert all(unit.specs for unit in started)
    keys = [spec.key() for unit in started for spec in unit.specs]
    assert len(keys) == len(set(keys)) == 15
    assert not (place / "results/digits/table2.md").exists()


def test_a_failed_unit_is_exit_1_with_the_notebook_to_open(place, capsys, monkeypatch):
    def run_units(some, *_, **__):
        failed = ("In [3]: ValueError: no luck", place / "x.ipynb")
        return [Outcome(unit, *failed) if unit.specs else Outcome(unit) for unit in some]

    monkeypatch.setattr(run, "run_units", run_units)
    monkeypatch.setattr(notebooks, "remember", lambda *_: None)
    records.save(record(*specs_of("rsc")), "digits")
    assert cli.main(["reproduce", "--rows", "standard,rsc", "--seeds", "0"]) == 1
    out = capsys.readouterr().out
    assert "1 of 2 runs are recorded" in out and "1 of 4 units failed; the same command tries them again:" in out
    assert f"  02 standard seed 0: In [3]: ValueError: no luck, see {place / 'x.ipynb'}\n" in out
    assert "Table:" in out  # of what there is


def test_a_disk_that_is_full_after_the_training_is_exit_1(place, started, capsys, monkeypatch):
    from mnistmp.results import table2

    def full(*_):
        raise InputError("table2.md cannot be written (No space left on device).")

    monkeypatch.setattr(table2, "write", full)
    assert cli.main(["reproduce", "--rows", "rsc", "--seeds", "0"]) == 1
    assert "The table could not be written: table2.md" in capsys.readouterr().out


def test_dry_run_lists_units_and_time_and_does_nothing(place, started, capsys):
    arguments = ["--rows", "standard,rcl-m0.2,rcl-inf", "--seeds", "0", "--jobs", "2"]
    assert cli.main(["reproduce", "--dry-run", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"{label} seed 0  about 2 min" for label in ("02 standard", "08 rcl-m0.2", "08 rcl-inf")]
    assert "3 to do in 3 units, 2 at a time" in lines[3]
    assert lines[4] == "About 4 min in all, for the training."
    assert started == [] and not (place / "results").exists()


@pytest.mark.parametrize(
    "command, runs, label",
    [("ablate dropout --options mask,rescale --seeds 0,1", 6, "dropout+mask=batch seed 1"),
     ("calibrate --seeds 3", 32, "rcl-inf+size=32+range=0..1+scaling=batch seed 3"),
     ("calibrate --seeds 3 --recorded --readme", 32, "standard seed 3"),
     ("select-weights rcl --seeds 0", 7, "rcl-inf+weight=0.01 seed 0")],
)  # fmt: skip
def test_runs_beside_table_2_have_a_dry_run_too(place, started, capsys, command, runs, label):
    assert cli.main([*command.split(), "--dry-run", "--jobs", "2"]) == 0
    *each, opening, total = capsys.readouterr().out.removeprefix("At most:\n").splitlines()
    assert len(each) == runs and f"{label}  about 2 min" in each
    assert f": 0 of {runs} runs recorded, {runs} to do in {runs} units, 2 at a time" in opening
    assert total == f"{plan.about(-(-runs // 2) * (100 + plan.OVERHEAD)).capitalize()} in all, for the training."
    assert started == [] and not (place / "results").exists()


def test_status_counts_and_names_what_is_broken(place, capsys):
    for spec in specs_of("standard", "0-2"):
        records.save(record(spec), "digits")
    (spec,) = specs_of("rsc", "1")
    records.save(record(spec, status="diverged", history=record(spec).history[:2], diverged_epoch=3), "digits")
    assert cli.main(["status", "--preset", "digits", "--rows", "standard,rsc", "--seeds", "0-2"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == ["standard", "3", "3", "0", "0", "0"]
    assert lines[2] == ["rsc", "3", "0", "2", "1", "0"]
    assert lines[3] == "digits: 4 of 6 done, of which 1 diverged.".split()
    broken = records.record_path("digits", "standard", 1)
    broken.write_text("{")
    assert cli.main(["status", "--preset", "digits", "--rows", "standard", "--seeds", "0-2"]) == 1
    out, err = capsys.readouterr()
    assert "2 of 3 done" in out and str(broken) in err
    assert cli.main(["status", "--preset", "digits", "--seeds", "5"]) == 1  # also outside of what is asked for


# ---- the process ----


def test_help_is_quick_and_names_every_verb():
    code = (
        "import sys; from mnistmp import cli\n"
        "try: cli.main(['--help'])\n"
        "finally: print({'torch', 'pandas', 'papermill'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stdout
    assert shown.endswith("set()\n")
    for name in cli.VERBS:
        assert f"    {name}" in shown


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([verb, "--help"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith(f"usage: mnistmp {verb}")


def test_the_module_is_the_command():
    shown = subprocess.run([sys.executable, "-m", "mnistmp", "--version"], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.startswith("mnistmp 0.") and shown.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_signal_is_an_orderly_interruption(place, capsys, monkeypatch, number):
    usual = signal.default_int_handler if number == "SIGINT" else signal.SIG_DFL  # under nohup SIGHUP is ignored
    inherited = signal.signal(getattr(signal, number), usual)
    monkeypatch.setattr(data, "load", lambda *_, **__: os.kill(os.getpid(), getattr(signal, number)))
    assert cli.main(["data"]) == 130
    assert capsys.readouterr().err == "\nmnistmp: interrupted.\n"  # of verbs that train, see the kills
    assert signal.signal(getattr(signal, number), inherited) == usual


def test_the_table_is_aligned_for_a_terminal(place, capsys):
    for spec in specs_of("standard,rcl-inf", "0-1"):
        records.save(record(spec), "digits")
    assert cli.main(["table", "--preset", "digits"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(line for line in lines if " validation, ours " in line)
    row = next(line for line in lines if line.startswith("Standard Training Procedure  "))
    assert head.index("validation, ours") == row.index("84.72")
    assert "|" not in head and not any(line.startswith("---") for line in lines)


def test_made_from_is_strict_json(place, started):
    assert cli.main(["reproduce", "--rows", "rsc", "--seeds", "0"]) == 0
    made = json.loads((place / "results/digits/notebooks/made-from.json").read_text(), parse_constant=pytest.fail)
    assert sorted(made["notebooks"]) == ["01_dataset", "07_rsc"] and made["figures"] == []


def test_what_is_said_about_errors():
    assert cli._sentence(InputError("x.")) == "x."
    assert cli._sentence(FileNotFoundError(2, "No such file", "/a/b")) == "/a/b: No such file."
    assert cli._sentence(OSError(28, "No space left on device")) == "No space left on device."
    assert cli._sentence(KeyError("x")) is None


def test_jobs_auto_is_the_default_written_out():
    parse = cli._parser().parse_args
    assert parse(["reproduce", "--jobs", "auto"]).jobs is parse(["reproduce"]).jobs is None
    assert parse(["reproduce", "--jobs", "3"]).jobs == 3
