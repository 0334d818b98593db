"""Shortcuts for the CPU: the same functions as torch's operators, computed with less memory traffic.

MNISTMP_KERNELS chooses: "on", the default, takes the pieces that numba compiles where it is
installed (`pip install mnistmp[fast]`) and else those written in torch; "torch" takes the latter
in any case; "off" leaves everything to torch's own operators, which all of this is tested
against. A record names what it was computed with. None of the shortcuts can be differentiated
twice; trying to raises an error.

bfloat16 and float32 are compared as integers: the bit patterns of non-negative floats sort like
the floats themselves, and every negative float is a negative integer. So is a NaN with its sign
bit set, which is why `optimizer.SGD.finite` looks for NaN among the weights.
"""

from __future__ import annotations

import functools
import os

import numpy as np
import torch
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32}
_BLOCK = 2**16  # weights that torch updates at once: what a pass writes, the next finds in the cache
_MAPS = 150_000  # the same for values of maps


class KernelError(ValueError):
    """Shortcuts that cannot be chosen: one sentence with what is valid."""


@functools.cache
def in_use() -> str:
    """Which shortcuts this process takes: "numba", "torch" or "off"."""
    wish = os.environ.get("MNISTMP_KERNELS", "on")
    if wish not in ("on", "torch", "off"):
        raise KernelError(f"MNISTMP_KERNELS is {wish!r}; set it to on, torch or off.")
    if wish != "on":
        return wish
    try:
        zero = np.zeros(1, np.float32), np.zeros(1, np.int16)
        _compiled().update(zero[1], zero[0], zero[0], zero[1], 0.0, 0.0, 0.0)
    except Exception:  # numba is missing, or cannot compile for this machine
        return "torch"
    return "numba"


def available() -> bool:
    """Whether the compiled pieces are used in this process."""
    return in_use() == "numba"


def wanted(tensor: torch.Tensor) -> bool:
    """Whether shortcuts are to be taken for this tensor: on the CPU, unless switched off."""
    return tensor.device.type == "cpu" and in_use() != "off"


# ---- pooling with ReLU ----------------------------------------------------------------------


def pool_relu_fits(maps: torch.Tensor) -> bool:
    """Whether `pool_relu` takes this tensor: on the CPU, channels-last, even sides, a dtype that pays."""
    return (
        wanted(maps)
        and maps.dtype in (_BITS if available() else [torch.bfloat16])
        and maps.shape[2] % 2 == 0
        and maps.shape[3] % 2 == 0
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def pool_relu(maps: torch.Tensor) -> torch.Tensor:
    """relu(max_pool2d(maps, 2)) of (N, C, H, W) for which `pool_relu_fits`. A tie's gradient goes to the first."""
    # Without a gradient there is no winner to keep, and torch is as fast.
    return (_PoolReLU if available() and torch.is_grad_enabled() else _TorchPoolReLU).apply(maps)


class _PoolReLU(torch.autograd.Function):
    """Compiled. Bought 10 of 50 ms per step."""

    @staticmethod
    def forward(ctx, maps):
        count, channels, height, width = maps.shape
        shape = (count, height // 2, width // 2, channels)
        pooled = torch.empty(shape, dtype=maps.dtype)
        winner = torch.empty(shape, dtype=torch.uint8)  # 0 to 3, or 4 where ReLU gives zero
        _compiled().pool_forward(_bits(maps.permute(0, 2, 3, 1)).numpy(), _bits(pooled).numpy(), winner.numpy())
        ctx.save_for_backward(winner)
        ctx.maps_shape = maps.shape
        return pooled.permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        (winner,) = ctx.saved_tensors
        count, channels, height, width = ctx.maps_shape
        gradient = gradient.permute(0, 2, 3, 1).contiguous()
        spread = torch.empty((count, height, width, channels), dtype=gradient.dtype)
        _compiled().pool_backward(_bits(gradient).numpy(), winner.numpy(), _bits(spread).numpy())
        return spread.permute(0, 3, 1, 2)


class _TorchPoolReLU(torch.autograd.Function):
    """In torch's operators on integers, vectorised where its bfloat16 pooling is not. Bought 3 of 50 ms per step."""

    @staticmethod
    def forward(ctx, maps):
        windows = _windows(_bits(maps.permute(0, 2, 3, 1)))
        rows = torch.maximum(windows[..., 0, :], windows[..., 1, :])
        pooled = torch.maximum(rows[:, :, 0], rows[:, :, 1]).clamp_min_(0)
        ctx.save_for_backward(maps, pooled)
        return pooled.view(maps.dtype).permute(0, 3, 1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        maps, pooled = ctx.saved_tensors
        gradient = _bits(gradient.permute(0, 2, 3, 1).contiguous())
        windows = _windows(_bits(maps.permute(0, 2, 3, 1)))
        spread = torch.empty_like(windows)
        block = min(len(windows), max(1, _MAPS // windows[0].numel()))
        half, quarter = windows[:block, :, :, :, 0].shape, pooled[:block].shape
        scratch = [windows.new_empty(shape) for shape in (half, half, half, quarter, quarter)]
        for parts in zip(*(t.split(block) for t in (windows, pooled, gradient, spread))):
            _spread(*parts, *(t[: len(parts[0])] for t in scratch))
        count, channels, height, width = maps.shape
        return spread.view(maps.dtype).view(count, height, width, channels).permute(0, 3, 1, 2)


def _windows(bits: torch.Tensor) -> torch.Tensor:
    """(N, H, W, C) -> (N, H / 2, 2, W / 2, 2, C), a view."""
    count, height, width, channels = bits.shape
    return bits.view(count, height // 2, 2, width // 2, 2, channels)


def _spread(windows, pooled, gradient, spread, rows, by_row, winner, lower, total) -> None:
    # where_positive(g, x) is g where x > 0, else 0. A difference to the first of two, clamped, is
    # positive where the second is larger; where that one is negative too, ReLU gives zero and
    # there is no gradient left to place.
    where_positive = functools.partial(torch.ops.aten.threshold_backward.grad_input, threshold=0)
    left, right = windows[..., 0, :], windows[..., 1, :]
    torch.maximum(left, right, out=rows)  # of each window's upper and lower row
    torch.sub(pooled, torch.clamp_min(rows[:, :, 0], 0, out=lower), out=lower)
    where_positive(gradient, pooled, grad_input=total)
    where_positive(total, lower, grad_input=by_row[:, :, 1])
    torch.sub(total, by_row[:, :, 1], out=by_row[:, :, 0])
    torch.sub(rows, torch.clamp_min(left, 0, out=winner), out=rows)
    where_positive(by_row, rows, grad_input=spread[..., 1, :])
    torch.sub(by_row, spread[..., 1, :], out=spread[..., 0, :])


# ---- convolution ----------------------------------------------------------------------------


def convolution_fits(maps: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether `convolution` pays: where gradients are wanted, in bfloat16, with many channels."""
    return (
        torch.is_grad_enabled()
        and wanted(maps)
        and maps.dtype == weight.dtype == torch.bfloat16
        and weight.shape[1] >= 32
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


def convolution(maps, weight, bias, transposed: bool = False) -> torch.Tensor:
    """`F.conv2d` or `F.conv_transpose2d` of stride 1 without padding, for maps for which `convolution_fits`."""
    return _Convolution.apply(maps, weight, bias, transposed)


class _Convolution(torch.autograd.Function):
    """The weights' gradient by matrix products. Bought 2 of 38 ms per step, twice that with the decoder."""

    @staticmethod
    def forward(ctx, maps, weight, bias, transposed):
        ctx.save_for_backward(maps, weight)
        ctx.transposed = transposed
        return (F.conv_transpose2d if transposed else F.conv2d)(maps, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        maps, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
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


# ---- the update -----------------------------------------------------------------------------


def update(gradient, weight, momentum, working, learning_rate: float, decay: float, weight_decay: float) -> None:
    """One Nesterov step of a float32 weight with a bfloat16 working copy, in place.

    Compiled it is one pass over memory and bought 3 of 50 ms per step; in blocks it bought 1.

    Args:
        gradient, working: bfloat16, flat, in the same order as `weight`; working is overwritten.
        weight, momentum: float32, flat, updated.
        decay: the momentum's factor.
    """
    if available():
        arrays = (_bits(gradient), weight, momentum, _bits(working))
        _compiled().update(*(array.numpy() for array in arrays), learning_rate, decay, weight_decay)
        return
    exact = torch.empty(min(_BLOCK, len(weight)))
    for g, w, m, rounded in zip(*(t.split(_BLOCK) for t in (gradient, weight, momentum, working))):
        torch._fused_sgd_(
            [w], [exact[: len(g)].copy_(g)], [m] if decay else [], lr=learning_rate, momentum=decay,
            weight_decay=weight_decay, dampening=0.0, nesterov=decay > 0, maximize=False, is_first_step=False,
        )  # fmt: skip
        rounded.copy_(w)


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().view(_BITS[tensor.dtype])


@functools.cache
def _compiled():
    from mnistmp.fast import numba_kernels

    return numba_kernels
