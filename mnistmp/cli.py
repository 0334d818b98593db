"""The `mnistmp` command: arguments, exit codes and what is said about bad input.

Exit codes: 0 all is well; 2 bad input, in one sentence, before any work; 1 some of the work
failed; 130 interrupted. What the verbs do is in `verbs.py`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mnistmp import __version__
from mnistmp.errors import InputError
from mnistmp.verbs import VERBS

BAD_INPUT, INTERRUPTED = 2, 130
INTERRUPTION = "interrupted; every finished run is recorded, and the same command goes on from there."


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no "∞", a folder named in no encoding
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    if getattr(args, "methods", None):
        os.environ["MNISTMP_METHODS"] = args.methods
    if getattr(args, "results", None):
        os.environ["MNISTMP_RESULTS"] = args.results
    if getattr(args, "checkpoints", False):
        os.environ["MNISTMP_CHECKPOINTS"] = "1"
    try:
        with _interrupted_by_signals():
            code = args.function(args)
            if args.makes and getattr(args, "preset", "paper") == "paper" and not getattr(args, "dry_run", False):
                from mnistmp import lineage

                lineage.write()
            return code
    except KeyboardInterrupt:
        trains = {"jobs", "train"} & vars(args).keys()
        print(f"\nmnistmp: {INTERRUPTION if trains else 'interrupted.'}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `mnistmp status | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(f"mnistmp: {sentence}", file=sys.stderr)
        return BAD_INPUT


# ---- the arguments ----


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of processes, give 1 or more, or auto")
    return int(text)


def _named(text: str) -> str:
    if not text.strip():  # a shell variable that is not set, not a wish for the default
        raise argparse.ArgumentTypeError("it is empty, give a name or leave the option out")
    return text


OPTIONS: dict[str, dict[str, Any]] = {
    "--preset": {"default": "digits", "metavar": "NAME", "help": "digits, quick or paper (default: %(default)s)"},
    "--results": {"type": _named, "metavar": "FOLDER", "help": "instead of results/ or MNISTMP_RESULTS"},
    "--rows": {"default": "all", "metavar": "ID,ID", "help": "such as standard or rcl-inf+weight=5 (default: all)"},
    "--methods": {"type": _named, "metavar": "FILE", "help": "with methods and rows of your own; see new-method"},
    "--seeds": {"metavar": "0-9", "help": "such as 0-9, 3 or 0,2,5 (default: the preset's; of calibrate 0,1)"},
    "--precision": {"type": _named, "metavar": "NAME", "help": "float32 or bfloat16 (default: the preset's)"},
    "--jobs": {"type": _count, "metavar": "N", "help": "processes at a time (default auto: one per core or GPU)"},
    "--shard": {"metavar": "I/N", "help": "only every N-th run, from I = 0 on; for arrays of jobs"},
    "--executor": {"default": "local", "choices": ("local", "dask"), "help": "local (default), or dask: a cluster"},
    "--scheduler": {"metavar": "ADDRESS", "help": "of dask, such as tcp://10.0.0.1:8786"},
    "--dry-run": {"action": "store_true", "help": "list the units and how long they take; do nothing"},
    "--checkpoints": {"action": "store_true", "help": "keep the weights too, for mnistmp.load; 7 to 14 MB per run"},
    "--recorded": {"action": "store_true", "help": "train nothing, tabulate what is recorded"},
    "--readme": {"action": "store_true", "help": "also put the result into the README"},
    "--threshold": {"type": float, "metavar": "POINTS", "help": "validation points whose loss is a collapse; 5"},
    "--options": {"metavar": "NAMES", "help": "such as image_size,input_range (default: all named ones of the method)"},
    "--stage": {"type": int, "choices": range(1, 8), "metavar": "N", "help": "the last to train, 1 to 7 (default: 7)"},
    "--out": {"metavar": "FOLDER", "help": "where the website goes (default: site/ of the checkout)"},
    "--check": {"action": "store_true", "help": "only look; download nothing"},
    "--json": {"action": "store_true", "help": "for programs: one JSON object with all findings"},
    "method": {"metavar": "METHOD", "help": "a method with a weight, such as rcl, or the id of its row"},
    "row": {"metavar": "ROW", "help": "a row of Table 2 that is trained, such as dropout"},
    "variant": {"nargs": "?", "metavar": "VARIANT", "help": "such as irm (default: all)"},
    "--variant": {"default": "mp", "metavar": "NAME", "help": "such as mp (default) or irm, see mnistmp audit"},
    "--to": {"required": True, "type": _named, "metavar": "FOLDER", "help": "of export a new or an empty folder"},
    "--format": {"default": "npz", "metavar": "NAME", "help": "npz (default), torch or parquet"},
    "--train": {"choices": ("irm", "up"), "help": "first train the published experiment, or networks for MNIST-UP"},
    "name": {"metavar": "NAME", "help": "such as my-idea"},
    "names": {"nargs": "*", "metavar": "NAME", "help": "such as 08 or 08_rcl_margin_sweep (default: all)"},
}


SHOWS = ("status", "table", "figures", "report", "export", "release")  # train nothing: the paper's are meant


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(BAD_INPUT, f"mnistmp: {' '.join(message.split())}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mnistmp", allow_abbrev=False, description="MNIST-MP and the reverse contrastive loss.")
    parser.add_argument("--version", action="version", version=f"mnistmp {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, (help, options, makes, function) in VERBS.items():
        one = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)
        for option in options:
            one.add_argument(option, **OPTIONS[option])
        one.set_defaults(function=function, makes=makes, **({"preset": "paper"} if name in SHOWS else {}))
    return parser


# ---- how it ends ----


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for a mistake of ours, which deserves its traceback."""
    if isinstance(error, InputError):
        first, *others = str(error).splitlines()
        return f"{first.rstrip('.')} ({len(others)} more like this: see mnistmp status)." if others else first
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}."
    return None


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    # To be ended, or to lose the terminal, ends a command as orderly as Ctrl-C does.
    def interrupt(number, frame):
        raise KeyboardInterrupt

    ours = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP: so do we
            try:
                ours[number] = signal.signal(number, interrupt)
            except ValueError:  # not in the main thread: somebody else's process
                return (yield)
    try:
        yield
    finally:
        for number, before in ours.items():
            signal.signal(number, before)
