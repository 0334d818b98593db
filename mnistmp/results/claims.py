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
from mnistmp.results import intervals
from mnistmp.files import write_tables
from mnistmp.results.table2 import ReportError, selected_accuracies

LEVEL = 0.05  # of all comparisons together
MARGINALLY = 5.0  # percentage points; about the paper's own standard deviations over seeds (0.9 to 8.5 in Table 2)
HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
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

CLAIMS = (
    Claim("RCL without a margin beats every other method", "Sec. 5.2", tuple(("rcl-inf", other) for other in _OTHERS)),
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
        DataFrame with `COLUMNS`, a line per comparison, in percentage points. The verdict is
        "not decided" unless `p_adjusted` is below `LEVEL`, and where there are fewer than two seeds.
    """
    runs: dict[str, dict[int, tuple[float, float]]] = {}
    lines = []
    for claim in claims:
        for pair in claim.pairs:
            for id in pair:
                if id not in runs:
                    runs[id] = selected_accuracies(records, paper.row(id))
            lines.append(_line(claim, *pair, *(runs[id] for id in pair)))
    table = pd.DataFrame(lines, columns=list(COLUMNS))
    table["p_adjusted"] = holm(table["p"])
    table.loc[~(table["p_adjusted"] < LEVEL), "verdict"] = OPEN
    return table


def verdicts(comparisons: pd.DataFrame) -> pd.DataFrame:
    """One line per claim: "holds" if all its comparisons do, "does not hold" if one does not, else "not decided".

    Returns:
        DataFrame with claim, where, verdict, comparisons (their number), and `closest`: the index
        in `comparisons` of the one that the verdict rests on, which is the least certain.
    """
    lines = []
    for claim, group in comparisons.groupby("claim", sort=False):
        found = set(group["verdict"])
        verdict = FAILS if FAILS in found else OPEN if OPEN in found else HOLDS
        deciding = group[group["verdict"] == verdict]
        # Of those against the claim, the clearest; of the others the one that is nearest to failing.
        closest = deciding["p_adjusted"].idxmin() if verdict == FAILS else deciding["p_adjusted"].fillna(2).idxmax()
        lines.append((claim, group["where"].iloc[0], verdict, len(group), closest))
    return pd.DataFrame(lines, columns=["claim", "where", "verdict", "comparisons", "closest"])


def to_markdown(comparisons: pd.DataFrame) -> str:
    """The claims with their verdicts, and the comparison that each rests on."""
    numbers = sorted(set(comparisons["n"]))
    seeds = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
    lines = [
        f"Differences in percentage points over n = {seeds} shared seeds, with the 95 % interval of a paired t test; "
        f"p after Holm's correction for all {len(comparisons)} comparisons. Of several comparisons the one is shown "
        f'that the verdict rests on. "Marginally" and "barely" are taken as less than {MARGINALLY:g} points apart.',
        "",
        "| the paper says | verdict | compared | paper | ours [95 % CI] | p |",
        "|---|---|---|---:|---:|---:|",
    ]
    labels = {row.id: row.label for row in paper.TABLE2}
    for line in verdicts(comparisons).itertuples(index=False):
        shown = comparisons.loc[line.closest]
        compared = f"{labels[shown.higher]} − {labels[shown.lower]}"
        if line.comparisons > 1:
            compared += f" (of {line.comparisons})"
        if shown.split == "val":
            compared += ", validation"
        cells = [
            f"{line.claim} ({line.where})",
            line.verdict,
            compared,
            f"{shown.paper:+.1f}",
            intervals.shown(shown.difference, shown.ci_low, shown.ci_high),
            _p(shown.p_adjusted),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def write(comparisons: pd.DataFrame, preset: str) -> list[Path]:
    """Write `results/<preset>/claims.md` and `.csv`; the same records give the same bytes.

    Raises:
        ReportError: they cannot be written.
    """
    units = {name: f"{name}_percentage_points" for name in ("paper", "difference", "ci_low", "ci_high")}
    csv = comparisons.rename(columns=units).to_csv(index=False, float_format="%.10g", lineterminator="\n")
    folder = paths.results(preset)
    return write_tables({folder / "claims.md": to_markdown(comparisons), folder / "claims.csv": csv}, ReportError)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p values, in the order given; NaN stands for no test and stays."""
    order = sorted((index for index, value in enumerate(p) if not math.isnan(value)), key=lambda index: p[index])
    adjusted, highest = [math.nan] * len(p), 0.0
    for done, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - done) * p[index]))
        adjusted[index] = highest
    return adjusted


def paired(differences: Sequence[float], within: float = 0.0) -> tuple[float, float, float, float, bool]:
    """Mean difference, its 95 % interval, p, and whether that p speaks for the claim.

    Args:
        differences: one per seed.
        within: 0 to test whether the mean is above 0, two-sided; else whether it lies between -within and within.
    """
    n, centre = len(differences), mean(differences)
    if n < 2:
        return centre, math.nan, math.nan, math.nan, False
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
    return centre, centre - half, centre + half, p, for_claim


def _line(claim: Claim, higher: str, lower: str, ours: dict, others: dict) -> tuple:
    split = ("val", "test").index(claim.split)
    seeds = sorted(ours.keys() & others.keys())
    published = paper.row(higher).paper[2 * split] - paper.row(lower).paper[2 * split]
    result = (math.nan,) * 4
    for_claim = False
    if seeds:
        *result, for_claim = paired([ours[seed][split] - others[seed][split] for seed in seeds], claim.within)
    verdict = HOLDS if for_claim else FAILS
    return (claim.text, claim.where, higher, lower, claim.split, len(seeds), published, *result, math.nan, verdict)


def _p(p: float) -> str:
    return "–" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"
