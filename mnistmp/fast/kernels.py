"""Shortcuts for the CPU: the same functions as torch's operators, computed with less memory traffic.

MNISTMP_KERNELS chooses: "on", the default, takes all of them, of which numba compiles some; "torch"
takes those that need no numba, as does "on" where numba cannot compile for this machine; "off"
leaves everything to torch's own operators, which all of this is tested against. A record names
what it was computed with. None of the shortcuts can be differentiated twice; trying to raises an error.

bfloat16 and float32 are compared as integers: the bit patterns of non-negative floats sort like
the floats themselves, and every negative float is a negative integer. So is a NaN with its sign
bit set, which is why `optimizer.SGD.finite` looks for NaN among the weights.
"""

from __future__ import annotations

import functools
import os
import warnings

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from mnistmp.errors import check_choice, first_line

_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}


@functools.cache
def in_use() -> str:
    """Which shortcuts this process takes: "numba", "torch" or "off"."""
    wish = os.environ.get("MNISTMP_KERNELS", "on")
    check_choice("MNISTMP_KERNELS", wish, ("on", "torch", "off"))
    if wish != "on":
        return wish
    try:
        import numba

        if not numba.config.DISABLE_JIT:
            _compiled()
            return "numba"
        reason = "NUMBA_DISABLE_JIT is set"
    except Exception as error:  # numba is missing, or cannot compile for this machine
        reason = f"numba does not compile here ({first_line(error)})"
    warnings.warn(f"The kernels of mnistmp are torch's, which take longer: {reason}.", stacklevel=2)
    return "torch"


class PoolReLU(torch.autograd.Function):
    """relu(max_pool2d(maps, 2)) of (N, C, H, W) on the CPU; a tie's gradient goes to the first. Saves 10 of 50 ms."""

    @staticmethod
    def forward(ctx, maps):
        maps = maps.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = maps.shape
        shape = (count, height // 2, width // 2, channels)
        pooled = torch.empty(shape, dtype=maps.dtype, device=maps.device)
        winner = torch.empty(shape, dtype=torch.uint8, device=maps.device)  # 0 to 3, or 4 where ReLU gives zero
        _compiled().pool_forward(_bits(maps.permute(0, 2, 3, 1)), _bits(pooled), winner.numpy())
        ctx.save_for_backward(winner)
        ctx.maps_shape = maps.shape
        return pooled.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (winner,) = ctx.saved_tensors
        count, channels, height, width = ctx.maps_shape
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        empty = torch.zeros if height % 2 or width % 2 else torch.empty  # pooling leaves an odd row or column out
        spread = empty((count, height, width, channels), dtype=gradient.dtype, device=gradient.device)
        _compiled().pool_backward(_bits(gradient), winner.numpy(), _bits(spread))
        return spread.permute(0, 3, 1, 2)


class Convolution(torch.autograd.Function):
    """`F.conv2d` or `F.conv_transpose2d` of stride 1 without padding, square kernels.

    The weights' gradient comes from matrix products, which pays in bfloat16 with many channels:
    2 of 38 ms per step, twice that with the decoder.
    """

    @staticmethod
    def forward(ctx, maps, weight, bias, transposed):
        ctx.save_for_backward(maps, weight)
        ctx.transposed = transposed
        return (F.conv_transpose2d if transposed else F.conv2d)(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        maps, weight = ctx.saved_tensors
        maps, gradient = (t.contiguous(memory_format=torch.channels_last) for t in (maps, gradient))
        for_maps = for_weight = for_bias = None
        if ctx.needs_input_grad[0]:
            for_maps = (F.conv2d if ctx.transposed else F.conv_transpose2d)(gradient, weight)
        if ctx.needs_input_grad[1]:
            larger, smaller = (gradient, maps) if ctx.transposed else (maps, gradient)
            for_weight = _weight_gradient(larger, smaller, weight.shape[2])
        if ctx.needs_input_grad[2]:
            for_bias = gradient.sum((0, 2, 3))
        return for_maps, for_weight, for_bias, None


def _weight_gradient(larger: torch.Tensor, smaller: torch.Tensor, size: int) -> torch.Tensor:
    """Sum over images and pixels p of smaller[p] x larger[p + tap], as (C of smaller, C of larger, size, size)."""
    count, channels, height, width = larger.shape
    outputs, side = smaller.shape[1], smaller.shape[3]
    # Rows of pixels first: then every row of the kernel is one product of two plain matrices.
    # A pixel and its right neighbours lie one after another in memory: (height, N, side, size * C).
    taps = larger.permute(2, 0, 3, 1).as_strided(
        (height, count, side, size * channels), (width * channels, height * width * channels, channels, 1)
    ).contiguous()  # fmt: skip
    pixels = smaller.permute(2, 0, 3, 1).reshape(-1, outputs).t().contiguous()
    rows = [pixels @ taps[y : y + height - size + 1].view(-1, size * channels) for y in range(size)]
    return torch.stack(rows, 1).view(outputs, size, size, channels).permute(0, 3, 1, 2)


def update(gradient, weight, momentum, working, learning_rate: float, decay: float, weight_decay: float) -> None:
    """One Nesterov step of a float32 weight with a bfloat16 working copy, in place and in one pass over memory.

    Saves 3 of 50 ms per step.

    Args:
        gradient, working: bfloat16, flat, in the same order as `weight`; working is overwritten.
        weight, momentum: float32, flat, updated.
        decay: the momentum's factor.
    """
    arrays = _bits(gradient), weight.numpy(), momentum.numpy(), _bits(working)
    _compiled().update(*arrays, learning_rate, decay, weight_decay)


def _bits(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().view(_BITS[tensor.dtype]).numpy()


@functools.cache
def _compiled():
    from mnistmp.fast import numba_kernels  # importing numba takes half a second

    return numba_kernels
