"""mnistmp: MNIST-MP and the reverse contrastive loss, reproduced (Duboudin et al., ICCVW 2021)."""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

# Public name -> where it lives.
_HOMES = {
    "ColoredMNIST": "data.dataset:ColoredMNIST",
    "MNISTMP": "data.dataset:MNISTMP",
    "PALETTE": "data.palette:PALETTE",
    "TEST_COLOR": "data.palette:TEST_COLOR",
    "LeNet": "network:LeNet",
    "ReverseContrastiveLoss": "losses:ReverseContrastiveLoss",
    "RunSpec": "spec:RunSpec",
    "evaluate": "data.evaluate:evaluate",
    "fit": "engine:fit",
    "load": "evidence:load",
    **{name: name for name in "data engine evidence figures latent losses methods paper records results".split()},
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    # Loaded when first used (PEP 562): torch takes seconds, and `mnistmp --help` does not need it.
    if name not in _HOMES:
        raise AttributeError(f"module 'mnistmp' has no attribute {name!r}")
    module, _, attribute = _HOMES[name].partition(":")
    home = importlib.import_module(f"mnistmp.{module}")
    return getattr(home, attribute) if attribute else home


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
