"""Per statement of the paper: how to check it, and what that takes."""

from __future__ import annotations

import pandas as pd

from mnistmp import paper
from mnistmp.results import claims, markdown

CORES = 2


def artifact(found: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """A table of the paper's statements: the rows to train, all of which are recorded, how long that took, and what
    came out by `claims.compare`."""
    seconds = found.groupby("row")["seconds"].median() * found.groupby("row")["seed"].nunique()
    devices = " or ".join(sorted(set(found["device"])))
    everything, rows = {row.training for row in paper.TABLE2}, []
    for line in claims.verdicts(comparisons).itertuples():
        pairs = comparisons[comparisons["claim"] == line.claim]
        used = list(dict.fromkeys(paper.row(id).training for id in [*pairs["higher"], *pairs["lower"]]))
        if len(used) >= len(everything) - 1:  # one row more is shorter to type than all others
            names, used = "all", sorted(everything)
        else:
            names = ",".join(used)
        rows.append((f"{line.claim} ({line.where})", f"`--rows {names}`", _time(seconds[used].sum()), line.verdict))
    runs = found[found["row"].isin(everything)]
    return "\n\n".join([
        f"Time is the median of the recorded runs, times the number of seeds, on {CORES} cores of: {devices}; "
        f"all {len(runs)} runs of Table 2 take {_time(seconds[sorted(everything)].sum())}.",
        markdown.table(["the paper says", "rows to train", "time", "our verdict"], "llrl", rows),
    ])  # fmt: skip


def _time(seconds: float) -> str:
    hours = seconds / CORES / 3600
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"
