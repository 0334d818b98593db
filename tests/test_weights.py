"""Selecting a weight: the grid, the rule, and that test accuracy takes no part."""

from __future__ import annotations

import math

import pytest
from stub_runs import counted

from mnistmp import figures, paper, records
from mnistmp.errors import InputError
from mnistmp.results import weights
from mnistmp.results.weights import GRID

VAL = {0.001: 9990, 0.01: 9980, 0.1: 9900, 1.0: 9600, 5.0: 1000, 10.0: 1000}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def run(spec, val=None, **changes):
    if val is None:
        val = 9980 if spec.method == "standard" else VAL[spec.options["weight"]]
    return counted(spec, [val - 1, val], **changes)


def grid(change=run, name="rcl"):
    return records.frame(change(spec) for spec in weights.specs(name, "paper", "0,1"))


@pytest.mark.parametrize(
    "name, row",
    [("rcl", "rcl-inf"), *((name, name) for name in ("rcl-inf", "rcl-m0.2", "jigsaw", "dropout-covariance"))],
)
def test_a_method_has_one_row_to_select_its_weight_with(name, row):
    assert weights.weighted_row(name).id == row


@pytest.mark.parametrize("name", ["standard", "dropout", "rsc", "nothing", ""])
def test_what_has_no_weight_is_refused_with_what_has(name):
    with pytest.raises(InputError, match="choose one of dropout-orthogonality, dropout-covariance, jigsaw, .*, rcl"):
        weights.weighted_row(name)


def test_the_grid_is_the_papers_and_its_own_weight_is_the_row_itself():
    specs = weights.specs("rcl", "paper", "0,3")
    assert [spec.row for spec in specs[::2]] == [
        "standard", "rcl-inf+weight=0.001", "rcl-inf+weight=0.01", "rcl-inf+weight=0.1", "rcl-inf",
        "rcl-inf+weight=5", "rcl-inf+weight=10",
    ]  # fmt: skip
    assert [spec.seed for spec in specs] == [0, 3] * 7
    assert tuple(spec.options["weight"] for spec in specs[2::2]) == GRID
    assert specs[8] == paper.spec_for("rcl-inf", 0)
    assert specs[2].options["margin"] == math.inf and specs[2].epochs == 10


@pytest.mark.parametrize("preset", paper.PRESETS)
def test_every_weight_of_a_preset_is_of_the_grid_and_of_a_method(preset):
    for method, weight in paper.preset(preset).weights.items():
        assert weight in GRID
        row = weights.weighted_row(method)
        assert paper.spec_for(row.id, 0, preset).options["weight"] == weight


def test_the_largest_weight_that_holds_is_picked():
    table = weights.table(grid())
    assert tuple(table.columns) == weights.COLUMNS and not any("test" in column for column in table)
    assert tuple(table["weight"]) == GRID and set(table["n"]) == {2}
    assert list(table["collapsed"]) == [False] * 4 + [True] * 2
    assert table["weight"][table["picked"]].tolist() == [1.0] == table["weight"][table["paper"]].tolist()
    assert weights.pick(table) == 1.0
    assert (table.attrs["reference"], table.attrs["threshold"], table.attrs["seeds"]) == (99.8, 5.0, [0, 1])
    assert table["val_mean"][3] == 96.0 and table["val_std"][3] == 0  # the best epoch, the second


def test_the_threshold_decides_and_its_edge_holds():
    found = grid()
    assert weights.pick(weights.table(found, 3.8)) == 1.0  # exactly 3.8 points below
    assert weights.pick(weights.table(found, 3.79)) == 0.1
    assert weights.pick(weights.table(found, 99)) == 10.0
    for wrong in (-1, 100, math.nan, math.inf):
        with pytest.raises(InputError, match="threshold"):
            weights.table(found, wrong)


def test_the_default_threshold_accepts_what_the_paper_accepts():
    standard, rcl = paper.row("standard").paper, paper.row("rcl-inf").paper
    assert standard[0] - (rcl[0] - 3 * rcl[1]) < weights.THRESHOLD


def test_one_seed_that_collapses_or_diverges_is_a_collapse():
    def low(spec):
        return run(spec, 1000) if spec.options.get("weight") == 1.0 and spec.seed == 1 else run(spec)

    def lost(spec):
        return run(spec, diverged=spec.options.get("weight") == 1.0 and spec.seed == 1)

    assert weights.pick(weights.table(grid(low))) == 0.1
    table = weights.table(grid(lost))
    assert weights.pick(table) == 0.1
    line = table[table["weight"] == 1.0].iloc[0]
    assert (line["n"], line["diverged"], line["val_mean"], line["collapsed"]) == (1, 1, 96.0, True)
    assert math.isnan(line["val_std"])


def test_the_rule_is_taken_literally_and_says_so():
    table = weights.table(grid(lambda spec: run(spec, 1000 if spec.options.get("weight") == 0.01 else None)))
    assert weights.pick(table) == 1.0
    assert "smaller ones collapse all the same: 0.01" in weights.to_markdown(table)
    assert "and so do all smaller ones" in weights.to_markdown(weights.table(grid()))


def test_all_collapsed_and_none_collapsed():
    table = weights.table(grid(lambda spec: run(spec, None if spec.method == "standard" else 1000)))
    assert weights.pick(table) is None and "none is picked" in weights.to_markdown(table)
    table = weights.table(grid(lambda spec: run(spec, 9990)))
    assert weights.pick(table) == 10.0 and "no upper bound" in weights.to_markdown(table)


def test_without_standard_training_there_is_nothing_to_compare_with():
    found = grid()
    with pytest.raises(InputError, match="train the row standard"):
        weights.table(found[found["method"] != "standard"])


def test_test_accuracy_takes_no_part():
    tables = [weights.table(grid(lambda spec, test=test: run(spec, test=test))) for test in (1, 9999)]
    assert weights.to_markdown(tables[0]) == weights.to_markdown(tables[1])


@pytest.mark.parametrize("name, file", [("rcl", "rcl"), ("rcl-inf", "rcl"), ("rcl-m0.9", "rcl-m0.9")])
def test_a_row_of_a_method_has_a_file_of_its_own(results, name, file):
    table = weights.table(grid(name=name))
    markdown, csv = weights.write(table, "paper")
    assert (markdown, csv) == tuple(results / "paper" / "weights" / f"{file}.{kind}" for kind in ("md", "csv"))
    text, lines = markdown.read_text(encoding="utf-8"), csv.read_text().splitlines()
    assert text == weights.to_markdown(table)
    assert "Picked: 1, the largest weight that holds, and so do all smaller ones; the paper has 1." in text
    assert "| 1 | 2 | 96.00 ± 0.00 | 96.00 | 0 |  | yes | yes |" in text
    assert lines[0] == "weight,n,val_mean_percent,val_std_percent,val_min_percent,diverged,collapsed,picked,paper"
    assert lines[4] == "1,2,96,0,96,0,False,True,True" and len(lines) == 7


def test_seeds_with_part_of_a_grid_are_not_shown_with_whole_ones():
    for spec in weights.specs("rcl", "paper", "2"):
        records.save(run(spec), "paper")
    for row in ("standard", "rcl-inf"):  # Table 2 has ten seeds of its own rows
        records.save(run(paper.spec_for(row, 0)), "paper")
    found = weights.recorded("rcl", "paper")
    assert list(found["seed"]) == [2] * 7
    assert weights.summary("rcl", "paper") == weights.to_markdown(weights.table(found))
    assert "mnistmp select-weights jigsaw --preset paper" in weights.summary("jigsaw", "paper")


def test_the_figure_takes_the_runs():
    found = grid(lambda spec: run(spec, diverged=spec.options.get("weight") == 10.0))
    runs, table = weights.runs(found).dropna(subset="weight"), weights.table(found)
    assert len(runs) == 12 and runs["val_accuracy"].isna().sum() == 2
    below = table.attrs["reference"] - table.attrs["threshold"]
    figures.weight_grid(runs, weights.pick(table), paper=1.0, collapse_below=below)
