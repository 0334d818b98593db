"""One file per method. To add one: write the file, decorate the class, import it here."""

from mnistmp.methods import (  # noqa: F401  (importing registers)
    dropout,
    jigsaw,
    rcl,
    reconstruction,
    rsc,
    spectral_decoupling,
    standard,
)
from mnistmp.methods.base import METHODS, Method, choices, default_options, get, register, resolve_options

__all__ = ["METHODS", "Method", "choices", "default_options", "get", "register", "resolve_options"]
