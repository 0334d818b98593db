"""Distances that decide: of the test colour to the class colours, of an anchor to its neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import torch

from mnistmp.data import palette
from mnistmp.figures import style

_APART = 0.035  # in colour units: dots nearer than this to each other are stacked


@style.styled
def color_distances(candidates: Mapping[str, tuple[Any, Any]]) -> style.Figure:
    """How far a test colour is from each of the ten class colours; one line per candidate.

    Section 3.2 asks that no class colour be nearer to the test colour than all others: a line that
    has a single dot at its left end breaks this, and that class will attract the test digits.

    Args:
        candidates: name -> (test colour, palette): RGB of 0 to 255, (3,) and (10, 3).
    """
    alt = "Distances of a test colour to the ten class colours: " + "; ".join(candidates).replace("\n", " ") + "."
    figure, axes = style.new(0.95 * len(candidates) + 0.45, alt)
    for line, (color, colors) in enumerate(candidates.values()):
        classes = palette.as_palette(colors).double() / 255
        color = torch.as_tensor(color).double() / 255
        distances = (classes - color).norm(dim=1)
        axes.axhline(line, color="#E4E4E4", linewidth=0.8, zorder=0)
        axes.scatter(
            [0], [line], s=190, color=[color.tolist()], edgecolors="black", linewidths=0.7, clip_on=False, zorder=3
        )
        for label, height in _stacked(distances.tolist()):
            x, dot = float(distances[label]), classes[label].tolist()
            axes.scatter([x], [line - height], s=85, color=[dot], edgecolors="black", linewidths=0.5, zorder=3)
            axes.text(x, line - height, str(label), ha="center", va="center_baseline", fontsize=6.5, fontweight="bold",
                      color=style.ink_on(dot), zorder=4)  # fmt: skip
    axes.set(
        xlim=(0, 1.75),
        ylim=(len(candidates) - 0.45, -0.55),
        xlabel="distance to the test colour (edge of the RGB cube = 1)",
    )
    axes.set_yticks(range(len(candidates)), list(candidates))
    axes.tick_params(axis="y", length=0, pad=9)
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    return figure


def _stacked(distances: Sequence[float], step: float = 0.17) -> list[tuple[int, float]]:
    # (label, height) of every dot; dots of about the same distance form a column around the line.
    columns: list[list[int]] = []
    for label in sorted(range(len(distances)), key=lambda label: distances[label]):
        if columns and distances[label] - distances[columns[-1][0]] < _APART:
            columns[-1].append(label)
        else:
            columns.append([label])
    return [
        (label, step * (place - (len(column) - 1) / 2))
        for column in columns
        for place, label in enumerate(sorted(column))
    ]


@style.styled
def neighbour_distances(groups: Mapping[str, tuple[Any, Any]], margins: Sequence[float]) -> style.Figure:
    """Every anchor of a batch at its distance to the nearest negative and to the nearest positive.

    Below the line of a margin m, d(anchor, positive) < m d(anchor, negative): the condition of Eq. 1
    holds and the loss pushes the anchor.

    Args:
        groups: title -> (to_positive, to_negative), each (N,), as of `losses.nearest_neighbours`;
            anchors without a positive or without a negative are left out.
        margins: finite, a line each.
    """
    both = {title: np.stack([style.array(side).astype(float) for side in pair]) for title, pair in groups.items()}
    known = {title: pair[:, np.isfinite(pair).all(0)] for title, pair in both.items()}
    alt = "Distance to the nearest positive against distance to the nearest negative, a dot per anchor: "
    alt += ", ".join(groups) + "."
    height = min(2.55, 0.45 + 6.3 / len(groups))
    figure, grid = style.new(height, alt, style.WIDE, columns=len(groups), squeeze=False, sharex=True, sharey=True)
    figure.indexed = True  # a cloud of points
    reach = 1.08 * max(float(pair.max(initial=1e-9)) for pair in known.values())
    for axes, (title, (positive, negative)) in zip(grid.flat, known.items()):
        for margin in margins:
            end = (min(reach, reach / margin), min(reach, reach * margin))
            axes.plot(*zip((0, 0), end), color=style.PAPER, linewidth=0.8, zorder=1)
            # Outside, where no dot is; a line that leaves through the upper side is named within.
            look = {"ha": "left", "va": "center"} if margin <= 1 else {"ha": "right", "va": "top"}
            axes.annotate(f"{margin:g}", end, (3, 0), textcoords="offset points", fontsize=6.5, color="#505050", **look)
        axes.scatter(negative, positive, s=4, color=style.OURS, alpha=0.5, linewidths=0, zorder=2)
        # Both axes alike: the slope of a line is its margin.
        axes.set(title=title, xlim=(0, reach), ylim=(0, reach), box_aspect=1)
        axes.text(1.02, 1.09, "m", transform=axes.transAxes, fontsize=6.5, color="#505050", style="italic")
        axes.locator_params(nbins=4)
    grid[0, 0].set_ylabel("distance to nearest positive")
    figure.supxlabel("distance to nearest negative", fontsize=mpl.rcParams["axes.labelsize"])
    return figure
