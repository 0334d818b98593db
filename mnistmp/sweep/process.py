"""The process of a unit, seen from the sweep: its folder, its variables, its outcome.

`attempt` may run in any thread of any machine that shares the results folder; all it is given and
all it returns can be pickled.
"""

from __future__ import annotations

import contextlib
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
from pathlib import Path

from mnistmp import data, own, paths
from mnistmp.sweep.unit import DONE, NOT_STARTED, SAYS, Unit, cell_timeout

STARTS = 3  # a kernel that does not come up is tried this often
GRACE = 5.0  # seconds that a process has to end by itself

_lock = threading.Lock()
_running: dict[str, set[subprocess.Popen]] = defaultdict(set)  # sweep -> processes of its units
_stopped: set[str] = set()


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.

    Attributes:
        problem: None if every promised record is there, else the reason in one line.
        look: on a problem, the notebook or log to open.
        seconds: wall time.
    """

    unit: Unit
    problem: str | None = None
    look: Path | None = None
    seconds: float = 0.0


def attempt(unit: Unit, sweep: str, variables: Mapping[str, str]) -> Outcome:
    """Carry out a unit in a process of its own and say what became of it. Never raises for the unit's sake.

    A failed attempt stays in `results/<preset>/attempts/<unit>/<n>/` with its notebook and log.

    Args:
        sweep: name of the sweep, for `stop`.
        variables: see `environment`; they also say where results are.
    """
    clock = time.monotonic()
    parent = Path(variables["MNISTMP_RESULTS"], unit.preset, "attempts", unit.name)
    try:
        problem, look = _attempt(unit, sweep, variables, parent)
    except OSError as error:  # a full disk, a folder that is gone
        problem, look = f"{error.strerror or error} ({error.filename or parent})", parent
    return Outcome(unit, problem, look, time.monotonic() - clock)


def stop(sweep: str) -> None:
    """End every process of a sweep on this machine, kernels included, and start no other. Finished records stay."""
    with _lock:
        _stopped.add(sweep)
        processes = list(_running[sweep])
    for process in processes:
        with contextlib.suppress(OSError):
            process.stdin.close()  # its lifeline, see unit.py
    deadline = time.monotonic() + GRACE
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            process.kill()


def _attempt(unit: Unit, sweep: str, variables: Mapping[str, str], parent: Path) -> tuple[str | None, Path | None]:
    for start in range(1, STARTS + 1):
        folder = _new_folder(parent)
        code = _process(unit, folder, sweep, variables)
        if code == DONE or sweep in _stopped:  # an interrupted unit did not fail
            _remove(folder)
            return (None if code == DONE else "interrupted"), None
        if code != NOT_STARTED or start == STARTS:
            return _reason(folder, code), unit.output(folder)
        _remove(folder)
        time.sleep(random.uniform(0.2, 1.0))  # noqa: S311  (not all at once again)


def _new_folder(parent: Path) -> Path:
    # Of its own: two sweeps over one folder, or a process left behind, never share a file.
    for number in range(1, 10_000):
        # The folders around it may be cleared away as empty by another sweep at the same moment.
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            (parent / str(number)).mkdir(parents=True)
            return parent / str(number)
    raise FileExistsError(17, "No folder can be made there", str(parent))


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with contextlib.suppress(OSError):
            parent.rmdir()  # fails, as it should, while anything else is in there


def _process(unit: Unit, folder: Path, sweep: str, variables: Mapping[str, str]) -> int:
    unit.write(folder, Path(variables["MNISTMP_RESULTS"]))
    # MPLBACKEND would hide figures, and NUMBA_OPT or the like of a worker's shell compile other code than elsewhere.
    inherited = {name: value for name, value in os.environ.items() if name != "MPLBACKEND" and not _numba(name)}
    alone = {"IPYTHONDIR": str(folder / "ipython")}  # a user's profile changes outputs
    with open(folder / "log.txt", "wb") as log:
        with _lock:
            if sweep in _stopped:
                return NOT_STARTED
            process = subprocess.Popen(
                [sys.executable, "-m", "mnistmp.sweep.unit", str(folder)],
                cwd=folder,
                env={**inherited, **variables, **alone},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the sweep alone, which then ends its units
            )
            _running[sweep].add(process)
        try:
            return process.wait()
        finally:
            with _lock:
                _running[sweep].discard(process)
            with contextlib.suppress(OSError):
                process.stdin.close()


def _reason(folder: Path, code: int) -> str:
    if code < 0:
        return f"its process was killed ({signal.Signals(-code).name})"
    with open(folder / "log.txt", "rb") as log:
        log.seek(max(0, os.fstat(log.fileno()).st_size - 65_536))
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else f"its process ended with code {code}"
    if not last.startswith(SAYS) and shutil.disk_usage(folder).free < 65_536:  # on which the reason did not fit
        return "No space left on device"
    return last.removeprefix(SAYS)[:300]


def environment(precision: str | None = None) -> dict[str, str]:
    """Variables for the process of a unit: places as they are here, one thread each, this very package."""
    cell_timeout()  # or it says what is wrong with it
    package = str(Path(__file__).resolve().parents[2])
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("MNISTMP_")},  # for another machine
        **worker_environment(),
        **({"MNISTMP_DATA": str(data.data_root())} if os.environ.get("MNISTMP_DATA") else {}),
        **({"MNISTMP_METHODS": os.pathsep.join(map(str, own.files()))} if own.files() else {}),
        # As here also where a worker's shell says otherwise: one sweep takes one path.
        "MNISTMP_KERNELS": os.environ.get("MNISTMP_KERNELS") or "on",
        **{name: value for name, value in os.environ.items() if _numba(name)},
        "MNISTMP_RESULTS": str(paths.results()),
        "MNISTMP_FIGURES": str(paths.figures()),
        **({"MNISTMP_PRECISION": precision} if precision else {}),
        "PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")])),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel python3 of this Python, not one that the user has elsewhere
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no warning of the debugger in every log
    }


def _numba(name: str) -> bool:
    return name.startswith("NUMBA_") and name != "NUMBA_CACHE_DIR"  # which each machine has of its own


def worker_environment() -> dict[str, str]:
    """Environment variables under which a training process on a CPU runs best.

    One thread each: two processes of one thread do more than one process of two, and a result then does not depend
    on the number of cores. glibc's allocator keeps what it has instead of returning it to the system after each
    step (page faults cost a tenth of the time), and asks for huge pages. Other systems ignore these.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    malloc = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
    return {**threads, "GLIBC_TUNABLES": malloc}
