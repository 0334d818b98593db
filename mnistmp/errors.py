"""What a user's input can get wrong: every message is one sentence that says what is wrong, what is valid and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the doctor must run without pydantic
    from pydantic import ValidationError


class InputError(ValueError):
    """Something that was asked for cannot be; the command prints its sentence and ends with exit code 2."""


class DataError(InputError):
    """The digits cannot be had."""


class RecordError(InputError):
    """A record cannot be read, written or used."""


def sentence(error: ValidationError) -> str:
    """The first of pydantic's errors as "field: what is wrong", without its addresses and types."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    what = first["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
