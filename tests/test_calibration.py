"""The calibration on invented records: which runs it asks for, and that only validation decides."""

from __future__ import annotations

import math

import pytest
from stub_runs import counted

from mnistmp import paper, records
from mnistmp.results import calibration
from mnistmp.results.calibration import DEFAULT, Interpretation

# What every target of the paper is, for a reading that fits perfectly; the early stop comes first.
PERFECT = {"standard-original": [9780], "standard": [9980], "rcl-m0.9": [9584, 9940], "rcl-inf": [9600]}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def measured(perfect=DEFAULT, test=5000, seeds="0,1", change=lambda record: record):
    """The table of everything: `perfect` hits the paper, the others miss by half a point everywhere."""
    good = {perfect.spec(row, 0).row for row in calibration.ROWS}
    made = []
    for spec in calibration.specs(seeds):
        off = 0 if spec.row in good else 50
        made.append(change(counted(spec, [v - off for v in PERFECT[spec.row.partition("+")[0]]], test)))
    return calibration.table(seeds, records.frame(run for run in made if run))


def test_the_study_is_the_grid_and_the_default_is_table_2():
    specs = calibration.specs("0,1")
    assert len(specs) == 2 * (2 * 12 + 2 * 4) == len({(spec.row, spec.seed) for spec in specs})
    assert len({spec.key() for spec in specs}) == len(specs)
    for row in calibration.ROWS:
        assert DEFAULT.spec(row, 1) == paper.spec_for(row, 1) in specs
    odd = Interpretation(32, "[0,1]", "batch").spec("rcl-inf", 0)
    assert odd.row == "rcl-inf+size=32+range=0..1+scaling=batch"
    assert (odd.image_size, odd.resize, odd.input_range, odd.options["scaling"]) == (32, "bilinear", "[0,1]", "batch")
    assert odd.options["margin"] == math.inf and odd.options["weight"] == 1.0
    assert len({Interpretation(32, "[0,1]", scaling).spec("standard", 0) for scaling in ("batch", "channel")}) == 1


def test_deviations_are_in_units_of_the_tolerance():
    assert calibration.tolerance(0.0, 2) == calibration.RESOLUTION
    assert calibration.tolerance(0.3, 2) == pytest.approx(math.sqrt(0.3**2 / 10 + 0.3**2 / 2 + 0.1**2))
    table = measured()
    assert len(table) == 12 * 5
    line = table[(table["target"] == "rcl-inf") & (table["size"] == 32)].iloc[0]
    assert line["n"] == 2 and line["val_mean"] == 95.5 and line["val_std"] == 0
    assert line["deviation"] == pytest.approx(-0.5 / calibration.tolerance(0.3, 2))
    assert line["deviation_dropped"] == pytest.approx((95.5 * 0.9984 - 96.0) / calibration.tolerance(0.3, 2))


def test_one_training_serves_both_rows_of_m_0_9():
    table = measured().query("size == 28 and range == '[-1,1]' and scaling == 'coordinate'")
    val = dict(zip(table["target"], table["val_mean"]))
    assert val == {
        "standard-original": 97.8, "standard": 99.8, "rcl-m0.9": 99.4, "rcl-m0.9-early-stop": 95.84, "rcl-inf": 96.0
    }  # fmt: skip
    assert table["deviation"].abs().max() < 1e-9


@pytest.mark.parametrize("perfect", [DEFAULT, Interpretation(32, "[0,1]", "channel")])
def test_the_interpretation_that_fits_is_found(perfect):
    scored = calibration.scores(measured(perfect))
    assert Interpretation(*scored[calibration.KEY].iloc[0]) == perfect
    assert scored["score"].iloc[0] == pytest.approx(0, abs=1e-9) == scored["best"].iloc[0]
    assert scored["best"].is_monotonic_increasing and len(scored) == 12


def test_test_accuracy_takes_no_part():
    first, second = (measured(test=test) for test in (1000, 9999))
    assert calibration.scores(first).equals(calibration.scores(second))
    text = [calibration.to_markdown(table).split("**Test accuracy") for table in (first, second)]
    assert text[0][0] == text[1][0] and text[0][1] != text[1][1]


def test_what_diverged_or_is_missing_is_said_and_not_scored():
    def change(one):
        if one.spec.row == "rcl-inf+scaling=batch" and one.spec.seed == 1:
            return counted(one.spec, [9000], diverged=True)
        return None if one.spec.row == "rcl-inf+scaling=channel" and one.spec.seed == 0 else one

    table = measured(change=change)
    scored = calibration.scores(table).set_index(calibration.KEY)
    assert scored.loc[(28, "[-1,1]", "batch"), "best"] == math.inf
    assert math.isnan(scored.loc[(28, "[-1,1]", "channel"), "best"])
    text = calibration.to_markdown(table)
    assert "(1 diverged)" in text and "1 of 12 are incomplete, and none can fit better." in text


def test_one_is_ruled_out_as_soon_as_what_is_recorded_of_it_does():
    near, far = Interpretation(32, "[0,1]", "batch"), Interpretation(32, "[0,1]", "channel")

    def change(one):
        if not one.spec.row.startswith(("rcl-m0.9+size=32+range=0..1", "rcl-inf+size=32+range=0..1", "standard")):
            return one
        if "size=32+range=0..1" not in one.spec.row:
            return one
        if one.spec.row.startswith("rcl-inf"):
            return None  # missing of both
        good = PERFECT[one.spec.row.partition("+")[0]]
        return counted(one.spec, [v - 1000 * ("scaling=channel" in one.spec.row) for v in good])

    best = Interpretation(32, "[-1,1]", "batch")
    table = measured(best, change=change)
    scored = calibration.scores(table)
    by = scored.set_index(calibration.KEY)
    for one in (near, far):
        line = by.loc[(one.size, one.range, one.scaling)]
        assert math.isnan(line["best"]) and math.isfinite(line["least"])
    assert by.loc[(32, "[0,1]", "batch"), "least"] == pytest.approx(0, abs=1e-9)
    complete = by[by["best"].notna()]
    assert (complete["least"] == complete["score"]).all()
    assert (complete["least_dropped"] == complete["score_dropped"]).all()
    assert calibration.in_order(scored[scored["open"]]) == [Interpretation(32, "[0,1]", "coordinate"), near]
    said = f"3 of 12 are incomplete, and 2 of these may still fit better: 32x32, [0,1], per coordinate; {near}."
    assert said in calibration.to_markdown(table)
    # As long as the default itself is incomplete, nothing is ruled out and nothing concluded.
    table = measured(best, change=lambda one: None if one.spec.row == "rcl-inf" else change(one))
    assert "nothing is concluded yet" in calibration.to_markdown(table)


def test_runs_that_never_stop_count_with_their_best_epoch():
    def change(one):
        return counted(one.spec, [9300, 9400]) if one.spec.row == "rcl-m0.9" else one

    table = measured(change=change)
    line = table[(table["target"] == "rcl-m0.9-early-stop")].iloc[0]
    assert line["unreached"] == 2 and line["val_mean"] == 94.0
    assert "94.00 ± 0.00 (u: 2)" in calibration.to_markdown(table)


def test_what_is_recorded_is_told_and_written(results):
    for spec in calibration.specs():
        if spec.row in PERFECT:
            records.save(counted(spec, PERFECT[spec.row]), calibration.PRESET)
    table = calibration.table()
    assert (table.attrs["recorded"], table.attrs["planned"]) == (8, 64)
    text = calibration.to_markdown(table)
    assert "per coordinate) is the only one that is complete." in text
    said = calibration.conclusion(table)
    assert "8 of its 64 trainings are recorded. The default (28x28, [-1,1], per coordinate) is the only" in said
    assert "test" not in said.partition("The numbers, with the test")[0].replace("tests that", "")
    files = calibration.write(table)
    assert [path.name for path in files] == ["table.md", "table.csv"] and files[0].read_text() == text
    csv = files[1].read_text().splitlines()
    assert len(csv) == 61 and "val_mean_percent" in csv[0] and "tolerance_percentage_points" in csv[0]
