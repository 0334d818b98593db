"""What a trained network shows, kept: its weights where they are asked for, and what was seen in it as a small file.

Weights of a run take 7 to 14 MB and stay on the machine: `results/<preset>/checkpoints/<row>/seed-<k>.safetensors`,
written by `mnistmp run --checkpoints`. What a notebook looks at takes a few hundred kB and is committed beside the
records: `results/<preset>/evidence/<row>/<name>-seed-<k>.npz`.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import io
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnistmp import engine, files, paper, paths, records
from mnistmp.engine.splits import Splits
from mnistmp.errors import InputError, first_line, require
from mnistmp.methods import Method
from mnistmp.records import RunRecord
from mnistmp.records.provenance import environment
from mnistmp.selection import select
from mnistmp.spec import RunSpec

Look = Callable[[Method, Splits], Mapping[str, Any]]


# ---- weights ----


def checkpoint_path(preset: str, row: str, seed: int) -> Path:
    """Where the weights of a run lie."""
    return paths.results(preset) / "checkpoints" / paths.plain_name(row, "row") / f"seed-{int(seed)}.safetensors"


def lacks_checkpoint(spec: RunSpec, preset: str) -> bool:
    """Whether MNISTMP_CHECKPOINTS asks for all weights, and those of this run are not kept."""
    return bool(os.environ.get("MNISTMP_CHECKPOINTS")) and not checkpoint_path(preset, spec.row, spec.seed).exists()


def keeps_checkpoint(spec: RunSpec, preset: str) -> bool:
    """Whether a run that is trained keeps its weights: where asked for, and of each row the seed that is observed."""
    first = preset in paper.PRESETS and spec.seed == paper.PRESETS[preset].seeds[0] and "+" not in spec.row
    return first or lacks_checkpoint(spec, preset)


def load(row: str, seed: int = 0, preset: str = "paper", device: str | torch.device = "cpu") -> Method:
    """The network of a run at its best validation epoch; `mnistmp.load("rcl-inf")`.

    Returns:
        The run's method, for evaluation: a torch module of float32 that maps images (N, 3, 28, 28) in the run's range,
        [-1, 1] for all of the paper's rows, to logits (N, 10), with `features` and `classifier`.

    Raises:
        InputError: an unknown row, one that reads another's runs, or a seed that is none; its weights were not kept,
            with the command that keeps them; or their file is not usable.
    """
    chosen = paper.row(str(row))
    if chosen.training != chosen.id:
        raise InputError(
            f"Row {chosen.id} is read from the runs of {chosen.training}, which keep the network of their best epoch "
            f"alone; load {chosen.training}."
        )
    require(str(seed).isdecimal(), "seed", seed, "give a whole number from 0 on")
    path = checkpoint_path(preset, chosen.id, seed)
    if not path.exists():
        raise InputError(
            f"The weights of {chosen.id} seed {seed} are not kept here; "
            f"mnistmp run --preset {preset} --rows {chosen.id} --seeds {seed} --checkpoints trains it and keeps them."
        )
    return _read_checkpoint(path, torch.device(device), "float32")[1]


def trained(
    spec: RunSpec, preset: str, device: torch.device, **callbacks: Callable | None
) -> tuple[RunRecord, Method, str]:
    """A run, its network of the best validation epoch, and how it compares: from its checkpoint, or trained now.

    A run that had no record gets one, and a checkpoint where `keeps_checkpoint` says so.

    Args:
        spec, preset: the run and the folder of `results/` that it belongs to.
        callbacks: `progress` and `on_epoch`, as for `engine.fit`; with `on_epoch` it is always trained.

    Returns:
        record, method, and whether the run took the course of the recorded one: "equal", "differs", or "new" if there
        was none.

    Raises:
        engine.Diverged: there is no network.
    """
    from safetensors.torch import save

    path, recorded = checkpoint_path(preset, spec.row, spec.seed), records.find(spec, preset)
    if recorded and recorded.status == "diverged":
        raise engine.Diverged(recorded)
    if path.exists() and not callbacks.get("on_epoch"):
        record, network = _read_checkpoint(path, device)
        if record.spec.key() == spec.key():
            return record, network, _compare(record, recorded)
    try:
        record, network = engine.fit_selected(spec, device=device, **callbacks)
    except engine.Diverged as error:
        if not recorded:  # that it diverged is its result
            records.save(error.record, preset)
        raise
    if not recorded:
        records.save(record, preset)
    if keeps_checkpoint(spec, preset):
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        files.write_atomically(path, save(state, {"record": record.to_text()}))
    return record, network, _compare(record, recorded)


def _compare(record: RunRecord, recorded: RunRecord | None) -> str:
    if recorded is None:
        return "new"
    courses = [[(e["val_correct"], e["test_correct"]) for e in run.history] for run in (recorded, record)]
    return "equal" if courses[0] == courses[1] else "differs"


def _read_checkpoint(path: Path, device: torch.device, precision: str | None = None) -> tuple[RunRecord, Method]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            record = RunRecord.from_text(file.metadata()["record"])
            state = {name: file.get_tensor(name) for name in file.keys()}
        network = engine.build(record.spec, device, precision)
        network.load_state_dict(state)
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{path} holds no usable weights: {first_line(error)}; delete it and train again.") from None
    return record, network.eval()


# ---- what was seen in them ----


def observe(
    row: str, look: Look, preset: str, seed: int = 0, *, every_epoch: bool = False, settings: Mapping[str, Any] = {}
) -> dict[str, np.ndarray]:
    """What `look(network, splits)` returns for the network of a recorded run, from its file or seen now.

    A file that is there and was made for this run by a `look` of the same text is read. Else the network is taken from
    its checkpoint, or trained once more, which takes as long as the run did, and the file is written.

    Args:
        row, seed, preset: the run.
        look: a function with a source, such as one of a notebook's cells. It gets the network of the best validation
            epoch and the splits in the precision of the run (see `engine.Splits`), and returns arrays or tensors by
            name. Its name is the file's. Functions and constants that it uses are no part of its text: name them in
            `settings`, or delete the file where they change.
        every_epoch: look after each epoch; each array then has a first axis of epochs.
        settings: what else decides what is seen, as JSON values.

    Raises:
        InputError: a file that cannot be used.
        engine.Diverged: there is no network.
        DataError: the digits are needed and not here.
    """
    spec = paper.spec_for(row, seed, preset, paper.precision(preset))
    name = paths.plain_name(look.__name__, "look")
    path = paths.results(preset) / "evidence" / spec.row / f"{name}-seed-{seed}.npz"
    code = hashlib.sha256(textwrap.dedent(inspect.getsource(look)).encode()).hexdigest()[:16]
    asked = {"key": spec.key(), "look": code, "every_epoch": every_epoch, "settings": dict(settings)}
    seen, about = read(path) if path.exists() else ({}, {})
    if {name: about.get(name, {}) for name in asked} != asked:  # files of old hold no settings
        seen, origin = _see(spec, look, preset, every_epoch)
        about = {**asked, "spec": spec.to_json(), **origin}
        write(path, seen, about)
    if about["record"] == "differs":
        _say_once(f"{row}, seed {seed}: retrained to look into it; its accuracies differ from the recorded run's.")
    return seen


@functools.cache
def _say_once(text: str) -> None:
    print(text)


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file and where they come from. Nothing in it is pickled: reading it runs nothing."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return arrays, json.loads(arrays.pop("about").tobytes())
    except Exception as error:  # zipfile, zlib, numpy and json promise no list of what bad bytes make them raise
        raise InputError(f"{path} cannot be used: {first_line(error)}; delete it, and it is made again.") from None


def write(path: Path, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> Path:
    """The inverse of `read`; the file is there completely or not at all."""
    text = json.dumps(about, ensure_ascii=False, allow_nan=False)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, about=np.frombuffer(text.encode(), np.uint8))
    return files.write(path, buffer.getvalue(), "free the place, or set MNISTMP_RESULTS")


def _see(spec: RunSpec, look: Look, preset: str, every_epoch: bool) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    device = engine.pick_device()
    splits, seen = Splits(spec, device), []

    def glance(network: Method) -> dict[str, np.ndarray]:
        network.eval()
        with torch.no_grad():
            return {name: array(values) for name, values in look(network, splits).items()}

    if every_epoch or not checkpoint_path(preset, spec.row, spec.seed).exists():
        print(f"Training {spec.row} seed {spec.seed} of preset {preset} to look into its network.")
    watch = (lambda epoch, network, entry: seen.append(glance(network))) if every_epoch else None
    record, network, agreement = trained(spec, preset, device, on_epoch=watch)
    epoch = select([entry["val_correct"] for entry in record.history]) + 1
    origin = {"epoch": epoch, "record": agreement,
              "environment": environment(device, spec.precision, engine.path_name(device))}  # fmt: skip
    if every_epoch:
        return {name: np.stack([one[name] for one in seen]) for name in seen[0]}, origin
    return glance(network), origin


def array(values: Any) -> np.ndarray:
    """A tensor of any device and precision, or anything array-like, as a NumPy array of its own."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        values = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).numpy()
    return np.array(values)  # a copy: weights go on changing while their network is trained
