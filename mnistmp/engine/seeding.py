"""Independent streams of random numbers, all derived from a run's one seed."""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, stream: str) -> int:
    """A seed for one purpose ("initialization", "order", "noise") of run `seed`, unrelated to the others."""
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:8], "big") >> 1


def generator(seed: int, stream: str, device: str | torch.device = "cpu") -> torch.Generator:
    """A generator of random numbers for one purpose of run `seed`."""
    return torch.Generator(device=device).manual_seed(stream_seed(seed, stream))
