"""The search for the authors' loss on synthetic runs: who stays in the race, and that only validation decides."""

import math

import pytest
from stub_runs import record

from mnistmp import figures, paper, records
from mnistmp.results import search
from mnistmp.results.search import AFTERWARDS, CANDIDATES, STAGES, entrants, label, measure, score

# What the paper prints, for a candidate that fits perfectly; at m = 0.9 the early stop comes first.
PERFECT = {0.2: [9980], 0.4: [9980], 0.6: [9980], 0.8: [9970], 0.9: [9584, 9940], math.inf: [9600]}
GOOD = {"positive": "random", "scaling": "channel"}


def run(spec, val, test=5000):
    val = [*val, *[val[-1] - 1] * spec.epochs][: spec.epochs]  # later epochs are worse
    history = [
        {"epoch": i, "val_correct": v, "test_correct": test, "train_loss": 0.1, "terms": {}, "seconds": 1.0}
        for i, v in enumerate(val, 1)
    ]
    return record(spec, history=history, val_total=10_000, test_total=10_000)


def runs_of(made):
    return {(line.row, line.seed): line for line in records.frame(made).itertuples(index=False)}


def race():
    """Every run that the stages ask for: one candidate hits the paper, the others miss by half a point."""
    made, runs = {}, {}
    for number in range(1, len(STAGES) + 1):
        for spec in search.specs(number, runs):
            good = all(spec.options[name] == value for name, value in GOOD.items())
            off = 0 if good and spec.input_range == "[-1,1]" else 50
            val = [count - off for count in PERFECT[spec.options["margin"]]]
            made[spec.row, spec.seed] = run(spec, val)
        runs = runs_of(made.values())
    return runs


@pytest.fixture(scope="module")
def raced():
    return race()


def test_stages_narrow_down_to_the_candidate_that_fits(raced):
    left = [entrants(number, raced) for number in range(1, len(STAGES) + 1)]
    assert [len(some) for some in left[4:]] == [3, 2, 4] and left[-1] == [GOOD, *AFTERWARDS]
    assert search.last_stage(raced)[label(GOOD)] == len(STAGES)


def test_test_accuracy_takes_no_part(raced):
    other = {key: line._replace(test_correct=[10 * key[1]] * len(line.test_correct)) for key, line in raced.items()}
    assert [entrants(n, other) for n in (3, 5, 7)] == [entrants(n, raced) for n in (3, 5, 7)]


def test_bounds_of_the_short_stages():
    every = {stage.rows[0]: 9900 for stage in STAGES[:1]}
    specs = search.specs(1, {})
    assert len(specs) == len(CANDIDATES) == len({spec.row for spec in specs}) and {s.epochs for s in specs} == {2}
    out = specs[5]
    runs = runs_of(run(spec, [9000, 9899 if spec == out else every["rcl-m0.6"]]) for spec in specs)
    gone = [options for options in CANDIDATES if options not in entrants(2, runs)]
    assert [options for options in gone if options["positive"] not in search.WAITING] == [CANDIDATES[5]]
    runs = runs_of(record(s, status="diverged", history=[], diverged_epoch=1) for s in specs)
    assert entrants(2, runs) == []


def test_later_runs_do_not_change_what_a_stage_decided(raced):
    before = entrants(5, raced)
    worse = search.spec(before[0], "rcl-m0.2", 0)
    assert entrants(5, {**raced, **runs_of([run(worse, [5000])])}) == before


def test_runs_are_named_after_their_options_and_shared_where_nothing_is_compared():
    assert search.spec(GOOD, "rcl-m0.9-early-stop", 3, 2).row == "rcl-m0.9+positive=random+scaling=channel+epochs=2"
    assert search.spec({"positive": "closest", "scaling": "coordinate"}, "rcl-m0.9", 3) == paper.spec_for("rcl-m0.9", 3)
    compared = {"positive": "closest", "scaling": "coordinate", "condition": "batch"}
    assert search.spec(compared, "rcl-inf", 0) == paper.spec_for("rcl-inf", 0) != search.spec(compared, "rcl-m0.9", 0)


def test_score_counts_means_and_spreads_in_standard_errors():
    row = paper.row("rcl-inf")
    runs = runs_of(run(search.spec(GOOD, "rcl-inf", seed), [9600 + 30 * seed]) for seed in (0, 1, 2))
    measured = measure(GOOD, row, range(10), runs)
    assert (measured["n"], measured["val_mean"], measured["val_std"]) == (3, 96.3, pytest.approx(0.3))
    mean, spread = search.deviations(measured, row.paper)
    assert mean == pytest.approx(0.3 / math.hypot(0.3 * math.sqrt(1 / 10 + 1 / 3), 0.1)) and spread == pytest.approx(0)
    assert score({row.id: measured}) == pytest.approx(mean**2)
    assert math.isnan(search.deviations(measure(GOOD, row, [0], runs), row.paper)[1])
    wide = search.deviations({**measured, "val_std": 0.62}, row.paper)[1]
    assert wide == pytest.approx(math.log(2) / math.sqrt(1 / 4 + 1 / 18))


def test_a_run_that_loses_validation_accuracy_at_a_small_margin_comes_last():
    seeds, small = (0, 1, 2), [paper.row(row) for row in search.SMALL]
    steady = [run(search.spec(GOOD, row.id, seed), [9900, 9971]) for row in small for seed in seeds]
    losing = [run(search.spec(GOOD, "rcl-m0.4", seed), [9980 if seed else 9969]) for seed in seeds]
    ranks = [search.rank(GOOD, seeds, runs_of(made), small) for made in (steady, steady + losing)]
    assert [rank[0] for rank in ranks] == [0, 1] and ranks[0] < ranks[1]


def test_table_shows_validation_first_and_gives_the_same_bytes(raced, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    files = search.write(raced)
    text = files[0].read_text()
    assert "| random, per channel | 99.80 | 96.00 | 95.84 | 7 |" in text
    assert text.index("Validation accuracy of ten epochs") < text.index("Test accuracy")
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in search.write(dict(reversed(raced.items())))] == before


def test_figure_shows_the_highlighted_candidate_over_the_margins_the_others_and_the_paper(raced):
    table = search.table(raced)
    axes = figures.interpretations(table, {label(GOOD): "the best"}).axes[0]
    curves = {line.get_label(): line for line in axes.lines}
    others = table[
        (table["epochs"] == 10) & (table["candidate"] != label(GOOD)) & (table["row"] != "rcl-m0.9-early-stop")
    ]
    assert len(curves["other interpretations"].get_xdata()) == len(others)
    shown = [container for container in axes.containers if container.get_label() == "the best"][0]
    assert [round(x, 2) for x in shown.lines[0].get_xdata()] == [99.8, 99.8, 99.8, 99.7, 99.4, 96.0]
    with pytest.raises(ValueError, match="'nobody' has no run of ten epochs; choose from"):
        figures.interpretations(table, {"nobody": "?"})
