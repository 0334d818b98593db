"""Figure 3: feature spaces in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import numpy as np
from matplotlib.lines import Line2D

from mnistmp.figures import style

_COLUMNS = 3  # panels side by side


@dataclass(frozen=True)
class Panel:
    """One feature space: coordinates (N, 2) float, true classes and predicted classes (N,) 0 to 9."""

    title: str
    xy: Any
    labels: Any
    predicted: Any


@style.styled
def latent_space(panels: Sequence[Panel]) -> style.Figure:
    """Figure 3: a panel per feature space; colour is the true class, circle predicted right, cross wrong.

    The title carries the panel's letter and accuracy. Points are drawn in a fixed, mixed order,
    so that no class lies on top of another everywhere; in a PDF they are pixels, not ten
    thousand shapes. A panel without points says so.

    Args:
        panels: at most 26.

    Raises:
        ValueError: arrays that do not fit each other.
    """
    panels = [_checked(panel) for panel in panels]
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    side = style.WIDE / columns if columns == _COLUMNS else 3.0
    alt = (
        "t-SNE of the features: "
        + "; ".join(f"({ascii_lowercase[i]}) {panel.title}" for i, panel in enumerate(panels))
        + "."
    )
    size = {"width": side * columns, "height": (side + 0.22) * lines + 0.25}
    figure, grid = style.new(alt=alt, rows=lines, columns=columns, squeeze=False, **size)
    figure.indexed = True
    for index, (axes, panel) in enumerate(zip(grid.flat, panels)):
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
        axes.spines[:].set(visible=True, color="#B8B8B8")
        heading = f"({ascii_lowercase[index]}) {panel.title}"
        if len(panel.xy):
            heading += f"\naccuracy {100 * np.mean(panel.labels == panel.predicted):.1f} %"
            _points(axes, panel)
        else:
            style.say(axes, "no records yet")
        axes.set_title(heading)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    dots = [
        Line2D([], [], marker="o", color=color, linestyle="none", label=str(digit))
        for digit, color in enumerate(style.CLASSES)
    ]
    marks = [
        Line2D([], [], marker=marker, color=style.PAPER, linestyle="none", label=label)
        for marker, label in (("o", "predicted right"), ("x", "wrong"))
    ]
    short = columns < _COLUMNS
    figure.legend(
        handles=dots + marks, loc="outside lower center", ncols=6 if short else 12, columnspacing=1.1, handletextpad=0.1
    )
    return figure


def _points(axes, panel):
    colors = np.array(style.CLASSES)
    order = np.random.default_rng(0).permutation(len(panel.xy))
    right = panel.labels == panel.predicted
    # About the same share of ink for a thousand points as for ten thousand.
    size = min(14.0, max(1.1, 11_000 / len(order)))
    for mask, look in (
        (right, {"marker": "o", "s": size, "linewidths": 0, "alpha": 0.7, "gid": "right"}),
        (~right, {"marker": "x", "s": 4.0 * size, "linewidths": 0.25 + 0.05 * size, "alpha": 1.0, "gid": "wrong"}),
    ):
        drawn = order[mask[order]]
        axes.scatter(*panel.xy[drawn].T, c=list(colors[panel.labels[drawn]]), rasterized=True, **look)
    # The two t-SNE axes share one scale; the box is square and holds every point.
    middle = (panel.xy.max(0) + panel.xy.min(0)) / 2
    half = 0.53 * max(float(np.ptp(panel.xy, axis=0).max()), 1e-9)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))


def _checked(panel: Panel) -> Panel:
    xy, labels, predicted = style.array(panel.xy), style.array(panel.labels), style.array(panel.predicted)
    if not xy.size:
        return Panel(panel.title, np.zeros((0, 2)), np.zeros(0, int), np.zeros(0, int))
    if xy.ndim != 2 or xy.shape[1] != 2 or labels.shape != xy.shape[:1] or predicted.shape != xy.shape[:1]:
        raise ValueError(
            f"Panel {panel.title!r} has coordinates {xy.shape}, classes {labels.shape} and predictions "
            f"{predicted.shape}; expected (N, 2), (N,) and (N,)."
        )
    if not np.isfinite(xy).all() or labels.min() < 0 or labels.max() > 9:
        raise ValueError(f"Panel {panel.title!r} has a coordinate that is not finite or a class that is not 0 to 9.")
    return Panel(panel.title, xy, labels.astype(int), predicted.astype(int))
