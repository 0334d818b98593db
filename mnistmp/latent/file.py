"""One panel of Figure 3 on disk: `results/<preset>/latent/<row>-<split>-seed-<k>.npz`.

About 100 kB for 10,000 digits: coordinates, classes and predictions as arrays, and where they come
from as JSON. Nothing in it is pickled, so reading a file of unknown origin runs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mnistmp import evidence, paths
from mnistmp.errors import InputError
from mnistmp.figures import Panel

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
    arrays = {name: np.asarray(getattr(embedding, name), kind) for name, kind in _ARRAYS.items()}
    return evidence.write(path, arrays, {"format": FORMAT, **about})


def read(path: Path, title: str = "") -> Embedding | None:
    """The panel in a file; None if there is no file.

    Raises:
        InputError: one sentence with the file, what is wrong with it and what to do.
    """
    if not path.exists():
        return None
    arrays, about = evidence.read(path)
    if problem := _problem(arrays, about):
        raise InputError(f"{path} cannot be used: {problem}; delete it and run mnistmp latent.")
    return Embedding(title, **arrays, about=about)


def _problem(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str | None:
    if about.get("format") != FORMAT:
        return f"it is of format version {about.get('format')} instead of {FORMAT}"
    if {name: array.dtype for name, array in arrays.items()} != _ARRAYS:
        return f"it does not hold the arrays {', '.join(_ARRAYS)}"
    if len({len(array) for array in arrays.values()}) > 1:
        return "its arrays do not fit each other"
    if not np.isfinite(arrays["xy"]).all() or arrays["labels"].max() > 9:
        return "it holds points that are not finite, or classes above 9"
    return None
