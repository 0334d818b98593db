"""Runs that nobody trained, for tests of what plans, files and shows runs."""

from mnistmp import paper
from mnistmp.records import RunRecord

PRESET = "digits"


def specs_of(rows, seeds="0", precision="float32"):
    return paper.plan(PRESET, rows=rows, seeds=seeds, precision=precision)


def record(spec, **changes):
    """What a training of `spec` could have left behind: validation 305 of 360, test 90 + epoch of 360."""
    history = [
        {"epoch": e, "val_correct": 300 + min(e, 5), "test_correct": 90 + e, "train_loss": 1 / e, "terms": {},
         "seconds": 2.5}
        for e in range(1, spec.epochs + 1)
    ]  # fmt: skip
    values = {"status": "done", "history": history, "val_total": 360, "test_total": 360,
              "environment": {"device": "a processor", "threads": 1, "path": "stub"},
              "started": "2026-01-01T00:00:00Z", "seconds": 40.0}  # fmt: skip
    return RunRecord(**{"spec": spec, **values, **changes})
