"""How fast a training step is, beside the loop one would write otherwise and the machine's own limit.

    python benchmarks/training_speed.py [--methods] [--readme] [--json FILE] ...

Every loop gets the same digits, network, initial weights, batch order and number of steps; they
take turns, and all of it is repeated. "Whole machine" means as many processes of one thread at
once as there are cores, for the plain loop also one process with all threads, whichever is
faster. Ours run in the environment that `mnistmp reproduce` gives its workers, the plain loops in
that of a user. On a GPU everything runs in one process (this path is untested for lack of a GPU).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from pathlib import Path

import torch
from loops import PRODUCT
from workers import Loop, Workers

from mnistmp import data, engine, paper
from mnistmp.fast import kernels
from mnistmp.records.provenance import device_name
from mnistmp.results import markdown
from mnistmp.sweep.process import worker_environment

BATCH = 128
STEP_GFLOP = 13.9  # conv1 0.71 x 2 (its input needs no gradient), conv2 3.36 x 3, linear layers 0.81 x 3
ROWS = ("standard", "rcl-inf")
PRODUCTS = 4  # per measurement
PRODUCT_GFLOP = 2 * PRODUCT**3 * PRODUCTS / 1e9


def contestants(native: bool, compiled: bool, cuda: bool) -> list[Loop]:
    ours = worker_environment()
    # A plain loop in our workers' environment shows what the memory allocator alone gives.
    loops = [Loop("(a) plain loop", "dataset"), Loop("(a) in one process, all threads", "dataset", threads=True),
             Loop("(a) with our environment variables", "dataset", ours), Loop("(b) tensors in memory", "memory"),
             Loop("(c) ours, float32", "float32", ours)]  # fmt: skip
    if native:
        loops.append(Loop("(d) ours, bfloat16, nothing compiled", "bfloat16", ours | {"MNISTMP_KERNELS": "torch"}))
        if compiled:
            loops.append(Loop("(d) ours, bfloat16, default", "bfloat16", ours))
    if cuda:  # neither threads nor the allocator nor compiled pieces matter there
        loops = [loop for loop in loops if loop.name[:3] != "(a)" or loop is loops[0]]
        loops = [loop for loop in loops if "nothing compiled" not in loop.name]
    return loops


def measure(loops: list[Loop], peak: Loop, cores: int, options: argparse.Namespace) -> None:
    """Append one round to each loop: per row, what one process did alone and what all did together."""
    for loop in [peak, *loops]:
        count = 1 if loop.threads else cores
        with Workers(loop, count, options) as workers:
            steps = PRODUCTS if loop is peak else options.steps
            together = {row: workers.run(row, steps) for row in loop.rows}
            # Together first: memory that was never touched costs all the same.
            alone = {row: workers.run(row, steps, 1)[0] for row in loop.rows} if count > 1 else {}
        rows = {row: {"together": together[row], "alone": alone.get(row, together[row][0])} for row in loop.rows}
        loop.rounds.append(rows)
        print(".", end="", flush=True, file=sys.stderr)


# ---- the figures ------------------------------------------------------------------------------


def spread(values: list[float], digits: int = 0) -> str:
    """Median and, in brackets, smallest and largest."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def rate(loop: Loop, row: str, steps: int) -> list[float]:
    """Images per second of the whole machine, per round: the slowest process counts for all."""
    per_round = [turn[row]["together"] for turn in loop.rounds]
    return [len(workers) * steps * BATCH / max(w["seconds"] for w in workers) for workers in per_round]


def figures(loops: list[Loop], peak: Loop, row: str, steps: int) -> list[dict]:
    """One line of the table per loop."""
    best = peak.rows[-1]
    limits = [sum(PRODUCT_GFLOP / worker["seconds"] for worker in turn[best]["together"]) for turn in peak.rounds]
    plain = [rate(loop, row, steps) for loop in loops[:2] if loop.kind == "dataset"]
    plain = [max(rates) for rates in zip(*plain)]  # the better of processes and threads
    lines = []
    for loop in loops:
        rates = rate(loop, row, steps)
        everyone = [worker for turn in loop.rounds for worker in turn[row]["together"]]
        lines.append({
            "loop": loop.name,
            "one process": [steps * BATCH / turn[row]["alone"]["seconds"] for turn in loop.rounds],
            "whole machine": rates,
            "times (a)": [own / other for own, other in zip(rates, plain)],
            "CPU ms per step": [1000 * worker["processor"] / steps for worker in everyone],
            "share of peak": [own / BATCH * STEP_GFLOP / limit for own, limit in zip(rates, limits)],
            "MB per process": max((worker["memory"] or 0 for worker in everyone), default=0),
            "loss": loop.rounds[0][row]["together"][0]["loss"],
        })  # fmt: skip
    return lines


def table(lines: list[dict], row: str, best: str) -> str:
    head = [row, "images/s, one process", "images/s, whole machine", "times (a)", "CPU ms per step",
            f"share of {best} peak", "MB per process"]  # fmt: skip
    return markdown.table(head, "l" + "r" * (len(head) - 1), [
        [line["loop"], spread(line["one process"]), spread(line["whole machine"]), spread(line["times (a)"], 2),
         spread(line["CPU ms per step"], 1), f"{100 * statistics.median(line['share of peak']):.0f} %",
         f"{line['MB per process']:.0f}"]
        for line in lines
    ])  # fmt: skip


def check(lines: list[dict], row: str) -> None:
    """All loops must compute the same: their mean losses over the first steps agree.

    RCL's follow from which neighbours are nearest, so that a rounding can show.
    """
    first = lines[0]["loss"]
    for line in lines:
        limit = 0.03 if "bfloat16" in line["loop"] or row != "standard" else 2e-4
        if abs(line["loss"] - first) > limit * abs(first):
            sys.exit(f"{line['loop']} has the mean loss {line['loss']} and not about {first}: not the same training.")


def methods(options: argparse.Namespace, native: bool) -> tuple[dict[str, list[float]], str]:
    """CPU milliseconds (on a GPU: milliseconds) per step of all trainings, taking turns in one process."""
    rows = tuple(row.id for row in paper.trainings())
    loop = Loop("methods", "bfloat16" if native else "float32", worker_environment(), rows=rows)
    times: dict[str, list[float]] = {row: [] for row in rows}
    clock = "seconds" if options.device.startswith("cuda") else "processor"
    with Workers(loop, 1, options) as workers:
        for _ in range(options.repeats):
            for row in rows:
                times[row].append(1000 * workers.run(row, options.steps)[0][clock] / options.steps)
            print(".", end="", flush=True, file=sys.stderr)
    unit = "ms" if clock == "seconds" else "CPU ms"
    ratios = {row: [own / other for own, other in zip(values, times["standard"])] for row, values in times.items()}
    lines = [[row, spread(values, 1), f"{statistics.median(ratios[row]):.2f}"] for row, values in times.items()]
    return times, markdown.table(["training", f"{unit} per step", "times standard"], "lrr", lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="steps per measurement (default 10)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds in which all loops take their turn (default 3)")
    parser.add_argument("--data", choices=data.DATASETS, default="digits", help="digits needs no download (default)")
    parser.add_argument("--device", default=str(engine.pick_device()), help="cpu or cuda")
    parser.add_argument("--methods", action="store_true", help="also the time per step of all 15 trainings")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--readme", action="store_true", help="put the tables between the markers `speed`")
    options = parser.parse_args()
    if options.steps < 1 or options.repeats < 1:
        parser.error("--steps and --repeats must be 1 or more.")

    cuda = options.device.startswith("cuda")
    native, compiled = engine.native_bfloat16(options.device), kernels.in_use() == "numba"
    cores = 1 if cuda else len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = {"device": device_name(options.device), "cores": cores, "load before": _load(), "compiled": compiled,
               "python": platform.python_version(), "torch": torch.__version__}  # fmt: skip
    loops = contestants(native, compiled, cuda)
    peak = Loop("peak", "product", rows=("float32", "bfloat16") if native else ("float32",))
    for _ in range(options.repeats):
        measure(loops, peak, cores, options)

    results = {row: figures(loops, peak, row, options.steps) for row in ROWS}
    for row, lines in results.items():
        check(lines, row)
    peaks = {
        dtype: [PRODUCT_GFLOP / worker["seconds"] for turn in peak.rounds for worker in turn[dtype]["together"]]
        for dtype in peak.rows
    }
    parts = [notes(machine, peaks, options), *(table(lines, row, peak.rows[-1]) for row, lines in results.items())]
    times = {}
    if options.methods:
        times, text = methods(options, native)
        parts.append(text)
    print(file=sys.stderr)
    print("\n\n".join(parts))
    if options.json:
        report = {"machine": machine, "options": vars(options), "peaks": peaks, "rows": results, "methods": times}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.readme:
        markdown.replace_block("speed", "\n\n".join(parts))


def notes(machine: dict, peaks: dict[str, list[float]], options: argparse.Namespace) -> str:
    """What stands above the tables."""
    cores, load = machine["cores"], machine["load before"]
    products = ", ".join(f"{dtype} {spread(values)}" for dtype, values in peaks.items())
    lines = [
        f"{machine['device']}, {cores} core{'s' * (cores > 1)}; Python {machine['python']}, torch {machine['torch']}. "
        f"Median (smallest-largest) of {options.repeats} rounds of {options.steps} steps of {BATCH} images and "
        f"{STEP_GFLOP} GFLOP. "
        f"Matrix products in one thread per core, GFLOP/s per core: {products}."
    ]
    if "bfloat16" not in peaks:
        lines.append("This processor does not multiply bfloat16: float32 is the default here.")
    elif not machine["compiled"] and not options.device.startswith("cuda"):
        lines.append("numba is switched off or does not compile here: no compiled pieces.")
    if load > 0.5:
        lines.append(f"Other programs were running (load {load:.1f}): compare within a table only.")
    return "\n".join(lines)


def _load() -> float:
    """How many processes want to run, on average over the last minute; 0 where this is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


if __name__ == "__main__":
    main()
