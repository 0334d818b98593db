"""Which epoch of a run counts, such as the early-stopping rule's; training always runs all epochs."""

from __future__ import annotations

from collections.abc import Sequence

RULES = ("best-validation", "early-stop")

EARLY_STOP = 95  # percent of validation accuracy, the paper's "@95"


def select(val_correct: Sequence[int], val_total: int | None = None, rule: str = "best-validation") -> int | None:
    """Index of the epoch that a rule selects, counted from 0; None if there is no epoch.

    Args:
        val_correct: correctly classified validation digits after each epoch.
        val_total: number of validation digits; only "early-stop" needs it.
        rule: "best-validation", the first epoch that reaches the highest accuracy; "early-stop",
            the first with 95 % or more and, in a run that never gets there, the same as "best-validation".

    Raises:
        ValueError: another rule.
    """
    if rule not in RULES:
        raise ValueError(f"There is no selection rule {rule!r}; choose one of {', '.join(RULES)}.")
    if not len(val_correct):
        return None
    if rule == "early-stop":
        for index, correct in enumerate(val_correct):
            if 100 * correct >= EARLY_STOP * val_total:  # whole numbers: 95 % exactly counts
                return index
    return max(range(len(val_correct)), key=val_correct.__getitem__)  # max keeps the first of equals
