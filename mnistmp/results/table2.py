"""Table 2 from the records, beside the paper's, as DataFrame, Markdown, CSV and LaTeX."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from statistics import mean, stdev

import pandas as pd

from mnistmp import paper, paths
from mnistmp.results import intervals
from mnistmp.files import write_tables
from mnistmp.paper import TABLE2, Row
from mnistmp.selection import EARLY_STOP, select

PAPER_RUNS = 10  # "averaged over 10 runs", Sec. 5.1
COLUMNS = ("id", "label", "n", "val_mean", "val_std", "test_mean", "test_std", "paper_val_mean", "paper_val_std",
           "paper_test_mean", "paper_test_std", "difference", "ci_low", "ci_high", "agrees", "diverged", "unreached",
           "epochs")  # fmt: skip


class ReportError(ValueError):
    """Records that make no table together, or a table that cannot be written; one sentence."""


def table2(records: pd.DataFrame, rows: Sequence[Row] = TABLE2) -> pd.DataFrame:
    """Mean and standard deviation over seeds of every row, beside the paper's numbers.

    Args:
        records: as of `records.load`; rows of the table without records get n = 0.
        rows: the table's rows, from top to bottom; TABLE2 + (my_row,) adds one.

    Returns:
        DataFrame with `COLUMNS`, accuracies in percent. n counts the runs that are averaged:
        finished ones; `diverged` ones have no accuracy. Standard deviations are those of a
        sample (n - 1), NaN for n < 2. `difference` is our test mean minus the paper's, `ci_low`
        and `ci_high` its 95 % interval (`intervals.welch`), `agrees` whether that contains 0:
        None where n < 2 and where the paper has no such row. For digits that are not MNIST all
        four are left out.
        `unreached` counts the runs of an early-stopping row that never got to 95 % and count
        with their best epoch; `epochs` are the selected ones, from 1, by seed.
        `.attrs` holds the table's dataset, precision and protocol.

    Raises:
        ReportError: runs that do not belong into one table or into one mean.
    """
    used = records[records["row"].isin({row.training for row in rows})]
    attrs = {name: _only(used, name) for name in ("dataset", "precision", "protocol")}
    runs = {row: group.sort_values("seed") for row, group in used.groupby("row", sort=False)}
    lines = [_line(row, runs.get(row.training, used[:0]), attrs["dataset"] == "mnist") for row in rows]
    table = pd.DataFrame(lines, columns=list(COLUMNS)).astype({"agrees": object})
    table.attrs.update(attrs)
    return table


def to_markdown(table: pd.DataFrame, preset: str) -> str:
    """The table with what one must know to read it, for a README or a terminal."""
    rows = [
        "| | n | validation | paper | test | paper | difference [95 % CI] | verdict |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for line in table.to_dict("records"):
        cells = [line["label"].replace("|", "\\|"), *_cells(line)]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"**Table 2, preset {preset}**", "", *_explain(table, preset), "", *rows, ""])


def to_latex(table: pd.DataFrame, preset: str) -> str:
    """The table as a `tabular`; it needs \\\\usepackage{booktabs}."""
    lines = [f"% {sentence}" for sentence in (f"Table 2, preset {preset}", *_explain(table, preset)) if sentence]
    lines += [
        r"\begin{tabular}{lrrrrrrl}",
        r"\toprule",
        r" & & \multicolumn{2}{c}{validation (\%)} & \multicolumn{4}{c}{test (\%)} \\",
        r"\cmidrule(lr){3-4} \cmidrule(lr){5-8}",
        r" & $n$ & ours & paper & ours & paper & difference [95\,\% CI] & verdict \\",
        r"\midrule",
    ]
    for line in table.to_dict("records"):
        lines.append(" & ".join(map(_tex, [line["label"], *_cells(line)])) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV: units in the column names, 12 significant digits, empty where there is nothing."""
    units = {name: f"{name}_percent" for name in COLUMNS[3:11]}
    units |= {name: f"test_{name}_percentage_points" for name in ("difference", "ci_low", "ci_high")}
    units |= {"epochs": "selected_epochs", "diverged": "diverged_runs", "unreached": "unreached_95_percent_runs"}
    attrs = {name: table.attrs.get(name) for name in ("dataset", "precision", "protocol")}
    out = table.assign(epochs=[" ".join(map(str, epochs)) for epochs in table["epochs"]], **attrs)
    return out.rename(columns=units).to_csv(index=False, float_format="%.12g", lineterminator="\n")


def write(table: pd.DataFrame, preset: str) -> dict[str, Path]:
    """Write `results/<preset>/table2.md`, `.csv` and `.tex`; the same table gives the same bytes.

    Returns:
        The three paths by "md", "csv" and "tex".

    Raises:
        ReportError: they cannot be written.
    """
    texts = {"md": to_markdown(table, preset), "csv": to_csv(table), "tex": to_latex(table, preset)}
    folder = paths.results(preset)
    written = write_tables({folder / f"table2.{kind}": text for kind, text in texts.items()}, ReportError)
    return dict(zip(texts, written))


def _line(row: Row, runs: pd.DataFrame, comparable: bool) -> dict:
    _check_same(row, runs)
    chosen = selected(row, runs)
    val, test, epochs = ([run[place] for run in chosen] for place in (1, 2, 3))
    unreached = sum(row.selection == "early-stop" and accuracy < EARLY_STOP for accuracy in val)
    paper = row.paper or (math.nan,) * 4
    ours = (*mean_std(val), *mean_std(test))
    # Other digits than the paper's have nothing to be subtracted from.
    difference, low, high = (math.nan,) * 3
    if comparable:
        difference, low, high = intervals.welch(*ours[2:], len(test), *paper[2:], PAPER_RUNS)
    agrees = low <= 0 <= high if math.isfinite(low) else None
    return dict(zip(COLUMNS, (row.id, row.label, len(test), *ours, *paper, difference, low, high, agrees,
                              len(runs) - len(chosen), unreached, tuple(epochs))))  # fmt: skip


def selected_accuracies(records: pd.DataFrame, row: Row) -> dict[int, tuple[float, float]]:
    """Validation and test accuracy in percent, at the epoch that the row selects, by seed; finished runs only."""
    runs = records[records["row"] == row.training]
    _check_same(row, runs)
    return {seed: (float(val), float(test)) for seed, val, test, _ in selected(row, runs)}


def selected(row: Row, runs: pd.DataFrame) -> list[tuple[int, Fraction, Fraction, int]]:
    """Seed, validation and test accuracy in percent, and epoch from 1 that the row selects, of each finished run.

    Accuracies are fractions: exact, so a table has the same bytes on every machine.
    """
    done, chosen = runs[runs["status"] == "done"], []
    for line in done[["seed", "val_correct", "test_correct", "val_total", "test_total"]].itertuples(index=False):
        index = select(line.val_correct, line.val_total, row.selection)
        val = Fraction(100 * line.val_correct[index], line.val_total)
        test = Fraction(100 * line.test_correct[index], line.test_total)
        chosen.append((line.seed, val, test, index + 1))
    return chosen


def mean_std(values: list[Fraction]) -> tuple[float, float]:
    """Mean and sample standard deviation; NaN without values, and without a second one."""
    return float(mean(values)) if values else math.nan, float(stdev(values)) if len(values) > 1 else math.nan


def _only(runs: pd.DataFrame, column: str) -> str | int | None:
    found = sorted(set(runs[column]))
    if len(found) > 1:
        first = [runs.loc[runs[column] == value, "file"].iloc[0] for value in found[:2]]
        raise ReportError(
            f"These records mix {column} {' and '.join(map(str, found))} (for example {first[0]} and {first[1]}); "
            "a table holds one only, so keep the others under another preset."
        )
    return found[0] if found else None


def _check_same(row: Row, runs: pd.DataFrame) -> None:
    # Within a row only the seed differs, and it is the method that the row's label names.
    if not len(runs):
        return
    twice = runs["seed"][runs["seed"].duplicated()]
    if len(twice):
        raise ReportError(f"Row {row.id} has seed {twice.iloc[0]} twice; load one preset.")
    specs = list(runs["spec"])
    first = vars(specs[0])
    for spec in specs[1:]:
        for name, value in vars(spec).items():
            if name != "seed" and value != first[name]:
                raise ReportError(
                    f"Row {row.id} mixes runs of {name} {first[name]!r} (seed {specs[0].seed}) and {value!r} "
                    f"(seed {spec.seed}); give one of the two a row of its own."
                )
    promised = {"method": row.method, "colors": row.colors, **{k: v for k, v in row.options.items() if k != "weight"}}
    actual = {"method": specs[0].method, "colors": specs[0].colors, **specs[0].options}
    for name, value in promised.items():  # the weight is the preset's to choose
        if actual.get(name) != value:
            raise ReportError(f"The records of row {row.id} have {name} {actual.get(name)!r} instead of {value!r}; "
                              "they belong to another row.")  # fmt: skip


def _cells(line: dict) -> list[str]:
    # Validation differs in the second decimal, test in the first.
    if line["agrees"] is not None:
        verdict = "agrees" if line["agrees"] else "differs"
    elif not math.isfinite(line["paper_test_mean"]) or not line["n"]:
        verdict = "–"
    else:
        verdict = "n < 2" if line["n"] < 2 else "not MNIST"
    return [
        str(line["n"]),
        _plus_minus(line["val_mean"], line["val_std"], "{:.2f}", "{:.3f}"),
        _plus_minus(line["paper_val_mean"], line["paper_val_std"]),
        _plus_minus(line["test_mean"], line["test_std"], "{:.1f}", "{:.1f}"),
        _plus_minus(line["paper_test_mean"], line["paper_test_std"]),
        intervals.shown(line["difference"], line["ci_low"], line["ci_high"]),
        verdict,
    ]


def _plus_minus(mean: float, std: float, *formats: str) -> str:
    if not math.isfinite(mean):
        return "–"
    # Without formats as the paper prints it: one decimal, or more where it has more.
    mean_format, std_format = formats or ("{:.1f}" if round(x, 1) == x else "{:g}" for x in (mean, std))
    return mean_format.format(mean) + (f" ± {std_format.format(std)}" if math.isfinite(std) else "")


def _explain(table: pd.DataFrame, preset: str) -> list[str]:
    known = paper.PRESETS.get(preset)
    numbers = sorted(set(table["n"]))
    seeds = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}" if numbers else "0"
    note = known.note if known else "runs of its own"
    sentences = [
        f"{note[0].upper()}{note[1:]}; precision {table.attrs.get('precision') or 'not known yet'}.",
        f"Accuracies in percent as mean ± standard deviation over n seeds (n - 1 in the denominator); n = {seeds}.",
        f"The paper averages {PAPER_RUNS} runs and does not say which standard deviation it prints; "
        "it is taken for the same.",
        'Difference: our test mean minus the paper\'s, with its 95 % Welch interval; "agrees" where that contains 0.'
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
    return [*sentences, *_conclusion(table)]


def _conclusion(table: pd.DataFrame) -> list[str]:
    # What agrees and what does not, said before anybody has to look for it.
    compared = table[table["paper_test_mean"].notna()]
    decided = compared[compared["agrees"].notna()]
    if len(compared) < 2 or decided.empty:
        return []
    differ = decided[~decided["agrees"].astype(bool)]
    named = ", ".join(f"{label} ({off:+.1f})" for label, off in zip(differ["label"], differ["difference"]))
    said = f"Test accuracy agrees with the paper's in {len(decided) - len(differ)} of {len(compared)} rows"
    said += f" and differs in {len(differ)}: {named}" if len(differ) else ""
    too_few = len(compared) - len(decided)
    return [said + (f"; in {too_few} there are too few runs to say." if too_few else ".")]


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "∞": r"$\infty$", "±": r"$\pm$",
        "–": "--"}  # fmt: skip


def _tex(text: str) -> str:
    text = "".join(_TEX.get(character, character) for character in text)
    text = re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus sign, not a hyphen
    return "{}" + text if text[:1] in ("[", "*") else text  # which the \\ before it would take for its argument
