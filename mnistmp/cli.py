"""The `mnistmp` command: arguments, exit codes and what is said about bad input.

Exit codes: 0 all is well; 2 bad input, in one sentence, before any work; 1 some of the work
failed; 130 interrupted. What the verbs do is in `verbs.py`.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from contextlib import contextmanager, suppress

from mnistmp import __version__, verbs

BAD_INPUT, INTERRUPTED = 2, 130
INTERRUPTION = "interrupted; every finished training is recorded, and the same command goes on from there."


def main(argv: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    for stream in (sys.stdout, sys.stderr):  # a terminal that knows no "∞", a folder named in no encoding
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    if getattr(args, "results", None):
        os.environ["MNISTMP_RESULTS"] = args.results
    try:
        with _interrupted_by_signals():
            return args.verb(args)
    except KeyboardInterrupt:
        print(f"\nmnistmp: {INTERRUPTION}", file=sys.stderr)
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


def _what(parser: argparse.ArgumentParser) -> None:
    _preset(parser)
    parser.add_argument("--rows", default="all", metavar="ID,ID", help="rows of Table 2, by their ids (default: all)")
    parser.add_argument("--seeds", metavar="0-9", help="such as 0-9, 3 or 0,2,5 (default: the preset's)")
    parser.add_argument("--precision", type=_named, metavar="NAME", help="float32 or bfloat16 (default: the preset's)")


def _work(parser: argparse.ArgumentParser) -> None:
    _what(parser)
    _jobs(parser)
    parser.add_argument("--shard", metavar="I/N", help="only every N-th run, from I = 0 on; for arrays of jobs")
    parser.add_argument("--executor", default="local", metavar="NAME", help="local (default), or dask: a cluster")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of dask, such as tcp://10.0.0.1:8786")
    _dry_run(parser)


def _preset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="digits", metavar="NAME", help="digits (default), quick or paper")
    parser.add_argument("--results", type=_named, metavar="FOLDER", help="instead of results/ or MNISTMP_RESULTS")


def _table_arguments(parser: argparse.ArgumentParser) -> None:
    _preset(parser)
    parser.add_argument("--readme", action="store_true", help="also put the table into the README")


def _jobs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs", type=_count, metavar="N", help="processes at a time (default auto: one per core or GPU)"
    )


def _dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="list the units and how long they take; do nothing")


def _figures_arguments(parser: argparse.ArgumentParser) -> None:
    _preset(parser)
    parser.add_argument("--rows", default="all", metavar="ID,ID", help="only notebooks of these rows (default: all)")
    _jobs(parser)


def _notebooks_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 08 or 08_rcl_margin_sweep (default: all)")
    _jobs(parser)


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    _preset(parser)
    parser.add_argument("--out", metavar="FOLDER", help="where the website goes (default: site/ of the checkout)")


def _latent_arguments(parser: argparse.ArgumentParser) -> None:
    _preset(parser)
    parser.add_argument("--seed", metavar="K", help="of the trainings (default: the preset's first)")
    parser.add_argument("--precision", type=_named, metavar="NAME", help="float32 or bfloat16 (default: the preset's)")
    _jobs(parser)


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("method", metavar="METHOD", help="a method with a weight, such as rcl, or the id of its row")
    _preset(parser)
    parser.add_argument("--seeds", metavar="0-9", help="such as 0-9, 3 or 0,2,5 (default: the preset's)")
    parser.add_argument("--precision", type=_named, metavar="NAME", help="float32 or bfloat16 (default: the preset's)")
    parser.add_argument("--threshold", type=float, metavar="POINTS", help="points of validation accuracy below "
                        "standard training, in percent, at which a weight has collapsed (default: 5)")  # fmt: skip
    _jobs(parser)
    _dry_run(parser)


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("row", metavar="ROW", help="a training of Table 2, such as dropout")
    _preset(parser)
    parser.add_argument("--seeds", metavar="0-9", help="such as 0-2, 3 or 0,2,5 (default: the preset's)")
    parser.add_argument("--options", metavar="NAMES", help="what to change, one at a time, separated by commas: options "
                        "of the method, image_size, input_range ... (default: all named options of the method)")  # fmt: skip
    parser.add_argument("--precision", type=_named, metavar="NAME", help="float32 or bfloat16 (default: the preset's)")
    _jobs(parser)
    _dry_run(parser)


def _calibrate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=_named, metavar="FOLDER", help="instead of results/ or MNISTMP_RESULTS")
    parser.add_argument("--seeds", metavar="0-9", help="such as 0-9, 3 or 0,2,5 (default: 0,1)")
    parser.add_argument("--recorded", action="store_true", help="train nothing, score what is recorded")
    parser.add_argument("--readme", action="store_true", help="also put the conclusion into the README")
    _jobs(parser)
    _dry_run(parser)


def _search_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", type=_named, metavar="FOLDER", help="instead of results/ or MNISTMP_RESULTS")
    parser.add_argument("--stage", type=int, choices=range(1, 8), metavar="N",
                        help="the last stage to train, 1 to 7 (default: 7)")  # fmt: skip
    _jobs(parser)
    _dry_run(parser)


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="only look; download nothing")


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--results", metavar="FOLDER", help="instead of results/ or MNISTMP_RESULTS")
    parser.add_argument("--json", action="store_true", help="for programs: one JSON object with all findings")


# A new verb is a function in verbs.py and a line here: name, help, arguments, function.
VERBS: list[tuple[str, str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]] = [
    ("reproduce", "train what is missing by notebooks, then make figures and tables", _work, verbs.reproduce),
    ("run", "train what is missing without notebooks; needs no Jupyter", _work, verbs.run),
    ("status", "how many runs are recorded, missing or broken", _what, verbs.status),
    ("table", "print Table 2 from the records and write its files", _table_arguments, verbs.table),
    ("figures", "draw the figures from the records, by executing the notebooks", _figures_arguments, verbs.figures),
    ("notebooks", "execute the committed notebooks in place and clean them", _notebooks_arguments, verbs.notebooks),
    ("report", "make a website of the executed notebooks, to open from disk", _report_arguments, verbs.report),
    ("latent", "train and embed what Figure 3 still lacks; reproduce does so too", _latent_arguments, verbs.latent),
    ("select-weights", "a method's largest weight that keeps validation up", _weights_arguments, verbs.select_weights),
    ("ablate", "a row under other readings of the paper, one at a time", _ablate_arguments, verbs.ablate),
    ("calibrate", "which readings of the paper fit its validation column", _calibrate_arguments, verbs.calibrate),
    ("search", "which positive and scaling fit RCL's validation column, in stages", _search_arguments, verbs.search),
    ("doctor", "say whether this machine can run it, and what to do where not", _doctor_arguments, verbs.doctor),
    ("data", "find MNIST, or download it, and verify every byte", _data_arguments, verbs.data),
]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str):
        self.exit(BAD_INPUT, f"mnistmp: {' '.join(message.split())}; see {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="mnistmp", allow_abbrev=False, description="MNIST-MP and the reverse contrastive loss.")
    parser.add_argument("--version", action="version", version=f"mnistmp {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, help, arguments, function in VERBS:
        verb = verbs.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.", allow_abbrev=False)
        arguments(verb)
        verb.set_defaults(verb=function)
    return parser


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


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for a mistake of ours, which deserves its traceback."""
    if any(kind.__module__.startswith("mnistmp.") for kind in type(error).__mro__):
        first, *others = str(error).splitlines()
        return f"{first.rstrip('.')} ({len(others)} more like this: see mnistmp status)." if others else first
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return f"{where}{error.strerror}."
    return None


@contextmanager
def _interrupted_by_signals():
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


if __name__ == "__main__":
    sys.exit(main())
