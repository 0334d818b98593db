"""Is the default interpretation of the paper the one that fits its validation column best? Test accuracy takes no part.

The interpretations are a grid: the size of the images, their range, and over what RCL takes minimum and maximum.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from mnistmp import interpretations, paper, paths, records
from mnistmp.results import accuracy, markdown
from mnistmp.results.accuracy import PAPER_RUNS
from mnistmp.selection import EARLY_STOP
from mnistmp.spec import RunSpec

PRESET = "calibration"  # the folder of `results/`
SEEDS = "0,1"

# The rows of Table 2 that are compared, and what to call them in a narrow column.
TARGETS = {
    "standard-original": "original MNIST",
    "standard": "standard",
    "rcl-m0.9": "m = 0.9",
    "rcl-m0.9-early-stop": "m = 0.9, stopped",
    "rcl-inf": "m = ∞",
}
ROWS = tuple(row for row in TARGETS if paper.row(row).training == row)

# Percentage points below which nothing is a difference: the paper prints most accuracies with one
# decimal, and its standard deviations under 0.01 are less than one digit of 10,000 makes.
RESOLUTION = 0.1
# "99.8" wherever the validation digits are solved is what 9,984 of 10,000 would give: 78 full batches
# of 128, with the last 16 digits dropped and still counted.
DROPPED_BATCH = 0.9984

KEY = ["size", "range", "scaling"]
SCORES = ["score", "score_dropped", "least", "least_dropped"]


@dataclass(frozen=True)
class Interpretation:
    """RunSpec's image_size and input_range, and method rcl's scaling; the defaults are Table 2's own runs."""

    size: int = 28
    range: str = "[-1,1]"
    scaling: str = "coordinate"

    def spec(self, row: str, seed: int) -> RunSpec:
        """The run of a row under it, named like `rcl-inf+size=32+range=0..1+scaling=batch`."""
        scaled = ("size", "range", "scaling") if row.startswith("rcl") else ("size", "range")
        changed = {name: getattr(self, name) for name in scaled if getattr(self, name) != getattr(DEFAULT, name)}
        return paper.spec_for(interpretations.name(row, changed), seed)

    def __str__(self) -> str:
        return f"{self.size}x{self.size}, {self.range}, per {self.scaling}"


DEFAULT = Interpretation()
INTERPRETATIONS = tuple(
    Interpretation(*choice)
    for choice in itertools.product((28, 32), ("[-1,1]", "[0,1]"), ("coordinate", "channel", "batch"))
)


def specs(seeds: str = SEEDS) -> list[RunSpec]:
    """All runs of the study, 32 per seed: RCL's two rows under 12 interpretations, the baselines, which scale nothing,
    under 4."""
    grid = itertools.product(paper.parse_seeds(seeds), ROWS, INTERPRETATIONS)
    planned = (interpretation.spec(row, seed) for seed, row, interpretation in grid)
    return list({(spec.row, spec.seed): spec for spec in planned}.values())


def table(seeds: str = SEEDS, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """How far each interpretation's validation accuracies are from the paper's.

    Args:
        seeds: those that count.
        found: records of the study; None for what is recorded of `specs`.

    Returns:
        DataFrame with a line per interpretation and target: size, range, scaling, target; the fields of
        `accuracy.Summary`, in percent; paper_val; `tolerance`, see there; `deviation` of val_mean from paper_val
        in that unit, and `deviation_dropped`, the same with val_mean times 0.9984: infinite where a run diverged,
        NaN where one is missing. `.attrs` holds the seeds and how many runs are recorded of how many.
    """
    planned = specs(seeds)
    found = records.recorded(planned, PRESET) if found is None else found
    lines = [
        {**vars(interpretation), "target": target, **_line(interpretation, target, paper.parse_seeds(seeds), found)}
        for interpretation, target in itertools.product(INTERPRETATIONS, TARGETS)
    ]
    measured = pd.DataFrame(lines)
    measured.attrs.update(seeds=paper.parse_seeds(seeds), recorded=len(found), planned=len(planned))
    return measured


def tolerance(std: float, n: int) -> float:
    """How far the mean of n runs may be from the paper's mean of 10, in percentage points, and mean nothing.

    The standard error of that difference, both with the paper's standard deviation, and the RESOLUTION.
    """
    return math.hypot(std * math.sqrt(1 / PAPER_RUNS + 1 / n), RESOLUTION)


def scores(measured: pd.DataFrame) -> pd.DataFrame:
    """How well each interpretation fits, best first.

    Returns:
        DataFrame with size, range, scaling; `score` and `score_dropped`, the sums of the squared
        deviations of the five targets, without and with the factor 0.9984: about 5 for the
        authors' own interpretation, infinite where a run diverged, NaN where one is missing; `least` and
        `least_dropped`, the sums of what is there, which more runs can only raise; `best`, the
        lower of the two scores, by which it is ordered; `open`, whether an incomplete one may still get a lower one
        than the default.
    """
    squares = measured.assign(score=measured["deviation"] ** 2, score_dropped=measured["deviation_dropped"] ** 2)
    columns = squares.groupby(KEY, sort=False)[["score", "score_dropped"]]
    least, there = columns.sum(), columns.count() == len(TARGETS)
    summed = least.where(there).reset_index()
    summed[["least", "least_dropped"]] = least.to_numpy()
    summed["best"] = summed[["score", "score_dropped"]].min(axis=1)
    default = summed["best"].loc[in_order(summed).index(DEFAULT)]
    summed["open"] = summed["best"].isna() & (least.min(axis=1).to_numpy() < default)
    return summed.sort_values("best", kind="stable", ignore_index=True)


def in_order(scored: pd.DataFrame) -> list[Interpretation]:
    """The interpretations in the order of their scores."""
    return [Interpretation(*line) for line in scored[KEY].itertuples(index=False, name=None)]


def conclusion(measured: pd.DataFrame) -> str:
    """What was asked, how it was decided and what came out, in a few lines."""
    scored, attrs = scores(measured), measured.attrs
    return (
        "The paper does not say the size of the images (28, or 32 by bilinear resizing), their range ([-1,1] or "
        "[0,1]), or over what RCL takes minimum and maximum (each coordinate of the features, each channel, or the "
        f"whole batch). The default, {DEFAULT}, was fixed on its text and validation column before any table was made. "
        f"`mnistmp calibrate` tests that: {len(scored)} interpretations, seeds {', '.join(map(str, attrs['seeds']))}, "
        f"scored by how far five *validation* accuracies are from the paper's; {attrs['recorded']} of its "
        f"{attrs['planned']} trainings are recorded. {_verdict(scored)} The numbers, with the test accuracies of the "
        "same runs after them, are in [results/calibration/table.md](../results/calibration/table.md)."
    )


def to_markdown(measured: pd.DataFrame) -> str:
    """The validation accuracies with their scores, what follows from them, and only then the test accuracies."""
    scored = scores(measured)
    head, align = ("image", "range", "scaled per", *TARGETS.values()), "lll" + len(TARGETS) * "r"
    scores_shown = [
        (_score(own, least), _score(dropped, least_dropped))
        for own, dropped, least, least_dropped in scored[SCORES].itertuples(index=False)
    ]
    val = [row + shown for row, shown in zip(_rows(measured, scored, "val", 2), [("", ""), *scores_shown])]
    lines = [
        "**Interpretations of what the paper leaves open, by its validation column**",
        "",
        f"Real MNIST, the paper's protocol, seeds {', '.join(map(str, measured.attrs['seeds']))}; "
        "validation accuracy in percent, mean ± standard deviation.",
        "Score: the sum over the five columns of ((ours - paper's) / tolerance)², first with ours as it is, then with "
        f"ours times {DROPPED_BATCH}, which a dropped last validation batch would explain.",
        "Tolerance: the standard error of the difference, by the paper's standard deviation, and the "
        f"{RESOLUTION:g} points that its rounding hides. The authors' own would score about 5.",
        "",
        markdown.table((*head, "score", f"× {DROPPED_BATCH}"), align + "rr", val),
        "",
        _verdict(scored),
    ]
    if measured["unreached"].any():
        lines.append(f"(u): so many runs never reached {EARLY_STOP} %; their best epoch counts.")
    lines += ["", "**Test accuracy of the same runs**, which took no part in this", ""]
    return "\n".join([*lines, markdown.table(head, align, _rows(measured, scored, "test", 1)), ""])


def write(measured: pd.DataFrame) -> list[Path]:
    """Write `results/calibration/table.md` and `.csv`; the same records give the same bytes."""
    units = {"percent": ["val_mean", "val_std", "test_mean", "test_std", "paper_val"],
             "percentage_points": ["tolerance"]}  # fmt: skip
    texts = {"table.md": to_markdown(measured), "table.csv": markdown.csv(measured, units)}
    return markdown.write(paths.results(PRESET), texts)


def _line(interpretation: Interpretation, target: str, seeds: tuple[int, ...], found: pd.DataFrame) -> dict:
    row = paper.row(target)
    name = interpretation.spec(row.training, 0).row
    ours = accuracy.summary(found[(found["row"] == name) & found["seed"].isin(seeds)], row.selection)
    published, unit = row.paper[0], tolerance(row.paper[1], len(seeds))

    def deviation(factor: float) -> float:
        if ours.diverged:
            return math.inf
        return (factor * ours.val_mean - published) / unit if ours.n == len(seeds) else math.nan

    return {
        "n": ours.n, "diverged": ours.diverged, "unreached": ours.unreached,
        "val_mean": ours.val_mean, "val_std": ours.val_std, "test_mean": ours.test_mean, "test_std": ours.test_std,
        "paper_val": published, "tolerance": unit,
        "deviation": deviation(1.0), "deviation_dropped": deviation(DROPPED_BATCH),
    }  # fmt: skip


def _rows(measured: pd.DataFrame, scored: pd.DataFrame, split: str, decimals: int) -> list[tuple[str, ...]]:
    # The paper's, then ours in the order of the scores.
    place = 2 * ("val", "test").index(split)
    published = [markdown.published(*paper.row(target).paper[place : place + 2], 0) for target in TARGETS]
    rows = [("the paper's", "", "", *published)]
    lines = {key: group.to_dict("records") for key, group in measured.groupby(KEY)}
    for ours in in_order(scored):
        cells = (_cell(line, split, decimals) for line in lines[astuple(ours)])
        rows.append((f"{ours.size}x{ours.size}", ours.range, ours.scaling, *cells))
    return rows


def _cell(line: dict, split: str, decimals: int) -> str:
    unreached = f" (u: {line['unreached']})" if line["unreached"] else ""
    diverged = f" ({line['diverged']} diverged)" if line["diverged"] else ""
    return markdown.plus_minus(line[f"{split}_mean"], line[f"{split}_std"], decimals) + unreached + diverged


def _score(score: float, least: float) -> str:
    if math.isnan(score):  # what is missing can only add to it
        return f"≥ {least:.1f}" if least else "–"
    return "diverged" if math.isinf(score) else f"{score:.1f}"


def _verdict(scored: pd.DataFrame) -> str:
    order = in_order(scored)
    complete = scored["best"].notna().tolist()
    if not complete[order.index(DEFAULT)]:
        return f"{complete.count(False)} of {len(order)} interpretations are incomplete: nothing is concluded yet."
    if complete.count(True) == 1:
        text = f"The default ({DEFAULT}) is the only one that is complete"
    else:
        place = "fits best" if order[0] == DEFAULT else f"is in place {order.index(DEFAULT) + 1}"
        text = f"The default ({DEFAULT}) {place} of {complete.count(True)} by the lower of its scores"
    text += "."
    if missing := complete.count(False):
        may = in_order(scored[scored["open"]])
        rest = f"{len(may)} of these may still fit better: {'; '.join(map(str, may))}" if may else "none can fit better"
        text += f" {missing} of {len(order)} are incomplete, and {rest}."
    return text
