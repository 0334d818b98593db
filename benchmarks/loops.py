"""The training loops that training_speed.py compares, one per process: steps on request, timed here.

A worker reads lines "ROW STEPS" and answers each with a line of JSON: seconds of the clock, of the
processor, the loss of the last step and the peak memory so far, in MB.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Normalize, ToTensor

import mnistmp
from mnistmp import engine, paper
from mnistmp.engine import cuda_graph
from mnistmp.engine.optimizer import SGD
from mnistmp.engine.seeding import generator
from mnistmp.engine.splits import Splits

KINDS = ("dataset", "memory", "float32", "bfloat16", "product")
PRODUCT = 2048  # side of the square matrices whose product measures the machine
Step = Callable[[], torch.Tensor]  # one training step; its loss


def spec_for(row: str, data: str, precision: str = "float32"):
    """The paper's training of a row, on whole batches only so that all steps are alike."""
    return paper.spec_for(row, 0, "paper", precision, dataset=data, last_batch="drop")


# ---- what one would write otherwise ----------------------------------------------------------


def textbook(row: str, data: str, device: torch.device, in_memory: bool) -> Step:
    """float32, eager, layers in the usual order, a Dataset read by a DataLoader or its tensors kept in memory."""
    spec = spec_for(row, data)
    features = nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2)
    )  # fmt: skip
    classifier = nn.Sequential(
        nn.Flatten(), nn.Linear(2048, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10)
    )  # fmt: skip
    network = nn.Sequential(features, classifier)
    for own, ours in zip(network.parameters(), engine.build(spec, torch.device("cpu")).parameters()):
        own.data = ours.detach().contiguous()  # the same start for every loop
    network.to(device)
    optimizer = torch.optim.SGD(
        network.parameters(), spec.learning_rate, spec.momentum, weight_decay=spec.weight_decay, nesterov=True
    )
    transform = Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)])
    dataset = mnistmp.MNISTMP(split="train", dataset=data, transform=transform)
    batches = from_memory(dataset, spec, device) if in_memory else from_dataset(dataset, spec, device)

    def step() -> torch.Tensor:
        images, labels = next(batches)
        optimizer.zero_grad()
        maps = features(images)
        loss = nn.functional.cross_entropy(classifier(maps), labels)
        if row.startswith("rcl"):
            loss = loss + reverse_contrastive(maps.flatten(1), labels)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def reverse_contrastive(features: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss at infinite margin, with torch's own pairwise distances."""
    low, high = features.amin(0), features.amax(0)
    scaled = (features - low) / torch.where(high > low, high - low, 1)
    fixed = scaled.detach()
    same = (labels[:, None] == labels).fill_diagonal_(False)
    nearest, positive = torch.cdist(fixed, fixed, p=1).masked_fill(~same, math.inf).min(1)
    return -((scaled - fixed[positive]).abs().sum(1) * (nearest < math.inf)).mean()


def orders(spec, total: int) -> Iterator[list[int]]:
    """The order of each epoch: that of `engine.fit`."""
    drawn = generator(spec.seed, "order")
    while True:
        yield torch.randperm(total, generator=drawn).tolist()


def from_dataset(dataset, spec, device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    for order in orders(spec, len(dataset)):
        for images, labels in DataLoader(dataset, spec.batch_size, sampler=order, drop_last=True):
            yield images.to(device), labels.to(device)


def from_memory(dataset, spec, device) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    images = torch.stack([dataset[index][0] for index in range(len(dataset))]).to(device)
    labels = dataset.targets.to(device)
    for order in orders(spec, len(dataset)):
        for index in torch.tensor(order, device=device).split(spec.batch_size):
            if len(index) == spec.batch_size:
                yield images[index], labels[index]


# ---- ours -------------------------------------------------------------------------------------


def ours(row: str, data: str, device: torch.device, precision: str) -> Callable[[int], float]:
    """The steps of `engine.fit`, without its evaluation: a function of their number, giving the mean loss."""
    spec = spec_for(row, data, precision)
    splits, method = Splits(spec, device), engine.build(spec, device)
    optimizer = SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay)
    if precision == "bfloat16":
        optimizer.load_weights(list(engine.build(spec, device, "float32").parameters()))
    order = generator(spec.seed, "order")
    indices = itertools.chain.from_iterable(splits.train_order(order) for _ in itertools.count())
    graphs = cuda_graph.recorded(method, optimizer, splits)
    if graphs:
        return lambda steps: graphs.epoch(itertools.islice(indices, steps))["loss"]
    batches = (splits.batch("train", index) for index in indices)
    return lambda steps: engine.train_epoch(method, optimizer, itertools.islice(batches, steps))["loss"]


# ---- the worker -------------------------------------------------------------------------------


def prepare(kind: str, row: str, data: str, device: torch.device) -> Callable[[int], float]:
    """A function that takes so many steps and returns their mean loss."""
    if kind in ("float32", "bfloat16"):
        return ours(row, data, device, kind)
    if kind == "product":
        left, right = torch.randn(2, PRODUCT, PRODUCT, device=device, dtype=getattr(torch, row))
        return lambda steps: float(sum((left @ right)[0, 0] for _ in range(steps)))
    step = textbook(row, data, device, in_memory=kind == "memory")
    return lambda steps: float(sum(step() for _ in range(steps)) / steps)


def peak_memory(device: torch.device) -> float | None:
    """MB: of the device's memory on a GPU, else of the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("rows", help="separated by commas; for a product the dtypes")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)

    def synchronize() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    loops = {row: prepare(options.kind, row, options.data, device) for row in options.rows.split(",")}
    for loop in loops.values():
        loop(2)  # compiles, allocates, chooses algorithms
    print("ready", flush=True)
    for line in sys.stdin:
        row, steps = line.split()
        synchronize()
        clock, processor = time.perf_counter(), time.process_time()
        loss = loops[row](int(steps))
        synchronize()
        answer = {
            "seconds": time.perf_counter() - clock,
            "processor": time.process_time() - processor,
            "loss": loss,
            "memory": peak_memory(device),
        }
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
