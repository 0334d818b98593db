"""What is installed: Python, packages, notebooks, their kernel, and what torch itself says."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from mnistmp import paths
from mnistmp.doctor.finding import Finding

PATIENCE = 180  # seconds that importing torch and compiling may take on a busy machine
KERNEL_PATIENCE = 60
SETUP = "make setup, or pip install -r requirements.lock"


def python() -> Finding:
    text = f"{platform.python_version()} in {sys.prefix}"
    if sys.version_info < (3, 10):
        return Finding("Python", "error", f"{text} is too old", "install Python 3.10 or newer and run make setup")
    return Finding("Python", "ok", text)


# ---- packages ----


def packages() -> Iterator[Finding]:
    """What mnistmp asks for, and how what is installed differs from the lock."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        yield Finding("packages", "error", "packaging is not installed, and most likely others are not", SETUP)
        return
    try:
        asked = [Requirement(line) for line in metadata.requires("mnistmp") or []]
    except metadata.PackageNotFoundError:
        yield Finding("packages", "warning", "mnistmp itself is not installed", "pip install --no-deps -e .")
        asked = []
    needed = [one for one in asked if not one.marker or one.marker.evaluate({"extra": ""})]
    wrong = [_shown(one) for one in needed if not _satisfied(one)]
    if wrong:
        yield Finding("packages", "error", f"mnistmp needs {', '.join(wrong)}", SETUP)
    lock = (paths.checkout() or Path.cwd()) / "requirements.lock"
    if not lock.is_file():
        return
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pins = [pin for pin in map(Requirement, lines) if not pin.marker or pin.marker.evaluate()]
    other = [_shown(pin) for pin in pins if not _satisfied(pin)]
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        text = f"{len(other)} of {len(pins)} are not as in requirements.lock: {', '.join(other[:5])}{more}"
        yield Finding("packages", "warning", f"{text}; results may differ in their last digits", SETUP)
    elif not wrong:
        yield Finding("packages", "ok", f"all {len(pins)} as in requirements.lock")


def _satisfied(requirement) -> bool:
    return requirement.specifier.contains(_installed(requirement.name) or "0", prereleases=True)


def _shown(requirement) -> str:
    return f"{requirement.name}{requirement.specifier} (here {_installed(requirement.name) or 'none'})"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


# ---- notebooks and their kernel ----


def notebooks() -> Finding:
    folder = paths.notebooks()
    found = len(list(folder.glob("[0-9][0-9]_*.ipynb")))
    if found:
        return Finding("notebooks", "ok", f"{found} in {folder}")
    remedy = "clone the project and pip install --no-deps -e . there; mnistmp run needs none"
    return Finding("notebooks", "warning", f"none in {folder}", remedy)


def kernel() -> Finding:
    """Start the notebooks' kernel as a batch would, and see in which Python it runs."""
    name, remedy = "kernel python3", "python -m ipykernel install --sys-prefix, with this Python"
    try:
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
        from jupyter_client.manager import start_new_kernel
    except Exception as error:
        return Finding(name, "error", f"Jupyter cannot be imported ({error})", f"{SETUP}; mnistmp run needs none")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # as in a batch
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        place = KernelSpecManager().get_kernel_spec("python3").resource_dir
        manager, client = start_new_kernel(kernel_name="python3", startup_timeout=KERNEL_PATIENCE, **quiet)
    except NoSuchKernel:
        return Finding(name, "error", "there is none", remedy)
    except Exception as error:
        text = f"the one in {place} does not start ({_first_line(error)})"
        return Finding(name, "error", text, f"delete it; {remedy}")
    said: list[str] = []
    try:
        client.execute_interactive(
            "import sys; print(sys.prefix)", timeout=KERNEL_PATIENCE,
            output_hook=lambda message: said.append(message["content"].get("text", "")),
        )  # fmt: skip
    except Exception as error:
        return Finding(name, "error", f"the one in {place} does not answer ({_first_line(error)})", remedy)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    prefix = "".join(said).strip()
    if Path(prefix).resolve() != Path(sys.prefix).resolve():
        text = f"the one in {place} runs in {prefix}, and mnistmp in {sys.prefix}"
        return Finding(name, "error", text, f"delete it; {remedy}")
    return Finding(name, "ok", "starts and answers, in this Python")


# ---- torch and what needs it ----


def probed() -> Iterator[Finding]:
    """What `probe.py` found, and where its process ended early."""
    root = str(Path(__file__).resolve().parents[2])
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-m", "mnistmp.doctor.probe"]
    process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, errors="replace")
    try:
        out, err = process.communicate(timeout=PATIENCE)
        reason = _end(process.returncode, err)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        reason = f"no answer within {PATIENCE} s"
    begun = "torch"
    for line in out.splitlines():
        try:
            values = json.loads(line)
            if "begins" in values:
                begun = values["begins"]
            else:
                yield Finding(**values)
                begun = ""
        except (ValueError, TypeError):  # printed by a library
            continue
    if reason:
        remedy = f"install it again: {SETUP}; what needs it was not looked at"
        yield Finding(begun or "torch", "error", reason, remedy)


def _end(code: int, err: str) -> str:
    if code == 0:
        return ""
    try:
        return f"trying it ended the process ({signal.Signals(-code).name})"
    except ValueError:
        last = (err.strip().splitlines() or ["no message"])[-1]
        return f"trying it ended the process with code {code}: {last[:300]}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
