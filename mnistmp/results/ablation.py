"""`mnistmp ablate`: a row trained under the other readings of what the paper leaves open, one changed at a time."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pandas as pd

from mnistmp import methods, paper, paths, records
from mnistmp.results import calibration, intervals, table2
from mnistmp.sweep import study
from mnistmp.files import write_tables
from mnistmp.paper import Row
from mnistmp.results.readings import named, word
from mnistmp.spec import RunSpec

# Of the run rather than of the method: what may be asked for besides the method's own options.
RUN = {"image_size": (28, 32), "input_range": ("[-1,1]", "[0,1]"), "initialization": ("pytorch", "glorot", "he"),
       "last_batch": ("keep", "drop")}  # fmt: skip
COLUMNS = ("row", "reading", "n", "val_mean", "val_std", "test_mean", "test_std", "difference", "ci_low", "ci_high",
           "paper_difference", "paper_ci_low", "paper_ci_high", "diverged")  # fmt: skip
DEFAULT = "as in Table 2"
PAPER = "the paper's"


class AblationError(ValueError):
    """An ablation that cannot be: one sentence with what is wrong and what to do."""


def ablate(
    row: str,
    preset: str,
    seeds: str | None = None,
    options: str | None = None,
    *,
    jobs: int | None = None,
    precision: str | None = None,
    dry_run: bool = False,
    train: Callable[[Sequence[RunSpec], str, int | None], list[str]] = study.train,
) -> int:
    """Train what is missing of a row's ablation, then print and write all ablations that are recorded.

    Runs that `calibration` has recorded are taken over.

    Args:
        row, options: see `readings`.
        preset, seeds, precision: as for `paper.plan`.
        jobs, train: how to train, see `study.train`.
        dry_run: only say what would be trained.

    Returns:
        0; or 1 where a run could not be trained.

    Raises:
        ValueError: of our own kinds, before any work.
    """
    planned = specs(row, preset, seeds, options, paper.precision(preset, precision))
    if dry_run:
        return study.dry_run(planned, preset, jobs, calibration.PRESET)
    study.reuse(planned, calibration.PRESET, preset)
    problems = train(planned, preset, jobs)
    lines = table(preset)
    print(f"\n{to_markdown(lines, preset)}")
    print(f"Table:      {', '.join(str(path) for path in write(lines, preset))}")
    print("\n".join(f"  {problem}" for problem in problems))
    return 1 if problems else 0


def readings(row: str, options: str | None = None) -> list[tuple[str, object]]:
    """The other values of everything that has named ones: (option, value) for each.

    Args:
        row: id of a training of Table 2.
        options: names separated by commas, of the method's options or of `RUN`; None for all of the
            method's own.

    Raises:
        AblationError: an unknown name, or nothing to change.
    """
    known = _choices(paper.row(row))
    names = _own(known) if options is None else [name.strip() for name in options.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise AblationError(f"{unknown[0]!r} is no reading of row {row}; choose from {', '.join(known)}.")
    found = [(name, value) for name in names for value in known[name][1:]]
    if not found:
        run = ", ".join(RUN)
        raise AblationError(
            f"The method of row {row} has no readings of its own; name some of the run with --options: {run}."
        )
    return found


def specs(
    row: str, preset: str, seeds: str | None = None, options: str | None = None, precision: str | None = None
) -> list[RunSpec]:
    """The runs behind an ablation: the row itself, then each reading, called like `dropout+layer=conv1`."""
    changes = readings(row, options)
    if paper.row(row).training != row:
        raise AblationError(f"Row {row} is read from the runs of {paper.row(row).training}; ablate that one.")
    runs = paper.plan(preset, row, seeds, precision)
    planned = [*runs]
    for name, value in changes:
        for own in runs:
            change = {name: value} if name in RUN else {"options": {name: value}}
            planned.append(paper.spec_for(row, own.seed, preset, precision, row=named(row, name, value), **change))
    return planned


def table(preset: str, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """All recorded ablations of a preset, whose seeds the row itself has, too; with `COLUMNS`, in percent.

    A training that two rows of Table 2 read, at its best epoch and with early stopping, is shown for both.
    `difference` is the reading's mean test accuracy minus that of the default over the same seeds,
    `paper_difference` the same minus the paper's, each with Welch's 95 % interval. The paper's own numbers
    come first; digits that are not MNIST are not compared with them. `found` is what `records.load` gave,
    where it has been read already.
    """
    found = records.load(preset, strict=False) if found is None else found
    runs = dict(list(found.groupby("row")))
    comparable = (found["dataset"] == "mnist").all()
    nothing = (math.nan, math.nan, math.nan)
    lines = []
    for row in paper.TABLE2:
        readings = [(name, value) for name, values in _choices(row).items() for value in values[1:]]
        changed = {f"{name}={word(value)}": runs.get(named(row.training, name, value)) for name, value in readings}
        changed = {reading: group for reading, group in changed.items() if group is not None}
        if not changed:
            continue
        own = runs.get(row.training, found[:0])
        shared = own["seed"].isin(set().union(*(group["seed"] for group in changed.values())))
        default = _summary(row, own[shared])
        if comparable:
            lines.append((row.id, PAPER, table2.PAPER_RUNS, *row.paper, *nothing, *nothing, 0))
        summaries = {DEFAULT: default} | {name: _summary(row, group) for name, group in changed.items()}
        for reading, summary in summaries.items():
            to_default = nothing if reading == DEFAULT else _difference(summary, default)
            to_paper = _difference(summary, (table2.PAPER_RUNS, *row.paper)) if comparable else nothing
            lines.append((row.id, reading, *summary[:5], *to_default, *to_paper, summary[5]))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def to_markdown(lines: pd.DataFrame, preset: str, *rows: str) -> str:
    """The ablations of these trainings, or of all, with what one must know to read them."""
    if rows:
        lines = lines[lines["row"].map(lambda row: paper.row(row).training).isin(rows)]
        if lines.empty:
            commands = ", ".join(f"`{_command(row, preset)}`" for row in rows)
            return f"No other reading is recorded for preset {preset}; {commands} trains them."
    note = paper.preset(preset).note
    text = [
        f"**Other readings, preset {preset}**",
        "",
        f"{note[0].upper()}{note[1:]}. Accuracy in percent at the epoch that the row selects, mean ± standard "
        "deviation over n seeds. The defaults were fixed beforehand, on the paper's text and validation column; no "
        "default moves because another reading is nearer to the paper's test column. Differences in test accuracy, "
        "to the default over the same seeds and to the paper's mean, with their 95 % Welch intervals.",
        "",
        conclusions(lines),
        "",
        "| row | reading | n | validation | test | to the default [95 % CI] | to the paper [95 % CI] |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for line in lines.itertuples(index=False):
        diverged = f" ({line.diverged} diverged)" if line.diverged else ""
        cells = [line.row, f"{line.reading}{diverged}", str(line.n), _shown(line.val_mean, line.val_std, 2),
                 _shown(line.test_mean, line.test_std, 1), intervals.shown(line.difference, line.ci_low, line.ci_high),
                 intervals.shown(line.paper_difference, line.paper_ci_low, line.paper_ci_high)]  # fmt: skip
        text.append(f"| {' | '.join(cells)} |")
    return "\n".join([*text, ""])


def conclusions(lines: pd.DataFrame) -> str:
    """A line per row that is compared with the paper: which other readings agree, the nearest first. For the README.

    Each comes with its difference and interval: with few seeds that can be so wide that agreeing says little.
    The default's own verdict is that of Table 2, over all its seeds.
    """
    decided = lines[lines["paper_ci_low"].notna() & (lines["reading"] != DEFAULT)]
    sentences = []
    for row, group in decided.groupby("row", sort=False):
        nearest = group.sort_values("paper_difference", key=abs, kind="stable")
        agrees = nearest[(nearest["paper_ci_low"] <= 0) & (0 <= nearest["paper_ci_high"])]
        count = f"{len(agrees)} of {len(group)} other readings {'agrees' if len(agrees) == 1 else 'agree'}"
        named = ": " if len(agrees) else "; the nearest is "
        named += ", ".join(
            f"{line.reading} {intervals.shown(line.paper_difference, line.paper_ci_low, line.paper_ci_high)}"
            for line in (agrees if len(agrees) else nearest[:1]).itertuples(index=False)
        )
        sentences.append(f"- {paper.row(row).label}: {count} with the paper's test accuracy{named}.")
    return "\n".join(sentences)


def write(lines: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/readings.md` and `.csv`; the same records give the same bytes.

    Raises:
        AblationError: they cannot be written.
    """
    csv = lines.to_csv(index=False, float_format="%.12g", lineterminator="\n")
    folder = paths.results(preset)
    text = to_markdown(lines, preset)
    return write_tables({folder / "readings.md": text, folder / "readings.csv": csv}, AblationError)


def _choices(row: Row) -> dict[str, list]:
    """Everything with named values that the row's method or the run has: the row's own value first."""
    cls = methods.get(row.method)
    hints = get_type_hints(cls.__init__)
    choices: dict[str, list] = {}
    for name, parameter in list(inspect.signature(cls.__init__).parameters.items())[2:]:
        values = (
            get_args(hints[name])
            if get_origin(hints[name]) is Literal
            else (True, False)
            if hints[name] is bool
            else ()
        )
        own = row.options.get(name, parameter.default)
        if values:
            choices[name] = [own, *(value for value in values if value != own)]
    return choices | {name: list(values) for name, values in RUN.items()}


def _own(choices: dict[str, list]) -> list[str]:
    """Of what `_choices` gives, the names of the method's own options."""
    return [name for name in choices if name not in RUN]


def _summary(row: Row, runs: pd.DataFrame) -> tuple:
    """n, validation mean and standard deviation, test mean and standard deviation, number of diverged runs."""
    chosen = table2.selected(row, runs)
    val, test = ([run[place] for run in chosen] for place in (1, 2))
    return len(chosen), *table2.mean_std(val), *table2.mean_std(test), len(runs) - len(chosen)


def _difference(summary: tuple, reference: tuple) -> tuple[float, float, float]:
    """Of the mean test accuracies, with its interval; both as n, validation mean and std, test mean and std."""
    (n, _, _, mean, std), (others, _, _, other_mean, other_std) = summary[:5], reference[:5]
    return intervals.welch(mean, std, n, other_mean, other_std, others)


def _command(row: str, preset: str) -> str:
    # A method without readings of its own can still be shown other images.
    options = "" if _own(_choices(paper.row(row))) else " --options image_size,input_range"
    return f"mnistmp ablate {row}{options} --preset {preset} --seeds 0-2"


def _shown(mean: float, std: float, decimals: int) -> str:
    if math.isnan(mean):
        return "–"
    return f"{mean:.{decimals}f}" + ("" if math.isnan(std) else f" ± {std:.{decimals}f}")
