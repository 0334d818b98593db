"""Table 2 as a picture."""

from __future__ import annotations

import pandas as pd
from matplotlib.lines import Line2D

from mnistmp.figures import style
from mnistmp.figures.margins import bars, paper_note, seeds_note


@style.styled
def table_figure(table: pd.DataFrame) -> style.Figure:
    """Table 2 as a forest plot: every row's mean ± standard deviation, ours above the paper's.

    Args:
        table: as of `table2.table2`, in percent, a line per row from top to bottom. A row
            without records (n = 0) shows the paper's points alone, a row that the paper does
            not have shows ours alone.
    """
    y = pd.Series(range(len(table)), index=table.index)
    group = (table["interpretation"] == "").cumsum()  # a row and its lines →, which share a stripe
    alt = "Test and validation accuracy of every row of Table 2, mean and standard deviation, ours beside the paper's."
    figure, panels = style.new(
        0.25 * len(table) + 0.75, alt, width=style.NARROW, columns=2, sharey=True, width_ratios=(2, 1)
    )
    figure.indexed = True  # a few colours on white
    for axes, split, color in zip(panels, ("test", "val"), (style.TEST, style.VALIDATION)):
        for at in y[group % 2 == 1]:
            axes.axhspan(at - 0.5, at + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
        mean, std = (table[f"paper_{split}_{what}"].astype(float) for what in ("mean", "std"))
        bars(axes, mean, y + 0.17, std, horizontal=True, zorder=2, **style.PAPER_MARKER)
        mean, std = table[f"{split}_mean"], table[f"{split}_std"]
        bars(axes, mean, y - 0.17, std, horizontal=True, color=color, zorder=3, **style.OURS_MARKER)
        axes.grid(False, axis="y")
        axes.set_xlabel("Test accuracy (%)" if split == "test" else "Validation (%)")
    panels[0].set(xlim=(0, 102), ylim=(len(table) - 0.5, -0.5))
    panels[0].set_yticks(y, [_two_lines(label) for label in table["label"]])
    panels[0].tick_params(axis="y", length=0)
    panels[1].tick_params(axis="y", length=0)
    panels[1].set_xlim(right=100 + 0.07 * (100 - panels[1].get_xlim()[0]))
    handles = [
        Line2D([], [], color=style.OURS, label=seeds_note(table["n"][table["n"] > 0]), **style.OURS_MARKER),
        Line2D([], [], linestyle="-", label=paper_note(table), **style.PAPER_MARKER),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return figure


def _two_lines(label: str) -> str:
    for second in (" (with ", " on the ", " negative-"):  # as the paper breaks them; and a long value
        label = label.replace(second, "\n" + second[1:])
    return label
