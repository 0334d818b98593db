"""Jigsaw puzzle: recognise how four tiles were shuffled (Carlucci et al. 2019; paper Sec. 5.1)."""

import itertools
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from mnistmp.methods.base import Method, register

# All 4! = 24 orders of 2x2 tiles, the identity first. Output tile t shows input tile PERMUTATIONS[i][t].
PERMUTATIONS = tuple(itertools.permutations(range(4)))


def shuffle_tiles(images: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Cut images into 2x2 tiles and put tile `order[n, t]` of image n at place t.

    Args:
        images: (N, C, H, W) with even H and W; places are 0 1 above 2 3.
        order: int64 (N, 4), a permutation of 0..3 in each row.
    """
    count, channels, height, width = images.shape
    # Channels-last view: (N, row of tiles, y, column of tiles, x, C) -> (N, tile, y, x, C).
    grid = images.permute(0, 2, 3, 1).reshape(count, 2, height // 2, 2, width // 2, channels)
    tiles = grid.transpose(2, 3).flatten(1, 2)
    shuffled = tiles[torch.arange(count, device=images.device)[:, None], order]
    grid = shuffled.unflatten(1, (2, 2)).transpose(2, 3)
    return grid.reshape(count, height, width, channels).permute(0, 3, 1, 2)


@register("jigsaw")
class Jigsaw(Method):
    """Classify the original batch, and the permutation of the shuffled batch.

    Options:
        weight: 10 in the paper.
        permutation: drawn for each "image", or one for the whole "batch".
        head: a layer beside the class layer on the "shared" fully connected layers, as in
            JiGen's network, or directly on the "features".
    """

    def __init__(
        self,
        network,
        weight: float = 10.0,
        permutation: Literal["image", "batch"] = "image",
        head: Literal["shared", "features"] = "shared",
    ):
        super().__init__(network)
        self.weight, self.permutation = weight, permutation
        # The classifier's first layers that both tasks share: all but the last, or the flattening alone.
        self.shared = len(self.classifier) - 1 if head == "shared" else 1
        self.jigsaw_head = nn.Linear(self.classifier[self.shared].in_features, len(PERMUTATIONS))
        self.register_buffer("table", torch.tensor(PERMUTATIONS), persistent=False)  # int64 (24, 4)

    def draw_permutations(self, images: torch.Tensor) -> torch.Tensor:
        """int64 (N,) in 0..23."""
        drawn = self.random(len(images) if self.permutation == "image" else 1, like=images)
        return (drawn * len(PERMUTATIONS)).long().expand(len(images))

    def jigsaw_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 24) over permutations."""
        hidden = self.classifier[: self.shared](self.features(images))
        return self.jigsaw_head(hidden).float()

    def loss(self, images, labels):
        permutations = self.draw_permutations(images)
        shuffled = shuffle_tiles(images, self.table[permutations])
        # "class with the original batch sent through the network, permutation with the shuffled
        # batch" (Sec. 5.1). One pass of both through the shared layers gives what two would.
        hidden = self.classifier[: self.shared](self.features(torch.cat([images, shuffled])))
        original, puzzle = hidden.split(len(images))
        cross_entropy = F.cross_entropy(self.classifier[self.shared :](original).float(), labels)
        guesses = self.jigsaw_head(puzzle).float()
        jigsaw = F.cross_entropy(guesses, permutations)
        solved = (guesses.argmax(1) == permutations).float().mean()
        terms = {"cross_entropy": cross_entropy, "jigsaw": jigsaw, "solved": solved}
        return cross_entropy + self.weight * jigsaw, terms
