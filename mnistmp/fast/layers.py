"""Which shortcuts a network takes: decided once, when it is built, by exchanging the classes of its layers."""

from __future__ import annotations

import torch
from torch import nn

from mnistmp.fast import kernels
from mnistmp.losses.rescaling import transformed
from mnistmp.network import PoolReLU


def accelerate(method: nn.Module) -> nn.Module:
    """Let a method take the shortcuts that pay on the device and in the dtype that it has now.

    Layers keep their weights, their names and what they compute.

    Returns:
        The method itself.
    """
    weight = next(method.parameters())
    on_cpu = weight.device.type == "cpu" and kernels.in_use() != "off"
    bfloat16 = on_cpu and weight.dtype == torch.bfloat16
    compiled = on_cpu and kernels.in_use() == "numba" and weight.dtype in (torch.bfloat16, torch.float32)
    of_classifier = set(method.classifier.modules())  # their input has two dimensions, as a rule
    for layer in method.modules():
        plain = type(layer)
        if plain is PoolReLU and compiled:
            layer.__class__ = CompiledPoolReLU
        elif plain is nn.Linear and bfloat16 and layer in of_classifier and layer.bias is not None:
            layer.__class__ = LinearTransposed
        elif plain is nn.ConvTranspose2d and on_cpu and _is_simple(layer, stride=2) and layer.kernel_size == (2, 2):
            layer.__class__ = ConvTranspose2x2
        elif plain in CONVOLUTIONS and bfloat16 and _is_simple(layer, stride=1) and layer.weight.shape[1] >= 32:
            layer.__class__ = CONVOLUTIONS[plain]  # with fewer channels torch is as fast
    return method


def _is_simple(layer: nn.Conv2d | nn.ConvTranspose2d, stride: int) -> bool:
    """Whether nothing but kernel, stride and bias makes this convolution, and the kernel is square."""
    height, width = layer.kernel_size
    rest = layer.padding, layer.output_padding, layer.dilation, layer.groups
    simple = height == width and layer.bias is not None and rest == ((0, 0), (0, 0), (1, 1), 1)
    return simple and layer.stride == (stride, stride)


class CompiledPoolReLU(PoolReLU):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps) if transformed() else kernels.PoolReLU.apply(maps)


class Conv2d(nn.Conv2d):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return (
            super().forward(maps) if transformed() else kernels.Convolution.apply(maps, self.weight, self.bias, False)
        )


class ConvTranspose2d(nn.ConvTranspose2d):
    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return super().forward(maps) if transformed() else kernels.Convolution.apply(maps, self.weight, self.bias, True)


class ConvTranspose2x2(nn.ConvTranspose2d):
    """Every pixel becomes 2x2 pixels, which do not overlap: one matrix product and a change of order.

    Saves 25 of 119 ms per step of `methods.reconstruction`.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        count, inputs, height, width = maps.shape
        pixels = maps.permute(0, 2, 3, 1).reshape(-1, inputs)
        weight = self.weight.permute(0, 2, 3, 1).reshape(inputs, -1)  # (inputs, 2 * 2 * outputs)
        doubled = torch.addmm(self.bias.repeat(4), pixels, weight).view(count, height, width, 2, 2, -1)
        return doubled.transpose(2, 3).reshape(count, 2 * height, 2 * width, -1).permute(0, 3, 1, 2)


class LinearTransposed(nn.Linear):
    """The product the other way round: oneDNN need not rearrange weights that are the left factor: 1 of 48 ms."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if rows.ndim != 2:  # in a network of one's own
            return super().forward(rows)
        return torch.addmm(self.bias[:, None], self.weight, rows.t()).t()


CONVOLUTIONS = {nn.Conv2d: Conv2d, nn.ConvTranspose2d: ConvTranspose2d}
