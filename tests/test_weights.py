"""Selecting a weight: the grid, the rule, and that test accuracy takes no part."""

from __future__ import annotations

import math

import pandas as pd
import pytest
from stub_runs import counted

from mnistmp import cli, lineage, paper, records
from mnistmp.errors import InputError
from mnistmp.results import weights
from mnistmp.results.weights import GRID
from mnistmp.sweep import run as sweep_run

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
    return records.frame(change(spec) for spec in sum(weights.specs(name, "paper", "0,1"), []))


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
    with pytest.raises(InputError, match="names the weight that is to be selected; leave it out"):
        weights.weighted_row("rcl-inf+weight=5")


def test_the_grid_is_the_papers_from_the_largest_down_and_its_own_weight_is_the_row_itself():
    first, *others = weights.specs("rcl", "paper", "0,3")
    assert [(spec.row, spec.seed) for spec in first] == [
        ("standard", 0), ("standard", 3), ("rcl-inf+weight=10", 0), ("rcl-inf+weight=10", 3),
    ]  # fmt: skip
    rows = ["rcl-inf+weight=5", "rcl-inf", "rcl-inf+weight=0.1", "rcl-inf+weight=0.01", "rcl-inf+weight=0.001"]
    assert [[spec.row for spec in some] for some in others] == [[row] * 2 for row in rows]
    assert [spec.options["weight"] for spec in (first[2], *(some[0] for some in others))] == list(reversed(GRID))
    assert others[1][0] == paper.spec_for("rcl-inf", 0)
    assert first[2].options["margin"] == math.inf and first[2].epochs == 10


@pytest.mark.parametrize("preset", paper.PRESETS)
def test_every_weight_of_a_preset_is_of_the_grid_and_of_a_method(preset):
    for method, weight in paper.preset(preset).weights.items():
        assert weight in GRID
        row = weights.weighted_row(method)
        assert paper.spec_for(row.id, 0, preset).options["weight"] == weight


def test_the_largest_weight_that_holds_is_picked():
    table = weights.table(grid())
    assert tuple(table.columns) == weights.COLUMNS and not any("test" in column for column in table)
    assert tuple(table["weight"]) == GRID and set(table["n"]) == {2} and set(table["row"]) == {"rcl-inf"}
    assert list(table["collapsed"]) == [False] * 4 + [True] * 2
    assert table["weight"][table["picked"]].tolist() == [1.0] == table["weight"][table["paper"]].tolist()
    assert weights.pick(table, "rcl-inf") == 1.0
    assert (table.attrs["reference"], table.attrs["threshold"]) == (99.8, 5.0)
    assert table["val_mean"][3] == 96.0 and table["val_std"][3] == 0  # the best epoch, the second


def test_the_threshold_decides_and_its_edge_holds():
    found = grid()
    for threshold, picked in {3.8: 1.0, 3.79: 0.1, 99: 10.0}.items():  # weight 1 is exactly 3.8 points below
        assert weights.pick(weights.table(found, threshold), "rcl-inf") == picked
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

    assert weights.pick(weights.table(grid(low)), "rcl-inf") == 0.1
    table = weights.table(grid(lost))
    assert weights.pick(table, "rcl-inf") == 0.1
    line = table[table["weight"] == 1.0].iloc[0]
    assert (line["n"], line["diverged"], line["val_mean"], line["collapsed"]) == (1, 1, 96.0, True)
    assert math.isnan(line["val_std"])
    assert "| diverged [2] × |" in weights.to_markdown(table, "paper")


def test_all_collapsed_and_none_collapsed():
    table = weights.table(grid(lambda spec: run(spec, None if spec.method == "standard" else 1000)))
    assert weights.pick(table, "rcl-inf") is None and "| none | 1 |" in weights.to_markdown(table, "paper")
    table = weights.table(grid(lambda spec: run(spec, 9990)))
    assert weights.pick(table, "rcl-inf") == 10.0 and "| 10 | 1 |" in weights.to_markdown(table, "paper")


def test_test_accuracy_takes_no_part():
    tables = [weights.table(grid(lambda spec, test=test: run(spec, test=test))) for test in (1, 9999)]
    assert weights.to_markdown(tables[0], "paper") == weights.to_markdown(tables[1], "paper")


def test_one_page_shows_every_row_in_table_2s_order_and_a_notebook_its_own(results):
    rows = ("rcl-m0.9+condition=batch", "jigsaw", "rcl")
    found = pd.concat([grid(name=name) for name in rows], ignore_index=True).drop_duplicates(["row", "seed"])
    table = weights.table(found)
    assert list(table["row"].unique()) == ["jigsaw", "rcl-m0.9+condition=batch", "rcl-inf"]
    markdown, csv = weights.write(table, "paper")
    assert (markdown, csv) == (results / "paper/weights.md", results / "paper/weights.csv")
    text, lines = markdown.read_text(encoding="utf-8"), csv.read_text().splitlines()
    assert text == weights.to_markdown(table, "paper")
    cells = "99.90 [2] | 99.80 [2] | 99.00 [2] | 96.00 [2] | 10.00 [2] × | 10.00 [2] × | 1 | 1"
    assert f"| RCL, m = ∞ | {cells} |" in text.splitlines()
    assert lines[0] == "row,weight,n,val_mean_percent,val_std_percent,val_min_percent,diverged,collapsed,picked,paper"
    assert lines[-3] == "rcl-inf,1,2,96,0,96,0,False,True,True" and len(lines) == 19
    shown = weights.to_markdown(table, "paper", "rcl", "rcl-m0.9+condition=batch").splitlines()
    assert [line.partition(" |")[0] for line in shown[-2:]] == ["| RCL, m = ∞", "| RCL, m = 0.9, condition=batch"]


def test_a_row_is_shown_once_its_largest_weight_is_trained_and_every_line_says_its_number_of_seeds():
    seeds = {"rcl-inf+weight=10": (2, 4), "rcl-inf": range(6), "rcl-inf+weight=5": (0, 4), "standard": (0, 1)}
    found = records.frame(run(paper.spec_for(row, seed)) for row in seeds for seed in seeds[row])
    table = weights.table(found)  # Table 2 has ten seeds of its own rows
    assert dict(zip(table["weight"], table["n"], strict=True)) == {1.0: 6, 5.0: 2, 10.0: 2}
    assert weights.pick(table, "rcl-inf") == 1.0
    open_ = weights.table(found[found["row"] != "rcl-inf+weight=5"])
    assert weights.pick(open_, "rcl-inf") is None and "| open | 1 |" in weights.to_markdown(open_, "paper")
    without = weights.table(found[found["row"] != "rcl-inf+weight=10"])
    assert without.empty and weights.pick(without, "rcl-inf") is None
    missing = "No selection is recorded for preset paper; train it with `mnistmp select-weights jigsaw "
    assert weights.to_markdown(table, "paper", "rcl", "jigsaw").startswith(missing)


@pytest.mark.parametrize(
    "holds, trained", [(10.0, {10.0}), (1.0, {10.0, 5.0, 1.0}), (0.001, set(GRID)), (None, set(GRID))]
)
def test_the_command_stops_at_the_first_weight_that_holds_for_all_seeds(monkeypatch, capsys, results, holds, trained):
    def train(units, *_, **__):
        for spec in (spec for unit in units for spec in unit.specs):
            low = spec.method != "standard" and spec.seed == 1 and spec.options["weight"] != holds
            records.save(run(spec, 1000 if low else 9990), "paper")
        return []

    monkeypatch.setattr(sweep_run, "run_units", train)
    monkeypatch.setattr(sweep_run.data, "load", lambda *_: None)
    monkeypatch.setattr(lineage, "write", lambda *_: None)
    for seed in (0, 1):  # Table 2's own runs say nothing of larger weights
        records.save(run(paper.spec_for("rcl-inf", seed), 1000 if holds != 1.0 and seed else 9990), "paper")
    command = ["select-weights", "rcl", "--preset", "paper", "--seeds", "0,1"]
    assert cli.main(command) == 0
    assert set(weights.table(records.load("paper"))["weight"]) == trained | {1.0}
    picked = f"| {holds:g} | 1 |" if holds else "| none | 1 |"
    assert picked in (results / "paper/weights.md").read_text() and "RCL, m = ∞" in capsys.readouterr().out
    assert cli.main(command) == 0 and "nothing to train" in capsys.readouterr().out
