"""Reconstruction: features must still know the input image (after Ghifary et al. 2015; paper Sec. 5.1)."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from mnistmp.methods.base import Method, register


@register("reconstruction")
class Reconstruction(Method):
    """Classify, and rebuild the image from F's output.

    The paper gives the decoder as four transposed convolutions with tanh last and no widths.
    The mirror of F is exactly that: each pooling becomes a 2x2 stride-2 transposed convolution
    and each 5x5 convolution a 5x5 transposed one; sides 4 -> 8 -> 12 -> 24 -> 28.

    Options:
        weight: 1 in the paper.
        error: "squared" or "absolute" difference.
        reduction: "mean" over pixels, or their "sum" per image.
    """

    def __init__(
        self,
        network,
        weight: float = 1.0,
        error: Literal["squared", "absolute"] = "squared",
        reduction: Literal["mean", "sum"] = "mean",
    ):
        super().__init__(network)
        self.weight, self.error, self.reduction = weight, error, reduction
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(128, 128, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5), nn.ReLU(),
            nn.ConvTranspose2d(64, 64, 2, stride=2), nn.ReLU(),
            nn.ConvTranspose2d(64, 3, 5), nn.Tanh(),
        )  # fmt: skip

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N, 3, H, W) in [-1, 1] as the decoder sees them."""
        return self.decoder(self.features(images))

    def loss(self, images, labels):
        features = self.features(images)
        cross_entropy = F.cross_entropy(self.classifier(features).float(), labels)
        gap = self.decoder(features).float() - images.float()
        gap = gap.square() if self.error == "squared" else gap.abs()
        error = gap.mean() if self.reduction == "mean" else gap.flatten(1).sum(1).mean()
        return cross_entropy + self.weight * error, {"cross_entropy": cross_entropy, "reconstruction": error}
