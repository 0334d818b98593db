"""One finished run on disk: `results/<preset>/runs/<row>/seed-<k>.json`.

A run is done when its record exists, and only then. A file that cannot be used is reported by
name; it is never skipped in silence and never overwritten.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from mnistmp import paths
from mnistmp.files import read_bounded, write_atomically
from mnistmp.records.record import RecordError, RunRecord
from mnistmp.spec import RunSpec

SIZE_LIMIT = 1_000_000  # bytes; a record of 10 epochs has about 3,000

_AGAIN = "delete it and run again"
_DAY = 86_400  # seconds


def record_path(preset: str, row: str, seed: int) -> Path:
    """Where the record of a run lies.

    Raises:
        PathError: that would be outside of the results folder, by a name or by a link.
    """
    return paths.inside(paths.results(preset), "runs", paths.plain_name(row, "row")) / f"seed-{int(seed)}.json"


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
            write_atomically(path, text, keep=True)
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
    runs = paths.inside(paths.results(preset), "runs")
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
        raise RecordError(other_run(path, record.spec, spec))
    return record


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


def other_run(path: Path, found: RunSpec, asked: RunSpec) -> str:
    """The sentence for a file that holds the run `found` where `asked` is wanted."""
    there, here = found.to_json(), asked.to_json()
    there.update({f"option {k}": v for k, v in there.pop("options").items()})
    here.update({f"option {k}": v for k, v in here.pop("options").items()})
    names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
    fields = ", ".join(f"{name} is {there.get(name)!r} and {here.get(name)!r} is asked" for name in names)
    return f"{path} holds another run: {fields}; give this run a row name of its own, or delete the file and run again."


def _unwritable(path: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{path} cannot be written ({reason}); free or repair the place, or set MNISTMP_RESULTS to another folder."
