"""Figure 3 to point at: one HTML file that needs no network, no server and no other file."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnistmp import data, figures, paths
from mnistmp.data import palette
from mnistmp.files import write_atomically
from mnistmp.latent.file import Embedding

PICTURES = 2000  # digits whose picture is in the file; all 10,000 would be most of MNIST's test set again

_PAGE = Path(__file__).resolve().with_suffix(".html")
_MARGIN = 1.06  # of the box around the points, as in `figures.latent_space`


def save(panels: Sequence[Embedding], preset: str) -> Path | None:
    """Write `figure3.html` into the preset's folder of figures.

    Returns:
        The file; None if there is nothing to show: no panel was computed yet, or the digits
        are not on this machine, whose pictures it needs. Nothing is downloaded for it.

    Raises:
        OSError: it cannot be written.
    """
    there = [panel for panel in panels if len(panel)]
    if not there:
        return None
    try:
        digits = data.load(there[0].about["spec"]["dataset"], download=False)
    except data.DataError:
        return None
    letters = [chr(ord("a") + place) for place, panel in enumerate(panels) if len(panel)]
    page = html(there, digits.test_images, [worn_colors(panel.about) for panel in there], letters)
    return write_atomically(paths.figures(preset) / "figure3.html", page)


def html(
    panels: Sequence[Embedding], images: torch.Tensor, colors: Sequence[Any], letters: Sequence[str] | None = None
) -> str:
    """The page: panels beside each other, a digit's picture where one points.

    All points are drawn. The first `PICTURES` digits can be pointed at, and the page says so.

    Args:
        panels: with points; `index` says which of the images each is.
        images: grey uint8 (M, 28, 28).
        colors: per panel the RGB colours (10, 3), 0 to 255, that its network saw the classes in.
        letters: of the panels; None for a, b, c ...

    Raises:
        ValueError: no panel, or lists that do not fit each other.
    """
    letters = [chr(ord("a") + place) for place in range(len(panels))] if letters is None else letters
    if not panels or not len(panels) == len(colors) == len(letters):
        counts = f"{len(panels)} panels, {len(colors)} colors and {len(letters)} letters"
        raise ValueError(f"There are {counts}; give as many of each, and at least one.")
    pictures = images[:PICTURES]
    total = max(int(np.max(panel.index)) + 1 for panel in panels)
    note = "Neighbour purity: the share of a digit's ten nearest neighbours, in all dimensions, that are of its class."
    if total > len(pictures):
        note += f" Of the {total:,} digits only the first {len(pictures):,} can be pointed at; "
        note += "the others, paler, are here without picture."
    content = {
        "note": note,
        "classes": figures.CLASSES,
        "sprite": _sprite(pictures),
        "panels": [_panel(*each) for each in zip(panels, colors, letters)],
    }
    # Within a script element "<" could end it; as an escape it means the same to JSON.
    text = json.dumps(content, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c")
    return _PAGE.read_text(encoding="utf-8").replace("__DATA__", text)


def worn_colors(about: Mapping[str, Any]) -> torch.Tensor:
    """The colours (10, 3) that a panel's network saw the classes in, from its spec and split."""
    colors = about["spec"]["colors"]
    if colors == "class" and about["split"] != "test":
        return palette.PALETTE
    one = torch.full_like(palette.TEST_COLOR, 255) if colors == "white" else palette.TEST_COLOR
    return one.expand(10, 3)


def _panel(panel: Embedding, colors: Any, letter: str) -> dict[str, Any]:
    xy = np.asarray(panel.xy, float)
    middle, side = (xy.max(0) + xy.min(0)) / 2, max(_MARGIN * float(np.ptp(xy, axis=0).max()), 1e-9)
    places = np.round(((xy - middle) / side + 0.5) * 65535)  # far finer than any screen
    index = np.asarray(panel.index)
    labels, predicted = np.asarray(panel.labels), np.asarray(panel.predicted)
    words = f"accuracy {100 * (labels == predicted).mean():.1f} %"
    if "numbers" in panel.about:
        words += f", neighbour purity {100 * panel.about['numbers']['purity']:.1f} %"
    return {
        "letter": letter, "title": panel.title, "caption": words, "colors": torch.as_tensor(colors).tolist(),
        "xy": _base64(places.astype("<u2")), "labels": _base64(labels.astype("u1")),
        "predicted": _base64(predicted.astype("u1")),
        "index": None if (index == np.arange(len(labels))).all() else _base64(index.astype("<u4")),
    }  # fmt: skip


def _sprite(images: torch.Tensor) -> dict[str, Any]:
    # All pictures as one image: a PNG each would be three times the size.
    count, side = images.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.zeros((rows * columns, side, side), np.uint8)
    grid[:count] = images.numpy()
    sheet = grid.reshape(rows, columns, side, side).swapaxes(1, 2).reshape(rows * side, columns * side)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "png", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"src": source, "side": side, "columns": columns, "count": count}


def _base64(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
