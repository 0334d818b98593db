"""The training step on a GPU: captured once as a CUDA graph, then replayed without Python in between.

One step launches some fifty short kernels, and an eager loop spends most of its time launching
them. A replayed graph launches all of them at once. What a graph reads and writes keeps its
address: the indices of the batch, the weights, the momentum, the sums of the loss's terms.

Never run on a GPU so far. The tests put eager steps in the place of `as_graph`: the same code but for the capture.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable

import torch

from mnistmp.engine.optimizer import SGD
from mnistmp.engine.splits import Splits
from mnistmp.errors import first_line
from mnistmp.fast import kernels
from mnistmp.methods import Method

WARM_UP = 3  # eager steps before a capture, in which cuDNN and cuBLAS allocate and choose; torch's guide takes 3


def as_graph(step: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """Capture `step` as a CUDA graph and return what replays it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # a capture may not follow work on the default stream
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Otherwise every replay would draw the same masks: only the global generator is known to a graph.
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        step()
    return graph.replay


class RecordedSteps:
    """Steps on the training digits, one recording per size of batch (the last of an epoch is smaller).

    Recording leaves no trace, even where it fails: weights, momentum and the method's generator are as before.

    Args:
        method, optimizer: not yet trained; the optimiser's momentum is zero.
        record: `as_graph`, or what the tests put in its place.
    """

    def __init__(self, method: Method, optimizer: SGD, splits: Splits, record=as_graph):
        self.method, self.optimizer, self.splits = method, optimizer, splits
        self.sums: dict[str, torch.Tensor] = {}
        self.replays: dict[int, tuple[torch.Tensor, Callable[[], None]]] = {}
        weights = [weight.detach().clone() for weight in optimizer.weights]
        noise = method.generator.get_state()
        method.train()
        try:
            for size in splits.batch_sizes():
                index = torch.arange(size, device=splits.table.device)
                # Bound now: each recording keeps indices of its own.
                self.replays[size] = index, record(lambda index=index: self._step(index), method.generator)
        finally:
            optimizer.reset(weights)
            method.generator.set_state(noise)

    def epoch(self, order: Iterable[torch.Tensor]) -> dict[str, float]:
        """Train on the digits of each index tensor (B,); the mean of the loss and of its terms, as `train_epoch`."""
        for total in self.sums.values():
            total.zero_()
        steps = 0
        for chosen in order:
            index, replay = self.replays[len(chosen)]
            index.copy_(chosen)
            replay()
            steps += 1
        return {name: float(total) / max(steps, 1) for name, total in self.sums.items()}

    def _step(self, index: torch.Tensor) -> None:
        loss, terms = self.method.loss(*self.splits.batch("train", index))
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()  # afterwards: a capture then allocates its gradients in the graph's own memory
        for name, value in {"loss": loss, **terms}.items():
            value = value.detach().double()
            if name not in self.sums:  # while warming up, so that its memory is not the graph's
                self.sums[name] = torch.zeros_like(value)
            self.sums[name] += value


def recorded(method: Method, optimizer: SGD, splits: Splits, record=None) -> RecordedSteps | None:
    """Steps recorded for this device; None where there are no graphs, or where this method's step cannot be one.

    MNISTMP_KERNELS=off, which leaves everything to plain torch, is heard here too.
    """
    if record is None:
        if splits.table.device.type != "cuda" or kernels.in_use() == "off":
            return None
        record = as_graph
    try:
        return RecordedSteps(method, optimizer, splits, record)
    except RuntimeError as error:
        warnings.warn(
            f"One step of {type(method).__name__} cannot be captured as a GPU graph and is run piece by piece, which "
            f"is slower ({first_line(error)}); its loss should be free of .item(), of branches on tensor values and of "
            "shapes that depend on them.",
            stacklevel=2,
        )
        return None
