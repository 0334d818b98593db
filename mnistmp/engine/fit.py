"""fit(spec): one training under the paper's protocol, evaluated after every epoch."""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any

import torch

from mnistmp import methods
from mnistmp.engine import cuda_graph
from mnistmp.engine.device import fixed_settings, native_bfloat16, path_name, pick_device
from mnistmp.engine.optimizer import SGD
from mnistmp.engine.seeding import generator, stream_seed
from mnistmp.engine.splits import Splits
from mnistmp.errors import InputError
from mnistmp.fast.layers import accelerate
from mnistmp.methods import Method
from mnistmp.network import initialize
from mnistmp.records.provenance import environment
from mnistmp.records.record import RunRecord
from mnistmp.selection import select
from mnistmp.spec import RunSpec

__all__ = ["Diverged", "Splits", "build", "count_correct", "estimate_seconds", "fit", "fit_selected",
           "native_bfloat16", "path_name", "pick_device", "train_epoch", "try_out"]  # fmt: skip

OnEpoch = Callable[[int, Method, dict[str, Any]], None]


@fixed_settings()
def fit(
    spec: RunSpec,
    *,
    device: str | torch.device | None = None,
    progress: Callable[[str], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> RunRecord:
    """Train once and measure validation and test accuracy after every epoch.

    The same spec gives the same record, apart from times, on the same machine with the
    same number of threads and the same computation path. It does not depend on what the process
    is set to: default dtype and device, gradient mode, autocast, precision of float32 products.
    They are set for the run, `progress` and `on_epoch` included, and put back.

    Args:
        spec: what to train.
        device: "cpu", "cuda" ...; None takes a GPU if there is one.
        progress: called with one line per epoch, for example `print`.
        on_epoch: called as on_epoch(epoch, method, entry) after each evaluation, epoch from 1;
            it may look at the network but must not change it.

    Returns:
        A record of status "done"; or "diverged", with the epoch, when the loss or a weight
        became NaN or infinite.

    Raises:
        DataError: the digits are missing or not what they should be.
    """
    started, clock = datetime.now(timezone.utc), time.perf_counter()
    device = pick_device(device)
    splits = Splits(spec, device)
    method = build(spec, device)
    optimizer = SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay)
    if spec.precision == "bfloat16":
        # The optimiser starts from the unrounded initial weights.
        optimizer.load_weights(list(build(spec, device, "float32").parameters()))
    steps = cuda_graph.recorded(method, optimizer, splits)
    path = f"{device.type}-graph" if steps else path_name(device)
    origin = environment(device, spec.precision, path)  # now: files may change during a long run
    order = generator(spec.seed, "order")
    history: list[dict[str, Any]] = []
    status, diverged_epoch = "done", None
    for epoch in range(1, spec.epochs + 1):
        epoch_clock = time.perf_counter()
        method.train()
        if steps:
            terms = steps.epoch(splits.train_order(order))
        else:
            terms = train_epoch(method, optimizer, splits.train_batches(order))
        if not all(map(math.isfinite, terms.values())) or not optimizer.finite():
            status, diverged_epoch = "diverged", epoch
            break
        entry = {
            "epoch": epoch,
            "val_correct": count_correct(method, splits, "val"),
            "test_correct": count_correct(method, splits, "test"),
            "train_loss": terms.pop("loss"),
            "terms": terms,
            "seconds": round(time.perf_counter() - epoch_clock, 3),
        }
        history.append(entry)
        if progress:
            _report(spec, entry, splits, progress)
        if on_epoch:
            on_epoch(epoch, method, entry)
    return RunRecord(
        spec=spec,
        status=status,
        history=history,
        val_total=splits.total("val"),
        test_total=splits.total("test"),
        environment=origin,
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - clock, 3),
        diverged_epoch=diverged_epoch,
    )


class Diverged(RuntimeError):
    """A training that left no network to look into; `record` says when it diverged."""

    def __init__(self, record: RunRecord):
        self.record = record
        spec = record.spec
        super().__init__(
            f"{spec.row} seed {spec.seed} diverged in epoch {record.diverged_epoch}; there is no network to select."
        )


def fit_selected(
    spec: RunSpec, *, device=None, progress=None, on_epoch: OnEpoch | None = None
) -> tuple[RunRecord, Method]:
    """`fit` that returns (record, method at the best validation epoch)."""
    counts: list[int] = []
    selected: dict[str, Any] = {}

    def keep(epoch: int, method: Method, entry: dict[str, Any]) -> None:
        counts.append(entry["val_correct"])
        if select(counts) == epoch - 1:
            selected.update(method=method, state=copy.deepcopy(method.state_dict()))
        if on_epoch:
            on_epoch(epoch, method, entry)

    record = fit(spec, device=device, progress=progress, on_epoch=keep)
    if record.status != "done":
        raise Diverged(record)
    selected["method"].load_state_dict(selected["state"])
    return record, selected["method"]


def train_epoch(method: Method, optimizer: SGD, batches: Iterable) -> dict[str, float]:
    """Train on the batches; the mean of the loss, as "loss", and of each of its terms."""
    sums: dict[str, torch.Tensor] = {}
    steps = 0
    for images, labels in batches:
        loss, terms = method.loss(images, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        # Sums stay on the device: reading a number off it would stop it at every step.
        for name, value in {"loss": loss, **terms}.items():
            value = value.detach().double()
            sums[name] = sums[name] + value if name in sums else value
        steps += 1
    return {name: float(total) / max(steps, 1) for name, total in sums.items()}


def count_correct(method: Method, splits: Splits, split: str) -> int:
    """How many digits of a split the network gets right."""
    method.eval()
    with torch.inference_mode():
        correct = sum((method(images).argmax(1) == labels).sum() for images, labels in splits.batches(split))
    return int(correct)


def build(spec: RunSpec, device: torch.device, precision: str | None = None) -> Method:
    """The untrained method of a spec, on the device. Weights are drawn on the CPU: equal on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(stream_seed(spec.seed, "initialization"))  # a GPU's stays as it is
        cls = methods.get(spec.method)
        method = cls(cls.network(image_size=spec.image_size), **spec.options)
        initialize(method, spec.initialization)
    dtype = torch.bfloat16 if (precision or spec.precision) == "bfloat16" else torch.float32
    method = method.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    method.generator = generator(spec.seed, "noise", device)
    return accelerate(method)


def try_out(spec: RunSpec) -> None:
    """One loss and its gradient on random images, so that a method's mistakes show before any training."""
    labels = torch.arange(20) % 10
    images = torch.rand(20, 3, spec.image_size, spec.image_size, generator=generator(0, "noise"))
    try:
        method = build(spec, torch.device("cpu"))
        images = images.to(next(method.parameters()).dtype, memory_format=torch.channels_last)
        loss, terms = method.loss(images, labels)
        loss.backward()
        shape = tuple(method(images).shape)
        if shape != (20, 10):
            raise ValueError(f"logits of 20 images have the shape {shape} instead of (20, 10)")
        if not all(map(math.isfinite, (loss.detach(), *(term.detach() for term in terms.values())))):
            raise ValueError(f"the loss is {loss.item():g}")
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"Method {spec.method!r} of row {spec.row} fails on random images ({type(error).__name__}: {said}); "
            "loss(images, labels) returns a scalar tensor and a dict of its terms, the network logits (N, 10)."
        ) from error


@fixed_settings()
def estimate_seconds(spec: RunSpec, device: str | torch.device | None = None, steps: int = 4) -> float:
    """Seconds that `fit(spec)` will take on this machine as loaded now, from timing a few steps."""
    device = pick_device(device)
    splits, method = Splits(spec, device), build(spec, device)
    optimizer = SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay)
    batches = itertools.islice(splits.train_batches(generator(spec.seed, "order")), 2 * steps)
    train_epoch(method, optimizer, itertools.islice(batches, steps))  # the first steps compile and allocate
    clock = time.perf_counter()
    train_epoch(method, optimizer, batches)
    step = (time.perf_counter() - clock) / steps
    # Evaluating a digit costs about a quarter of training on it: one forward pass, nothing kept.
    digits = math.ceil(splits.total("train") / spec.batch_size) * spec.batch_size
    digits += (splits.total("val") + splits.total("test")) / 4
    return spec.epochs * step * digits / spec.batch_size


def _report(spec: RunSpec, entry: dict[str, Any], splits: Splits, progress: Callable[[str], None]) -> None:
    val, test = (100 * entry[f"{s}_correct"] / splits.total(s) for s in ("val", "test"))
    progress(f"{spec.row} seed {spec.seed} epoch {entry['epoch']}/{spec.epochs}  val {val:.2f} %  test {test:.2f} %")
