"""Processes that run one of the loops of loops.py, on request and at the same time."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

# What must not leak from this process's environment into a worker's.
CLEARED = {"OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "GLIBC_TUNABLES", "MNISTMP_KERNELS"}


@dataclass
class Loop:
    """A contestant: what its workers run, where, and what was measured."""

    name: str
    kind: str
    environment: dict[str, str] = field(default_factory=dict)
    threads: bool = False  # one process with all threads instead of a process per core
    rows: tuple[str, ...] = ("standard", "rcl-inf")
    rounds: list[dict] = field(default_factory=list)


class Workers:
    """Processes of one loop, ready on entry, ended on exit."""

    def __init__(self, loop: Loop, count: int, options: argparse.Namespace):
        command = [sys.executable, str(Path(__file__).with_name("loops.py")), loop.kind, ",".join(loop.rows)]
        command += ["--data", options.data, "--device", options.device]
        environment = {k: v for k, v in os.environ.items() if k not in CLEARED}
        environment |= {} if loop.threads else {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment |= loop.environment
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(count)]

    def __enter__(self) -> Workers:
        for process in self.processes:
            if process.stdout.readline() != "ready\n":
                sys.exit("A worker ended before it was ready; its error stands above.")
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.stdin.close()
            process.wait()

    def run(self, row: str, steps: int, count: int | None = None) -> list[dict]:
        """All of them, or the first `count`, take so many steps at the same time."""
        chosen = self.processes[:count]
        for process in chosen:
            process.stdin.write(f"{row} {steps}\n")
            process.stdin.flush()
        answers = [process.stdout.readline() for process in chosen]
        if not all(answers):
            sys.exit("A worker ended before it was done; its error stands above.")
        return [json.loads(answer) for answer in answers]
