"""RunSpec: one training, complete, checked and with a key of its content."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mnistmp import data, methods, network

# Raised whenever a change of code changes what a RunSpec computes; records of different
# versions never meet in one table.
PROTOCOL_VERSION = 1

PRECISIONS = ("float32", "bfloat16")


class SpecError(ValueError):
    """A run that cannot be: one sentence with what was wrong, what is valid and what to do."""


# Field name -> allowed values, for those that are names.
_CHOICES = {
    "dataset": data.DATASETS,
    "colors": ("class", "test", "white"),
    "resize": ("bilinear", "pad"),
    "input_range": ("[-1,1]", "[0,1]"),
    "initialization": network.INITIALIZATIONS,
    "precision": PRECISIONS,
    "last_batch": ("keep", "drop"),
}


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training, complete: everything that decides its result on a given machine.

    The defaults are the paper's protocol (Sec. 5.1) and, where it is silent, the readings
    that fit its validation column best.

    Attributes:
        row: name of the row it belongs to; letters, digits and ._=+- only.
        method, options: see `methods`; options not given take the method's defaults.
        seed: 0 or more; initialisation, batch order and the method's noise derive from it.
        dataset: "mnist" or "digits".
        colors: training and validation digits in "class" colours, or all of them in the
            "test" colour (the original-MNIST row), or "white" (a reading of that row).
        image_size: 28, or 32 as another reading; how it is reached: `resize`.
        input_range: what the network sees for black and full colour.
        initialization: "pytorch", "glorot" or "he".
        precision: "bfloat16" is mixed precision: bfloat16 products, float32 weights,
            losses and updates.
        last_batch: "keep" or "drop" the incomplete batch at an epoch's end.

    Raises:
        SpecError: any value that cannot be.
    """

    row: str
    method: str = "standard"
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    dataset: str = "mnist"
    colors: str = "class"
    image_size: int = 28
    resize: str = "bilinear"
    input_range: str = "[-1,1]"
    initialization: str = "pytorch"
    precision: str = "bfloat16"
    epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 1e-5
    last_batch: str = "keep"

    def __post_init__(self):
        if not isinstance(self.row, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}", self.row):
            raise SpecError(
                f"row is {self.row!r}; use up to 100 letters, digits and the signs . _ = + -, a letter or digit first."
            )
        for name, valid in _CHOICES.items():
            if getattr(self, name) not in valid:
                raise SpecError(f"{name} is {getattr(self, name)!r}; choose one of {', '.join(valid)}.")
        for name, low, high in (
            ("seed", 0, 2**31 - 1),
            ("epochs", 1, 10_000),
            ("batch_size", 2, 10_000),
            ("image_size", 28, 32),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise SpecError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")
        if self.image_size not in (28, 32):
            raise SpecError(f"image_size is {self.image_size}; choose 28 or 32.")
        for name, limit in (("learning_rate", 100.0), ("momentum", 1.0), ("weight_decay", 100.0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < limit:
                raise SpecError(f"{name} is {value!r}; it must be a number from 0 to below {limit:g}.")
            object.__setattr__(self, name, abs(float(value)))  # -0.0 is 0.0: equal runs, equal keys
        if not isinstance(self.options, Mapping):
            raise SpecError(f"options is {self.options!r}; give a dictionary of the method's options.")
        try:
            options = methods.resolve_options(self.method, dict(self.options))
        except ValueError as error:
            raise SpecError(str(error)) from None
        object.__setattr__(self, "options", options)

    def __hash__(self):
        return hash(self.key())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; infinity as the string "inf", which JSON cannot write as a number."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        # Options that a method got later are left out where they have their default: keys of earlier runs stay.
        added = methods.get(self.method).added_options
        fields["options"] = {k: "inf" if v == math.inf else v for k, v in self.options.items() if added.get(k) != v}
        return fields

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_json`. Raises SpecError on unknown or missing fields."""
        if not isinstance(values, Mapping):
            raise SpecError(f"A run is {values!r:.50}; it must be an object with the run's fields.")
        known = [f.name for f in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise SpecError(f"There is no field {unknown[0]!r} in a run; its fields are {', '.join(known)}.")
        missing = [name for name in known if name not in values]
        if missing:
            raise SpecError(f"The run lacks the field {missing[0]!r}.")
        return cls(**values)

    def key(self) -> str:
        """16 hexadecimal digits: what is computed. No path, device or thread count takes part."""
        return content_key(self.to_json(), self.dataset)


def content_key(fields: Mapping[str, Any], dataset: str) -> str:
    """The key of a run's JSON values as they stand, no default filled in."""
    content = {"spec": fields, "protocol": PROTOCOL_VERSION, "data": data.CHECKSUMS[dataset]}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
