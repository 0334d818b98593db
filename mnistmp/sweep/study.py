"""Trainings beside Table 2's rows, given as specs: what lacks a record is trained, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from mnistmp import data, paths, records
from mnistmp.sweep import batch, plan
from mnistmp.records import RunRecord
from mnistmp.spec import RunSpec
from mnistmp.sweep.unit import Unit


def train(specs: Sequence[RunSpec], preset: str, jobs: int | None = None) -> list[str]:
    """Train those without a record, each in a process of its own, and record them.

    What it prints leaves test accuracy out: such runs are there to choose between them.

    Args:
        specs: any runs of one precision, of rows of their own where they differ from Table 2's.
        preset: folder of `results/` for the records.
        jobs: processes at a time; None for as many as suit the machine.

    Returns:
        What went wrong, a sentence per run that has no record after all; empty if all is well.

    Raises:
        ValueError: of our own kinds: a record that cannot be used or is of another spec, a folder
            that cannot be written, missing digits. Nothing is trained then.
    """
    records.check_writable(preset)
    todo = plan.missing(specs, preset)
    for dataset in sorted({spec.dataset for spec in todo}):
        data.load(dataset)  # once, before many processes ask for it at the same time
    print(_opening(specs, todo), flush=True)
    outcomes = batch.run_units([_unit(spec, preset) for spec in todo], jobs or batch.default_jobs())
    return [
        f"{outcome.unit.label}: {outcome.problem}{f', see {outcome.look}' if outcome.look else ''}"
        for outcome in outcomes if outcome.problem
    ]  # fmt: skip


def dry_run(specs: Sequence[RunSpec], preset: str, jobs: int | None = None, source: str | None = None) -> int:
    """Say what `train` would train and how long that would take; do nothing.

    Args:
        specs, preset, jobs: as for `train`.
        source: another preset, whose records of these runs `reuse` would take over first.

    Returns:
        0.

    Raises:
        RecordError, BatchError: as `train` does.
    """
    table = records.load(preset)
    taken = {record.spec.key() for record in _same(specs, source, preset)} if source else set()
    todo = [spec for spec in plan.missing(specs, preset, table) if spec.key() not in taken]
    units = [_unit(spec, preset) for spec in todo]
    seconds = plan.estimate(todo, table)
    print(plan.forecast(units, seconds, jobs or batch.default_jobs(), _opening(specs, todo)))
    return 0


def reuse(specs: Sequence[RunSpec], source: str, preset: str) -> None:
    """Take over what another preset has recorded of exactly these runs; other runs of that name are left alone.

    Raises:
        RecordError: a record there that cannot be used.
    """
    for record in _same(specs, source, preset):
        records.save(record, preset)


def _same(specs: Sequence[RunSpec], source: str, preset: str) -> list[RunRecord]:
    """Of the records of another preset, those of exactly these runs."""
    if source == preset or not (paths.results(source) / "runs").is_dir():
        return []
    there = [(spec, records.record_path(source, spec.row, spec.seed)) for spec in specs]
    found = [(spec, records.read(path)) for spec, path in there if path.exists()]
    return [record for spec, record in found if record.spec.key() == spec.key()]


def _opening(specs: Sequence[RunSpec], todo: Sequence[RunSpec]) -> str:
    return f"{len(specs) - len(todo)} of {len(specs)} trainings recorded, {len(todo)} to do."


def _unit(spec: RunSpec, preset: str) -> Unit:
    return Unit(name=f"{spec.row}-seed-{spec.seed}", label=f"{spec.row} seed {spec.seed}", preset=preset, specs=(spec,))
