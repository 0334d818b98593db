"""Kept weights, and what was seen in a network."""

from __future__ import annotations

import dataclasses
import sys
import zipfile

import numpy as np
import pytest
import torch
from stub_runs import record as stub_record

import mnistmp
from mnistmp import engine, evidence, paper, records
from mnistmp.cli import main
from mnistmp.engine import Splits
from mnistmp.errors import InputError
from mnistmp.sweep.train import train_planned

PRESET = "digits"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A results folder of its own and a preset of one short epoch."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.setenv("MNISTMP_PRECISION", "float32")
    monkeypatch.delenv("MNISTMP_CHECKPOINTS", raising=False)
    evidence._say_once.cache_clear()
    small = dataclasses.replace(paper.PRESETS[PRESET], fields={"dataset": "digits", "epochs": 2, "batch_size": 360})
    monkeypatch.setitem(paper.PRESETS, PRESET, small)
    return tmp_path


@pytest.fixture
def fits(monkeypatch):
    """How often a network was trained."""
    calls, fit = [], engine.fit

    def counted(spec, **arguments):
        calls.append(spec)
        return fit(spec, **arguments)

    for place in (engine, sys.modules["mnistmp.engine.fit"]):
        monkeypatch.setattr(place, "fit", counted)
    return calls


def predictions(network, splits):
    images, _ = splits.batch("test", slice(None))
    return {"test": network(images).argmax(1), "features": network.features(images[:2])}


def test_what_is_seen_is_kept_and_read_again(place, fits, capsys):
    seen = evidence.observe("standard", predictions, PRESET)
    record = records.find(paper.spec_for("standard", 0, PRESET), PRESET)  # a run that had none gets one
    best = max(record.history, key=lambda epoch: epoch["val_correct"])
    labels = Splits(record.spec, torch.device("cpu")).batch("test", slice(None))[1].numpy()
    assert (seen["test"] == labels).sum() == best["test_correct"] and seen["features"].shape == (2, 128, 4, 4)
    path = place / PRESET / "evidence" / "standard" / "predictions-seed-0.npz"
    arrays, about = evidence.read(path)
    assert about["key"] == record.spec.key() and about["record"] == "new" and about["epoch"] == best["epoch"]
    again = evidence.observe("standard", predictions, PRESET)
    assert len(fits) == 1 and all(np.array_equal(again[name], seen[name]) for name in seen)
    assert capsys.readouterr().out == "Training standard seed 0 of preset digits to look into its network.\n"
    del about["settings"]  # as in files from before there were any
    before = evidence.write(path, arrays, about).read_bytes()
    evidence.observe("standard", predictions, PRESET)
    assert path.read_bytes() == before


def test_another_look_or_another_run_is_seen_anew(place, fits):
    def look(network, splits):
        return {"number": torch.tensor([1])}

    evidence.observe("standard", look, PRESET)

    def look(network, splits):
        return {"number": torch.tensor([2])}

    assert evidence.observe("standard", look, PRESET)["number"] == 2 and len(fits) == 1
    about = evidence.read(place / PRESET / "evidence" / "standard" / "look-seed-0.npz")[1]
    assert about["record"] == "equal"


def test_every_epoch_can_be_seen(place):
    def bias(network, splits):
        return {"bias": network.features[0].bias}

    seen = evidence.observe("standard", bias, PRESET, every_epoch=True)["bias"]
    assert seen.shape == (2, 64) and not np.array_equal(*seen)


def test_a_run_with_other_accuracies_says_so(place, capsys):
    spec = paper.spec_for("standard", 0, PRESET)
    records.save(stub_record(spec, environment={"path": "other"}), PRESET)
    evidence.observe("standard", predictions, PRESET)
    evidence.observe("standard", predictions, PRESET)
    assert capsys.readouterr().out.count("its accuracies differ from the recorded run's") == 1  # once each


def test_files_hold_no_pickle_and_no_date_and_are_written_back_byte_for_byte(place):
    path = evidence.write(place / "one.npz", {"number": np.arange(3)}, {"key": "k"})
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert evidence.write(place / "two.npz", *evidence.read(path)).read_bytes() == path.read_bytes()
    np.savez(path, number=np.zeros(3, object))
    with pytest.raises(InputError, match="one.npz cannot be used: .*allow_pickle"):
        evidence.read(path)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_that_diverges_is_recorded_and_named(place, monkeypatch, recorded):
    spec = paper.spec_for("standard", 0, PRESET)
    lost = stub_record(spec, status="diverged", history=[], diverged_epoch=1)
    if recorded:  # as done, on another machine
        records.save(stub_record(spec), PRESET)

    def diverge(spec, **arguments):
        raise engine.Diverged(lost)

    monkeypatch.setattr(engine, "fit_selected", diverge)
    with pytest.raises(engine.Diverged, match="standard seed 0 diverged in epoch 1; there is no network"):
        evidence.observe("standard", predictions, PRESET)
    assert records.find(spec, PRESET).status == ("done" if recorded else "diverged")


def test_other_settings_are_seen_anew(place, fits):
    for perplexity in (5, 30):
        evidence.observe("standard", predictions, PRESET, settings={"perplexity": perplexity})
    about = evidence.read(place / PRESET / "evidence" / "standard" / "predictions-seed-0.npz")[1]
    assert about["settings"] == {"perplexity": 30} and len(fits) == 1  # the first seed's weights are kept


def test_a_file_that_cannot_be_used_is_named(place):
    path = place / PRESET / "evidence" / "standard" / "predictions-seed-0.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match="predictions-seed-0.npz cannot be used: .*; delete it"):
        evidence.observe("standard", predictions, PRESET)


# ---- weights ----


def test_weights_give_the_network_back(place, fits):
    with pytest.raises(InputError, match="mnistmp run --preset digits --rows standard --seeds 0 --checkpoints"):
        mnistmp.load("standard", 0, PRESET)
    train_planned(PRESET, "standard", "0", progress=None)
    network = mnistmp.load("standard", 0, PRESET)
    record = records.find(paper.spec_for("standard", 0, PRESET), PRESET)
    best = max(record.history, key=lambda epoch: epoch["val_correct"])
    assert engine.count_correct(network, Splits(record.spec, torch.device("cpu")), "test") == best["test_correct"]
    evidence.observe("standard", predictions, PRESET)
    assert len(fits) == 1  # its weights are at hand


def test_a_network_of_a_bfloat16_run_takes_float32_images(place, monkeypatch):
    monkeypatch.setenv("MNISTMP_PRECISION", "bfloat16")
    train_planned(PRESET, "standard", "0", progress=None)
    network = mnistmp.load("standard", 0, PRESET)
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    record = records.find(paper.spec_for("standard", 0, PRESET, "bfloat16"), PRESET)
    best = max(record.history, key=lambda epoch: epoch["val_correct"])
    accuracy = mnistmp.evaluate(network, "mp", dataset="digits")["accuracy"]
    assert accuracy == pytest.approx(best["test_correct"] / record.test_total, abs=0.03)  # but for close calls


def test_the_command_for_weights_keeps_those_that_are_asked_for(place, monkeypatch):
    with pytest.raises(InputError, match="Row rcl-m0.9-early-stop is read from the runs of rcl-m0.9,") as caught:
        mnistmp.load("rcl-m0.9-early-stop", 0, PRESET)
    assert str(caught.value).endswith(".") and str(caught.value).count(". ") == 0
    with pytest.raises(InputError, match=r"--rows standard\+size=32 --seeds 1 --checkpoints"):
        mnistmp.load("standard+image_size=32", 1, PRESET)
    monkeypatch.setenv("MNISTMP_CHECKPOINTS", "1")
    train_planned(PRESET, "standard+size=32", "1", progress=None)
    network = mnistmp.load("standard+image_size=32", 1, PRESET)
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


@pytest.mark.parametrize("row, seed", [("nosuch", 0), ("standard", -1), ("standard", 0.5), ("standard", "0-3")])
def test_networks_that_cannot_be_are_refused_in_a_sentence(place, row, seed):
    with pytest.raises(InputError, match="There is no row 'nosuch'|seed is .*; give a whole number from 0 on"):
        mnistmp.load(row, seed, PRESET)


def test_the_first_seeds_weights_are_kept_and_others_on_request(place, fits, monkeypatch):
    train_planned(PRESET, "standard", "0-1", progress=None)
    kept = [evidence.checkpoint_path(PRESET, "standard", seed).exists() for seed in (0, 1)]
    assert kept == [True, False] and len(fits) == 2
    monkeypatch.setenv("MNISTMP_CHECKPOINTS", "1")
    for _ in range(2):  # what is recorded is trained once more for its weights, once
        train_planned(PRESET, "standard", "0-1", progress=None)
        assert evidence.checkpoint_path(PRESET, "standard", 1).exists() and len(fits) == 3


def test_the_command_keeps_weights(place, capsys, monkeypatch):
    monkeypatch.setenv("MNISTMP_CHECKPOINTS", "")  # which the command sets, and monkeypatch puts back
    command = ["run", "--rows", "standard", "--seeds", "0", "--precision", "float32"]
    assert main([*command, "--checkpoints", "--dry-run"]) == 0
    assert "0 of 1 runs recorded, 1 to do" in capsys.readouterr().out
    spec = paper.spec_for("standard", 0, PRESET)
    records.save(stub_record(spec), PRESET)
    assert main([*command, "--checkpoints", "--dry-run"]) == 0
    assert "0 of 1 runs recorded, 1 to do" in capsys.readouterr().out
    monkeypatch.setenv("MNISTMP_CHECKPOINTS", "")
    assert main([*command, "--dry-run"]) == 0
    assert "nothing to train" in capsys.readouterr().out


def test_a_diverged_run_has_no_weights_to_wait_for(place, monkeypatch):
    monkeypatch.setenv("MNISTMP_CHECKPOINTS", "1")
    spec = paper.spec_for("standard", 0, PRESET)
    records.save(stub_record(spec, status="diverged", history=[], diverged_epoch=1), PRESET)
    from mnistmp.sweep import plan

    assert plan.missing([spec], PRESET) == []


def test_spoiled_weights_are_named(place):
    path = evidence.checkpoint_path(PRESET, "standard", 0)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"torn")
    with pytest.raises(InputError, match="seed-0.safetensors holds no usable weights: .*; delete it and train again"):
        mnistmp.load("standard", 0, PRESET)
