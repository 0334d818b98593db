"""What came out, in a few lines: what the README says first."""

from __future__ import annotations

import pandas as pd

from mnistmp.results import claims, markdown
from mnistmp.results.ablation import DEFAULT, PAPER
from mnistmp.results.accuracy import CLOSE, DIFFERS, MARGIN, SAME, UNCLEAR

NEAR = MARGIN["test"]


def findings(table: pd.DataFrame, interpretations: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """Which rows reproduce, which do not and by how much, which claims hold, and which other interpretation comes
    nearer, as a list.

    Args:
        table: of `table2.table2`, all rows with runs.
        interpretations: of `ablation.table`.
        comparisons: of `claims.compare`.
    """
    rows = table[table["difference"].notna()].set_index("id")
    off = rows[rows["verdict"] == DIFFERS].sort_values("difference", key=abs, ascending=False, kind="stable")
    near = sum(rows["difference"].abs() <= NEAR)
    counts = rows["verdict"].value_counts()
    same, close, unclear = (counts.get(verdict, 0) for verdict in (SAME, CLOSE, UNCLEAR))
    seeds = " to ".join(dict.fromkeys(str(n) for n in (rows["n"].min(), rows["n"].max())))
    inside = rows.drop(index=["rcl-inf", "standard-original"])  # the two that nothing else is near
    best = inside.loc[inside["test_mean"].idxmax()]
    lines = [
        f"**{near} of {len(rows)} rows of Table 2 have a mean within {NEAR:g} points** of the paper's test accuracy "
        f"(n = {seeds} seeds).",
        f"**With the uncertainty of both counted, {same} rows are the same, {close} close, {len(off)} differ and "
        f"{unclear} {'is' if unclear == 1 else 'are'} unclear**: the same if the whole 95 % interval of the difference "
        f"lies within {NEAR:g} points, close if only the difference does.",
        f"**The {len(off)} rows that differ**: " + "; ".join(map(_compared, off.itertuples())) + ".",
        f"**Without a margin, RCL finds the shape**: {_compared(rows.loc['rcl-inf'])}. The next best row is "
        f"{best.label} with {markdown.plus_minus(best.test_mean, best.test_std)}.",
        _claims(claims.verdicts(comparisons)),
    ]
    nearer = [_nearest(row, interpretations) for row in off.index]
    explained = [line for line in nearer if line]
    if explained:
        lines.append(
            f"**Under another interpretation of the paper's text**, of those rows this comes within {NEAR:g} points: "
            + "; ".join(explained) + "."
        )  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def _claims(verdicts: pd.DataFrame) -> str:
    told = {verdict: verdicts["claim"][verdicts["verdict"] == verdict] for verdict in claims.ORDER}
    named = [f"{verdict}: {'; '.join(told[verdict])}" for verdict in (claims.CONTRADICTED, claims.WEAKER)
             if len(told[verdict])]  # fmt: skip
    counts = f"{len(told[claims.HOLDS])} hold and {len(told[claims.UNDECIDED])} are undecided"
    return (
        f"**Of the paper's {len(verdicts)} statements about it, {counts}.** "
        + "".join(f"{part[0].upper()}{part[1:]}. " for part in named).rstrip()
    )


def _compared(line) -> str:
    ours, published = ((getattr(line, f"{who}test_mean"), getattr(line, f"{who}test_std")) for who in ("", "paper_"))
    return f"{line.label} {markdown.plus_minus(*ours)} (paper {markdown.plus_minus(*published)})"


def _nearest(row: str, interpretations: pd.DataFrame) -> str | None:
    """The interpretation of a row with the smallest difference to the paper, if that is within NEAR."""
    others = interpretations[
        (interpretations["row"] == row) & ~interpretations["interpretation"].isin([DEFAULT, PAPER])
    ]
    others = others[others["paper_difference"].abs() <= NEAR]
    if others.empty:
        return None
    line = others.loc[others["paper_difference"].abs().idxmin()]
    accuracy = markdown.plus_minus(line.test_mean, line.test_std)
    return f"{row} with `{line.interpretation}` {accuracy} ({line.verdict}, n = {line.n})"
