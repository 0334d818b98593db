"""RunRecord: what one run left behind, and the JSON it is kept as."""

from __future__ import annotations

import codecs
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, InstanceOf, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import from_json
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from mnistmp import methods
from mnistmp.errors import RecordError, sentence
from mnistmp.spec import PROTOCOL_VERSION, RunSpec, content_key

# Of the JSON. To be raised when a field is added, goes or changes its meaning, since older code must not read it; not
# for a new option of a method. A change of what a spec computes raises `spec.PROTOCOL_VERSION` instead.
FORMAT = 1

_STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

Count = Annotated[int, Field(ge=0)]
Total = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]


class Epoch(TypedDict):
    """What is kept of one epoch: its number from 1, correctly classified digits, losses (means over the epoch)."""

    __pydantic_config__ = _STRICT

    epoch: int
    val_correct: Count
    test_correct: Count
    train_loss: float
    terms: dict[str, float]
    seconds: Seconds


@dataclass(frozen=True, kw_only=True, config=_STRICT)
class RunRecord:
    """One run: what was asked and what came out. Every value is checked.

    Attributes:
        spec: what was trained.
        status: "done", or "diverged" when the loss became NaN or infinite.
        history: one Epoch per completed epoch, in order.
        val_total, test_total: number of validation and of test digits.
        environment: versions, device, threads and code of the run, see `provenance.py`.
        started: UTC time in ISO format, ending in "Z" or "+00:00".
        seconds: wall time of the run.
        diverged_epoch: the epoch that broke off, one after the last of `history`; else None.

    Raises:
        pydantic.ValidationError: anything else.
    """

    spec: InstanceOf[RunSpec]
    status: Literal["done", "diverged"]
    history: list[Epoch]
    val_total: Total
    test_total: Total
    environment: dict[str, str | bool | int | float]
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|\+00:00)$")]
    seconds: Seconds
    diverged_epoch: int | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RunRecord:
        if (self.status == "diverged") != (self.diverged_epoch is not None):
            raise ValueError(f"it is {self.status} and its diverged_epoch is {self.diverged_epoch}")
        expected = self.spec.epochs if self.diverged_epoch is None else self.diverged_epoch - 1
        if len(self.history) != expected or expected > self.spec.epochs:
            raise ValueError(f"it holds {len(self.history)} instead of {expected} of {self.spec.epochs} epochs")
        for number, epoch in enumerate(self.history, 1):
            if epoch["epoch"] != number:
                raise ValueError(f"epoch {number} is numbered {epoch['epoch']}")
            for name, total in (("val_correct", self.val_total), ("test_correct", self.test_total)):
                if epoch[name] > total:
                    raise ValueError(f"epoch {number} has {name} {epoch[name]} of {total} digits")
        return self

    def to_json(self) -> dict[str, Any]:
        """The content of the record's file as plain JSON values, in the file's order."""
        broke_off = {} if self.diverged_epoch is None else {"diverged_epoch": self.diverged_epoch}
        return {
            "format": FORMAT, "protocol": PROTOCOL_VERSION, "key": self.spec.key(), "status": self.status, **broke_off,
            "spec": self.spec.to_json(), "val_total": self.val_total, "test_total": self.test_total,
            "history": self.history, "started": self.started, "seconds": self.seconds, "environment": self.environment,
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Any) -> RunRecord:
        """The inverse of `to_json`. RecordError says what is wrong first, as a clause without the file's name."""
        if not isinstance(values, dict):
            raise RecordError("it is not a JSON object")
        values = dict(values)
        for name, ours in (("format", FORMAT), ("protocol", PROTOCOL_VERSION)):
            found = values.pop(name, None)  # first of all: in another version all the rest may differ
            if found != ours:
                raise RecordError(f"it is of {name} version {found!r:.20}, and this mnistmp reads version {ours}")
        fields, key = values.pop("spec", None), values.pop("key", None)
        if isinstance(fields, dict) and isinstance(fields.get("method"), str):
            methods.get(fields["method"])  # which may be the user's own
        try:
            spec = RunSpec.from_json(fields)
        except (ValueError, TypeError) as error:
            raise RecordError(f"its spec is invalid ({str(error).rstrip('.')})") from None
        # The key of the fields as they were written: options that a method got since take their defaults,
        # which compute what was computed before (or PROTOCOL_VERSION would be another).
        if key != content_key(fields, spec.dataset):
            raise RecordError(f"its key {key!r:.20} is not that of its spec: a field was changed after the run")
        try:
            return cls(spec=spec, **values)
        except ValidationError as error:
            raise RecordError(sentence(error).rstrip(".")) from None

    def to_text(self) -> str:
        """The record's file: strict JSON with one epoch per line, so that a diff can be read."""
        parts = []
        for name, value in self.to_json().items():
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

    @classmethod
    def from_text(cls, text: str | bytes) -> RunRecord:
        """The inverse of `to_text`."""
        try:
            content = text.encode() if isinstance(text, str) else text
            # Some editors begin a file with a byte-order mark.
            values = from_json(content.removeprefix(codecs.BOM_UTF8), allow_inf_nan=False)
        except ValueError as error:
            raise RecordError(f"it is torn or not JSON ({error})") from None
        return cls.from_json(values)


def _inline(value: Any) -> str:
    return json.dumps(value, allow_nan=False)
