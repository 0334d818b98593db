"""The precision that the runs of a preset take: one table takes one."""

from __future__ import annotations

import os

from mnistmp import paper, records
from mnistmp.engine.device import fastest_precision
from mnistmp.spec import SpecError


def resolve_precision(preset_name: str, requested: str | None = None) -> str:
    """The precision to run a preset at: as asked, here or by MNISTMP_PRECISION, else the preset's own.

    "auto" goes on with the precision of the records that are there; on a fresh start it is
    bfloat16 where the device multiplies it natively, else float32.

    Raises:
        SpecError: another precision than that of the preset's records is asked for.
    """
    recorded = set(records.load(preset_name)["precision"])
    requested = requested or os.environ.get("MNISTMP_PRECISION")  # set for the notebooks of a batch
    if requested and recorded - {requested}:
        raise SpecError(
            f"results/{preset_name} holds {', '.join(sorted(recorded))} records, and {requested} is asked for; one "
            f"table takes one precision, so leave --precision out or set MNISTMP_RESULTS to another folder."
        )
    return precision_beside(recorded, preset_name, requested)


def precision_beside(recorded: set[str], preset_name: str, requested: str | None = None) -> str:
    """`resolve_precision` where the precisions of the preset's records are known; that they fit is not checked."""
    requested = requested or os.environ.get("MNISTMP_PRECISION")  # set for the notebooks of a batch
    wanted = requested or paper.preset(preset_name).precision
    if wanted != "auto":
        return wanted
    if len(recorded) == 1:
        return next(iter(recorded))
    return fastest_precision()
