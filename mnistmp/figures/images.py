"""Figure 1, and grids of images for the methods that change images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np

from mnistmp.figures import style

_GAP = 2  # pixels of white between images
_LARGEST = 0.55  # inches: an image's side, where there are few


@style.styled
def samples(train_images: Any, train_labels: Any, test_images: Any, test_labels: Any) -> style.Figure:
    """Figure 1: training digits above, in their class's colour; test digits below, all in one colour.

    Every class is shown by its first digit.

    Args:
        train_images, test_images: coloured, (N, 3, H, W) float in [-1, 1], or (N, H, W, 3) uint8; see `rgb`.
        train_labels, test_labels: (N,) integers, each of 0 to 9 among them.
    """
    chosen = []
    for images, labels in ((train_images, train_labels), (test_images, test_labels)):
        first = [np.flatnonzero(style.array(labels) == digit)[0] for digit in range(10)]
        chosen.append(rgb(images)[first])
    return _grid(
        np.concatenate(chosen),
        rows=["Training", "Test"],
        titles=None,
        alt="Samples of MNIST-MP: every training digit wears its class's colour, all test digits the same grey.",
        widest=style.NARROW,
    )


@style.styled
def image_grid(
    images: Any,
    titles: Sequence[str] | None = None,
    rows: int | Sequence[str] = 1,
    value_range: tuple[float, float] = (-1.0, 1.0),
) -> style.Figure:
    """Images side by side, row by row.

    Args:
        images: (N, 3, H, W), (N, H, W, 3), or grey (N, H, W) or (N, 1, H, W); uint8, or floats.
        titles: one above each column, or none.
        rows: how many, or what stands before each; N must be a multiple.
        value_range: the floats that are black and full colour; values outside are cut off. The
            default is the network's input range.

    Raises:
        ValueError: images that do not fill the grid.
    """
    return _grid(rgb(images, value_range), rows, titles, alt="A grid of images.")


def rgb(images: Any, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Images as of `image_grid` as uint8 (N, H, W, 3)."""
    values = style.array(images)
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim == 4 and values.shape[1] in (1, 3) and values.shape[3] not in (1, 3):
        values = values.transpose(0, 2, 3, 1)
    if values.ndim != 4 or values.shape[3] not in (1, 3):
        raise ValueError(
            f"images are {style.array(images).shape}; expected (N, 3, H, W), (N, H, W, 3) or grey (N, H, W)."
        )
    if values.dtype != np.uint8:
        low, high = value_range
        values = (np.clip((values.astype(np.float64) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)
    return np.broadcast_to(values, (*values.shape[:3], 3))


def _grid(images: np.ndarray, rows: int | Sequence[str], titles: Sequence[str] | None, alt: str,
          widest: float = style.WIDTH) -> style.Figure:  # fmt: skip
    names = None if isinstance(rows, int) else list(rows)
    count = rows if names is None else len(names)
    if count < 1 or not len(images) or len(images) % count:
        raise ValueError(f"{len(images)} images do not fill {count} rows of equal length; give a multiple of the rows.")
    columns, (height, width) = len(images) // count, images.shape[1:3]

    # One picture instead of an axes per image: as sharp, and drawn in a twentieth of the time.
    down, across = height + _GAP, width + _GAP
    canvas = np.full((count * down - _GAP, columns * across - _GAP, 3), 255, np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * across
        canvas[top : top + height, left : left + width] = image

    figure, axes = style.new(1.0, alt)
    axes.imshow(canvas, aspect="auto")
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xticks(np.arange(columns) * across + (width - 1) / 2 if titles else [], titles or [])
    axes.set_yticks(np.arange(count) * down + (height - 1) / 2 if names else [], names or [])
    # Words take the room that they need, images the rest: the size makes their pixels square.
    padding = mpl.rcParams["figure.constrained_layout.w_pad"]
    figure.draw_without_rendering()
    around, inside = axes.get_tightbbox(), axes.get_window_extent()
    beside, above = ((around.size - inside.size) / figure.dpi + 2 * padding).tolist()
    wide = min(widest - beside, _LARGEST * columns)
    figure.set_size_inches(wide + beside, wide * canvas.shape[0] / canvas.shape[1] + above)
    return figure
