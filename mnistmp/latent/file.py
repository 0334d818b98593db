"""One panel of Figure 3 on disk: `results/<preset>/latent/<row>-<split>-seed-<k>.npz`.

About 100 kB for 10,000 digits: coordinates, classes and predictions as arrays, and where they come
from as JSON. Nothing in it is pickled, so reading a file of unknown origin runs nothing.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnistmp import paths
from mnistmp.errors import InputError
from mnistmp.figures import Panel
from mnistmp.files import write_atomically

FORMAT = 1  # of the file; raised when its arrays or fields change

_ARRAYS = {"xy": np.float32, "labels": np.uint8, "predicted": np.uint8, "index": np.uint32}


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
    return paths.results(preset) / "latent" / f"{row}-{split}-seed-{seed}.npz"


def save(embedding: Embedding, preset: str) -> Path:
    """Write a panel so that it is there completely or not at all; return its file.

    Raises:
        InputError: it cannot be written.
    """
    about = embedding.about
    path = path_of(preset, about["row"], about["split"], about["seed"])
    text = json.dumps({"format": FORMAT, **about}, ensure_ascii=False, allow_nan=False)
    arrays = {name: np.asarray(getattr(embedding, name), kind) for name, kind in _ARRAYS.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays, about=np.frombuffer(text.encode(), np.uint8))
    try:
        return write_atomically(path, buffer.getvalue())
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{path} cannot be written ({reason}); free the place, or set MNISTMP_RESULTS.") from None


def read(path: Path, title: str = "") -> Embedding | None:
    """The panel in a file; None if there is no file.

    Raises:
        InputError: one sentence with the file, what is wrong with it and what to do.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name].astype(kind, casting="no") for name, kind in _ARRAYS.items()}
            about = json.loads(file["about"].tobytes())
        if about["format"] != FORMAT:
            raise ValueError(f"it is of format version {about['format']} instead of {FORMAT}")
        lengths = {len(array) for array in arrays.values()}
        if len(lengths) > 1 or not np.isfinite(arrays["xy"]).all() or arrays["labels"].max() > 9:
            raise ValueError("its arrays do not fit each other")
    except FileNotFoundError:
        return None
    except Exception as error:  # zipfile, zlib, numpy and json promise no list of what bad bytes make them raise
        reason = str(error).partition("\n")[0][:100] or type(error).__name__
        raise InputError(f"{path} is no usable feature space: {reason}; delete it and run mnistmp latent.") from None
    return Embedding(title, **arrays, about=about)
