"""The reverse contrastive loss (paper Eq. 1 and 2, Algorithm 1) and its mining."""

from __future__ import annotations

import math
from numbers import Real
from typing import Literal, get_args

import torch
from torch import nn

from mnistmp.errors import InputError, check_choice, require
from mnistmp.losses.neighbours import choose, masks, pairwise_l1
from mnistmp.losses.regularizers import at_least_float32, check_batch
from mnistmp.losses.rescaling import unit_range

Scaling = Literal["coordinate", "channel", "batch", "sample"]
Positive = Literal[
    "closest", "second", "farthest", "random", "subset", "shifted", "mean", "active-mean", "active-sum"
]  # fmt: skip
Negative = Literal["closest", "second", "farthest", "random", "subset", "mean"]
Condition = Literal["anchor", "closest", "map", "coordinate", "class", "batch", "batch-map", "batch-coordinate"]
Mining = Literal["scaled", "raw", "euclidean"]
Otherwise = Literal["zero", "negative", "negative-detached", "negative-unweighted"]
SEVERAL = ("mean", "active-mean", "active-sum")  # these push from several positives at once
CHOICES = {
    "scaling": get_args(Scaling), "positive": get_args(Positive), "negative": get_args(Negative),
    "distance": ("sum", "mean", "channel-mean"), "extrema_gradient": ("kept", "detached"),
    "detach": ("after-scaling", "before-scaling"), "mining": get_args(Mining), "condition": get_args(Condition),
    "otherwise": get_args(Otherwise),
}  # fmt: skip


def reverse_contrastive_loss(
    features: torch.Tensor,
    labels: torch.Tensor,
    margin: float = math.inf,
    scaling: Scaling = "coordinate",
    *,
    positive: Positive = "closest",
    negative: Negative = "closest",
    distance: str = "sum",
    extrema_gradient: str = "kept",
    detach: str = "after-scaling",
    mining: Mining = "scaled",
    condition: Condition = "anchor",
    otherwise: Otherwise = "zero",
    epsilon: float = 0.0,
    generator: torch.Generator | None = None,
    return_active: bool = False,
):
    """Push samples of a class apart, until the nearest other class is near.

    Every sample of the batch is an anchor. By default its positive is the nearest other sample
    of its class, its negative the nearest sample of another class, in L1 distance between
    features rescaled to [0, 1]. An anchor whose positive is nearer than `margin` times its
    negative is pushed away from the positive; the positive itself gets no gradient.

    Args:
        features: (N, ...) float, usually F's output (N, C, k, k); channels in dimension 1.
        labels: (N,) integers.
        margin: m of Eq. 1, 0 or more; infinity drops the condition.
        scaling: over what "the maximum and minimum activation values computed batch-wise"
            (Sec. 4.1) are taken: "coordinate", each position of each channel over the batch;
            "channel", each channel over batch and positions; "batch", the whole tensor;
            "sample", each sample over its own coordinates.
            The default is the one whose validation accuracy is near the paper's.
        positive: which other samples of its class an anchor is pushed from. One of them: the
            "closest" (the paper's text), the "second" closest, the "farthest", a "random" one,
            the closest of a random "subset" (each kept with probability 1/2), or "shifted", what
            a slip of an index makes of the closest: its position among the class without the
            anchor, used in the class with it, which for half of the anchors is the member
            before the closest, at times the anchor itself. Or several: all of them, at their
            "mean" distance; "active-mean" and "active-sum" hold the condition of Eq. 1 for each
            of them by itself and take mean or sum over those that meet it.
        negative: which sample of another class the condition compares with, or their "mean" distance.
        distance: "sum" of the coordinates' absolute differences (the L1 distance), their
            "mean", or "channel-mean", the sum over channels of the mean over positions.
        extrema_gradient: whether the gradient flows through minimum and maximum, "kept" or "detached".
        detach: the positive leaves the graph "after-scaling" or "before-scaling".
        mining: neighbours are found, and the condition is tested, among "scaled" or "raw" features in L1, or
            among scaled ones in "euclidean" distance.
        condition: what Eq. 1 is tested for: each "anchor"; the same with the "closest" positive, whichever the
            anchor is pushed from; each "map" (channel) or "coordinate" of an anchor by
            itself, which then pushes or not; or the mean distances of a "class" or of the whole "batch";
            "batch-map" or "batch-coordinate", each map or coordinate by its mean over the batch.
        otherwise: what an anchor contributes that does not meet the condition: "zero" (Eq. 2); or minus `margin` times
            its distance to the negative, so that its loss is -min(d(f_a, f_p), m d(f_a, f_n)) and the anchor is pushed
            from the negative, which gets a gradient ("negative") or none ("negative-detached");
            "negative-unweighted" is the latter without the factor `margin`.
        epsilon: added to maximum - minimum before dividing by it, 0 or more.
        generator: source of what is drawn at random; None for torch's global one.
        return_active: return (loss, share of anchors that were pushed), the share without gradient.

    Returns:
        Scalar <= 0: minus the distance to the positive, averaged over all N anchors. An
        anchor alone in its class has no positive: it counts in N and does not meet the condition. A constant
        coordinate contributes 0.

    Raises:
        ValueError: shapes that do not fit, an empty batch, a negative or NaN margin or epsilon, an unknown name, or a
            condition per map or coordinate, or an `otherwise`, without one positive and one negative to compare.
    """
    _check(margin, epsilon, scaling=scaling, positive=positive, negative=negative, distance=distance, mining=mining,
           extrema_gradient=extrema_gradient, detach=detach, condition=condition, otherwise=otherwise)  # fmt: skip
    check_batch("features", features)
    whole = isinstance(labels, torch.Tensor) and not labels.is_floating_point() and not labels.is_complex()
    require(whole, "labels", labels, "give a class number for each sample, an integer tensor (N,)")
    if features.ndim < 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            f"features {tuple(features.shape)} and labels {tuple(labels.shape)} do not fit; expected (N, ...) and (N,)."
        )
    if labels.device != features.device:
        raise InputError(f"features are on {features.device} and labels on {labels.device}; move labels there.")
    # Distances and extrema do not depend on the order of the coordinates: take the order in
    # which channels-last features lie in memory, (N, k, k, C), and nothing is copied.
    features = at_least_float32(features).movedim(1, -1)
    low, scale = unit_range(features, scaling, extrema_gradient, epsilon)
    if distance == "channel-mean":
        scale = scale / math.prod(features.shape[1:-1])
    scaled = ((features - low) * scale).flatten(1)
    total = torch.mean if distance == "mean" else torch.sum  # of the coordinates' differences

    # Algorithm 1: "normalize features" comes before "detach".
    target = scaled.detach()
    if detach == "before-scaling":
        target = ((features.detach() - low) * scale).flatten(1)

    with torch.no_grad():
        mined = features.flatten(1) if mining == "raw" else scaled
        distances = torch.cdist(mined, mined) if mining == "euclidean" else pairwise_l1(mined)
        same, others = masks(labels)
        opponent, to_negative = choose(distances, ~same, negative, generator)
        by_part = condition.endswith(("map", "coordinate")) and margin != math.inf
        limit = torch.full_like(to_negative, math.inf)
        if margin != math.inf and not by_part:
            limit = margin * to_negative
        if positive.startswith("active"):
            pushed = others & (distances < limit[:, None])  # condition of Eq. 1
            active = pushed.any(1)
        else:
            index, to_positive = choose(distances, others, positive, generator)
            if condition in ("class", "batch"):
                there = to_positive < math.inf
                together = (same if condition == "class" else torch.ones_like(same)).to(distances.dtype)
                near, far = (together @ torch.where(there, one, 0) for one in (to_positive, to_negative))
                active = there if margin == math.inf else there & (near < margin * far)
            else:
                if condition == "closest":
                    _, to_positive = choose(distances, others)
                active = to_positive < limit  # condition of Eq. 1; without a positive its distance is infinite
            pushed = others & active[:, None]

    if positive in SEVERAL:
        pushes = (torch.cdist(scaled, target, p=1) * pushed).sum(1)
        if positive != "active-sum":
            pushes = pushes / pushed.sum(1).clamp(min=1)
        if distance == "mean":
            pushes = pushes / scaled.shape[1]
    else:
        gaps = (scaled - target[index]).abs()
        if by_part:
            own, other = gaps.detach(), (target - target[opponent]).abs()
            own, other = (part.unflatten(1, (-1, features.shape[-1])) for part in (own, other))
            if condition.endswith("map"):
                own, other = (part.sum(1, keepdim=True).expand_as(part) for part in (own, other))
            if condition.startswith("batch"):
                own, other = (part.mul(active[:, None, None]).sum(0).expand_as(part) for part in (own, other))
            met = (own < margin * other).flatten(1)
            gaps = gaps * met
        pushes = total(gaps, 1) * active  # d(f_a, f_p)
        if otherwise != "zero" and margin != math.inf:
            away = total((scaled - (scaled if otherwise == "negative" else scaled.detach())[opponent]).abs(), 1)
            strength = 1 if otherwise == "negative-unweighted" else margin
            pushes = pushes + strength * away * (~active & (to_negative < math.inf))  # d(f_a, f_n)
        if by_part:
            active = active * met.to(gaps.dtype).mean(1)
    loss = -pushes.mean()  # Eq. 2 and the 1/N sum of Algorithm 1
    return (loss, active.to(loss.dtype).mean()) if return_active else loss


class ReverseContrastiveLoss(nn.Module):
    """`reverse_contrastive_loss` as a module, for anyone's own training loop.

    Example: `loss = cross_entropy + alpha * ReverseContrastiveLoss(margin=0.9)(features, labels)`.

    Raises:
        ValueError: a negative or NaN margin, an unknown name or option.
    """

    def __init__(self, margin: float = math.inf, scaling: Scaling = "coordinate", **variant: str | float):
        super().__init__()
        for name in variant.keys() - {*CHOICES, "epsilon"}:
            raise InputError(f"There is no option {name!r}; the options are margin, {', '.join(CHOICES)}, epsilon.")
        _check(margin, scaling=scaling, **variant)
        self.margin, self.scaling, self.variant = margin, scaling, variant

    def forward(self, features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return reverse_contrastive_loss(features, labels, self.margin, self.scaling, **self.variant)

    def extra_repr(self) -> str:
        variant = {"margin": self.margin, "scaling": self.scaling, **self.variant}
        return ", ".join(f"{name}={value!r}" for name, value in variant.items())


def _check(margin, epsilon=0.0, positive="closest", negative="closest", condition="anchor", otherwise="zero", **others):
    require(isinstance(margin, Real) and margin >= 0, "margin", margin, "give a number, 0 or more, or infinity")
    finite = isinstance(epsilon, Real) and 0 <= epsilon < math.inf
    require(finite, "epsilon", epsilon, "give a finite number, 0 or more")
    others |= {"positive": positive, "negative": negative, "condition": condition, "otherwise": otherwise}
    for name, value in others.items():
        check_choice(name, value, CHOICES[name])
    several = positive in SEVERAL or negative == "mean"
    if several and condition not in ("anchor", "closest") or positive[:6] == "active" and condition == "closest":
        raise ValueError(
            f"condition is {condition!r} with positive {positive!r} and negative {negative!r}; "
            "it needs one positive and one negative."
        )
    if otherwise != "zero" and (several or condition != "anchor"):
        raise ValueError(
            f"otherwise is {otherwise!r} with positive {positive!r}, negative {negative!r} and condition "
            f"{condition!r}; it needs one positive, one negative and the condition of each anchor."
        )
