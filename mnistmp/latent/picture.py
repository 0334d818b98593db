"""t-SNE: thousands of features as a picture in two dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np

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
    """
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
