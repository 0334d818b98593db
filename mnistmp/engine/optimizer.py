"""SGD with Nesterov momentum (paper Sec. 5.1), also for bfloat16 networks with float32 weights behind them."""

from __future__ import annotations

import torch
from torch import nn

from mnistmp.fast import kernels


class SGD:
    """`torch.optim.SGD(nesterov=True)` for a module in float32 or bfloat16.

    A bfloat16 module's own parameters are working copies. Weights and momentum are kept in
    float32, because adding a small update to a bfloat16 weight would round it away; after
    each step the working copies are the rounded weights.

    Args:
        module: its parameters are updated; the dtype they have now decides.
        learning_rate, momentum, weight_decay: as in `torch.optim.SGD`.
    """

    def __init__(self, module: nn.Module, learning_rate: float, momentum: float, weight_decay: float):
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.mixed = any(p.dtype == torch.bfloat16 for p in self.parameters)
        self.settings = (learning_rate, momentum, weight_decay)
        self.weights = [p.detach().clone().float() for p in self.parameters] if self.mixed else self.parameters
        self.compiled = self.mixed and self.weights[0].device.type == "cpu" and kernels.in_use() == "numba"
        if self.compiled:
            self.momenta = [torch.zeros_like(w) for w in self.weights]
        else:
            self.optimizer = torch.optim.SGD(
                self.weights, lr=learning_rate, momentum=momentum, weight_decay=weight_decay,
                nesterov=momentum > 0, fused=True,
            )  # fmt: skip

    def load_weights(self, weights: list[torch.Tensor]) -> None:
        """Start from these float32 weights, in the order of `module.parameters()`."""
        with torch.no_grad():
            for parameter, own, given in zip(self.parameters, self.weights, weights):
                own.copy_(given)
                if self.mixed:
                    parameter.copy_(own)

    def reset(self, weights: list[torch.Tensor]) -> None:
        """Start again from these float32 weights without momentum; everything stays at its address in memory."""
        self.load_weights(weights)
        states = [] if self.compiled else self.optimizer.state.values()
        for momentum in self.momenta if self.compiled else [state.get("momentum_buffer") for state in states]:
            if momentum is not None:
                momentum.zero_()
        self.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        """One update from the parameters' gradients; a parameter without one stays as it is."""
        if not self.mixed:
            self.optimizer.step()
        elif self.compiled:
            for parameter, weight, momentum in zip(self.parameters, self.weights, self.momenta):
                if parameter.grad is not None:
                    gradient = _in_memory_order(parameter.grad, parameter).reshape(-1)
                    others = (_in_memory_order(t, parameter).view(-1) for t in (weight, momentum, parameter))
                    kernels.update(gradient, *others, *self.settings)
        else:
            for parameter, weight in zip(self.parameters, self.weights):
                weight.grad = None if parameter.grad is None else parameter.grad.float()
            self.optimizer.step()
            torch._foreach_copy_(self.parameters, self.weights)

    def zero_grad(self) -> None:
        for parameter in (*self.parameters, *self.weights):
            parameter.grad = None

    def finite(self) -> bool:
        """Whether every weight is finite. A comparison of bit patterns can hide a NaN from the loss."""
        return all(bool(torch.isfinite(w.detach()).all()) for w in self.weights)


def _in_memory_order(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A view whose dimensions are in the order in which the parameter's numbers lie in memory."""
    channels_last = parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)
    return tensor.permute(0, 2, 3, 1) if channels_last else tensor
