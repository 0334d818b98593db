"""Ways to read what the paper leaves open, and how well each fits the paper's validation column."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from mnistmp import paper
from mnistmp.paper import Row
from mnistmp.records import RunRecord
from mnistmp.selection import EARLY_STOP, select
from mnistmp.spec import RunSpec

SIZES = (28, 32)  # 32 bilinear
RANGES = ("[-1,1]", "[0,1]")
SCALINGS = ("coordinate", "channel", "batch")
ROWS = ("standard-original", "standard", "rcl-m0.9", "rcl-inf")

# The rows of Table 2 that are compared, and what to call them in a narrow column.
TARGETS = {
    "standard-original": "original MNIST",
    "standard": "standard",
    "rcl-m0.9": "m = 0.9",
    "rcl-m0.9-early-stop": "m = 0.9, stopped",
    "rcl-inf": "m = ∞",
}

PAPER_RUNS = 10
# Percentage points below which nothing is a difference: the paper prints most accuracies with one
# decimal, and its standard deviations under 0.01 are less than one digit of 10,000 makes.
RESOLUTION = 0.1
# "99.8" wherever the validation digits are solved is what 9,984 of 10,000 would give: 78 full batches
# of 128, with the last 16 digits dropped and still counted.
DROPPED_BATCH = 0.9984
# By how much a reading's score must be lower to be clearly better: were deviations normal, it would
# make the paper's numbers exp(10 / 2), about 150 times as likely.
CLEARLY = 10.0

SHORT = {"image_size": "size", "input_range": "range"}  # in the names of runs
KEY = ["size", "range", "scaling"]


def named(row: str, option: str, value: object) -> str:
    """What a row's runs are called where an option has another value: `rcl-inf+range=0..1`."""
    return f"{row}+{SHORT.get(option, option)}={word(value)}"


def word(value: object) -> str:
    """A value as part of a row's name, and so of a folder's: "[0,1]" becomes "0..1"."""
    return str(value).lower().strip("[]").replace(",", "..")


@dataclass(frozen=True)
class Reading:
    """One way to read the paper: RunSpec's image_size and input_range, and method rcl's scaling.

    The defaults are those of RunSpec and the method: Table 2's own runs.
    """

    size: int = 28
    range: str = "[-1,1]"
    scaling: str = "coordinate"

    def spec(self, row: str, seed: int) -> RunSpec:
        """The run of a row under this reading, named like `rcl-inf+size=32+range=0..1+scaling=batch`."""
        images = {"image_size": self.size, "input_range": self.range}
        options = {"scaling": self.scaling} if row.startswith("rcl") else {}
        name = row
        for (option, value), default in zip((images | options).items(), (DEFAULT.size, DEFAULT.range, DEFAULT.scaling)):
            if value != default:
                name = named(name, option, value)
        return paper.spec_for(row, seed, "paper", row=name, options=options, **images)

    def __str__(self) -> str:
        return f"{self.size}x{self.size}, {self.range}, per {self.scaling}"


DEFAULT = Reading()
READINGS = tuple(Reading(*choice) for choice in itertools.product(SIZES, RANGES, SCALINGS))


def specs(seeds: str) -> list[RunSpec]:
    """All runs of the study, 32 per seed: RCL's two under 12 readings, the baselines, which scale nothing, under 4."""
    planned = (reading.spec(row, seed) for seed in paper.parse_seeds(seeds) for row in ROWS for reading in READINGS)
    return list({(spec.row, spec.seed): spec for spec in planned}.values())


def measure(found: Iterable[RunRecord], seeds: str) -> pd.DataFrame:
    """How far each reading's validation accuracies are from the paper's.

    Args:
        found: records of the study; others are ignored.
        seeds: those that count.

    Returns:
        DataFrame with a line per reading and target: size, range, scaling, target; n finished and
        `diverged` runs; val_mean, val_std, test_mean and test_std in percent at the selected
        epochs (sample standard deviation, NaN for n < 2); `unreached`, runs that never got to the
        95 % at which the target stops; paper_val; `tolerance`, see there; `deviation` of val_mean
        from paper_val in that unit, and `deviation_dropped`, the same with val_mean times 0.9984:
        infinite where a run diverged, NaN where one is missing.
    """
    known = {(record.spec.row, record.spec.seed): record for record in found}
    lines = []
    for reading in READINGS:
        for target in TARGETS:
            row = paper.row(target)
            asked = [reading.spec(row.training, seed) for seed in paper.parse_seeds(seeds)]
            runs = [known[spec.row, spec.seed] for spec in asked if (spec.row, spec.seed) in known]
            lines.append({**vars(reading), "target": target, **_line(runs, row, len(asked))})
    return pd.DataFrame(lines)


def tolerance(std: float, n: int) -> float:
    """How far the mean of n runs may be from the paper's mean of 10, in percentage points, and mean nothing.

    The standard error of that difference, both with the paper's standard deviation, and the RESOLUTION.
    """
    return math.hypot(std * math.sqrt(1 / PAPER_RUNS + 1 / n), RESOLUTION)


def scores(measured: pd.DataFrame) -> pd.DataFrame:
    """How well each reading fits, best first.

    Returns:
        DataFrame with size, range, scaling; `score` and `score_dropped`, the sums of the squared
        deviations of the five targets, without and with the factor 0.9984: about 5 for the
        authors' own reading, infinite where a run diverged, NaN where one is missing; `least` and
        `least_dropped`, the sums of what is there, which more runs can only raise; `best`, the
        lower of the two scores, by which it is ordered.
    """
    squares = measured.assign(score=measured["deviation"] ** 2, score_dropped=measured["deviation_dropped"] ** 2)
    columns = squares.groupby(KEY, sort=False)[["score", "score_dropped"]]
    least, there = columns.sum(), columns.count() == len(TARGETS)
    summed = least.where(there).reset_index()
    summed[["least", "least_dropped"]] = least.to_numpy()
    summed["best"] = summed[["score", "score_dropped"]].min(axis=1)
    return summed.sort_values("best", kind="stable", ignore_index=True)


def clearly_better(scored: pd.DataFrame) -> list[Reading]:
    """The readings, best first, whose scores are both CLEARLY lower than the default's."""
    limits = _limits(scored)
    pairs = scored[["score", "score_dropped"]].to_numpy()
    return [reading for reading, pair in zip(in_order(scored), pairs) if (pair < limits).all()]


def undecided(scored: pd.DataFrame) -> list[Reading]:
    """The incomplete readings that may still become clearly better: all of them while the default is incomplete."""
    limits = _limits(scored)
    pairs = scored[["least", "least_dropped"]].to_numpy()
    incomplete = scored["best"].isna()
    # Nothing reaches a limit that is not known yet, NaN.
    return [r for r, open_, pair in zip(in_order(scored), incomplete, pairs) if open_ and not (pair >= limits).any()]


def in_order(scored: pd.DataFrame) -> list[Reading]:
    """The readings in the order of their scores."""
    return [Reading(*line) for line in scored[KEY].itertuples(index=False, name=None)]


def _limits(scored: pd.DataFrame) -> list[float]:
    # What both scores of a reading must be below; NaN while the default's own runs are not complete.
    default = scored.iloc[in_order(scored).index(DEFAULT)]
    return [default["score"] - CLEARLY, default["score_dropped"] - CLEARLY]


def _line(runs: list[RunRecord], row: Row, asked: int) -> dict:
    accuracies, unreached = [], 0
    for run in runs:
        if run.status == "done":
            epoch = run.history[select([e["val_correct"] for e in run.history], run.val_total, row.selection)]
            val, test = 100 * epoch["val_correct"] / run.val_total, 100 * epoch["test_correct"] / run.test_total
            accuracies.append((val, test))
            unreached += row.selection == "early-stop" and val < EARLY_STOP
    val, test = (pd.Series([pair[place] for pair in accuracies], dtype=float) for place in (0, 1))
    diverged, unit, paper = len(runs) - len(val), tolerance(row.paper[1], asked), row.paper[0]

    def deviation(factor: float) -> float:
        if diverged:
            return math.inf
        return (factor * val.mean() - paper) / unit if len(val) == asked else math.nan

    return {
        "n": len(val), "diverged": diverged, "unreached": unreached,
        "val_mean": val.mean(), "val_std": val.std(), "test_mean": test.mean(), "test_std": test.std(),
        "paper_val": paper, "tolerance": unit,
        "deviation": deviation(1.0), "deviation_dropped": deviation(DROPPED_BATCH),
    }  # fmt: skip
