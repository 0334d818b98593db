"""Accuracy per epoch, for one training or for all of them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.lines import Line2D

from mnistmp import paper, selection
from mnistmp.figures import style
from mnistmp.results.markdown import span

_RULES = {"best-validation": ("o", "best validation"), "early-stop": ("D", "early stop @95")}
# Where the two are the same, as on the original MNIST, the broader line shows behind the other.
_SPLITS = (("val_accuracy", style.VALIDATION, 1.5), ("test_accuracy", style.TEST, 1.0))
_COLUMNS = 3  # panels side by side


@style.styled
def training_curves(history: pd.DataFrame, rows: Sequence[str]) -> style.Figure:
    """Validation and test accuracy per epoch: a thin line per seed, a bold one for their mean.

    The epochs at which Table 2 reads the row are marked on every seed's lines. A diverged seed ends
    in a cross; neither the mean nor a mark counts it.

    Args:
        history: as of `records.history`.
        rows: ids, a panel each; an early-stopping row means the training it reads. A row without records
            gives an empty panel that says so.
    """
    trainings = {row.id: row.training for row in paper.all_rows()}
    panels = list(dict.fromkeys(trainings.get(row, row) for row in rows))
    columns = 2 if len(panels) == 4 else min(_COLUMNS, len(panels))
    lines = math.ceil(len(panels) / columns)
    alt = "Validation and test accuracy per epoch of " + ", ".join(_label(row) for row in panels) + "."
    size = {1: 2.6, 2: 2.2}.get(columns, 1.55)
    figure, grid = style.new(
        size * lines + 0.55, alt, rows=lines, columns=columns, squeeze=False, sharex=True, sharey=True
    )
    figure.indexed = True  # ten seeds in six panels are a thousand thin lines across each other
    used, seeds = [], []
    for axes, row in zip(grid.flat, panels):
        rules = _rules(row)
        used += [rule for rule in rules if rule not in used]
        axes.set_title(textwrap.fill(_label(row), 26 if columns == _COLUMNS else 50))
        seeds.append(_panel(axes, history[history["row"] == row], rules))
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for column in range(columns):  # the lowest panel of each column carries the axis
        lowest = grid[max(r for r in range(lines) if r * columns + column < len(panels)), column]
        lowest.set_xlabel("epoch")
        lowest.xaxis.set_tick_params(labelbottom=True)
    grid[0, 0].set_ylim(0, 104)
    last = int(history["epoch"].max()) if len(history) else 10
    grid[0, 0].set_xlim(1 - 0.04 * last, last * 1.04)
    grid[0, 0].xaxis.get_major_locator().set_params(integer=True)
    figure.supylabel("accuracy (%)", fontsize=8)
    _legend(figure, used, [done for done, _ in seeds if done], diverged=any(lost for _, lost in seeds))
    return figure


def _panel(axes, history, rules):
    """Draw one training; return how many of its seeds finished and how many diverged."""
    if not len(history):
        style.say(axes, "no records yet")
        return 0, 0
    ends = history.groupby("seed")["epoch"].max()
    finished = history.loc[history["status"] == "done", "seed"].unique()
    alone = len(ends) == 1
    for seed, run in history.sort_values("epoch").groupby("seed"):
        values = list(run["val_accuracy"])
        marks = {rule: selection.select(values, 100, rule) for rule in rules} if seed in finished else {}
        for column, color, broad in _SPLITS:
            axes.plot(run["epoch"], run[column], color=color, linewidth=broad * (1.4 if alone else 0.5),
                      alpha=1 if alone else 0.45, zorder=2, gid="seed")  # fmt: skip
            if seed not in finished:
                axes.plot(
                    run["epoch"].iloc[-1:], run[column].iloc[-1:], "x", color=style.OURS, zorder=4, gid="diverged"
                )
            for rule, index in marks.items():
                look = {"markersize": 3.6, "markerfacecolor": "white", "markeredgecolor": color, "markeredgewidth": 0.8}
                at = run.iloc[[index]]
                axes.plot(at["epoch"], at[column], _RULES[rule][0], zorder=4, gid=rule, **look)
    if not alone and len(finished):
        mean = history[history["seed"].isin(finished)].groupby("epoch")[[column for column, *_ in _SPLITS]].mean()
        for column, color, broad in _SPLITS:
            axes.plot(mean.index, mean[column], color=color, linewidth=1.6 * broad, zorder=3, gid="mean")
    return len(finished), len(ends) - len(finished)


def _legend(figure, used, counts, diverged):
    look = {"linestyle": "none", "color": style.OURS, "markersize": 4.5}
    handles = [
        Line2D([], [], color=color, label=label)
        for color, label in ((style.VALIDATION, "validation"), (style.TEST, "test"))
    ]
    for marker, label in (_RULES[rule] for rule in used):
        handles.append(Line2D([], [], marker=marker, markerfacecolor="white", label=label, **look))
    if diverged:
        handles.append(Line2D([], [], marker="x", label="diverged", **look))
    title = None
    if max(counts, default=0) > 1:
        title = f"thin: one seed; bold: mean of {span(counts)} seeds"
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), title=title, title_fontsize=7.5)


def _rules(row):
    return [known.selection for known in paper.all_rows() if known.training == row] or ["best-validation"]


def _label(row):
    label = next((known.label for known in paper.all_rows() if known.id == row), row)
    return label.replace("Standard Training Procedure", "Standard training")
