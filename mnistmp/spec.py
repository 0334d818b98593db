"""RunSpec: one run, complete, checked and with a key of its content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

from mnistmp import data, methods, paths
from mnistmp.errors import InputError, in_one_sentence

# Raised whenever a change of code changes what a RunSpec computes; records of different
# versions never meet in one table.
PROTOCOL_VERSION = 1


Factor = Annotated[float, Field(ge=0, lt=100), AfterValidator(abs)]  # -0.0 is 0.0: equal runs, equal keys


@in_one_sentence
@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class RunSpec:
    """One run, complete: everything that decides its result on a given machine.

    The defaults are the paper's protocol (Sec. 5.1) and, where it is silent, the
    interpretations that fit its validation column best.

    Attributes:
        row: name of the row it belongs to; letters, digits and ._=+- only.
        method, options: see `methods`; options not given take the method's defaults.
        seed: 0 or more; initialisation, batch order and the method's noise derive from it.
        dataset: "mnist" or "digits".
        colors: training and validation digits in "class" colours, or all of them in the
            "test" colour (the original-MNIST row).
        image_size: 28, or 32 as another interpretation; how it is reached: `resize`, which has one value.
        input_range: what the network sees for black and full colour.
        initialization: "pytorch", "glorot" or "he".
        precision: "bfloat16" is mixed precision: bfloat16 products, float32 weights,
            losses and updates.
        last_batch: "keep" or "drop" the incomplete batch at an epoch's end.

    Raises:
        InputError: any value that cannot be.
    """

    row: Annotated[str, AfterValidator(functools.partial(paths.plain_name, what="row"))]
    method: str = "standard"
    options: dict[str, Any] = field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    dataset: Literal["mnist", "digits"] = "mnist"
    colors: Literal["class", "test"] = "class"
    image_size: Literal[28, 32] = 28
    resize: Literal["bilinear"] = "bilinear"
    input_range: Literal["[-1,1]", "[0,1]"] = "[-1,1]"
    initialization: Literal["pytorch", "glorot", "he"] = "pytorch"
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 10
    batch_size: Annotated[int, Field(ge=2, le=10_000)] = 128
    learning_rate: Factor = 1e-3
    momentum: Annotated[Factor, Field(lt=1)] = 0.9
    weight_decay: Factor = 1e-5
    last_batch: Literal["keep", "drop"] = "keep"

    def __post_init__(self):
        object.__setattr__(self, "options", methods.resolve_options(self.method, self.options))

    def __hash__(self):
        return hash(self.key())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; infinity as the string "inf", which JSON cannot write as a number."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        # An option that was added later is left out at its default: keys of earlier runs stay.
        added = methods.get(self.method).added_options
        fields["options"] = {k: "inf" if v == math.inf else v for k, v in self.options.items() if added.get(k) != v}
        return fields

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunSpec:
        """The inverse of `to_json`: no field may be left to its default. Raises InputError as RunSpec does."""
        if not isinstance(values, Mapping):
            raise InputError(f"A run is {values!r:.50}; it must be an object with the run's fields.")
        missing = [f.name for f in dataclasses.fields(cls) if f.name not in values]
        if missing:
            raise InputError(f"The run lacks the field {missing[0]!r}.")
        return cls(**values)

    def key(self) -> str:
        """16 hexadecimal digits: what is computed. No path, device or thread count takes part."""
        return content_key(self.to_json(), self.dataset)


def content_key(fields: Mapping[str, Any], dataset: str) -> str:
    """The key of a run's JSON values as they stand, no default filled in."""
    content = {"spec": fields, "protocol": PROTOCOL_VERSION, "data": data.CHECKSUMS[dataset]}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
