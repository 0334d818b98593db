"""fit(spec): one training under the paper's protocol, evaluated after every epoch."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from typing import Any

import torch

from mnistmp import benchmark, data, kernels, methods, protocol, records
from mnistmp.environment import environment
from mnistmp.methods import Method
from mnistmp.network import LeNet, initialize
from mnistmp.optimizer import SGD
from mnistmp.records import RunRecord
from mnistmp.selection import select
from mnistmp.spec import RunSpec, SpecError

OnEpoch = Callable[[int, Method, dict[str, Any]], None]


def fit(
    spec: RunSpec,
    *,
    device: str | torch.device | None = None,
    progress: Callable[[str], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> RunRecord:
    """Train once and measure validation and test accuracy after every epoch.

    The same spec gives the same record, apart from times, on the same machine with the
    same number of threads and the same computation path.

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
    origin = environment(device, spec.precision, path_name(device))  # now: files may change during a long run
    splits = Splits(spec, device)
    method = build(spec, device)
    optimizer = SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay)
    if spec.precision == "bfloat16":
        # The optimiser starts from the unrounded initial weights.
        optimizer.load_weights(list(build(spec, device, "float32").parameters()))
    order = generator(spec.seed, "order")
    history: list[dict[str, Any]] = []
    status, diverged_epoch = "done", None
    for epoch in range(1, spec.epochs + 1):
        epoch_clock = time.perf_counter()
        method.train()
        terms = train_epoch(method, optimizer, splits.train_batches(order))
        if not math.isfinite(terms["loss"]) or not optimizer.finite():
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


def train_missing(
    specs: Iterable[RunSpec], preset: str, *, device=None, progress: Callable[[str], None] | None = None
) -> list[RunRecord]:
    """The records of these runs, training and saving those that `results/<preset>` lacks.

    Raises:
        RecordError: a record exists but cannot be read or belongs to another spec; nothing
            is trained then, and nothing is overwritten.
    """
    specs = list(specs)
    found = [records.find(spec, preset) for spec in specs]
    finished = []
    for spec, record in zip(specs, found):
        if record is None:
            record = fit(spec, device=device, progress=progress)
            records.save(record, preset)
        finished.append(record)
    return finished


def fit_selected(spec: RunSpec, rule: str = "best-validation", *, device=None, on_epoch: OnEpoch | None = None):
    """Train and return (record, method at the epoch that `rule` selects), for looking into a network."""
    total = len(data.load(spec.dataset).test_labels)
    counts: list[int] = []
    selected: dict[str, Any] = {}

    def keep(epoch: int, method: Method, entry: dict[str, Any]) -> None:
        counts.append(entry["val_correct"])
        if select(counts, total, rule) == epoch - 1:
            selected.update(method=method, state=copy.deepcopy(method.state_dict()))
        if on_epoch:
            on_epoch(epoch, method, entry)

    record = fit(spec, device=device, on_epoch=keep)
    if record.status != "done":
        raise RuntimeError(f"{spec.row} seed {spec.seed} diverged in epoch {record.diverged_epoch}; there is no network to select.")
    selected["method"].load_state_dict(selected["state"])
    return record, selected["method"]


class Splits:
    """The three splits of a spec's benchmark on a device: grey uint8 pixels, coloured batch by batch.

    `colors="test"` paints every digit of every split in the test colour, "white" in white.
    """

    def __init__(self, spec: RunSpec, device: torch.device):
        digits = data.load(spec.dataset)
        white = torch.full_like(benchmark.TEST_COLOR, 255)
        table = benchmark.color_table(test_color=white if spec.colors == "white" else benchmark.TEST_COLOR)
        dtype = torch.bfloat16 if spec.precision == "bfloat16" else torch.float32
        self.table = benchmark.input_table(table, spec.input_range, dtype).to(device)
        self.batch_size, self.drop_last = spec.batch_size, spec.last_batch == "drop"
        self.splits = {}
        for name in ("train", "val", "test"):
            images, labels, colors = benchmark.split_digits(digits, name)
            if spec.colors != "class":
                colors = torch.full_like(labels, benchmark.TEST)
            images = benchmark.resize(images, spec.image_size, spec.resize)
            self.splits[name] = tuple(t.to(device) for t in (images, labels, colors))

    def total(self, split: str) -> int:
        return len(self.splits[split][1])

    def batch(self, split: str, index: torch.Tensor | slice) -> tuple[torch.Tensor, torch.Tensor]:
        """(images (B, 3, H, W) channels-last, labels (B,)) of the digits at `index`."""
        grey, labels, colors = (part[index] for part in self.splits[split])
        return benchmark.color_batch(grey, colors, self.table), labels

    def train_batches(self, order: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """One epoch in random order. The order is drawn on the CPU: every device sees the same batches."""
        shuffled = torch.randperm(self.total("train"), generator=order).to(self.table.device)
        for index in shuffled.split(self.batch_size):
            if len(index) == self.batch_size or not self.drop_last:
                yield self.batch("train", index)

    def batches(self, split: str, size: int = 128) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """A split in its own order. Small batches stay in the processor's cache."""
        for start in range(0, self.total(split), size):
            yield self.batch(split, slice(start, start + size))


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
        torch.manual_seed(stream_seed(spec.seed, "initialization"))
        method = methods.get(spec.method)(LeNet(image_size=spec.image_size), **spec.options)
        initialize(method, spec.initialization)
    dtype = torch.bfloat16 if (precision or spec.precision) == "bfloat16" else torch.float32
    method = method.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    method.generator = generator(spec.seed, "noise", device)
    return method


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one purpose ("initialization", "order", "noise") of run `seed`, unrelated to the others."""
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, stream: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of random numbers for one purpose of run `seed`."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream))


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def path_name(device: torch.device) -> str:
    """Name of the computation path, part of the record: results are bit-equal only within one."""
    if device.type != "cpu":
        return f"{device.type}-eager"
    return "cpu-numba" if kernels.available() else "cpu-eager"


def native_bfloat16(device: str | torch.device | None = None) -> bool:
    """Whether the device multiplies bfloat16 in hardware; where it does not, float32 is faster."""
    device = pick_device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16") or torch.cpu.get_capabilities().get("avx512_bf16"))


def resolve_precision(preset_name: str, requested: str | None = None) -> str:
    """The precision to run a preset at: as asked, else the preset's own.

    "auto" goes on with the precision of the records that are there; on a fresh start it is
    bfloat16 where the device multiplies it natively, else float32.

    Raises:
        SpecError: another precision than that of the preset's records is asked for.
    """
    recorded = set(records.load(preset_name)["precision"])
    wanted = requested or protocol.preset(preset_name).precision
    if requested and recorded - {requested}:
        raise SpecError(
            f"results/{preset_name} holds {', '.join(sorted(recorded))} records, and {requested} is asked for; one table "
            f"takes one precision, so leave --precision out or set MNISTMP_RESULTS to another folder."
        )
    if wanted != "auto":
        return wanted
    if len(recorded) == 1:
        return recorded.pop()
    return "bfloat16" if native_bfloat16() else "float32"


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


def worker_environment() -> dict[str, str]:
    """Environment variables under which a training process on a CPU runs best.

    One thread each: two processes of one thread do more than one process of two. glibc's
    allocator keeps what it has instead of returning it to the system after each step (page
    faults cost a tenth of the time), and asks for huge pages. Other systems ignore these.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    malloc = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
    return {**threads, "GLIBC_TUNABLES": malloc}


def _report(spec: RunSpec, entry: dict[str, Any], splits: Splits, progress: Callable[[str], None] | None) -> None:
    val, test = (100 * entry[f"{s}_correct"] / splits.total(s) for s in ("val", "test"))
    if progress:
        progress(f"{spec.row} seed {spec.seed} epoch {entry['epoch']}/{spec.epochs}  val {val:.2f} %  test {test:.2f} %")
    path = os.environ.get("MNISTMP_PROGRESS")
    if path:
        line = {"row": spec.row, "seed": spec.seed, "epoch": entry["epoch"], "epochs": spec.epochs,
                "val": val, "test": test, "seconds": entry["seconds"]}  # fmt: skip
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
