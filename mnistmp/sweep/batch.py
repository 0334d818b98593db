"""The batch: run units of work side by side, whatever happens to one of them.

A unit is one papermill execution of one notebook, in a process of its own (see `unit.py`,
`attempts.py`). What is recorded is not planned again (see `plan.py`), so the same command
typed twice does the work once.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from mnistmp import data, engine, paths
from mnistmp.sweep import attempts
from mnistmp.sweep.attempts import Outcome
from mnistmp.sweep.progress import Progress
from mnistmp.sweep.unit import Unit, cell_timeout

TICK = 0.5  # seconds between looks at the progress


def run_units(
    units: Sequence[Unit],
    jobs: int = 1,
    *,
    executor: Executor | None = None,
    precision: str | None = None,
    what: str = "notebooks",
    stream: TextIO | None = None,
) -> list[Outcome]:
    """Run all units, whatever happens to one of them; their outcomes in the order they finished.

    Args:
        jobs: how many at a time.
        executor: anything with concurrent.futures' `submit`, also of a cluster whose machines share
            the results folder, then with `stop` and `settle` (see `cluster.py`); None is a pool of
            threads here, each waiting for its unit's process.
        precision: what the notebooks train at.
        what: what units without trainings are called in the progress line.

    Raises:
        KeyboardInterrupt: after all processes have ended. Finished runs are recorded.
        UnitError: see `child_environment`; nothing has begun then.
    """
    if not units:
        return []
    variables = child_environment(precision)
    batch = f".progress-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    folder = attempts.make_folder(paths.results(units[0].preset) / "attempts" / batch)
    pool = executor or ThreadPoolExecutor(jobs)
    progress = Progress(units, jobs, folder, what, stream)
    done: queue.SimpleQueue = queue.SimpleQueue()
    outcomes, futures = [], {}
    try:
        for unit in units:
            future = pool.submit(attempts.attempt, unit, batch, progress.file(unit), variables)
            futures[future] = unit
            future.add_done_callback(done.put)
        while len(outcomes) < len(units):
            try:
                future = done.get(timeout=TICK)
            except queue.Empty:
                progress.tick()
                continue
            outcomes.append(_outcome(future, futures[future]))
            progress.tick()
            progress.finished(outcomes[-1])
    except BaseException:
        with _no_second_interrupt():
            getattr(executor, "stop", attempts.stop)(batch)
            for future in futures:
                future.cancel()
            progress.close()
            if executor is None:
                pool.shutdown()
            _remove(folder)
        raise
    progress.close()
    if executor is None:
        pool.shutdown()
    elif hasattr(executor, "settle"):
        executor.settle(outcomes)
    _remove(folder)
    return outcomes


def worker_environment() -> dict[str, str]:
    """Environment variables under which a training process on a CPU runs best.

    One thread each: two processes of one thread do more than one process of two. glibc's
    allocator keeps what it has instead of returning it to the system after each step (page
    faults cost a tenth of the time), and asks for huge pages. Other systems ignore these.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    malloc = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
    return {**threads, "GLIBC_TUNABLES": malloc}


def child_environment(precision: str | None = None) -> dict[str, str]:
    """Variables for the process of a unit: places as they are here, one thread each, this very package.

    Raises:
        UnitError: MNISTMP_CELL_TIMEOUT is no number.
    """
    limit = cell_timeout()
    return {
        **{name: value for name, value in os.environ.items() if name.startswith("MNISTMP_")},  # for another machine
        **worker_environment(),
        # One thread per run: a result then does not depend on the number of cores, and jobs do not compete.
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "MNISTMP_DATA": str(data.data_root()),
        "MNISTMP_RESULTS": str(paths.results()),
        "MNISTMP_FIGURES": str(paths.figures()),
        **({"MNISTMP_PRECISION": precision} if precision else {}),
        **({"MNISTMP_CELL_TIMEOUT": str(limit)} if limit else {}),
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")])
        ),
        "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel python3 of this Python, not one that the user has elsewhere
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",  # no warning of the debugger in every log
    }


def default_jobs() -> int:
    """One per processor this process may use; one on a GPU."""
    if engine.pick_device().type != "cpu":
        return 1
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _outcome(future: Future, unit: Unit) -> Outcome:
    # Units do not raise. An error is the engine's, such as a lost worker, and says nothing about what was recorded.
    try:
        return future.result()
    except CancelledError:
        reason = "the connection to the executor was lost"
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).partition('. ')[0]}"
    return attempts.settled(unit, reason)


@contextmanager
def _no_second_interrupt():
    # An impatient second Ctrl-C must not leave processes behind; ending them takes seconds at most.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()
    except OSError:
        pass  # failed attempts are kept there
