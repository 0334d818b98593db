"""Which device, precision and computation path a run takes on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from mnistmp.fast import kernels


@contextlib.contextmanager
def fixed_settings() -> Iterator[None]:
    """What a process may set torch to and what changes a result, as every run has it; afterwards as before."""
    cuda, cudnn, mkldnn = torch.backends.cuda, torch.backends.cudnn, torch.backends.mkldnn
    # cuDNN would otherwise choose convolutions by timing them, or take some that add up in no fixed order.
    settings = [(mkldnn, "enabled", True), (cudnn, "enabled", True), (cudnn, "benchmark", False),
                (cudnn, "deterministic", True)]  # fmt: skip
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if hasattr(mkldnn, "conv"):
            settings += [(part, "fp32_precision", "ieee") for part in (mkldnn.matmul, mkldnn.conv, cuda.matmul)]
            settings += [(cudnn.conv, "fp32_precision", "tf32")]
        else:  # torch before 2.9
            settings += [(cudnn, "allow_tf32", True)]
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("highest")
        for owner, name, value in settings:
            stack.callback(setattr, owner, name, getattr(owner, name))
            setattr(owner, name, value)
        for device in ("cpu", "cuda", "mps"):
            stack.enter_context(torch.autocast(device, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # entering it costs time at every operation
            stack.enter_context(torch.device("cpu"))
        yield


def pick_device(device: str | torch.device | None = None) -> torch.device:
    """The device asked for, else a GPU if there is one, else the CPU."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def path_name(device: torch.device) -> str:
    """Name of the computation path without a GPU graph, part of the record: results are bit-equal only within one."""
    return f"cpu-{kernels.in_use()}" if device.type == "cpu" else f"{device.type}-eager"


def native_bfloat16(device: str | torch.device | None = None) -> bool:
    """Whether the device multiplies bfloat16 in hardware; where it does not, float32 is faster."""
    device = pick_device(device)
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16") or torch.cpu.get_capabilities().get("avx512_bf16"))
