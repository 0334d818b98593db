"""What a user's input can get wrong: one sentence each that says what is wrong, what is valid and what to do."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the doctor must run without pydantic
    from pydantic import ValidationError


class InputError(ValueError):
    """Something that was asked for cannot be; the command prints its sentence and ends with exit code 2."""


class DataError(InputError):
    """The digits cannot be had: the file, and what to do."""


class UnknownMethod(InputError):
    """A method that is not there, perhaps one of the user's own whose file was not named."""


class RecordError(InputError):
    """A record cannot be read, written or used."""


def require(holds: bool, name: str, value: object, valid: str) -> None:
    """InputError, with what is `valid` and what to do, unless something holds of a value."""
    if not holds:
        what, kind = repr(value), type(value)
        if hasattr(value, "shape") and hasattr(value, "dtype"):
            what = f"{kind.__module__}.{kind.__name__} ({value.dtype}, shape {tuple(value.shape)})"
        raise InputError(f"{name} is {' '.join(what.split())[:80]}; {valid}.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """InputError, with the choices, unless `value` is one of them."""
    require(isinstance(value, str) and value in choices, name, value, f"choose one of {', '.join(choices)}")


def first_line(error: object) -> str:
    """The first line of what an error says, or its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def in_one_sentence(cls):
    """Class decorator for one of pydantic's dataclasses: what is wrong with a value becomes an InputError."""
    from pydantic import ValidationError

    validate = cls.__init__

    @functools.wraps(validate)
    def __init__(self, *args, **values):
        try:
            validate(self, *args, **values)
        except ValidationError as error:
            raise InputError(sentence(error)) from None

    cls.__init__ = __init__
    return cls


def sentence(error: ValidationError) -> str:
    """The first of pydantic's errors in one sentence: which field, what it is, what it should be."""
    first = error.errors(include_url=False)[0]
    where, what, kind = ".".join(map(str, first["loc"])), first["msg"], first["type"]
    if kind == "value_error":  # a validator's own words
        return what.removeprefix("Value error, ")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"there is no field {where!r}."
    if kind.startswith("missing"):
        return f"the field {where!r} is missing."
    return f"{where} is {first['input']!r:.60}; {re.sub('Input|Tuple', 'it', what, count=1)}."
