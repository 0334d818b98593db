"""RunRecord: what one training left behind, and the JSON it is kept as."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mnistmp.spec import PROTOCOL_VERSION, RunSpec, content_key

FORMAT = 1  # of the JSON; raised when its fields change
STATUSES = ("done", "diverged")

Epoch = dict[str, Any]  # {"epoch", "val_correct", "test_correct", "train_loss", "terms", "seconds"}

_FIELDS = ("format", "protocol", "key", "status", "spec", "val_total", "test_total", "history", "started", "seconds",
           "environment")  # fmt: skip
_EPOCH_FIELDS = {"epoch", "val_correct", "test_correct", "train_loss", "terms", "seconds"}
_STARTED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)")
_LARGEST = sys.float_info.max
_KEY = re.compile(r"[0-9a-f]{16}")


class RecordError(ValueError):
    """A record that cannot be written, read or used: what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One training: what was asked and what came out.

    Attributes:
        spec: what was trained.
        status: "done", or "diverged" when the loss became NaN or infinite.
        history: one Epoch per completed epoch, in order: its number from 1, correctly classified
            validation and test digits, mean training loss, its named terms, seconds.
        val_total, test_total: number of validation and of test digits.
        environment: versions, device, threads and code of the run, see `provenance.py`.
        started: UTC time in ISO format, ending in "Z" or "+00:00".
        seconds: wall time of the training.
        diverged_epoch: the epoch that broke off, one after the last of `history`; else None.
    """

    spec: RunSpec
    status: str
    history: list[Epoch]
    val_total: int
    test_total: int
    environment: Mapping[str, str | int | float]
    started: str
    seconds: float
    diverged_epoch: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The content of the record's file as plain JSON values, in the file's order."""
        values = {
            "format": FORMAT, "protocol": PROTOCOL_VERSION, "key": self.spec.key(), "status": self.status,
            "diverged_epoch": self.diverged_epoch, "spec": self.spec.to_json(), "val_total": self.val_total,
            "test_total": self.test_total, "history": self.history, "started": self.started,
            "seconds": self.seconds, "environment": dict(self.environment),
        }  # fmt: skip
        if self.diverged_epoch is None:
            del values["diverged_epoch"]
        return values

    @classmethod
    def from_json(cls, values: Any) -> RunRecord:
        """The inverse of `to_json`; every value is checked.

        Raises:
            RecordError: the first thing that is wrong, as a clause without the file's name.
        """
        _need(type(values) is dict, "it is not a JSON object")
        for name, ours in (("format", FORMAT), ("protocol", PROTOCOL_VERSION)):
            found = values.get(name, ours)  # first of all: in another version all the rest may differ
            _need(type(found) is int and found == ours,
                  f"it is of {name} version {_short(found)}, for another mnistmp than this one "
                  f"(version {ours})")  # fmt: skip
        missing = [name for name in _FIELDS if name not in values]
        _need(not missing, f"the field {missing[0]!r} is missing" if missing else "")
        unknown = [name for name in values if name not in _FIELDS and name != "diverged_epoch"]
        _need(not unknown, f"the field {unknown[0]!r} is unknown" if unknown else "")
        spec = _spec(values)
        for name in ("val_total", "test_total"):
            _need(_count(values[name], 1, 10**9), f"{name} is {_short(values[name])} instead of a number of digits")
        _check_history(values, spec)
        environment = values["environment"]
        _need(type(environment) is dict and all(isinstance(v, (str, bool)) or _number(v) for v in environment.values()),
              "environment is not a flat list of names and values")  # fmt: skip
        started = values["started"]
        _need(isinstance(started, str) and _STARTED.fullmatch(started),
              f"started is {_short(started)} instead of a UTC time")  # fmt: skip
        _need(_number(values["seconds"], 0), f"seconds is {_short(values['seconds'])}")
        return cls(spec=spec, **{name: values.get(name) for name in cls.__dataclass_fields__ if name != "spec"})

    def to_text(self) -> str:
        """The record's file: strict JSON with one epoch per line, so that a diff can be read.

        Raises:
            RecordError: it could not be read back; nothing wrong is ever written.
        """
        try:
            text = _layout(self.to_json())
        except (TypeError, ValueError) as error:
            raise RecordError(f"it holds a value that JSON cannot write ({error})") from None
        RunRecord.from_text(text)
        return text

    @classmethod
    def from_text(cls, text: str | bytes) -> RunRecord:
        """The inverse of `to_text`. Raises RecordError as `from_json` does."""
        if not text.strip():
            raise RecordError("it is empty")
        try:
            if isinstance(text, bytes):
                text = text.decode()
            values = _DECODER.decode(text)
        except json.JSONDecodeError as error:
            raise RecordError(f"it is torn or not JSON ({error.msg} in line {error.lineno})") from None
        except (ValueError, RecursionError) as error:  # bytes that are no text, NaN, doubled fields, absurd nesting
            raise RecordError(f"it is not strict JSON ({str(error)[:100]})") from None
        return cls.from_json(values)


def _spec(values: dict[str, Any]) -> RunSpec:
    fields, key = values["spec"], values["key"]
    _need(type(fields) is dict, "spec is not a JSON object")
    try:
        spec = RunSpec.from_json(fields)
    except (ValueError, TypeError) as error:
        raise RecordError(f"its spec is invalid ({str(error).rstrip('.')})") from None
    _need(isinstance(key, str) and _KEY.fullmatch(key), f"key is {_short(key)}")
    # The key of the fields as they were written: options that a method got since take their defaults,
    # which compute what was computed before (or PROTOCOL_VERSION would be another).
    expected = content_key(fields, spec.dataset)
    _need(key == expected, f"its key is {key} and its spec has {expected}: a field was changed after the run")
    return spec


def _check_history(values: dict[str, Any], spec: RunSpec) -> None:
    status, history, broke_off = values["status"], values["history"], values.get("diverged_epoch")
    _need(status in STATUSES, f"status is {_short(status)} instead of {' or '.join(STATUSES)}")
    _need(type(history) is list, "history is not a list")
    if status == "done":
        _need(len(history) == spec.epochs, f"it holds {len(history)} of {spec.epochs} epochs")
        _need(broke_off is None, "it is done and has a diverged_epoch")
    else:
        _need(_count(broke_off, 1, spec.epochs), f"it diverged and its diverged_epoch is {_short(broke_off)}")
        _need(len(history) == broke_off - 1,
              f"it diverged in epoch {broke_off} and holds {len(history)} epochs before it")  # fmt: skip
    val_total, test_total = values["val_total"], values["test_total"]
    for number, epoch in enumerate(history, 1):  # conditions first, words only when needed: this loop is the hot one
        if type(epoch) is not dict or epoch.keys() != _EPOCH_FIELDS:
            raise RecordError(f"epoch {number} does not have exactly the fields {', '.join(sorted(_EPOCH_FIELDS))}")
        if type(epoch["epoch"]) is not int or epoch["epoch"] != number:
            raise RecordError(f"epoch {number} is numbered {_short(epoch['epoch'])}")
        if not _count(epoch["val_correct"], 0, val_total):
            raise RecordError(f"epoch {number} has val_correct {_short(epoch['val_correct'])} of {val_total} digits")
        if not _count(epoch["test_correct"], 0, test_total):
            raise RecordError(f"epoch {number} has test_correct {_short(epoch['test_correct'])} of {test_total} digits")
        if not _number(epoch["train_loss"]):
            raise RecordError(f"epoch {number} has train_loss {_short(epoch['train_loss'])}")
        if not _number(epoch["seconds"], 0):
            raise RecordError(f"epoch {number} has seconds {_short(epoch['seconds'])}")
        terms = epoch["terms"]
        if type(terms) is not dict or not all(map(_number, terms.values())):
            raise RecordError(f"epoch {number} has terms that are not numbers by name")


def _need(condition: Any, otherwise: str) -> None:
    if not condition:
        raise RecordError(otherwise)


def _count(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high  # type(): True is no count


def _number(value: Any, low: float = -_LARGEST) -> bool:
    return type(value) in (float, int) and low <= value <= _LARGEST  # neither NaN nor infinite


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _inline(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def _layout(values: dict[str, Any]) -> str:
    parts = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            body = ",\n".join(f"    {_inline(k)}: {_inline(v)}" for k, v in value.items())
            text = f"{{\n{body}\n  }}"
        elif isinstance(value, list) and value:
            body = ",\n".join(f"    {_inline(v)}" for v in value)
            text = f"[\n{body}\n  ]"
        else:
            text = _inline(value)
        parts.append(f"  {_inline(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a field stands twice in one object")
    return values


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_unique)
