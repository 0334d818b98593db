"""WHAT is run: Table 2's rows with the paper's numbers, and the presets they are run at."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mnistmp import interpretations, own
from mnistmp.errors import InputError, UnknownMethod
from mnistmp.spec import RunSpec

_MOST_SEEDS = 100_000


@dataclass(frozen=True)
class Row:
    """A row of Table 2.

    Attributes:
        id: its name in commands and files.
        label: its name in the paper's table.
        training: id of the row whose training it reads; early-stopping rows share one.
        selection: which epoch counts, "best-validation" or "early-stop", see `selection.py`.
        method, options: what is trained, see `methods`.
        colors: what training and validation digits wear: "class" colours or "test" colour.
        notebook: the notebook that trains and shows it; "" for a row from a file of one's own.
        paper: validation mean, its standard deviation, test mean, its standard deviation,
            in percent over 10 runs; None for rows the paper does not have.
        changes: where it is another row with other values, see `row`, these: options, or fields of RunSpec.
    """

    id: str
    label: str
    training: str
    selection: str
    method: str
    notebook: str
    options: Mapping[str, Any] = field(default_factory=dict)
    colors: str = "class"
    paper: tuple[float, float, float, float] | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


def _row(id, label, method, notebook, paper, options=None, training=None, colors="class"):
    selection = "early-stop" if training else "best-validation"
    return Row(id, label, training or id, selection, method, notebook, options or {}, colors, paper)


_STOP = "(with early stopping @95)"
# Table 2 from top to bottom; weights from Sec. 5.1.
TABLE2: tuple[Row, ...] = (
    _row("standard", "Standard Training Procedure", "standard", "02_standard", (99.8, 0.006, 26.0, 4.7)),
    _row("dropout", "Dropout", "dropout", "03_dropout", (99.8, 0.01, 31.9, 3.1)),
    _row("dropout-orthogonality", "Dropout & Orthogonality", "dropout-orthogonality", "03_dropout",
         (99.8, 0.008, 42.7, 2.6), {"weight": 1.0}),
    _row("dropout-covariance", "Dropout & Covariance", "dropout-covariance", "03_dropout",
         (99.8, 0.002, 42.6, 2.0), {"weight": 0.01}),
    _row("jigsaw", "Jigsaw Puzzle", "jigsaw", "04_jigsaw", (99.8, 0.01, 43.0, 3.0), {"weight": 10.0}),
    _row("jigsaw-early-stop", f"Jigsaw Puzzle {_STOP}", "jigsaw", "04_jigsaw", (98.5, 0.3, 59.9, 4.5),
         {"weight": 10.0}, training="jigsaw"),
    _row("reconstruction", "Reconstruction", "reconstruction", "05_reconstruction", (99.8, 0.007, 28.5, 4.8),
         {"weight": 1.0}),
    _row("spectral-decoupling", "Spectral Decoupling", "spectral-decoupling", "06_spectral_decoupling",
         (99.8, 0.004, 47.7, 2.9), {"weight": 5.0}),
    _row("spectral-decoupling-early-stop", f"Spectral Decoupling {_STOP}", "spectral-decoupling",
         "06_spectral_decoupling", (99.4, 0.09, 49.8, 1.5), {"weight": 5.0}, training="spectral-decoupling"),
    _row("rsc", "RSC", "rsc", "07_rsc", (99.2, 0.2, 43.5, 5.0)),
    *(
        _row(f"rcl-m{margin}", f"RCL, m = {margin}", "rcl", "08_rcl_margin_sweep", paper,
             {"weight": 1.0, "margin": margin})
        for margin, paper in (
            (0.2, (99.8, 0.007, 12.5, 2.6)),
            (0.4, (99.8, 0.007, 19.9, 5.5)),
            (0.6, (99.8, 0.009, 36.8, 5.6)),
            (0.8, (99.7, 0.03, 55.7, 4.7)),
            (0.9, (99.4, 0.08, 68.2, 4.0)),
        )
    ),
    _row("rcl-m0.9-early-stop", f"RCL, m = 0.9 {_STOP}", "rcl", "08_rcl_margin_sweep", (95.84, 0.6, 74.7, 8.5),
         {"weight": 1.0, "margin": 0.9}, training="rcl-m0.9"),
    _row("rcl-inf", "RCL, m = ∞", "rcl", "08_rcl_margin_sweep", (96.0, 0.3, 89.9, 0.9),
         {"weight": 1.0, "margin": math.inf}),
    _row("standard-original", "Standard Training Procedure on the original MNIST", "standard", "02_standard",
         (97.8, 0.12, 97.8, 0.12), colors="test"),
)  # fmt: skip


@dataclass(frozen=True)
class Preset:
    """A named scale at which Table 2 is run.

    Attributes:
        name: also the folder under `results/`.
        note: the sentence that stands with its numbers.
        seeds: those run by default.
        fields: RunSpec fields that differ from the paper's protocol.
        weights: method -> weight of its extra term, where it differs from the paper's.
        precision: "bfloat16", "float32", or "auto": bfloat16 where the processor multiplies it natively.
    """

    name: str
    note: str
    seeds: tuple[int, ...]
    precision: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)

    @property
    def dataset(self) -> str:
        """The digits of its runs, "mnist" or "digits"."""
        return self.fields.get("dataset", "mnist")


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="digits",
            note="scikit-learn's 1,797 digits, not MNIST: not the paper's numbers",
            seeds=(0, 1),
            precision="auto",
            # Chosen on validation accuracy alone, seeds 0 and 1: standard training is at 100 % from the third epoch.
            fields={"dataset": "digits", "epochs": 12, "batch_size": 32, "learning_rate": 5e-3},
            # By the paper's rule, `mnistmp select-weights METHOD`: the largest of its list that holds. RCL at 1
            # and jigsaw at 10 collapse; 10 ends the list for the others.
            weights={
                "rcl": 0.1,
                "dropout-orthogonality": 10.0,
                "dropout-covariance": 10.0,
                "jigsaw": 5.0,
                "reconstruction": 10.0,
                "spectral-decoupling": 10.0,
            },
        ),
        Preset(
            name="quick",
            note="real MNIST, one seed, 2 epochs instead of 10: a rough look, not the paper's protocol",
            seeds=(0,),
            precision="auto",
            fields={"epochs": 2},
        ),
        Preset("paper", "real MNIST, the paper's protocol", seeds=tuple(range(10)), precision="bfloat16"),
    )
}


def preset(name: str) -> Preset:
    """The preset of that name. Raises InputError with the valid names."""
    if name not in PRESETS:
        raise InputError(f"There is no preset {name!r}; choose one of {', '.join(PRESETS)}.")
    return PRESETS[name]


def own_row(id: str, label: str, method: str | None = None, options: Mapping[str, Any] | None = None) -> Row:
    """A row for `ROWS` of a file of one's own, see `own`; its label says that it is not the paper's."""
    return Row(id, f"{label} (not in the paper)", id, "best-validation", method or id, "", options or {})


def all_rows() -> tuple[Row, ...]:
    """The rows of Table 2, and those of the files that MNISTMP_METHODS names.

    Raises:
        InputError: a file that fails, names no rows, or rows that cannot be.
    """
    known = {row.id: row for row in TABLE2}
    for module in own.modules():
        added = getattr(module, "ROWS", None)
        if not isinstance(added, (list, tuple)) or not added or not all(isinstance(row, Row) for row in added):
            raise InputError(f"{module.__file__} names no rows; end it with ROWS = [own_row(...)].")
        for row in added:
            if row.id in known or "+" in row.id:
                wrong = 'has a "+"' if "+" in row.id else "is there already"
                raise InputError(f"{module.__file__}: row {row.id!r} {wrong}; choose another id.")
            RunSpec(row=row.id, method=row.method, options=dict(row.options))  # or says what is wrong with it
            known[row.id] = row
    return tuple(known.values())


def row(id: str) -> Row:
    """The row of that id, of Table 2 or one's own; or such a row with other values than its own, as in
    "rcl-m0.9+condition=batch" or "standard+size=32+epochs=5". InputError names what is valid instead."""
    own_id, plus, changes = id.partition("+")
    for found in all_rows():
        if found.id == own_id and plus:
            values = interpretations.values(id, found.method)
            names = {name: interpretations.name(getattr(found, name), values) for name in ("id", "training")}
            options = {**found.options, **_options(values)}
            return replace(found, **names, label=f"{found.label}, {changes}", options=options, changes=values)
        if found.id == own_id:
            return found
    raise InputError(f"There is no row {own_id!r}; choose from {', '.join(row.id for row in all_rows())}.")


def closest(default: Row) -> Row | None:
    """A row of Table 2 as `interpretations.CLOSEST` has it, `dropout+rescale=false`; None where that is itself."""
    if default.training not in interpretations.CLOSEST:
        return None
    change = interpretations.CLOSEST[default.training]
    return replace(row(f"{default.id}+{change}"), label=f"→ {change.replace('=', ' = ')}")


def trainings(rows: str | list[str] = "all", notebook: str | None = None) -> list[Row]:
    """The distinct trainings behind rows, in the table's order: 15 for Table 2's 18.

    Args:
        rows: "all", or ids as for `row`, as a list or separated by commas.
        notebook: keep only those that this notebook trains.

    Raises:
        InputError: an unknown row.
    """
    known = all_rows()
    ids = rows.split(",") if isinstance(rows, str) else rows
    chosen = known if rows == "all" else [row(id.strip()) for id in ids]
    found = [row(id) for id in dict.fromkeys(r.training for r in chosen)]
    place = {r.id: place for place, r in enumerate(known)}
    return sorted((r for r in found if notebook in (None, r.notebook)), key=lambda r: place[r.id.partition("+")[0]])


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0-9", "3", "0,2,5" or a mix, in increasing order, each once.

    Raises:
        InputError: anything else, a range that runs backwards, or more than 100,000 seeds.
    """
    seeds: set[int] = set()
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})\s*(?:-\s*([0-9]{1,9})\s*)?", part)
        if not match:
            raise InputError(f"seeds {text!r} cannot be read; write them like 0-9, 3 or 0,2,5.")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise InputError(f"seeds {part.strip()!r} run backwards; write {last}-{first}.")
        if len(seeds) + last - first >= _MOST_SEEDS:
            raise InputError(f"seeds {text[:50]!r} are more than 100,000 runs; ask for at most so many at once.")
        seeds.update(range(first, last + 1))
    return tuple(sorted(seeds))


def spec_for(
    row_id: str, seed: int, preset_name: str = "paper", precision: str | None = None, **changes: Any
) -> RunSpec:
    """The run of one row under a preset.

    Args:
        row_id: as for `row`; early-stopping rows give the training they read.
        seed: 0 or more.
        preset_name: "digits", "quick" or "paper".
        precision: in place of the preset's; where that is "auto" and none is given, float32.
        changes: other RunSpec fields, to run an ablation; `options` are merged. Give such a
            run a `row` of its own name.

    Raises:
        InputError: as for `row`; or a value in the row's name that it has anyway.
    """
    chosen, scale = row(row(row_id).training), preset(preset_name)
    weight = {"weight": scale.weights[chosen.method]} if chosen.method in scale.weights else {}
    options = {**chosen.options, **weight, **_options(chosen.changes), **changes.pop("options", {})}
    fields = {name: value for name, value in chosen.changes.items() if name not in options}
    precision = precision or scale.precision
    values = {
        "row": chosen.id, "method": chosen.method, "colors": chosen.colors,
        "precision": "float32" if precision == "auto" else precision, **scale.fields, **fields, **changes,
    }  # fmt: skip
    spec = RunSpec(seed=seed, options=options, **values)
    if chosen.changes:
        own = spec_for(chosen.id.partition("+")[0], seed, preset_name, precision)
        for name, value in chosen.changes.items():
            if value == {**vars(own), **own.options}[name]:
                raise InputError(f"Row {chosen.id!r}: {name} is {interpretations.word(value)} anyway; leave it out.")
    return spec


def _options(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in RunSpec.__dataclass_fields__}


def precision(preset_name: str, requested: str | None = None) -> str:
    """The precision that a preset's runs take: as asked, here or by MNISTMP_PRECISION, else the preset's own.

    "auto" goes on with that of the preset's first record, as one table takes one precision; on a fresh start it is
    bfloat16 where the device multiplies it natively, else float32.
    """
    from mnistmp import paths, records
    from mnistmp.engine import device

    wanted = requested or os.environ.get("MNISTMP_PRECISION") or preset(preset_name).precision
    if wanted != "auto":
        return wanted
    for path in sorted((paths.results(preset_name) / "runs").glob("*/seed-*.json")):
        # The next one may be readable; who loads all of them says what is wrong.
        with contextlib.suppress(records.RecordError, UnknownMethod):
            return records.read(path).spec.precision
    return "bfloat16" if device.native_bfloat16() else "float32"


def plan(
    preset_name: str,
    rows: str | list[str] = "all",
    seeds: str | None = None,
    precision: str | None = None,
    notebook: str | None = None,
) -> list[RunSpec]:
    """The runs that a preset asks for, seed by seed, in Table 2's order.

    Args:
        rows, notebook: as for `trainings`.
        seeds: as for `parse_seeds`; None for the preset's own, "recorded" for none.
        precision: as for `spec_for`.
    """
    scale, chosen = preset(preset_name), trainings(rows, notebook)
    if seeds == "recorded":
        return []
    numbers = scale.seeds if seeds is None else parse_seeds(seeds)
    return [spec_for(r.id, seed, preset_name, precision) for seed in numbers for r in chosen]
