"""Pictures of two ideas: where the palette's colours lie, and which anchor the loss pushes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from matplotlib.lines import Line2D
from matplotlib.patches import Polygon

from mnistmp import losses
from mnistmp.data import palette
from mnistmp.figures import style


@style.styled
def palette_cube() -> style.Figure:
    """The class colours in the RGB cube (paper, Section 3.2), with the sphere of radius 0.5 around the centre.

    Six lie on the sphere, where it touches the cube's faces, and four at vertices; the test colour is the centre.
    Spokes lead from there to the ten.
    """
    colors, center = palette.PALETTE.numpy() / 255, palette.TEST_COLOR.numpy() / 255
    alt = "The ten class colours in the RGB cube: six on the faces, four at vertices, the test colour in the centre."
    figure, axes = style.new(3.5, alt, width=3.7, subplot_kw={"projection": "3d", "computed_zorder": False})
    axes.set_axis_off()
    axes.set_proj_type("ortho")
    axes.view_init(elev=20, azim=-55)
    axes.set_box_aspect((1, 1, 1), zoom=1.17)

    farthest = np.array([0, 1, 0])  # the vertex hidden behind the cube in this view
    corners = np.array(list(itertools.product((0, 1), repeat=3)))
    for first, second in itertools.combinations(corners, 2):
        if np.abs(first - second).sum() == 1:
            hidden = (first == farthest).all() or (second == farthest).all()
            axes.plot(*zip(first, second), color="#909090", linewidth=0.6 if hidden else 0.9, zorder=1,
                      linestyle=(0, (5, 4)) if hidden else "-")  # fmt: skip
    for name, axis, at in (
        ("red", 0, (0.5, 0, -0.1)),
        ("green", 1, (1.0, 0.5, -0.13)),
        ("blue", 2, (-0.08, -0.04, 0.5)),
    ):
        axes.text(*at, f"{name} →", zdir="xyz"[axis], ha="center", va="center", color="#404040")

    turn, tilt = np.meshgrid(np.linspace(0, 2 * np.pi, 25), np.linspace(0, np.pi, 13))
    ball = np.stack([np.sin(tilt) * np.cos(turn), np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    axes.plot_wireframe(*(0.5 * ball + center[:, None, None]), color="#c4c4c4", linewidth=0.4, alpha=0.6, zorder=0)

    for color in colors:
        axes.plot(*zip(center, color), color=color * 0.85, linewidth=1.0, linestyle=(0, (2, 2)), zorder=2)
    every = np.vstack([colors, center])
    axes.scatter(
        *every.T, c=every, s=[150] * 10 + [270], edgecolors="black", linewidths=0.7, depthshade=False, zorder=3
    )
    for name, color in zip([*"0123456789", "test"], every):
        size = 6.5 if name == "test" else 8
        axes.text(*color, name, ha="center", va="center_baseline", fontsize=size, fontweight="bold",
                  color=style.ink_on(color), zorder=4)  # fmt: skip
    return figure


# Points of three classes in the unit square; the least and the greatest coordinates are 0 and 1, so
# that the loss's rescaling leaves them where they are drawn. The first three are the anchors.
_POINTS = (
    (0.25, 0.78, 0), (0.62, 0.62, 1), (0.33, 0.16, 2),
    (0.15, 0.88, 0), (0.00, 0.66, 0), (0.07, 0.36, 0),
    (0.50, 0.88, 1), (0.84, 0.72, 1), (1.00, 1.00, 1),
    (0.24, 0.05, 2), (0.60, 0.00, 2), (0.67, 0.44, 2), (0.86, 0.18, 2),
)  # fmt: skip
_ANCHORS = 3


@style.styled
def push_rule(margin: float = 0.9) -> style.Figure:
    """Which anchor the reverse contrastive loss pushes, and where to (paper, Eq. 1 and Figure 2).

    Neighbours, pushes and their direction are those that `losses` computes for the points drawn. A
    diamond holds all points nearer to the anchor than `margin` times its nearest negative, in L1:
    an anchor whose positive lies within is pushed.
    """
    data = torch.tensor(_POINTS, dtype=torch.float64)
    points, labels = data[:, :2].contiguous().requires_grad_(), data[:, 2].long()
    losses.reverse_contrastive_loss(points, labels, margin, extrema_gradient="detached").backward()
    push = -points.grad
    xy = points.detach()
    positive, to_positive, to_negative = losses.nearest_neighbours(xy, labels)
    other = labels[:, None] != labels
    negative = torch.cdist(xy, xy, p=1).masked_fill(~other, math.inf).argmin(1)

    alt = "Three anchors with their nearest positive and negative; arrows show which are pushed and where to."
    figure, axes = style.new(3.9, alt, width=3.8)
    axes.set_aspect("equal")
    axes.grid(False)
    axes.set(xlim=(-0.08, 1.08), ylim=(-0.08, 1.08), xticks=[], yticks=[])
    axes.set(xlabel="one coordinate of the features", ylabel="another coordinate")
    kinds = (("o", "#832db6"), ("s", "#a05a2c"), ("^", "#009E73"))
    for anchor in range(_ANCHORS):
        here, color = xy[anchor], kinds[labels[anchor]][1]
        limit = margin * to_negative[anchor]
        if math.isfinite(limit):
            diamond = here + limit * torch.tensor([(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)])
            axes.add_patch(
                Polygon(diamond.numpy(), facecolor=(color, 0.09), edgecolor=(color, 0.5), linewidth=0.6, zorder=0)
            )
        for end, line in ((positive[anchor], (0, (1, 1.2))), (negative[anchor], "-")):
            axes.plot(*zip(here, xy[end]), color="#303030", linestyle=line, linewidth=1.2, zorder=1)
        if push[anchor].any():
            tip = here + 0.17 * push[anchor] / push[anchor].norm()
            look = {"arrowstyle": "-|>", "color": color, "linewidth": 2, "mutation_scale": 11}
            axes.annotate("", tip.tolist(), here.tolist(), arrowprops=look, zorder=2)
    for label, (marker, color) in enumerate(kinds):
        mine = labels == label
        axes.scatter(
            *xy[mine].T.numpy(), marker=marker, s=42, color=color, edgecolors="white", linewidths=0.8, zorder=3
        )
    for anchor in range(_ANCHORS):
        marker, color = kinds[labels[anchor]]
        area = 210 if marker == "^" else 150  # a triangle needs more room for its number
        axes.scatter(*xy[anchor], marker=marker, s=area, color=color, edgecolors="black", linewidths=0.9, zorder=4)
        look = {"color": "white", "weight": "bold", "fontsize": 7.5, "ha": "center", "va": "center_baseline"}
        axes.text(*xy[anchor], str(anchor + 1), zorder=5, **look)
    line = {"color": "#303030", "linewidth": 1.2}
    handles = [
        Line2D([], [], linestyle=(0, (1, 1.2)), label="nearest positive", **line),
        Line2D([], [], label="nearest negative", **line),
        Line2D([], [], color="#303030", marker=r"$\rightarrow$", markersize=11, linestyle="none", label="pushed"),
    ]
    if math.isfinite(margin):
        handles.append(Line2D([], [], color="none", marker="D", markersize=8, markerfacecolor="#ececec",
                              markeredgecolor="#a0a0a0", label=f"nearer than {margin:g} × negative"))  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure
