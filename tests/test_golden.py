"""What was recorded stays: every committed record keeps its key, and a run trained anew gives its numbers."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from mnistmp import engine, records

RESULTS = Path(__file__).parents[1] / "results"
COMMITTED = sorted(RESULTS.glob("**/runs/*/seed-*.json"))


@pytest.mark.skipif(not COMMITTED, reason="an installed copy has no results")
def test_every_committed_record_can_be_read_and_keeps_its_key():
    kept = 0
    for path in COMMITTED:
        record, text = records.read(path), path.read_text()  # read compares the key with the fields
        written = json.loads(text)
        # The search's first records name options at the defaults that these got with them; keys leave those out now.
        if written["spec"] == record.spec.to_json() or RESULTS / "search" not in path.parents:
            assert record.spec.key() == written["key"] and record.to_text() == text, path
            kept += 1
    assert kept >= 319


# How far losses and counts may be from the recorded ones. RCL amplifies the last bits of a sum, in which machines of
# one name differ: a third of the digits may change sides in its first epochs, while its loss stays where it was.
@pytest.mark.parametrize("row, loss, counts", [("standard", 0.005, 0.01), ("rcl-inf", 0.05, None)])
def test_a_run_trained_anew_is_near_its_record(row, loss, counts):
    precision = "bfloat16" if engine.native_bfloat16("cpu") else "float32"
    then = records.read(RESULTS / f"precision-digits-{precision}/runs/{row}/seed-0.json")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        now = engine.fit(dataclasses.replace(then.spec, epochs=3), device="cpu")
    finally:
        torch.set_num_threads(before)
    for ours, recorded in zip(now.history, then.history, strict=False):
        assert ours["train_loss"] == pytest.approx(recorded["train_loss"], rel=loss)
        if counts:
            for split in ("val_correct", "test_correct"):
                assert ours[split] == pytest.approx(recorded[split], abs=counts * then.val_total)
