"""Accuracy against the margin of the reverse contrastive loss."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from mnistmp.figures import style
from mnistmp.results.markdown import span

_ASIDE = 0.006  # ours and the paper's points stand this far beside their margin
_CLOSEST = {"marker": "^", "markersize": 4.5, "color": style.OURS}


@style.styled
def margin_curve(table: pd.DataFrame, closest: pd.DataFrame | None = None) -> style.Figure:
    """Validation and test accuracy against the margin m, ours beside the paper's.

    Args:
        table: as of `table2.table2`: percent; a row `rcl-m<number>` or `rcl-inf` per margin, and
            `standard` for the dashed line. Rows without a run (n = 0) show the paper's point
            alone, rows that the paper does not have show ours alone. Error bars are standard
            deviations over seeds, n of them; one seed has none.
        closest: the same rows under another interpretation, as of `table2.closest`, drawn in black.

    Raises:
        ValueError: no row has a margin.
    """
    rows = table.assign(margin=table["id"].map(_margin)).dropna(subset="margin").sort_values("margin")
    if not len(rows):
        raise ValueError("The table has no margin; give a table with rows such as rcl-m0.9 and rcl-inf.")
    finite = rows["margin"][rows["margin"] < math.inf]
    at_infinity = (finite.max() if len(finite) else 0.0) + 0.2
    rows["x"] = rows["margin"].where(rows["margin"] < math.inf, at_infinity)

    alt = "Validation and test accuracy against the margin m of the reverse contrastive loss, ours beside the paper's."
    figure, (top, bottom) = style.new(3.4, alt, rows=2, sharex=True, height_ratios=(1, 2))
    figure.indexed = True  # a few colours on white
    for axes, split, color in ((top, "val", style.VALIDATION), (bottom, "test", style.TEST)):
        ours = rows[rows[f"{split}_mean"].notna()]
        solid, dotted = ours[ours["margin"] < math.inf], ours[-2:]
        axes.plot(solid["x"] - _ASIDE, solid[f"{split}_mean"], color=color, zorder=2)
        if len(solid) < len(ours):  # dotted towards infinity, which is no number on this axis
            axes.plot(dotted["x"] - _ASIDE, dotted[f"{split}_mean"], color=color, linestyle=(0, (1, 1.5)), zorder=2)
        mean, std = ours[f"{split}_mean"], ours[f"{split}_std"]
        bars(axes, ours["x"] - _ASIDE, mean, std, color=color, zorder=4, **style.OURS_MARKER)
        mean, std = (rows[f"paper_{split}_{what}"].astype(float) for what in ("mean", "std"))
        bars(axes, rows["x"] + _ASIDE, mean, std, zorder=3, **style.PAPER_MARKER)
        if closest is not None:
            other = closest.assign(margin=closest["id"].map(_margin)).query("margin < inf and n > 0")
            at, mean, std = other["margin"] - 3 * _ASIDE, other[f"{split}_mean"], other[f"{split}_std"]
            axes.plot(at, mean, color=style.OURS, linewidth=1.0, zorder=2)
            bars(axes, at, mean, std, zorder=4, **_CLOSEST)
        standard = table.loc[table["id"] == "standard", f"{split}_mean"]
        if standard.notna().any():
            axes.axhline(standard.iloc[0], color=color, linestyle=(0, (5, 3)), linewidth=0.9, zorder=1)
        axes.set_ylabel(f"{'Validation' if split == 'val' else 'Test'}\naccuracy (%)")
    bottom.set(xlabel="margin m", ylim=(0, 100), xlim=(rows["x"].min() - 0.06, rows["x"].max() + 0.06))
    bottom.set_xticks(rows["x"], ["∞" if margin == math.inf else f"{margin:g}" for margin in rows["margin"]])
    top.set_ylim(top=100 + 0.04 * (100 - top.get_ylim()[0]))
    if len(finite) < len(rows):
        _break_axis((top, bottom), at_infinity - 0.1)
    handles = [
        Line2D([], [], color=style.OURS, label=seeds_note(rows["n"][rows["n"] > 0]), **style.OURS_MARKER),
        Line2D([], [], linestyle="none", label=paper_note(table), **style.PAPER_MARKER),
    ]
    if closest is not None:
        handles.insert(1, Line2D([], [], label="ours, lines → of Table 2", **_CLOSEST))
    if standard.notna().any():
        handles.append(
            Line2D([], [], color=style.OURS, linestyle=(0, (5, 3)), linewidth=0.9, label="ours, standard training")
        )
    figure.legend(handles=handles, loc="outside upper center", ncols=2 if closest is not None else 3)
    return figure


def _margin(row_id: str) -> float:
    match = re.fullmatch(r"rcl-(?:m(\d*\.?\d+)|m?(inf))", str(row_id))
    return float(match[1] or match[2]) if match else math.nan


def seeds_note(counts: pd.Series) -> str:
    """The legend's words for ours, with how many seeds stand behind a point."""
    if not len(counts):
        return "ours: no records yet"
    return "ours (1 seed)" if max(counts) == 1 else f"ours ± std ({span(counts)} seeds)"


def paper_note(table: pd.DataFrame) -> str:
    """The legend's words for the paper's, which are never those of other digits."""
    where = "" if table.attrs.get("dataset", "mnist") == "mnist" else ", on MNIST,"
    return f"paper{where} ± std (10 runs)"


def bars(axes: Any, x: Any, y: Any, std: Any, horizontal: bool = False, **look: Any) -> None:
    """Markers with error bars; where the standard deviation is unknown, with one seed, without a bar."""
    known = {"xerr" if horizontal else "yerr": np.nan_to_num(np.asarray(std, float))}
    axes.errorbar(np.asarray(x, float), np.asarray(y, float), linestyle="none", elinewidth=1.0, **known, **look)


def _break_axis(panels: Any, x: float) -> None:
    for axes in panels:  # a white gap and two strokes in the axis: what follows is not to scale
        place = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot([x - 0.008, x + 0.008], [0, 0], color="white", linewidth=3, zorder=5, **place)
        look = {"marker": [(-0.5, -1), (0.5, 1)], "markersize": 6, "color": "#404040", "linestyle": "none"}
        axes.plot([x - 0.008, x + 0.008], [0, 0], markeredgewidth=0.8, zorder=6, **look, **place)
