"""One unit of a batch, and the process that carries it out: `python -m mnistmp.unit ...`.

A unit is one papermill execution of one notebook, or trainings without a notebook. It has a
process of its own, because papermill changes the working folder of the whole process, and so that
whatever happens to it happens to nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import threading
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistmp.spec import RunSpec

DONE, FAILED, NOT_STARTED = 0, 1, 75  # exit codes; 75: no cell ran, trying again may help
SAYS = "mnistmp: "  # before the reason, the last line of a failed unit's log
START_TIMEOUT = 120  # seconds that a kernel may take to answer on a busy machine
IOPUB_TIMEOUT = 60  # seconds that its output may take to arrive
SPECS_LIMIT = 10_000_000  # bytes of a list of runs; one takes about 600


class UnitError(ValueError):
    """A unit that cannot begin: one sentence with what is wrong and what to do."""


@dataclass(frozen=True)
class Unit:
    """Some work of one process. Rows and seeds travel as names, never as values: nothing infinite among them.

    Attributes:
        name: plain, unique within a batch; its folder under `attempts/`.
        label: for the progress lines.
        preset: the folder of `results/` that it works in.
        notebook: the file to execute; "" to train without one.
        seeds, rows: go to the notebook, with the preset; without seeds it keeps its own parameters.
        specs: the runs whose records it promises; without notebook and rows also what it trains.
        target: file for the executed notebook, cleaned; "" to drop it once all is recorded.
        strict: refuse a `target` that shows an error or a warning.
    """

    name: str
    label: str
    preset: str
    notebook: str = ""
    seeds: str = ""
    rows: str = ""
    specs: tuple[RunSpec, ...] = ()
    target: str = ""
    strict: bool = False


def cell_timeout() -> int | None:
    """Seconds that a cell may take, from MNISTMP_CELL_TIMEOUT; None, as a training takes what it takes.

    Raises:
        UnitError: it is set to something else than a number of seconds.
    """
    text = os.environ.get("MNISTMP_CELL_TIMEOUT", "").strip()
    if not text:
        return None
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise UnitError(f"MNISTMP_CELL_TIMEOUT is {text!r}; set it to a whole number of seconds, or leave it out.")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Carry out a unit; 0 when every promised record is there, else 1 or 75 and the reason as last line."""
    parser = argparse.ArgumentParser(prog="python -m mnistmp.unit", description=__doc__, allow_abbrev=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--notebook", type=Path, help="execute this notebook")
    what.add_argument("--specs", type=Path, help="train these runs, a JSON list, without a notebook; needs no Jupyter")
    parser.add_argument("--output", type=Path, help="where the executed notebook goes; its folder is the kernel's")
    parser.add_argument("--preset", default="")
    parser.add_argument("--seeds", default="")
    parser.add_argument("--rows", default="")
    parser.add_argument("--expect", type=Path, nargs="*", default=[], help="records that must exist at the end")
    parser.add_argument("--lifeline", action="store_true", help="end, with the kernel, when standard input closes")
    args = parser.parse_args(argv)
    if args.notebook and not args.output:
        parser.error("--notebook needs --output")
    if args.lifeline:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    code, reason = _execute(args) if args.notebook else _train(args)
    missing = [path for path in args.expect if not path.is_file()]
    if code == DONE and missing:
        code, reason = FAILED, f"it ended without an error and without recording {missing[0]}"
    if code != DONE:
        print(f"{SAYS}{reason}", flush=True)
    return code


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


def _execute(args: argparse.Namespace) -> tuple[int, str]:
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    # papermill fills {} in file names with parameters; ours mean themselves.
    output = str(args.output.absolute()).replace("{", "{{").replace("}", "}}")
    given = {"preset": args.preset, "seeds": args.seeds, "rows": args.rows} if args.seeds else {}
    parameters = {name: value for name, value in given.items() if value}
    try:
        notebook = json.loads(args.notebook.read_text(encoding="utf-8"))
        if args.rows:
            notebook["cells"] = _until_trained(notebook["cells"])
        args.output.write_text(json.dumps(notebook), encoding="utf-8")
        known = papermill.inspect_notebook(output)
        unknown = [name for name in parameters if name not in known]
        if unknown:  # papermill would only warn, and the notebook would run with its defaults
            return FAILED, f"{args.notebook.name} has no parameter {unknown[0]!r} in its parameters cell"
        papermill.execute_notebook(
            output, output, parameters, cwd=str(args.output.absolute().parent), kernel_name="python3",
            progress_bar=False, start_timeout=START_TIMEOUT, iopub_timeout=IOPUB_TIMEOUT,
            execution_timeout=cell_timeout(),
            # Nothing is left for the kernel to do, and dismantling torch and its friends takes it a second.
            shutdown_kernel="immediate",
        )  # fmt: skip
        json.loads(args.output.read_text(encoding="utf-8"), parse_constant=_refuse)
    except papermill.PapermillExecutionError as error:
        return FAILED, f"In [{error.exec_count}]: {error.ename}: {_first_line(error.evalue)}"
    except CellTimeoutError:  # which papermill, too, writes down as a cell that completed
        return FAILED, f"a cell took longer than the {cell_timeout()} seconds of MNISTMP_CELL_TIMEOUT"
    except DeadKernelError:
        reason = "the kernel died (killed, or out of memory)"
    except Exception as error:
        traceback.print_exc()
        reason = f"{type(error).__name__}: {_first_line(str(error))}"
        if "Kernel died before" in reason:  # as jupyter_client says it
            reason = "the kernel died before it answered (killed, or out of memory)"
    else:
        return DONE, ""
    return (NOT_STARTED if _worth_another_try(args.output) else FAILED), reason


def _until_trained(cells: list[dict]) -> list[dict]:
    # What follows the cell tagged "training" shows all that is recorded: executed once, when all is.
    for place, cell in enumerate(cells, 1):
        if "training" in cell["metadata"].get("tags", []):
            return cells[:place]
    return cells


def _train(args: argparse.Namespace) -> tuple[int, str]:
    from mnistmp.files import read_bounded
    from mnistmp.spec import RunSpec
    from mnistmp.sweep import train

    reason = ""
    try:
        listed = json.loads(read_bounded(args.specs, SPECS_LIMIT))
        specs = [RunSpec.from_json(values) for values in listed]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return FAILED, f"{args.specs} is no list of runs ({_first_line(str(error))})"
    for spec in specs:
        try:
            train.train_missing([spec], args.preset)
        except Exception as error:  # the next training may still work
            traceback.print_exc()
            reason = reason or f"{spec.row} seed {spec.seed}: {type(error).__name__}: {_first_line(str(error))}"
    return (FAILED if reason else DONE), reason


def _worth_another_try(output: Path) -> bool:
    # The kernel never came up: a port was taken, or the machine too busy. Nothing was computed yet.
    try:
        cells = json.loads(output.read_text(encoding="utf-8"))["cells"]
        return not any(cell["metadata"]["papermill"]["start_time"] for cell in cells)
    except (OSError, ValueError, KeyError, TypeError):  # never begun, or torn: papermill writes in place
        return False


def _refuse(constant: str):
    raise ValueError(f"the executed notebook holds {constant}, which is not JSON")


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else "no message"


if __name__ == "__main__":
    sys.exit(main())
