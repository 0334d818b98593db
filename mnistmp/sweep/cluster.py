"""Units on a cluster: through a dask scheduler, over a results folder that all machines share.

A dask worker begins each unit as the same process that a sweep begins next door (`process.attempt`).
What counts is what lies in the results folder, never what dask says, so that a cluster, single
machines and parts (`--shard`) may work on one folder, one after the other or at once.

A worker takes as many units at a time as it has threads; each trains with one thread of its own.
A unit whose worker is lost ends with it, and the scheduler gives it to other workers up to three
more times (dask's `distributed.scheduler.allowed-failures`).
"""

from __future__ import annotations

import contextlib
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistmp.errors import InputError, first_line
from mnistmp.files import write_atomically
from mnistmp.records import provenance
from mnistmp.sweep import process
from mnistmp.sweep.process import Outcome
from mnistmp.sweep.unit import Unit

if TYPE_CHECKING:
    from distributed import Client

CONNECT = 10.0  # seconds that a scheduler has to answer
VISIBLE = 60.0  # seconds until what one machine writes is seen by another: NFS keeps what it knows for as long


@contextmanager
def connected(executor: str = "local", scheduler: str | None = None) -> Iterator[Dask | None]:
    """What `run.run_units` takes as its executor; None stands for this machine alone.

    Args:
        executor: "local" or "dask".
        scheduler: where dask's scheduler listens, such as tcp://10.0.0.1:8786, or the file that it
            wrote (`dask scheduler --scheduler-file`).

    Raises:
        InputError: one argument without the other, no `distributed`, no answer.
    """
    if executor == "local":
        if scheduler is not None:
            raise InputError("--scheduler is for a cluster; add --executor dask, or leave it out.")
        yield None
        return
    if not scheduler:
        raise InputError("--executor dask needs a scheduler; give --scheduler ADDRESS, such as tcp://10.0.0.1:8786.")
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--executor dask needs the package distributed ({error}); install it: pip install 'mnistmp[dask]'."
        ) from None
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost connection is said by the sweep
    where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
    options = {**where, "timeout": CONNECT, "name": "mnistmp", "set_as_default": False}
    client = _within(CONNECT, lambda: distributed.Client(**options))
    if not isinstance(client, distributed.Client):
        reason = first_line(client).rstrip(".")
        raise InputError(
            f"No dask scheduler answers at {scheduler} ({reason}); start one (dask scheduler) or correct --scheduler."
        )
    with client, contextlib.closing(Dask(client)) as dask:
        yield dask


def _within(seconds: float, function: Callable[[], Any]) -> Any:
    # Its result or its exception. A port that accepts and keeps silent, such as that of a dashboard
    # asked by another protocol, would hold the client for ever: its own time limit does not cover the greeting.
    found: list[Any] = [TimeoutError(f"silent for {seconds:g} s")]

    def call():
        try:
            found[0] = function()
        except Exception as error:
            found[0] = error

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds + 1)
    return found[0]


class Dask:
    """concurrent.futures' `submit` to a cluster, and what else a sweep needs of one."""

    EXPECTED = 8  # units at a time to plan for, before the first worker is there
    patience = VISIBLE

    def __init__(self, client: Client):
        self.client = client
        self._pool = client.get_executor(pure=False)  # pure: a unit tried again would be taken for the same one
        self._code = provenance.code_version()
        self._mark: Path | None = None

    def slots(self) -> int:
        """How many units it takes at a time now; 0 while no worker is there."""
        return sum(self.client.nthreads().values())

    def submit(self, function: Callable[..., Outcome], unit: Unit, sweep: str, variables: Mapping[str, str]) -> Future:
        if self._mark is None:
            folder = Path(variables["MNISTMP_RESULTS"], unit.preset)
            self._mark = write_atomically(folder / f".sweep-{sweep}", "workers look for this file\n")
        return self._pool.submit(_begin, str(self._mark), self._code, function, unit, sweep, variables)

    def stop(self, sweep: str) -> None:
        """Cancel what is queued, and end every process of a sweep on every worker. Finished records stay."""

        def everywhere():
            self._pool.shutdown(wait=False)
            self.client.run(process.stop, sweep, on_error="ignore")

        # A worker that hangs must not hold up the user's Ctrl-C; one that is gone has nothing left to end.
        _within(process.GRACE + 10, everywhere)

    def close(self) -> None:
        if self._mark:
            self._mark.unlink(missing_ok=True)


def _begin(
    mark: str, code: str, function: Callable[..., Outcome], unit: Unit, sweep: str, variables: Mapping[str, str]
) -> Outcome:
    """On a worker: carry out a unit, if what it records will be seen, and comes of the same code."""
    deadline = time.monotonic() + VISIBLE
    # Waiting has another use: a single wrong worker does not run through, and fail, all units that there are.
    while problem := _unfit(Path(mark), code):
        if time.monotonic() > deadline:
            return Outcome(unit, problem)
        time.sleep(0.5)
    return function(unit, sweep, variables)


def _unfit(mark: Path, code: str) -> str | None:
    if not mark.is_file():
        return f"the worker on {platform.node()} does not see {mark.parent}; all machines must share the results folder"
    if provenance.code_version() != code:
        return f"the worker on {platform.node()} has another mnistmp; install the same one on all machines"
    return None
