"""Jigsaw puzzle: the shuffle against plain slicing, its inverse, and the drawing of permutations."""

import pytest
import torch
from method_factory import LABELS, build, pictures
from torch.nn import functional as F

from mnistmp.methods.jigsaw import PERMUTATIONS, shuffle_tiles


def test_the_24_permutations():
    assert len(PERMUTATIONS) == len(set(PERMUTATIONS)) == 24 and PERMUTATIONS[0] == (0, 1, 2, 3)
    assert all(sorted(order) == [0, 1, 2, 3] for order in PERMUTATIONS)


@pytest.mark.parametrize("height, width", [(28, 28), (4, 6), (2, 2)])
def test_shuffle_by_slicing_and_back(height, width):
    images = torch.randn(24, 3, height, width)
    order = torch.tensor(PERMUTATIONS)
    shuffled = shuffle_tiles(images, order)
    assert shuffled.shape == images.shape and shuffled.is_contiguous(memory_format=torch.channels_last)

    def tile(image, place):
        rows, columns = divmod(place, 2)
        return image[
            :, rows * height // 2 : (rows + 1) * height // 2, columns * width // 2 : (columns + 1) * width // 2
        ]

    for n, permutation in enumerate(PERMUTATIONS):
        for place in range(4):
            assert torch.equal(tile(shuffled[n], place), tile(images[n], permutation[place]))
    assert torch.equal(shuffle_tiles(shuffled, order.argsort(1)), images), "the inverse order brings every tile back"
    assert torch.equal(shuffled[0], images[0])


def test_permutations_are_drawn_per_image_or_per_batch():
    images = torch.empty(4800, 3, 2, 2)
    drawn = build("jigsaw").draw_permutations(images)
    counts = drawn.bincount(minlength=24)
    assert drawn.shape == (4800,) and drawn.dtype == torch.int64 and len(counts) == 24
    assert ((counts - 200) ** 2 / 200).sum() < 49.7  # chi-squared with 23 degrees of freedom, 0.1 %
    method = build("jigsaw", permutation="batch")
    batches = [method.draw_permutations(images) for _ in range(20)]
    assert all((batch == batch[0]).all() for batch in batches) and len({int(batch[0]) for batch in batches}) > 5


@pytest.mark.parametrize("head", ["shared", "features"])
def test_jigsaw_equals_two_passes(head):
    method, images = build("jigsaw", head=head), pictures()
    _, terms = method.loss(images, LABELS)
    method.generator.manual_seed(0)
    permutations = method.draw_permutations(images)
    shuffled = shuffle_tiles(images, torch.tensor(PERMUTATIONS)[permutations])
    guesses = method.jigsaw_logits(shuffled)
    assert guesses.shape == (6, 24)
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(method(images), LABELS))
    torch.testing.assert_close(terms["jigsaw"], F.cross_entropy(guesses, permutations))
    assert float(terms["solved"]) == float((guesses.argmax(1) == permutations).float().mean())
