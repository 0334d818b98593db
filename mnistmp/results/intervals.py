"""How far two means are apart, given only their standard deviations and numbers of runs."""

from __future__ import annotations

import math

from scipy.special import stdtrit  # scipy.stats has the same, and takes a second to import


def welch(
    mean: float, std: float, n: int, other_mean: float, other_std: float, other_n: int, level: float = 0.95
) -> tuple[float, float, float]:
    """The difference of two means and its confidence interval after Welch.

    Welch's interval does not assume that the two have the same spread; its degrees of freedom
    are those of Welch and Satterthwaite (Welch 1947, Biometrika 34).

    Args:
        mean, std, n: mean, sample standard deviation (n - 1 in the denominator) and number of runs.
        other_mean, other_std, other_n: of what is subtracted.
        level: between 0 and 1.

    Returns:
        difference, low, high. Without two runs on each side the interval is NaN; where neither
        side varies at all it is the difference itself.
    """
    difference = mean - other_mean
    if n < 2 or other_n < 2:
        return difference, math.nan, math.nan
    own, other = std**2 / n, other_std**2 / other_n
    if own + other == 0:
        return difference, difference, difference
    freedom = (own + other) ** 2 / (own**2 / (n - 1) + other**2 / (other_n - 1))
    half = float(stdtrit(freedom, 0.5 + level / 2)) * math.sqrt(own + other)
    return difference, difference - half, difference + half


def shown(difference: float, low: float, high: float) -> str:
    """As tables show it: "+1.2 [-0.3, +2.7]", without the interval where there is none, "–" without a difference."""
    if not math.isfinite(difference):
        return "–"
    return f"{difference:+.1f}" + (f" [{low:+.1f}, {high:+.1f}]" if math.isfinite(low) else "")
