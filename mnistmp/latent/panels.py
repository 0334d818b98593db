"""The panels of Figure 3: which there are, and the interactive page of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from mnistmp import data, engine, evidence, paper, paths
from mnistmp.data import palette
from mnistmp.figures import Panel, interactive, style
from mnistmp.files import write_atomically
from mnistmp.latent.embedding import TSNE, latent_space


@dataclass(frozen=True)
class View:
    """A panel of Figure 3: which run's features, of which split."""

    letter: str
    row: str
    split: str
    title: str


PANELS = (
    View("a", "standard", "val", "standard, validation"),
    View("b", "standard", "test", "standard, test"),
    View("c", "standard-original", "val", "original digits, validation"),
    View("d", "rcl-m0.9", "val", "RCL m = 0.9, validation"),
    View("e", "rcl-inf", "val", "RCL m = ∞, validation"),
    View("f", "rcl-inf", "test", "RCL m = ∞, test"),
)


@dataclass(frozen=True, eq=False)
class Embedding(Panel):
    """A panel with what is known of it: `numbers`, see `measures.measure`. Without points if its run diverged."""

    numbers: Mapping[str, float] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)


def load(preset: str, seed: int | None = None, views: Sequence[View] = PANELS) -> list[Embedding]:
    """The panels of a preset, in order. What was not seen before is trained and embedded, see `evidence.observe`.

    Args:
        seed: of the runs; None for the preset's first.

    Raises:
        InputError: a file that cannot be used; or features that t-SNE cannot place.
        DataError: the digits are needed and not here.
    """
    seed = paper.preset(preset).seeds[0] if seed is None else seed
    seen = {}
    for row in dict.fromkeys(view.row for view in views):
        try:
            seen[row] = evidence.observe(row, latent_space, preset, seed, settings=TSNE)
        except engine.Diverged:
            seen[row] = {}
    return [_panel(view, seen[view.row]) for view in views]


def _panel(view: View, seen: Mapping) -> Embedding:
    of_split = {name.partition("_")[2]: values for name, values in seen.items() if name.startswith(view.split)}
    drawn = [of_split.pop(name, ()) for name in ("xy", "labels", "predicted")]
    return Embedding(view.title, *drawn, {name: value.item() for name, value in of_split.items()})


def save_interactive(panels: Sequence[Embedding], preset: str) -> Path | None:
    """Write the interactive figure of the `PANELS`, `figure3.html`, into the preset's folder of figures.

    Returns:
        The file; None if no panel has points, or the digits are not on this machine, whose pictures it needs.
        Nothing is downloaded for it.
    """
    there = {view: panel for view, panel in zip(PANELS, panels) if panel}
    try:
        digits = data.load(paper.preset(preset).dataset, download=False) if there else None
    except data.DataError:
        digits = None
    if digits is None:
        return None
    page = interactive.latent_space(
        list(there.values()),
        digits.test_images,
        colors=[_colors(view) for view in there],
        captions=[f"neighbour purity {panel.numbers['purity']:.1%}" for panel in there.values()],
        letters="".join(view.letter for view in there),
        digits_note=style.note_on(preset),
    )
    return write_atomically(paths.figures(preset) / "figure3.html", page)


def _colors(view: View) -> torch.Tensor:
    # The colours (10, 3) in which a panel's network saw the classes.
    colored = paper.row(view.row).colors == "class" and view.split != "test"
    return palette.PALETTE if colored else palette.TEST_COLOR.expand(10, 3)
