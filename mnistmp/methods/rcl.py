"""The paper's own method: cross-entropy plus the reverse contrastive loss (Sec. 4.1, Algorithm 1)."""

import math
from typing import Literal

from torch.nn import functional as F

from mnistmp.losses import reverse_contrastive_loss
from mnistmp.losses.reverse_contrastive import Condition, Mining, Negative, Otherwise, Positive, Scaling
from mnistmp.methods.base import Method, register


@register("rcl")
class RCL(Method):
    """Push features of the same class apart until the nearest other class, times `margin`.

    Options:
        weight: alpha of Algorithm 1; the paper uses 1.
        margin: m of Eq. 1 and 2; infinity drops the condition.
        scaling, positive, negative, distance, extrema_gradient, detach, mining, condition, otherwise, epsilon:
            interpretations of what the text leaves open, see `losses.reverse_contrastive_loss`.
        tensor: "post-relu" is F's output; "pre-relu" the same before its last ReLU.
    """

    added_options = {"positive": "closest", "negative": "closest", "condition": "anchor", "otherwise": "zero",
                     "epsilon": 0.0}  # fmt: skip

    def __init__(
        self,
        network,
        weight: float = 1.0,
        margin: float = math.inf,
        scaling: Scaling = "coordinate",
        distance: Literal["sum", "mean", "channel-mean"] = "sum",
        extrema_gradient: Literal["kept", "detached"] = "kept",
        detach: Literal["after-scaling", "before-scaling"] = "after-scaling",
        mining: Mining = "scaled",
        tensor: Literal["post-relu", "pre-relu"] = "post-relu",
        positive: Positive = "closest",
        negative: Negative = "closest",
        condition: Condition = "anchor",
        otherwise: Otherwise = "zero",
        epsilon: float = 0.0,
    ):
        super().__init__(network)
        self.weight = weight
        self.tensor = tensor
        self.variant = {"margin": margin, "scaling": scaling, "positive": positive, "negative": negative,
                        "distance": distance, "extrema_gradient": extrema_gradient, "detach": detach, "mining": mining,
                        "condition": condition, "otherwise": otherwise, "epsilon": epsilon}  # fmt: skip

    def loss(self, images, labels):
        if self.tensor == "pre-relu":
            raw = F.max_pool2d(self.features[:-1](images), 2)
            features = raw.relu()
        else:
            raw = features = self.features(images)
        cross_entropy = F.cross_entropy(self.classifier(features).float(), labels)
        rcl, active = reverse_contrastive_loss(
            raw, labels, generator=self.generator, return_active=True, **self.variant
        )
        # Algorithm 1, last line: L_CE + alpha * L_RC.
        return cross_entropy + self.weight * rcl, {"cross_entropy": cross_entropy, "rcl": rcl, "active": active}
