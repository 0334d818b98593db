"""mnistmp: MNIST-MP and the reverse contrastive loss, reproduced (Duboudin et al., ICCVW 2021)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "MNISTMP",
    "PALETTE",
    "TEST_COLOR",
    "LeNet",
    "losses",
    "methods",
    "protocol",
    "records",
    "report",
    "training",
]

if TYPE_CHECKING:
    from mnistmp import losses, methods, protocol, records, report, training
    from mnistmp.benchmark import PALETTE, TEST_COLOR
    from mnistmp.dataset import MNISTMP
    from mnistmp.network import LeNet

_HOMES = {"MNISTMP": "dataset", "PALETTE": "benchmark", "TEST_COLOR": "benchmark", "LeNet": "network"}


def __getattr__(name: str):
    # Loaded when first used (PEP 562): torch takes seconds, and `mnistmp --help` does not need it.
    if name in _HOMES:
        return getattr(importlib.import_module(f"mnistmp.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"mnistmp.{name}")
    raise AttributeError(f"module 'mnistmp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
