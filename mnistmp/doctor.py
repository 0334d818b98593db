"""`mnistmp doctor`: can this machine run it? What was found, line by line, and what to do where it is not well.

Importing a broken torch, torchvision or numba can end a process without any exception. So the checks run in another
process, `python -m mnistmp.doctor NAME ...`; where one ends it, that is its finding, and the others go on in a new one.
Nothing is downloaded.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from mnistmp import paths
from mnistmp.errors import first_line

PATIENCE = 180  # seconds that a process may take for importing torch, compiling and starting a kernel on a busy machine
ROOM = {"error": 50e6, "warning": 500e6}  # bytes; a preset's records, notebooks and figures take tens of MB
MEMORY = 1.5e9  # bytes that a run on MNIST takes at most
SETUP = "install as in requirements.lock: make setup, or pip install -r requirements.lock"
MARK = "mnistmp finding: "  # before each line of a check's process, since libraries print, too


@dataclass(frozen=True)
class Finding:
    """A line of `mnistmp doctor`.

    Attributes:
        name: of the check.
        level: "ok"; "warning" where something works less well, or is not there yet; "error".
        text: what was found.
        remedy: what to do about it; "" where all is well.
    """

    name: str
    level: str
    text: str
    remedy: str = ""


def doctor(as_json: bool = False) -> int:
    """Print all findings; 1 if there is an error among them, else 0."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            print(f"{finding.level:8} {finding.name}: {finding.text}", flush=True)
            if finding.remedy:
                print(f"{'':8} -> {finding.remedy}", flush=True)
    errors, warnings = (sum(finding.level == level for finding in findings) for level in ("error", "warning"))
    if as_json:
        print(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in findings]}, indent=1))
    else:
        can = "cannot run all of" if errors else "can run"
        print(f"This machine {can} mnistmp; errors: {errors}, warnings: {warnings}.")
    return 1 if errors else 0


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first; without a working torch, none of what needs it."""
    left = list(CHECKS)
    while left:
        for finding in _process(list(left)):
            left.remove(finding.name)
            yield finding
            if (finding.name, finding.level) == ("torch", "error"):
                return


def _process(names: list[str]) -> Iterator[Finding]:
    """What a process finds by these checks, up to the one that ends it."""
    command = [sys.executable, "-m", "mnistmp.doctor", *names]
    environment = {**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"}  # the kernel that a sweep starts
    found, reason = 0, "no message"
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace"
    ) as process:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith(MARK):
                    yield Finding(**json.loads(line.removeprefix(MARK)))
                    found += 1
                else:
                    reason = line.strip()[:300] or reason
            code = process.wait()
            if found < len(names):
                how = signal.Signals(-code).name if code < 0 else f"code {code}: {reason}"
                text = f"trying it ended the process ({how})" if timer.is_alive() else f"no answer within {PATIENCE} s"
                yield Finding(names[found], "error", text, SETUP)
        finally:
            timer.cancel()
            process.kill()


# ---- the checks: each returns its level, what was found, and what to do about it ----

Found = tuple[str, str, str]


def python() -> Found:
    return "ok", f"{platform.python_version()} in {sys.prefix}", ""


def packages() -> Found:
    """What mnistmp asks for, and how what is installed differs from the lock."""
    asked = metadata.requires("mnistmp") or []
    if wrong := _differing(asked):
        return "error", f"mnistmp needs {', '.join(wrong)}", SETUP
    lock = (paths.checkout() or Path.cwd()) / "requirements.lock"
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.is_file() else []
    if other := _differing([line for line in lines if line and not line.startswith("#")]):
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        text = f"not as in requirements.lock: {', '.join(other[:5])}{more}; results may differ in their last digits"
        return "warning", text, SETUP
    return "ok", "as in requirements.lock" if lines else "all that mnistmp asks for", ""


def _differing(requirements: list[str]) -> list[str]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    here = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    found = []
    for one in map(Requirement, requirements):
        version = here.get(canonicalize_name(one.name))
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            if version is None or not one.specifier.contains(version, prereleases=True):
                found.append(f"{one.name}{one.specifier} (here {version or 'none'})")
    return found


def notebooks() -> Found:
    folder = paths.notebooks()
    found = len(list(folder.glob("[0-9][0-9]_*.ipynb")))
    if found:
        return "ok", f"{found} in {folder}", ""
    remedy = "clone the project and pip install --no-deps -e . there; mnistmp run needs none"
    return "warning", f"none in {folder}", remedy


def _writable(folder: Path, variable: str) -> Found:
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=there) as file:  # permissions alone do not tell, and a full disk shows here
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        text = f"{folder} cannot be written ({error.strerror or error})"
        return "error", text, f"repair or empty it, or set {variable} to another folder"
    free = shutil.disk_usage(there).free
    level = next((level for level, needed in ROOM.items() if free < needed), "ok")
    remedy = "" if level == "ok" else f"free some space, or set {variable} to a folder on another disk"
    return level, f"{folder} can be written, {free / 1e9:.2f} GB free", remedy


def memory() -> Found:
    """Whether there is enough for as many runs at a time as there are processors."""
    import psutil
    from joblib import cpu_count

    jobs = cpu_count()
    free = psutil.virtual_memory().available
    text = f"{free / 1e9:.1f} GB free for {jobs} runs at a time, which take up to {MEMORY / 1e9:.1f} GB each"
    if free < MEMORY * jobs:
        return "warning", text, f"add --jobs {max(1, int(free / MEMORY))}"
    return "ok", text, ""


def kernel() -> Found:
    """Start the notebooks' kernel as a sweep would, and see in which Python it runs."""
    from jupyter_client.manager import run_kernel

    remedy = "python -m ipykernel install --sys-prefix --name python3, with this Python"
    said: list[str] = []
    try:
        with run_kernel(kernel_name="python3", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as client:
            client.execute_interactive(
                "import sys; print(sys.prefix)",
                output_hook=lambda message: said.append(message["content"].get("text", "")),
            )
    except Exception as error:  # there is none, or one of a Python that is gone
        return "error", f"does not start ({first_line(error)})", remedy
    prefix = "".join(said).strip()
    if Path(prefix).resolve() != Path(sys.prefix).resolve():
        return "error", f"runs in {prefix}, and mnistmp in {sys.prefix}", remedy
    return "ok", "starts and answers, in this Python", ""


def torch_() -> Found:
    import torch

    torch.ones(8, 8) @ torch.ones(8, 8)
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return "ok", f"{torch.__version__} for {built}, imports and multiplies", ""


def torchvision() -> Found:
    import torch
    import torchvision

    # Its compiled operators are what a torch of another version breaks.
    torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    return "ok", f"{torchvision.__version__} works with torch {torch.__version__}", ""


def kernels() -> Found:
    from mnistmp.fast import kernels

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        used = kernels.in_use()
    if said:  # no numba, or a cache that cannot be used
        return "warning", str(said[0].message), "" if used == "numba" else f"unset NUMBA_DISABLE_JIT, or {SETUP}"
    if used != "numba":
        return "warning", f"switched to {used} by MNISTMP_KERNELS: runs take longer", "unset MNISTMP_KERNELS"
    return "ok", f"compiled by numba {metadata.version('numba')}", ""


def git() -> Found:
    from mnistmp.records import provenance

    if reason := provenance.unnamed_commit():
        remedy = f"where it belongs to another user: git config --global --add safe.directory '{paths.checkout()}'"
        return "warning", f"records will not name the commit of this checkout ({reason})", remedy
    return "ok", "records name the commit, where there is one", ""


def gpu() -> Found:
    import torch

    if torch.cuda.is_available():
        try:
            float(torch.ones(8, 8, device="cuda").sum())
        except RuntimeError as error:
            return "error", first_line(error), "hide it with CUDA_VISIBLE_DEVICES= (empty), or repair its driver"
        return "ok", f"{torch.cuda.get_device_name(0)}, the first of {torch.cuda.device_count()}, takes the runs", ""
    if os.path.exists("/proc/driver/nvidia/version"):
        reason = "torch cannot use it" if torch.version.cuda else "this torch was built without CUDA"
        remedy = "install a torch that fits the driver (https://pytorch.org/get-started)"
        return "warning", f"a driver is there and {reason}; runs take the processor", remedy
    return "ok", "none; runs take the processor", ""


def precision() -> Found:
    from mnistmp.engine import device

    if device.native_bfloat16():
        return "ok", "bfloat16 in hardware", ""
    remedy = "take a machine with AVX512-BF16, AMX or a recent GPU, or --precision float32 --results FOLDER of its own"
    return "warning", "bfloat16 is emulated here, so preset paper takes much longer", remedy


def mnist() -> Found:
    from mnistmp import data

    try:
        digits = data.load("mnist", download=False)
    except data.DataError as error:
        text, _, remedy = str(error).rpartition(": ")
        missing = isinstance(error.__cause__, FileNotFoundError)
        return "warning" if missing else "error", text, remedy.rstrip(".")
    return "ok", f"{len(digits.train_labels) + len(digits.test_labels):,} digits, verified, in {data.data_root()}", ""


CHECKS: dict[str, Callable[[], Found]] = {
    "Python": python, "packages": packages, "notebooks": notebooks,
    "results": lambda: _writable(paths.results(), "MNISTMP_RESULTS"),
    "figures": lambda: _writable(paths.figures(), "MNISTMP_FIGURES"),
    "memory": memory, "kernel python3": kernel, "torch": torch_, "torchvision": torchvision,
    "git": git, "compiled kernels": kernels, "GPU": gpu, "precision": precision, "MNIST": mnist,
}  # fmt: skip

if __name__ == "__main__":
    for name in sys.argv[1:]:
        try:
            level, text, remedy = CHECKS[name]()
        except Exception as error:
            text = f"{type(error).__name__}: {first_line(error)}"
            level, remedy = "error", "" if isinstance(error, ValueError) else SETUP  # ours say what to do
        print(MARK + json.dumps({"name": name, "level": level, "text": text, "remedy": remedy}), flush=True)
