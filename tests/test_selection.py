"""Which epoch counts: the two rules of Table 2, written out on small histories."""

from __future__ import annotations

import pytest

from mnistmp.selection import RULES, select


@pytest.mark.parametrize(
    ("rule", "val_correct", "expected"),
    [
        ("best-validation", [90, 97, 96], 1),
        ("best-validation", [90, 97, 97], 1),  # the first of equals
        ("best-validation", [0, 0], 0),
        ("early-stop", [90, 95, 99], 1),  # 95 % exactly counts
        ("early-stop", [96, 95, 99], 0),
        ("early-stop", [90, 94, 92], 1),  # never there: as best-validation
    ],
)
def test_rules(rule, val_correct, expected):
    assert select(val_correct, 100, rule) == expected


def test_95_percent_is_compared_in_whole_numbers():
    # 342 of 360 is 95 % exactly; in floating point 100 * 342 / 360 could fall short.
    assert select([341, 342], 360, "early-stop") == 1


@pytest.mark.parametrize("rule", RULES)
def test_no_epoch_selects_nothing(rule):
    assert select([], 100, rule) is None


def test_unknown_rule_names_the_valid_ones():
    with pytest.raises(ValueError, match="no selection rule 'best'; choose one of best-validation, early-stop"):
        select([1], 1, "best")
