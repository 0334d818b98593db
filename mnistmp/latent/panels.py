"""The panels of Figure 3: which there are, what of them is stored, and how the rest is computed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mnistmp import data, engine, evidence, paper, paths, records
from mnistmp.data import palette
from mnistmp.errors import InputError
from mnistmp.figures import interactive
from mnistmp.files import write_atomically
from mnistmp.latent import file
from mnistmp.latent.embedding import View, embed, settings
from mnistmp.latent.file import Embedding
from mnistmp.spec import RunSpec

PANELS = (
    View("a", "standard", "val", "standard, validation"),
    View("b", "standard", "test", "standard, test"),
    View("c", "standard-original", "val", "original digits, validation"),
    View("d", "rcl-m0.9", "val", "RCL m = 0.9, validation"),
    View("e", "rcl-inf", "val", "RCL m = ∞, validation"),
    View("f", "rcl-inf", "test", "RCL m = ∞, test"),
)


def load(preset: str, seed: int | None = None, views: Sequence[View] = PANELS) -> list[Embedding]:
    """The panels of a preset, in order; one that was not computed yet has no points.

    Args:
        seed: of the runs; None for the preset's first.

    Raises:
        InputError: a file that cannot be used, or that is not of this preset's run.
    """
    specs = _specs(preset, seed, views)
    return [_find(view, specs[view.row], preset) or Embedding(view.title, (), (), ()) for view in views]


def missing(
    preset: str, seed: int | None = None, views: Sequence[View] = PANELS, precision: str | None = None
) -> dict[RunSpec, list[View]]:
    """The runs that lack panels, and which. One that is recorded as diverged has none to give.

    Raises:
        InputError: a file that cannot be used.
    """
    due: dict[RunSpec, list[View]] = {}
    for row, spec in _specs(preset, seed, views, precision).items():
        absent = [view for view in views if view.row == row and _find(view, spec, preset) is None]
        recorded = records.find(spec, preset) if absent else None
        if absent and not (recorded and recorded.status == "diverged"):
            due[spec] = absent
    return due


def embed_planned(preset: str, seeds: str = "recorded", rows: str = "all", *, progress=print) -> list[Path]:
    """What a notebook is asked for: `compute` for the first of the seeds; "recorded" computes nothing."""
    if seeds == "recorded":
        return []
    wanted = {row.id for row in paper.trainings(rows)}
    views = [view for view in PANELS if view.row in wanted]
    return compute(preset, seed_of(preset, seeds), views, progress=progress)


def compute(
    preset: str, seed: int | None = None, views: Sequence[View] = PANELS, *, progress: Callable[[str], Any] = print
) -> list[Path]:
    """Train and embed what is missing, one panel after the other; the files that were written.

    A run that had no record gets one.

    Raises:
        InputError: a file that cannot be used; nothing is trained then. Or a run that diverged.
    """
    written = []
    for spec, due in missing(preset, seed, views).items():
        try:
            record, network, agreement = evidence.trained(spec, preset, engine.pick_device())
        except engine.Diverged as error:
            raise InputError(str(error)) from None
        if agreement == "differs":
            progress(
                f"{spec.row} seed {spec.seed}: this run takes another course than the recorded one, as machine or code "
                "differ; Figure 3 shows this one, Table 2 that one."
            )
        panels = embed(record, network, due)
        for panel in panels:
            panel.about["record"] = agreement
            written.append(file.save(panel, preset))
            progress(f"{spec.row} seed {spec.seed} {panel.about['split']}  t-SNE of {len(panel)} digits stored")
    return written


def remarks(panels: Sequence[Embedding], preset: str) -> list[str]:
    """What must be said beside the figure, a sentence each: what is missing, and what is not Table 2's network."""
    absent = [f"({view.letter})" for view, panel in zip(PANELS, panels) if not panel]
    differ = [f"({view.letter})" for view, panel in zip(PANELS, panels) if panel.about.get("record") == "differs"]
    said = [f"Not computed yet: {', '.join(absent)}; run mnistmp latent --preset {preset}."] if absent else []
    if differ:
        said.append(f"Of another course than the run in Table 2: {', '.join(differ)}; machine or code differ.")
    return said


def seed_of(preset: str, seeds: str | None) -> int:
    """The one seed that Figure 3 shows: the first of "0-9" and the like; of "recorded" the preset's first."""
    return paper.preset(preset).seeds[0] if seeds in (None, "recorded") else paper.parse_seeds(seeds)[0]


def save_interactive(panels: Sequence[Embedding], preset: str) -> Path | None:
    """Write the interactive figure, `figure3.html`, into the preset's folder of figures.

    Returns:
        The file; None if there is nothing to show: no panel was computed yet, or the digits
        are not on this machine, whose pictures it needs. Nothing is downloaded for it.
    """
    there = {view.letter: panel for view, panel in zip(PANELS, panels) if panel}
    abouts = [panel.about for panel in there.values()]
    try:
        digits = data.load(abouts[0]["spec"]["dataset"], download=False) if there else None
    except data.DataError:
        digits = None
    if digits is None:
        return None
    page = interactive.latent_space(
        list(there.values()),
        digits.test_images,
        colors=[_colors(about) for about in abouts],
        captions=[f"neighbour purity {about['numbers']['purity']:.1%}" for about in abouts],
        letters="".join(there),
    )
    return write_atomically(paths.figures(preset) / "figure3.html", page)


def _colors(about: Mapping[str, Any]) -> torch.Tensor:
    # The colours (10, 3) in which a panel's network saw the classes.
    if about["spec"]["colors"] == "class" and about["split"] != "test":
        return palette.PALETTE
    one = torch.full_like(palette.TEST_COLOR, 255) if about["spec"]["colors"] == "white" else palette.TEST_COLOR
    return one.expand(10, 3)


def _find(view: View, spec: RunSpec, preset: str) -> Embedding | None:
    path = file.path_of(preset, view.row, view.split, spec.seed)
    panel = file.read(path, view.title)
    if panel:
        about = panel.about
        if (about["key"], about["split"], about["tsne"]) != (spec.key(), view.split, settings(spec.seed)):
            raise InputError(
                f"{path} was made from another run, split or t-SNE than is asked for; delete it and run mnistmp latent."
            )
    return panel


def _specs(preset: str, seed: int | None, views: Sequence[View], precision: str | None = None) -> dict[str, RunSpec]:
    seed = seed_of(preset, None) if seed is None else seed
    precision = paper.precision(preset, precision)
    return {view.row: paper.spec_for(view.row, seed, preset, precision) for view in views}
