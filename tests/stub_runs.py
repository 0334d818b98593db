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


def counted(spec, val, test=5000, diverged=False):
    """A run of 10,000 validation and 10,000 test digits with these counts of right ones.

    `val` is one per epoch, later ones are a digit worse than the last; `test` is that of all epochs. A run that
    diverged did so in epoch 3.
    """
    val = [*val, *[val[-1] - 1] * (spec.epochs - len(val))][: 2 if diverged else None]
    history = [
        {"epoch": e, "val_correct": v, "test_correct": test, "train_loss": 0.1, "terms": {}, "seconds": 1.0}
        for e, v in enumerate(val, 1)
    ]
    ended = {"status": "diverged", "diverged_epoch": 3} if diverged else {}
    return record(spec, history=history, val_total=10_000, test_total=10_000, **ended)
