"""Differences with their 95 % intervals, a line each, where a table would be too long to read."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.lines import Line2D

from mnistmp import paper
from mnistmp.figures import style
from mnistmp.figures.margins import bars
from mnistmp.results import claims as tested
from mnistmp.results.ablation import DEFAULT, PAPER
from mnistmp.results.accuracy import MARGIN, PAPER_RUNS

_LINE = 0.2  # inches


@style.styled
def interpretation_differences(table: pd.DataFrame, *rows: str) -> style.Figure:
    """How far the test accuracy of every interpretation of a row is from the paper's, the nearest first.

    The paper is the line at 0, between the margins within which a difference counts as close. Digits that are
    not the paper's are compared with the default instead.

    Args:
        table: as of `ablation.table`.
        rows: ids of trainings, also shown as stopped early where the paper does so.
    """
    lines = table[(table["interpretation"] != PAPER) & (table["n"] > 0)]
    lines = lines.loc[[paper.row(row).training in rows for row in lines["row"]]]
    default = lines["interpretation"] == DEFAULT
    values, reference = lines[["paper_difference", "paper_ci_low", "paper_ci_high"]], "the paper's"
    if not values["paper_difference"].notna().any():
        values, reference = lines[["difference", "ci_low", "ci_high"]].mask(default, 0), "the default's"
    lines = lines.assign(**dict(zip(("value", "low", "high"), values.to_numpy(float).T)), default=default)
    groups = list(lines.groupby("row", sort=False)) or [(rows[0], lines)]
    alt = f"Test accuracy minus {reference}, every interpretation of " + ", ".join(row for row, _ in groups) + "."
    heights = [max(len(group), 1) for _, group in groups]
    size = _LINE * sum(heights) + 0.3 * len(groups) + 0.6
    figure, grid = style.new(size, alt, rows=len(groups), squeeze=False, sharex=True, height_ratios=heights)
    figure.indexed = True  # a few colours on white
    for axes, (row, group) in zip(grid.flat, groups):
        if group.empty:
            axes.set_axis_off()
            style.say(axes, "no other interpretation is recorded")
            continue
        group = group.sort_values("value", key=abs, kind="stable").sort_values(
            "default", ascending=False, kind="stable"
        )
        axes.set_title(paper.row(row).label, loc="left")
        axes.axvspan(-MARGIN["test"], MARGIN["test"], color="#EFEFEF", linewidth=0, zorder=0)
        names = [f"{line.interpretation} (n = {line.n})" for line in group.itertuples()]
        _dots(axes, names, group, [style.OURS if line.default else style.TEST for line in group.itertuples()])
    grid.flat[-1].set_xlabel(f"Test accuracy minus {reference} (points, 95 % interval; band: ±{MARGIN['test']:g})")
    return figure


@style.styled
def claims(comparisons: pd.DataFrame) -> style.Figure:
    """What the paper says, tested: of each claim, as of `results.claims.compare`, the comparison that decides."""
    verdicts = tested.verdicts(comparisons)
    shown = comparisons.loc[verdicts["deciding"]].reset_index(drop=True)
    lines = shown.assign(value=shown["difference"], low=shown["ci_low"], high=shown["ci_high"])
    lines["verdict"] = verdicts["verdict"].to_numpy()
    alt = "Differences between rows of Table 2 that decide the paper's claims, ours beside the paper's: "
    alt += "; ".join(f"{line.claim}: {line.verdict}" for line in verdicts.itertuples()) + "."
    figure, axes = style.new(0.32 * len(lines) + 0.8, alt, width=style.WIDE)
    for at in range(0, len(lines), 2):
        axes.axhspan(at - 0.5, at + 0.5, color="#F4F4F4", linewidth=0, zorder=0)
    within = {claim.text: claim.within for claim in tested.CLAIMS}
    for at, line in enumerate(lines.itertuples()):  # where two rows are said to hardly differ: how far that goes
        if reach := within.get(line.claim):
            axes.fill_betweenx((at - 0.4, at + 0.4), -reach, reach, color="#DADADA", linewidth=0, zorder=0)
    names = [f"{line.claim}\n{_compared(line)}" for line in lines.itertuples()]
    colors = [style.VALIDATION if split == "val" else style.TEST for split in lines["split"]]
    axes.plot(lines["paper"], [at + 0.2 for at in range(len(lines))], linestyle="none", zorder=3, **style.PAPER_MARKER)
    _dots(axes, names, lines, colors, shift=-0.15)
    axes.set_xlabel("Difference (percentage points)")
    handles = [
        Line2D([], [], color=color, label=f"ours, {name} [95 % interval]", **style.OURS_MARKER)
        for name, color in (("test", style.TEST), ("validation", style.VALIDATION))
    ]
    handles.append(Line2D([], [], linestyle="none", label=f"paper ({PAPER_RUNS} runs)", **style.PAPER_MARKER))
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    return figure


def _compared(line: Any) -> str:
    labels = {row.id: row.label.replace("Standard Training Procedure", "standard") for row in paper.TABLE2}
    return f"{labels[line.higher]} − {labels[line.lower]}"


def _dots(axes: Any, names: list[str], lines: pd.DataFrame, colors: list[str], shift: float = 0.0) -> None:
    # From top to bottom: the name, the difference with its interval beside a line at 0, the verdict.
    for place, (line, color) in enumerate(zip(lines.itertuples(), colors)):
        half = (line.high - line.low) / 2
        bars(axes, [line.value], [place + shift], [half], horizontal=True, color=color, zorder=4, **style.OURS_MARKER)
        axes.text(1.01, place, line.verdict, transform=axes.get_yaxis_transform(), va="center", fontsize=7)
    axes.axvline(0, color=style.PAPER, linewidth=1, zorder=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
