"""Where a result comes from: versions, machine and code, as flat names and values."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from mnistmp import paths

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "mnistmp")

# Parts of the package that show, plan or keep results without deciding them. All others, new ones
# included, count in code_version: better a version too many than a change unnoticed.
_NOT_DECIDING = {
    "__init__", "__main__", "ablation", "attempts", "batch", "calibration", "claims", "cli", "cluster", "dataset",
    "doctor", "environment", "figures", "files", "interactive", "intervals", "latent", "notebooks", "paths",
    "planning", "progress", "protocol", "readings", "records", "report", "reproduce", "runfile", "runrecord",
    "search", "selection", "site", "study", "unit", "verbs", "weights",
}  # fmt: skip


def environment(device: str | torch.device, precision: str, path: str) -> dict[str, str | int | bool]:
    """What a record keeps about its origin, without host name, user or folder.

    Args:
        device: where it is trained, such as "cpu" or "cuda:0".
        precision: "float32" or "bfloat16".
        path: name of the code path that trains, such as "reference".

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
        **_git(),
    }


def device_name(device: str | torch.device) -> str:
    """Name of the processor or GPU behind a torch device."""
    device = torch.device(device)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


@lru_cache(maxsize=1)  # of the code as it was when first asked: what is imported does not change later
def code_version() -> str:
    """12 hexadecimal digits over the package's source files that decide a result, line ends normalised."""
    package = Path(__file__).resolve().parent
    files = {file.relative_to(package).as_posix(): file for file in package.rglob("*.py")}
    digest = hashlib.sha256()
    for name in sorted(name for name in files if name.partition("/")[0].removesuffix(".py") not in _NOT_DECIDING):
        content = files[name].read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{name} {len(content)}\n".encode() + content)
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
        return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


@lru_cache(maxsize=1)
def _git() -> dict[str, str | bool]:
    root = paths.checkout()
    if root is None or not (root / ".git").exists():
        return {}
    commit = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if not commit:
        return {}
    changes = _output("git", "-C", str(root), "status", "--porcelain", "--", "mnistmp")
    return {"git_commit": commit} if changes is None else {"git_commit": commit, "git_dirty": bool(changes)}


def _output(*command: str) -> str | None:
    try:
        # GIT_OPTIONAL_LOCKS: never be in the way of a commit that runs at the same time.
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False,
                                env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"})  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
