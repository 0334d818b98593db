"""Interpretations of what the paper leaves open: the values that every option may have, and the names of rows that have
others than Table 2's. `rcl-m0.9+condition=batch` is the row rcl-m0.9 with one option changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mnistmp import methods
from mnistmp.errors import InputError
from mnistmp.spec import RunSpec

# Of the run rather than of the method: what may be changed besides the method's own options.
RUN: Mapping[str, tuple] = {
    "image_size": (28, 32), "input_range": ("[-1,1]", "[0,1]"), "initialization": ("pytorch", "glorot", "he"),
    "last_batch": ("keep", "drop"),
}  # fmt: skip
_NUMBERS = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay")  # of the run, too
_SHORT = {"image_size": "size", "input_range": "range"}  # in the names of rows

# What comes closest to the published numbers, by training of Table 2, where that is not the default.
# Chosen with all columns, the paper's test accuracy among them, as no default is; docs/rcl-search.md says how.
CLOSEST: Mapping[str, str] = {
    **{f"rcl-m{margin}": "otherwise=negative-unweighted" for margin in ("0.2", "0.4", "0.6", "0.8", "0.9")},
    "dropout": "rescale=false",
    "spectral-decoupling": "reduction=sum",
}


def name(row: str, values: Mapping[str, Any]) -> str:
    """What a row is called where options have these values: `rcl-inf+range=0..1+weight=5`."""
    return "+".join([row, *(f"{_SHORT.get(option, option)}={word(value)}" for option, value in values.items())])


def word(value: object) -> str:
    """A value as part of a row's name, and so of a folder's: "[0,1]" becomes "0..1", and 5.0 becomes "5".

    Every digit of a number stays. A "+" would begin another option, so that 1e+16 becomes "1e16".
    """
    text = str(value).removesuffix(".0").replace("e+", "e") if isinstance(value, float) else str(value)
    return text.lower().strip("[]").replace(",", "..")


def values(row: str, method: str) -> dict[str, Any]:
    """The inverse of `name`: the values that a row's name asks for, of its method's options and of `RunSpec`'s fields.

    Raises:
        InputError: an option that the method and the run do not have, or a value that it cannot have.
    """
    defaults, found = methods.default_options(methods.get(method)), {}
    defaults |= {field: RunSpec.__dataclass_fields__[field].default for field in (*RUN, *_NUMBERS)}
    for change in row.split("+")[1:]:
        option, _, text = change.partition("=")
        option = {short: long for long, short in _SHORT.items()}.get(option, option)
        if option not in defaults:
            raise InputError(f"Row {row!r}: there is no option {option!r}; choose from {', '.join(defaults)}.")
        named = {word(value): value for value in choices(method).get(option, ())}
        try:
            found[option] = named[text] if named else type(defaults[option])(text)
        except (KeyError, ValueError):
            valid = f"one of {', '.join(named)}" if named else f"a number, such as {word(defaults[option])}"
            raise InputError(f"Row {row!r}: {option} cannot be {text!r}; give {valid}.") from None
    return found


def choices(method: str) -> dict[str, tuple]:
    """All options of a method and of the run that have named values, with these values."""
    return methods.choices(methods.get(method)) | RUN
