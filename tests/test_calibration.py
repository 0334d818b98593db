"""Stage A on synthetic records: which runs it asks for, and that only validation decides."""

from __future__ import annotations

import math

import pytest

from mnistmp import paper, records
from mnistmp.results import calibration, readings
from mnistmp.results.readings import DEFAULT, READINGS, Reading
from mnistmp.records import RunRecord

# What every target of the paper is, for a reading that fits perfectly; the early stop comes first.
PERFECT = {"standard-original": [9780], "standard": [9980], "rcl-m0.9": [9584, 9940], "rcl-inf": [9600]}


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def record(spec, val, test=5000, diverged=False):
    val = list(val) + [val[-1] - 1] * (spec.epochs - len(val))  # later epochs are worse
    history = [
        {"epoch": i, "val_correct": v, "test_correct": test, "train_loss": 0.1, "terms": {}, "seconds": 1.0}
        for i, v in enumerate(val, 1)
    ]
    return RunRecord(
        spec=spec, status="diverged" if diverged else "done", history=history[:3] if diverged else history,
        val_total=10_000, test_total=10_000, environment={"device": "synthetic"}, started="2026-01-02T03:04:05Z",
        seconds=1.0, diverged_epoch=4 if diverged else None,
    )  # fmt: skip


def study(perfect=DEFAULT, test=5000, seeds="0,1", change=lambda record: record):
    """Records of everything: `perfect` hits the paper, the others miss by half a point everywhere."""
    names = {reading.spec(row, seed).row: row for reading in READINGS for row in readings.ROWS for seed in (0,)}
    good = {perfect.spec(row, 0).row for row in readings.ROWS}
    made = []
    for spec in readings.specs(seeds):
        off = 0 if spec.row in good else 50
        made.append(change(record(spec, [v - off for v in PERFECT[names[spec.row]]], test)))
    return [one for one in made if one]


def test_the_study_is_the_grid_and_the_default_reading_is_table_2():
    specs = readings.specs("0,1")
    assert len(specs) == 2 * (2 * 12 + 2 * 4) == len({(spec.row, spec.seed) for spec in specs})
    assert len({spec.key() for spec in specs}) == len(specs)
    for row in readings.ROWS:
        assert DEFAULT.spec(row, 1) == paper.spec_for(row, 1) in specs
    odd = Reading(32, "[0,1]", "batch").spec("rcl-inf", 0)
    assert odd.row == "rcl-inf+size=32+range=0..1+scaling=batch"
    assert (odd.image_size, odd.resize, odd.input_range, odd.options["scaling"]) == (32, "bilinear", "[0,1]", "batch")
    assert odd.options["margin"] == math.inf and odd.options["weight"] == 1.0
    assert Reading(32, "[0,1]", "batch").spec("standard", 0) == Reading(32, "[0,1]", "channel").spec("standard", 0)


def test_deviations_are_in_units_of_the_tolerance():
    assert readings.tolerance(0.0, 2) == readings.RESOLUTION
    assert readings.tolerance(0.3, 2) == pytest.approx(math.sqrt(0.3**2 / 10 + 0.3**2 / 2 + 0.1**2))
    measured = readings.measure(study(), "0,1")
    assert len(measured) == 12 * 5
    line = measured[(measured["target"] == "rcl-inf") & (measured["size"] == 32)].iloc[0]
    assert line["n"] == 2 and line["val_mean"] == 95.5 and line["val_std"] == 0
    assert line["deviation"] == pytest.approx(-0.5 / readings.tolerance(0.3, 2))
    assert line["deviation_dropped"] == pytest.approx((95.5 * 0.9984 - 96.0) / readings.tolerance(0.3, 2))


def test_one_training_serves_both_rows_of_m_0_9():
    measured = readings.measure(study(), "0,1").query("size == 28 and range == '[-1,1]' and scaling == 'coordinate'")
    val = dict(zip(measured["target"], measured["val_mean"]))
    assert val == {
        "standard-original": 97.8, "standard": 99.8, "rcl-m0.9": 99.4, "rcl-m0.9-early-stop": 95.84, "rcl-inf": 96.0
    }  # fmt: skip
    assert measured["deviation"].abs().max() < 1e-9


@pytest.mark.parametrize("perfect", [DEFAULT, Reading(32, "[0,1]", "channel")])
def test_the_reading_that_fits_is_found(perfect):
    scored = readings.scores(readings.measure(study(perfect), "0,1"))
    assert Reading(*scored[readings.KEY].iloc[0]) == perfect
    assert scored["score"].iloc[0] == pytest.approx(0, abs=1e-9) == scored["best"].iloc[0]
    assert scored["best"].is_monotonic_increasing and len(scored) == 12
    better = readings.clearly_better(scored)
    assert better == ([] if perfect == DEFAULT else better) and (perfect == DEFAULT or better[0] == perfect)


def test_test_accuracy_takes_no_part():
    first, second = (readings.measure(study(test=test), "0,1") for test in (1000, 9999))
    assert readings.scores(first).equals(readings.scores(second))
    text = [calibration.to_markdown(measured).split("**Test accuracy") for measured in (first, second)]
    assert text[0][0] == text[1][0] and text[0][1] != text[1][1]


def test_what_diverged_or_is_missing_is_said_and_not_scored():
    def change(one):
        if one.spec.row == "rcl-inf+scaling=batch" and one.spec.seed == 1:
            return record(one.spec, [9000], diverged=True)
        return None if one.spec.row == "rcl-inf+scaling=channel" and one.spec.seed == 0 else one

    measured = readings.measure(study(change=change), "0,1")
    scored = readings.scores(measured).set_index(readings.KEY)
    assert scored.loc[(28, "[-1,1]", "batch"), "best"] == math.inf
    assert math.isnan(scored.loc[(28, "[-1,1]", "channel"), "best"])
    text = calibration.to_markdown(measured)
    assert "(1 diverged)" in text and "1 of 12 readings are incomplete; 1 of them cannot become clearly better" in text


def test_a_reading_is_ruled_out_as_soon_as_what_is_recorded_of_it_does():
    near, far = Reading(32, "[0,1]", "batch"), Reading(32, "[0,1]", "channel")

    def change(one):
        if not one.spec.row.startswith(("rcl-m0.9+size=32+range=0..1", "rcl-inf+size=32+range=0..1", "standard")):
            return one
        if "size=32+range=0..1" not in one.spec.row:
            return one
        if one.spec.row.startswith("rcl-inf"):
            return None  # missing of both
        good = PERFECT[one.spec.row.partition("+")[0]]
        return record(one.spec, [v - 1000 * ("scaling=channel" in one.spec.row) for v in good])

    made = study(perfect=Reading(32, "[-1,1]", "batch"), change=change)
    scored = readings.scores(readings.measure(made, "0,1"))
    by = scored.set_index(readings.KEY)
    for reading in (near, far):
        line = by.loc[(reading.size, reading.range, reading.scaling)]
        assert math.isnan(line["best"]) and math.isfinite(line["least"])
    assert by.loc[(32, "[0,1]", "batch"), "least"] == pytest.approx(0, abs=1e-9)
    complete = by[by["best"].notna()]
    assert (complete["least"] == complete["score"]).all()
    assert (complete["least_dropped"] == complete["score_dropped"]).all()
    assert readings.undecided(scored) == [Reading(32, "[0,1]", "coordinate"), near]
    said = ("1 of them cannot become clearly better any more, by what is recorded of them alone, "
            f"and 2 may: 32x32, [0,1], per coordinate; {near}.")  # fmt: skip
    assert said in calibration.to_markdown(readings.measure(made, "0,1"))
    # As long as the default itself is incomplete, nothing is ruled out and nothing concluded.
    measured = readings.measure([one for one in made if one.spec.row != "rcl-inf"], "0,1")
    assert "nothing is concluded yet" in calibration.to_markdown(measured)
    assert readings.clearly_better(readings.scores(measured)) == []


def test_runs_that_never_stop_count_with_their_best_epoch():
    def change(one):
        return record(one.spec, [9300, 9400]) if one.spec.row == "rcl-m0.9" else one

    measured = readings.measure(study(change=change), "0,1")
    line = measured[(measured["target"] == "rcl-m0.9-early-stop")].iloc[0]
    assert line["unreached"] == 2 and line["val_mean"] == 94.0
    assert "94.00 ± 0.00 (u: 2)" in calibration.to_markdown(measured)


def test_the_command_takes_over_trains_scores_and_writes(results, capsys):
    own = paper.spec_for("rcl-inf", 0)
    records.save(record(own, [9611]), "paper")
    asked = []

    def train(specs, preset, jobs):
        asked.append((len(specs), preset, jobs))
        assert records.find(own, preset).history[0]["val_correct"] == 9611  # before anything is trained
        for one in study():
            if records.find(one.spec, preset) is None:
                records.save(one, preset)
        return []

    assert calibration.calibrate(jobs=3, train=train) == 0
    assert asked == [(64, "calibration", 3)]
    text = (results / "calibration" / "table.md").read_text()
    csv = (results / "calibration" / "table.csv").read_text()
    assert text in capsys.readouterr().out
    assert "The default (28x28, [-1,1], per coordinate) fits best of 12" in text and "; none is clearly better" in text
    assert len(csv.splitlines()) == 61 and "val_mean_percent" in csv.splitlines()[0]
    assert calibration.calibrate(train=lambda *_: []) == 0
    assert (results / "calibration" / "table.md").read_text() == text


def test_what_is_recorded_is_scored_without_training(results, capsys):
    for one in study():
        if one.spec.row != "rcl-inf+scaling=batch":
            records.save(one, calibration.PRESET)
    assert calibration.calibrate(recorded=True, train=lambda *_: pytest.fail("trained")) == 0
    assert "1 of 12 readings are incomplete" in (results / "calibration" / "table.md").read_text()
    said = calibration.conclusion()
    assert "62 of its 64 trainings are recorded. The default (28x28, [-1,1], per coordinate) fits best of 11" in said
    only = [one for one in study() if one.spec.row in {DEFAULT.spec(row, 0).row for row in readings.ROWS}]
    text = calibration.to_markdown(readings.measure(only, "0,1"))
    assert "per coordinate) is the only reading that is complete; none is clearly better" in text
    assert "test" not in said.partition("The numbers, with the test")[0].replace("tests that", "")


def test_the_command_says_what_is_missing(capsys):
    assert calibration.calibrate(seeds="0", train=lambda *_: ["rcl-inf seed 0: its process was killed"]) == 1
    out = capsys.readouterr().out
    assert "32 of 32 trainings are missing" in out and "was killed" in out and "12 of 12 readings are incomplete" in out
