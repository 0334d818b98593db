"""Where a result comes from: versions, machine and code, as flat names and values."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mnistmp import own, paths

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "mnistmp")

# What decides a run's numbers. Everything else shows, plans or keeps results.
_DECIDING = ("data", "engine", "fast", "losses", "methods", "network", "spec")


def environment(device: str | torch.device, precision: str, path: str) -> dict[str, str | int | bool]:
    """What a record keeps about its origin, without host name, user or folder.

    Args:
        device: where it is trained, such as "cpu" or "cuda:0".
        precision: "float32" or "bfloat16".
        path: name of the code path that trains, such as "cpu-numba", "cpu-torch" or "cuda-eager".

    Returns:
        "python" and one entry per package of PACKAGES, platform, device (name of the processor
        or GPU), threads, deterministic, precision, path, code_version (see there) and,
        in a git checkout, git_commit and git_dirty (mnistmp/ differs from that commit).
    """
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in PACKAGES},
        "platform": _platform(),
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": precision,
        "path": path,
        "code_version": code_version(),
        **_git()[0],
    }


def device_name(device: str | torch.device) -> str:
    """Name of the processor or GPU behind a torch device."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


@lru_cache(maxsize=1)  # of the code as it was when first asked: what is imported does not change later
def code_version() -> str:
    """12 hexadecimal digits over the source files that decide a result, `own.files` too, line ends normalised."""
    package = Path(__file__).resolve().parent.parent
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(name for name in files if name.partition("/")[0].removesuffix(".py") in _DECIDING):
        content = files[name].read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(content)}\n".encode() + content)
    for path in filter(Path.is_file, own.files()):
        digest.update(path.read_bytes().replace(b"\r\n", b"\n"))
    return digest.hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # used from a folder, never installed
        return getattr(sys.modules.get(package), "__version__", "unknown")


def _platform() -> str:
    # The kernel's release says nothing about results and often names the machine's owner.
    return "-".join(part for part in (platform.system(), platform.machine(), "".join(platform.libc_ver())) if part)


@lru_cache(maxsize=1)
def _processor() -> str:
    if sys.platform == "darwin":
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            if name := _run("sysctl", "-n", "machdep.cpu.brand_string"):
                return name
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def unnamed_commit() -> str:
    """Why records do not name the commit of this checkout, in git's words; "" where they do, or where there is none."""
    return _git()[1]


@lru_cache(maxsize=1)
def _git() -> tuple[dict[str, str | bool], str]:
    """What records name of this checkout, and why it is nothing."""
    root, named = paths.checkout(), {}
    if root is None or not (root / ".git").exists():
        return named, ""
    try:
        # Variables that name a repository, as git sets them for a hook: another one than this checkout's, perhaps.
        foreign = _run("git", "rev-parse", "--local-env-vars").split()
        # GIT_OPTIONAL_LOCKS: never be in the way of a commit that runs at the same time.
        environment = {name: value for name, value in os.environ.items() if name not in foreign}
        environment["GIT_OPTIONAL_LOCKS"] = "0"
        named["git_commit"] = _run("git", "-C", str(root), "rev-parse", "HEAD", env=environment)
        changes = _run("git", "-C", str(root), "status", "--porcelain", "--", "mnistmp", env=environment)
        named["git_dirty"] = bool(changes)
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip()
        return named, "" if named else said.splitlines()[0]
    return named, ""


def _run(*command: str, env: dict[str, str] | None = None) -> str:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True, env=env)
    return result.stdout.strip()
