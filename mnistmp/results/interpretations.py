"""Interpretations of what the paper leaves open: the values that every option may have, and the runs under them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mnistmp import methods, paper
from mnistmp.paper import Row
from mnistmp.spec import RunSpec

# Of the run rather than of the method: what may be asked for besides the method's own options.
RUN = {"image_size": (28, 32), "input_range": ("[-1,1]", "[0,1]"), "initialization": ("pytorch", "glorot", "he"),
       "last_batch": ("keep", "drop")}  # fmt: skip

# What comes closest to the published numbers, by training of Table 2, where that is not the default: option and value.
# Chosen with all columns, the paper's test accuracy among them, as no default is; docs/rcl-search.md says how.
CLOSEST: Mapping[str, tuple[str, object]] = {
    **{f"rcl-m{margin}": ("condition", "batch") for margin in ("0.2", "0.4", "0.6", "0.8", "0.9")},
    "dropout": ("rescale", False),
    "spectral-decoupling": ("reduction", "sum"),
}

SEARCH = "search"  # the folder of `results/` for the runs of `results/search.py`

_SHORT = {"image_size": "size", "input_range": "range"}  # in the names of runs


def named(row: str, option: str, value: object) -> str:
    """What a row's runs are called where an option has another value: `rcl-inf+range=0..1`."""
    return f"{row}+{_SHORT.get(option, option)}={word(value)}"


def word(value: object) -> str:
    """A value as part of a row's name, and so of a folder's: "[0,1]" becomes "0..1", and 5.0 becomes "5"."""
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.lower().strip("[]").replace(",", "..")


def variant(row: str, seed: int, preset: str = "paper", precision: str | None = None, **values: object) -> RunSpec:
    """The run of a row with other values, named after those that differ: `rcl-inf+size=32+scaling=batch`.

    Args:
        row, seed, preset, precision: as for `paper.spec_for`.
        values: fields of RunSpec or options of the row's method; where none differs, it is the row's own run.
    """
    own = paper.spec_for(row, seed, preset, precision)
    fields = {name: value for name, value in values.items() if name in RunSpec.__dataclass_fields__}
    options = {name: value for name, value in values.items() if name not in fields}
    name = own.row
    for option, value in values.items():
        if value != (getattr(own, option) if option in fields else own.options[option]):
            name = named(name, option, value)
    return paper.spec_for(row, seed, preset, precision, row=name, options=options, **fields)


def choices(row: Row) -> dict[str, list]:
    """All options of a row's method and of the run that have named values: the row's own value first."""
    cls = methods.get(row.method)
    own = methods.default_options(cls) | dict(row.options)
    named = methods.choices(cls).items()
    found = {name: [own[name], *(value for value in values if value != own[name])] for name, values in named}
    return found | {name: list(values) for name, values in RUN.items()}


def closest(row: Row) -> Row | None:
    """A row of Table 2 as `CLOSEST` has it, such as `rcl-m0.9+condition=batch`; None where that is the row itself."""
    if row.training not in CLOSEST:
        return None
    option, value = CLOSEST[row.training]
    names = {name: named(getattr(row, name), option, value) for name in ("id", "training")}
    return replace(row, **names, label=f"→ {option} = {word(value)}", options={**row.options, option: value})
