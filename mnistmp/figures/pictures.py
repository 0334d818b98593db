"""What a method does to one batch or over a training: muted channels, spectra, covariances, logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from mnistmp.figures import style

_DIVERGING = "PuOr"  # two hues that the colour-blind can tell apart, white at zero


@style.styled
def channel_mutes(mask: Any, scores: Any, labels: Sequence[Any]) -> style.Figure:
    """RSC on one batch: each channel's score in each sample, and which channels are muted.

    Args:
        mask: (N, C) bool, or anything that flattens to it such as (N, C, 1, 1); True is muted.
        scores: (N, C) float, what decided: the gradient of the true logit.
        labels: the class of each sample.

    Raises:
        ValueError: mask and scores of different shapes.
    """
    mask, scores = style.array(mask), style.array(scores).astype(float)
    mask, scores = mask.reshape(len(mask), -1).astype(bool), scores.reshape(len(scores), -1)
    if mask.shape != scores.shape or not mask.size:
        raise ValueError(f"mask is {mask.shape} and scores are {scores.shape}; both must be (N, C).")
    alt = "Scores of all channels in every sample of a batch, and the muted channels: those with the largest scores."
    height = min(4.0, 0.09 * len(mask) + 0.55)
    figure, (top, bottom) = style.new(2 * height, alt, rows=2, sharex=True)
    limit = np.abs(scores).max() or 1.0
    drawn = top.imshow(scores, cmap=_DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    figure.colorbar(drawn, ax=top, pad=0.01, fraction=0.04).outline.set_visible(False)
    black = mpl.colors.ListedColormap(["#EDEDED", "#1A1A1A"])
    bottom.imshow(mask, cmap=black, vmin=0, vmax=1, aspect="auto")
    top.set_title("score: gradient of the true class's logit")
    bottom.set_title(f"muted (black): {100 * mask.mean():.0f} % of the channels")
    for axes in (top, bottom):
        axes.grid(False)
        axes.set_ylabel("sample's class")
        axes.set_yticks(range(len(mask)), labels)
    bottom.set_xlabel("channel")
    return figure


@style.styled
def singular_values(curves: Sequence[Any], labels: Sequence[str]) -> style.Figure:
    """Singular values of a weight matrix from largest to smallest, a line each.

    Args:
        curves: each (K,) float >= 0, in any order; for instance one per epoch or per method.
        labels: a name for each.
    """
    figure, axes = style.new(2.6, "Singular values from largest to smallest: " + ", ".join(labels) + ".")
    # Many curves are steps of one thing and get shades of one scale; few are different things.
    shades = mpl.colormaps["viridis_r"](np.linspace(0.12, 1, len(curves)))
    for index, (values, label) in enumerate(zip(curves, labels)):
        values = np.sort(style.array(values).astype(float).ravel())[::-1]
        axes.plot(
            range(1, len(values) + 1), values, label=label, color=shades[index] if len(curves) > 4 else f"C{index}"
        )
    axes.axhline(1, color=style.PAPER, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1, label="orthonormal filters")
    axes.set(xlabel="rank, from the largest", ylabel="singular value", ylim=(0, None))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style.styled
def covariance_matrices(before: Any, after: Any, titles: Sequence[str] = ("before", "after")) -> style.Figure:
    """Two covariance matrices side by side on one scale.

    The scale is that of the off-diagonal entries, which the decorrelation loss drives to zero;
    each title gives their root mean square.

    Args:
        before, after: (C, C) float, for instance from `numpy.cov`.
    """
    matrices = [style.array(matrix).astype(float) for matrix in (before, after)]
    sides = [matrix[~np.eye(len(matrix), dtype=bool)] for matrix in matrices]
    # A few extreme pairs must not fade all the others: they are cut off at the 99.5th percentile.
    limit = max(float(np.percentile(np.abs(side), 99.5)) for side in sides) or 1.0
    alt = f"Covariance matrices of the channels, {titles[0]} and {titles[1]}, on one scale."
    figure, panels = style.new(2.9, alt, columns=2)
    for axes, matrix, side, title in zip(panels, matrices, sides, titles):
        drawn = axes.imshow(matrix, cmap=_DIVERGING, vmin=-limit, vmax=limit)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"{title}\noff the diagonal: {np.sqrt(np.mean(side**2)):.3g} (r.m.s.)")
        axes.set_xlabel("channel")
    panels[0].set_ylabel("channel")
    figure.colorbar(drawn, ax=panels, label="covariance", extend="both", shrink=0.8, pad=0.02).outline.set_visible(
        False
    )
    return figure


@style.styled
def logit_spread(groups: Mapping[str, Any]) -> style.Figure:
    """How large the logits are: their distribution, a line per group, each with its root mean square.

    Args:
        groups: name -> logits of any shape.
    """
    values = {name: style.array(logits).astype(float).ravel() for name, logits in groups.items()}
    low, high = min(np.nanmin(v) for v in values.values()), max(np.nanmax(v) for v in values.values())
    figure, axes = style.new(2.4, "Distribution of the logits: " + ", ".join(groups) + ".")
    bins = np.linspace(low, high if high > low else low + 1, 81)
    for index, (name, logits) in enumerate(values.items()):
        label = f"{name}: {np.sqrt(np.nanmean(logits**2)):.3g}"
        # By share: the groups may be of different sizes.
        weights = np.full(len(logits), 100 / len(logits))
        axes.hist(logits, bins, weights=weights, histtype="stepfilled", color=f"C{index}", alpha=0.18, zorder=2)
        axes.hist(
            logits, bins, weights=weights, histtype="step", color=f"C{index}", linewidth=1.2, label=label, zorder=3
        )
    axes.set(xlabel="logit", ylabel="share of the logits (%)", yscale="log")
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.legend(
        loc="center left", bbox_to_anchor=(1.0, 0.5), title="root mean square", title_fontsize=7.5, alignment="left"
    )
    return figure
