"""Other readings of a row: which there are, what they are called, and how they are told beside the default."""

import math

import pandas as pd
import pytest
from stub_runs import record

from mnistmp import cli, methods, paper, records
from mnistmp.results import ablation, readings
from mnistmp.results.ablation import AblationError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_every_named_value_but_the_rows_own_is_a_reading():
    assert ablation.readings("dropout") == [
        ("layer", "conv1"), ("layer", "both"), ("layer", "classifier"),
        ("rescale", False), ("mask", "batch"), ("rate", "half"),
    ]  # fmt: skip
    assert ablation.readings("rcl-m0.9", "scaling, input_range") == [
        ("scaling", "channel"), ("scaling", "batch"), ("scaling", "sample"), ("input_range", "[0,1]"),
    ]  # fmt: skip


@pytest.mark.parametrize("row", [row.id for row in paper.trainings()])
def test_every_row_has_specs_that_differ_in_one_thing(row):
    planned = ablation.specs(row, "paper", "0,3", "image_size,input_range,initialization,last_batch")
    own = paper.spec_for(row, 0, "paper")
    assert planned[0] == own and [spec.seed for spec in planned] == [0, 3] * 6
    assert len({spec.key() for spec in planned}) == len(planned) == len({(spec.row, spec.seed) for spec in planned})
    for spec in planned[2::2]:
        assert sum(getattr(spec, name) != getattr(own, name) for name in vars(own) if name not in ("row", "seed")) == 1


def test_a_methods_readings_change_one_option():
    own, *others = ablation.specs("rsc", "paper", "0")
    assert [spec.row for spec in others][:3] == ["rsc+unit=element", "rsc+unit=position", "rsc+unit=mixed"]
    assert "rsc+rescale=true" in [spec.row for spec in others]
    for spec in others:
        assert sum(spec.options[name] != own.options[name] for name in own.options) == 1


@pytest.mark.parametrize(
    "row, options, message",
    [("dropout", "colour", "'colour' is no reading of row dropout; choose from layer, rescale"),
     ("standard", None, "no readings of its own"),
     ("rcl-m0.9-early-stop", "scaling", "ablate that one"),
     ("nothing", None, "nothing")],
)  # fmt: skip
def test_what_cannot_be_ablated_is_refused(row, options, message):
    with pytest.raises(ValueError, match=message) as error:
        ablation.specs(row, "paper", "0", options)
    assert error.type is AblationError or row == "nothing"


def train(specs, preset, jobs):
    for spec in specs:
        better = 40 if spec.row.startswith("dropout+rescale") else 0
        run = record(spec)
        for entry in run.history:
            entry["test_correct"] += better + spec.seed
        records.save(run, preset)
    return []


def test_the_default_stands_beside_its_readings(results, capsys):
    assert ablation.ablate("dropout", "digits", "0-2", "rescale,mask", precision="float32", train=train) == 0
    lines = ablation.table("digits")
    assert lines["reading"].tolist() == [ablation.DEFAULT, "rescale=false", "mask=batch"]
    assert lines["n"].tolist() == [3, 3, 3]
    best = paper.spec_for("dropout", 0, "digits", "float32").epochs and 5  # validation no longer rises after epoch 5
    assert lines["test_mean"][0] == pytest.approx(100 * (90 + best + 1) / 360)
    assert lines["difference"][1] == pytest.approx(100 * 40 / 360) and lines["ci_low"][1] > 0
    assert lines["difference"][2] == 0 and math.isnan(lines["difference"][0])
    printed = capsys.readouterr().out
    assert "| dropout | rescale=false | 3 |" in printed
    first = {path: path.read_bytes() for path in results.rglob("readings.*")}
    assert len(first) == 2
    ablation.ablate("dropout", "digits", "0-2", "rescale,mask", precision="float32", train=train)
    assert first == {path: path.read_bytes() for path in results.rglob("readings.*")}


def test_the_papers_numbers_and_both_rows_of_a_training_are_shown():
    def reaching(specs, preset, jobs):
        for spec in specs:
            run = record(spec)
            for entry in run.history:
                entry["val_correct"] = run.val_total * (90 + entry["epoch"]) // 100
            records.save(run, preset)
        return []

    ablation.ablate("rcl-m0.9", "paper", "0,1", "scaling", precision="bfloat16", train=reaching)
    lines = ablation.table("paper")
    readings = [ablation.PAPER, ablation.DEFAULT, "scaling=channel", "scaling=batch", "scaling=sample"]
    assert lines["reading"].tolist() == 2 * readings
    assert lines["row"].tolist() == 5 * ["rcl-m0.9"] + 5 * ["rcl-m0.9-early-stop"]
    papers = lines[lines["reading"] == ablation.PAPER]
    assert papers[["n", "val_mean", "test_mean", "test_std"]].to_numpy().tolist() == [
        [10, 99.4, 68.2, 4.0], [10, 95.84, 74.7, 8.5],
    ]  # fmt: skip
    assert lines["test_mean"][6] < lines["test_mean"][1]  # stopped earlier, on a curve that rises
    shown = ablation.to_markdown(lines, "paper", "rcl-m0.9")
    assert "| rcl-m0.9-early-stop | the paper's | 10 | 95.84 ± 8.50" not in shown
    assert "| rcl-m0.9-early-stop | the paper's | 10 | 95.84 ± 0.60 | 74.7 ± 8.5 | – | – |" in shown


def test_readings_that_agree_with_the_paper_are_named():
    def near(specs, preset, jobs):
        for spec in specs:
            run = record(spec)
            percent = 68.0 if spec.row.endswith("channel") else 40.0
            for entry in run.history:
                entry["test_correct"] = round(run.test_total * (percent + spec.seed) / 100)
            records.save(run, preset)
        return []

    ablation.ablate("rcl-m0.9", "paper", "0-2", "scaling", precision="bfloat16", train=near)
    lines = ablation.table("paper")
    channel = lines[(lines["row"] == "rcl-m0.9") & (lines["reading"] == "scaling=channel")].iloc[0]
    assert channel["paper_difference"] == pytest.approx(69.0 - 68.2, abs=0.2)
    assert channel["paper_ci_low"] < 0 < channel["paper_ci_high"]
    shown = ablation.to_markdown(lines, "paper")
    assert (
        "- RCL, m = 0.9: 1 of 3 other readings agrees with the paper's test accuracy: scaling=channel +0.8 [" in shown
    )
    digits = ablation.ablate("dropout", "digits", "0,1", "mask", precision="float32", train=train)
    assert digits == 0 and ablation.table("digits")["paper_difference"].isna().all()


def test_the_nearest_reading_is_named_first_and_alone_where_none_agrees():
    told = {
        ablation.DEFAULT: (-1.0, -30.0, 10.0),  # the verdict on all its seeds is in Table 2
        "scaling=channel": (9.0, 5.0, 13.0),
        "scaling=batch": (-12.0, -14.0, -10.0),
        "mining=raw": (-20.0, -30.0, -10.0),
    }
    lines = pd.DataFrame(
        [("rcl-m0.9", reading, *numbers) for reading, numbers in told.items()],
        columns=["row", "reading", "paper_difference", "paper_ci_low", "paper_ci_high"],
    )
    opening = "- RCL, m = 0.9: {} of 3 other readings agree with the paper's test accuracy"
    none = opening.format(0) + "; the nearest is scaling=channel +9.0 [+5.0, +13.0]."
    assert ablation.conclusions(lines) == none
    lines.loc[2:, "paper_ci_low"], lines.loc[2:, "paper_ci_high"] = -40.0, 40.0
    two = opening.format(2) + ": scaling=batch -12.0 [-40.0, +40.0], mining=raw -20.0 [-40.0, +40.0]."
    assert ablation.conclusions(lines) == two


def test_what_the_calibration_has_recorded_is_taken_over(results):
    planned = ablation.specs("rcl-m0.9", "paper", "0", "scaling", "bfloat16")
    train(planned[1:2], "calibration", 1)
    ablation.ablate("rcl-m0.9", "paper", "0", "scaling", precision="bfloat16", train=lambda *_: [])
    assert [record.name for record in (results / "paper" / "runs").iterdir()] == ["rcl-m0.9+scaling=channel"]


def test_the_calibrations_readings_have_the_same_names_and_specs():
    calibrated = {spec.row: spec.key() for spec in readings.specs("0")}
    for row in readings.ROWS:
        options = "image_size,input_range" + ",scaling" * row.startswith("rcl")
        for spec in ablation.specs(row, "paper", "0", options, "bfloat16"):
            if "sample" not in spec.options.values():  # the calibration is older
                assert calibrated[spec.row] == spec.key()


def test_only_shared_seeds_are_compared():
    train(paper.plan("digits", "dropout", "0-4", "float32"), "digits", 1)
    ablation.ablate("dropout", "digits", "1,2", "mask", precision="float32", train=train)
    assert ablation.table("digits")["n"].tolist() == [2, 2]
    assert ablation.table("digits")["difference"][1] == 0


def test_what_is_not_recorded_says_how_to():
    assert "mnistmp ablate rsc --preset digits" in ablation.to_markdown(ablation.table("digits"), "digits", "rsc")


@pytest.mark.parametrize("row", [row.id for row in paper.trainings()])
def test_the_command_that_it_says_is_accepted(row):
    said = ablation.to_markdown(ablation.table("digits"), "digits", row).split("`")[1]
    asked = cli._parser().parse_args(said.split()[1:])
    assert len(ablation.specs(asked.row, asked.preset, asked.seeds, asked.options, "float32")) >= 6


def test_a_run_that_failed_is_named(capsys):
    assert ablation.ablate("rsc", "digits", "0", "rescale", precision="float32", train=lambda *_: ["rsc: killed"]) == 1
    assert "rsc: killed" in capsys.readouterr().out


def test_literals_are_what_the_methods_accept():
    for row in paper.trainings():
        for name, values in ablation._choices(row).items():
            if name not in ablation.RUN:
                for value in values:
                    assert methods.base.resolve_options(row.method, {name: value})[name] == value
