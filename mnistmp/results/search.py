"""Which reverse contrastive loss the authors may have trained, by validation accuracy alone.

`mnistmp search` trains it in stages. The protocol, written before the first run, is docs/rcl-search.md.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from mnistmp import interpretations, paper, paths, records
from mnistmp.losses.reverse_contrastive import SEVERAL, Positive, Scaling
from mnistmp.results import accuracy, calibration, markdown
from mnistmp.results.accuracy import PAPER_RUNS
from mnistmp.results.calibration import DROPPED_BATCH, tolerance
from mnistmp.spec import RunSpec

PRESET = "search"  # the folder of `results/`
ROWS = tuple(row for row in paper.TABLE2 if row.method == "rcl")
MARGINS = tuple(row.id for row in ROWS if row.id == row.training)
SMALL = ("rcl-m0.2", "rcl-m0.4", "rcl-m0.6")
HELD = 99.7  # percent: every one of the paper's runs at the margins of SMALL has more
SEEDS = range(10)
SHORT, WHOLE = 2, 10  # epochs
_NEEDED = ["seed", "status", "val_correct", "val_total", "test_correct", "test_total"]  # of a run; all take longer
SPREAD = 0.02  # percentage points below which a standard deviation says nothing: two digits of 10,000

Options = Mapping[str, Any]
Runs = Mapping[tuple[str, int], Any]  # (row, seed) -> line of `records.load`

CANDIDATES: tuple[Options, ...] = tuple(
    {"positive": positive, "scaling": scaling}
    for positive, scaling in itertools.product(get_args(Positive), get_args(Scaling))
)
# Added later, see the protocol: another condition, and nothing else; none at all; the condition of the closest alone.
_TEXT = {"positive": "closest", "scaling": "coordinate"}
CONDITIONS = ("map", "coordinate", "class", "batch", "batch-map", "batch-coordinate")
CANDIDATES += (
    *({**_TEXT, "condition": condition} for condition in CONDITIONS),
    *({**_TEXT, "negative": negative} for negative in ("second", "random", "subset", "farthest", "mean")),
    {**_TEXT, "mining": "euclidean"},
    *({**_TEXT, "positive": choice, "negative": choice} for choice in ("random", "mean")),
    *({**_TEXT, "positive": one, "condition": "closest"} for one in ("random", "shifted", "mean", "farthest")),
)
# For want of computing time these wait after stage 1, see the protocol; emptied, the race goes on with them.
WAITING = SEVERAL
# Added during stage 2, see the protocol: the other range of the images; they enter at LATE.
LATE = 4
IN_0_1: tuple[Options, ...] = tuple(
    {"positive": "random", "scaling": scaling, "input_range": "[0,1]"} for scaling in ("coordinate", "channel")
)
# Added when the stages were over, see the protocol: they take no place from others and enter at the last one.
AFTERWARDS: tuple[Options, ...] = tuple(
    {**_TEXT, "otherwise": one} for one in ("negative-unweighted", "negative-detached", "negative")
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

    def stays(self, options: Options, runs: Runs) -> bool:
        seeds = paper.parse_seeds(self.seeds)
        lines = [measure(options, paper.row(row), seeds, runs, self.epochs) for row in self.rows]
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


def specs(number: int, runs: Runs) -> list[RunSpec]:
    """The runs of a stage, counted from 1, as far as the records tell who takes part."""
    stage = STAGES[number - 1]
    plan = itertools.product(entrants(number, runs), paper.parse_seeds(stage.seeds), stage.rows)
    return list(dict.fromkeys(spec(options, row, seed, stage.epochs) for options, seed, row in plan))


def entrants(number: int, runs: Runs) -> list[Options]:
    """The candidates of a stage, counted from 1: those that the stages before it left, the best first."""
    left, trained = list(CANDIDATES), set()
    for place, stage in enumerate(STAGES[: number - 1], 1):
        left = [*IN_0_1, *left] if place == LATE else left
        left = [options for options in left if stage.stays(options, runs) and options["positive"] not in WAITING]
        if stage.keep is not None:
            trained |= set(stage.rows)  # what later stages train must not change what this one decided
            rows, seeds = [row for row in ROWS if row.training in trained], paper.parse_seeds(stage.seeds)
            left = sorted(left, key=lambda options: rank(options, seeds, runs, rows))[: stage.keep]
    return {LATE: [*IN_0_1, *left], len(STAGES): [*left, *AFTERWARDS]}.get(number, left)


def spec(options: Options, row: str, seed: int, epochs: int = WHOLE) -> RunSpec:
    """The run of a row with other options, called like `rcl-m0.9+positive=random+epochs=2`."""
    if paper.row(row).options["margin"] == math.inf:  # nothing is compared: these are the same run
        options = {name: value for name, value in options.items() if name not in ("condition", "negative", "otherwise")}
    own = paper.spec_for(row, seed)
    default = vars(own) | own.options
    changed = {name: value for name, value in {**options, "epochs": epochs}.items() if value != default[name]}
    return paper.spec_for(interpretations.name(row, changed), seed)


def recorded() -> dict[tuple[str, int], Any]:
    """The search's runs, and those of Table 2 and the calibration, which have the default's and other scalings'."""
    found = [records.load(preset) for preset in ("paper", calibration.PRESET, PRESET)]
    return {(run.row, run.seed): run for runs in found for run in runs.itertuples(index=False)}


def measure(
    options: Options, target: paper.Row, seeds: Sequence[int], runs: Runs, epochs: int = WHOLE
) -> dict[str, float]:
    """A candidate at one row of Table 2: the fields of `accuracy.Summary`, and the bounds of its
    validation accuracies, `val_least` and `val_most`."""
    name = spec(options, target.training, 0, epochs).row
    found = [runs[name, seed] for seed in seeds if (name, seed) in runs]
    if not found:
        return {**accuracy.paper_summary(None)._asdict(), "n": 0, "val_least": math.nan, "val_most": math.nan}
    frame = pd.DataFrame([[getattr(run, column) for column in _NEEDED] for run in found], columns=_NEEDED)
    summary = accuracy.summary(frame, target.selection)
    val = accuracy.selected(frame, target.selection)["val"].astype(float)
    return {**summary._asdict(), "val_least": val.min(), "val_most": val.max()}


def deviations(measured: Mapping[str, float], published: tuple[float, ...], factor: float = 1.0) -> tuple[float, float]:
    """How far validation's mean and standard deviation are from the paper's, in standard errors; NaN if not known.

    Args:
        factor: of our validation accuracies, DROPPED_BATCH for a last batch that was counted and not classified.
    """
    n = measured["n"]
    if measured["diverged"]:
        return math.inf, math.inf
    mean = (factor * measured["val_mean"] - published[0]) / tolerance(published[1], n) if n else math.nan
    if n < 2:
        return mean, math.nan
    ratio = math.log((factor * measured["val_std"] + SPREAD) / (published[1] + SPREAD))
    return mean, ratio / math.sqrt(0.5 / (n - 1) + 0.5 / (PAPER_RUNS - 1))


def score(measured: Mapping[str, Mapping[str, float]], factor: float = 1.0) -> float:
    """The sum of squared `deviations` over what is measured, row id -> `measure`; no test accuracy takes part."""
    found = [deviations(line, paper.row(row).paper, factor) for row, line in measured.items()]
    return sum(deviation**2 for pair in found for deviation in pair if not math.isnan(deviation))


def lost(measured: Mapping[str, Mapping[str, float]]) -> int:
    """How many rows with a margin of at most 0.6 have a run that lost validation accuracy, as none of the paper's."""
    small = [measured[row] for row in SMALL if row in measured]
    return sum(bool(line["diverged"]) or line["val_least"] < HELD for line in small)


def rank(options: Options, seeds: Sequence[int], runs: Runs, rows: Sequence[paper.Row]) -> tuple[int, float]:
    """What candidates are sorted by: rows that lost accuracy, then the lower of the scores with and without factor."""
    measured = {row.id: measure(options, row, seeds, runs) for row in rows}
    return lost(measured), min(score(measured, factor) for factor in (1.0, DROPPED_BATCH))


def last_stage(runs: Runs) -> dict[str, int]:
    """The last stage that each candidate was in, by its label, up to the first stage that lacks a run."""
    reached = {}
    for number in range(1, len(STAGES) + 1):
        reached |= {label(options): number for options in entrants(number, runs)}
        if any((one.row, one.seed) not in runs for one in specs(number, runs)):
            break
    return reached


def label(options: Options) -> str:
    """A candidate in words, such as "random, per sample" or "closest, per coordinate, condition batch"."""
    rest = [value if option == "input_range" else f"{option} {value}" for option, value in options.items()]
    return ", ".join([options["positive"], f"per {options['scaling']}", *rest[2:]])


def table(runs: Runs) -> pd.DataFrame:
    """All recorded runs of the candidates, a line per candidate, row of Table 2 and number of epochs.

    Returns:
        DataFrame with candidate, row, epochs and the fields of `accuracy.Summary`.
    """
    lines = []
    for options, epochs, row in itertools.product((*CANDIDATES, *IN_0_1, *AFTERWARDS), (SHORT, WHOLE), ROWS):
        found = measure(options, row, SEEDS, runs, epochs)
        if found["n"] or found["diverged"]:
            lines.append({"candidate": label(options), "row": row.id, "epochs": epochs, **found})
    return pd.DataFrame(lines, columns=["candidate", "row", "epochs", *accuracy.Summary._fields])


def to_markdown(runs: Runs) -> str:
    """What decided the stages, the scores of whole trainings, and only then the test accuracies of the same runs."""
    lines = {(line.candidate, line.row, line.epochs): line for line in table(runs).itertuples(index=False)}
    reached = last_stage(runs)
    short = [paper.row(row) for stage in STAGES if stage.epochs == SHORT for row in stage.rows]
    raced = [
        [
            label(options),
            *(_cell(lines.get((label(options), row.id, SHORT)), "val") for row in short),
            reached.get(label(options), ""),
        ]
        for options in (*CANDIDATES, *AFTERWARDS)
    ]
    # At infinity many share a run: that alone is no training of theirs.
    finite = {line.candidate for line in lines.values() if line.epochs == WHOLE and line.row != "rcl-inf"}
    whole = [options for options in (*CANDIDATES, *IN_0_1, *AFTERWARDS) if label(options) in finite]
    whole.sort(key=lambda options: (-reached.get(label(options), 0), *rank(options, SEEDS, runs, ROWS)))
    val, test = [["the paper's", *_published(0), 0, "", ""]], [["the paper's", *_published(2)]]
    for options in whole:
        measured = {row.id: measure(options, row, SEEDS, runs) for row in ROWS}
        found = [lines.get((label(options), row.id, WHOLE)) for row in ROWS]
        scores = [f"{score(measured, factor):.0f}" for factor in (1.0, DROPPED_BATCH)]
        val.append([label(options), *(_cell(line, "val") for line in found), lost(measured), *scores])
        test.append([label(options), *(_cell(line, "test") for line in found)])
    head = ["positive, scaling", *map(_head, ROWS)]
    last = ["lost", "score", f"× {DROPPED_BATCH}"]
    return "\n\n".join([
        "**Validation accuracy after two epochs** (percent, seed 0), and the last stage that a candidate was in",
        markdown.table(["positive, scaling", *map(_head, short), "stage"], "l" + "r" * (len(short) + 1), raced),
        "**Validation accuracy of ten epochs** (percent, mean ± standard deviation, seeds in brackets)",
        markdown.table([*head, *last], "l" + "r" * (len(ROWS) + 3), val),
        "**Test accuracy of the same runs**, which took no part",
        markdown.table(head, "l" + "r" * len(ROWS), test),
    ])  # fmt: skip


def write(runs: Runs) -> list[Path]:
    """Write `results/search/table.md` and `.csv`; the same records give the same bytes."""
    percent = [name for name in accuracy.Summary._fields if name.endswith(("mean", "std"))]
    texts = {"table.md": to_markdown(runs) + "\n", "table.csv": markdown.csv(table(runs), {"percent": percent})}
    return markdown.write(paths.results(PRESET), texts)


def _head(row: paper.Row) -> str:
    return row.label.removeprefix("RCL, ").replace("(with early stopping @95)", "stopped")


def _published(place: int) -> list[str]:
    return [markdown.published(*row.paper[place : place + 2], 0) for row in ROWS]


def _cell(line: Any, split: str) -> str:
    if line is None or not line.n:
        return "" if line is None else "diverged"
    decimals = (2, 3) if split == "val" else (1, 1)
    shown = markdown.plus_minus(getattr(line, f"{split}_mean"), getattr(line, f"{split}_std"), *decimals)
    return f"{shown} [{line.n}]" if line.n > 1 else shown
