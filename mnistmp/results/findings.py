"""What came out, in a few lines: what the README says first."""

from __future__ import annotations

import pandas as pd

from mnistmp.results import claims, markdown, table2
from mnistmp.results.accuracy import MARGIN

NEAR = MARGIN["test"]


def findings(table: pd.DataFrame, comparisons: pd.DataFrame, compared_closest: pd.DataFrame) -> str:
    """Which rows reproduce, which do not and by how much, which claims hold, and which other interpretation comes
    closer, as a list.

    Args:
        table: of `table2.side_by_side`, all rows with runs.
        comparisons, compared_closest: of `claims.side_by_side`.
    """
    table = table[table["difference"].notna()].replace(
        {"label": r" \(with early stopping @95\)"}, " stopped", regex=True
    )
    rows, closest = table[table["interpretation"] == ""].set_index("id"), table2.closest(table).set_index("id")
    near, (same, close, differ, unclear), off = table2.tally(rows)
    best = rows.drop(index="standard-original").nlargest(2, "test_mean")
    lines = [
        f"**As written, {near} of {len(rows)} rows of Table 2 have a mean within {NEAR:g} points** of the paper's "
        f"test accuracy (n = {markdown.span(rows['n'])} seeds): {same} the same, {close} close, with an interval that "
        f"reaches beyond, {differ} differ"
        + (f", {unclear} unclear" if unclear else "")
        + " ([verdicts](docs/results.md)).",
        f"**The {differ} rows that differ**: " + "; ".join(map(_compared, off.itertuples())) + ".",
        "**The best as written**: " + "; ".join(map(_compared, best.itertuples())) + ".",
        _claims(claims.verdicts(comparisons), "Of {} statements of the paper's text and table, as written,"),
    ]
    if (closest["interpretation"] != "").any():
        now = closest["difference"].abs() <= NEAR
        found = [_under(*group) for group in closest[now & closest.index.isin(off.index)].groupby("interpretation")]
        left = [
            f"{line.label}: {markdown.plus_minus(line.test_mean, line.test_std)}" for line in closest[~now].itertuples()
        ]
        lines.insert(
            2,
            f"**With another interpretation for some (→), chosen after seeing the paper's test accuracies, {sum(now)} "
            f"of {len(rows)} are**: {'; '.join(found)}." + (f" Still beyond: {', '.join(left)}." if left else ""),
        )
        lines.append(_claims(claims.verdicts(compared_closest), "With the lines → of RCL and spectral decoupling,"))
    return "\n".join(f"- {line}" for line in lines)


def _claims(verdicts: pd.DataFrame, which: str) -> str:
    told = {verdict: verdicts["claim"][verdicts["verdict"] == verdict] for verdict in claims.ORDER}
    named = [f"{verdict}: {'; '.join(told[verdict])}" for verdict in (claims.CONTRADICTED, claims.WEAKER)
             if len(told[verdict])]  # fmt: skip
    undecided = len(told[claims.UNDECIDED])
    counts = f"{len(told[claims.HOLDS])} hold and {undecided} {'is' if undecided == 1 else 'are'} undecided"
    rest = "".join(f" {part[0].upper()}{part[1:]}." for part in named)
    return f"**{which.format(len(verdicts))} {counts}.**{rest}"


def _compared(line) -> str:
    ours, published = ((getattr(line, f"{who}test_mean"), getattr(line, f"{who}test_std")) for who in ("", "paper_"))
    return f"{line.label}: {markdown.plus_minus(*ours)} (paper {markdown.plus_minus(*published)})"


def _under(interpretation: str, rows: pd.DataFrame) -> str:
    accuracies = [f"{one.label}: {markdown.plus_minus(one.test_mean, one.test_std)}" for one in rows.itertuples()]
    return f"`{interpretation}` (n = {markdown.span(rows['n'])}): {'; '.join(accuracies)}"
