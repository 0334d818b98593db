"""`mnistmp search`: which reverse contrastive loss the authors may have trained, by validation accuracy alone.

The protocol, written before the first run, is docs/rcl-search.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import pandas as pd

from mnistmp import calibration, planning, protocol, records, study
from mnistmp.losses.reverse_contrastive import SEVERAL, Positive, Scaling
from mnistmp.readings import DROPPED_BATCH, PAPER_RUNS, named, tolerance
from mnistmp.selection import select
from mnistmp.spec import RunSpec

PRESET = "search"  # the folder of `results/`
MARGINS = tuple(row.id for row in protocol.TABLE2 if row.method == "rcl" and row.id == row.training)
SMALL = ("rcl-m0.2", "rcl-m0.4", "rcl-m0.6")
HELD = 99.7  # percent: every one of the paper's runs at the margins of SMALL has more
SPREAD = 0.02  # percentage points below which a standard deviation says nothing: two digits of 10,000

Options = Mapping[str, Any]
Runs = Mapping[tuple[str, int], Any]  # (row, seed) -> line of `records.load`

CANDIDATES: tuple[Options, ...] = tuple(
    {"positive": positive, "scaling": scaling}
    for positive, scaling in itertools.product(get_args(Positive), get_args(Scaling))
)
# Added after stage 1, see the end of the protocol: what a finite margin compares, and nothing else.
CANDIDATES += tuple(
    {"positive": "closest", "scaling": "coordinate", option: value}
    for option, values in {
        "condition": ("map", "coordinate", "class", "batch", "batch-map", "batch-coordinate"), "negative": ("second", "random", "subset", "farthest", "mean"),
        "mining": ("euclidean",),
    }.items() for value in values
) + tuple({"positive": choice, "scaling": "coordinate", "negative": choice} for choice in ("random", "mean"))  # fmt: skip
# Added after stage 1, too: the closest positive is compared, another is pushed from.
CANDIDATES += tuple(
    {"positive": positive, "scaling": "coordinate", "condition": "closest"}
    for positive in ("random", "shifted", "mean", "farthest")
)
# For want of computing time these wait after stage 1, see the protocol; emptied, the race goes on with them.
WAITING = SEVERAL
# Added during stage 2, see the protocol: the other range of the images; they enter at LATE.
LATE = 4
IN_0_1: tuple[Options, ...] = tuple(
    {"positive": "random", "scaling": scaling, "input_range": "[0,1]"} for scaling in ("coordinate", "channel")
)


@dataclass(frozen=True)
class Stage:
    """Runs that every candidate left gets, and what they must show for it to stay.

    Attributes:
        rows: of Table 2, trained at each of `seeds` for `epochs`.
        lowest, highest: bounds of validation accuracy at the epoch that the row selects, in percent.
        keep: how many stay, by their `score` over these seeds; None for all.
    """

    rows: tuple[str, ...]
    seeds: str = "0"
    epochs: int = 10
    lowest: float = 0.0
    highest: float = 100.0
    keep: int | None = None

    def specs(self, options: Options) -> list[RunSpec]:
        return [spec(options, row, seed, self.epochs) for seed in protocol.parse_seeds(self.seeds) for row in self.rows]

    def stays(self, options: Options, runs: Runs) -> bool:
        seeds = protocol.parse_seeds(self.seeds)
        lines = [measure(options, protocol.row(row), seeds, runs, self.epochs) for row in self.rows]
        return all(
            not line["diverged"] and self.lowest <= line["val_least"] and line["val_most"] <= self.highest
            for line in lines
        )


STAGES = (
    Stage(("rcl-m0.6",), epochs=2, lowest=99.0),
    Stage(("rcl-inf",), epochs=2, lowest=80.0, highest=97.2),
    Stage(("rcl-m0.9-early-stop",), epochs=2, highest=97.9),  # added after stage 1
    Stage(("rcl-m0.9",), keep=3),
    Stage(("rcl-m0.4", "rcl-inf"), keep=2),
    Stage(MARGINS, seeds="0-2", keep=1),
    Stage(MARGINS, seeds="0-9"),
)


def search(
    stage: int | None = None,
    *,
    jobs: int | None = None,
    dry_run: bool = False,
    train: Callable[[Sequence[RunSpec], str, int | None], list[str]] = study.train,
) -> int:
    """Train what the stages lack, one after the other, as far as the records tell who takes part.

    Args:
        stage: the last stage to train, from 1; None for all.
        jobs, train: how to train, see `study.train`.
        dry_run: only say what would be trained next.

    Returns:
        0; or 1 where a run could not be trained.

    Raises:
        ValueError: of our own kinds, before any work.
    """
    for number in range(1, (stage or len(STAGES)) + 1):
        left = entrants(number, recorded())
        planned = list({spec: None for options in left for spec in STAGES[number - 1].specs(options)})
        print(f"Stage {number}: {len(left)} of {len(CANDIDATES)} candidates.", flush=True)
        for source in () if dry_run else ("paper", calibration.PRESET):
            study.reuse(planned, source, PRESET)
        todo = planning.missing(planned, PRESET)
        if todo and dry_run:
            return study.dry_run(planned, PRESET, jobs)
        problems = train(planned, PRESET, jobs) if todo else []
        if problems:
            print("\n".join(f"  {problem}" for problem in problems))
            return 1
    return 0


def entrants(number: int, runs: Runs) -> list[Options]:
    """The candidates of a stage, counted from 1: those that the stages before it left, the best first."""
    left, rows = list(CANDIDATES), set()
    for place, stage in enumerate(STAGES[: number - 1], 1):
        left = [*IN_0_1, *left] if place == LATE else left
        left = [options for options in left if stage.stays(options, runs) and options["positive"] not in WAITING]
        if stage.keep is not None:
            rows |= set(stage.rows)  # what later stages train must not change what this one decided
            left = sorted(left, key=lambda options: rank(options, stage.seeds, runs, rows))[: stage.keep]
    return [*IN_0_1, *left] if number == LATE else left


def spec(options: Options, row: str, seed: int, epochs: int = 10) -> RunSpec:
    """The run of a row with other options, called like `rcl-m0.9+positive=random+epochs=2`."""
    own = protocol.spec_for(row, seed)
    if own.options["margin"] == math.inf:  # nothing is compared: these are the same run
        options = {name: value for name, value in options.items() if name not in ("condition", "negative")}
    fields = {"input_range": options.get("input_range", own.input_range), "epochs": epochs}
    options = {name: value for name, value in options.items() if name not in fields}
    name = own.row
    for option, value in (options | fields).items():
        if value != own.options.get(option, getattr(own, option, None)):
            name = named(name, option, value)
    return protocol.spec_for(row, seed, row=name, options=options, **fields)


def recorded() -> dict[tuple[str, int], Any]:
    return {(run.row, run.seed): run for run in records.load(PRESET).itertuples()}


def measure(options: Options, target: protocol.Row, seeds: Sequence[int], runs: Runs, epochs: int = 10) -> dict[str, float]:
    """A candidate at one row of Table 2: n, validation and test mean and standard deviation in percent, `diverged`."""
    there = [spec(options, target.training, seed, epochs) for seed in seeds]
    found = [runs[one.row, one.seed] for one in there if (one.row, one.seed) in runs]
    done = [run for run in found if run.status == "done"]
    chosen = [(run, select(run.val_correct, run.val_total, target.selection)) for run in done]
    val = pd.Series([100 * run.val_correct[epoch] / run.val_total for run, epoch in chosen], dtype=float)
    test = pd.Series([100 * run.test_correct[epoch] / run.test_total for run, epoch in chosen], dtype=float)
    return {
        "n": len(done), "diverged": len(found) - len(done), "val_mean": val.mean(), "val_std": val.std(),
        "val_least": val.min(), "val_most": val.max(), "test_mean": test.mean(), "test_std": test.std(),
    }  # fmt: skip


def deviations(measured: Mapping[str, float], paper: tuple[float, ...], factor: float = 1.0) -> tuple[float, float]:
    """How far validation's mean and standard deviation are from the paper's, in standard errors; NaN if not known.

    Args:
        factor: of our validation accuracies, DROPPED_BATCH for a last batch that was counted and not classified.
    """
    n = measured["n"]
    if measured["diverged"]:
        return math.inf, math.inf
    mean = (factor * measured["val_mean"] - paper[0]) / tolerance(paper[1], n) if n else math.nan
    if n < 2:
        return mean, math.nan
    ratio = math.log((factor * measured["val_std"] + SPREAD) / (paper[1] + SPREAD))
    return mean, ratio / math.sqrt(0.5 / (n - 1) + 0.5 / (PAPER_RUNS - 1))


def score(
    options: Options, seeds: Sequence[int], runs: Runs, trained: Collection[str] = MARGINS, factor: float = 1.0
) -> float:
    """The sum of squared `deviations` over the rows that read these trained ones; no test accuracy takes part."""
    total = 0.0
    for row in protocol.TABLE2:
        if row.training in trained:
            found = deviations(measure(options, row, seeds, runs), row.paper, factor)
            total += sum(deviation**2 for deviation in found if not math.isnan(deviation))
    return total


def lost(options: Options, seeds: Sequence[int], runs: Runs, trained: Collection[str] = MARGINS) -> int:
    """How many rows with a margin of at most 0.6 have a run that lost validation accuracy, as none of the paper's did."""
    rows = [measure(options, protocol.row(row), seeds, runs) for row in SMALL if row in trained]
    return sum(bool(row["diverged"]) or row["val_least"] < HELD for row in rows)


def rank(options: Options, seeds: str, runs: Runs, trained: Collection[str] = MARGINS) -> tuple[int, float]:
    """What candidates are sorted by: rows that lost accuracy, then the lower of the scores with and without factor."""
    numbers = protocol.parse_seeds(seeds)
    scores = [score(options, numbers, runs, trained, factor) for factor in (1.0, DROPPED_BATCH)]
    return lost(options, numbers, runs, trained), min(scores)
