"""Runs that are no row of Table 2 go through the same machinery as all others."""

from __future__ import annotations

import json
import math

import pytest

from mnistmp import engine, paper, records
from mnistmp.sweep import study, unit
from mnistmp.records import RecordError


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    return tmp_path / "results"


def spec(row="rcl-inf", seed=0, **options):
    name = "+".join([row, *(f"{key}={value}" for key, value in options.items())])
    return paper.spec_for(row, seed, "digits", "float32", row=name, options=options, epochs=1, batch_size=512)


def test_a_unit_trains_the_runs_of_a_file(tmp_path, monkeypatch):
    asked = [spec(weight=5.0), spec("standard", seed=3)]
    assert asked[0].options["margin"] == math.inf
    (tmp_path / "specs.json").write_text(json.dumps([one.to_json() for one in asked], allow_nan=False))
    trained = []
    monkeypatch.setattr("mnistmp.sweep.train.train_missing", lambda specs, preset: trained.append((*specs, preset)))
    assert unit.main(["--preset", "study", "--specs", str(tmp_path / "specs.json")]) == 0
    assert trained == [(one, "study") for one in asked]


@pytest.mark.slow
def test_what_is_missing_is_trained_in_processes_and_recorded(results, capsys):
    asked = [spec("standard"), spec(weight=0.01)]
    assert study.train(asked, "study", jobs=2) == []
    shown = capsys.readouterr().out
    assert "0 of 2 trainings recorded, 2 to do." in shown and "rcl-inf+weight=0.01 seed 0  done" in shown
    assert "test" not in shown  # such runs are there to choose between them
    assert [records.find(one, "study").spec for one in asked] == asked
    assert study.train(asked, "study") == []
    assert "2 of 2 trainings recorded, 0 to do." in capsys.readouterr().out
    assert not (results / "study" / "attempts").exists()


def test_what_another_preset_has_recorded_is_taken_over_if_it_is_the_same_run(results, capsys):
    there, other = engine.fit(spec("standard")), spec("standard", seed=1)
    records.save(there, "digits")
    assert study.dry_run([there.spec, other], "study", 1, "digits") == 0
    assert (
        "standard seed 1  about" in (said := capsys.readouterr().out) and "1 of 2 trainings recorded, 1 to do." in said
    )
    assert not (results / "study").exists()
    study.reuse([there.spec, other], "digits", "study")
    assert records.find(there.spec, "study") == there and records.find(other, "study") is None
    study.reuse([there.spec], "nowhere", "study")
    study.reuse([there.spec], "study", "study")
    another = paper.spec_for("standard", 0, "digits", "float32", epochs=7)  # of the same row and seed
    study.reuse([another], "digits", "elsewhere")
    assert not (results / "elsewhere").exists()
    records.record_path("digits", "standard", 0).write_text("{")
    with pytest.raises(RecordError):
        study.reuse([there.spec], "digits", "elsewhere")
