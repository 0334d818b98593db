"""Which classes a network predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mnistmp.figures import style

_WIDTH = 2.7  # inches per panel


@style.styled
def confusion(groups: Mapping[str, tuple[Any, Any]]) -> style.Figure:
    """Confusion matrices side by side: of each true class, the share predicted as each class, in percent.

    Args:
        groups: title -> (predicted, labels), each (N,) integers 0 to 9.
    """
    alt = "Confusion matrices, true class by predicted class: " + ", ".join(groups) + "."
    figure, grid = style.new(
        _WIDTH + 0.2, alt, width=_WIDTH * len(groups) + 0.1, columns=len(groups), squeeze=False, sharey=True
    )
    for axes, (title, (predicted, labels)) in zip(grid.flat, groups.items()):
        predicted, labels = style.array(predicted), style.array(labels)
        counts = np.zeros((10, 10))
        np.add.at(counts, (labels, predicted), 1)
        shares = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
        axes.imshow(shares, cmap="Greys", vmin=0, vmax=100)
        axes.grid(False)
        axes.set_title(f"{title}\nright: {np.mean(predicted == labels):.1%}")
        axes.set(xlabel="predicted class", xticks=range(10), yticks=range(10))
        axes.tick_params(length=0)
        for (true, taken), share in np.ndenumerate(shares):
            if share >= 0.5:  # what rounds to 0 stays empty
                axes.text(taken, true, f"{share:.0f}", ha="center", va="center_baseline", fontsize=6,
                          color="white" if share > 55 else "black")  # fmt: skip
    grid[0, 0].set_ylabel("true class")
    return figure
