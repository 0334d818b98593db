"""The features of a network in the plane: t-SNE, and what Figure 3 keeps of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from mnistmp.engine.splits import Splits
from mnistmp.errors import InputError
from mnistmp.latent.measures import measure
from mnistmp.methods import Method

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
    "random_state": 0,
    "n_jobs": 1,
    "verbose": 0,
}


def latent_space(network: Method, splits: Splits) -> dict[str, Any]:
    """What Figure 3 shows of a network, for `evidence.observe`; each name begins with "val_" or "test_".

    Returns:
        xy float32 (N, 2); labels and predicted uint8 (N,); and the numbers of `measure`.
    """
    seen = {}
    for split in ("val", "test"):
        features, labels, predicted = outputs(network, splits, split)
        shown = {"xy": tsne(features), "labels": labels, "predicted": predicted}
        shown |= measure(features, labels, predicted)
        seen |= {f"{split}_{name}": values for name, values in shown.items()}
    return seen


def tsne(features: np.ndarray) -> np.ndarray:
    """t-SNE of features (N, D) with the settings of `TSNE`: float32 (N, 2).

    On one thread: sums then have one order, and the picture does not depend on the number of cores. The features go in
    as they are: of the 67 s that 10,000 digits take (one core), 50 principal components would save 9.

    Raises:
        InputError: there is no picture of too few features, of equal ones, or of numbers that are not finite.
    """
    # Of differences whose squares are 0 in float32, scikit-learn makes NaN, which end the process.
    if len(features) <= TSNE["perplexity"] or not np.isfinite(features).all() or np.ptp(features, axis=0).max() < 1e-18:
        raise InputError(
            f"t-SNE cannot place {len(features)} features: it needs more than {TSNE['perplexity']:.0f} of finite "
            "numbers that are not all the same; train longer, or take a method that does not collapse."
        )
    from sklearn.manifold import TSNE as Embedder  # slow to import, and not needed to draw
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return Embedder(**TSNE).fit_transform(features).astype(np.float32)


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
