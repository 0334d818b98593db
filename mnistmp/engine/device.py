"""Which device, precision and computation path a run takes on this machine."""

from __future__ import annotations

import torch

from mnistmp.fast import kernels


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
