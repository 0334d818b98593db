"""The weight of a method's extra term: the largest that does not collapse validation, the paper's rule (Sec. 5.1)."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd

from mnistmp import interpretations, paper, paths, records
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

COLUMNS = ("weight", "n", "val_mean", "val_std", "val_min", "diverged", "collapsed", "picked", "paper")


def weighted_row(name: str) -> Row:
    """The row behind the name of a method that has a weight, or behind a row's own id, such as
    "rcl-m0.9+condition=batch".

    RCL's weight is selected without limit on the margin, where the loss acts most; as in the
    paper, it then serves all margins.

    Raises:
        InputError: a name without a weight, with those that have one.
    """
    own_id, plus, changes = name.partition("+")
    rows = [row for row in paper.trainings() if "weight" in row.options]
    for row in rows:
        if own_id == row.id or (own_id == row.method and row.options.get("margin", math.inf) == math.inf):
            return paper.row(row.id + plus + changes)
    raise InputError(f"{name!r} has no weight; choose one of {', '.join(dict.fromkeys(row.method for row in rows))}.")


def specs(name: str, preset: str, seeds: str | None = None, precision: str | None = None) -> list[RunSpec]:
    """The runs behind a selection: standard training, then the grid.

    The weight that the preset already gives the row is that row's own run, trained once for both.
    The others are called like `rcl-inf+weight=5`: no table takes them for the row.
    """
    row = weighted_row(name).id
    standard = paper.plan(preset, "standard", seeds, precision)
    own = paper.spec_for(row, 0, preset).options["weight"]
    rows = [row if weight == own else interpretations.name(row, {"weight": weight}) for weight in GRID]
    return standard + [paper.spec_for(one, s.seed, preset, precision) for one in rows for s in standard]


def recorded(name: str, preset: str) -> pd.DataFrame:
    """The records of those seeds that have all of `specs`: every line of their table is of the same seeds."""
    rows = {spec.row for spec in specs(name, preset, "0")}
    found = records.load(preset)
    found = found[found["row"].isin(rows)]
    return found[found.groupby("seed")["row"].transform("nunique") == len(rows)]


def runs(found: pd.DataFrame) -> pd.DataFrame:
    """A line per run: method, weight (NaN for standard training), seed, val_accuracy at its best epoch.

    val_accuracy is in percent, NaN where the run diverged. Test accuracy takes no part.
    """
    lines = [
        (run["method"].iloc[0], run["options"].iloc[0].get("weight", math.nan), seed, accuracy.summary(run).val_mean)
        for (_, seed), run in found.groupby(["row", "seed"])
    ]
    columns = ["method", "weight", "seed", "val_accuracy"]
    return pd.DataFrame(lines, columns=columns).sort_values(["weight", "seed"], na_position="first", ignore_index=True)


def table(found: pd.DataFrame, threshold: float = THRESHOLD) -> pd.DataFrame:
    """What the rule sees, and what it picks.

    Args:
        found: records, as of `recorded`, of standard training and of one row at several weights.
        threshold: percentage points below standard training; a weight has collapsed where any of
            its runs diverged or ends lower than that.

    Returns:
        DataFrame with `COLUMNS`, a line per weight, validation accuracies in percent: mean, sample
        standard deviation (NaN for n < 2) and lowest of the n runs that did not diverge.
        `.attrs` holds `reference`, the mean of standard training, `threshold`, and what was trained.

    Raises:
        InputError: a threshold that is none, or no run of standard training to compare with.
    """
    check_threshold(threshold)
    standard = found["method"] == "standard"
    reference = accuracy.summary(found[standard]).val_mean
    if math.isnan(reference):
        raise InputError("No finished run of standard training to compare with is there; train the row standard.")
    spec = found[~standard]["spec"].iloc[0]
    row = paper.row(re.sub(r"\+weight=[^+]*", "", spec.row))
    lines = []
    for weight, group in found[~standard].groupby(found["options"].map(lambda options: options.get("weight"))):
        ours, lowest = accuracy.summary(group), float(accuracy.selected(group)["val"].min())
        collapsed = bool(ours.diverged) or reference - lowest > threshold + 1e-9  # a fall of just the threshold holds
        lines.append((weight, ours.n, ours.val_mean, ours.val_std, lowest, ours.diverged, collapsed, False,
                      weight == row.options["weight"]))  # fmt: skip
    grid = pd.DataFrame(lines, columns=list(COLUMNS))
    grid["picked"] = grid["weight"] == pick(grid)
    seeds = sorted(int(seed) for seed in set(found["seed"]))
    grid.attrs.update(reference=reference, threshold=float(threshold), row=row.id, seeds=seeds,
                      **{name: getattr(spec, name) for name in ("dataset", "epochs", "precision")})  # fmt: skip
    return grid


def pick(grid: pd.DataFrame) -> float | None:
    """The weight by Sec. 5.1, "the largest value that does not lead to a collapse"; None if all of a `table` do."""
    held = grid.loc[~grid["collapsed"].astype(bool), "weight"]
    return float(held.max()) if len(held) else None


def summary(name: str, preset: str) -> str:
    """`to_markdown` where a whole grid is recorded; else how to record it. For notebooks."""
    found = recorded(name, preset)
    if found.empty:
        command = f"mnistmp select-weights {_title(weighted_row(name))} --preset {preset} --seeds 0"
        return f"Not all of the grid is recorded for preset {preset}; `{command}` trains it."
    return to_markdown(table(found))


def to_markdown(grid: pd.DataFrame) -> str:
    """The table with what one must know to read it."""
    attrs, row = grid.attrs, paper.row(grid.attrs["row"])
    digits = "real MNIST" if attrs["dataset"] == "mnist" else "scikit-learn's digits, not MNIST"
    rows = []
    for line in grid.itertuples():
        marks = " | ".join("yes" if mark else "" for mark in (line.collapsed, line.picked, line.paper))
        lowest = markdown.plus_minus(line.val_min, math.nan, 2)
        mean = markdown.plus_minus(line.val_mean, line.val_std, 2)
        rows.append((f"{line.weight:g}", line.n, mean, lowest, line.diverged, marks))
    head = ("weight", "n", "validation", "lowest", "diverged", "collapsed", "picked", "paper's")
    return "\n".join([
        f"**Weight of {_title(row)}**",
        "",
        f"Trained as row {row.id} on {digits}: {attrs['epochs']} epochs, {attrs['precision']}, "
        f"seeds {', '.join(map(str, attrs['seeds']))}.",
        "Validation accuracy in percent at the best epoch, mean ± standard deviation over n runs; "
        "test accuracy takes no part.",
        f"Collapsed: a run diverged or ended more than {attrs['threshold']:g} points below standard training "
        f"({attrs['reference']:.2f}).",
        _verdict(grid, row),
        "",
        markdown.table(head, "rrrrrlll", rows),
        "",
    ])  # fmt: skip


def write(grid: pd.DataFrame, preset: str) -> list[Path]:
    """Write the Markdown and a CSV under `results/<preset>/weights/`; the same table gives the same bytes."""
    title = _title(paper.row(grid.attrs["row"]))
    csv = markdown.csv(grid, {"percent": ["val_mean", "val_std", "val_min"]})
    return markdown.write(paths.results(preset) / "weights", {f"{title}.md": to_markdown(grid), f"{title}.csv": csv})


def check_threshold(threshold: float) -> None:
    """Raises InputError unless it is a number of percentage points from 0 to below 100."""
    require(0 <= threshold < 100, "threshold", threshold, "give percentage points from 0 to below 100")


def _title(row: Row) -> str:
    return row.method if weighted_row(row.method) == row else row.id


def _verdict(grid: pd.DataFrame, row: Row) -> str:
    picked, published = pick(grid), f"the paper has {row.options['weight']:g}"
    if picked is None:
        return f"Every weight collapses: none is picked; {published}."
    last = picked == grid["weight"].max()
    largest = " It is the largest of the grid, which therefore sets no upper bound." if last else ""
    below = grid.loc[grid["collapsed"] & (grid["weight"] < picked), "weight"]
    if len(below):  # which the rule, taken literally, does not mind
        smaller = f"; smaller ones collapse all the same: {', '.join(f'{weight:g}' for weight in below)}"
    else:
        smaller = ", and so do all smaller ones"
    return f"Picked: {picked:g}, the largest weight that holds{smaller}; {published}.{largest}"
