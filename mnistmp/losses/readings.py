"""What the loss functions share: the check of a named reading, and their precision."""

from __future__ import annotations

import torch


def check_reading(name: str, value: str, valid: tuple[str, ...]) -> None:
    """ValueError, with what is valid, unless `value` is one of `valid`."""
    if value not in valid:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(valid)}.")


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """float64 as it is, everything else as float32: sums of thousands of bfloat16 numbers lose most of them."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
