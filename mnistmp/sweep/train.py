"""Runs trained here, in this process, where their records are missing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable

from mnistmp import engine, evidence, paper, records
from mnistmp.records import RunRecord
from mnistmp.spec import RunSpec


def train_missing(
    specs: Iterable[RunSpec], preset: str, *, progress: Callable[[str], None] | None = None
) -> list[RunRecord]:
    """The records of these runs, training and saving those that `results/<preset>` lacks.

    Raises:
        RecordError: a record exists but cannot be read or belongs to another spec; nothing
            is trained then, and nothing is overwritten.
    """
    specs = list(specs)
    found = [records.find(spec, preset) for spec in specs]
    for place, spec in enumerate(specs):
        if found[place] is None or evidence.lacks_checkpoint(spec, preset):
            with contextlib.suppress(engine.Diverged):  # which is recorded
                evidence.trained(spec, preset, engine.pick_device(), progress=progress)
            found[place] = records.find(spec, preset)
    return found


def train_planned(
    preset: str, rows: str | list[str] = "all", seeds: str | None = None, notebook: str | None = None, *, progress=print
) -> list[RunRecord]:
    """The runs that a notebook is asked for: `train_missing` of `paper.plan`, at the preset's precision."""
    specs = paper.plan(preset, rows, seeds, paper.precision(preset), notebook)
    return train_missing(specs, preset, progress=progress)
