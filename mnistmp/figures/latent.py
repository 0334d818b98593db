"""Figure 3: feature spaces in two dimensions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from mnistmp.figures import style

_COLUMNS = 3  # panels side by side
DRAWN = 2000  # points of a panel


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

    The title carries the panel's letter and its accuracy on all points. At most `DRAWN` of them are drawn, chosen
    by chance once and for all: more would hide which are crosses. The number of each class stands among its
    points, which are pixels in a PDF. A panel without points says so.

    Args:
        panels: at most 26.
    """
    panels = [
        Panel(one.title, style.array(one.xy).reshape(-1, 2),
              *(style.array(classes).astype(int) for classes in (one.labels, one.predicted)))
        for one in panels
    ]  # fmt: skip
    columns = min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    side = style.WIDE / columns if columns == _COLUMNS else 3.0
    titles = [f"({letter}) {panel.title}" for letter, panel in zip(ascii_lowercase, panels)]
    alt = f"t-SNE of the features: {'; '.join(titles)}."
    size = {"width": side * columns, "height": (side + 0.22) * lines + 0.4}
    figure, grid = style.new(alt=alt, rows=lines, columns=columns, squeeze=False, **size)
    figure.indexed = True
    for axes, panel, heading in zip(grid.flat, panels, titles):
        axes.grid(False)
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
        axes.spines[:].set(visible=True, color="#B8B8B8")
        if len(panel.xy):
            heading += f"\naccuracy {100 * np.mean(panel.labels == panel.predicted):.1f} %"
            _points(axes, panel)
        else:
            style.say(axes, "no network: its run diverged")
        axes.set_title(heading)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    kinds = [("o", color, str(digit)) for digit, color in enumerate(style.CLASSES)]
    kinds += [("o", style.OURS, "predicted right"), ("x", style.OURS, "wrong")]
    handles = [Line2D([], [], marker=marker, color=c, linestyle="none", label=label) for marker, c, label in kinds]
    most = max(len(panel.xy) for panel in panels)
    title = f"{DRAWN:,} of {most:,} digits" if most > DRAWN else None
    short = columns < _COLUMNS
    look = {"ncols": 6 if short else 12, "columnspacing": 1.1, "handletextpad": 0.1, "title_fontsize": 7.5}
    figure.legend(handles=handles, loc="outside upper center", title=title, **look)
    return figure


def _points(axes, panel):
    colors = np.array(style.CLASSES)
    order = np.random.default_rng(0).permutation(len(panel.xy))[:DRAWN]
    right = panel.labels == panel.predicted
    for mask, look in (
        (right, {"marker": "o", "s": 6, "linewidths": 0, "alpha": 0.6, "gid": "right"}),
        (~right, {"marker": "x", "s": 16, "linewidths": 0.8, "alpha": 1.0, "gid": "wrong"}),
    ):
        drawn = order[mask[order]]
        axes.scatter(*panel.xy[drawn].T, c=list(colors[panel.labels[drawn]]), rasterized=True, **look)
    # The two t-SNE axes share one scale; the box is square and holds every point.
    middle = (panel.xy.max(0) + panel.xy.min(0)) / 2
    half = 0.53 * max(float(np.ptp(panel.xy, axis=0).max()), 1e-9)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    # A class's number stands where most of its points are, less those of others.
    xy, labels = panel.xy[order] / half, panel.labels[order]
    near = np.exp(-50 * ((xy[:, None] - xy) ** 2).sum(2))
    own = (near * np.where(labels[:, None] == labels, 1, -1)).sum(1)
    look = {"ha": "center", "va": "center", "weight": "bold"}
    for digit in np.unique(labels):
        place = panel.xy[order][np.where(labels == digit, own, -np.inf).argmax()]
        axes.text(*place, str(digit), path_effects=[withStroke(linewidth=2.5, foreground="white")], **look)
