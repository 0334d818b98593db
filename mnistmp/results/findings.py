"""What came out, in a few lines: what the README says first."""

from __future__ import annotations

import pandas as pd

from mnistmp.results import markdown
from mnistmp.results.ablation import DEFAULT, PAPER

NEAR = 5.0  # points of test accuracy; about the paper's own standard deviations over seeds (0.9 to 8.5 in Table 2)


def findings(table: pd.DataFrame, interpretations: pd.DataFrame) -> str:
    """Which rows reproduce, which do not and by how much, and which other interpretation comes nearer, as a list.

    Args:
        table: of `table2.table2`, all rows with runs.
        interpretations: of `ablation.table`.
    """
    rows = table[table["difference"].notna()].set_index("id")
    off = rows[rows["difference"].abs() > NEAR].sort_values("difference", key=abs, ascending=False, kind="stable")
    seeds = " to ".join(dict.fromkeys(str(n) for n in (rows["n"].min(), rows["n"].max())))
    inside = rows.drop(index=["rcl-inf", "standard-original"])  # the two that nothing else is near
    best = inside.loc[inside["test_mean"].idxmax()]
    lines = [
        f"**{len(rows) - len(off)} of {len(rows)} rows of Table 2 come within {NEAR:g} points** of the paper's test "
        f"accuracy (n = {seeds} seeds).",
        "**The others do not**: " + "; ".join(map(_compared, off.itertuples())) + ".",
        f"**Without a margin, RCL finds the shape**: {_compared(rows.loc['rcl-inf'])}. The next best row is "
        f"{best.label} with {markdown.plus_minus(best.test_mean, best.test_std)}.",
    ]
    nearer = [_nearest(row, interpretations) for row in off.index]
    explained = [line for line in nearer if line]
    if explained:
        lines.append(
            "**Other interpretations of the paper's text** bring these within that distance, by fewer seeds: "
            + "; ".join(explained) + "."
        )  # fmt: skip
    return "\n".join(f"- {line}" for line in lines)


def _compared(line) -> str:
    ours, published = ((getattr(line, f"{who}test_mean"), getattr(line, f"{who}test_std")) for who in ("", "paper_"))
    return f"{line.label} {markdown.plus_minus(*ours)} (paper {markdown.plus_minus(*published)})"


def _nearest(row: str, interpretations: pd.DataFrame) -> str | None:
    """The interpretation of a row with the smallest difference to the paper, if that is within NEAR."""
    others = interpretations[(interpretations["row"] == row) & ~interpretations["reading"].isin([DEFAULT, PAPER])]
    others = others[others["paper_difference"].abs() <= NEAR]
    if others.empty:
        return None
    line = others.loc[others["paper_difference"].abs().idxmin()]
    accuracy = markdown.plus_minus(line.test_mean, line.test_std)
    return f"{row} with `{line.reading}` {accuracy} (n = {line.n})"
