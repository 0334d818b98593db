"""A row under other interpretations of what the paper leaves open, one option changed at a time."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import pandas as pd

from mnistmp import interpretations, paper, paths, records
from mnistmp.errors import InputError
from mnistmp.interpretations import RUN
from mnistmp.paper import Row
from mnistmp.results import accuracy, markdown
from mnistmp.results.accuracy import DIFFERS, VERDICTS, Difference
from mnistmp.spec import RunSpec

COLUMNS = ("row", "interpretation", "n", "val_mean", "val_std", "test_mean", "test_std", "difference", "ci_low",
           "ci_high", "paper_difference", "paper_ci_low", "paper_ci_high", "verdict", "diverged")  # fmt: skip
DEFAULT = "default, same seeds"
PAPER = "the paper's"


def specs(
    row: str, preset: str, seeds: str | None = None, options: str | None = None, precision: str | None = None
) -> list[RunSpec]:
    """The runs of an ablation: the row itself, then each variant, called like `dropout+layer=conv1`.

    Args:
        row: id of a row of Table 2 that is trained.
        preset, seeds, precision: as for `paper.plan`.
        options: names separated by commas, of the method's options or of `RUN`; None for all of the method's own.

    Raises:
        InputError: an unknown name, nothing to change, or a row that reads another's runs.
    """
    chosen = paper.row(row)
    if chosen.training != row:
        raise InputError(f"Row {row} is read from the runs of {chosen.training}; ablate that one.")
    known = _others(chosen)
    names = [name for name in known if name not in RUN]
    names = names if options is None else [name.strip() for name in options.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no open option of row {row}; choose from {', '.join(known)}.")
    if not names:
        raise InputError(
            f"The method of row {row} leaves nothing open; name options of the run with --options: {', '.join(RUN)}."
        )
    own = paper.plan(preset, row, seeds, precision)
    variants = [interpretations.name(row, {name: value}) for name in names for value in known[name]]
    return [paper.spec_for(one, spec.seed, preset, precision) for one in (row, *variants) for spec in own]


def table(preset: str, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """All recorded ablations of a preset, over those seeds that a variant and the row itself have.

    Args:
        found: what `records.load` gave, where it has been read already.

    Returns:
        DataFrame with `COLUMNS`, accuracies in percent: a line for the paper's numbers, for the default and for each
        variant of each row. A run that two rows of Table 2 read, at its best epoch and with early stopping, is
        shown for both. `difference` is the variant's mean test accuracy minus that of the default over the same
        seeds, `paper_difference` the same minus the paper's, each with Welch's 95 % interval, and `verdict` what
        follows from the latter (`Difference.verdict`); digits that are not MNIST are not compared with the paper.
    """
    found = records.load(preset) if found is None else found
    runs = dict(list(found.groupby("row")))
    comparable = (found["dataset"] == "mnist").all()
    lines = []
    for row in paper.all_rows():
        variants = _variants(row, runs)
        if not variants:
            continue
        own = runs.get(row.training, found[:0])
        shared = own["seed"].isin(set().union(*(group["seed"] for group in variants.values())))
        published = accuracy.paper_summary(row.paper)
        if comparable and row.paper:
            lines.append((row.id, PAPER, *published[:5], *Difference(), *Difference(), "", 0))
        for name, group in ({DEFAULT: own[shared]} | variants).items():
            ours = accuracy.summary(group[group["seed"].isin(own["seed"])], row.selection)
            default = accuracy.summary(own[own["seed"].isin(group["seed"])], row.selection)
            to_default = Difference() if name == DEFAULT else accuracy.welch(ours, default)
            to_paper = accuracy.welch(ours, published) if comparable else Difference()
            lines.append((row.id, name, *ours[:5], *to_default, *to_paper, to_paper.verdict(), ours.diverged))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def to_markdown(lines: pd.DataFrame, preset: str, *rows: str) -> str:
    """The ablations of these rows, or of all, with what one must know to read them."""
    if rows:
        lines = lines[lines["row"].map(lambda row: paper.row(row).training).isin(rows)]
        if lines.empty:
            commands = ", ".join(f"`{_command(row, preset)}`" for row in rows)
            return f"No other interpretation is recorded for preset {preset}; {commands} trains them."
    note = paper.preset(preset).note
    head = ("row", "interpretation", "n", "validation", "test", "to the default [95 % CI]", "to the paper [95 % CI]",
            "verdict")  # fmt: skip
    cells = (
        (line.row, line.interpretation + (f" ({line.diverged} diverged)" if line.diverged else ""), line.n,
         markdown.plus_minus(line.val_mean, line.val_std, 2), markdown.plus_minus(line.test_mean, line.test_std),
         markdown.interval(line.difference, line.ci_low, line.ci_high),
         _interval(line), line.verdict or "–")
        for line in lines.itertuples()
    )  # fmt: skip
    return "\n".join([
        f"**Other interpretations, preset {preset}**",
        "",
        f"{note[0].upper()}{note[1:]}. Accuracy in percent at the epoch that the row selects, mean ± standard "
        "deviation over n seeds. The defaults were fixed beforehand, on the paper's text and validation column; no "
        "default moves because another one is nearer to the paper's test column. Differences in test accuracy, "
        f"to the default over the same seeds and to the paper's mean, with their 95 % Welch intervals. {VERDICTS}",
        "",
        markdown.table(head, "llrrrrrl", cells),
        "",
    ])  # fmt: skip


def conclusions(lines: pd.DataFrame) -> str:
    """A table of the rows that are compared with the paper: the default over the same seeds, then all that does not
    differ from the paper, the nearest first, else the nearest alone; each with n, difference, interval and verdict."""
    decided = lines[lines["verdict"] != ""].sort_values("paper_difference", key=abs, kind="stable")
    cells = []
    for row in lines["row"].unique():
        group = decided[decided["row"] == row]
        default, others = group[group["interpretation"] == DEFAULT], group[group["interpretation"] != DEFAULT]
        if others.empty:
            continue
        kept = others[others["verdict"] != DIFFERS]
        kept = kept if len(kept) else others[:1]
        rest = len(others) - len(kept)
        shown = [
            (line.interpretation, line.n, _interval(line), line.verdict)
            for line in pd.concat([default, kept]).itertuples()
        ]
        shown += [(f"{rest} more", "", "", DIFFERS)] if rest else []
        cells += [(label, *line) for label, line in zip_longest([paper.row(row).label], shown, fillvalue="")]
    head = ("row", "interpretation", "n", "test, ours minus the paper's [95 % CI]", "verdict")
    return markdown.table(head, "llrrl", cells)


def write(lines: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/interpretations.md` and `.csv`; the same records give the same bytes."""
    texts = {"interpretations.md": to_markdown(lines, preset), "interpretations.csv": markdown.csv(lines, {})}
    return markdown.write(paths.results(preset), texts)


def _variants(row: Row, runs: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    # What is recorded of a row under another value: "option=value" -> its runs.
    names = {
        f"{option}={interpretations.word(value)}": interpretations.name(row.training, {option: value})
        for option, values in _others(row).items()
        for value in values
    }
    return {shown: runs[name] for shown, name in names.items() if name in runs}


def _others(row: Row) -> dict[str, list]:
    # Option -> the values with names that are not the row's own.
    spec = RunSpec(row=row.id, method=row.method, options=dict(row.options))
    own, named = vars(spec) | spec.options, interpretations.choices(row.method)
    return {option: [value for value in values if value != own[option]] for option, values in named.items()}


def _command(row: str, preset: str) -> str:
    # A method without options of its own can still be shown other images.
    own = set(_others(paper.row(row))) - set(RUN)
    return f"mnistmp ablate {row}{'' if own else ' --options image_size,input_range'} --preset {preset} --seeds 0-2"


def _interval(line) -> str:
    return markdown.interval(line.paper_difference, line.paper_ci_low, line.paper_ci_high)
