"""Channel dropout at a random rate, alone and with the paper's two regularisers (Sec. 4.2 and 5.1)."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from mnistmp.losses import decorrelation, double_soft_orthogonality
from mnistmp.methods.base import Method, register


def channel_mask(features: torch.Tensor, uniforms: torch.Tensor, rate: torch.Tensor, rescale: bool) -> torch.Tensor:
    """Keep a channel of a sample where its uniform number is at least the rate.

    Args:
        features: (N, C, H, W), gives shape and dtype only.
        uniforms: (N or 1, C) in [0, 1).
        rate: scalar tensor in [0, 1).
        rescale: multiply what is kept by 1 / (1 - rate), as `F.dropout2d` does.

    Returns:
        (N or 1, C, 1, 1) factors in the dtype of `features`.
    """
    kept = (uniforms >= rate).float()
    if rescale:
        # The rate is drawn in [0, 1) in steps of 2^-24, so 1 - rate never reaches 0.
        kept = kept / (1 - rate)
    return kept[:, :, None, None].to(features.dtype)


@register("dropout")
class Dropout(Method):
    """Whole-channel dropout on F's output; the rate is drawn anew from [0, 1) at each step.

    Options:
        layer: after "conv2" (on F's output: a factor per channel commutes with ReLU and pooling),
            after "conv1", after "both" with one rate, or on the "classifier"'s two hidden
            layers, unit by unit.
        rescale: multiply what is kept by 1 / (1 - rate).
        mask: a mask of its own per "sample", or one per "batch".
        rate: "uniform" as in the paper, or "half", a fixed 0.5, which the paper argues against.
    """

    def __init__(
        self,
        network,
        layer: Literal["conv2", "conv1", "both", "classifier"] = "conv2",
        rescale: bool = True,
        mask: Literal["sample", "batch"] = "sample",
        rate: Literal["uniform", "half"] = "uniform",
    ):
        super().__init__(network)
        self.layer, self.rescale, self.mask, self.rate = layer, rescale, mask, rate

    def draw_rate(self, like: torch.Tensor) -> torch.Tensor:
        """Scalar tensor: the rate of this step."""
        rate = self.random(1, like=like)[0]
        return rate if self.rate == "uniform" else torch.full_like(rate, 0.5)

    def drop(self, features: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """Features (N, C, H, W) with channels dropped at `rate`."""
        rows = len(features) if self.mask == "sample" else 1
        uniforms = self.random(rows, features.shape[1], like=features)
        return features * channel_mask(features, uniforms, rate, self.rescale)

    def classify(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """conv2's maps (N, 128, 2k, 2k) and F's output (N, 128, k, k), both before dropout there; the logits after."""
        rate = self.draw_rate(images)
        hidden = self.features.pool1(self.features.conv1(images))
        if self.layer in ("conv1", "both"):
            hidden = self.drop(hidden, rate)
        maps = self.features.conv2(hidden)
        hidden = features = self.features.pool2(maps)
        if self.layer in ("conv2", "both"):
            hidden = self.drop(hidden, rate)
        for layer in self.classifier:
            hidden = layer(hidden)
            if self.layer == "classifier" and isinstance(layer, nn.ReLU):
                hidden = self.drop(hidden[:, :, None, None], rate).flatten(1)
        return maps, features, hidden.float()

    def loss(self, images, labels):
        _, _, logits = self.classify(images)
        cross_entropy = F.cross_entropy(logits, labels)
        return cross_entropy, {"cross_entropy": cross_entropy}


@register("dropout-orthogonality")
class DropoutOrthogonality(Dropout):
    """Dropout, and filters kept orthogonal so that none repeats another (Bansal et al. 2018).

    Options, besides dropout's:
        weight: 1 in the paper.
        norm: an interpretation of the penalty, see `losses.double_soft_orthogonality`.
        filters: of "conv2" ("on the same layer as dropout"), or of "both" convolutions.
    """

    def __init__(
        self,
        network,
        weight: float = 1.0,
        norm: Literal["squared", "unsquared", "mean"] = "squared",
        filters: Literal["conv2", "both"] = "conv2",
        **dropout,
    ):
        super().__init__(network, **dropout)
        self.weight, self.norm, self.filters = weight, norm, filters

    def loss(self, images, labels):
        _, _, logits = self.classify(images)
        cross_entropy = F.cross_entropy(logits, labels)
        penalty = double_soft_orthogonality(self.features.conv2.weight, self.norm)
        if self.filters == "both":
            penalty = penalty + double_soft_orthogonality(self.features.conv1.weight, self.norm)
        return cross_entropy + self.weight * penalty, {"cross_entropy": cross_entropy, "orthogonality": penalty}


@register("dropout-covariance")
class DropoutCovariance(Dropout):
    """Dropout, and channels kept uncorrelated on the clean activations (Cogswell et al. 2016).

    Options, besides dropout's:
        weight: 0.01 in the paper.
        layout, reduction: interpretations of the penalty, see `losses.decorrelation`.
        maps: F's output "pooled", or the second convolution's maps before pooling, "unpooled".
    """

    def __init__(
        self,
        network,
        weight: float = 0.01,
        layout: Literal["positions", "pooled", "flat"] = "positions",
        reduction: Literal["sum", "mean"] = "sum",
        maps: Literal["pooled", "unpooled"] = "pooled",
        **dropout,
    ):
        super().__init__(network, **dropout)
        self.weight, self.layout, self.reduction, self.maps = weight, layout, reduction, maps

    def loss(self, images, labels):
        # "before dropout is applied for the calculation" (Sec. 4.2): `classify` returns clean activations.
        maps, features, logits = self.classify(images)
        cross_entropy = F.cross_entropy(logits, labels)
        penalty = decorrelation(features if self.maps == "pooled" else F.relu(maps), self.layout, self.reduction)
        return cross_entropy + self.weight * penalty, {"cross_entropy": cross_entropy, "covariance": penalty}
