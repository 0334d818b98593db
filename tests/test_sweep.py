"""The sweep: what it plans, what it runs, and what is left after things went wrong.

The notebooks here are stubs that file prepared records instead of training, so that what is
tested is papermill, kernels and processes, in seconds.
"""

import io
import json
import math
import os
import pwd
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import torch
from stub_runs import PRESET, record, specs_of
from stub_sweep import ROOT, place, quick, units_of, write_notebook  # noqa: F401  (two are fixtures)
from stub_sweep import run as carry_out

from mnistmp import engine, evidence, paper, paths, records
from mnistmp.errors import InputError
from mnistmp.sweep import notebooks, plan, process, run, train, unit
from mnistmp.sweep.process import Outcome
from mnistmp.sweep.run import Sweep
from mnistmp.sweep.unit import Unit

# ---- planning ----


@pytest.mark.parametrize("jobs, longest, number", [(1, 6, 8), (2, 6, 8), (4, 3, 12), (8, 1, 30), (100, 1, 30)])
def test_every_run_is_in_exactly_one_unit_and_units_are_even(place, jobs, longest, number):
    specs = specs_of("all", "0-1")
    units = plan.train_units(specs, PRESET, jobs, place.notebooks)
    assert sorted(s.key() for unit in units for s in unit.specs) == sorted(s.key() for s in specs)
    assert max(len(unit.specs) for unit in units) == longest
    assert len({unit.name for unit in units}) == len(units) == number
    assert [unit.specs[0].seed for unit in units] == sorted(unit.specs[0].seed for unit in units)


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_what_the_notebook_will_plan_is_what_its_unit_promises(place, jobs):
    # Also when what is missing has holes: no run beside those asked for, none twice.
    specs = [spec for place, spec in enumerate(specs_of("all", "0-3")) if place % 7 not in (2, 3)]
    units = plan.train_units(specs, PRESET, jobs, place.notebooks)
    for one in units:
        rows, seeds = one.parameters["rows"], one.parameters["seeds"]
        again = paper.plan(PRESET, rows, seeds, "float32", Path(one.notebook).stem)
        assert sorted(s.key() for s in again) == sorted(s.key() for s in one.specs)
    assert sorted(s.key() for unit in units for s in unit.specs) == sorted(s.key() for s in specs)


def test_long_runs_have_a_unit_each_and_nothing_infinite_travels(place):
    specs = paper.plan("paper", rows="rcl-inf,rsc", seeds="0-9")
    units = plan.train_units(specs, "paper", 1)
    assert [len(one.specs) for one in units] == [1] * 20
    assert (units[0].label, units[0].name, units[0].notebook) == ("rsc seed 0", "rsc-seed-0", "")
    (one,) = units_of(place, "rcl-inf")
    assert one.parameters == {"preset": PRESET, "seeds": "0", "rows": "rcl-inf"}
    one.write(place.folder, paths.results())
    assert json.loads((place.folder / "unit.json").read_text(), parse_constant=pytest.fail)["specs"]


def test_only_what_is_missing_is_planned(place):
    specs = specs_of("standard,rsc,rcl-inf")
    records.save(record(specs[1]), PRESET)
    assert plan.missing(specs, PRESET) == [specs[0], specs[2]]


def test_a_record_of_another_run_or_a_broken_one_stops_everything(place):
    (spec,) = specs_of("rsc")
    path = records.save(record(spec), PRESET)
    path.write_text(record(paper.spec_for("rsc", 0, PRESET, "float32", epochs=3)).to_text())
    with pytest.raises(records.RecordError, match=r"seed-0\.json holds another run: epochs is 3 and \d+ is asked"):
        plan.missing([spec], PRESET)
    path.write_text(path.read_text()[:200])
    for specs in ([spec], specs_of("standard")):
        with pytest.raises(records.RecordError, match=r"rsc/seed-0\.json is no usable record"):
            plan.missing(specs, PRESET)


def test_precisions_do_not_mix(place):
    records.save(record(*specs_of("rsc", precision="bfloat16")), PRESET)
    with pytest.raises(InputError, match="bfloat16 precision and float32 would be added"):
        plan.missing(specs_of("standard"), PRESET)


def test_shards_are_disjoint_and_together_the_whole():
    whole = specs_of("all", "0-2")
    shards = [plan.shard(whole, f"{i}/4") for i in range(4)]
    assert sorted(spec.key() for shard in shards for spec in shard) == sorted(spec.key() for spec in whole)
    assert {len(shard) for shard in shards} == {11, 12}
    for wrong in ("4/4", "1", "-1/2", "1/0", "a/b", "1/2/3"):
        with pytest.raises(InputError, match="shard"):
            plan.shard(whole, wrong)


def test_estimates_use_records_of_this_machine_and_else_measure_once_per_method(place, monkeypatch):
    measured = []
    monkeypatch.setattr(engine, "estimate_seconds", lambda spec: measured.append(spec.method) or 100.0)
    cpu = torch.device("cpu")
    here = {"device": plan.device_name(cpu), "threads": 1, "path": engine.path_name(cpu)}
    monkeypatch.setattr(plan, "pick_device", lambda: cpu)
    specs = specs_of("standard,rsc,rcl-m0.2,rcl-inf", "0-1")
    records.save(record(specs[0], environment=here, seconds=30.0), PRESET)
    records.save(record(specs[1], seconds=7.0), PRESET)  # another machine
    seconds = plan.estimate(specs, records.load(PRESET))
    assert sorted(measured) == ["rcl", "rsc"]
    assert [seconds[spec.row] for spec in specs] == [30.0, 100.0, 100.0, 100.0] * 2
    variant = paper.spec_for("standard", 0, PRESET, "float32", row="standard+image_size=32", image_size=32)
    assert plan.estimate([variant], records.load(PRESET)) == {"standard+image_size=32": 30.0}  # as its row
    units = plan.train_units(specs, PRESET, 10)
    alone, two = (plan.forecast(units, seconds, jobs, "opening").splitlines() for jobs in (1, 2))
    assert alone[:-1] == two[:-1] and alone[0] == "standard seed 0  about 30 s" and alone[8:-1] == ["opening"]
    assert alone[-1] == f"{plan.about(660 + 8 * plan.OVERHEAD).capitalize()} in all, for the training."
    assert two[-1] == f"{plan.about(2 * 30 + 3 * 100 + 5 * plan.OVERHEAD).capitalize()} in all, for the training."


def test_estimates_are_words():
    words = [plan.about(seconds) for seconds in (3, 42, 250, 7500)]
    assert words == ["about 10 s", "about 40 s", "about 4 min", "about 2.1 h"]


# ---- running ----


def test_a_kernel_that_does_not_come_up_is_tried_again(place, monkeypatch):
    launcher = place.folder / "path/ipykernel_launcher.py"
    launcher.parent.mkdir()
    launcher.write_text(
        "import os, sys, pathlib\n"
        "if len(sys.argv) > 1:\n"
        '    tried = pathlib.Path(os.environ["STUB"]) / "tried"\n'
        "    if not tried.exists():\n"
        "        tried.touch()\n"
        "        sys.exit(1)\n"
        "from ipykernel import kernelapp\n"
        "kernelapp.launch_new_instance()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(launcher.parent))
    outcomes, _ = carry_out(units_of(place, "rsc"))
    assert (place.folder / "stub/tried").exists()
    assert outcomes["rsc"].problem is None
    assert not place.attempts.exists()


def test_a_unit_gives_up_after_three_starts(place, monkeypatch):
    codes = []
    monkeypatch.setattr(process, "_process", lambda *_: codes.append(0) or unit.NOT_STARTED)
    monkeypatch.setattr(process, "_reason", lambda *_: "no kernel")
    monkeypatch.setattr(process.time, "sleep", lambda seconds: None)
    outcome = process.attempt(*units_of(place, "rsc"), "sweep", process.environment())
    assert len(codes) == 3 and outcome.problem == "no kernel"
    assert len(list(place.attempts.glob("*/*"))) == 1


def test_a_notebook_without_the_parameter_does_not_run_with_its_defaults(place):
    path = place.notebooks / "07_rsc.ipynb"
    path.write_text(path.read_text().replace("rows: str", "others: str"))
    outcomes, _ = carry_out(units_of(place, "rsc"))
    assert outcomes["rsc"].problem == "07_rsc.ipynb has no parameter 'rows' in its parameters cell"


def test_a_unit_stops_after_the_training_cell(place):
    path = place.notebooks / "07_rsc.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["metadata"]["tags"] = ["training"]
    notebook["cells"].append({**notebook["cells"][1], "id": "shows", "source": "1 / 0"})
    path.write_text(json.dumps(notebook))
    units = [plan._unit("07_rsc", specs_of("rsc", "0-1"), PRESET, place.notebooks)]
    outcomes, shown = carry_out(units)
    assert outcomes["rsc"].problem is None
    assert "[1/1] 07 rsc seeds 0,1  done in " in shown and "\n      rsc seed 1  val 84.7 test 2" in shown


def test_a_record_that_does_not_match_is_no_success(place, monkeypatch):
    other = record(*specs_of("rsc", precision="bfloat16"))
    monkeypatch.setattr(process, "_process", lambda *_: records.save(other, PRESET) and unit.DONE)
    outcomes, _ = carry_out(units_of(place, "rsc"))
    assert "precision is 'bfloat16' and 'float32' is asked" in outcomes["rsc"].problem


def test_a_full_disk_is_a_failed_unit_not_a_crash(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(process, "_process", full)
    outcome = process.attempt(*units_of(place, "rsc"), "sweep", process.environment())
    assert outcome.problem == "No space left on device (/somewhere)"


def test_without_notebooks_one_failed_run_does_not_stop_the_next_and_jupyter_is_not_needed(place, monkeypatch, capsys):
    tried = []

    def train_missing(specs, preset):
        tried.append(specs[0].row)
        if specs[0].row == "standard":
            raise RuntimeError("no luck")
        records.save(record(specs[0]), preset)

    monkeypatch.setattr(train, "train_missing", train_missing)
    specs = specs_of("standard,rcl-inf")  # whose margin travels through JSON
    Unit("both", PRESET, specs=tuple(specs)).write(place.folder, paths.results())
    assert unit.main(str(place.folder)) == unit.FAILED
    assert tried == ["standard", "rcl-inf"] and records.find(specs[1], PRESET)
    assert capsys.readouterr().out == "mnistmp: standard seed 0: RuntimeError: no luck\n"

    # Nothing is left to train: only the way there is tested.
    Unit("done", PRESET, specs=(specs[1],)).write(place.folder, paths.results())
    code = "import sys; from mnistmp.sweep.unit import main; print(main(sys.argv[1]), {'nbformat'} & set(sys.modules))"
    command = [sys.executable, "-c", code, str(place.folder)]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.PIPE, capture_output=True, text=True)
    assert done.stdout == "0 set()\n"


def test_the_last_line_of_a_log_says_why(tmp_path):
    with open(tmp_path / "log.txt", "wb") as log:
        log.truncate(10**10)  # a log without end is not read whole
        log.seek(0, os.SEEK_END)
        log.write(b"\xff\nTraceback ...\nmnistmp: In [3]: ValueError: no luck\n\n")
    assert process._reason(tmp_path, 1) == "In [3]: ValueError: no luck"
    (tmp_path / "log.txt").write_bytes(b"")
    assert process._reason(tmp_path, 1) == "its process ended with code 1"
    assert process._reason(tmp_path, -9) == "its process was killed (SIGKILL)"


def test_a_sweep_over_the_digits_needs_no_folder_for_mnist(place, monkeypatch):
    monkeypatch.setenv("MNISTMP_DATA", "~a-user-nobody-knows/mnist")
    with pytest.raises(InputError, match="set MNISTMP_DATA"):
        process.environment()
    for name in ("MNISTMP_DATA", "HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", lambda _: {}[_])  # as for a user without an entry there
    assert "MNISTMP_DATA" not in process.environment()


def test_a_sweep_says_once_that_records_will_lack_their_commit(place, monkeypatch, capsys):
    monkeypatch.setattr(run.provenance, "unnamed_commit", lambda: "fatal: dubious")
    monkeypatch.setattr(run, "run_units", lambda *_, **__: [])
    Sweep(specs_of("rsc"), PRESET, folder=place.notebooks).train()
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "The records will not name the commit of this checkout: fatal: dubious; see mnistmp doctor."
    assert len(others) == 1


def test_a_cell_timeout_is_a_number(monkeypatch):
    monkeypatch.setenv("MNISTMP_CELL_TIMEOUT", "an hour")
    with pytest.raises(InputError, match="MNISTMP_CELL_TIMEOUT is 'an hour'; set it to a whole number of seconds"):
        process.environment()
    monkeypatch.setenv("MNISTMP_CELL_TIMEOUT", "3600")
    assert process.environment()["MNISTMP_CELL_TIMEOUT"] == "3600"


def test_default_jobs_follow_the_processors_this_process_may_use(monkeypatch):
    monkeypatch.setattr(run, "pick_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert run.default_jobs() == 1
    monkeypatch.setattr(run, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(run, "cpu_count", lambda: 64)
    assert run.default_jobs() == 1


# ---- what is shown ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Instantly(ThreadPoolExecutor):
    """Units are done, or lost, as soon as they begin."""

    def submit(self, function, one, *rest):
        if "rsc" in one.label:
            return super().submit(lambda: 1 / 0)
        for spec in one.specs:
            records.save(record(spec), one.preset)
        return super().submit(lambda: Outcome(one, seconds=250.0))


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_any_executor_will_do_and_progress_is_a_line_per_unit_and_a_bar_on_a_terminal(place, stream):
    with Instantly(1) as pool:
        outcomes = run.run_units(units_of(place, "standard,rsc"), executor=pool, stream=stream)
    assert [outcome.problem for outcome in outcomes] == [None, "ZeroDivisionError: division by zero"]
    lines = stream.getvalue().replace("\r", "\n").splitlines()
    assert "[1/2] 02 standard seed 0  done in 04:10  val 84.7 test 26.4" in lines
    assert "[2/2] 07 rsc seed 0  FAILED after 00:00: ZeroDivisionError: division by zero" in lines
    assert any("1/2 [" in line and "run/s]" in line for line in lines) == stream.isatty()


def test_a_full_log_stops_no_sweep_and_a_closed_one_does(place):
    class Broken(io.StringIO):
        error = OSError(28, "No space left on device")

        def write(self, text):
            raise self.error

    with Instantly(1) as pool:
        outcomes = run.run_units(units_of(place, "standard"), executor=pool, stream=Broken())
        assert outcomes[0].problem is None
        Broken.error = BrokenPipeError()
        with pytest.raises(BrokenPipeError):
            run.run_units(units_of(place, "jigsaw"), executor=pool, stream=Broken())


def test_ten_thousand_units_are_planned_and_scheduled_in_seconds(place, monkeypatch):
    specs = paper.plan(PRESET, rows="standard,rsc,jigsaw,rcl-inf", seeds="0-2499", precision="float32")
    clock = time.monotonic()
    units = plan.train_units(specs, PRESET, 4000, place.notebooks)
    assert len(units) == 10_000
    monkeypatch.setattr(run, "_recorded", lambda *_: ([], None))

    class Nothing(ThreadPoolExecutor):
        def submit(self, function, one, *rest):
            return super().submit(Outcome, one)

    with Nothing(4) as pool:
        assert len(run.run_units(units, executor=pool, stream=io.StringIO())) == 10_000
    assert time.monotonic() - clock < 20


# ---- runs beside Table 2's ----


def other(row="rcl-inf", seed=0, **options):
    name = "+".join([row, *(f"{key}={value}" for key, value in options.items())])
    return paper.spec_for(row, seed, "digits", "float32", row=name, options=options, epochs=1, batch_size=512)


@pytest.mark.slow
def test_what_is_missing_is_trained_in_processes_and_recorded(place, capsys):
    asked = [other("standard"), other(weight=0.01)]
    assert asked[1].options["margin"] == math.inf
    sweep = Sweep(asked, "mine", jobs=2)
    assert sweep.close(sweep.train()) == 0
    shown = capsys.readouterr().out
    assert "mine: 0 of 2 runs recorded, 2 to do in 2 units, 2 at a time, float32." in shown
    assert "rcl-inf+weight=0.01 seed 0  done" in shown and "2 of 2 runs are recorded" in shown
    assert " val " in shown and " test " not in shown  # such runs are there to choose between them
    assert [records.find(one, "mine").spec for one in asked] == asked
    again = Sweep(asked, "mine")
    assert again.train() == [] and "2 of 2 runs recorded, nothing to train." in capsys.readouterr().out
    assert not (paths.results("mine") / "attempts").exists()


def test_what_another_preset_has_recorded_is_taken_over_if_it_is_the_same_run(place, capsys):
    there, missing = record(other("standard")), other("standard", seed=1)
    records.save(there, "digits")
    sweep = Sweep([there.spec, missing], "mine", sources=["nowhere", "digits"])
    assert "standard seed 1  about" in sweep.forecast() and "1 of 2 runs recorded, 1 to do" in sweep.opening()
    assert not paths.results("mine").exists()
    sweep = Sweep([there.spec], "mine", sources=["digits"])
    assert sweep.train() == [] and records.find(there.spec, "mine") == there
    another = paper.spec_for("standard", 0, "digits", "float32", epochs=7)  # of the same row and seed
    assert Sweep([another], "elsewhere", sources=["digits"]).todo == [another]
    records.record_path("digits", "standard", 0).write_text("{")
    with pytest.raises(records.RecordError):
        Sweep([there.spec], "elsewhere", sources=["digits"])


def test_trained_once_and_read_afterwards(place, monkeypatch):
    fitted = []
    monkeypatch.setattr(evidence, "keeps_checkpoint", lambda *what: False)
    monkeypatch.setattr(engine, "fit_selected", lambda spec, **more: (fitted.append(spec.row) or record(spec), None))
    first = train.train_missing(specs_of("standard,rsc"), PRESET)
    assert train.train_missing(specs_of("standard,rsc"), PRESET) == first and fitted == ["standard", "rsc"]
    records.record_path(PRESET, "rsc", 0).write_text("{")
    with pytest.raises(records.RecordError):  # before anything is trained
        train.train_missing(specs_of("standard,rsc", "0-1"), PRESET)
    assert fitted == ["standard", "rsc"] and train.train_planned(PRESET, seeds="recorded") == []


# ---- from the records to the notebooks ----


def test_notebooks_are_shown_once_and_again_only_when_something_changed(place, monkeypatch, capsys):
    for path in place.notebooks.iterdir():
        if path.stem not in ("02_standard", "07_rsc"):
            path.unlink()
    figure = (
        f"import pathlib; pathlib.Path('{place.folder}/figures/{PRESET}').mkdir(parents=True, exist_ok=True); "
        f"pathlib.Path('{place.folder}/figures/{PRESET}/x.png').touch()"
    )
    write_notebook(place.notebooks / "10_table2.ipynb", figure, "import sys; print('a warning', file=sys.stderr)")
    records.save(record(*specs_of("standard")), PRESET)
    monkeypatch.setattr(paths, "notebooks", lambda: place.notebooks)

    outcomes = run.show(PRESET, "standard", 2)
    assert {outcome.unit.label: outcome.problem for outcome in outcomes} == {"02_standard": None, "10_table2": None}
    shown = paths.results(PRESET) / "notebooks"
    assert {path.name for path in shown.iterdir()} == {"02_standard.ipynb", "10_table2.ipynb", "made-from.json"}
    executed = json.loads((shown / "02_standard.ipynb").read_text(), parse_constant=pytest.fail)
    assert "shows digits recorded all" in "".join(executed["cells"][-1]["outputs"][0]["text"])
    assert executed["metadata"] == {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}

    def due():
        units = plan.show_units(place.notebooks, PRESET, "standard")
        return [one.label for one in notebooks.out_of_date(units, PRESET)]

    assert due() == [] == run.show(PRESET, "standard", 2)
    records.save(record(*specs_of("rsc")), PRESET)
    assert due() == ["10_table2", "02_standard"]
    records.record_path(PRESET, "rsc", 0).unlink()
    assert due() == []
    (shown / "02_standard.ipynb").unlink()
    assert due() == ["02_standard"]
    (place.folder / f"figures/{PRESET}/x.png").unlink()
    assert due() == ["10_table2", "02_standard"]
    (place.folder / f"figures/{PRESET}/x.png").touch()
    (shown / "02_standard.ipynb").touch()
    assert due() == []
    path = place.notebooks / "10_table2.ipynb"
    path.write_text(path.read_text().replace("a warning", "another"))
    assert due() == ["10_table2"]
    (shown / "made-from.json").write_text("{torn")
    assert due() == ["10_table2", "02_standard"]


def test_all_records_count_and_of_the_evidence_what_notebooks_did_not_see_themselves(quick, monkeypatch):
    monkeypatch.setattr(paths, "notebooks", lambda: quick.notebooks)
    results = quick.folder / "results"
    seen = results / PRESET / "evidence/standard"
    look = f"import pathlib; seen = pathlib.Path('{seen}'); seen.mkdir(parents=True, exist_ok=True)"
    other = write_notebook(quick.notebooks / "09_latent_space.ipynb", look, "(seen / 'a-seed-0.npz').touch()")

    def shown():
        return sorted(outcome.unit.label for outcome in run.show(PRESET, "standard", 2))

    assert shown() == ["02_standard", "09_latent_space"] and shown() == []
    other.write_text(other.read_text().replace("a-seed", "b-seed"))
    assert shown() == ["09_latent_space"] and (seen / "b-seed-0.npz").is_file() and shown() == []

    units = plan.show_units(quick.notebooks, PRESET, "standard")
    for path in ("search/runs/rcl-inf/seed-0.json", "calibration/runs/rcl-inf/seed-0.json",
                 "variants-digits/irm/erm/seed-0.json", f"{PRESET}/evidence/rsc/c-seed-0.npz"):  # fmt: skip
        (results / path).parent.mkdir(parents=True)
        (results / path).touch()
        assert notebooks.out_of_date(units, PRESET) == units, path
        (results / path).unlink()
        assert notebooks.out_of_date(units, PRESET) == []
    (seen / "a-seed-0.npz").unlink()
    notebooks.remember({"02_standard": notebooks.fingerprints(units, PRESET)["02_standard"]}, PRESET)
    assert [unit.label for unit in notebooks.out_of_date(units, PRESET)] == ["09_latent_space"]


@pytest.mark.parametrize("change", ["no kernelspec", "no metadata", "byte-order mark"])
def test_a_notebook_that_another_program_wrote_runs(quick, change):
    path = quick.notebooks / "02_standard.ipynb"
    notebook = json.loads(path.read_text())
    if change == "no kernelspec":
        del notebook["metadata"]["kernelspec"]
    elif change == "no metadata":
        notebook["metadata"] = {}
    path.write_text(json.dumps(notebook), encoding="utf-8-sig" if change == "byte-order mark" else "utf-8")
    outcomes, shown = carry_out(plan.show_units(quick.notebooks, PRESET))
    assert [outcome.problem for outcome in outcomes.values()] == [None], shown


PROFILE = """
c = get_config()
c.InteractiveShell.ast_node_interactivity = "all"
c.InteractiveShellApp.exec_lines = ["preset = seeds = rows = None", "import numpy", "numpy.set_printoptions(1)"]
"""


def test_the_users_profile_of_ipython_changes_no_output(quick, monkeypatch, tmp_path):
    profile = tmp_path / "ipython/profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_config.py").write_text(PROFILE)
    monkeypatch.setenv("IPYTHONDIR", str(profile.parent))
    cells = ["print('said')\n1.25\n2.5", "import numpy\nnumpy.array([0.123])"]
    write_notebook(quick.notebooks / "01_dataset.ipynb", *cells)
    units = [one for one in plan.show_units(quick.notebooks, PRESET) if one.label == "01_dataset"]
    carry_out(units)
    executed = nbformat.read(units[0].target, as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert [one.get("text") or one.data["text/plain"] for one in outputs] == ["said\n", "2.5", "array([0.123])"]


def test_committed_notebooks_are_executed_in_place_only_if_spotless(place):
    for path in place.notebooks.iterdir():
        path.unlink()
    good = write_notebook(place.notebooks / "01_dataset.ipynb", "print(preset, seeds)", "1 + 1")
    bad = write_notebook(place.notebooks / "02_standard.ipynb", "import sys; print('oh', file=sys.stderr)")
    before = bad.read_bytes()
    outcomes, _ = carry_out(plan.own_units(place.notebooks))
    assert outcomes["01_dataset"].problem is None
    assert outcomes["02_standard"].problem == "02_standard.ipynb: cell cell-02 writes to stderr (oh); repair its cause."
    assert bad.read_bytes() == before
    made = nbformat.read(good, as_version=4)
    assert [cell.id for cell in made.cells] == ["cell-01", "cell-02", "cell-03"]  # no injected cell
    assert [cell.execution_count for cell in made.cells] == [1, 2, 3]
    assert made.cells[1].outputs[0].text == "paper recorded\n"
    first = good.read_bytes()
    carry_out(plan.own_units(place.notebooks, ["01"]))
    assert good.read_bytes() == first  # no noise in git
    with pytest.raises(InputError, match="no notebook '99'; choose from 01_dataset, 02_standard"):
        notebooks.find(place.notebooks, ["99"])


def test_cleaning_a_notebook():
    cells = [
        {"cell_type": "markdown", "id": "why", "metadata": {"editable": True}, "source": "# Why"},
        {"cell_type": "code", "id": "0a1b2c3d", "metadata": {"tags": ["parameters"], "papermill": {"duration": 1}},
         "source": "1", "execution_count": 7, "outputs": []},
        {"cell_type": "code", "id": "prints", "metadata": {}, "source": "print(1)", "execution_count": 9, "outputs": [
            {"output_type": "stream", "name": "stdout", "text": "a\n"},
            {"output_type": "stream", "name": "stdout", "text": "b\n"},
            {"output_type": "execute_result", "metadata": {}, "execution_count": 9, "data": {"text/plain": "1"}},
        ]},
        {"cell_type": "code", "id": "cell-02", "metadata": {}, "source": "", "execution_count": None, "outputs": []},
    ]  # fmt: skip
    noisy = nbformat.from_dict({"nbformat": 4, "nbformat_minor": 4, "cells": cells, "metadata": {
        "kernelspec": {"name": "mine", "display_name": "Mine", "language": "python"}, "papermill": {},
        "language_info": {"name": "python", "version": "3.11.7"}}})  # fmt: skip
    clean = notebooks.clean(noisy)
    assert clean["metadata"] == {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
    assert [cell["id"] for cell in clean["cells"]] == ["why", "cell-03", "prints", "cell-02"]
    assert [cell["metadata"] for cell in clean["cells"]] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert [cell.get("execution_count") for cell in clean["cells"]] == [None, 1, 2, None]
    text, result = clean["cells"][2]["outputs"]
    assert text["text"] == "a\nb\n" and result["execution_count"] == 2
    assert notebooks.clean(clean) == clean
    assert noisy["metadata"]["papermill"] == {} and noisy.cells[1]["execution_count"] == 7  # the given one is as it was

    noisy.cells[2].outputs = [nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]
    with pytest.raises(InputError, match="cell prints fails"):
        notebooks.clean(noisy)
    assert notebooks.clean(noisy, strict=False)
    noisy.cells[2].metadata.tags = ["raises-exception"]
    assert notebooks.clean(noisy)
