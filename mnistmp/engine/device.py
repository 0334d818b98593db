"""Which device, precision and computation path a run takes on this machine."""

from __future__ import annotations

import os

import torch

from mnistmp import paper, records
from mnistmp.fast import kernels
from mnistmp.spec import SpecError


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def path_name(device: torch.device) -> str:
    """Name of the computation path without a GPU graph, part of the record: results are bit-equal only within one."""
    if device.type != "cpu":
        return f"{device.type}-eager"
    return f"cpu-{kernels.in_use()}"


def native_bfloat16(device: str | torch.device | None = None) -> bool:
    """Whether the device multiplies bfloat16 in hardware; where it does not, float32 is faster."""
    device = pick_device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16") or torch.cpu.get_capabilities().get("avx512_bf16"))


def fastest_precision(device: str | torch.device | None = None) -> str:
    """ "bfloat16" where the device multiplies it natively, else "float32"."""
    return "bfloat16" if native_bfloat16(device) else "float32"


def resolve_precision(preset_name: str, requested: str | None = None) -> str:
    """The precision to run a preset at: as asked, here or by MNISTMP_PRECISION, else the preset's own.

    "auto" goes on with the precision of the records that are there; on a fresh start it is
    bfloat16 where the device multiplies it natively, else float32.

    Raises:
        SpecError: another precision than that of the preset's records is asked for.
    """
    recorded = set(records.load(preset_name)["precision"])
    requested = requested or os.environ.get("MNISTMP_PRECISION")  # set for the notebooks of a batch
    if requested and recorded - {requested}:
        raise SpecError(
            f"results/{preset_name} holds {', '.join(sorted(recorded))} records, and {requested} is asked for; one "
            f"table takes one precision, so leave --precision out or set MNISTMP_RESULTS to another folder."
        )
    return precision_beside(recorded, preset_name, requested)


def precision_beside(recorded: set[str], preset_name: str, requested: str | None = None) -> str:
    """`resolve_precision` where the precisions of the preset's records are known; that they fit is not checked."""
    requested = requested or os.environ.get("MNISTMP_PRECISION")  # set for the notebooks of a batch
    wanted = requested or paper.preset(preset_name).precision
    if wanted != "auto":
        return wanted
    if len(recorded) == 1:
        return next(iter(recorded))
    return fastest_precision()


def worker_environment() -> dict[str, str]:
    """Environment variables under which a training process on a CPU runs best.

    One thread each: two processes of one thread do more than one process of two. glibc's
    allocator keeps what it has instead of returning it to the system after each step (page
    faults cost a tenth of the time), and asks for huge pages. Other systems ignore these.
    """
    threads = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    malloc = "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=68719476736:glibc.malloc.hugetlb=1"
    return {**threads, "GLIBC_TUNABLES": malloc}
