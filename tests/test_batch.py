"""The batch: what it plans, what it runs, and what is left after things went wrong.

The notebooks here are stubs that file prepared records instead of training, so that what is
tested is papermill, kernels and processes, in seconds.
"""

import io
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import torch

from mnistmp import engine, paper, paths, records
from mnistmp.sweep import attempts, batch, notebooks, plan, reproduce, unit
from mnistmp.sweep.attempts import Outcome
from mnistmp.sweep.progress import Progress, about, duration
from stub_runs import PRESET, record, specs_of
from stub_sweep import ROOT, place, run, units_of, write_notebook  # noqa: F401  (place is a fixture)


# ---- planning ----


@pytest.mark.parametrize("jobs, longest, number", [(1, 6, 8), (2, 6, 8), (4, 3, 12), (8, 1, 30), (100, 1, 30)])
def test_every_run_is_in_exactly_one_unit_and_units_are_even(place, jobs, longest, number):
    specs = specs_of("all", "0-1")
    units = plan.plan_units(specs, PRESET, jobs, place.notebooks)
    assert sorted(s.key() for unit in units for s in unit.specs) == sorted(s.key() for s in specs)
    assert max(len(unit.specs) for unit in units) == longest
    assert len({unit.name for unit in units}) == len(units) == number
    assert [unit.specs[0].seed for unit in units] == sorted(unit.specs[0].seed for unit in units)


@pytest.mark.parametrize("jobs", [1, 2, 8])
def test_what_the_notebook_will_plan_is_what_its_unit_promises(place, jobs):
    # Also when what is missing has holes: no run beside those asked for, none twice.
    specs = [spec for place, spec in enumerate(specs_of("all", "0-3")) if place % 7 not in (2, 3)]
    units = plan.plan_units(specs, PRESET, jobs, place.notebooks)
    for unit_ in units:
        again = paper.plan(PRESET, unit_.rows, unit_.seeds, "float32", Path(unit_.notebook).stem)
        assert sorted(s.key() for s in again) == sorted(s.key() for s in unit_.specs)
    assert sorted(s.key() for unit in units for s in unit.specs) == sorted(s.key() for s in specs)


def test_long_trainings_have_a_unit_each(place):
    specs = paper.plan("paper", rows="rcl-inf,rsc", seeds="0-9")
    units = plan.plan_units(specs, "paper", 1)
    assert [len(unit_.specs) for unit_ in units] == [1] * 20
    assert units[0].label == "rsc seed 0" and units[0].notebook == ""


def test_nothing_but_names_travels_to_a_unit(place):
    (unit_,) = units_of(place, "rcl-inf")
    assert (unit_.rows, unit_.seeds, unit_.preset) == ("rcl-inf", "0", PRESET)  # no infinity as a value


def test_only_missing_runs_are_planned(place):
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
    with pytest.raises(plan.BatchError, match="bfloat16 precision and float32 would be added"):
        plan.missing(specs_of("standard"), PRESET)


def test_shards_are_disjoint_and_together_the_whole(place):
    whole = plan.plan(PRESET, seeds="0-2", precision="float32")
    shards = [plan.plan(PRESET, seeds="0-2", precision="float32", shard=f"{i}/4") for i in range(4)]
    assert sorted(spec.key() for shard in shards for spec in shard) == sorted(spec.key() for spec in whole)
    assert {len(shard) for shard in shards} == {11, 12}
    for wrong in ("4/4", "1", "-1/2", "1/0", "a/b", "1/2/3"):
        with pytest.raises(plan.BatchError, match="shard"):
            plan.plan(PRESET, precision="float32", shard=wrong)


def test_a_missing_notebook_is_said_before_work(place):
    (place.notebooks / "07_rsc.ipynb").unlink()
    with pytest.raises(plan.BatchError, match=r"07_rsc\.ipynb is missing"):
        units_of(place, "rsc")


def test_estimates_use_records_of_this_machine_and_else_measure_once_per_method(place, monkeypatch):
    measured = []
    monkeypatch.setattr(engine, "estimate_seconds", lambda spec: measured.append(spec.method) or 100.0)
    cpu = torch.device("cpu")
    here = {"device": plan.device_name(cpu), "threads": 1, "path": engine.path_name(cpu)}
    monkeypatch.setattr(engine, "pick_device", lambda: cpu)
    specs = specs_of("standard,rsc,rcl-m0.2,rcl-inf", "0-1")
    records.save(record(specs[0], environment=here, seconds=30.0), PRESET)
    records.save(record(specs[1], seconds=7.0), PRESET)  # another machine
    seconds = plan.estimate(specs, records.load(PRESET))
    assert sorted(measured) == ["rcl", "rsc"]
    assert [seconds[spec.row] for spec in specs] == [30.0, 100.0, 100.0, 100.0] * 2
    reading = paper.spec_for("standard", 0, PRESET, "float32", row="standard+image_size=32", image_size=32)
    assert plan.estimate([reading], records.load(PRESET)) == {"standard+image_size=32": 30.0}  # as its row
    units = plan.plan_units(specs, PRESET, 10)
    assert len(units) == 8
    alone, two = (plan.makespan(units, seconds, jobs) for jobs in (1, 2))
    assert alone == 660 + 8 * plan.OVERHEAD
    assert alone / 2 <= two < alone


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
    outcomes, _ = run(units_of(place, "rsc"))
    assert (place.folder / "stub/tried").exists()
    assert outcomes["rsc"].problem is None
    assert not place.attempts.exists()


def test_a_unit_gives_up_after_three_starts(place, monkeypatch):
    codes = []
    monkeypatch.setattr(attempts, "_run", lambda *_: codes.append(0) or unit.NOT_STARTED)
    monkeypatch.setattr(attempts, "_reason", lambda *_: "no kernel")
    monkeypatch.setattr(attempts.time, "sleep", lambda seconds: None)
    outcome = attempts.attempt(units_of(place, "rsc")[0], "b", str(place.folder / "p"), {})
    assert len(codes) == 3 and outcome.problem == "no kernel"
    assert len(list(place.attempts.glob("*/*"))) == 1


def test_a_notebook_without_the_parameter_does_not_run_with_its_defaults(place):
    path = place.notebooks / "07_rsc.ipynb"
    path.write_text(path.read_text().replace("rows: str", "others: str"))
    outcomes, _ = run(units_of(place, "rsc"))
    assert outcomes["rsc"].problem == "07_rsc.ipynb has no parameter 'rows' in its parameters cell"


def test_a_unit_stops_after_the_training_cell(place):
    path = place.notebooks / "07_rsc.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][1]["metadata"]["tags"] = ["training"]
    notebook["cells"].append({**notebook["cells"][1], "id": "shows", "source": "1 / 0"})
    path.write_text(json.dumps(notebook))
    outcomes, shown = run(plan.plan_units(specs_of("rsc", "0-1"), PRESET, 1, place.notebooks))
    assert outcomes["rsc"].problem is None
    assert "[1/1] 07 rsc seeds 0,1  done in" in shown
    assert "\n      rsc seed 1  val 84.7 test 2" in shown


def test_a_record_that_does_not_match_is_no_success(place, monkeypatch):
    other = record(*specs_of("rsc", precision="bfloat16"))
    monkeypatch.setattr(attempts, "_run", lambda *_: records.save(other, PRESET) and unit.DONE)
    outcomes, _ = run(units_of(place, "rsc"))
    assert "precision is 'bfloat16' and 'float32' is asked" in outcomes["rsc"].problem


def test_any_executor_will_do_and_a_lost_worker_is_a_failed_unit(place):
    class Lossy(ThreadPoolExecutor):
        def submit(self, function, unit_, *rest):
            if unit_.rows == "rsc":
                return super().submit(lambda: 1 / 0)
            return super().submit(lambda: Outcome(unit_, results=("val 1.0 test 1.0",)))

    with Lossy(2) as pool:
        outcomes, shown = run(units_of(place, "standard,rsc"), executor=pool)
    assert outcomes["rsc"].problem == "ZeroDivisionError: division by zero"
    assert outcomes["standard"].problem is None
    assert "02 standard seed 0  done in 0s  val 1.0 test 1.0" in shown


def test_a_full_disk_is_a_failed_unit_not_a_crash(place, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "/somewhere")

    monkeypatch.setattr(attempts, "_run", full)
    outcome = attempts.attempt(units_of(place, "rsc")[0], "b", str(place.folder / "p"), {})
    assert outcome.problem == "No space left on device (/somewhere)"


def test_without_notebooks_one_failed_training_does_not_stop_the_next(place, monkeypatch, capsys):
    tried = []

    def train(specs, preset):
        tried.append(specs[0].row)
        if specs[0].row == "standard":
            raise RuntimeError("no luck")
        records.save(record(specs[0]), preset)

    monkeypatch.setattr("mnistmp.sweep.train.train_missing", train)
    specs = specs_of("standard,rsc")
    (place.folder / "specs.json").write_text(json.dumps([spec.to_json() for spec in specs]))
    expected = [str(records.record_path(PRESET, spec.row, 0)) for spec in specs]
    arguments = ["--specs", str(place.folder / "specs.json"), "--preset", PRESET]
    assert unit.main([*arguments, "--expect", *expected]) == unit.FAILED
    assert tried == ["standard", "rsc"] and records.find(*specs_of("rsc"), PRESET)
    assert capsys.readouterr().out == "mnistmp: standard seed 0: RuntimeError: no luck\n"


def test_a_unit_without_notebook_needs_no_jupyter(place):
    (spec,) = specs_of("rcl-inf")  # its margin travels through JSON
    records.save(record(spec), PRESET)  # nothing is left to train: only the way there is tested
    (place.folder / "specs.json").write_text(json.dumps([spec.to_json()], allow_nan=False))
    code = "import sys; from mnistmp.sweep.unit import main; print(main(sys.argv[1:]), {'nbformat'} & set(sys.modules))"
    command = [sys.executable, "-c", code, "--specs", str(place.folder / "specs.json"), "--preset", PRESET,
               "--expect", str(records.record_path(PRESET, spec.row, 0))]  # fmt: skip
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout == "0 set()\n"


# ---- what is shown ----


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def follow(tmp_path):
    runs = [(row, seed) for seed in (0, 1) for row in ("standard", "rsc")]
    specs = [paper.spec_for(*run, PRESET, "float32", epochs=16) for run in runs]
    units = plan.plan_units(specs, PRESET, 10)

    def make(stream):
        (tmp_path / "progress").mkdir()
        return Progress(units, 2, tmp_path / "progress", stream=stream)

    return units, make


def epochs(progress, unit_, number, seconds=3.0):
    with open(progress.file(unit_), "a") as file:
        for epoch in range(1, number + 1):
            line = {"row": unit_.specs[0].row, "seed": unit_.specs[0].seed, "epoch": epoch, "seconds": seconds}
            file.write(json.dumps(line) + "\n")
            file.write(json.dumps({**line, "row": "a-picture-of-the-notebook"}) + "\n")  # counts nowhere
        file.write('{"row": "torn')


def test_progress_on_a_terminal(follow):
    units, make = follow
    stream = Terminal()
    progress = make(stream)
    epochs(progress, units[0], 8)
    progress.tick()
    lines = stream.getvalue().replace("\r", "\n").splitlines()
    assert "[1/4] standard seed 0  started" in lines
    # 16 of 64 epochs would be 25 %; 56 of them are left at 3 s, two at a time.
    assert lines[-1] == " 12 %  0 of 4 trainings done, 1 running, about 2 min left"
    progress.finished(Outcome(units[0], results=("val 99.8 test 26.0",), seconds=250.0))
    assert "[1/4] standard seed 0  done in 4m10s  val 99.8 test 26.0\n" in stream.getvalue()
    progress.finished(Outcome(units[1], "In [3]: ValueError: no luck", Path("x/y.ipynb"), seconds=5))
    assert "[2/4] rsc seed 0  FAILED after 5s: In [3]: ValueError: no luck\n" in stream.getvalue()
    assert "      open x/y.ipynb\n" in stream.getvalue()
    progress.tick()
    assert " 50 %  1 of 4 trainings done, 0 running" in stream.getvalue()
    progress.close()
    assert stream.getvalue().endswith(" \r")


def test_progress_in_a_file_is_plain_lines_and_few(follow, monkeypatch):
    units, make = follow
    stream = io.StringIO()
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = make(stream)
    epochs(progress, units[0], 4)
    for _ in range(100):
        now[0] += 1
        progress.tick()
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().count(" %  0 of 4 trainings done, 1 running") == 3


@pytest.mark.parametrize(
    "seconds, exact, rough",
    [(3, "3s", "about 10 s"), (42, "42s", "about 40 s"), (250, "4m10s", "about 4 min"), (7500, "2h05m", "about 2.1 h")],
)
def test_durations_are_words(seconds, exact, rough):
    assert (duration(seconds), about(seconds)) == (exact, rough)


def test_ten_thousand_units_are_planned_and_scheduled_in_seconds(place, tmp_path):
    specs = paper.plan(PRESET, rows="standard,rsc,jigsaw,rcl-inf", seeds="0-2499", precision="float32")
    clock = time.monotonic()
    units = plan.plan_units(specs, PRESET, 4000, place.notebooks)
    assert len(units) == 10_000

    class Instantly(ThreadPoolExecutor):
        def submit(self, function, unit_, *rest):
            return super().submit(Outcome, unit_)

    with Instantly(4) as pool:
        outcomes, _ = run(units, executor=pool)
    assert len(outcomes) == 4
    assert time.monotonic() - clock < 20


# ---- from the records to the notebooks ----


def test_notebooks_are_shown_once_and_again_only_when_something_changed(place, monkeypatch, capsys):
    for path in place.notebooks.iterdir():
        if path.stem not in ("02_standard", "07_rsc"):
            path.unlink()
    figure = f"import pathlib; pathlib.Path('{place.folder}/figures/{PRESET}').mkdir(parents=True, exist_ok=True); " \
             f"pathlib.Path('{place.folder}/figures/{PRESET}/x.png').touch()"  # fmt: skip
    write_notebook(place.notebooks / "10_table2.ipynb", figure, "import sys; print('a warning', file=sys.stderr)")
    records.save(record(*specs_of("standard")), PRESET)

    outcomes = reproduce.show(PRESET, "standard", place.notebooks, 2)
    assert {outcome.unit.label: outcome.problem for outcome in outcomes} == {"02_standard": None, "10_table2": None}
    shown = paths.results(PRESET) / "notebooks"
    assert {path.name for path in shown.iterdir()} == {"02_standard.ipynb", "10_table2.ipynb", "made-from.json"}
    executed = json.loads((shown / "02_standard.ipynb").read_text(), parse_constant=pytest.fail)
    assert "shows digits recorded all" in "".join(executed["cells"][-1]["outputs"][0]["text"])
    assert executed["metadata"] == {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}

    def due():
        units = notebooks.recorded_units(place.notebooks, PRESET, "standard")
        return [unit_.label for unit_ in notebooks.out_of_date(units, PRESET)]

    assert due() == [] == reproduce.show(PRESET, "standard", place.notebooks, 2)
    records.save(record(*specs_of("rsc")), PRESET)
    assert due() == ["02_standard", "10_table2"]
    records.record_path(PRESET, "rsc", 0).unlink()
    assert due() == []
    (shown / "02_standard.ipynb").unlink()
    assert due() == ["02_standard"]
    (place.folder / f"figures/{PRESET}/x.png").unlink()
    assert due() == ["02_standard", "10_table2"]
    (place.folder / f"figures/{PRESET}/x.png").touch()
    (shown / "02_standard.ipynb").touch()
    assert due() == []
    path = place.notebooks / "10_table2.ipynb"
    path.write_text(path.read_text().replace("a warning", "another"))
    assert due() == ["10_table2"]
    monkeypatch.setattr(notebooks, "_library_hash", lambda: "changed")
    assert due() == ["02_standard", "10_table2"]


def test_committed_notebooks_are_executed_in_place_only_if_spotless(place):
    for path in place.notebooks.iterdir():
        path.unlink()
    good = write_notebook(place.notebooks / "01_dataset.ipynb", "print(preset, seeds)", "1 + 1")
    bad = write_notebook(place.notebooks / "02_standard.ipynb", "import sys; print('oh', file=sys.stderr)")
    before = bad.read_bytes()
    outcomes, _ = run(notebooks.own_units(place.notebooks))
    assert outcomes["01_dataset"].problem is None
    assert outcomes["02_standard"].problem == "02_standard.ipynb: cell cell-02 writes to stderr (oh); repair its cause."
    assert bad.read_bytes() == before
    made = nbformat.read(good, as_version=4)
    assert [cell.id for cell in made.cells] == ["cell-01", "cell-02", "cell-03"]  # no injected cell
    assert [cell.execution_count for cell in made.cells] == [1, 2, 3]
    assert made.cells[1].outputs[0].text == "paper recorded\n"
    first = good.read_bytes()
    run(notebooks.own_units(place.notebooks, ["01"]))
    assert good.read_bytes() == first  # no noise in git
    with pytest.raises(notebooks.NotebookError, match="no notebook '99'; choose from 01_dataset, 02_standard"):
        notebooks.find(place.notebooks, ["99"])


def test_cleaning_a_notebook():
    cells = [
        {"cell_type": "markdown", "id": "why", "metadata": {"editable": True}, "source": "# Why"},
        {"cell_type": "code", "id": "0a1b2c3d", "metadata": {"tags": ["parameters", "papermill-error-cell-tag"],
         "papermill": {"duration": 1}}, "source": "1", "execution_count": 7, "outputs": []},
        {"cell_type": "code", "id": "why", "metadata": {}, "source": "print(1)", "execution_count": 9, "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["a\n"]},
            {"output_type": "stream", "name": "stdout", "text": "b\n"},
            {"output_type": "execute_result", "metadata": {}, "execution_count": 9,
             "data": {"text/plain": "1", "application/vnd.jupyter.widget-view+json": {}}},
        ]},
        {"cell_type": "code", "id": "cell-04", "metadata": {}, "source": "", "execution_count": None, "outputs": []},
    ]  # fmt: skip
    noisy = {"nbformat": 4, "nbformat_minor": 4, "cells": cells, "metadata": {
        "kernelspec": {"name": "mine", "display_name": "Mine", "language": "python"}, "papermill": {}, "widgets": {},
        "language_info": {"name": "python", "version": "3.11.7"}}}  # fmt: skip
    clean = notebooks.clean_notebook(noisy)
    assert clean["metadata"] == {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
    assert [cell["id"] for cell in clean["cells"]] == ["why", "cell-02", "cell-03", "cell-04"]
    assert [cell["metadata"] for cell in clean["cells"]] == [{}, {"tags": ["parameters"]}, {}, {}]
    assert [cell.get("execution_count") for cell in clean["cells"]] == [None, 1, 2, None]
    text, result = clean["cells"][2]["outputs"]
    assert text["text"] == "a\nb\n"
    assert result["data"] == {"text/plain": "1"} and result["execution_count"] == 2
    assert notebooks.clean_notebook(clean) == clean
    assert noisy["metadata"]["papermill"] == {} and cells[1]["execution_count"] == 7  # the given one is as it was

    cells[2]["outputs"] = [{"output_type": "error", "ename": "ValueError", "evalue": "no", "traceback": []}]
    with pytest.raises(notebooks.NotebookError, match="cell cell-03 fails"):
        notebooks.clean_notebook(noisy)
    assert notebooks.clean_notebook(noisy, strict=False)
    cells[2]["metadata"] = {"tags": ["raises-exception"]}
    assert notebooks.clean_notebook(noisy)
