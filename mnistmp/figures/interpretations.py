"""All interpretations of a loss in the plane of validation against test accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.patheffects import withStroke

from mnistmp import paper
from mnistmp.figures import style


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
    colors = (style.VALIDATION, style.TEST, style.OURS)
    for (candidate, words), color in zip(highlighted.items(), colors, strict=False):
        own = whole[whole["candidate"] == candidate].set_index("row")
        own = own.reindex([row.id for row in margins]).dropna(subset="n")
        if own.empty:
            raise ValueError(
                f"{candidate!r} has no run of ten epochs; choose from {', '.join(whole['candidate'].unique())}."
            )
        bars = {"xerr": own["val_std"].fillna(0), "yerr": own["test_std"].fillna(0), "elinewidth": 0.7}
        axes.errorbar(own["val_mean"], own["test_mean"], color=color, label=words, **bars, **style.OURS_MARKER)
    val, val_std, test, test_std = zip(*(row.paper for row in margins), strict=True)
    axes.errorbar(val, test, yerr=test_std, xerr=val_std, elinewidth=0.7, label="paper (10 runs)", **style.PAPER_MARKER)
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for x, y, row in zip(val, test, margins, strict=True):
        look = {"textcoords": "offset points", "va": "center", "ha": "right", "path_effects": halo, "zorder": 5}
        axes.annotate(row.label.removeprefix("RCL, "), (x, y), (-5, 6), **look)
    axes.set(xlabel="Validation accuracy (%)", ylabel="Test accuracy (%)", xlim=(95.5, 100.1), ylim=(0, 100))
    figure.legend(loc="outside upper center", ncols=2)
    return figure
