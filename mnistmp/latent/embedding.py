"""The features of the network of the best validation epoch: t-SNE and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mnistmp import engine
from mnistmp.engine.splits import Splits
from mnistmp.errors import InputError
from mnistmp.latent.file import Embedding
from mnistmp.latent.measures import measure
from mnistmp.methods import Method
from mnistmp.records import RunRecord
from mnistmp.records.provenance import environment
from mnistmp.selection import select


@dataclass(frozen=True)
class View:
    """A panel of Figure 3: which run's features, of which split."""

    letter: str
    row: str
    split: str
    title: str


# t-SNE as scikit-learn has it, every argument written out: the paper gives none, and defaults change
# with versions (the initialisation and the learning rate did in 1.2).
TSNE: dict[str, Any] = {
    "n_components": 2,
    "perplexity": 30.0,  # about how many neighbours a point looks at; the usual choice
    "early_exaggeration": 12.0,
    "learning_rate": "auto",  # N / 48, at least 50: larger clouds take larger steps to unfold
    "max_iter": 1000,
    "n_iter_without_progress": 300,
    "min_grad_norm": 1e-7,
    "metric": "euclidean",
    "metric_params": None,
    "init": "pca",  # keeps what it can of the global layout, and chance out of it
    "method": "barnes_hut",  # the exact one compares all pairs of points in every step
    "angle": 0.5,
    "n_jobs": 1,
    "verbose": 0,
}

# Principal components to keep before t-SNE; None for the features as they are. Of the 67 s that 10,000 digits take
# (one core, scikit-learn 1.9), 50 components save 9: not worth losing variety within classes.
PCA = None


def tsne(features: np.ndarray, seed: int, pca: int | None = PCA) -> np.ndarray:
    """t-SNE of features (N, D) with the settings of `TSNE`: float32 (N, 2).

    On one thread: sums then have one order, and the picture does not depend on the number of cores.

    Raises:
        InputError: there is no picture of too few features, of equal ones, or of numbers that are not finite.
    """
    # Of differences whose squares are 0 in float32, scikit-learn makes NaN, which end the process.
    if len(features) <= TSNE["perplexity"] or not np.isfinite(features).all() or np.ptp(features, axis=0).max() < 1e-18:
        raise InputError(
            f"t-SNE cannot place {len(features)} features: it needs more than {TSNE['perplexity']:.0f} of finite "
            "numbers that are not all the same; train longer, or take a method that does not collapse."
        )
    from sklearn.decomposition import PCA as Components  # slow to import, and not needed to draw
    from sklearn.manifold import TSNE as Embedder
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        if pca is not None:
            features = Components(pca, svd_solver="randomized", random_state=seed).fit_transform(features)
        return Embedder(**TSNE, random_state=seed).fit_transform(features).astype(np.float32)


def settings(seed: int) -> dict[str, Any]:
    """All that decides the picture of given features, as JSON values: kept with it and compared."""
    return {**TSNE, "random_state": seed, "pca": PCA}


def embed(record: RunRecord, network: Method, views: Sequence[View]) -> list[Embedding]:
    """What the network of a run's best validation epoch makes of its digits. Stores nothing.

    Args:
        record, network: as `engine.fit_selected` returns them.
        views: the splits to look at, and their titles.
    """
    spec, device = record.spec, next(network.parameters()).device
    epoch = select([entry["val_correct"] for entry in record.history], record.val_total) + 1
    splits, panels = Splits(spec, device), []
    for view in views:
        features, labels, predicted = outputs(network, splits, view.split)
        about = {
            "key": spec.key(), "spec": spec.to_json(), "row": spec.row, "split": view.split, "seed": spec.seed,
            "epoch": epoch, "record": "new", "tsne": settings(spec.seed),
            "environment": environment(device, spec.precision, engine.path_name(device)),
            "numbers": measure(features, labels, predicted),
        }  # fmt: skip
        xy = tsne(features, spec.seed)
        panels.append(Embedding(view.title, xy, labels, predicted, np.arange(len(labels)), about))
    return panels


def outputs(network: Method, splits: Splits, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F's output as float32 (N, D), classes uint8 (N,) and predicted classes uint8 (N,) of a split."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for images, labels in splits.batches(split):
            features = network.features(images)
            parts.append((features.flatten(1).float(), labels, network.classifier(features).argmax(1)))
    features, labels, predicted = (torch.cat(column).cpu().numpy() for column in zip(*parts))
    return features, labels.astype(np.uint8), predicted.astype(np.uint8)
