"""Sweeps in seconds: notebooks that file prepared records instead of training, under real papermill and real kernels;
and the `mnistmp` command as a user's shell would start it.
"""

import io
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import nbformat
import psutil
import pytest
from stub_runs import PRESET, record, specs_of

from mnistmp import cli, paper, paths
from mnistmp.sweep import notebooks, plan
from mnistmp.sweep.run import run_units

ROOT = Path(__file__).resolve().parent.parent

PARAMETERS = 'preset: str = "paper"\nseeds: str = "recorded"\nrows: str = "all"'
BODY = """
import os, pathlib, sys, time
stub = pathlib.Path(os.environ["STUB"])
print("shows", preset, seeds, rows)
asked = [(row, seed) for seed in seeds.split(",") for row in rows.split(",")] if seeds != "recorded" else []
for row, seed in asked:
    name = f"{row}/seed-{seed}.json"
    if (stub / "faults" / f"{row}-{seed}.py").exists():
        exec((stub / "faults" / f"{row}-{seed}.py").read_text())
    target = pathlib.Path(os.environ["MNISTMP_RESULTS"]) / preset / "runs" / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        temporary.write_text((stub / name).read_text())
        os.replace(temporary, target)
"""

# What a user's shell would start, with the stub notebooks in place of the real ones.
COMMAND = """
import sys
from pathlib import Path
from mnistmp import cli, paths
paths.notebooks = lambda: Path(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def write_notebook(path, *cells):
    sources = [("parameters", PARAMETERS), *(("", cell) for cell in cells)]
    made = nbformat.v4.new_notebook(metadata={"kernelspec": notebooks.KERNEL})
    for tag, source in sources:
        made.cells.append(nbformat.v4.new_code_cell(source, metadata={"tags": [tag]} if tag else {}))
    path.write_text(nbformat.writes(made))
    return path


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results, figures and stub notebooks of its own; `fault` makes a run misbehave."""
    for name, folder in (("MNISTMP_RESULTS", "results"), ("MNISTMP_FIGURES", "figures"), ("STUB", "stub")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    (tmp_path / "stub/faults").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    for name in sorted({row.notebook for row in paper.TABLE2}):
        write_notebook(tmp_path / f"notebooks/{name}.ipynb", BODY)
    for spec in specs_of("all", "0-1"):
        path = tmp_path / f"stub/{spec.row}/seed-{spec.seed}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(record(spec).to_text())
    fault = SimpleNamespace(
        set=lambda row, code, seed=0: (tmp_path / f"stub/faults/{row}-{seed}.py").write_text(code),
        clear=lambda: [path.unlink() for path in (tmp_path / "stub/faults").iterdir()],
    )
    return SimpleNamespace(folder=tmp_path, notebooks=tmp_path / "notebooks", fault=fault,
                           attempts=tmp_path / "results" / PRESET / "attempts")  # fmt: skip


@pytest.fixture
def quick(place):
    """One notebook, for standard training's two rows."""
    for path in place.notebooks.iterdir():
        if path.stem != "02_standard":
            path.unlink()
    return place


def units_of(place, rows, seeds="0", jobs=10):
    return plan.train_units(specs_of(rows, seeds), PRESET, jobs, place.notebooks)


def run(units, jobs=2, **kwargs):
    """Carry out units here; their outcomes by rows or label, and what was shown."""
    stream = io.StringIO()
    outcomes = run_units(units, jobs, precision="float32", stream=stream, **kwargs)
    return {o.unit.parameters.get("rows", o.unit.label): o for o in outcomes}, stream.getvalue()


def start(place, *arguments, **options):
    """The `mnistmp` command in a process of its own."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT, **options}
    return subprocess.Popen([sys.executable, "-c", COMMAND, str(place.notebooks), *arguments], **options)


class Forked:
    """The command in a fork of this process: all is imported already, so a sweep begins at once."""

    def __init__(self, place, *arguments):
        self.pipes = [os.pipe() for _ in ("out", "err")]  # which hold more than a sweep says
        context = multiprocessing.get_context("fork")
        self.process = context.Process(target=self._main, args=(place, arguments))
        self.process.start()
        for _, write in self.pipes:
            os.close(write)

    def _main(self, place, arguments):
        os.setsid()
        sys.stdout, sys.stderr = (open(write, "w") for _, write in self.pipes)
        paths.notebooks = lambda: place.notebooks
        code = cli.main(list(arguments))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)

    def wait(self, seconds=300):
        """The exit code; None if it still runs after so many seconds."""
        self.process.join(seconds)
        return self.process.exitcode

    def kill(self):
        self.process.kill()
        return self.wait()

    def said(self):
        """What it wrote to standard output and to standard error, once it has ended."""
        texts = []
        for read, _ in self.pipes:
            with open(read) as pipe:
                texts.append(pipe.read())
        return tuple(texts)


def finished(place):
    """Content and time of every record: what must never change again."""
    files = (place.folder / "results" / PRESET / "runs").glob("*/*")
    return {f"{p.parent.name}/{p.name}": (p.read_bytes(), p.stat().st_mtime_ns) for p in files}


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.05)
    return value


def processes_in(folder):
    """Units and kernels of a test: processes whose environment names its folder, except this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("STUB", "").startswith(str(folder)):
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        except (psutil.Error, OSError):
            continue
    return found
