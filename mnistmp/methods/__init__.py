"""One file per method. To add one: write the file, decorate the class, import it here; a row of Table 2 also needs a
line in paper.py. A method outside the library needs one file and neither, see own.py."""

from mnistmp.methods import (  # importing registers
    dropout,
    jigsaw,
    rcl,
    reconstruction,
    rsc,
    spectral_decoupling,
    standard,
)
from mnistmp.methods.base import METHODS, Method, choices, default_options, get, register, resolve_options
