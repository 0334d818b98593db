"""How the cost of planning, counting and tabulating grows with the number of records: 100 to 10,000.

    python benchmarks/many_records.py [--sizes 100,1000,10000]

Synthetic records of the paper preset go to a temporary folder; nothing is trained. Each command
runs in a process of its own, start and imports included:

    status    `mnistmp status`
    table     `mnistmp table`
    plan      `mnistmp run --dry-run` over as many runs, half of which are recorded
    schedule  as many units through the batch, with an executor that does nothing
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future

import torch

from mnistmp import paper
from mnistmp.engine.fit import path_name, pick_device
from mnistmp.records import RunRecord, record_path
from mnistmp.records.provenance import environment
from mnistmp.sweep import plan
from mnistmp.sweep.process import Outcome
from mnistmp.sweep.run import run_units

PRESET = "paper"
ROWS = len(paper.trainings())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sizes", default="100,1000,10000", help="numbers of records")
    parser.add_argument("--schedule", type=int, help=argparse.SUPPRESS)  # the child of this program
    args = parser.parse_args()
    if args.schedule:
        schedule(args.schedule)
        return
    print("| records | command | seconds | of which computing | peak memory, MB |")
    print("|---:|---|---:|---:|---:|")
    for size in map(int, args.sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["MNISTMP_RESULTS"] = folder
            seeds = write_records(size)
            ours, preset = [sys.executable, "-m", "mnistmp"], ["--preset", PRESET]
            half = f"{seeds // 2}-{seeds // 2 + seeds - 1}"
            for name, command in (
                ("status", [*ours, "status", *preset, "--seeds", f"0-{seeds - 1}"]),
                ("table", [*ours, "table", *preset]),
                ("plan", [*ours, "run", "--dry-run", "--jobs", "2", *preset, "--seeds", half]),
                ("schedule", [sys.executable, __file__, "--schedule", str(size)]),
            ):
                wall, computing, memory = measure(command)
                print(f"| {size:,} | {name} | {wall:.1f} | {computing:.1f} | {memory:.0f} |", flush=True)


def write_records(size: int) -> int:
    """So many records, one seed after the other; the number of seeds that they reach into."""
    device = pick_device("cpu")
    torch.set_num_threads(1)  # as a batch does: else the plan would measure the machine instead of reading the records
    origin = environment(device, "bfloat16", path_name(device))
    seeds = -(-size // ROWS)
    for spec in paper.plan(PRESET, seeds=f"0-{seeds - 1}")[:size]:
        history = [
            {"epoch": epoch, "val_correct": 9_900 + epoch, "test_correct": 3_000 + (7 * spec.seed + epoch) % 2_000,
             "train_loss": 1 / epoch, "terms": {"cross_entropy": 1 / epoch, "extra": 0.1}, "seconds": 12.3}
            for epoch in range(1, spec.epochs + 1)
        ]  # fmt: skip
        record = RunRecord(spec=spec, status="done", history=history, val_total=10_000, test_total=10_000,
                           environment=origin, started="2026-01-01T00:00:00Z", seconds=123.4)  # fmt: skip
        path = record_path(PRESET, spec.row, spec.seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.to_text(), encoding="utf-8")
    return seeds


def measure(command: list[str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak memory in MB of a command that must succeed."""
    clock = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - clock
    if os.waitstatus_to_exitcode(status) != 0:
        sys.exit(f"{' '.join(command)} failed; its error stands above.")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6


class Idle:
    """An executor whose units are done at once."""

    def submit(self, function, unit, *_):
        future = Future()
        future.set_result(Outcome(unit))
        return future


def schedule(size: int) -> None:
    specs = paper.plan(PRESET, seeds=f"0-{-(-size // ROWS) - 1}")[:size]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MNISTMP_RESULTS"] = folder
        units = plan.train_units(specs, PRESET, 2)
        outcomes = run_units(units, 2, executor=Idle(), stream=io.StringIO())
    if len(outcomes) != size:
        sys.exit(f"{len(outcomes)} of {size} units came back")


if __name__ == "__main__":
    main()
