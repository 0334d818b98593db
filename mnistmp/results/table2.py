"""Table 2 from the records, beside the paper's, as DataFrame, Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paper, paths, records
from mnistmp.errors import InputError
from mnistmp.paper import TABLE2, Row
from mnistmp.results import accuracy, markdown
from mnistmp.results.accuracy import CLOSE, DIFFERS, MARGIN, PAPER_RUNS, SAME, UNCLEAR, VERDICTS
from mnistmp.results.search import PRESET as SEARCH
from mnistmp.selection import EARLY_STOP

_STOPPED = {row.id for row in TABLE2 if row.selection == "early-stop"}
_COUNTED = {SAME: "the same", CLOSE: "close", DIFFERS: "differ", UNCLEAR: "unclear"}

COLUMNS = ("id", "label", "interpretation", "n", "val_mean", "val_std", "test_mean", "test_std", "paper_val_mean",
           "paper_val_std", "paper_test_mean", "paper_test_std", "difference", "ci_low", "ci_high", "verdict",
           "val_verdict", "diverged", "unreached", "epochs")  # fmt: skip


def table2(records: pd.DataFrame, rows: Sequence[Row] | None = None) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every row, beside the paper's numbers.

    Args:
        records: as of `records.load`; rows of the table without records get n = 0.
        rows: the table's rows, from top to bottom; None for `paper.all_rows()`.

    Returns:
        DataFrame with `COLUMNS`, accuracies in percent; n, `diverged`, `unreached` and our means and
        standard deviations are those of `accuracy.Summary`. `difference` is our test mean minus the
        paper's, `ci_low` and `ci_high` its 95 % interval (`accuracy.welch`), `verdict` what follows from it
        (`Difference.verdict`) and `val_verdict` the same of validation: "" where n < 2 and where the paper has no
        such row. Other digits than MNIST are not compared. `epochs` are the selected ones, from 1, by seed.
        `.attrs` holds the table's dataset, precision and protocol.

    Raises:
        InputError: runs that do not belong into one table or into one mean.
    """
    rows = paper.all_rows() if rows is None else rows
    used = records[records["row"].isin({row.training for row in rows})]
    attrs = {name: _only(used, name) for name in ("dataset", "precision", "protocol")}
    table = pd.DataFrame([_line(row, used, attrs["dataset"] == "mnist") for row in rows], columns=list(COLUMNS))
    table.attrs.update(attrs)
    return table


def side_by_side(preset: str, rows: Sequence[Row] | None = None, found: pd.DataFrame | None = None) -> pd.DataFrame:
    """`table2` of a preset's records, each row followed by itself as `paper.closest` has it, where recorded.

    Args:
        rows: as for `table2`.
        found: what `records.load` gave, where it has been read already.
    """
    rows = paper.all_rows() if rows is None else rows
    found = with_closest(preset, records.load(preset) if found is None else found)
    recorded = set(found["row"])
    pairs = ((row, paper.closest(row)) for row in rows)
    return table2(found, [one for pair in pairs for one in pair if one in rows or one and one.training in recorded])


def with_closest(preset: str, found: pd.DataFrame) -> pd.DataFrame:
    """Records of a preset with the runs of each row's `paper.closest`, some of which are recorded in the search."""
    if preset != "paper":
        return found
    searched = records.load(SEARCH)
    return pd.concat([found, searched[searched["row"].isin(_closest())]]).drop_duplicates(["row", "seed"])


def by_closest(preset: str, found: pd.DataFrame) -> pd.DataFrame:
    """`with_closest` in place of the rows' own runs, under their names, for comparisons between rows.

    Plain dropout stays: the rows with a regulariser rescale, and without that it would be compared with other masks.
    """
    found = with_closest(preset, found)
    others = {other: row for other, row in _closest().items() if other in set(found["row"]) and row != "dropout"}
    found = found[~found["row"].isin(others.values())]
    return found.assign(row=found["row"].replace(others))


def _closest() -> dict[str, str]:
    return {other.training: row.training for row in paper.TABLE2 if (other := paper.closest(row))}


def runs_of(row: Row, records: pd.DataFrame) -> pd.DataFrame:
    """The runs behind a row, by seed.

    Raises:
        InputError: they do not belong into one mean: within a row only the seed differs, and it is the method that
            the row's label names.
    """
    runs = records[records["row"] == row.training].sort_values("seed")
    twice = runs["seed"][runs["seed"].duplicated()]
    if len(twice):
        raise InputError(f"Row {row.id} has seed {twice.iloc[0]} twice; load one preset.")
    specs = list(runs["spec"])
    for spec in specs[1:]:
        for name, value in vars(spec).items():
            first = getattr(specs[0], name)
            if name != "seed" and value != first:
                raise InputError(
                    f"Row {row.id} mixes runs of {name} {first!r} (seed {specs[0].seed}) and {value!r} "
                    f"(seed {spec.seed}); give one of the two a row of its own."
                )
    promised = {"method": row.method, "colors": row.colors, **row.options}
    promised.pop("weight", None)  # the preset's to choose
    for spec in specs[:1]:
        actual = {"method": spec.method, "colors": spec.colors, **spec.options}
        for name, value in promised.items():
            if actual.get(name) != value:
                raise InputError(f"The records of row {row.id} have {name} {actual.get(name)!r} instead of {value!r}; "
                                 "they belong to another row.")  # fmt: skip
    return runs


def to_markdown(table: pd.DataFrame, preset: str) -> str:
    """The table with what one must know to read it, for a README or a terminal."""
    head = ("", "n", "validation, ours", "validation, paper", "verdict", "test, ours", "test, paper",
            "difference [95 % CI]", "verdict")  # fmt: skip
    rows = [(line["label"].replace("|", "\\|"), *_cells(line)) for line in table.to_dict("records")]
    shown = markdown.table(head, "lrrrlrrrl", rows)
    return "\n".join([f"**Table 2, preset {preset}**", "", *(f"- {s}" for s in _explain(table, preset)), "", shown, ""])


def to_latex(table: pd.DataFrame, preset: str) -> str:
    """The table as a `tabular`; it needs \\\\usepackage{booktabs}."""
    lines = [f"% {sentence}" for sentence in (f"Table 2, preset {preset}", *_explain(table, preset)) if sentence]
    lines += [
        r"\begin{tabular}{lrrrlrrrl}",
        r"\toprule",
        r" & & \multicolumn{3}{c}{validation (\%)} & \multicolumn{4}{c}{test (\%)} \\",
        r"\cmidrule(lr){3-5} \cmidrule(lr){6-9}",
        r" & $n$ & ours & paper & verdict & ours & paper & difference [95\,\% CI] & verdict \\",
        r"\midrule",
    ]
    for line in table.to_dict("records"):
        lines.append(" & ".join(map(markdown.tex, [line["label"], *_cells(line)])) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV: units in the column names, 12 significant digits, empty where there is nothing."""
    differences = {name: f"test_{name}" for name in ("difference", "ci_low", "ci_high")}
    counts = {"epochs": "selected_epochs", "diverged": "diverged_runs", "unreached": "unreached_95_percent_runs"}
    out = table.assign(epochs=[" ".join(map(str, epochs)) for epochs in table["epochs"]], **table.attrs)
    units = {"percent": COLUMNS[4:12], "percentage_points": differences.values()}
    return markdown.csv(out.rename(columns=differences | counts), units)


def write(table: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/table2.md`, `.csv` and `.tex`; the same table gives the same bytes."""
    texts = {"md": to_markdown(table, preset), "csv": to_csv(table), "tex": to_latex(table, preset)}
    return markdown.write(paths.results(preset), {f"table2.{kind}": text for kind, text in texts.items()})


def _line(row: Row, records: pd.DataFrame, comparable: bool) -> tuple:
    runs = runs_of(row, records)
    ours, published = accuracy.summary(runs, row.selection), accuracy.paper_summary(row.paper)
    # Other digits than the paper's have nothing to be subtracted from.
    test, val = (
        accuracy.welch(ours, published, split) if comparable else accuracy.Difference() for split in ("test", "val")
    )
    epochs = tuple(accuracy.selected(runs, row.selection)["epoch"])
    interpretation = row.id.partition("+")[2]  # "" where it is Table 2's own row
    return (row.id, row.label, interpretation, *ours[:5], *published[1:5], *test, test.verdict(),
            val.verdict(MARGIN["val"]), ours.diverged, ours.unreached, epochs)  # fmt: skip


def _only(runs: pd.DataFrame, column: str) -> str | int | None:
    found = sorted(set(runs[column]))
    if len(found) > 1:
        first = [runs.loc[runs[column] == value, "file"].iloc[0] for value in found[:2]]
        raise InputError(
            f"These records mix {column} {' and '.join(map(str, found))} (for example {first[0]} and {first[1]}); "
            "a table holds one only, so keep the others under another preset."
        )
    return found[0] if found else None


def _cells(line: dict) -> list[str]:
    # Validation differs in the second decimal, test in the first.
    unknown = "n < 2" if line["n"] == 1 else "not MNIST"
    unknown = "–" if math.isnan(line["paper_test_mean"]) or not line["n"] else unknown
    return [
        str(line["n"]),
        markdown.plus_minus(line["val_mean"], line["val_std"], 2, 3),
        markdown.published(line["paper_val_mean"], line["paper_val_std"]),
        line["val_verdict"] or unknown,
        markdown.plus_minus(line["test_mean"], line["test_std"]),
        markdown.published(line["paper_test_mean"], line["paper_test_std"]),
        markdown.interval(line["difference"], line["ci_low"], line["ci_high"]),
        line["verdict"] or unknown,
    ]


def _explain(table: pd.DataFrame, preset: str) -> list[str]:
    known = paper.PRESETS.get(preset)
    note = known.note if known else "runs of its own"
    sentences = [
        f"{note[0].upper()}{note[1:]}; precision {table.attrs.get('precision') or 'not known yet'}.",
        f"Accuracies in percent as mean ± standard deviation over n seeds (n - 1 in the denominator); n = "
        f"{markdown.span(table['n'])}.",
        f"The paper averages {PAPER_RUNS} runs and does not say which standard deviation it prints; "
        "it is taken for the same.",
        "Difference: our test mean minus the paper's, with its 95 % Welch interval. "
        f"{VERDICTS} For validation the margin is {MARGIN['val']:g}."
        if table.attrs.get("dataset") in (None, "mnist")
        else "Other digits than the paper's: nothing is subtracted.",
    ]
    for line in table.to_dict("records"):
        if line["diverged"]:
            total = line["n"] + line["diverged"]
            sentences.append(f"{line['id']}: {line['diverged']} of {total} runs diverged, "
                             "which leaves no accuracy to average.")  # fmt: skip
        if line["unreached"]:
            sentences.append(f"{line['id']}: {line['unreached']} of {line['n']} runs never reached {EARLY_STOP} % "
                             "validation accuracy; their best epoch counts.")  # fmt: skip
    first = table[[id in _STOPPED and set(epochs) == {1} for id, epochs in zip(table["id"], table["epochs"])]]
    if len(first):
        sentences.append(f"Stopped after the first epoch in every run, as validation is at {EARLY_STOP} % by then: "
                         f"{', '.join(first['label'])}.")  # fmt: skip
    return [*sentences, *conclusion(table)]


def conclusion(table: pd.DataFrame) -> list[str]:
    """How many rows have each verdict, and those that differ, the largest difference first, as sentences.

    Empty where fewer than two rows can be compared. For `side_by_side` also with the lines "→" in place of their rows.
    """
    own, other = table[table["interpretation"] == ""], table[table["interpretation"] != ""]
    said = _counted(own)
    if said and len(other):
        how = (
            "Lines →: the row above under another interpretation, which comes closest to the paper's numbers and was "
            "chosen after seeing them, test accuracy included. RCL's is one for all margins; dropout's is of the plain "
            "row alone, as with a regulariser the default is closer. With these lines in place of their rows:"
        )
        said += [how, *_counted(closest(table))]
    return said


def closest(table: pd.DataFrame) -> pd.DataFrame:
    """Of a `side_by_side` each line "→" in place of its row, whose id and label it gets, and the other rows."""
    ids = table["id"].str.partition("+")[0]
    labels = table[table["interpretation"] == ""].set_index("id")["label"]
    return table.assign(id=ids, label=ids.map(labels))[~ids.duplicated(keep="last")]


def tally(compared: pd.DataFrame) -> tuple[int, list[int], pd.DataFrame]:
    """Of rows with verdicts: how many have a mean within the margin of the paper's, how many are the same, close,
    differ and unclear, and those that differ, the largest difference first."""
    differ = compared[compared["verdict"] == DIFFERS].sort_values("difference", key=abs, ascending=False, kind="stable")
    counts = [sum(compared["verdict"] == verdict) for verdict in _COUNTED]
    return sum(compared["difference"].abs() <= MARGIN["test"]), counts, differ


def _counted(table: pd.DataFrame) -> list[str]:
    compared = table[table["paper_test_mean"].notna()]
    decided = compared[compared["verdict"] != ""]
    if len(compared) < 2 or decided.empty:
        return []
    near, numbers, differ = tally(decided)
    counts = ", ".join(f"{number} {word}" for number, word in zip(numbers, _COUNTED.values()))
    named = "; ".join(f"{label} {off:+.1f}" for label, off in zip(differ["label"], differ["difference"]))
    too_few = len(compared) - len(decided)
    return [
        f"Mean test accuracy is within {MARGIN['test']:g} points of the paper's in {near} of {len(compared)} rows. "
        f"By verdict: {counts}{f', {too_few} with too few runs' if too_few else ''}.",
        *([f"Rows that differ: {named}."] if named else []),
    ]
