"""What the machine offers: places to write to, room in them, processors, memory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mnistmp import paths
from mnistmp.errors import InputError
from mnistmp.doctor.finding import Finding

ROOM = {"error": 50e6, "warning": 500e6}  # bytes; a preset's records, notebooks and figures take tens of MB
TRAINING = 1.5e9  # bytes of memory that a training on MNIST takes at most


def places() -> Iterator[Finding]:
    """Results and figures: whether they can be written, and whether there is room."""
    for name, variable, place in (
        ("results", "MNISTMP_RESULTS", paths.results), ("figures", "MNISTMP_FIGURES", paths.figures)
    ):  # fmt: skip
        folder: Path | str = os.environ.get(variable, name)
        try:
            folder = place()
            there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
            with tempfile.TemporaryFile(dir=there) as file:  # permissions alone do not tell, and a full disk shows here
                file.write(bytes(4096))
                file.flush()
            free = shutil.disk_usage(there).free
        except (OSError, InputError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            remedy = f"repair or empty it, or set {variable} to another folder"
            yield Finding(name, "error", f"{folder} cannot be written ({reason})", remedy)
            continue
        level = next((level for level, needed in ROOM.items() if free < needed), "ok")
        remedy = "" if level == "ok" else f"free some space, or set {variable} to a folder on another disk"
        yield Finding(name, level, f"{folder} can be written, {_size(free)} free", remedy)


def processors() -> Finding:
    """How many trainings run at a time, and whether a container allows as many."""
    usable, quota = _usable(), _quota()
    if quota and quota < usable:
        text = f"{usable}, and this container may use {quota:.1f} at a time: {usable} trainings would slow each other"
        return Finding("processors", "warning", text, f"add --jobs {max(1, int(quota))}")
    return Finding("processors", "ok", f"{usable}, so as many trainings at a time")


def memory() -> Finding:
    """Whether there is enough for as many trainings."""
    try:
        import psutil

        found = psutil.virtual_memory()
    except Exception:  # not installed, or hidden from this container
        remedy = f"a training takes up to {_size(TRAINING)}: choose --jobs accordingly"
        return Finding("memory", "warning", "how much there is cannot be read", remedy)
    limit = _limit() or found.total
    total, free, jobs = min(found.total, limit), min(found.available, limit), _usable()
    text = f"{_size(free)} of {_size(total)} are free; a training takes up to {_size(TRAINING)}"
    if free < TRAINING * jobs:
        fit = max(1, int(free / TRAINING))
        return Finding("memory", "warning", f"{text}, too much for {jobs} at a time", f"add --jobs {fit}")
    return Finding("memory", "ok", text)


def _usable() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _quota() -> float | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # no control groups, or "max": no limit
        return None


def _limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return int(Path(path).read_text())
        except (OSError, ValueError):
            continue
    return None


def _size(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
