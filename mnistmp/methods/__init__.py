"""One file per method. To add one: write the file, decorate the class, import it here."""

from mnistmp.methods.base import METHODS, Method, choices, default_options, get, register, resolve_options
from mnistmp.methods import (  # noqa: F401  (importing registers)
    standard,
    dropout,
    jigsaw,
    reconstruction,
    spectral_decoupling,
    rsc,
    rcl,
)

__all__ = ["METHODS", "Method", "choices", "default_options", "get", "register", "resolve_options"]
