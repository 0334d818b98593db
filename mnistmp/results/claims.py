"""What the paper says about its Table 2, each sentence tested on our own runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
from scipy.special import stdtr, stdtrit

from mnistmp import paper, paths
from mnistmp.results import accuracy, markdown
from mnistmp.results.accuracy import Difference
from mnistmp.results.table2 import by_closest, runs_of

LEVEL = 0.05  # of all comparisons together
MARGINALLY = accuracy.MARGIN["test"]
CONTRADICTED, WEAKER, UNDECIDED, HOLDS = ORDER = ("contradicted", "weaker than in the paper", "undecided", "holds")
COLUMNS = ("claim", "where", "higher", "lower", "split", "n", "paper", "difference", "ci_low", "ci_high", "p",
           "p_adjusted", "verdict")  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A statement of the paper as comparisons of rows, all of which must come out as it says.

    Attributes:
        text: the statement.
        where: in the paper.
        pairs: ids of two rows of Table 2 each; the first is said to have the higher accuracy.
        split: "val" or "test", whose accuracy.
        within: 0; or the points that the two may be apart where the paper says that they hardly differ.
    """

    text: str
    where: str
    pairs: tuple[tuple[str, str], ...]
    split: str = "test"
    within: float = 0.0


_OTHERS = tuple(row.id for row in paper.TABLE2 if row.id not in ("rcl-inf", "standard-original"))
_BASELINES = tuple(id for id in _OTHERS if paper.row(id).method != "rcl")

CLAIMS = (
    Claim("RCL without a margin beats every other method", "Sec. 5.2", tuple(("rcl-inf", other) for other in _OTHERS)),
    Claim("RCL with a margin (m = 0.9) beats every baseline", "Sec. 5.2",
          tuple(("rcl-m0.9", baseline) for baseline in _BASELINES)),
    Claim(
        "Test accuracy rises with the margin", "Table 2",
        (("rcl-m0.4", "rcl-m0.2"), ("rcl-m0.6", "rcl-m0.4"), ("rcl-m0.8", "rcl-m0.6"), ("rcl-m0.9", "rcl-m0.8"),
         ("rcl-inf", "rcl-m0.9")),
    ),
    Claim(
        "Validation accuracy falls as the margin grows", "Sec. 5.2 and Table 2",
        (("rcl-m0.6", "rcl-m0.8"), ("rcl-m0.8", "rcl-m0.9"), ("rcl-m0.9", "rcl-inf")), "val",
    ),
    Claim("With m = 0.2, RCL is worse than standard training", "Table 2", (("standard", "rcl-m0.2"),)),
    Claim("Early stopping helps RCL with m = 0.9", "Table 2", (("rcl-m0.9-early-stop", "rcl-m0.9"),)),
    Claim("Dropout is better than standard training", "Sec. 5.2", (("dropout", "standard"),)),
    Claim(
        "Regularised dropout is better than plain dropout", "Sec. 5.2",
        (("dropout-orthogonality", "dropout"), ("dropout-covariance", "dropout")),
    ),
    Claim(
        "RSC is only marginally above regularised dropout", "Sec. 5.2",
        (("rsc", "dropout-orthogonality"), ("rsc", "dropout-covariance")), within=MARGINALLY,
    ),
    Claim("Early stopping helps the jigsaw puzzle", "Sec. 5.2", (("jigsaw-early-stop", "jigsaw"),)),
    Claim(
        "Early stopping helps spectral decoupling", "Sec. 5.2",
        (("spectral-decoupling-early-stop", "spectral-decoupling"),),
    ),
    Claim("Reconstruction barely helps", "Table 2", (("reconstruction", "standard"),), within=MARGINALLY),
)  # fmt: skip


def compare(records: pd.DataFrame, claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """Every comparison of every claim, over the seeds that both of its rows have.

    Runs of one seed share the initial weights and the order of the digits, and the rows of an
    early-stopping pair even the run, so differences are taken seed by seed: a paired t test and its
    95 % interval. Where two rows are said to hardly differ, two one-sided tests ask whether they are
    less than `within` points apart (Schuirmann 1987). `p` is for what the data point at, for or
    against the claim; `p_adjusted` is Holm's (1979) over all comparisons that could be made.

    Args:
        records: as of `records.load`.

    Returns:
        DataFrame with `COLUMNS`, a line per comparison, in percentage points. Where `p_adjusted` is below `LEVEL`,
        the verdict is "holds" or, the other way round, "contradicted"; else "weaker than in the paper" where the
        paper's own difference is above the interval, and "undecided" where it is not or there is no interval.
    """
    rows = [paper.row(id) for id in {id for claim in claims for pair in claim.pairs for id in pair}]
    runs = {row.id: accuracy.selected(runs_of(row, records), row.selection) for row in rows}
    lines = [_line(claim, higher, lower, runs) for claim in claims for higher, lower in claim.pairs]
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table["p_adjusted"] = holm(table["p"])
    open_ = ~(table["p_adjusted"] < LEVEL)
    table.loc[open_, "verdict"] = UNDECIDED
    table.loc[open_ & (table["paper"] > table["ci_high"]), "verdict"] = WEAKER
    return table


def side_by_side(preset: str, found: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`compare` for the rows as written, and with the lines → of Table 2 in place of their rows."""
    return compare(found), compare(by_closest(preset, found))


def verdicts(comparisons: pd.DataFrame) -> pd.DataFrame:
    """One line per claim, with the worst of its comparisons' verdicts, in this order: `ORDER`.

    Returns:
        DataFrame with claim, where, verdict, comparisons (their number), and `deciding`: the index
        in `comparisons` of the one that the verdict rests on: the furthest below the paper's difference where the
        claim is weaker, the clearest where it is contradicted, else the least certain.
    """
    lines = []
    for claim, group in comparisons.groupby("claim", sort=False):
        verdict = min(group["verdict"], key=ORDER.index)
        worst = group[group["verdict"] == verdict]
        if verdict == WEAKER:
            deciding = (worst["paper"] - worst["difference"]).idxmax()
        else:
            p = worst["p_adjusted"].fillna(2)
            deciding = p.idxmin() if verdict == CONTRADICTED else p.idxmax()
        lines.append((claim, group["where"].iloc[0], verdict, len(group), deciding))
    return pd.DataFrame(lines, columns=["claim", "where", "verdict", "comparisons", "deciding"])


def to_markdown(comparisons: pd.DataFrame, closest: pd.DataFrame) -> str:
    """The claims with their verdicts, of `side_by_side`, and the comparison that each rests on."""
    labels = {row.id: row.label for row in paper.TABLE2}
    rows, others = [], verdicts(closest).set_index("claim")["verdict"]
    for line in verdicts(comparisons).itertuples():
        shown = comparisons.loc[line.deciding]
        compared = f"{labels[shown.higher]} − {labels[shown.lower]}"
        compared += f" (of {line.comparisons})" if line.comparisons > 1 else ""
        compared += ", validation" if shown.split == "val" else ""
        ours = markdown.interval(shown.difference, shown.ci_low, shown.ci_high)
        claim, p = f"{line.claim} ({line.where})", _p(shown.p_adjusted)
        rows.append((claim, line.verdict, compared, f"{shown.paper:+.1f}", ours, p, others[line.claim]))
    head = ("the paper says", "verdict", "compared", "difference, paper", "difference, ours [95 % CI]", "p",
            "with lines →")  # fmt: skip
    return "\n".join([
        f"Differences in percentage points over n = {markdown.span(comparisons['n'])} shared seeds, with the 95 % "
        f"interval of a paired t test; p after Holm's correction for all {len(comparisons)} comparisons. A claim holds "
        f"or is contradicted where p is below {LEVEL:g}; else it is weaker than in the paper where the interval ends "
        "below the paper's difference, and undecided where it does not. Of several comparisons the one that the "
        f'verdict rests on is shown. "Marginally" and "barely" are taken as less than {MARGINALLY:g} points apart, and '
        "p tests that. The last column is the verdict with the lines → of Table 2 in place of their rows, which were "
        "chosen after seeing the paper's numbers; but for dropout's, as the rows with a regulariser have no such line.",
        "",
        markdown.table(head, "lllrrrl", rows),
        "",
    ])  # fmt: skip


def write(comparisons: pd.DataFrame, closest: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/claims.md` and `.csv`; the same records give the same bytes."""
    both = pd.concat([comparisons.assign(rows="as written"), closest.assign(rows="with lines →")])
    csv = markdown.csv(both, {"percentage_points": ["paper", "difference", "ci_low", "ci_high"]}, digits=10)
    return markdown.write(paths.results(preset), {"claims.md": to_markdown(comparisons, closest), "claims.csv": csv})


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values, in the order given; NaN stands for no test and stays."""
    order = sorted((index for index, value in enumerate(p) if not math.isnan(value)), key=lambda index: p[index])
    adjusted, highest = [math.nan] * len(p), 0.0
    for done, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - done) * p[index]))
        adjusted[index] = highest
    return adjusted


def paired(differences: Sequence[float], within: float = 0.0) -> tuple[Difference, float, bool]:
    """The mean difference with its 95 % interval, p, and whether that p speaks for the claim.

    Args:
        differences: one per seed.
        within: 0 to test whether the mean is above 0, two-sided; else whether it lies between -within and within.
    """
    n, centre = len(differences), mean(differences)
    if n < 2:
        return Difference(centre), math.nan, False
    error = stdev(differences) / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.975)) * error

    def tail(distance: float) -> float:
        """One-sided p of a mean at least so far on the wrong side of a bound; without any spread, sure."""
        return float(stdtr(n - 1, -distance / error)) if error else 0.0 if distance > 0 else 1.0

    for_claim = centre > 0 if not within else abs(centre) < within
    if within and for_claim:
        p = max(tail(within - centre), tail(within + centre))  # both bounds must be excluded
    else:
        p = min(1.0, 2 * tail(abs(centre) - within))
    return Difference(centre, centre - half, centre + half), p, for_claim


def _line(claim: Claim, higher: str, lower: str, runs: dict[str, pd.DataFrame]) -> tuple:
    ours, others = (runs[row][claim.split].astype(float) for row in (higher, lower))
    differences = (ours - others).dropna().tolist()  # by seed, of those that both have
    place = 2 * ("val", "test").index(claim.split)
    published = paper.row(higher).paper[place] - paper.row(lower).paper[place]
    difference, p, for_claim = paired(differences, claim.within) if differences else (Difference(), math.nan, False)
    verdict = HOLDS if for_claim else CONTRADICTED
    return (claim.text, claim.where, higher, lower, claim.split, len(differences), published, *difference, p, math.nan,
            verdict)  # fmt: skip


def _p(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
