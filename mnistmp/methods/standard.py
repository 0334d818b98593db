"""Standard training: cross-entropy alone (Table 2, first and last row)."""

from torch.nn import functional as F

from mnistmp.methods.base import Method, register


@register("standard")
class Standard(Method):
    """Cross-entropy, averaged over the batch."""

    def loss(self, images, labels):
        cross_entropy = F.cross_entropy(self(images).float(), labels)
        return cross_entropy, {"cross_entropy": cross_entropy}
