"""Finished runs, one JSON file each: write, read and find one, load all of a preset as a table."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paper, paths
from mnistmp.records.store import check_writable, find, other_run, read, record_path, save
from mnistmp.records.record import Epoch, RecordError, RunRecord
from mnistmp.spec import RunSpec

__all__ = ["COLUMNS", "Epoch", "RecordError", "RunRecord", "check_writable", "find", "frame", "history", "load", "read",
           "record_path", "save", "status"]  # fmt: skip

SHOWN = 20  # problems in one message
COLUMNS = ("row", "seed", "status", "method", "precision", "protocol", "dataset", "epochs", "val_total", "test_total",
           "val_correct", "test_correct", "seconds", "device", "threads", "path", "code_version", "key", "file",
           "options", "spec")  # fmt: skip

Rows = str | Iterable[str] | None

_FILE = re.compile(r"seed-(0|[1-9][0-9]{0,9})\.json")


def load(preset: str, *, strict: bool = True, rows: Rows = None) -> pd.DataFrame:
    """All records of a preset, one row per run, in the order of Table 2 and of the seeds.

    Args:
        preset: a folder of `results/`; one without records gives an empty table.
        strict: raise if any file cannot be used; else warn, leave those out and list the
            sentences in `.attrs["problems"]`.
        rows: only these, as a list or separated by commas, None or "all" for all; an early-stopping
            row stands for the training it reads.

    Returns:
        DataFrame with `COLUMNS`: val_correct and test_correct are lists with one count per epoch,
        options is a dict, spec the RunSpec, file relative to the results folder, seconds the
        wall time; device, threads, path and code_version as the environment of the run names them.

    Raises:
        RecordError: with `strict`, all problems, one per line.
    """
    problems: list[str] = []
    found = ((record, f"{preset}/runs/{record.spec.row}/{path.name}") for path, record in _good(preset, rows, problems))
    return _finished(_frame(found), problems, strict)


def frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Records in memory as the table that `load` makes of those on disk; `file` is empty."""
    return _frame((record, "") for record in records)


def history(preset: str, *, strict: bool = True, rows: Rows = None) -> pd.DataFrame:
    """The training curves of a preset, one row per run and epoch.

    Args and errors are those of `load`.

    Returns:
        DataFrame with row, seed, status, epoch (from 1), val_accuracy and test_accuracy in percent,
        train_loss, and a column `term:<name>` per loss term, NaN where a method has none of it.
    """
    problems: list[str] = []
    lines = [
        {
            "row": record.spec.row,
            "seed": record.spec.seed,
            "status": record.status,
            "epoch": epoch["epoch"],
            "val_accuracy": 100 * epoch["val_correct"] / record.val_total,
            "test_accuracy": 100 * epoch["test_correct"] / record.test_total,
            "train_loss": epoch["train_loss"],
            **{f"term:{name}": value for name, value in epoch["terms"].items()},
        }
        for _, record in _good(preset, rows, problems)
        for epoch in record.history
    ]
    columns = ["row", "seed", "status", "epoch", "val_accuracy", "test_accuracy", "train_loss"]
    return _finished(pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns), problems, strict)


def status(preset: str, specs: Sequence[RunSpec]) -> pd.DataFrame:
    """How far a plan is: per row the number of runs planned, done, diverged, missing and broken.

    Nothing raises: what cannot be used, also outside the plan, is listed in `.attrs["problems"]`.
    """
    found, problems = {}, []
    for path, record in _scan(preset, None):
        if isinstance(record, RunRecord):
            found[path] = record.status, record.spec
        else:
            found[path] = "broken", None
            problems.append(str(record))
    counts: dict[str, dict[str, int]] = {}
    for spec in specs:
        path = record_path(preset, spec.row, spec.seed)
        kind, recorded = found.get(path, ("missing", None))
        if recorded is not None and recorded != spec:
            kind = "broken"
            problems.append(other_run(path, recorded, spec))
        line = counts.setdefault(spec.row, dict.fromkeys(("planned", "done", "diverged", "missing", "broken"), 0))
        line["planned"] += 1
        line[kind] += 1
    columns = ["row", "planned", "done", "diverged", "missing", "broken"]
    frame = pd.DataFrame([{"row": row, **line} for row, line in counts.items()], columns=columns)
    frame.attrs["problems"] = problems
    return frame


def _good(preset: str, rows: Rows, problems: list[str]) -> Iterator[tuple[Path, RunRecord]]:
    # One record at a time: thousands of them never lie in memory together.
    for path, record in _scan(preset, rows):
        if isinstance(record, RunRecord):
            yield path, record
        else:
            problems.append(str(record))


def _frame(found: Iterable[tuple[RunRecord, str]]) -> pd.DataFrame:
    lines = []
    for record, file in found:
        spec, origin = record.spec, record.environment
        lines.append((
            spec.row, spec.seed, record.status, spec.method, spec.precision, paper.PROTOCOL_VERSION, spec.dataset,
            spec.epochs, record.val_total, record.test_total, [e["val_correct"] for e in record.history],
            [e["test_correct"] for e in record.history], record.seconds, origin.get("device"), origin.get("threads"),
            origin.get("path"), origin.get("code_version"), spec.key(), file, dict(spec.options), spec,
        ))  # fmt: skip
    return pd.DataFrame(lines, columns=list(COLUMNS))


def _finished(frame: pd.DataFrame, problems: list[str], strict: bool) -> pd.DataFrame:
    if problems:
        rest = len(problems) - SHOWN
        message = "\n".join(problems[:SHOWN] + ([f"... and {rest} more like these."] if rest > 0 else []))
        if strict:
            raise RecordError(message)
        warnings.warn(message, stacklevel=3)
    frame.attrs["problems"] = problems
    return frame


def _scan(preset: str, rows: Rows) -> Iterator[tuple[Path, RunRecord | RecordError]]:
    # Every file that is a record or looks like one. Hidden files are ours (temporary) or an editor's.
    runs = paths.results(preset) / "runs"
    order = {row.id: place for place, row in enumerate(paper.TABLE2)}
    shared = {row.id: row.training for row in paper.TABLE2}
    if isinstance(rows, str):
        rows = None if rows == "all" else [row.strip() for row in rows.split(",")]
    wanted = None if rows is None else {shared.get(row, row) for row in rows}
    try:
        for folder in sorted(_entries(runs), key=lambda entry: (order.get(entry.name, len(order)), entry.name)):
            if not folder.is_dir():
                if folder.name.endswith(".json"):
                    yield runs / folder.name, _stray(runs / folder.name)
            elif wanted is None or folder.name in wanted:
                yield from _scan_row(runs / folder.name)
    except RecordError as error:
        yield runs, error


def _scan_row(folder: Path) -> Iterator[tuple[Path, RunRecord | RecordError]]:
    found = [(_FILE.fullmatch(entry.name), entry) for entry in _entries(folder)]
    for match, entry in sorted(found, key=lambda pair: (int(pair[0][1]) if pair[0] else -1, pair[1].name)):
        path = folder / entry.name
        if match:
            yield path, _read_or_error(path)
        elif entry.name.endswith(".json") or entry.is_dir():
            yield path, _stray(path)


def _entries(folder: Path) -> list[os.DirEntry]:
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{folder} cannot be read ({error.strerror}); it must be a readable folder.") from None


def _read_or_error(path: Path) -> RunRecord | RecordError:
    try:
        return read(path)
    except RecordError as error:
        return error


def _stray(path: Path) -> RecordError:
    return RecordError(f"{path} is not named like a record, runs/<row>/seed-<number>.json; move it away.")
