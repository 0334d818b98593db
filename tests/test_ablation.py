"""Other interpretations of a row: which there are, what they are called, and how they are told beside the default."""

import math
import re

import pandas as pd
import pytest
from stub_runs import record

from mnistmp import cli, interpretations, methods, paper, records
from mnistmp.results import ablation, calibration
from mnistmp.results.accuracy import SAME, UNCLEAR, Difference


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_every_named_value_but_the_rows_own_is_a_variant():
    assert [spec.row for spec in ablation.specs("dropout", "paper", "0")] == [
        "dropout", "dropout+layer=conv1", "dropout+layer=both", "dropout+layer=classifier", "dropout+rescale=false",
        "dropout+mask=batch", "dropout+rate=half",
    ]  # fmt: skip
    assert [spec.row for spec in ablation.specs("rcl-m0.9", "paper", "0", "scaling, input_range")] == [
        "rcl-m0.9", "rcl-m0.9+scaling=channel", "rcl-m0.9+scaling=batch", "rcl-m0.9+scaling=sample",
        "rcl-m0.9+range=0..1",
    ]  # fmt: skip


@pytest.mark.parametrize("row", [row.id for row in paper.trainings()])
def test_every_row_has_specs_that_differ_in_one_thing(row):
    planned = ablation.specs(row, "paper", "0,3", "image_size,input_range,initialization,last_batch")
    own = paper.spec_for(row, 0, "paper")
    assert planned[0] == own and [spec.seed for spec in planned] == [0, 3] * 6
    assert len({spec.key() for spec in planned}) == len(planned) == len({(spec.row, spec.seed) for spec in planned})
    for spec in planned[2::2]:
        assert sum(getattr(spec, name) != getattr(own, name) for name in vars(own) if name not in ("row", "seed")) == 1


def test_a_variant_of_a_method_changes_one_option():
    own, *others = ablation.specs("rsc", "paper", "0")
    assert [spec.row for spec in others][:3] == ["rsc+unit=element", "rsc+unit=position", "rsc+unit=mixed"]
    for spec in others:
        assert sum(spec.options[name] != own.options[name] for name in own.options) == 1


@pytest.mark.parametrize(
    "row, options, message",
    [("dropout", "colour", "'colour' is no open option of row dropout; choose from layer, rescale"),
     ("standard", None, "leaves nothing open"),
     ("rcl-m0.9-early-stop", "scaling", "ablate that one"),
     ("nothing", None, "nothing")],
)  # fmt: skip
def test_what_cannot_be_ablated_is_refused(row, options, message):
    with pytest.raises(ValueError, match=message):
        ablation.specs(row, "paper", "0", options)


def keep(specs, preset, change=lambda entry, spec: None):
    """Record runs of these specs, of which `change` changes every epoch."""
    for spec in specs:
        run = record(spec)
        for entry in run.history:
            change(entry, spec)
        records.save(run, preset)


def better(entry, spec):
    entry["test_correct"] += spec.seed + 40 * spec.row.startswith("dropout+rescale")


def test_the_default_stands_beside_its_variants(results):
    keep(ablation.specs("dropout", "digits", "0-2", "rescale,mask", "float32"), "digits", better)
    lines = ablation.table("digits")
    assert lines["interpretation"].tolist() == [ablation.DEFAULT, "rescale=false", "mask=batch"]
    assert lines["n"].tolist() == [3, 3, 3]
    assert lines["test_mean"][0] == pytest.approx(100 * (90 + 5 + 1) / 360)  # validation no longer rises after epoch 5
    assert lines["difference"][1] == pytest.approx(100 * 40 / 360) and lines["ci_low"][1] > 0
    assert lines["difference"][2] == 0 and math.isnan(lines["difference"][0])
    assert lines["paper_difference"].isna().all()  # not the paper's digits
    assert "| dropout | rescale=false | 3 |" in ablation.to_markdown(lines, "digits")


def test_the_papers_numbers_and_both_rows_of_a_run_are_shown():
    def rising(entry, spec):
        entry["val_correct"] = 360 * (90 + entry["epoch"]) // 100

    keep(ablation.specs("rcl-m0.9", "paper", "0,1", "scaling"), "paper", rising)
    lines = ablation.table("paper")
    assert lines["interpretation"].tolist() == 2 * [
        ablation.PAPER, ablation.DEFAULT, "scaling=channel", "scaling=batch", "scaling=sample",
    ]  # fmt: skip
    assert lines["row"].tolist() == 5 * ["rcl-m0.9"] + 5 * ["rcl-m0.9-early-stop"]
    published = lines[lines["interpretation"] == ablation.PAPER]
    assert published[["n", "val_mean", "test_mean", "test_std"]].to_numpy().tolist() == [
        [10, 99.4, 68.2, 4.0], [10, 95.84, 74.7, 8.5],
    ]  # fmt: skip
    assert lines["test_mean"][6] < lines["test_mean"][1]  # stopped earlier, on a curve that rises
    shown = ablation.to_markdown(lines, "paper", "rcl-m0.9")
    assert "| rcl-m0.9-early-stop | the paper's | 10 | 95.84 ± 0.60 | 74.7 ± 8.5 | – | – |" in shown


def test_variants_near_the_paper_are_named():
    def near(entry, spec):
        entry["test_correct"] = round(3.6 * (68.0 if spec.row.endswith("channel") else 40.0) + 3.6 * spec.seed)

    keep(ablation.specs("rcl-m0.9", "paper", "0-2", "scaling"), "paper", near)
    lines = ablation.table("paper")
    channel = lines[(lines["row"] == "rcl-m0.9") & (lines["interpretation"] == "scaling=channel")].iloc[0]
    assert channel["paper_difference"] == pytest.approx(69.0 - 68.2, abs=0.2)
    assert channel["paper_ci_low"] < 0 < channel["paper_ci_high"]
    assert channel["verdict"] == SAME
    shown = ablation.conclusions(lines)
    assert re.search(
        r"\| scaling=channel \| 3 \| \+0\.8 \[-\d\.\d, \+\d\.\d\] \| same \|\n\| \| 2 more \| \| \| differs \|", shown
    )


def test_the_nearest_variant_is_named_first_and_alone_where_all_differ():
    told = {
        ablation.DEFAULT: (-1.0, -30.0, 10.0),  # the verdict on all its seeds is in Table 2
        "scaling=channel": (9.0, 5.0, 13.0),
        "scaling=batch": (-12.0, -14.0, -10.0),
        "mining=raw": (-20.0, -30.0, -10.0),
    }
    lines = pd.DataFrame(
        [("rcl-m0.9", name, 3, *numbers, Difference(*numbers).verdict()) for name, numbers in told.items()],
        columns=["row", "interpretation", "n", "paper_difference", "paper_ci_low", "paper_ci_high", "verdict"],
    )
    opening = ["| RCL, m = 0.9 | default, same seeds | 3 | -1.0 [-30.0, +10.0] | close |"]
    none = ["| | scaling=channel | 3 | +9.0 [+5.0, +13.0] | differs |", "| | 2 more | | | differs |"]
    assert ablation.conclusions(lines).splitlines()[2:] == opening + none
    lines.loc[2:, "paper_ci_low"], lines.loc[2:, "paper_ci_high"], lines.loc[2:, "verdict"] = -40.0, 40.0, UNCLEAR
    numbers = {"scaling=batch": "-12.0 [-40.0, +40.0]", "mining=raw": "-20.0 [-40.0, +40.0]"}
    wide = [f"| | {name} | 3 | {number} | unclear |" for name, number in numbers.items()]
    assert ablation.conclusions(lines).splitlines()[2:] == [*opening, *wide, "| | 1 more | | | differs |"]


def test_the_calibrations_runs_have_the_same_names_and_specs():
    calibrated = {spec.row: spec.key() for spec in calibration.specs("0")}
    for row in calibration.ROWS:
        options = "image_size,input_range" + ",scaling" * row.startswith("rcl")
        for spec in ablation.specs(row, "paper", "0", options):
            if "sample" not in spec.options.values():  # the calibration is older
                assert calibrated[spec.row] == spec.key()


def test_only_shared_seeds_are_compared():
    keep(paper.plan("digits", "dropout", "0-4", "float32"), "digits", better)
    keep(ablation.specs("dropout", "digits", "1,2", "mask", "float32"), "digits", better)
    assert ablation.table("digits")["n"].tolist() == [2, 2]
    assert ablation.table("digits")["difference"][1] == 0
    keep(ablation.specs("dropout", "digits", "1", "rescale", "float32")[1:], "digits")
    keep(ablation.specs("dropout", "digits", "7", "mask", "float32")[1:], "digits", better)  # the default lacks seed 7
    lines = ablation.table("digits").set_index("interpretation")
    assert lines["n"].to_dict() == {ablation.DEFAULT: 2, "rescale=false": 1, "mask=batch": 2}
    assert lines["difference"]["rescale=false"] == pytest.approx(-100 / 360)  # to the default's seed 1 alone


@pytest.mark.parametrize("row", [row.id for row in paper.trainings()])
def test_what_is_not_recorded_says_how_to(row):
    said = ablation.to_markdown(ablation.table("digits"), "digits", row).split("`")[1]
    asked = cli._parser().parse_args(said.split()[1:])
    assert len(ablation.specs(asked.row, asked.preset, asked.seeds, asked.options, "float32")) >= 6


def test_named_values_are_what_the_methods_accept():
    for row in paper.trainings():
        for name, values in interpretations.choices(row.method).items():
            for value in values if name not in interpretations.RUN else ():
                assert methods.base.resolve_options(row.method, {name: value})[name] == value
