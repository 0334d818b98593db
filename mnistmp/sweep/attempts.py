"""One attempt at a unit, seen from the batch: its folder, its process, its outcome.

`attempt` may run in any thread of any machine that shares the results folder; all it is given and
all it returns can be pickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from mnistmp import paths, records
from mnistmp.selection import select
from mnistmp.sweep.unit import DONE, NOT_STARTED, SAYS, Unit

STARTS = 3  # a kernel that does not come up is tried this often
LOG_END = 65_536  # bytes at the end of a log among which its last line is looked for
GRACE = 5.0  # seconds that a process has to end by itself

_lock = threading.Lock()
_running: dict[str, set[subprocess.Popen]] = defaultdict(set)  # batch -> processes of its units
_stopped: set[str] = set()


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.

    Attributes:
        problem: None if every promised record is there, else the reason in one line.
        look: on a problem, the notebook or log to open.
        interrupted: it was stopped on request; neither done nor at fault.
        results: a few words per recorded run.
        seconds: wall time.
    """

    unit: Unit
    problem: str | None = None
    look: Path | None = None
    interrupted: bool = False
    results: tuple[str, ...] = ()
    seconds: float = 0.0


def attempt(unit: Unit, batch: str, progress: str, environment: Mapping[str, str]) -> Outcome:
    """Carry out a unit in a process of its own and say what became of it. Never raises for the unit's sake.

    A failed attempt stays in `results/<preset>/attempts/<unit>/<n>/` with its notebook and log.

    Args:
        batch: name of the batch, for `stop`.
        progress: file for the progress of its trainings; that it exists says that the unit began.
        environment: variables beside those of this process; they also say where results are.
    """
    clock = time.monotonic()
    with contextlib.suppress(OSError):
        Path(progress).touch()
    with paths.as_told(environment):
        try:
            outcome = _attempt(unit, batch, progress, environment)
        except OSError as error:  # a full disk, a folder that is gone
            place = paths.results(unit.preset)
            outcome = Outcome(unit, f"{error.strerror or error} ({error.filename or place})", place)
    return Outcome(**{**vars(outcome), "seconds": time.monotonic() - clock})


def settled(unit: Unit, problem: str) -> Outcome:
    """The outcome of a unit that was lost sight of: done if all that it promised is recorded, else the problem."""
    results, unrecorded = _recorded(unit)
    if unit.specs and not unit.target and not unrecorded:
        return Outcome(unit, results=results)
    return Outcome(unit, problem, results=results)


def stop(batch: str) -> None:
    """End every process of a batch, kernels included, and start no other. Finished records stay."""
    with _lock:
        _stopped.add(batch)
        processes = list(_running[batch])
    for process in processes:
        with contextlib.suppress(OSError):
            process.stdin.close()  # its lifeline, see unit.py
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()


def _attempt(unit: Unit, batch: str, progress: str, environment: Mapping[str, str]) -> Outcome:
    for start in range(1, STARTS + 1):
        folder = _new_folder(unit)
        code = _run(unit, folder, batch, progress, environment)
        if batch in _stopped:
            _remove(folder)
            return Outcome(unit, interrupted=True)
        if code != NOT_STARTED or start == STARTS:
            break
        _remove(folder)
        time.sleep(random.uniform(0.2, 1.0))  # not all at once again
    problem = None if code == DONE else _reason(folder, code)
    results, unrecorded = _recorded(unit)
    problem = problem or unrecorded
    output = folder / Path(unit.notebook).name if unit.notebook else folder / "log.txt"
    if unit.target and not problem:
        from mnistmp.sweep import notebooks

        try:
            notebooks.publish(output, Path(unit.target), strict=unit.strict)
        except notebooks.NotebookError as error:
            problem = str(error)
    if problem:
        return Outcome(unit, problem, output if output.is_file() else folder / "log.txt", results=results)
    _remove(folder)
    return Outcome(unit, results=results)


def _new_folder(unit: Unit) -> Path:
    # Of its own: two batches over one folder, or a process left behind, never share a file.
    parent = paths.results(unit.preset) / "attempts" / unit.name
    for number in count(1):
        try:
            return make_folder(parent / str(number))
        except FileExistsError:
            if os.path.lexists(parent) and not parent.is_dir():
                raise


def make_folder(folder: Path) -> Path:
    """A new folder; the ones around it may be cleared away as empty by another batch at the same moment."""
    for patience in range(100):
        try:
            folder.mkdir(parents=True)
            return folder
        except FileNotFoundError:
            if patience == 99:
                raise


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()  # fails, as it should, while anything else is in there


def _run(unit: Unit, folder: Path, batch: str, progress: str, environment: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "mnistmp.sweep.unit", "--lifeline", "--preset", unit.preset]
    if unit.notebook:
        command += ["--notebook", unit.notebook, "--output", str(folder / Path(unit.notebook).name)]
        command += [f"--{name}={value}" for name, value in (("seeds", unit.seeds), ("rows", unit.rows)) if value]
    else:
        (folder / "specs.json").write_text(json.dumps([spec.to_json() for spec in unit.specs]), encoding="utf-8")
        command += ["--specs", str(folder / "specs.json")]
    if unit.specs:
        command += ["--expect", *(str(records.record_path(unit.preset, spec.row, spec.seed)) for spec in unit.specs)]
    variables = {**os.environ, **environment, "MNISTMP_PROGRESS": progress}
    variables.pop("MPLBACKEND", None)  # one set here would make inline figures vanish without an error
    with open(folder / "log.txt", "wb") as log:
        with _lock:
            if batch in _stopped:
                return NOT_STARTED
            process = subprocess.Popen(
                command, cwd=folder, env=variables, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the batch alone, which then ends its units
            )  # fmt: skip
            _running[batch].add(process)
        try:
            return process.wait()
        finally:
            with _lock:
                _running[batch].discard(process)
            with contextlib.suppress(OSError):
                process.stdin.close()


def _reason(folder: Path, code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"its process was killed ({signal.Signals(-code).name})"
        return f"its process was killed (signal {-code})"
    with open(folder / "log.txt", "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - LOG_END))
        lines = [line.strip() for line in log.read(LOG_END).decode(errors="replace").splitlines() if line.strip()]
    if lines and lines[-1].startswith(SAYS):
        return lines[-1].removeprefix(SAYS)[:300]
    if shutil.disk_usage(folder).free < LOG_END:  # on which the reason did not fit
        return "No space left on device"
    return lines[-1][:300] if lines else f"its process ended with code {code}"


def _recorded(unit: Unit) -> tuple[tuple[str, ...], str | None]:
    """A few words per recorded run, and what is missing. Only this decides whether a unit is done."""
    words, problem = [], None
    for spec in unit.specs:
        try:
            record = records.find(spec, unit.preset)
        except records.RecordError as error:
            problem = problem or str(error)
            continue
        if record is None:
            problem = problem or f"{spec.row} seed {spec.seed} was not recorded"
            continue
        row = f"{spec.row} seed {spec.seed}  " if len(unit.specs) > 1 else ""
        if record.status == "diverged":
            words.append(f"{row}diverged in epoch {record.diverged_epoch}")
            continue
        best = record.history[select([e["val_correct"] for e in record.history], record.val_total)]
        val, test = 100 * best["val_correct"] / record.val_total, 100 * best["test_correct"] / record.test_total
        # Runs beside Table 2's are trained to choose between them, which nobody should do by test accuracy.
        words.append(f"{row}val {val:.1f} test {test:.1f}" if unit.rows else f"val {val:.1f}")
    return tuple(words), problem
