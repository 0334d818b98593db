"""Finished runs on disk: one JSON file each, `results/<preset>/runs/<row>/seed-<k>.json`.

A run is done when its record exists, and only then. A file that cannot be used is reported by
name; it is never skipped in silence and never overwritten.
"""

from __future__ import annotations

import os
import re
import stat
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paths, protocol
from mnistmp.files import write_atomically
from mnistmp.runrecord import Epoch, RecordError, RunRecord
from mnistmp.spec import RunSpec

__all__ = ["COLUMNS", "Epoch", "RecordError", "RunRecord", "check_writable", "find", "history", "load", "read",
           "record_path", "save", "status"]  # fmt: skip

SIZE_LIMIT = 1_000_000  # bytes; a record of 10 epochs has about 3,000
COLUMNS = ("row", "seed", "status", "method", "precision", "protocol", "dataset", "epochs", "val_total", "test_total",
           "val_correct", "test_correct", "seconds", "device", "threads", "path", "code_version", "key", "file",
           "options", "spec")  # fmt: skip

_FILE = re.compile(r"seed-(0|[1-9][0-9]{0,9})\.json")
_AGAIN = "delete it and run again"


def record_path(preset: str, row: str, seed: int) -> Path:
    """Where the record of a run lies."""
    return paths.results(preset) / "runs" / paths.plain_name(row, "row") / f"seed-{int(seed)}.json"


def save(record: RunRecord, preset: str) -> Path:
    """Write a record so that it is there completely or not at all; return its file.

    A finished record of the same run stays as it is: of two sweeps over one folder the first counts.
    To replace one, delete it.

    Raises:
        RecordError: the file holds something else, the folder cannot be written, the disk is
            full, or the record itself is not valid.
    """
    path = record_path(preset, record.spec.row, record.spec.seed)
    try:
        text = record.to_text()
    except RecordError as error:
        raise RecordError(f"{path} is not written: {error}.") from None
    if find(record.spec, preset) is None:
        try:
            write_atomically(path, text)
        except OSError as error:
            raise RecordError(_unwritable(path, error)) from None
    return path


def check_writable(preset: str) -> None:
    """Make sure, before hours of work, that records of a preset can be written.

    Raises:
        RecordError: they cannot; one sentence with the reason.
    """
    probe = paths.results(preset) / "runs" / f".probe-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        write_atomically(probe, "can this folder be written?\n")
        probe.unlink()
    except OSError as error:
        raise RecordError(_unwritable(probe.parent, error)) from None


def read(path: str | Path) -> RunRecord:
    """The record in a file, every value checked.

    Raises:
        RecordError: one sentence with the file, what is wrong with it and what to do.
    """
    path = Path(path)
    record = _read(path)
    if record is None:
        raise RecordError(f"{path} does not exist; run it first.")
    return record


def find(spec: RunSpec, preset: str) -> RunRecord | None:
    """The finished record of a run, or None if there is none.

    Raises:
        RecordError: its file exists and cannot be used, or holds a run of another spec.
    """
    path = record_path(preset, spec.row, spec.seed)
    record = _read(path)
    if record is not None and record.spec.key() != spec.key():
        raise RecordError(_other_run(path, record.spec, spec))
    return record


def load(preset: str, *, strict: bool = True, rows: Iterable[str] | None = None) -> pd.DataFrame:
    """All records of a preset, one row per run, in the order of Table 2 and of the seeds.

    Args:
        preset: a folder of `results/`; one without records gives an empty table.
        strict: raise if any file cannot be used; else warn, leave those out and list the
            sentences in `.attrs["problems"]`.
        rows: only these rows; an early-stopping row stands for the training it reads.

    Returns:
        DataFrame with `COLUMNS`: val_correct and test_correct are lists with one count per epoch,
        options is a dict, spec the RunSpec, file relative to the results folder, seconds the
        wall time; device, threads, path and code_version as the environment of the run names them.

    Raises:
        RecordError: with `strict`, all problems, one per line.
    """
    good, problems = _sort_out(preset, strict, rows)
    base, lines = paths.results(), []
    for path, record in good:
        spec, origin = record.spec, record.environment
        lines.append((
            spec.row, spec.seed, record.status, spec.method, spec.precision, protocol.PROTOCOL_VERSION, spec.dataset,
            spec.epochs, record.val_total, record.test_total, [e["val_correct"] for e in record.history],
            [e["test_correct"] for e in record.history], record.seconds, origin.get("device"), origin.get("threads"),
            origin.get("path"), origin.get("code_version"), spec.key(), path.relative_to(base).as_posix(),
            dict(spec.options), spec,
        ))  # fmt: skip
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    frame.attrs["problems"] = problems
    return frame


def history(preset: str, *, strict: bool = True, rows: Iterable[str] | None = None) -> pd.DataFrame:
    """The training curves of a preset, one row per run and epoch.

    Args and errors are those of `load`.

    Returns:
        DataFrame with row, seed, epoch (from 1), val_accuracy and test_accuracy in percent,
        train_loss, and a column `term:<name>` per loss term, NaN where a method has none of it.
    """
    good, problems = _sort_out(preset, strict, rows)
    lines = [
        {
            "row": record.spec.row,
            "seed": record.spec.seed,
            "epoch": epoch["epoch"],
            "val_accuracy": 100 * epoch["val_correct"] / record.val_total,
            "test_accuracy": 100 * epoch["test_correct"] / record.test_total,
            "train_loss": epoch["train_loss"],
            **{f"term:{name}": value for name, value in epoch["terms"].items()},
        }
        for _, record in good
        for epoch in record.history
    ]
    columns = ["row", "seed", "epoch", "val_accuracy", "test_accuracy", "train_loss"]
    frame = pd.DataFrame(lines) if lines else pd.DataFrame(columns=columns)
    frame.attrs["problems"] = problems
    return frame


def status(preset: str, specs: Sequence[RunSpec]) -> pd.DataFrame:
    """How far a plan is: per row the number of runs planned, done, diverged, missing and broken.

    Nothing raises: what cannot be used, also outside the plan, is listed in `.attrs["problems"]`.
    """
    found, problems = {}, []
    for path, record in _scan(preset, None):
        found[path] = record
        if isinstance(record, RecordError):
            problems.append(str(record))
    counts: dict[str, dict[str, int]] = {}
    for spec in specs:
        path = record_path(preset, spec.row, spec.seed)
        record, kind = found.get(path), "missing"
        if isinstance(record, RunRecord):
            kind = record.status
            if record.spec != spec:
                kind = "broken"
                problems.append(_other_run(path, record.spec, spec))
        elif record is not None:
            kind = "broken"
        line = counts.setdefault(spec.row, dict.fromkeys(("planned", "done", "diverged", "missing", "broken"), 0))
        line["planned"] += 1
        line[kind] += 1
    columns = ["row", "planned", "done", "diverged", "missing", "broken"]
    frame = pd.DataFrame([{"row": row, **line} for row, line in counts.items()], columns=columns)
    frame.attrs["problems"] = problems
    return frame


def _sort_out(preset: str, strict: bool, rows: Iterable[str] | None) -> tuple[list[tuple[Path, RunRecord]], list[str]]:
    good, problems = [], []
    for path, record in _scan(preset, rows):
        if isinstance(record, RunRecord):
            good.append((path, record))
        else:
            problems.append(str(record))
    if problems and strict:
        raise RecordError("\n".join(problems))
    if problems:
        warnings.warn("\n".join(problems), stacklevel=3)
    return good, problems


def _scan(preset: str, rows: Iterable[str] | None) -> Iterator[tuple[Path, RunRecord | RecordError]]:
    # Every file that is a record or looks like one. Hidden files are ours (temporary) or an editor's.
    runs = paths.results(preset) / "runs"
    order = {row.id: place for place, row in enumerate(protocol.TABLE2)}
    shared = {row.id: row.training for row in protocol.TABLE2}
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


def _read(path: Path) -> RunRecord | None:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(handle, "rb") as file:  # O_NONBLOCK: a pipe of that name must not hang us
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RecordError(f"{path} is not a file; move it away and run again.")
            content = file.read(SIZE_LIMIT + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); make it readable, or {_AGAIN}.") from None
    if len(content) > SIZE_LIMIT:
        raise RecordError(f"{path} is no record: it is larger than {SIZE_LIMIT:,} bytes; {_AGAIN}.")
    try:
        record = RunRecord.from_text(content)
    except RecordError as error:
        raise RecordError(f"{path} is no usable record: {error}; {_AGAIN}.") from None
    if (path.parent.name, path.name) != (record.spec.row, f"seed-{record.spec.seed}.json"):
        raise RecordError(
            f"{path} holds the run of row {record.spec.row}, seed {record.spec.seed}, under another name; delete the copy."
        )
    return record


def _stray(path: Path) -> RecordError:
    return RecordError(f"{path} is not named like a record, runs/<row>/seed-<number>.json; move it away.")


def _other_run(path: Path, found: RunSpec, asked: RunSpec) -> str:
    there, here = found.to_json(), asked.to_json()
    there.update({f"option {k}": v for k, v in there.pop("options").items()})
    here.update({f"option {k}": v for k, v in here.pop("options").items()})
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    fields = ", ".join(f"{name} is {there.get(name)!r} and {here.get(name)!r} is asked" for name in names)
    return f"{path} holds another run: {fields}; give this run a row name of its own, or delete the file and run again."


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{path} cannot be written ({reason}); free or repair the place, or set MNISTMP_RESULTS to another folder."
