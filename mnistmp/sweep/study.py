"""Trainings beside Table 2's rows, given as specs: what lacks a record is trained, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnistmp import data, paper, paths, records
from mnistmp.results import ablation, calibration, search, weights
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


# ---- the studies: what is missing is trained, then their tables are printed and written ----


def ablate(row, preset, seeds=None, options=None, *, jobs=None, precision=None, dry_run=False, train=train) -> int:
    """Train what is missing of a row's ablation; 1 where a run could not be trained."""
    specs = ablation.specs(row, preset, seeds, options, paper.precision(preset, precision))
    if dry_run:
        return _dry_run(specs, preset, jobs, calibration.PRESET)
    reuse(specs, calibration.PRESET, preset)
    problems = train(specs, preset, jobs)
    lines = ablation.table(preset)
    _show(ablation.to_markdown(lines, preset), ablation.write(lines, preset), problems)
    return 1 if problems else 0


def calibrate(seeds=calibration.SEEDS, *, jobs=None, recorded=False, dry_run=False, train=train) -> int:
    """Train what is missing of the calibration, unless only what is `recorded` counts; 1 where some of it is missing."""
    specs = calibration.specs(seeds)
    if dry_run:
        return _dry_run(specs, calibration.PRESET, jobs, "paper")
    reuse(specs, "paper", calibration.PRESET)
    problems = [] if recorded else train(specs, calibration.PRESET, jobs)
    measured = calibration.table(seeds)
    _show(calibration.to_markdown(measured), calibration.write(measured))
    return 0 if recorded else _missing(specs, calibration.PRESET, problems)


def select_weight(
    name, preset, seeds=None, threshold=weights.THRESHOLD, *, jobs=None, precision=None, dry_run=False, train=train
) -> int:
    """Train what is missing of the grid, and apply the paper's rule; 1 where some of it is missing."""
    weights.check_threshold(threshold)
    specs = weights.specs(name, preset, seeds, paper.precision(preset, precision))
    if dry_run:
        return _dry_run(specs, preset, jobs)
    problems = train(specs, preset, jobs)
    if _missing(specs, preset, problems):
        return 1
    grid = weights.table(records.recorded(specs, preset), threshold)
    _show(weights.to_markdown(grid), weights.write(grid, preset))
    return 0


def search_stages(stage=None, *, jobs=None, dry_run=False, train=train) -> int:
    """Train what the search's stages lack, one after the other; 1 where a run could not be trained."""
    for number in range(1, (stage or len(search.STAGES)) + 1):
        runs = search.recorded()
        specs = search.specs(number, runs)
        left = len(search.entrants(number, runs))
        print(f"Stage {number}: {left} of {len(search.CANDIDATES)} candidates.", flush=True)
        todo = [spec for spec in specs if (spec.row, spec.seed) not in runs]
        if todo and dry_run:
            return _dry_run(todo, search.PRESET, jobs)
        problems = train(todo, search.PRESET, jobs) if todo else []
        if problems:
            print("\n".join(f"  {problem}" for problem in problems))
            return 1
    runs = search.recorded()
    _show(search.to_markdown(runs), search.write(runs))
    return 0


_dry_run = dry_run


def _show(text: str, files: Sequence[Path], problems: Sequence[str] = ()) -> None:
    print(f"\n{text}\nTable:      {', '.join(map(str, files))}")
    for problem in problems:
        print(f"  {problem}")


def _missing(specs: Sequence[RunSpec], preset: str, problems: Sequence[str]) -> int:
    missing = len(specs) - len(records.recorded(specs, preset))
    if missing:
        print(f"{missing} of {len(specs)} trainings are missing; the same command goes on from there.")
        print("\n".join(f"  {problem}" for problem in problems))
    return 1 if missing else 0
