"""One panel of Figure 3 on disk: `results/<preset>/latent/<row>-<split>-seed-<k>.npz`.

About 100 kB for 10,000 digits: coordinates, classes and predictions as arrays, and where they come
from as JSON. Nothing in it is pickled, so reading a file of unknown origin runs nothing.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnistmp import paths
from mnistmp.figures import Panel
from mnistmp.files import read_bounded, write_atomically
from mnistmp.spec import RunSpec, SpecError, content_key

FORMAT = 1  # of the file; raised when its arrays or fields change
SIZE_LIMIT = 10_000_000  # bytes, on disk and of each array
MOST_DIGITS = 100_000

_ARRAYS = {"xy": np.float32, "labels": np.uint8, "predicted": np.uint8, "index": np.uint32, "about": np.uint8}
_ABOUT = {"key": str, "spec": dict, "row": str, "split": str, "seed": int, "epoch": int, "record": str, "tsne": dict,
          "environment": dict, "numbers": dict}  # fmt: skip
_NUMBERS = ("accuracy", "purity", "intra", "inter")


class LatentError(ValueError):
    """A feature space that cannot be made, written or used: one sentence with what to do."""


@dataclass(frozen=True, eq=False)
class Embedding(Panel):
    """A panel of Figure 3 and what it shows; `figures.latent_space` draws it as it is.

    Attributes:
        title, xy, labels, predicted: see `figures.Panel`; no points if it was not computed yet.
        index: (N,) which digits of the test set these are.
        about: where it comes from: "spec" and its "key", "row", "split", "seed", the selected
            "epoch", "record" ("equal", "new" or "differs": how the training compares with the
            recorded one), "tsne" (its arguments), "environment", and "numbers".
    """

    index: Any = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


def path_of(preset: str, row: str, split: str, seed: int) -> Path:
    """Where a panel lies."""
    row, split = paths.plain_name(row, "row"), paths.plain_name(split, "split")
    return paths.results(preset) / "latent" / f"{row}-{split}-seed-{int(seed)}.npz"


def save(embedding: Embedding, preset: str) -> Path:
    """Write a panel so that it is there completely or not at all; return its file.

    Raises:
        LatentError: it cannot be written, or could not be read back.
    """
    about = embedding.about
    path = path_of(preset, about["row"], about["split"], about["seed"])
    text = json.dumps({"format": FORMAT, **about}, ensure_ascii=False, allow_nan=False)
    arrays = {name: np.asarray(getattr(embedding, name), kind) for name, kind in _ARRAYS.items() if name != "about"}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, about=np.frombuffer(text.encode(), np.uint8))
    try:
        _parse(buffer.getvalue(), embedding.title)
        return write_atomically(path, buffer.getvalue())
    except LatentError as error:
        raise LatentError(f"{path} is not written: {error}.") from None
    except OSError as error:
        reason = error.strerror or error
        raise LatentError(f"{path} cannot be written ({reason}); free the place, or set MNISTMP_RESULTS.") from None


def read(path: Path, title: str = "") -> Embedding | None:
    """The panel in a file, every value checked; None if there is no file.

    Raises:
        LatentError: one sentence with the file, what is wrong with it and what to do.
    """
    try:
        content = read_bounded(path, SIZE_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LatentError(f"{path} cannot be read ({error.strerror}); make it readable, or delete it.") from None
    try:
        return _parse(content, title)
    except LatentError as error:
        raise LatentError(f"{path} is no usable feature space: {error}; delete it and run mnistmp latent.") from None


def _parse(content: bytes, title: str) -> Embedding:
    _need(len(content) <= SIZE_LIMIT, f"it is larger than {SIZE_LIMIT:,} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # sizes first: a small file can unpack to anything
            sizes = {entry.filename.removesuffix(".npy"): entry.file_size for entry in archive.infolist()}
        _need(sorted(sizes) == sorted(_ARRAYS), f"it holds {', '.join(sorted(sizes))[:200] or 'nothing'}")
        _need(max(sizes.values()) <= SIZE_LIMIT, "an array is too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in _ARRAYS}
        about = json.loads(arrays.pop("about").tobytes(), parse_constant=_refuse)
    except LatentError:
        raise
    except Exception as error:  # zipfile, zlib and numpy promise no list of what bad bytes make them raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LatentError(f"it is torn or not of this kind ({reason[:100]})") from None
    count = len(arrays["labels"]) if arrays["labels"].ndim else 0
    _need(1 <= count <= MOST_DIGITS, f"it holds {count} digits")
    for name, array in arrays.items():
        shape = (count, 2) if name == "xy" else (count,)
        _need(array.dtype == _ARRAYS[name] and array.shape == shape, f"{name} is {array.dtype} {array.shape}")
    _need(np.isfinite(arrays["xy"]).all(), "a coordinate is not finite")
    _need(max(arrays["labels"].max(), arrays["predicted"].max()) <= 9, "a class is above 9")
    _need((np.diff(arrays["index"].astype(int)) > 0).all(), "its digits are out of order")
    _check_about(about)
    return Embedding(title, arrays["xy"], arrays["labels"], arrays["predicted"], arrays["index"], about)


def _check_about(about: Any) -> None:
    _need(type(about) is dict, "its description is not a JSON object")
    found = about.get("format")
    _need(found == FORMAT, f"it is of format version {str(found)[:20]} instead of {FORMAT}")
    for name, kind in _ABOUT.items():
        _need(type(about.get(name)) is kind, f"the field {name!r} is missing or of the wrong kind")
    try:
        dataset = RunSpec.from_json(about["spec"]).dataset
    except SpecError as error:
        raise LatentError(f"its spec is invalid ({str(error).rstrip('.')})") from None
    _need(about["key"] == content_key(about["spec"], dataset), "its key is not that of its spec")
    for name in _NUMBERS:
        value = about["numbers"].get(name)
        _need(type(value) in (int, float) and math.isfinite(value) and value >= 0, f"the number {name!r} is missing")


def _refuse(constant: str):
    raise LatentError(f"its description holds {constant}")


def _need(condition: Any, problem: str) -> None:
    if not condition:
        raise LatentError(problem)
