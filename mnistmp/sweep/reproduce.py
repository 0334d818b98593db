"""The pipeline behind `mnistmp reproduce`: train what is missing, execute the notebooks, write the tables."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mnistmp import data, paper, paths, records
from mnistmp.sweep import batch, notebooks, plan
from mnistmp.sweep.attempts import Outcome
from mnistmp.spec import RunSpec
from mnistmp.sweep.unit import Unit


@dataclass(frozen=True)
class Job:
    """What is asked for on the command line, checked, and what of it is still to do.

    Attributes:
        specs, todo: all runs asked for, and those without a record.
        units: the work that records them.
        figure3: the work that embeds what Figure 3 shows of runs that are recorded already, after the trainings.
        table: the records there are, see `records.load`.
        folder: of the notebooks; None to train without.
        part: a shard of the whole, after which nothing is shown yet.
        executor: a cluster, see `cluster.connected`; None for this machine.
    """

    preset: str
    rows: str
    jobs: int
    specs: Sequence[RunSpec]
    todo: Sequence[RunSpec]
    units: Sequence[Unit]
    figure3: Sequence[Unit]
    table: pd.DataFrame
    folder: Path | None
    part: bool
    executor: Executor | None = None

    @property
    def precision(self) -> str | None:
        return self.specs[0].precision if self.specs else None


def prepare(
    preset: str,
    rows: str = "all",
    seeds: str | None = None,
    *,
    jobs: int | None = None,
    precision: str | None = None,
    shard: str | None = None,
    folder: Path | None = None,
    executor: Executor | None = None,
) -> Job:
    """Plan, and check all that can be checked before hours of work.

    Args:
        preset, rows, seeds, precision, shard: see `plan.plan`.
        jobs: units at a time on this machine; None for as many as suit it.
        folder: of the notebooks; None to train without.
        executor: a cluster, see `cluster.connected`; None for this machine.

    Raises:
        ValueError: of our own kinds, one sentence: bad input, an unusable record, a missing notebook.
    """
    if jobs is not None and jobs < 1:
        raise plan.BatchError(f"jobs is {jobs}; at least one unit must run at a time, so give 1 or more.")
    if jobs is not None and executor is not None:
        raise plan.BatchError("--jobs is for this machine; a cluster takes a unit per thread of its workers.")
    table = records.load(paper.preset(preset).name)
    specs = plan.plan(preset, rows, seeds, precision, shard, table)
    todo = plan.missing(specs, preset, table)
    jobs = jobs or (batch.default_jobs() if executor is None else executor.slots() or executor.EXPECTED)
    if folder is not None:
        notebooks.find(folder)
    figure3 = _figure3(preset, specs, folder) if folder is not None and shard is None else []
    # What Figure 3 shows and is not recorded is trained once for both: the figure then shows the runs of Table 2.
    for_both = [unit for unit in figure3 if set(unit.specs) <= set(todo)]
    covered = {spec for unit in for_both for spec in unit.specs}
    units = for_both + plan.plan_units([spec for spec in todo if spec not in covered], preset, jobs, folder)
    figure3 = [unit for unit in figure3 if unit not in for_both]
    return Job(preset, rows, jobs, specs, todo, units, figure3, table, folder, shard is not None, executor)


def dry_run(job: Job) -> int:
    """Say what would be done and how long it would take; do nothing."""
    seconds = plan.estimate(job.todo, job.table)
    figure3 = [f"{unit.label}  once more for Figure 3, then t-SNE" for unit in job.figure3]
    print(plan.forecast(job.units, seconds, job.jobs, *figure3, _opening(job)))
    return 0


def train(job: Job) -> list[Outcome]:
    """Carry out the units of a job."""
    records.check_writable(job.preset)
    for dataset in sorted({spec.dataset for spec in job.todo}):
        data.load(dataset)  # once, before many processes ask for it at the same time
    print(_opening(job), flush=True)
    return batch.run_units(job.units, job.jobs, executor=job.executor, precision=job.precision)


def run(job: Job) -> int:
    """Train without notebooks. 0, or 1 where some of it failed."""
    return _close(job, train(job))


def reproduce(job: Job) -> int:
    """Train by notebooks, then show what is recorded by notebooks and tables. 0, or 1 where some of it failed."""
    outcomes = train(job)
    if job.part:
        code = _close(job, outcomes)
        print(f"This was a part; the same command without --shard makes notebooks, figures and tables of {job.preset}.")
        return code
    asked, problems = (job.preset, job.rows, job.folder, job.jobs), []
    for what, step in (
        ("Figure 3 could not be prepared", lambda: outcomes.extend(embed(job))),
        ("The notebooks could not be executed", lambda: outcomes.extend(show(*asked, executor=job.executor))),
        ("The table could not be written", lambda: table(job.preset)),
    ):
        try:
            step()
        except (OSError, ValueError) as error:  # after hours of work: say it, go on, and say where the rest is
            problems.append(f"{what}: {str(error).splitlines()[0]}")
    print(f"Figures:    {paths.shown(paths.figures(job.preset))}")
    print(f"Notebooks:  {paths.shown(paths.results(job.preset) / 'notebooks')}")
    code = _close(job, outcomes)
    for problem in problems:
        print(problem)
    return 1 if problems else code


def embed(job: Job) -> list[Outcome]:
    """Train once more, and embed, what Figure 3 still lacks: networks are not kept."""
    # A training that diverged meanwhile has nothing to embed; one that failed says so itself.
    recorded = {spec for unit in job.figure3 for spec in unit.specs if _done(spec, job.preset)}
    due = [unit for unit in job.figure3 if recorded.issuperset(unit.specs)]
    if due:
        print(f"{len(due)} networks are trained once more for Figure 3.", flush=True)
    return batch.run_units(due, job.jobs, executor=job.executor, precision=job.precision)


def show(preset: str, rows: str, folder: Path, jobs: int, *, again=False, executor=None) -> list[Outcome]:
    """Execute, with what is recorded, the notebooks that are out of date, or all of them."""
    units = notebooks.recorded_units(folder, preset, rows)
    due = list(units) if again else notebooks.out_of_date(units, preset)
    if not due:
        return []
    print(f"Executing {len(due)} of {len(units)} notebooks to show what is recorded.", flush=True)
    marks = notebooks.fingerprints(due, preset)
    # The last first: 01 is the shortest, so that no core waits long for another at the end.
    outcomes = batch.run_units(due[::-1], jobs, executor=executor)
    try:
        notebooks.remember({o.unit.label: marks[o.unit.label] for o in outcomes if not o.problem}, preset)
    except OSError as error:
        print(f"What they were made from could not be noted ({error.strerror}); they will be executed again.")
    return outcomes


def table(preset: str) -> dict[str, str]:
    """Print Table 2 from the records, write it with the paper's claims and with other readings of rows, and say where.

    Returns:
        What a README shows of the three, as Markdown: "table2", "claims" and "readings".

    Raises:
        BatchError: the preset has no record.
    """
    from mnistmp.results import ablation, claims, table2

    found = records.load(preset)
    if found.empty:
        others = [name for name in paper.PRESETS if (paths.results(name) / "runs").is_dir() and name != preset]
        instead = f", or choose --preset {' or '.join(others)}" if others else ""
        command = f"mnistmp reproduce --preset {preset}"
        raise plan.BatchError(f"Preset {preset} has no records yet; run {command}{instead}.")
    lines = table2.table2(found)
    text = table2.to_markdown(lines, preset)
    print("\n" + _aligned(text))
    files = table2.write(lines, preset)
    print(f"Table:      {', '.join(paths.shown(path) for path in files.values())}")
    comparisons = claims.compare(found)
    print(f"Claims:     {', '.join(paths.shown(path) for path in claims.write(comparisons, preset))}")
    readings = ablation.table(preset, found)
    if len(readings):
        print(f"Readings:   {', '.join(paths.shown(path) for path in ablation.write(readings, preset))}")
    return {"table2": text, "claims": claims.to_markdown(comparisons), "readings": ablation.conclusions(readings)}


def _figure3(preset: str, specs: Sequence[RunSpec], folder: Path) -> list[Unit]:
    # Only where all its trainings are among those asked for, of the preset's first seed.
    from mnistmp import latent

    if not (folder / f"{latent.NOTEBOOK}.ipynb").is_file():
        return []
    seed = paper.preset(preset).seeds[0]
    if not {(view.row, seed) for view in latent.PANELS} <= {(spec.row, spec.seed) for spec in specs}:
        return []
    return figure3_units(preset, seed, folder, specs[0].precision)


def figure3_units(preset: str, seed: int, folder: Path, precision: str | None = None) -> list[Unit]:
    """The batch's work for Figure 3: the trainings that lack panels, some per unit where they are short.

    Args:
        folder: of the notebooks.
        precision: None for that of the preset, or of its records.

    Raises:
        RecordError: a file that cannot be used.
        NotebookError: the notebook is missing.
    """
    from mnistmp import latent

    notebooks.find(folder, [latent.NOTEBOOK])
    due = list(latent.missing(preset, seed, precision=precision))
    size = max(1, min(plan.most_per_unit(due), len(due) // 2))  # never one unit: most machines have two cores
    new = [spec for spec in due if records.find(spec, preset) is None]  # apart: these are recorded on the way
    groups = new, [spec for spec in due if spec not in new]
    shared = [group[start : start + size] for group in groups for start in range(0, len(group), size)]
    return [plan.unit_of(latent.NOTEBOOK, specs, preset, folder) for specs in shared]


def _done(spec: RunSpec, preset: str) -> bool:
    try:
        record = records.find(spec, preset)
    except records.RecordError:
        return False
    return record is not None and record.status == "done"


def _opening(job: Job) -> str:
    done = len(job.specs) - len(job.todo)
    words = f"{job.preset} ({paper.preset(job.preset).note}): {done} of {len(job.specs)} trainings recorded"
    if not job.todo:
        return f"{words}, nothing to train."
    units = f"{len(job.units)} units of {'papermill' if job.folder else 'work'}"
    at_once = job.jobs if job.executor is None else job.executor.slots()
    when = f"{at_once} at a time" if at_once else "as soon as there is a worker"
    return f"{words}, {len(job.todo)} to do in {units}, {when}, {job.precision}."


def _close(job: Job, outcomes: Sequence[Outcome]) -> int:
    failed = [outcome for outcome in outcomes if outcome.problem]
    where = paths.shown(paths.results(job.preset))
    try:
        left = len(plan.missing(job.specs, job.preset))
        print(f"{len(job.specs) - left} of {len(job.specs)} trainings are recorded in {where}.")
    except ValueError as error:  # a record that was spoiled meanwhile must not hide what else there is to say
        left = len(job.specs)
        print(f"How many trainings are recorded in {where} cannot be said: {str(error).splitlines()[0]}")
    if failed:
        print(f"{len(failed)} of {len(outcomes)} units failed; the same command tries them again:")
        for outcome in failed:
            where = f", see {paths.shown(outcome.look)}" if outcome.look else ""
            print(f"  {outcome.unit.label}: {outcome.problem}{where}")
    return 1 if failed or left else 0


def _aligned(markdown: str) -> str:
    """Markdown with its tables' columns as wide in every line, for a terminal."""
    lines = [line.strip("|").split("|") if line.startswith("|") else line for line in markdown.splitlines()]
    tables = [cells for cells in lines if isinstance(cells, list)]
    widths = [max(len(cell.strip()) for cell in column) for column in zip(*tables)]
    shown = []
    for line in lines:
        if isinstance(line, str):
            shown.append(line)
        elif set("".join(line)) - set("-: "):  # not the rule below the head
            shown.append("  ".join(cell.strip().ljust(width) for cell, width in zip(line, widths)).rstrip())
    return "\n".join(shown)
