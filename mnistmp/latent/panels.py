"""Which panels Figure 3 has, and which of them are stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mnistmp import engine, paper, records
from mnistmp.latent import file
from mnistmp.latent.file import Embedding, LatentError
from mnistmp.latent.picture import settings
from mnistmp.spec import RunSpec

NOTEBOOK = "09_latent_space"


@dataclass(frozen=True)
class View:
    """A panel of Figure 3: which training's features, of which split."""

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


def load(preset: str, seed: int | None = None, views: Sequence[View] = PANELS) -> list[Embedding]:
    """The panels of a preset, in order; one that was not computed yet has no points.

    Args:
        seed: of the trainings; None for the preset's first.

    Raises:
        LatentError: a file that cannot be used, or that is not of this preset's training.
    """
    specs = _specs(preset, seed, views)
    found = [find(view, specs[view.row], preset) for view in views]
    return [panel or Embedding(view.title, (), (), ()) for view, panel in zip(views, found)]


def find(view: View, spec: RunSpec, preset: str) -> Embedding | None:
    """The stored panel of a run, or None.

    Raises:
        LatentError: the file cannot be used, or was made from another run or by another t-SNE.
    """
    path = file.path_of(preset, view.row, view.split, spec.seed)
    panel = file.read(path, view.title)
    if panel is not None:
        about = panel.about
        same = {"run": about["key"] == spec.key(), "t-SNE": about["tsne"] == settings(spec.seed),
                "split": (about["row"], about["split"]) == (view.row, view.split)}  # fmt: skip
        if not all(same.values()):
            other = next(name for name, equal in same.items() if not equal)
            remedy = "delete it and run mnistmp latent"
            raise LatentError(f"{path} was made from another {other} than is asked for; {remedy}.")
    return panel


def missing(
    preset: str, seed: int | None = None, views: Sequence[View] = PANELS, precision: str | None = None
) -> dict[RunSpec, list[View]]:
    """The trainings that lack panels, and which. One that is recorded as diverged has none to give.

    Raises:
        LatentError, RecordError: a file that cannot be used.
    """
    due: dict[RunSpec, list[View]] = {}
    for row, spec in _specs(preset, seed, views, precision).items():
        absent = [view for view in views if view.row == row and find(view, spec, preset) is None]
        recorded = records.find(spec, preset) if absent else None
        if absent and not (recorded and recorded.status == "diverged"):
            due[spec] = absent
    return due


def remarks(panels: Sequence[Embedding], preset: str) -> list[str]:
    """What must be said beside the figure, a sentence each: what is missing, and what is not Table 2's network."""
    absent = [f"({view.letter})" for view, panel in zip(PANELS, panels) if not panel]
    differ = [f"({view.letter})" for view, panel in zip(PANELS, panels) if panel.about.get("record") == "differs"]
    said = [f"Not computed yet: {', '.join(absent)}; run mnistmp latent --preset {preset}."] if absent else []
    if differ:
        said.append(f"Of another course than the training in Table 2: {', '.join(differ)}; machine or code differ.")
    return said


def seed_of(preset: str, seeds: str | None) -> int:
    """The one seed that Figure 3 shows: the first of "0-9" and the like; of "recorded" the preset's first."""
    return paper.preset(preset).seeds[0] if seeds in (None, "recorded") else paper.parse_seeds(seeds)[0]


def _specs(preset: str, seed: int | None, views: Sequence[View], precision: str | None = None) -> dict[str, RunSpec]:
    seed = seed_of(preset, None) if seed is None else seed
    precision = paper.precision(preset, precision)
    return {view.row: paper.spec_for(view.row, seed, preset, precision) for view in views}
