"""The pictures of single notebooks: what is drawn is what was given."""

import math

import pytest
import torch

from mnistmp import figures
from mnistmp.data import palette


def test_confusion_shows_the_shares_of_each_true_class():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    predicted = torch.tensor([0, 0, 0, 3, 1, 9])
    figure = figures.confusion({"here": (predicted, labels), "there": (labels, labels)})
    first, second = figure.axes
    texts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in first.texts}
    assert texts == {(0, 0): "75", (0, 3): "25", (1, 1): "50", (1, 9): "50"}
    assert first.get_title() == "here\nright: 66.7%"
    assert second.get_title() == "there\nright: 100.0%"
    shown = first.images[0].get_array()
    assert shown[0, 3] == 25 and shown[2].sum() == 0  # a class that does not occur stays empty


@pytest.mark.parametrize(
    "groups", [{}, {"x": (torch.zeros(3), torch.zeros(2))}, {"x": (torch.zeros(2, 2), torch.zeros(2, 2))}]
)
def test_confusion_refuses_what_does_not_fit(groups):
    with pytest.raises(ValueError):
        figures.confusion(groups)


def test_color_distances_stand_where_the_colours_are():
    figure = figures.color_distances(
        {"mean": (palette.TEST_COLOR, palette.PALETTE), "white": ((255, 255, 255), palette.PALETTE)}
    )
    (axes,) = figure.axes
    gaps = (palette.PALETTE.double() - palette.TEST_COLOR.double()).norm(dim=1) / 255
    drawn = {text.get_text(): text.get_position() for text in axes.texts[:10]}
    for label in range(10):
        assert drawn[str(label)][0] == pytest.approx(float(gaps[label]))
    heights = [round(drawn[str(label)][1], 6) for label in range(6)]
    assert len(set(heights)) == 6  # six classes tie and are stacked, not drawn over each other
    assert axes.get_xlim()[1] > math.sqrt(3)  # the farthest that two colours can be


def test_color_distances_need_a_candidate():
    with pytest.raises(ValueError, match="nothing to show"):
        figures.color_distances({})


def test_neighbour_distances_draw_an_anchor_per_dot_and_leave_out_the_lonely():
    positive, negative = torch.tensor([1.0, 2.0, math.inf, 0.5]), torch.tensor([4.0, 3.0, 2.0, math.inf])
    figure = figures.neighbour_distances(
        {"a": (positive, negative), "b": (positive[:2] * 10, negative[:2])}, margins=(0.5, 2.0)
    )
    first, second = figure.axes
    assert first.collections[0].get_offsets().tolist() == [[4.0, 1.0], [3.0, 2.0]]
    assert first.get_xlim() == second.get_xlim() == first.get_ylim()  # one scale, so that panels can be compared
    slopes = [line.get_ydata()[1] / line.get_xdata()[1] for line in first.lines]
    assert slopes == pytest.approx([0.5, 2.0])
    for text in first.texts:
        assert 0 <= text.get_position()[0] <= first.get_xlim()[1] and 0 <= text.get_position()[1] <= first.get_ylim()[1]


@pytest.mark.parametrize("groups", [{}, {"x": (torch.zeros(3), torch.zeros(2))}])
def test_neighbour_distances_refuse_what_does_not_fit(groups):
    with pytest.raises(ValueError):
        figures.neighbour_distances(groups)


def test_neighbour_distances_of_a_batch_without_pairs_are_empty():
    lonely = torch.full((3,), math.inf)
    (axes,) = figures.neighbour_distances({"alone": (lonely, lonely)}).axes
    assert len(axes.collections[0].get_offsets()) == 0
