"""Spectral decoupling: an L2 penalty on the logits (Pezeshki et al. 2021)."""

from typing import Literal

from torch.nn import functional as F

from mnistmp.losses import spectral_decoupling
from mnistmp.methods.base import Method, register


@register("spectral-decoupling")
class SpectralDecoupling(Method):
    """Keep logits small, so that one strong pattern cannot satisfy the loss alone.

    Options:
        weight: 5 in the paper.
        reduction: "mean" over samples and classes; the others are interpretations, see `losses.spectral_decoupling`.
    """

    def __init__(
        self, network, weight: float = 5.0, reduction: Literal["mean", "sum", "half-mean", "true-logit"] = "mean"
    ):
        super().__init__(network)
        self.weight = weight
        self.reduction = reduction

    def loss(self, images, labels):
        logits = self(images).float()
        cross_entropy = F.cross_entropy(logits, labels)
        penalty = spectral_decoupling(logits, labels, self.reduction)
        return cross_entropy + self.weight * penalty, {"cross_entropy": cross_entropy, "squared_logits": penalty}
