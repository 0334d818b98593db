"""Units side by side, whatever happens to one of them; and what a command does around them."""

from __future__ import annotations

import contextlib
import queue
import shutil
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from joblib import cpu_count
from tqdm import tqdm

from mnistmp import data, engine, evidence, methods, paper, paths, records
from mnistmp.engine import pick_device
from mnistmp.errors import InputError, first_line
from mnistmp.records import provenance
from mnistmp.selection import select
from mnistmp.spec import RunSpec
from mnistmp.sweep import notebooks, plan, process
from mnistmp.sweep.process import Outcome
from mnistmp.sweep.unit import Unit

TICK = 1.0  # seconds between looks at what is recorded


class Sweep:
    """Runs that are asked for, and what of them is still to do: checked, planned, and then carried out.

    Args:
        specs: of one precision.
        preset: the folder of `results/` for their records.
        jobs: units at a time on this machine; None for as many as suit it.
        executor: a cluster, see `cluster.connected`; None for this machine.
        folder: of the notebooks that train; None to train without.
        sources: other presets, whose records of exactly these runs are taken over.

    Attributes:
        todo: the runs without a record.
        units: the work that records them.

    Raises:
        InputError: one sentence, before any work: a record that cannot be used or is of another
            spec or precision, a missing notebook, a method of one's own that fails.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        preset: str,
        *,
        jobs: int | None = None,
        executor: Executor | None = None,
        folder: Path | None = None,
        sources: Sequence[str] = (),
    ):
        if jobs and executor:
            raise InputError("--jobs is for this machine; a cluster takes a unit per thread of its workers.")
        self.specs, self.preset, self.executor = specs, preset, executor
        self.table = records.load(preset)
        lacking = plan.missing(specs, preset, self.table)
        self.taken = [
            record for spec in lacking
            if not evidence.lacks_checkpoint(spec, preset) and (record := _recorded_elsewhere(spec, sources))
        ]  # fmt: skip
        keys = {record.spec.key() for record in self.taken}
        self.todo = [spec for spec in lacking if spec.key() not in keys]
        for spec in {spec.row: spec for spec in self.todo}.values():
            if not methods.get(spec.method).__module__.startswith("mnistmp."):
                engine.try_out(spec)
        self.jobs = jobs or (default_jobs() if executor is None else executor.slots() or executor.EXPECTED)
        self.units = plan.train_units(self.todo, preset, self.jobs, folder)

    def opening(self) -> str:
        """What is recorded and what is to do, in a line."""
        note = f" ({paper.PRESETS[self.preset].note})" if self.preset in paper.PRESETS else ""
        words = f"{self.preset}{note}: {len(self.specs) - len(self.todo)} of {len(self.specs)} runs recorded"
        if not self.todo:
            return f"{words}, nothing to train."
        at_once = self.jobs if self.executor is None else self.executor.slots()
        when = f"{at_once} at a time" if at_once else "as soon as there is a worker"
        return f"{words}, {len(self.todo)} to do in {len(self.units)} units, {when}, {self.specs[0].precision}."

    def forecast(self) -> str:
        """What would be done and how long it would take."""
        return plan.forecast(self.units, plan.estimate(self.todo, self.table), self.jobs, self.opening())

    def train(self) -> list[Outcome]:
        """Record what is missing."""
        records.check_writable(self.preset)
        for record in self.taken:
            records.save(record, self.preset)
        for dataset in sorted({spec.dataset for spec in self.todo}):
            data.load(dataset)  # once, before many processes ask for it at the same time
        if self.todo and (reason := provenance.unnamed_commit()):
            print(f"The records will not name the commit of this checkout: {reason}; see mnistmp doctor.")
        print(self.opening(), flush=True)
        precision = self.specs[0].precision if self.specs else None
        return run_units(self.units, self.jobs, executor=self.executor, precision=precision)

    def close(self, outcomes: Sequence[Outcome]) -> int:
        """Say what is recorded now and what failed; 0, or 1 where any of it is missing."""
        failed = [outcome for outcome in outcomes if outcome.problem]
        where = paths.shown(paths.results(self.preset))
        try:
            left = len(plan.missing(self.specs, self.preset))
            print(f"{len(self.specs) - left} of {len(self.specs)} runs are recorded in {where}.")
        except InputError as error:  # a record that was spoiled meanwhile must not hide what else there is to say
            left = len(self.specs)
            print(f"How many runs are recorded in {where} cannot be said: {first_line(error)}")
        if failed:
            print(f"{len(failed)} of {len(outcomes)} units failed; the same command tries them again:")
            for outcome in failed:
                where = f", see {paths.shown(outcome.look)}" if outcome.look else ""
                print(f"  {outcome.unit.label}: {outcome.problem}{where}")
        return 1 if failed or left else 0


def show(
    preset: str, rows: str = "all", jobs: int | None = None, *, again: bool = False, executor: Executor | None = None
) -> list[Outcome]:
    """Execute, with what is recorded, the notebooks that are out of date, or all of them again."""
    units = plan.show_units(paths.notebooks(), preset, rows)
    due = units if again else notebooks.out_of_date(units, preset)
    if not due:
        return []
    print(f"Executing {len(due)} of {len(units)} notebooks to show what is recorded.", flush=True)
    marks = notebooks.fingerprints(due, preset)
    outcomes = run_units(due, jobs or default_jobs(), executor=executor)
    with contextlib.suppress(OSError):  # what cannot be noted will be executed again
        notebooks.remember({o.unit.label: marks[o.unit.label] for o in outcomes if not o.problem}, preset)
    return outcomes


def default_jobs() -> int:
    """One per processor that this process may use; one on a GPU."""
    return cpu_count() if pick_device().type == "cpu" else 1


def run_units(
    units: Sequence[Unit],
    jobs: int = 1,
    *,
    executor: Executor | None = None,
    precision: str | None = None,
    stream: TextIO | None = None,
) -> list[Outcome]:
    """Run all units, whatever happens to one of them; their outcomes in the order they finished.

    Args:
        jobs: how many at a time.
        executor: anything with concurrent.futures' `submit`, also of a cluster whose machines share
            the results folder (see `cluster.py`); None is a pool of threads here, each waiting for
            its unit's process.
        precision: what the notebooks train at.
        stream: for the progress; None is standard output.

    Raises:
        KeyboardInterrupt: after all processes have ended. Finished runs are recorded.
        InputError: see `process.environment`; nothing has begun then.
    """
    if not units:
        return []
    variables = process.environment(precision)
    sweep = uuid.uuid4().hex
    pool = executor or ThreadPoolExecutor(jobs)
    done: queue.SimpleQueue[Future] = queue.SimpleQueue()
    outcomes: list[Outcome] = []
    running: dict[Future, Unit] = {}
    with contextlib.closing(_Progress(units, stream)) as progress:
        try:
            for unit in units:
                future = pool.submit(process.attempt, unit, sweep, variables)
                running[future] = unit
                future.add_done_callback(done.put)
            while running:
                try:
                    future = done.get(timeout=TICK)
                except queue.Empty:
                    progress.look(unit for future, unit in running.items() if future.running())
                    continue
                outcome, accuracies = _settle(running.pop(future), future, getattr(executor, "patience", 0.0))
                outcomes.append(outcome)
                progress.finished(outcome, accuracies)
        except BaseException:  # Ctrl-C again does no harm: without us, the processes end by themselves
            getattr(executor, "stop", process.stop)(sweep)
            for future in running:
                future.cancel()
            raise
        finally:
            if executor is None:
                pool.shutdown()
    return outcomes


class _Progress:
    """A bar of all runs with what is left, on a terminal, and a line per finished unit."""

    def __init__(self, units: Sequence[Unit], stream: TextIO | None):
        self.number, self.finished_units, self.finished_runs = len(units), 0, 0
        self.stream = stream or sys.stdout
        total = sum(_weight(unit) for unit in units)
        what = "run" if any(unit.specs for unit in units) else "notebook"
        # Only on a terminal (disable=None), which may not know its size; units finish in bursts, so the mean over
        # all of it (smoothing=0) tells best what is left.
        size = {"ncols": shutil.get_terminal_size().columns - 1, "nrows": shutil.get_terminal_size().lines}
        self.bar = tqdm(total=total, unit=what, file=self.stream, disable=None, smoothing=0, leave=False, **size)

    def close(self) -> None:
        self.bar.close()

    def look(self, running: Iterator[Unit]) -> None:
        """Count what running units have recorded already."""
        recorded = [_path(unit, spec).exists() for unit in running for spec in unit.specs]
        self.bar.update(max(self.finished_runs + sum(recorded) - self.bar.n, 0))
        self.bar.refresh()

    def finished(self, outcome: Outcome, accuracies: Sequence[str]) -> None:
        """Say what became of a unit."""
        self.finished_units += 1
        self.finished_runs += _weight(outcome.unit)
        mark = f"[{self.finished_units:{len(str(self.number))}}/{self.number}]"
        took = tqdm.format_interval(outcome.seconds)
        if outcome.problem:
            lines = [f"{outcome.unit.label}  FAILED after {took}: {outcome.problem}"]
            lines += [f"open {outcome.look}"] if outcome.look else []
        elif len(accuracies) == 1:
            lines = [f"{outcome.unit.label}  done in {took}  {accuracies[0].partition('  ')[2]}"]
        else:
            lines = [f"{outcome.unit.label}  done in {took}", *accuracies]
        for place, line in enumerate(lines):
            self._line(f"{' ' * len(mark) if place else mark} {line}")
        self.bar.update(max(self.finished_runs - self.bar.n, 0))

    def _line(self, text: str) -> None:
        try:
            tqdm.write(text, file=self.stream)
            self.stream.flush()
        except BrokenPipeError:  # nobody listens any more: as everywhere, the command ends
            raise
        except OSError:  # a log on a disk that is full now; the records may lie on another
            pass


def _settle(unit: Unit, future: Future, patience: float) -> tuple[Outcome, list[str]]:
    """What became of a unit, and its runs' accuracies. In the end only records decide whether it is done."""
    lost = True  # an exception is the executor's, such as a lost worker, and says nothing about what was recorded
    try:
        outcome, lost = future.result(), False
    except CancelledError:
        outcome = Outcome(unit, "the connection to the executor was lost")
    except Exception as error:
        outcome = Outcome(unit, f"{type(error).__name__}: {str(error).partition('. ')[0]}")
    accuracies, problem = _recorded(unit, 0.0 if outcome.problem else patience)
    if lost and unit.specs and problem is None:
        return Outcome(unit), accuracies
    return Outcome(unit, outcome.problem or problem, outcome.look, outcome.seconds), accuracies


def _recorded(unit: Unit, patience: float) -> tuple[list[str], str | None]:
    """A line per recorded run, and what is missing after so many seconds, in which other machines may see it."""
    lines, problem, deadline = [], None, time.monotonic() + patience
    for spec in unit.specs:
        while not _path(unit, spec).exists() and time.monotonic() < deadline:
            time.sleep(0.5)
        try:
            record = records.find(spec, unit.preset)
        except InputError as error:
            problem = problem or str(error)
            continue
        if record is None:
            problem = problem or f"{spec.row} seed {spec.seed} was not recorded"
            continue
        lines.append(f"{spec.row} seed {spec.seed}  {_accuracy(record, unit)}")
    return lines, problem


def _accuracy(record: records.RunRecord, unit: Unit) -> str:
    if record.status == "diverged":
        return f"diverged in epoch {record.diverged_epoch}"
    best = record.history[select([e["val_correct"] for e in record.history], record.val_total)]
    val, test = 100 * best["val_correct"] / record.val_total, 100 * best["test_correct"] / record.test_total
    # Runs beside Table 2's are made to choose between them, which nobody should do by test accuracy.
    ours = unit.preset in paper.PRESETS and record.spec.row in {row.id for row in paper.all_rows()}
    return f"val {val:.1f} test {test:.1f}" if ours else f"val {val:.1f}"


def _path(unit: Unit, spec) -> Path:
    return records.record_path(unit.preset, spec.row, spec.seed)


def _weight(unit: Unit) -> int:
    return max(len(unit.specs), 1)


def _recorded_elsewhere(spec: RunSpec, sources: Iterable[str]) -> records.RunRecord | None:
    for source in sources:
        path = records.record_path(source, spec.row, spec.seed)
        record = records.read(path) if path.exists() else None
        if record and record.spec.key() == spec.key():  # else another run of that name, which is left alone
            return record
    return None
