"""What a sweep has to do: the runs without a record, grouped into units of one process each, and how long they take."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import engine, evidence, paper, paths, records
from mnistmp.engine import path_name, pick_device
from mnistmp.errors import InputError
from mnistmp.records.provenance import device_name
from mnistmp.spec import RunSpec
from mnistmp.sweep import notebooks
from mnistmp.sweep.unit import Unit

OVERHEAD = 5.0  # seconds that a unit takes beside training


def shard(specs: Sequence[RunSpec], part: str) -> list[RunSpec]:
    """Every N-th run for a part "I/N", I from 0: of all runs, so that parts stay the same whatever is recorded."""
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", part)
    if not match or not int(match[1]) < int(match[2]):
        raise InputError(f"shard {part!r} cannot be; write I/N with I from 0 to N - 1, for example 0/4 to 3/4.")
    return list(specs[int(match[1]) :: int(match[2])])


def missing(specs: Sequence[RunSpec], preset: str, table: pd.DataFrame | None = None) -> list[RunSpec]:
    """The runs without a record, or without a checkpoint where checkpoints are asked for.

    Args:
        table: `records.load(preset)`, if at hand.

    Raises:
        RecordError: any record of the preset that cannot be used, or is of another spec: nothing
            should be trained beside it.
        InputError: the preset's records are of another precision.
    """
    table = records.load(preset) if table is None else table
    asked = {spec.precision for spec in specs}
    other = sorted(set(table["precision"]) - asked)
    if specs and other:
        raise InputError(
            f"The records of preset {preset} are of {other[0]} precision and {asked.pop()} would be added; go on with "
            f"--precision {other[0]}, or give these runs a folder of their own with --results."
        )
    keys = dict(zip(zip(table["row"], table["seed"]), table["key"]))
    for spec in specs:
        if keys.get((spec.row, spec.seed), spec.key()) != spec.key():
            records.find(spec, preset)  # raises, with what differs
    diverged = set(table.loc[table["status"] == "diverged", "key"])  # which leaves no network
    return [
        spec for spec in specs
        if (spec.row, spec.seed) not in keys
        or (evidence.lacks_checkpoint(spec, preset) and spec.key() not in diverged)
    ]  # fmt: skip


def train_units(specs: Sequence[RunSpec], preset: str, jobs: int = 1, folder: Path | None = None) -> list[Unit]:
    """Units that train these runs: some rows of one notebook at some seeds, low seeds and long units first.

    With a notebook a unit holds exactly rows x seeds, since these two names are all that it is told. Rows of one's own
    have none.

    Args:
        jobs: units at a time.
        folder: of the notebooks; None to train without.
    """
    size = max(1, min(_most_per_unit(specs), len(specs) // (2 * jobs)))  # so many that none waits long for the last
    by_notebook: dict[str, list[RunSpec]] = {}
    for spec in specs:
        name = "" if folder is None else paper.row(spec.row).notebook
        by_notebook.setdefault(name, []).append(spec)
    absent = [name for name in sorted(by_notebook) if name and not (folder / f"{name}.ipynb").is_file()]
    if absent:
        raise InputError(f"{folder / absent[0]}.ipynb is missing; restore it, or train without notebooks: mnistmp run.")
    units = [
        _unit(name, block, preset, folder if name else None)
        for name, some in by_notebook.items()
        for block in _blocks(some, size)
    ]
    return sorted(units, key=lambda unit: (unit.specs[0].seed, -len(unit.specs)))


def show_units(folder: Path, preset: str, rows: str = "all") -> list[Unit]:
    """Execute, to show what is recorded, the notebooks of these rows and all that train no row of Table 2.

    The last first: 01 is the shortest, so that no core waits long for another at the end.
    """
    training = {row.notebook for row in paper.TABLE2}
    asked = {row.notebook for row in paper.trainings(rows)}
    shown = [path for path in notebooks.find(folder) if path.stem in asked or path.stem not in training]
    return [
        Unit(
            path.stem,
            preset,
            notebook=str(path),
            parameters={"preset": preset, "seeds": "recorded"},
            target=str(paths.results(preset) / "notebooks" / path.name),
        )
        for path in reversed(shown)
    ]


def own_units(folder: Path, names: Sequence[str] = ()) -> list[Unit]:
    """Execute notebooks with their own parameters and put the result, if spotless, in their place."""
    found = notebooks.find(folder, names)
    return [Unit(path.stem, "paper", notebook=str(path), target=str(path)) for path in found]


def estimate(specs: Sequence[RunSpec], table: pd.DataFrame) -> dict[str, float]:
    """Seconds a run of each row should take: as recorded on this machine, else measured now in a few steps per method.

    An interpretation such as `dropout+layer=conv1` that has no record yet is taken to need what its row does.

    Args:
        specs: of one preset, where runs of a row differ by nothing but the seed.
        table: `records.load(preset)`.
    """
    device = pick_device()
    same = {"device": device_name(device), "path": path_name(device), "threads": 1, "status": "done"}
    here = table[(table[list(same)] == list(same.values())).all(axis=1)]
    recorded = here.groupby("row")["seconds"].median()
    measured: dict[tuple, float] = {}
    seconds = {}
    for spec in {spec.row: spec for spec in specs}.values():
        known = next((name for name in (spec.row, spec.row.split("+")[0]) if name in recorded), None)
        kind = (spec.method, spec.dataset, spec.image_size, spec.precision, spec.epochs, spec.batch_size)
        if known is None and kind not in measured:
            measured[kind] = engine.estimate_seconds(spec)
        seconds[spec.row] = measured[kind] if known is None else float(recorded[known])
    return seconds


def forecast(units: Sequence[Unit], seconds: dict[str, float], jobs: int, opening: str) -> str:
    """What a dry run says: a line per unit with its time, what is recorded, and the time of all units if any.

    Args:
        seconds: of a run of each row, see `estimate`.
        jobs: units at a time, each taking the next one when it is done.
        opening: what is recorded and what is to do.
    """
    lines, busy_until = [], [0.0] * max(jobs, 1)
    for unit in units:
        training = sum(seconds[spec.row] for spec in unit.specs)
        lines.append(f"{unit.label}  {about(training)}")
        busy_until.sort()
        busy_until[0] += OVERHEAD + training
    lines.append(opening)
    return "\n".join([*lines, f"{about(max(busy_until)).capitalize()} in all, for the training."] if units else lines)


def about(seconds: float) -> str:
    """An estimate in words: about 40 s, about 12 min, about 2.5 h."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 90 * 60 else f"about {seconds / 3600:.1f} h"


def _most_per_unit(specs: Sequence[RunSpec]) -> int:
    # Short runs share a kernel, which takes seconds to start; those that take minutes have one each.
    if pick_device().type != "cpu":
        return 15
    return 6 if all(spec.dataset == "digits" for spec in specs) else 1


def _blocks(specs: Sequence[RunSpec], size: int) -> Iterator[list[RunSpec]]:
    # Specs in blocks of some rows x some seeds, of `size` at most and about equal.
    by_seed: dict[int, list[RunSpec]] = {}
    for spec in specs:
        by_seed.setdefault(spec.seed, []).append(spec)
    same_rows: dict[tuple[str, ...], list[list[RunSpec]]] = {}
    for of_seed in by_seed.values():
        same_rows.setdefault(tuple(spec.row for spec in of_seed), []).append(of_seed)
    for rows, seeds in same_rows.items():
        if len(rows) > size:
            for of_seed in seeds:
                yield from _parts(of_seed, size)
        else:
            for some in _parts(seeds, size // len(rows)):
                yield [spec for of_seed in some for spec in of_seed]


def _parts(items: list, size: int) -> Iterator[list]:
    number = -(-len(items) // size)
    return (items[len(items) * part // number : len(items) * (part + 1) // number] for part in range(number))


def _unit(notebook: str, specs: Sequence[RunSpec], preset: str, folder: Path | None) -> Unit:
    rows, seeds = list(dict.fromkeys(spec.row for spec in specs)), [*map(str, sorted({spec.seed for spec in specs}))]
    shown = ", ".join(rows) if len(rows) <= 3 else f"{rows[0]} and {len(rows) - 1} more"
    return Unit(
        label=f"{notebook[:2]} {shown} {'seed' if len(seeds) == 1 else 'seeds'} {','.join(seeds)}".strip(),
        preset=preset,
        specs=tuple(specs),
        notebook=str(folder / f"{notebook}.ipynb") if folder else "",
        parameters={"preset": preset, "seeds": ",".join(seeds), "rows": ",".join(rows)} if folder else {},
    )
