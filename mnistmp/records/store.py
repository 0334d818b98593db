"""Finished runs on disk, one file each: `results/<preset>/runs/<row>/seed-<k>.json`; and all of a preset as a table.

A run is done when its record exists, and only then. A file that cannot be used is reported by
name; it is never skipped in silence and never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paths
from mnistmp.errors import RecordError, UnknownMethod
from mnistmp.files import read_bounded, write_atomically
from mnistmp.records.record import RunRecord
from mnistmp.spec import PROTOCOL_VERSION, RunSpec

COLUMNS = ("row", "seed", "status", "method", "precision", "protocol", "dataset", "epochs", "val_total", "test_total",
           "val_correct", "test_correct", "seconds", "device", "threads", "path", "code_version", "key", "file",
           "options", "spec")  # fmt: skip
HISTORY_COLUMNS = ("row", "seed", "status", "epoch", "val_accuracy", "test_accuracy", "train_loss")
SIZE_LIMIT = 1_000_000  # bytes; a record of 10 epochs has about 3,000
SHOWN = 20  # problems in one message

_FILE = re.compile(r"seed-(0|[1-9][0-9]{0,9})\.json")
_AGAIN = "delete it and run again"
_DAY = 86_400  # seconds


# ---- one record ----


def record_path(preset: str, row: str, seed: int) -> Path:
    """Where the record of a run lies."""
    return paths.results(preset) / "runs" / paths.plain_name(row, "row") / f"seed-{int(seed)}.json"


def save(record: RunRecord, preset: str) -> Path:
    """Write a record so that it is there completely or not at all; return its file.

    A finished record of the same run stays as it is: of two sweeps over one folder the first counts.
    To replace one, delete it.

    Raises:
        RecordError: the file holds something else, the folder cannot be written, or the disk is full.
    """
    path = record_path(preset, record.spec.row, record.spec.seed)
    if find(record.spec, preset) is None:
        try:
            write_atomically(path, record.to_text(), keep=True)
        except OSError as error:
            raise RecordError(_unwritable(path, error)) from None
        if find(record.spec, preset) is None:  # who was faster may have recorded another run, which this says
            raise RecordError(f"{path} vanished as soon as it was written; look who else works there and run again.")
    return path


def check_writable(preset: str) -> None:
    """Make sure, before hours of work, that records of a preset can be written.

    Temporary files that a killed run left there are removed once they are a day old, by the clock
    of the file system: ours may be wrong, and another machine may be writing now.

    Raises:
        RecordError: they cannot; one sentence with the reason.
    """
    runs = paths.results(preset) / "runs"
    probe = runs / f".probe-{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        now = write_atomically(probe, "can this folder be written?\n").stat().st_mtime
        probe.unlink()
    except OSError as error:
        raise RecordError(_unwritable(runs, error)) from None
    for leftover in [*runs.glob(".*.tmp"), *runs.glob("*/.*.tmp")]:
        with contextlib.suppress(OSError):  # another process may be faster
            if now - leftover.stat().st_mtime > _DAY:
                leftover.unlink()


def read(path: str | Path) -> RunRecord:
    """The record in a file, every value checked.

    Raises:
        RecordError: one sentence with the file, what is wrong with it and what to do.
    """
    record = _read(Path(path))
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


# ---- many records ----


def load(preset: str) -> pd.DataFrame:
    """All records of a preset, one line per run, sorted by row and seed.

    Args:
        preset: a folder of `results/`; one without records gives an empty table.

    Returns:
        DataFrame with `COLUMNS`: val_correct and test_correct are lists with one count per epoch,
        options is a dict, spec the RunSpec, file relative to the results folder, seconds the
        wall time; device, threads, path and code_version as the environment of the run names them.

    Raises:
        RecordError: files that cannot be used, one problem per line.
    """
    found = _usable(preset).items()
    lines = [{**_line(record), "file": path.relative_to(paths.results()).as_posix()} for path, record in found]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def history(preset: str) -> pd.DataFrame:
    """The training curves of a preset, one line per run and epoch; errors are those of `load`.

    Returns:
        DataFrame with row, seed, status, epoch (from 1), val_accuracy and test_accuracy in percent,
        train_loss, and a column `term:<name>` per loss term, NaN where a method has none of it.
    """
    lines = []
    for record in _usable(preset).values():
        for epoch in record.history:
            val, test = 100 * epoch["val_correct"] / record.val_total, 100 * epoch["test_correct"] / record.test_total
            numbers = record.spec.row, record.spec.seed, record.status, epoch["epoch"], val, test, epoch["train_loss"]
            terms = {f"term:{name}": value for name, value in epoch["terms"].items()}
            lines.append({**dict(zip(HISTORY_COLUMNS, numbers)), **terms})
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=list(HISTORY_COLUMNS))


def frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Records in memory as the table that `load` makes of those on disk; `file` is empty."""
    return pd.DataFrame([_line(record) for record in records], columns=list(COLUMNS))


def recorded(specs: Iterable[RunSpec], preset: str) -> pd.DataFrame:
    """Those of these runs that are recorded, as a table like that of `load`; errors are those of `find`."""
    return frame(record for spec in specs if (record := find(spec, preset)))


def status(preset: str, specs: Sequence[RunSpec]) -> pd.DataFrame:
    """How far these runs are: per row the number of runs planned, done, diverged, missing and broken.

    Nothing raises: what cannot be used, also outside of `specs`, is listed in `.attrs["problems"]`.
    """
    found, problems = _all(preset)
    lines = []
    for spec in specs:
        path = record_path(preset, spec.row, spec.seed)
        kind = found[path].status if path in found else "broken" if path in problems else "missing"
        if path in found and found[path].spec != spec:
            kind = "broken"
            problems[path] = _other_run(path, found[path].spec, spec)
        lines.append({"row": spec.row, "planned": 1, **{name: int(kind == name) for name in _KINDS}})
    counts = pd.DataFrame(lines, columns=["row", "planned", *_KINDS]).groupby("row", sort=False, as_index=False).sum()
    counts.attrs["problems"] = list(problems.values())
    return counts


_KINDS = ("done", "diverged", "missing", "broken")


def _line(record: RunRecord) -> dict:
    spec, origin = record.spec, record.environment
    return {
        **{name: getattr(spec, name) for name in ("row", "seed", "method", "precision", "dataset", "epochs")},
        **{name: getattr(record, name) for name in ("status", "val_total", "test_total", "seconds")},
        **{name: origin.get(name) for name in ("device", "threads", "path", "code_version")},
        "protocol": PROTOCOL_VERSION,
        "val_correct": [epoch["val_correct"] for epoch in record.history],
        "test_correct": [epoch["test_correct"] for epoch in record.history],
        "key": spec.key(),
        "file": "",
        "options": dict(spec.options),
        "spec": spec,
    }


# ---- files ----


def _usable(preset: str) -> dict[Path, RunRecord]:
    found, problems = _all(preset)
    if problems:
        sentences, rest = list(problems.values())[:SHOWN], len(problems) - SHOWN
        raise RecordError("\n".join(sentences + ([f"... and {rest} more like these."] if rest > 0 else [])))
    return found


def _all(preset: str) -> tuple[dict[Path, RunRecord], dict[Path, str]]:
    """What can be used, and what cannot, each by its file."""
    found, problems = {}, {}
    runs = paths.results(preset) / "runs"
    try:
        for path in _files(runs):
            try:
                if not _FILE.fullmatch(path.name) or path.parent == runs:
                    raise RecordError(f"{path} is not named like a record, runs/ROW/seed-K.json; move it away.")
                found[path] = read(path)
            except UnknownMethod as error:  # of a file that was not named: another command's, and whole
                warnings.warn(f"{path} is left out: {error}", stacklevel=4)
            except RecordError as error:
                problems[path] = str(error)
    except OSError as error:
        problems[runs] = f"{error.filename} cannot be read ({error.strerror}); it must be a readable folder."
    return found, problems


def _files(runs: Path) -> Iterator[Path]:
    # Every file that is a record or looks like one, by row and seed. Hidden files are temporary ones or an editor's.
    if not os.path.lexists(runs):
        return
    for entry in sorted(os.scandir(runs), key=lambda entry: entry.name):
        if entry.is_dir() and not entry.name.startswith("."):
            names = [name for name in os.listdir(entry) if name.endswith(".json") and not name.startswith(".")]
            yield from (runs / entry.name / name for name in sorted(names, key=lambda name: (len(name), name)))
        elif entry.name.endswith(".json") and not entry.name.startswith("."):
            yield runs / entry.name


def _read(path: Path) -> RunRecord | None:
    try:
        content = read_bounded(path, SIZE_LIMIT)
    except FileNotFoundError:
        if path.is_symlink():  # to train for hours and then find the name taken would be too late
            raise RecordError(f"{path} is a link to nothing; {_AGAIN}.") from None
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
        run = f"the run of row {record.spec.row}, seed {record.spec.seed}"
        raise RecordError(f"{path} holds {run}, under another name; delete the copy.")
    return record


def _other_run(path: Path, found: RunSpec, asked: RunSpec) -> str:
    there, here = ({**spec.to_json(), **{f"option {k}": v for k, v in spec.to_json()["options"].items()}, "options": 0}
                   for spec in (found, asked))  # fmt: skip
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    fields = ", ".join(f"{name} is {there.get(name)!r} and {here.get(name)!r} is asked" for name in names)
    return f"{path} holds another run: {fields}; give this run a row name of its own, or delete the file and run again."


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{path} cannot be written ({reason}); free or repair the place, or set MNISTMP_RESULTS to another folder."
