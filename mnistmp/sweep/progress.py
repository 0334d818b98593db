"""What a batch shows while it runs: a line per unit begun and finished, and one line of what is left."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mnistmp.files import read_bounded

if TYPE_CHECKING:
    from mnistmp.sweep.attempts import Outcome
    from mnistmp.sweep.unit import Unit

PLAIN_EVERY = 30.0  # seconds between status lines where they cannot be overwritten
SIZE_LIMIT = 10_000_000  # bytes read of one unit's progress, which takes about 120 per epoch
OVERHEAD = 5.0  # seconds that a unit takes beside training, before one was seen


def duration(seconds: float) -> str:
    """42s, 4m10s or 2h05m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes}m{seconds:02}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02}m"


def about(seconds: float) -> str:
    """An estimate in words: about 40 s, about 12 min, about 2.5 h."""
    if seconds < 90:
        return f"about {max(10, 10 * round(seconds / 10))} s"
    return f"about {seconds / 60:.0f} min" if seconds < 90 * 60 else f"about {seconds / 3600:.1f} h"


class Progress:
    """Follows the units of a batch through the files that their trainings write, one per unit.

    Files work for a thread next door and for a cluster over a shared folder alike. What happens to
    them, or to the terminal, never ends the batch: they are for looking at only.

    Args:
        units: in the order they were submitted.
        jobs: how many run at a time.
        folder: existing, holds the files that `file` names.
        what: what a unit without trainings is counted as.
        stream: None is standard output.
    """

    def __init__(
        self, units: Sequence[Unit], jobs: int, folder: Path, what: str = "notebooks", stream: TextIO | None = None
    ):
        self.units, self.jobs, self.folder, self.what = units, max(jobs, 1), folder, what
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.place = {unit.name: place for place, unit in enumerate(units)}
        self.begun: set[int] = set()
        self.finished_units = 0
        self.finished_runs = 0
        self.runs = sum(len(unit.specs) for unit in units)
        self.epochs_left = Counter()
        for unit in units:
            for spec in unit.specs:
                self.epochs_left[spec.row] += spec.epochs
        self.epochs = self.epochs_left.total()
        self.seconds, self.seen = Counter(), Counter()  # per row, of the epochs of finished units
        self.overhead = 0.0  # of finished units, in all
        self.shown = ""
        self.shown_at = time.monotonic()

    def file(self, unit: Unit) -> str:
        """Where the trainings of a unit report their epochs; that it exists says that the unit began."""
        return str(self.folder / f"{self.place[unit.name]}.jsonl")

    def tick(self) -> None:
        """Look at the files; say what began and how far it all is."""
        running = {}
        for place in self._there():
            unit = self.units[place]
            if place not in self.begun:
                self.begun.add(place)
                self.line(f"{self._mark(place)} {unit.label}  started")
            running[place] = _read(unit, self.file(unit))
        self._status(running)

    def finished(self, outcome: Outcome) -> None:
        """Say what became of a unit."""
        unit, path = outcome.unit, Path(self.file(outcome.unit))
        epochs = _read(unit, path)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        place = self.place[unit.name]
        self.begun.add(place)
        self.finished_units += 1
        self.finished_runs += len(outcome.results)
        for spec in unit.specs:
            self.epochs_left[spec.row] -= spec.epochs
        _count(epochs, self.seconds, self.seen)
        self.overhead += max(outcome.seconds - sum(seconds for _, seconds in epochs.values()), 0.0)
        told = f"{self._mark(place)} {unit.label}  "
        if outcome.interrupted:
            return
        if outcome.problem:
            self.line(f"{told}FAILED after {duration(outcome.seconds)}: {outcome.problem}")
            if outcome.look:
                self.line(f"{' ' * len(self._mark(place))} open {outcome.look}")
        else:
            alone = outcome.results[0] if len(outcome.results) == 1 else ""
            self.line(f"{told}done in {duration(outcome.seconds)}  {alone}".rstrip())
            for result in outcome.results if not alone else ():
                self.line(f"{' ' * len(self._mark(place))} {result}")

    def close(self) -> None:
        """Take the status line away."""
        self._write("")

    def line(self, text: str) -> None:
        """Print a line that stays, above the status line."""
        status = self.shown
        self._write("")
        self._print(text)
        self._write(status)

    def _there(self) -> list[int]:
        # Numbers of the units whose files exist. Other names are somebody else's.
        try:
            names = [name.partition(".") for name in os.listdir(self.folder)]
        except OSError:  # a folder that was cleared away, a share that is gone for a moment
            return []
        places = (int(stem) for stem, _, kind in names if kind == "jsonl" and stem.isdecimal())
        return sorted(place for place in places if place < len(self.units))

    def _mark(self, place: int) -> str:
        width = len(str(len(self.units)))
        return f"[{place + 1:{width}}/{len(self.units)}]"

    def _status(self, running: dict[int, dict[tuple, tuple[str, float]]]) -> None:
        left, seconds, seen = Counter(self.epochs_left), Counter(self.seconds), Counter(self.seen)
        for epochs in running.values():
            _count(epochs, seconds, seen)
            left.subtract(row for row, _ in epochs.values())
        if self.epochs:
            percent = 100 * (1 - sum(left.values()) / self.epochs)
            counted = f"{self.finished_runs} of {self.runs} trainings"
        else:
            percent = 100 * self.finished_units / len(self.units)
            counted = f"{self.finished_units} of {len(self.units)} {self.what}"
        words = f"{percent:3.0f} %  {counted} done, {len(running)} running"
        if seen or self.finished_units:
            words += f", {about(self._left(left, seconds, seen, len(running)))} left"
        if self.live:
            self._write(words)
        elif time.monotonic() - self.shown_at >= PLAIN_EVERY:
            self.shown_at = time.monotonic()
            self._print(words)

    def _left(self, left: Counter, seconds: Counter, seen: Counter, running: int) -> float:
        # A row that was not seen yet is taken to cost what the others do.
        usual = sum(seconds.values()) / max(sum(seen.values()), 1)
        training = sum(n * (seconds[row] / seen[row] if seen[row] else usual) for row, n in left.items())
        units = len(self.units) - self.finished_units
        beside = self.overhead / self.finished_units if self.finished_units else OVERHEAD
        return (training + beside * max(units - running / 2, 0)) / max(min(max(self.jobs, running), units), 1)

    def _write(self, status: str) -> None:
        if not self.live:
            return
        status = status[: shutil.get_terminal_size().columns - 1]
        if self.shown or status:
            self._print("\r" + status.ljust(len(self.shown)) + ("" if status else "\r"), end="")
        self.shown = status

    def _print(self, text: str, end: str = "\n") -> None:
        try:
            print(text, end=end, file=self.stream, flush=True)
        except BrokenPipeError:  # nobody listens any more: as everywhere, the command ends
            raise
        except OSError:  # a log on a disk that is full now; the trainings may lie on another
            pass


def _count(epochs: dict[tuple, tuple[str, float]], seconds: Counter, seen: Counter) -> None:
    for row, took in epochs.values():
        seconds[row] += took
        seen[row] += 1


def _read(unit: Unit, path: str | os.PathLike) -> dict[tuple, tuple[str, float]]:
    """(row, seed, epoch) -> (row, seconds) of what the unit promised; its notebook may train more for a picture."""
    promised = {(spec.row, spec.seed) for spec in unit.specs}
    epochs = {}
    try:
        lines = read_bounded(path, SIZE_LIMIT).splitlines()
    except OSError:
        return epochs
    for line in lines:
        try:
            entry = json.loads(line)
            row, seed, epoch, seconds = entry["row"], entry["seed"], entry["epoch"], float(entry["seconds"])
            if (row, seed) in promised and type(epoch) is int and math.isfinite(seconds) and seconds >= 0:
                epochs[row, seed, epoch] = (row, seconds)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):  # half written, left for the next time
            continue
    return epochs
