"""A run's digits on its device, coloured batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mnistmp import data
from mnistmp.data import palette
from mnistmp.data.variants import VARIANTS, make
from mnistmp.spec import RunSpec


class Splits:
    """The three splits of a spec's benchmark on a device: grey uint8 pixels, coloured batch by batch.

    `colors="test"` paints every digit of every split in the test colour.
    """

    def __init__(self, spec: RunSpec, device: torch.device):
        digits = data.load(spec.dataset)
        dtype = torch.bfloat16 if spec.precision == "bfloat16" else torch.float32
        self.table = palette.input_table(palette.color_table(), spec.input_range, dtype).to(device)
        self.batch_size, self.drop_last = spec.batch_size, spec.last_batch == "drop"
        self.splits = {}
        for name in palette.SPLITS:
            images, labels, colors, *_ = map(torch.from_numpy, make(VARIANTS["mp"], name, digits))
            if spec.colors == "test":
                colors = torch.full_like(labels, palette.TEST)
            images = palette.resize(images, spec.image_size)
            self.splits[name] = tuple(t.to(device) for t in (images, labels, colors))

    def total(self, split: str) -> int:
        return len(self.splits[split][1])

    def batch(self, split: str, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """(images (B, 3, H, W) channels-last, labels (B,)) of the digits at `index`."""
        grey, labels, colors = (part[index] for part in self.splits[split])
        return palette.color_batch(grey, colors, self.table), labels

    def train_order(self, order: torch.Generator) -> Iterator[torch.Tensor]:
        """Indices (B,) of each batch of one epoch. Drawn on the CPU: every device sees the same batches."""
        shuffled = torch.randperm(self.total("train"), generator=order, device=order.device).to(self.table.device)
        for index in shuffled.split(self.batch_size):
            if len(index) == self.batch_size or not self.drop_last:
                yield index

    def train_batches(self, order: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order, as (images, labels)."""
        for index in self.train_order(order):
            yield self.batch("train", index)

    def batch_sizes(self) -> list[int]:
        """The sizes that `train_order` yields: the usual one, and that of a smaller last batch."""
        full, rest = divmod(self.total("train"), self.batch_size)
        return [self.batch_size] * (full > 0) + [rest] * (rest > 0 and not self.drop_last)

    def batches(self, split: str, size: int = 1000) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A split in its own order. Evaluating 1000 images at once takes a tenth less time than 128."""
        for start in range(0, self.total(split), size):
            yield self.batch(split, slice(start, start + size))
