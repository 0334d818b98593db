"""Accuracy at the epoch that a rule selects: of each run, as mean and standard deviation over seeds, and compared."""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import NamedTuple

import pandas as pd
from scipy.special import stdtrit  # scipy.stats has the same, and takes a second to import

from mnistmp.selection import EARLY_STOP, select

PAPER_RUNS = 10  # "averaged over 10 runs", Sec. 5.1

# How far apart two mean accuracies may be, in percentage points, and count as equal: for test about the paper's own
# standard deviations over seeds (0.9 to 8.5 in Table 2), for validation a tenth of that.
MARGIN = {"test": 5.0, "val": 0.5}
SAME, CLOSE, DIFFERS, UNCLEAR = "same", "close", "differs", "unclear"
VERDICTS = (
    f'Verdicts, by a margin of {MARGIN["test"]:g} points: "{SAME}" if the whole interval is within the margin, '
    f'"{CLOSE}" if the difference is and its interval is not, "{DIFFERS}" if the difference is beyond the margin and '
    f'its interval excludes 0, else "{UNCLEAR}".'
)


class Summary(NamedTuple):
    """The runs of one row, accuracies in percent over the n that finished: mean and sample standard deviation (n - 1).

    A mean is NaN for n = 0, a standard deviation for n < 2. `diverged` runs have no accuracy; `unreached`
    runs never got to the 95 % at which an early-stopping row stops, and count with their best epoch.
    """

    n: int
    val_mean: float
    val_std: float
    test_mean: float
    test_std: float
    diverged: int = 0
    unreached: int = 0


class Difference(NamedTuple):
    """A difference of two means in percentage points and its 95 % interval, NaN where there is none."""

    points: float = math.nan
    low: float = math.nan
    high: float = math.nan

    def verdict(self, margin: float = MARGIN["test"]) -> str:
        """One of `VERDICTS`, bounds included: a wide interval is not agreement. "" without an interval."""
        if math.isnan(self.low):
            return ""
        if abs(self.points) <= margin:
            return SAME if -margin <= self.low and self.high <= margin else CLOSE
        return UNCLEAR if self.low <= 0 <= self.high else DIFFERS


def selected(runs: pd.DataFrame, rule: str = "best-validation") -> pd.DataFrame:
    """The finished ones of these runs at the epoch that a rule selects.

    Args:
        runs: as of `records.load`.
        rule: of `selection.RULES`.

    Returns:
        DataFrame indexed by seed: val and test in percent, and epoch, from 1.
    """
    lines = {}
    for run in runs[runs["status"] == "done"].itertuples():
        index = select(run.val_correct, run.val_total, rule)
        val, test = 100 * run.val_correct[index] / run.val_total, 100 * run.test_correct[index] / run.test_total
        lines[run.seed] = val, test, index + 1
    return pd.DataFrame.from_dict(lines, orient="index", columns=["val", "test", "epoch"])


def summary(runs: pd.DataFrame, rule: str = "best-validation") -> Summary:
    """Mean and standard deviation over the seeds of one row's runs; arguments as for `selected`."""
    chosen = selected(runs, rule)
    unreached = sum(rule == "early-stop" and val < EARLY_STOP for val in chosen["val"])
    numbers = (*_mean_std(chosen["val"]), *_mean_std(chosen["test"]))
    return Summary(len(chosen), *numbers, diverged=len(runs) - len(chosen), unreached=unreached)


def paper_summary(published: tuple[float, float, float, float] | None) -> Summary:
    """A row of Table 2 as the paper prints it, `paper.Row.paper`; NaN where it has none."""
    return Summary(PAPER_RUNS, *(published or 4 * (math.nan,)))


def welch(ours: Summary, other: Summary, split: str = "test") -> Difference:
    """Our mean minus the other's, of "val" or "test", with its 95 % confidence interval after Welch.

    Welch's interval does not assume that the two have the same spread; its degrees of freedom
    are those of Welch and Satterthwaite (Welch 1947, Biometrika 34). There is none without two runs
    on each side; where neither side varies at all it is the difference itself.
    """
    means, stds = ([getattr(side, f"{split}_{name}") for side in (ours, other)] for name in ("mean", "std"))
    difference = means[0] - means[1]
    if ours.n < 2 or other.n < 2:
        return Difference(difference)
    own, others = stds[0] ** 2 / ours.n, stds[1] ** 2 / other.n
    if own + others == 0:
        return Difference(difference, difference, difference)
    freedom = (own + others) ** 2 / (own**2 / (ours.n - 1) + others**2 / (other.n - 1))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(own + others)
    return Difference(difference, difference - half, difference + half)


def _mean_std(values: pd.Series) -> tuple[float, float]:
    # Of `statistics`, which sums exactly: tables have the same bytes on every machine, whatever the order.
    values = list(values)
    return float(mean(values)) if values else math.nan, float(stdev(values)) if len(values) > 1 else math.nan
