"""Representation self-challenging: mute what the prediction rests on most (Huang et al. 2020)."""

from typing import Literal

import torch
from torch.nn import functional as F

from mnistmp.methods.base import Method, register


def most_responsible(scores: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
    """True where a score is among the round(rate * D) largest of its row.

    Args:
        scores: (N, D) float.
        rate: scalar tensor in [0, 1]; it stays a tensor, so no value leaves the device.

    Returns:
        bool (N, D); of equal scores the earlier one counts as larger.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    ranks = order.argsort(1)  # the inverse permutation: 0 for the largest score
    return ranks < (rate * scores.shape[1]).round()


@register("rsc")
class RSC(Method):
    """Mute the channels with the largest gradient of the true logit, in every sample.

    The gradient is that of the true class's logit with respect to F's output; only its most
    positive entries are muted, nothing is rescaled, and the loss is the cross-entropy of the
    muted features alone, as in the authors' code (DeLightCMU/RSC). The paper mutes in 100 % of
    the samples and reuses dropout's random rate (Sec. 5.1).

    Options:
        unit: what is muted: whole "channel"s, single "element"s (DomainBed), whole "position"s,
            or "mixed", channels or positions at random per step (the authors' code).
        score: "gradient", averaged over the unit, or "gradient-activation", times the feature.
        rate: "uniform" in [0, 1) per step, or the authors' fixed "third".
        target: whose gradient is taken: the true class's "logit", its "probability", or minus the "loss".
        rescale: multiply what is kept by 1 / (1 - rate), as dropout does.
    """

    def __init__(
        self,
        network,
        unit: Literal["channel", "element", "position", "mixed"] = "channel",
        score: Literal["gradient", "gradient-activation"] = "gradient",
        rate: Literal["uniform", "third"] = "uniform",
        target: Literal["logit", "probability", "loss"] = "logit",
        rescale: bool = False,
    ):
        super().__init__(network)
        self.unit, self.score, self.rate, self.target, self.rescale = unit, score, rate, target, rescale

    def target_gradient(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """d (sum of the true classes' logits, probabilities or log-probabilities, by `target`) / d features.

        Shape (N, C, H, W), outside the graph.
        """
        # A detached copy is differentiated, so the graph from images to features stays untouched.
        with torch.enable_grad():
            copy = features.detach().requires_grad_()
            logits = self.classifier(copy).float()
            if self.target == "probability":
                logits = logits.softmax(1)
            elif self.target == "loss":
                logits = logits.log_softmax(1)
            chosen = logits.gather(1, labels[:, None]).sum()
            return torch.autograd.grad(chosen, copy)[0].float()

    def muted(self, features: torch.Tensor, labels: torch.Tensor, rate: torch.Tensor) -> torch.Tensor:
        """bool, broadcastable to features: what is set to zero."""
        score = self.target_gradient(features, labels)
        if self.score == "gradient-activation":
            score = score * features.detach().float()
        if self.unit == "element":
            return most_responsible(score.flatten(1), rate).view_as(features)
        channels = most_responsible(score.mean((2, 3)), rate)[:, :, None, None]
        if self.unit == "channel":
            return channels
        positions = most_responsible(score.mean(1).flatten(1), rate).unflatten(1, features.shape[2:])[:, None]
        if self.unit == "position":
            return positions
        return torch.where(self.random(1, like=features) < 0.5, channels, positions)

    def loss(self, images, labels):
        features = self.features(images)
        rate = self.random(1, like=features)[0]
        if self.rate == "third":
            rate = torch.full_like(rate, 1 / 3)
        kept = features.masked_fill(self.muted(features, labels, rate), 0)
        if self.rescale:
            kept = kept / (1 - rate)
        cross_entropy = F.cross_entropy(self.classifier(kept.to(features.dtype)).float(), labels)
        return cross_entropy, {"cross_entropy": cross_entropy}
