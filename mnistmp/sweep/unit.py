"""One unit of a sweep, and the process that carries it out: `python -m mnistmp.sweep.unit FOLDER`.

A unit is one papermill execution of one notebook, or some runs without a notebook. It has a process of
its own, because papermill changes the working folder of the whole process, and so that whatever
happens to it happens to nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistmp.errors import InputError, first_line, require
from mnistmp.sweep import notebooks

if TYPE_CHECKING:  # importing it takes torch, which a process that only waits for its kernel does without
    from mnistmp.spec import RunSpec

DONE, FAILED, NOT_STARTED = 0, 1, 75  # exit codes; 75: no cell ran, trying again may help
SAYS = "mnistmp: "  # before the reason, the last line of a failed unit's log
START_TIMEOUT = 120  # seconds that a kernel may take to answer on a busy machine
IOPUB_TIMEOUT = 60  # seconds that its output may take to arrive


@dataclass(frozen=True)
class Unit:
    """Some work of one process.

    Attributes:
        label: unique within a sweep; names it in what is shown and, as `name`, its folder.
        preset: the folder of `results/` that it works in.
        specs: the runs whose records it promises; without a notebook also what it trains.
        notebook: the file to execute, up to its cell tagged "training" where it promises records.
        parameters: of the notebook; rows and seeds travel as names, never as values: nothing infinite
            among them. A notebook that gets none keeps its own, and must not show an error or a warning.
        target: file for the executed notebook, cleaned; "" to drop it once all is recorded.
    """

    label: str
    preset: str
    specs: tuple[RunSpec, ...] = ()
    notebook: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    target: str = ""

    @property
    def name(self) -> str:
        return re.sub(r"[^A-Za-z0-9._=+-]+", "-", self.label)[:200]

    def output(self, folder: Path) -> Path:
        """What to open when it failed in this folder: the executed notebook, else the log."""
        executed = folder / Path(self.notebook).name
        return executed if self.notebook and executed.is_file() else folder / "log.txt"

    def write(self, folder: Path, results: Path) -> None:
        """Leave in the folder what `main` needs, as plain JSON; `results` is where records will lie."""
        from mnistmp import paths, records

        here = (records.record_path(self.preset, spec.row, spec.seed) for spec in self.specs)
        # On a worker of a cluster, results may lie elsewhere than its own variables say.
        expected = [str(results / path.relative_to(paths.results())) for path in here]
        values = {**vars(self), "specs": [spec.to_json() for spec in self.specs], "expected": expected}
        (folder / "unit.json").write_text(json.dumps(values), encoding="utf-8")


def cell_timeout() -> int | None:
    """Seconds that a cell may take, from MNISTMP_CELL_TIMEOUT; None, as a run takes what it takes."""
    text = os.environ.get("MNISTMP_CELL_TIMEOUT", "").strip()
    if not text:
        return None
    valid = "set it to a whole number of seconds, or leave it out"
    require(re.fullmatch(r"[1-9][0-9]{0,8}", text), "MNISTMP_CELL_TIMEOUT", text, valid)
    return int(text)


def main(folder: str) -> int:
    """Carry out the unit that was written to a folder; its exit code. The last line printed says what failed."""
    unit = json.loads(Path(folder, "unit.json").read_text(encoding="utf-8"))
    try:
        executed = _execute(unit, Path(folder)) if unit["notebook"] else _train(unit)
        for path in unit["expected"]:
            if not Path(path).is_file():
                raise InputError(f"it ended without an error and without recording {path}")
        if unit["target"]:
            notebooks.publish(executed, Path(unit["target"]), strict=not unit["parameters"])
    except Exception as error:
        code, reason = _judge(error, Path(folder, Path(unit["notebook"]).name))
        if not isinstance(error, InputError):
            traceback.print_exc()
        print(f"{SAYS}{reason}", flush=True)
        return code
    return DONE


def _end_with_parent() -> None:
    # The parent holds the other end of our standard input: it closes when the parent ends us, and
    # also when the parent is gone, however it went. No signal can promise that.
    with contextlib.suppress(ImportError):
        import psutil
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    with contextlib.suppress(Exception):  # a kernel that this misses ends by itself once we are gone
        for child in psutil.Process().children(recursive=True):
            child.kill()
    os._exit(FAILED)


def _execute(unit: dict[str, Any], folder: Path) -> Path:
    import papermill

    source = Path(unit["notebook"])
    executed = folder / source.name
    notebook = json.loads(source.read_text(encoding="utf-8-sig"))  # some editors begin with a byte-order mark
    notebook["metadata"] = {"kernelspec": notebooks.KERNEL, "language_info": {"name": "python"}}
    if unit["expected"]:
        notebook["cells"] = _until_trained(notebook["cells"])
    executed.write_text(json.dumps(notebook), encoding="utf-8")
    output = str(executed).replace("{", "{{").replace("}", "}}")  # papermill would fill {} in with parameters
    unknown = sorted(set(unit["parameters"]) - set(papermill.inspect_notebook(output)))
    if unknown:  # papermill would only warn, and the notebook would run with its defaults
        raise InputError(f"{source.name} has no parameter {unknown[0]!r} in its parameters cell")
    papermill.execute_notebook(
        output,
        output,
        unit["parameters"],
        cwd=str(folder),
        kernel_name="python3",
        progress_bar=False,
        start_timeout=START_TIMEOUT,
        iopub_timeout=IOPUB_TIMEOUT,
        execution_timeout=cell_timeout(),
        shutdown_kernel="immediate",  # nothing is left for it to do, and dismantling torch takes it a second
    )
    return executed


def _until_trained(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    # What follows the cell tagged "training" shows all that is recorded: executed once, when all is.
    for place, cell in enumerate(cells, 1):
        if "training" in cell["metadata"].get("tags", []):
            return cells[:place]
    return cells


def _train(unit: dict[str, Any]) -> None:
    from mnistmp.spec import RunSpec
    from mnistmp.sweep.train import train_missing

    failures = []
    for spec in map(RunSpec.from_json, unit["specs"]):
        try:
            train_missing([spec], unit["preset"])
        except Exception as error:  # the next run may still work
            traceback.print_exc()
            failures.append(f"{spec.row} seed {spec.seed}: {type(error).__name__}: {first_line(error)}")
    if failures:
        raise InputError(failures[0])


def _judge(error: Exception, executed: Path) -> tuple[int, str]:
    """The exit code and the reason, in one line, of a unit that failed."""
    if isinstance(error, InputError):
        return FAILED, str(error)
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError

    if isinstance(error, PapermillExecutionError):
        return FAILED, f"In [{error.exec_count}]: {error.ename}: {first_line(error.evalue or 'no message')}"
    if isinstance(error, CellTimeoutError):  # which papermill, too, writes down as a cell that completed
        return FAILED, f"a cell took longer than the {cell_timeout()} seconds of MNISTMP_CELL_TIMEOUT"
    reason = f"{type(error).__name__}: {first_line(error)}"
    if isinstance(error, DeadKernelError):
        reason = "the kernel died (killed, or out of memory)"
    elif "Kernel died before" in reason:  # as jupyter_client says it
        reason = "the kernel died before it answered (killed, or out of memory)"
    return FAILED if _began(executed) else NOT_STARTED, reason


def _began(executed: Path) -> bool:
    # Whether a cell ran. If not, a port was taken, or the machine too busy: nothing was computed yet.
    try:
        cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
        return any(cell["metadata"]["papermill"]["start_time"] for cell in cells)
    except (OSError, ValueError, KeyError):  # torn: papermill writes in place
        return True


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1]))
