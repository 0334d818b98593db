"""Optional compiled pieces for the CPU: pooling with ReLU, and the weight update.

Where numba is installed (`pip install mnistmp[fast]`) these replace the two places in which
PyTorch's own operators spend memory traffic rather than arithmetic. They compute the same
function; plain PyTorch is the fallback and what they are tested against. MNISTMP_KERNELS=off
switches them off. A record names the path it was computed on.

Values are compared as integers: the bit patterns of non-negative floats, bfloat16 or float32,
sort like the floats themselves, and every negative float is a negative integer.
"""

from __future__ import annotations

import functools
import os

import torch

_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


@functools.cache
def available() -> bool:
    """Whether the compiled pieces can be used in this process."""
    if os.environ.get("MNISTMP_KERNELS", "on") == "off":
        return False
    try:
        _compiled()
    except Exception:  # numba is missing, or cannot compile for this machine: plain PyTorch serves
        return False
    return True


def pool_relu_fits(maps: torch.Tensor) -> bool:
    """Whether `pool_relu` takes this tensor: on the CPU, channels-last, bfloat16 or float32, even sides."""
    return (
        maps.device.type == "cpu"
        and maps.dtype in _BITS
        and maps.shape[2] % 2 == 0
        and maps.shape[3] % 2 == 0
        and maps.is_contiguous(memory_format=torch.channels_last)
        and available()
    )


def pool_relu(maps: torch.Tensor) -> torch.Tensor:
    """relu(max_pool2d(maps, 2)) of (N, C, H, W) for which `pool_relu_fits`. A tie's gradient goes to the first."""
    return _PoolReLU.apply(maps)


class _PoolReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx, maps):
        count, channels, height, width = maps.shape
        shape = (count, height // 2, width // 2, channels)
        pooled = torch.empty(shape, dtype=maps.dtype)
        winner = torch.empty(shape, dtype=torch.uint8)  # 0 to 3, or 4 where ReLU gives zero
        _compiled().pool_forward(_bits(maps.permute(0, 2, 3, 1)), _bits(pooled), winner.numpy())
        ctx.save_for_backward(winner)
        ctx.maps_shape = maps.shape
        return pooled.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, gradient):
        (winner,) = ctx.saved_tensors
        count, channels, height, width = ctx.maps_shape
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        spread = torch.empty((count, height, width, channels), dtype=gradient.dtype)
        _compiled().pool_backward(_bits(gradient), winner.numpy(), _bits(spread))
        return spread.permute(0, 3, 1, 2)


def update(gradient, weight, momentum, working, learning_rate: float, decay: float, weight_decay: float) -> None:
    """One Nesterov step of a weight in one pass over memory, in place.

    Args:
        gradient, working: bfloat16, contiguous in the same order as `weight`; working is overwritten.
        weight, momentum: float32, updated.
        decay: the momentum's factor.
    """
    _compiled().update(
        _bits(gradient), _flat(weight), _bits_flat(weight), _flat(momentum), _bits(working),
        learning_rate, decay, weight_decay,
    )  # fmt: skip


def _bits(tensor):
    return tensor.detach().view(_BITS[tensor.dtype]).numpy()


def _flat(tensor):
    return tensor.detach().numpy()


def _bits_flat(tensor):
    return tensor.detach().view(torch.int32).numpy()


@functools.cache
def _compiled():
    from mnistmp import _numba_kernels

    return _numba_kernels
