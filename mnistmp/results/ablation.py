"""A row under other interpretations of what the paper leaves open, one option changed at a time."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mnistmp import paper, paths, records
from mnistmp.errors import InputError
from mnistmp.paper import Row
from mnistmp.results import accuracy, markdown
from mnistmp.results.accuracy import Difference
from mnistmp.results.interpretations import RUN, choices, named, variant, word
from mnistmp.spec import RunSpec

COLUMNS = ("row", "reading", "n", "val_mean", "val_std", "test_mean", "test_std", "difference", "ci_low", "ci_high",
           "paper_difference", "paper_ci_low", "paper_ci_high", "diverged")  # fmt: skip
DEFAULT = "as in Table 2"
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
    known = choices(chosen)
    names = [name for name in known if name not in RUN]
    names = names if options is None else [name.strip() for name in options.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no open option of row {row}; choose from {', '.join(known)}.")
    if not names:
        raise InputError(
            f"The method of row {row} leaves nothing open; name options of the run with --options: {', '.join(RUN)}."
        )
    runs = paper.plan(preset, row, seeds, precision)
    changes = [{name: value} for name in names for value in known[name][1:]]
    return runs + [variant(row, own.seed, preset, precision, **change) for change in changes for own in runs]


def table(preset: str, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """All recorded ablations of a preset, over those seeds that a variant and the row itself have.

    Args:
        found: what `records.load` gave, where it has been read already.

    Returns:
        DataFrame with `COLUMNS`, accuracies in percent: a line for the paper's numbers, for the default and for each
        variant of each row. A run that two rows of Table 2 read, at its best epoch and with early stopping, is
        shown for both. `difference` is the variant's mean test accuracy minus that of the default,
        `paper_difference` the same minus the paper's, each with Welch's 95 % interval; digits that are not MNIST
        are not compared with the paper.
    """
    found = records.load(preset, strict=False) if found is None else found
    runs = dict(list(found.groupby("row")))
    comparable = (found["dataset"] == "mnist").all()
    lines = []
    for row in paper.TABLE2:
        variants = _variants(row, runs)
        if not variants:
            continue
        own = runs.get(row.training, found[:0])
        shared = own["seed"].isin(set().union(*(group["seed"] for group in variants.values())))
        default, published = accuracy.summary(own[shared], row.selection), accuracy.paper_summary(row.paper)
        if comparable:
            lines.append((row.id, PAPER, *published[:5], *Difference(), *Difference(), 0))
        summaries = {name: accuracy.summary(group, row.selection) for name, group in variants.items()}
        for name, ours in ({DEFAULT: default} | summaries).items():
            to_default = Difference() if name == DEFAULT else accuracy.welch(ours, default)
            to_paper = accuracy.welch(ours, published) if comparable else Difference()
            lines.append((row.id, name, *ours[:5], *to_default, *to_paper, ours.diverged))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def to_markdown(lines: pd.DataFrame, preset: str, *rows: str) -> str:
    """The ablations of these rows, or of all, with what one must know to read them."""
    if rows:
        lines = lines[lines["row"].map(lambda row: paper.row(row).training).isin(rows)]
        if lines.empty:
            commands = ", ".join(f"`{_command(row, preset)}`" for row in rows)
            return f"No other reading is recorded for preset {preset}; {commands} trains them."
    note = paper.preset(preset).note
    head = ("row", "reading", "n", "validation", "test", "to the default [95 % CI]", "to the paper [95 % CI]")
    cells = (
        (line.row, line.reading + (f" ({line.diverged} diverged)" if line.diverged else ""), line.n,
         markdown.plus_minus(line.val_mean, line.val_std, 2), markdown.plus_minus(line.test_mean, line.test_std),
         markdown.interval(line.difference, line.ci_low, line.ci_high),
         markdown.interval(line.paper_difference, line.paper_ci_low, line.paper_ci_high))
        for line in lines.itertuples()
    )  # fmt: skip
    return "\n".join([
        f"**Other readings, preset {preset}**",
        "",
        f"{note[0].upper()}{note[1:]}. Accuracy in percent at the epoch that the row selects, mean ± standard "
        "deviation over n seeds. The defaults were fixed beforehand, on the paper's text and validation column; no "
        "default moves because another reading is nearer to the paper's test column. Differences in test accuracy, "
        "to the default over the same seeds and to the paper's mean, with their 95 % Welch intervals.",
        "",
        conclusions(lines),
        "",
        markdown.table(head, "llrrrrr", cells),
        "",
    ])  # fmt: skip


def conclusions(lines: pd.DataFrame) -> str:
    """A line per row that is compared with the paper: which variants agree, the nearest first. For the README.

    Each comes with its difference and interval: with few seeds that can be so wide that agreeing says little.
    The default's own verdict is that of Table 2, over all its seeds.
    """
    decided = lines[lines["paper_ci_low"].notna() & (lines["reading"] != DEFAULT)]
    sentences = []
    for row, group in decided.groupby("row", sort=False):
        nearest = group.sort_values("paper_difference", key=abs, kind="stable")
        agrees = nearest[(nearest["paper_ci_low"] <= 0) & (0 <= nearest["paper_ci_high"])]
        count = f"{len(agrees)} of {len(group)} other readings {'agrees' if len(agrees) == 1 else 'agree'}"
        shown = ", ".join(
            f"{line.reading} {markdown.interval(line.paper_difference, line.paper_ci_low, line.paper_ci_high)}"
            for line in (agrees if len(agrees) else nearest[:1]).itertuples()
        )
        joined = ": " if len(agrees) else "; the nearest is "
        sentences.append(f"- {paper.row(row).label}: {count} with the paper's test accuracy{joined}{shown}.")
    return "\n".join(sentences)


def write(lines: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/readings.md` and `.csv`; the same records give the same bytes.

    Raises:
        InputError: they cannot be written.
    """
    texts = {"readings.md": to_markdown(lines, preset), "readings.csv": markdown.csv(lines, {})}
    return markdown.write(paths.results(preset), texts)


def _variants(row: Row, runs: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    # What is recorded of a row under another value: "option=value" -> its runs.
    names = {
        f"{option}={word(value)}": named(row.training, option, value)
        for option, values in choices(row).items()
        for value in values[1:]
    }
    return {shown: runs[name] for shown, name in names.items() if name in runs}


def _command(row: str, preset: str) -> str:
    # A method without options of its own can still be shown other images.
    own = set(choices(paper.row(row))) - set(RUN)
    return f"mnistmp ablate {row}{'' if own else ' --options image_size,input_range'} --preset {preset} --seeds 0-2"
