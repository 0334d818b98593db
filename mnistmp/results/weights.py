"""The weight of a method's extra term: the largest that does not collapse validation, the paper's rule (Sec. 5.1)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paper, paths, records
from mnistmp.sweep import study
from mnistmp.files import write_tables
from mnistmp.paper import Row
from mnistmp.records import RunRecord
from mnistmp.selection import select
from mnistmp.spec import RunSpec

GRID = (0.001, 0.01, 0.1, 1.0, 5.0, 10.0)  # "(0.001, 0.01, 0.1, 1, 5, 10)", Sec. 5.1

# Percentage points of validation accuracy below standard training at which a run has collapsed. The
# paper names no number. It accepts RCL without limit at weight 1, with 96.0 against 99.8 of standard
# training: a fall of 3.8, with a standard deviation of 0.3, is no collapse. And it takes a network for
# trained at 95 %, 4.8 below, since there its early stopping stops. 5 is the round number just above both.
THRESHOLD = 5.0

COLUMNS = ("weight", "n", "val_mean", "val_std", "val_min", "diverged", "collapsed", "picked", "paper")


class WeightError(ValueError):
    """A weight that cannot be selected: one sentence with what is wrong and what to do."""


def select_weight(
    name: str,
    preset: str,
    seeds: str | None = None,
    threshold: float = THRESHOLD,
    *,
    jobs: int | None = None,
    precision: str | None = None,
    dry_run: bool = False,
    train: Callable[[Sequence[RunSpec], str, int | None], list[str]] = study.train,
) -> int:
    """Train what is missing of the grid, apply the rule, print it and write it down.

    Args:
        name: a method, or a row's id, see `weighted_row`.
        preset, seeds, precision: as for `paper.plan`.
        threshold: see `table`.
        jobs, train: how to train, see `study.train`.
        dry_run: only say what would be trained.

    Returns:
        0; or 1 where a run of the grid could not be trained, as the rule needs all of them.

    Raises:
        ValueError: of our own kinds, before any work.
    """
    row = weighted_row(name)
    _check_threshold(threshold)
    planned = specs(name, preset, seeds, paper.precision(preset, precision))
    if dry_run:
        return study.dry_run(planned, preset, jobs)
    problems = train(planned, preset, jobs)
    found = [records.find(spec, preset) for spec in planned]
    if None in found:
        print(f"{found.count(None)} of {len(found)} trainings are missing: none is picked; the same command goes on.")
        print("\n".join(f"  {problem}" for problem in problems))
        return 1
    grid = table(found, threshold, row.options["weight"])
    text = to_markdown(grid, row, found)
    print(f"\n{text}")
    print(f"Table:      {', '.join(str(path) for path in write(grid, text, row, preset))}")
    return 0


def weighted_row(name: str) -> Row:
    """The row behind the name of a method that has a weight, or behind a row's own id.

    RCL's weight is selected without limit on the margin, where the loss acts most; as in the
    paper, it then serves all margins.

    Raises:
        WeightError: a name without a weight, with those that have one.
    """
    rows = [row for row in paper.trainings() if "weight" in row.options]
    for row in rows:
        if name == row.id or (name == row.method and row.options.get("margin", math.inf) == math.inf):
            return row
    raise WeightError(f"{name!r} has no weight; choose one of {', '.join(dict.fromkeys(row.method for row in rows))}.")


def specs(name: str, preset: str, seeds: str | None = None, precision: str | None = None) -> list[RunSpec]:
    """The runs behind a selection: standard training, then the grid.

    The weight that the preset already gives the row is that row's own run, trained once for both.
    The others are called like `rcl-inf+weight=5`: no table takes them for the row.
    """
    row = weighted_row(name).id
    planned = paper.plan(preset, "standard", seeds, precision)
    for weight in GRID:
        for own in paper.plan(preset, row, seeds, precision):
            changes = {"row": f"{row}+weight={weight:g}", "options": {"weight": weight}}
            same = own.options["weight"] == weight
            planned.append(own if same else paper.spec_for(row, own.seed, preset, precision, **changes))
    return planned


def recorded(name: str, preset: str, seeds: str | None = None) -> list[RunRecord]:
    """The records of those seeds that have all of `specs`: every line of their table is of the same seeds."""
    planned = specs(name, preset, seeds, paper.precision(preset))
    found = [records.find(spec, preset) for spec in planned]
    partial = {spec.seed for spec, record in zip(planned, found) if record is None}
    return [record for record in found if record and record.spec.seed not in partial]


def summary(name: str, preset: str) -> str:
    """What `select_weight` printed, where a whole grid is recorded; else how to record it. For notebooks."""
    row = weighted_row(name)
    found = recorded(name, preset)
    if not found:
        command = f"mnistmp select-weights {_title(row)} --preset {preset} --seeds 0"
        return f"Not all of the grid is recorded for preset {preset}; `{command}` trains it."
    return to_markdown(table(found, paper=row.options["weight"]), row, found)


def runs(found: Sequence[RunRecord]) -> pd.DataFrame:
    """A row per run: method, weight (NaN for standard training), seed, val_accuracy at its best epoch.

    val_accuracy is in percent, NaN where the run diverged. Test accuracy takes no part.
    """
    lines = []
    for record in found:
        accuracy = math.nan
        if record.status == "done":
            counts = [epoch["val_correct"] for epoch in record.history]
            accuracy = 100 * counts[select(counts, record.val_total)] / record.val_total
        lines.append((record.spec.method, record.spec.options.get("weight", math.nan), record.spec.seed, accuracy))
    return pd.DataFrame(lines, columns=["method", "weight", "seed", "val_accuracy"])


def table(found: Sequence[RunRecord], threshold: float = THRESHOLD, paper: float | None = None) -> pd.DataFrame:
    """What the rule sees, and what it picks.

    Args:
        found: records of standard training and of one method at several weights.
        threshold: percentage points below standard training; a weight has collapsed where any of
            its runs diverged or ends lower than that.
        paper: the paper's weight.

    Returns:
        DataFrame with `COLUMNS`, a line per weight, validation accuracies in percent: mean, sample
        standard deviation (NaN for n < 2) and lowest of the n runs that did not diverge.
        `.attrs` holds `reference`, the mean of standard training, and `threshold`.

    Raises:
        WeightError: a threshold that is none, or no run of standard training to compare with.
    """
    _check_threshold(threshold)
    measured = runs(found)
    standard = measured["method"] == "standard"
    reference = float(measured["val_accuracy"][standard].mean())
    if not math.isfinite(reference):
        raise WeightError("No finished run of standard training to compare with is there; train the row standard.")
    lines = []
    for weight, group in measured[~standard].groupby("weight"):
        val = group["val_accuracy"].dropna()
        diverged = len(group) - len(val)
        collapsed = bool(diverged or reference - val.min() > threshold + 1e-9)  # a fall of just the threshold holds
        lines.append((weight, len(val), val.mean(), val.std(), val.min(), diverged, collapsed, False, weight == paper))
    grid = pd.DataFrame(lines, columns=list(COLUMNS))
    grid["picked"] = grid["weight"] == pick(grid)
    grid.attrs.update(reference=reference, threshold=float(threshold))
    return grid


def pick(grid: pd.DataFrame) -> float | None:
    """The weight by Sec. 5.1, "the largest value that does not lead to a collapse"; None if all of a `table` do."""
    held = grid.loc[~grid["collapsed"].astype(bool), "weight"]
    return float(held.max()) if len(held) else None


def collapsed_below(grid: pd.DataFrame) -> list[float]:
    """Weights smaller than the picked one that collapse. The rule, taken literally, does not mind them."""
    picked = pick(grid)
    return [] if picked is None else grid.loc[grid["collapsed"] & (grid["weight"] < picked), "weight"].tolist()


def to_markdown(grid: pd.DataFrame, row: Row, found: Sequence[RunRecord]) -> str:
    """The table with what one must know to read it. `found` are the records it was made from."""
    spec, seeds = found[0].spec, sorted({record.spec.seed for record in found})
    reference, threshold = grid.attrs["reference"], grid.attrs["threshold"]
    digits = "real MNIST" if spec.dataset == "mnist" else "scikit-learn's digits, not MNIST"
    lines = [
        f"**Weight of {_title(row)}**",
        "",
        f"Trained as row {row.id} on {digits}: {spec.epochs} epochs, {spec.precision}, "
        f"seeds {', '.join(map(str, seeds))}.",
        "Validation accuracy in percent at the best epoch, mean ± standard deviation over n runs; "
        "test accuracy takes no part.",
        f"Collapsed: a run diverged or ended more than {threshold:g} points below standard training ({reference:.2f}).",
        _verdict(grid, row),
        "",
        "| weight | n | validation | lowest | diverged | collapsed | picked | paper's |",
        "|---:|---:|---:|---:|---:|---|---|---|",
    ]
    for line in grid.itertuples():
        mean = f"{line.val_mean:.2f}" if line.n else "–"
        std = f" ± {line.val_std:.2f}" if line.n > 1 else ""
        marks = ["yes" if mark else "" for mark in (line.collapsed, line.picked, line.paper)]
        lowest = f"{line.val_min:.2f}" if line.n else "–"
        lines.append(f"| {line.weight:g} | {line.n} | {mean}{std} | {lowest} | {line.diverged} | {' | '.join(marks)} |")
    return "\n".join([*lines, ""])


def write(grid: pd.DataFrame, text: str, row: Row, preset: str) -> list[Path]:
    """Write the Markdown and a CSV under `results/<preset>/weights/`; the same table gives the same bytes.

    Raises:
        WeightError: they cannot be written.
    """
    units = {name: f"{name}_percent" for name in ("val_mean", "val_std", "val_min")}
    csv = grid.rename(columns=units).to_csv(index=False, float_format="%.12g", lineterminator="\n")
    folder = paths.results(preset) / "weights"
    return write_tables({folder / f"{_title(row)}.md": text, folder / f"{_title(row)}.csv": csv}, WeightError)


def _check_threshold(threshold: float) -> None:
    if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not 0 <= threshold < 100:
        raise WeightError(f"threshold is {threshold!r}; give percentage points from 0 to below 100.")


def _title(row: Row) -> str:
    return row.method if weighted_row(row.method) == row else row.id


def _verdict(grid: pd.DataFrame, row: Row) -> str:
    picked, below, paper = pick(grid), collapsed_below(grid), f"the paper has {row.options['weight']:g}"
    if picked is None:
        return f"Every weight collapses: none is picked; {paper}."
    last = picked == grid["weight"].max()
    largest = " It is the largest of the grid, which therefore sets no upper bound." if last else ""
    if below:
        smaller = f"; smaller ones collapse all the same: {', '.join(f'{weight:g}' for weight in below)}"
    else:
        smaller = ", and so do all smaller ones"
    return f"Picked: {picked:g}, the largest weight that holds{smaller}; {paper}.{largest}"
