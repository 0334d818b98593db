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

    Raises:
        ValueError: an odd height or width.
    """
    count, channels, height, width = images.shape
    if height % 2 or width % 2:
        raise ValueError(f"images are {height}x{width}; 2x2 tiles need an even height and width.")
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
        trunk = list(self.classifier)[:-1] if head == "shared" else [nn.Flatten()]
        width = self.classifier[-1 if head == "shared" else 1].in_features
        self.trunk_length = len(trunk)
        self.jigsaw_head = nn.Linear(width, len(PERMUTATIONS))
        self.register_buffer("table", torch.tensor(PERMUTATIONS), persistent=False)  # int64 (24, 4)

    def draw_permutations(self, images: torch.Tensor) -> torch.Tensor:
        """int64 (N,) in 0..23."""
        drawn = self.random(len(images) if self.permutation == "image" else 1, like=images)
        return (drawn * len(PERMUTATIONS)).long().expand(len(images))

    def jigsaw_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, 24) over permutations."""
        hidden = self.classifier[: self.trunk_length](self.features(images))
        return self.jigsaw_head(hidden).float()

    def loss(self, images, labels):
        cross_entropy = F.cross_entropy(self(images).float(), labels)
        permutations = self.draw_permutations(images)
        shuffled = shuffle_tiles(images, self.table[permutations])
        jigsaw = F.cross_entropy(self.jigsaw_logits(shuffled), permutations)
        return cross_entropy + self.weight * jigsaw, {"cross_entropy": cross_entropy, "jigsaw": jigsaw}
