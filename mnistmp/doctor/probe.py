"""What `mnistmp doctor` learns from torch, in a process of its own: `python -m mnistmp.doctor.probe`.

Importing a broken torch, torchvision or numba can end a process without any exception. So each
step says on standard output that it begins, and then, as one line of JSON, what it found; a step
that begins and says no more is the one that ended the process.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib.metadata import requires, version

Found = tuple[str, str, str]  # "ok", "warning" or "error"; what was found; what to do about it

REINSTALL = "install torch and torchvision as in requirements.lock: make setup, or pip install -r requirements.lock"


def main() -> int:
    """Take all steps; 0 also when some of them fail."""
    for name, step in STEPS:
        print(json.dumps({"begins": name}), flush=True)
        try:
            level, text, remedy = step()
        except Exception as error:
            reason = (str(error).strip() or "no message").splitlines()[0][:300]
            level, text, remedy = "error", f"{type(error).__name__}: {reason}", REMEDIES.get(name, REINSTALL)
        print(json.dumps({"name": name, "level": level, "text": text, "remedy": remedy}), flush=True)
        if (name, level) == ("torch", "error"):
            return 0  # all that follows needs it
    return 0


def _torch() -> Found:
    import torch

    torch.ones(8, 8) @ torch.ones(8, 8)
    built = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return "ok", f"{torch.__version__} for {built}, imports and multiplies", ""


def _torchvision() -> Found:
    import torch

    have = f"{version('torchvision')} beside torch {version('torch')}"
    try:
        import torchvision

        # Its compiled operators are what a torch of another version breaks.
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return "error", f"{have} do not work together ({first})", REINSTALL
    wanted = _requirement("torchvision", "torch")
    if wanted and not wanted.contains(version("torch"), prereleases=True):
        return "error", f"{have}, and it asks for torch {wanted}", REINSTALL
    return "ok", f"{have}, a pair that works", ""


def _requirement(package: str, of: str):
    from packaging.requirements import Requirement

    for requirement in map(Requirement, requires(package) or []):
        if requirement.name == of and requirement.marker is None:
            return requirement.specifier
    return None


def _kernels() -> Found:
    from mnistmp.fast import kernels

    wish, used = os.environ.get("MNISTMP_KERNELS"), kernels.in_use()
    if used == "numba":
        return "ok", f"compiled by numba {version('numba')}", ""
    if wish in ("torch", "off"):
        return "warning", f"switched off by MNISTMP_KERNELS={wish}: trainings take longer", "unset MNISTMP_KERNELS"
    if importlib.util.find_spec("numba") is None:
        return "warning", "none, since numba is not installed: trainings take longer", "pip install 'mnistmp[fast]'"
    text = f"none, since numba {version('numba')} does not compile here: trainings take longer"
    return "warning", text, "install the numba of requirements.lock again"


def _gpu() -> Found:
    import torch

    if torch.cuda.is_available():
        float(torch.ones(8, 8, device="cuda").sum())
        names = [torch.cuda.get_device_name(place) for place in range(torch.cuda.device_count())]
        return "ok", f"{', '.join(names)}; trainings take the first", ""
    if os.path.exists("/proc/driver/nvidia/version"):
        reason = "torch cannot use it" if torch.version.cuda else "this torch was built without CUDA"
        remedy = "install a torch that fits the driver (https://pytorch.org/get-started)"
        return "warning", f"a driver is there and {reason}; trainings take the processor", remedy
    return "ok", "none; trainings take the processor", ""


def _precision() -> Found:
    import torch

    from mnistmp import paper
    from mnistmp.engine import device

    chosen = {name: paper.precision(name) for name in paper.PRESETS}
    text = ", ".join(f"{name} {precision}" for name, precision in chosen.items())
    if torch.cuda.is_available():
        features = ["GPU"]
    else:
        features = [torch.backends.cpu.get_cpu_capability()]
        features += [name for name in ("avx512_bf16", "amx_bf16") if torch.cpu.get_capabilities().get(name)]
    text += f" ({', '.join(features)})"
    if device.native_bfloat16() or "bfloat16" not in chosen.values():
        return "ok", text, ""
    emulated = " and ".join(name for name, precision in chosen.items() if precision == "bfloat16")
    remedy = "take a machine with AVX512-BF16, AMX or a recent GPU, or --precision float32 --results FOLDER of its own"
    return "warning", f"{text}; bfloat16 is emulated here, so {emulated} takes much longer", remedy


def _digits() -> Found:
    from mnistmp import data

    digits = data.load("digits")
    return "ok", f"scikit-learn's {len(digits.train_labels) + len(digits.test_labels):,}, verified", ""


def _mnist() -> Found:
    from mnistmp import data

    raw = data.data_root() / "MNIST" / "raw"
    by = "MNISTMP_DATA" if os.environ.get("MNISTMP_DATA") else "the user's cache; MNISTMP_DATA is not set"
    lacking = [name for name in data.MNIST_SHA256 if not (raw / name).exists()]
    if lacking:
        remedy = "mnistmp data downloads it; or set MNISTMP_DATA to a folder with MNIST/raw, or take preset digits"
        what = "not there" if len(lacking) == len(data.MNIST_SHA256) else f"incomplete, without {', '.join(lacking)}"
        return "warning", f"{what}: looked in {raw} ({by})", remedy
    try:
        digits = data.load("mnist", download=False)
    except data.DataError as error:
        text, _, remedy = str(error).rpartition(": ")
        return "error", f"{text} (by {by})", remedy.rstrip(".")
    return "ok", f"{len(digits.train_labels) + len(digits.test_labels):,} digits, verified, in {raw} ({by})", ""


STEPS: list[tuple[str, Callable[[], Found]]] = [
    ("torch", _torch), ("torchvision", _torchvision), ("compiled pieces", _kernels), ("GPU", _gpu),
    ("precision", _precision), ("digits", _digits), ("MNIST", _mnist),
]  # fmt: skip

REMEDIES = {
    "GPU": "hide it with CUDA_VISIBLE_DEVICES= (empty), or repair its driver",
    "precision": "mnistmp status --preset NAME lists records that cannot be used",
    "MNIST": "set MNISTMP_DATA to a folder that can be read",
}

if __name__ == "__main__":
    sys.exit(main())
