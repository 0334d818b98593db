"""The weight of a method's extra term: the largest that does not collapse validation, the paper's rule (Sec. 5.1)."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from mnistmp import interpretations, paper, paths
from mnistmp.errors import InputError, require
from mnistmp.paper import Row
from mnistmp.results import accuracy, markdown
from mnistmp.spec import RunSpec

GRID = (0.001, 0.01, 0.1, 1.0, 5.0, 10.0)  # "(0.001, 0.01, 0.1, 1, 5, 10)", Sec. 5.1

# Percentage points of validation accuracy below standard training at which a run has collapsed. The
# paper names no number. It accepts RCL without limit at weight 1, with 96.0 against 99.8 of standard
# training: a fall of 3.8, with a standard deviation of 0.3, is no collapse. And it takes a network for
# trained at 95 %, 4.8 below, since there its early stopping stops. 5 is the round number just above both.
THRESHOLD = 5.0

COLUMNS = ("row", "weight", "n", "val_mean", "val_std", "val_min", "diverged", "collapsed", "picked", "paper")


def weighted_row(name: str) -> Row:
    """The row behind the name of a method that has a weight, or behind a row's own id, such as
    "rcl-m0.9+condition=batch".

    RCL's weight is selected without limit on the margin, where the loss acts most; as in the
    paper, it then serves all margins.

    Raises:
        InputError: a name without a weight, with those that have one; or with a weight of its own.
    """
    own_id, plus, changes = name.partition("+")
    if "weight=" in changes:
        raise InputError(f"{name!r} names the weight that is to be selected; leave it out.")
    rows = [row for row in paper.trainings() if "weight" in row.options]
    for row in rows:
        if own_id == row.id or (own_id == row.method and row.options.get("margin", math.inf) == math.inf):
            return paper.row(row.id + plus + changes)
    raise InputError(f"{name!r} has no weight; choose one of {', '.join(dict.fromkeys(row.method for row in rows))}.")


def specs(name: str, preset: str, seeds: str | None = None, precision: str | None = None) -> list[list[RunSpec]]:
    """The runs behind a selection, a list per weight from the largest down; standard training is in the first.

    The weight that the preset already gives the row is that row's own run, trained once for both.
    The others are called like `rcl-inf+weight=5`: no table takes them for the row.
    """
    row = weighted_row(name).id
    standard = paper.plan(preset, "standard", seeds, precision)
    own = paper.spec_for(row, 0, preset).options["weight"]
    rows = [row if weight == own else interpretations.name(row, {"weight": weight}) for weight in reversed(GRID)]
    grid = [[paper.spec_for(one, s.seed, preset, precision) for s in standard] for one in rows]
    return [standard + grid[0], *grid[1:]]


def table(found: pd.DataFrame, threshold: float = THRESHOLD) -> pd.DataFrame:
    """All recorded selections: what the rule sees, and what it picks.

    Args:
        found: as of `records.load`. A row is shown if it was trained with the largest weight.
        threshold: percentage points below standard training; a weight has collapsed where any of
            its runs diverged or ends lower than that.

    Returns:
        DataFrame with `COLUMNS`, a line per row and weight, validation accuracies in percent: mean, sample
        standard deviation (NaN for n < 2) and lowest of the n runs that did not diverge. Test accuracy takes no
        part. `picked` marks the largest weight that holds, once all larger ones have been trained, `paper` the
        paper's. `.attrs` holds `reference`, the mean of standard training, and `threshold`.

    Raises:
        InputError: a threshold that is none.
    """
    check_threshold(threshold)
    reference = accuracy.summary(found[found["row"] == "standard"]).val_mean
    weights = found["options"].map(lambda options: options.get("weight"))
    rows = found["row"].str.replace(r"\+weight=[^+]*", "", regex=True)
    lines = []
    for row in paper.trainings(sorted(set(rows[weights == GRID[-1]]))):
        tried = {weight: _line(runs, reference - threshold) for weight, runs in found[rows == row.id].groupby(weights)}
        # The largest that is not known to collapse; where it has not been trained, nothing is picked yet.
        picked = next((weight for weight in reversed(GRID) if weight not in tried or not tried[weight][-1]), None)
        lines += [
            (row.id, weight, *line, weight == picked, weight == row.options["weight"]) for weight, line in tried.items()
        ]
    grid = pd.DataFrame(lines, columns=list(COLUMNS))
    grid.attrs.update(reference=reference, threshold=float(threshold))
    return grid


def pick(grid: pd.DataFrame, row: str) -> float | None:
    """The weight by Sec. 5.1, "the largest value that does not lead to a collapse"; None if all of the row's do, or if
    one that may be it has not been trained."""
    return next(iter(grid.loc[grid["picked"] & (grid["row"] == row), "weight"]), None)


def to_markdown(grid: pd.DataFrame, preset: str, *names: str) -> str:
    """The selections of these methods or rows, or of all, with what one must know to read them."""
    recorded = list(grid["row"].unique())
    rows = [weighted_row(name).id for name in names] or recorded
    if missing := [name for name, row in zip(names, rows) if row not in recorded]:
        commands = ", ".join(f"`mnistmp select-weights {name} --preset {preset} --seeds 0-2`" for name in missing)
        return f"No selection is recorded for preset {preset}; train it with {commands}."
    cells = {(line.row, line.weight): _cell(line) for line in grid.itertuples()}
    lines = [
        (paper.row(row).label, *(cells.get((row, weight), "") for weight in GRID), *_chosen(grid, row)) for row in rows
    ]
    note = paper.preset(preset).note
    return "\n".join([
        f"**Weights, preset {preset}**",
        "",
        f"{note[0].upper()}{note[1:]}. For each weight, down to the largest that holds, which is the one picked: "
        "the lowest validation accuracy of its runs, in percent at the best epoch, and how many runs there are. Test "
        f"accuracy takes no part. ×: collapsed, a run diverged or ended more than {grid.attrs['threshold']:g} points "
        f"below standard training ({grid.attrs['reference']:.2f}). At {GRID[-1]:g} the grid ends: a weight picked "
        "there has no upper bound.",
        "",
        markdown.table(("row", *(f"{weight:g}" for weight in GRID), "picked", "paper's"), "lrrrrrrrr", lines),
        "",
    ])  # fmt: skip


def write(grid: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/weights.md` and `.csv`; the same records give the same bytes."""
    csv = markdown.csv(grid, {"percent": ["val_mean", "val_std", "val_min"]})
    return markdown.write(paths.results(preset), {"weights.md": to_markdown(grid, preset), "weights.csv": csv})


def check_threshold(threshold: float) -> None:
    """Raises InputError unless it is a number of percentage points from 0 to below 100."""
    require(0 <= threshold < 100, "threshold", threshold, "give percentage points from 0 to below 100")


def _line(runs: pd.DataFrame, limit: float) -> tuple:
    ours, lowest = accuracy.summary(runs), float(accuracy.selected(runs)["val"].min())
    collapsed = bool(ours.diverged) or lowest < limit - 1e-9  # a fall of just the threshold holds
    return *ours[:3], lowest, ours.diverged, collapsed


def _cell(line) -> str:
    lowest = "diverged" if line.diverged else f"{line.val_min:.2f}"
    return f"{lowest} [{line.n + line.diverged}]{' ×' if line.collapsed else ''}"


def _chosen(grid: pd.DataFrame, row: str) -> tuple[str, str]:
    picked, none = pick(grid, row), "none" if sum(grid["row"] == row) == len(GRID) else "open"
    return none if picked is None else f"{picked:g}", f"{paper.row(row).options['weight']:g}"
