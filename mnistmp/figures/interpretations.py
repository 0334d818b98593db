"""All interpretations of a loss in the plane of validation against test accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from mnistmp import paper
from mnistmp.figures import style

_LOOKS = ((style.TEST, "o"), (style.OURS, "^"), (style.VALIDATION, "o"))


@style.styled
def interpretations(table: pd.DataFrame, highlighted: Mapping[str, str]) -> style.Figure:
    """Test against validation accuracy of RCL's six margins: some interpretations, all others, and the paper's.

    Args:
        table: as of `results.search.table`; trainings of ten epochs are shown.
        highlighted: candidate -> its words in the legend, at most three; they are drawn as curves over the margins.

    Raises:
        ValueError: a highlighted candidate without a run.
    """
    margins = [row for row in paper.TABLE2 if row.method == "rcl" and row.id == row.training]
    whole = table[(table["epochs"] == 10) & (table["n"] > 0) & table["row"].isin([row.id for row in margins])]
    alt = (
        "Test accuracy against validation accuracy for all interpretations of the loss, beside the paper's six margins."
    )
    figure, axes = style.new(3.8, alt)
    figure.indexed = True  # a cloud of points
    others = whole[~whole["candidate"].isin(highlighted)]
    axes.plot(others["val_mean"], others["test_mean"], ".", color=style.NEUTRAL, label="other interpretations")
    for (candidate, words), (color, marker) in zip(highlighted.items(), _LOOKS, strict=False):
        own = whole[whole["candidate"] == candidate].set_index("row")
        own = own.reindex([row.id for row in margins]).dropna(subset="n")
        if own.empty:
            raise ValueError(
                f"{candidate!r} has no run of ten epochs; choose from {', '.join(whole['candidate'].unique())}."
            )
        bars = {"xerr": own["val_std"].fillna(0), "yerr": own["test_std"].fillna(0), "elinewidth": 0.7}
        look = {**style.OURS_MARKER, "marker": marker}
        axes.errorbar(own["val_mean"], own["test_mean"], color=color, label=words, **bars, **look)
    val, val_std, test, test_std = zip(*(row.paper for row in margins), strict=True)
    axes.errorbar(val, test, yerr=test_std, xerr=val_std, elinewidth=0.7, label="paper (10 runs)", **style.PAPER_MARKER)
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for x, y, row in zip(val, test, margins, strict=True):
        aside, side = (6, "left") if x > 99.5 else (-6, "right")  # where few curves are
        look = {"textcoords": "offset points", "va": "center", "ha": side, "path_effects": halo, "zorder": 5}
        axes.annotate(row.label.removeprefix("RCL, "), (x, y), (aside, -7), **look)
    axes.set(xlabel="Validation accuracy (%)", ylabel="Test accuracy (%)", ylim=(0, 100))
    # The square root of the error: most runs lie within half a point of 100 %.
    axes.set_xscale("function", functions=(lambda x: -np.sqrt(np.maximum(100.03 - x, 0)), lambda y: 100.03 - y**2))
    axes.set_xlim(95.0, 100.03)
    axes.set_xticks([96, 97, 98, 99, 99.5, 99.8, 100])
    axes.xaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside upper center", ncols=2)
    return figure
