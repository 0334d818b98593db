"""What a batch has to do: runs, grouped into units of one process each, and how long that takes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mnistmp import engine, paper, paths, records
from mnistmp.records.provenance import device_name
from mnistmp.sweep.progress import OVERHEAD, about
from mnistmp.spec import RunSpec
from mnistmp.sweep.unit import Unit


class BatchError(ValueError):
    """Work that cannot begin: one sentence with what is wrong and what to do."""


def plan(
    preset: str,
    rows: str = "all",
    seeds: str | None = None,
    precision: str | None = None,
    shard: str | None = None,
    table: pd.DataFrame | None = None,
) -> list[RunSpec]:
    """The runs asked for, recorded or not.

    Args:
        rows, seeds: as on the command line; None for the preset's own seeds.
        precision: None for that of the preset, or of its records.
        shard: "I/N", I from 0: every N-th run, of the full plan so that shards stay the same
            whatever is recorded meanwhile.
        table: `records.load(preset)`, if at hand, which `missing` then compares with what is planned.

    Raises:
        SpecError, BatchError: anything that cannot be, or a precision other than that of the records.
    """
    paper.preset(preset)  # an unknown name is said first
    if table is None:
        resolved = paper.precision(preset, precision)
    else:  # without reading thousands of files once more
        resolved = paper.precision(preset, precision)
    specs = paper.plan(preset, rows=rows, seeds=seeds, precision=resolved)
    if shard is None:
        return specs
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if not match or not int(match[1]) < int(match[2]):
        raise BatchError(f"shard {shard!r} cannot be; write I/N with I from 0 to N - 1, for example 0/4 to 3/4.")
    return specs[int(match[1]) :: int(match[2])]


def recorded_precision(preset: str) -> str | None:
    """That of the first record of a preset that can be read; None if there is none."""
    for path in sorted((paths.results(preset) / "runs").glob("*/seed-*.json")):
        with contextlib.suppress(records.RecordError):
            return records.read(path).spec.precision
    return None


def missing(specs: Sequence[RunSpec], preset: str, table: pd.DataFrame | None = None) -> list[RunSpec]:
    """Those without a record.

    Args:
        table: `records.load(preset)`, if at hand.

    Raises:
        RecordError: any record of the preset that cannot be used, or is of another spec: nothing
            should be trained beside it.
        BatchError: the preset's records are of another precision.
    """
    table = records.load(preset) if table is None else table
    there = {(row, seed): (key, precision) for row, seed, key, precision in
             zip(table["row"], table["seed"], table["key"], table["precision"])}  # fmt: skip
    asked = {spec.precision for spec in specs}
    other = sorted({precision for _, precision in there.values()} - asked)
    if specs and other:
        raise BatchError(
            f"The records of preset {preset} are of {other[0]} precision and {asked.pop()} would be added; go on with "
            f"--precision {other[0]}, or give these runs a folder of their own with --results."
        )
    left = []
    for spec in specs:
        found = there.get((spec.row, spec.seed))
        if found is None:
            left.append(spec)
        elif found[0] != spec.key():
            records.find(spec, preset)  # raises, with what differs
    return left


def plan_units(specs: Sequence[RunSpec], preset: str, jobs: int = 1, notebooks: Path | None = None) -> list[Unit]:
    """Units for runs that have no record: some rows of one notebook at some seeds, low seeds and long units first.

    A unit holds exactly rows x seeds, since these two names are all that its notebook is told.

    Args:
        notebooks: folder of the notebooks; None to train without.

    Raises:
        BatchError: a notebook that should train is not there.
    """
    size = most_per_unit(specs)
    if jobs > 1:  # enough units that none waits long for the last
        size = max(1, min(size, len(specs) // (2 * jobs)))
    by_notebook: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_notebook.setdefault("" if notebooks is None else paper.row(spec.row).notebook, []).append(spec)
    blocks = [(notebook, block) for notebook, some in by_notebook.items() for block in _blocks(some, size)]
    units = [unit_of(notebook, block, preset, notebooks) for notebook, block in blocks]
    absent = sorted({unit.notebook for unit in units if unit.notebook and not Path(unit.notebook).is_file()})
    if absent:
        raise BatchError(f"{absent[0]} is missing; restore it, or train without notebooks: mnistmp run.")
    return sorted(units, key=lambda unit: (unit.specs[0].seed, -len(unit.specs)))


def most_per_unit(specs: Sequence[RunSpec]) -> int:
    """How many trainings share a kernel, which takes seconds to start; those that take minutes have one each."""
    if engine.pick_device().type != "cpu":
        return 15
    return 6 if all(spec.dataset == "digits" for spec in specs) else 1


def _blocks(specs: Sequence[RunSpec], size: int) -> list[list[RunSpec]]:
    """Specs in blocks of some rows x some seeds, of about `size` at most."""
    by_seed: dict[int, list[RunSpec]] = {}
    for spec in specs:
        by_seed.setdefault(spec.seed, []).append(spec)
    blocks: list[list[RunSpec]] = []
    rows_before: list[str] = []
    for seed in sorted(by_seed):
        of_seed = by_seed[seed]
        rows = [spec.row for spec in of_seed]
        if rows == rows_before and len(blocks[-1]) + len(rows) <= size:
            blocks[-1] += of_seed
            continue
        number = -(-len(rows) // size)
        blocks += [of_seed[len(rows) * part // number : len(rows) * (part + 1) // number] for part in range(number)]
        rows_before = rows if number == 1 else []
    return blocks


def unit_of(notebook: str, specs: Sequence[RunSpec], preset: str, folder: Path | None) -> Unit:
    """The unit of one notebook that records these runs, which are exactly its rows x its seeds."""
    rows, seeds = list(dict.fromkeys(spec.row for spec in specs)), sorted({spec.seed for spec in specs})
    more = f"-and-{len(rows) - 1}-more" if len(rows) > 1 else ""
    shown = ", ".join(rows) if len(rows) <= 3 else f"{rows[0]} and {len(rows) - 1} more"
    seed = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {','.join(map(str, seeds))}"
    return Unit(
        name=f"{notebook[:2] or 'run'}-{rows[0]}{more}-seed-{'-'.join(map(str, seeds))}",
        label=f"{notebook[:2]} {shown} {seed}".strip(),
        preset=preset,
        notebook=str(folder / f"{notebook}.ipynb") if folder else "",
        seeds=",".join(map(str, seeds)),
        rows=",".join(rows),
        specs=tuple(specs),
    )


def estimate(specs: Sequence[RunSpec], table: pd.DataFrame) -> dict[str, float]:
    """Seconds a run of each row should take: as recorded on this machine, else measured now in a few steps per method.

    A reading such as `dropout+layer=conv1` that has no record yet is taken to need what its row does.

    Args:
        specs: of one preset, where runs of a row differ by nothing but the seed.
    """
    device = engine.pick_device()
    same = {"device": device_name(device), "path": engine.path_name(device), "threads": 1, "status": "done"}
    here = table[(table[list(same)] == list(same.values())).all(axis=1)]
    recorded = here.groupby("row")["seconds"].median()
    measured: dict[tuple, float] = {}
    seconds = {}
    for spec in {spec.row: spec for spec in specs}.values():
        known = next((name for name in (spec.row, spec.row.split("+")[0]) if name in recorded), None)
        if known is not None:
            seconds[spec.row] = float(recorded[known])
            continue
        kind = (spec.method, spec.dataset, spec.image_size, spec.precision, spec.epochs, spec.batch_size)
        if kind not in measured:
            measured[kind] = engine.estimate_seconds(spec)
        seconds[spec.row] = measured[kind]
    return seconds


def forecast(units: Sequence[Unit], seconds: dict[str, float], jobs: int, *between: str) -> str:
    """What a dry run says: a line per unit with its time, what else is given, and the time of all units if any."""
    each = [f"{unit.label}  {about(sum(seconds[spec.row] for spec in unit.specs))}" for unit in units]
    total = [f"{about(makespan(units, seconds, jobs)).capitalize()} in all, for the training."] if units else []
    return "\n".join([*each, *between, *total])


def makespan(units: Sequence[Unit], seconds: dict[str, float], jobs: int) -> float:
    """Seconds until the last of `jobs` workers is done, each taking the next unit when it is free."""
    busy_until = [0.0] * max(jobs, 1)
    for unit in units:
        busy_until.sort()
        busy_until[0] += OVERHEAD + sum(seconds[spec.row] for spec in unit.specs)
    return max(busy_until) if units else 0.0
