"""The network's layers: torch's own, with shortcuts where torch's way to the same result costs more."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from mnistmp.fast import kernels


class Conv2d(nn.Conv2d):
    """`nn.Conv2d(inputs, outputs, size)`, stride 1 and no padding."""

    def __init__(self, inputs: int, outputs: int, size: int):
        super().__init__(inputs, outputs, size)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H - size + 1, W - size + 1)."""
        if kernels.convolution_fits(maps, self.weight):
            return kernels.convolution(maps, self.weight, self.bias)
        return super().forward(maps)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(inputs, outputs, size)`, stride 1 and no padding."""

    def __init__(self, inputs: int, outputs: int, size: int):
        super().__init__(inputs, outputs, size)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, H + size - 1, W + size - 1)."""
        if kernels.convolution_fits(maps, self.weight):
            return kernels.convolution(maps, self.weight, self.bias, transposed=True)
        return super().forward(maps)


class ConvTranspose2x2(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d(inputs, outputs, 2, stride=2)`: every pixel becomes 2x2 pixels.

    They do not overlap, so this is one matrix product and a change of order. It took 25 of 119 ms
    off the step of `methods.reconstruction`.
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 2, stride=2)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, inputs, H, W) -> (N, outputs, 2 H, 2 W)."""
        if not kernels.wanted(maps):
            return super().forward(maps)
        count, inputs, height, width = maps.shape
        pixels = maps.permute(0, 2, 3, 1).reshape(-1, inputs)
        weight = self.weight.permute(0, 2, 3, 1).reshape(inputs, -1)  # (inputs, 2 * 2 * outputs)
        doubled = torch.addmm(self.bias.repeat(4), pixels, weight).view(count, height, width, 2, 2, -1)
        return doubled.transpose(2, 3).reshape(count, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class Linear(nn.Linear):
    """`nn.Linear`, the product written the other way round in bfloat16 on a CPU.

    The weights are then the left factor, which oneDNN need not rearrange: 1 of 48 ms per step.
    """

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """(N, inputs) -> (N, outputs)."""
        if kernels.wanted(rows) and rows.dtype == torch.bfloat16 and rows.ndim == 2:
            return torch.addmm(self.bias[:, None], self.weight, rows.t()).t()
        return super().forward(rows)


class PoolReLU(nn.Module):
    """2x2 max-pooling, then ReLU.

    The same function as the usual ReLU before pooling, because ReLU is monotonous; ReLU
    and its backward then touch a quarter of the values.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> (N, C, H // 2, W // 2)."""
        return kernels.pool_relu(maps) if kernels.pool_relu_fits(maps) else F.relu(F.max_pool2d(maps, 2))
