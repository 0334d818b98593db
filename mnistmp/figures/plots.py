"""Plain plots that several notebooks need: lines over a quantity, and a distribution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mnistmp.figures import style

_REFERENCES = ((0, (6, 3)), (0, (3, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)))


@style.styled
def lines(
    table: pd.DataFrame,
    ylabel: str,
    references: Mapping[str, float] | None = None,
    colors: Sequence[str] | None = None,
    ylim: tuple[float | None, float | None] = (None, None),
    log: bool = False,
) -> style.Figure:
    """A line per column of a table, over its index.

    Args:
        table: numbers; the index's name is the label of the x axis, the columns' names the legend.
        ylabel: what the numbers are, with their unit.
        references: label -> height of a grey line with dashes of its own, such as what guessing gives.
        colors: one per column, for instance `figures.VALIDATION` and `figures.TEST`; columns of one colour
            get dashes of their own. None for the style's colours.
        ylim: lowest and highest value shown; None to fit the data.
        log: a logarithmic axis, for values above 0 that are many times larger than others.
    """
    names = [str(column) for column in table.columns]
    figure, axes = style.new(2.4, f"{ylabel} over {table.index.name or 'the index'}: {', '.join(names)}.")
    marker = "o" if len(table) <= 30 else None
    for at, name in enumerate(names):
        color, dashes = (f"C{at % 8}", at) if colors is None else (colors[at], list(colors[:at]).count(colors[at]))
        axes.plot(table.index, table.iloc[:, at], label=name, marker=marker, markersize=3, zorder=3,
                  color=color, linestyle=_DASHES[dashes % len(_DASHES)])  # fmt: skip
    for at, (label, height) in enumerate((references or {}).items()):
        dashes = _REFERENCES[at % len(_REFERENCES)]
        axes.axhline(height, color=style.PAPER, linewidth=0.9, linestyle=dashes, label=label, zorder=1)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
        axes.grid(True, which="minor", linewidth=0.25)
    axes.set(xlabel=table.index.name or "", ylabel=ylabel, ylim=ylim)
    if pd.api.types.is_integer_dtype(table.index):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


@style.styled
def histogram(values: Any, xlabel: str, bins: int | Sequence[float] = 20, ylabel: str = "count") -> style.Figure:
    """How often each value occurs.

    Args:
        values: numbers of any shape.
        bins: how many intervals of equal width, or their edges.
    """
    values = style.array(values).astype(float).ravel()
    values = values[np.isfinite(values)]
    figure, axes = style.new(2.0, f"Histogram of {len(values)} values: {xlabel}.", width=4.2)
    axes.hist(values, bins, color="C0", edgecolor="white", linewidth=0.5, zorder=2)
    axes.grid(False, axis="x")
    axes.set(xlabel=xlabel, ylabel=ylabel)
    return figure
