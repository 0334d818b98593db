"""Plain plots: the lines and bars stand where the numbers are."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from mnistmp import figures


def table():
    return pd.DataFrame({"a": [1.0, 2, 4], "b": [3.0, 2, 1]}, pd.RangeIndex(1, 4, name="epoch"))


def test_lines_are_the_columns_and_references_are_level():
    (axes,) = figures.lines(table(), "accuracy (%)", {"chance": 0.5}, ylim=(0, 5)).axes
    first, second, chance = axes.lines
    assert list(first.get_xdata()) == [1, 2, 3] and list(first.get_ydata()) == [1, 2, 4]
    assert list(second.get_ydata()) == [3, 2, 1] and first.get_linestyle() != second.get_linestyle()
    assert set(chance.get_ydata()) == {0.5}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "chance"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_ylim()) == ("epoch", "accuracy (%)", (0, 5))


def test_lines_of_one_colour_differ_by_their_dashes():
    def dashes(colors):
        (axes,) = figures.lines(table(), "y", colors=colors).axes
        return [line.get_linestyle() for line in axes.lines]

    assert len(set(dashes(["red", "red"]))) == 2
    assert set(dashes(["red", "blue"])) == {"-"}


def test_references_can_be_told_apart():
    (axes,) = figures.lines(table(), "y", {"black": 3.0, "mean": 2.0, "class": 1.0}).axes
    levels = {line.get_label(): str(line._unscaled_dash_pattern) for line in axes.lines[2:]}
    assert list(levels) == ["black", "mean", "class"] and len(set(levels.values())) == 3


@pytest.mark.parametrize("bad", [{"table": pd.DataFrame()}, {"table": table(), "colors": ["red"]}])
def test_lines_refuse_what_does_not_fit(bad):
    with pytest.raises(ValueError):
        figures.lines(bad.pop("table"), "y", **bad)


def test_histogram_counts_every_finite_value():
    values = torch.tensor([[0.1, 0.1, 0.9], [math.nan, 0.5, math.inf]])
    (axes,) = figures.histogram(values, "rate", np.linspace(0, 1, 3), "steps").axes
    assert [bar.get_height() for bar in axes.patches] == [2, 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "steps")


def test_histogram_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no finite"):
        figures.histogram([math.nan], "rate")
