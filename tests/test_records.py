"""Records on disk: what is written is read back equal, and whatever is broken gives one clear sentence."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time

import pydantic
import pytest

from mnistmp import methods, paper, paths, records
from mnistmp.errors import RecordError
from mnistmp.files import write_atomically
from mnistmp.records import RunRecord, store


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def make(row="rcl-inf", seed=3, epochs=3, **changes):
    history = [
        {"epoch": i + 1, "val_correct": 9000 + i, "test_correct": 7000 + i, "train_loss": 0.1 + 0.2,
         "terms": {"cross_entropy": 1e-300}, "seconds": 1.25}
        for i in range(epochs)
    ]  # fmt: skip
    spec = paper.spec_for(row, seed, "paper", epochs=epochs)
    values = {
        "spec": spec, "status": "done", "history": history, "val_total": 10_000, "test_total": 10_000,
        "environment": {"device": "synthetic", "threads": 1, "deterministic": False, "code_version": "0"},
        "started": "2026-01-02T03:04:05+00:00", "seconds": 4.0,
    }  # fmt: skip
    return RunRecord(**{**values, **changes})


def diverged(row="standard", seed=0):
    whole = make(row, seed)
    return dataclasses.replace(whole, status="diverged", history=whole.history[:1], diverged_epoch=2)


def sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and text.endswith(".") and not text.endswith("..")
    return text


# Writing and reading back


@pytest.mark.parametrize("record", [make(), make("standard", 0), diverged()], ids=["infinite", "plain", "diverged"])
def test_round_trip(record, results):
    path = records.save(record, "paper")
    assert path == results / "paper" / "runs" / record.spec.row / f"seed-{record.spec.seed}.json"
    assert records.read(path) == record
    assert records.find(record.spec, "paper") == record
    json.loads(path.read_text(), parse_constant=pytest.fail)  # strict JSON: no Infinity, no NaN


def test_infinity_travels_as_a_string():
    content = json.loads(records.save(make(), "paper").read_text())
    assert content["spec"]["options"]["margin"] == "inf"
    assert records.find(make().spec, "paper").spec.options["margin"] == math.inf


def test_same_record_same_bytes_with_one_epoch_per_line():
    text = make().to_text()
    assert text == make().to_text() and text.endswith("}\n")
    epochs = [line.strip()[:11] for line in text.splitlines() if '"epoch":' in line]
    assert epochs == ['{"epoch": 1', '{"epoch": 2', '{"epoch": 3']
    assert RunRecord.from_text(text).to_text() == text


def test_a_byte_order_mark_is_no_fault():
    path = records.save(make(), "paper")
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert records.read(path) == make() == RunRecord.from_text(path.read_text())


def test_missing_run_is_none():
    assert records.find(make().spec, "paper") is None


def test_first_finished_record_stays():
    first = records.save(make(), "paper").read_bytes()
    assert records.save(make(seconds=9.0), "paper").read_bytes() == first


@pytest.mark.parametrize(
    "change",
    [{"seconds": math.nan}, {"val_total": 5}, {"history": []}, {"started": "yesterday"}, {"status": "fine"},
     {"environment": {"cpu": ["a"]}}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_nothing_invalid_becomes_a_record(change):
    with pytest.raises(pydantic.ValidationError):
        make(**change)


# A record that is broken or another one


def truncated(text):
    return text[: len(text) // 2]


def edited(**changes):
    def edit(text):
        values = json.loads(text)
        for name, value in changes.items():
            *outer, last = [int(part) if part.isdigit() else part for part in name.split("__")]
            inner = values
            for part in outer:
                inner = inner[part]
            inner[last] = value
        return json.dumps(values)

    return edit


def without(name):
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != name})


BROKEN = [
    ("empty", lambda text: "", "it is torn or not JSON"),
    ("torn", truncated, "it is torn or not JSON"),
    ("binary", lambda text: b"\x80\x04\x95pickle", "it is torn or not JSON"),
    ("list", lambda text: "[]", "it is not a JSON object"),
    ("deep", lambda text: "[" * 200_000, "it is torn or not JSON"),
    ("NaN", lambda text: text.replace("4.0", "NaN"), "it is torn or not JSON"),
    ("other format", edited(format=2, spec=None), "it is of format version 2"),
    ("other protocol", edited(protocol=99), "it is of protocol version 99"),
    ("missing field", without("history"), "the field 'history' is missing"),
    ("unknown field", edited(note="hello"), "there is no field 'note'"),
    ("changed spec", edited(spec__learning_rate=0.1), "a field was changed after the run"),
    ("changed option", edited(spec__options__weight=2.0), "a field was changed after the run"),
    ("changed key", edited(key="0" * 16), "a field was changed after the run"),
    ("method is a list", edited(spec__method=[]), "its spec is invalid"),
    ("spec field missing", edited(spec={}), "its spec is invalid"),
    ("epoch missing", lambda text: edited(history=json.loads(text)["history"][:2])(text), "it holds 2 instead of 3"),
    ("epochs swapped", lambda text: edited(history=json.loads(text)["history"][::-1])(text), "epoch 1 is numbered 3"),
    ("epoch field missing", edited(history__1={"epoch": 2}), "the field 'history.1.val_correct' is missing"),
    ("too many correct", edited(val_total=8000), "epoch 1 has val_correct 9000 of 8000 digits"),
    ("negative count", edited(history__0__test_correct=-1), "history.0.test_correct is -1; .*greater than or eq"),
    ("count is a boolean", edited(history__0__val_correct=True), "history.0.val_correct is True; .*valid integer"),
    ("loss is infinite", lambda text: text.replace("0.30000000000000004", "1e999"), "train_loss is inf; .*finite"),
    ("negative time", edited(seconds=-1), "seconds is -1; .*greater than or equal to 0"),
    ("done and diverged", edited(diverged_epoch=2), "it is done and its diverged_epoch is 2"),
    ("diverged, too long", edited(status="diverged", diverged_epoch=2), "it holds 3 instead of 1"),
    ("oversized", lambda text: text + " " * store.SIZE_LIMIT, "it is larger than 1,000,000 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "message"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_broken_record_is_named_with_a_remedy_and_left_alone(spoil, message):
    record = make()
    path = records.save(record, "paper")
    spoiled = spoil(path.read_text())
    path.write_bytes(spoiled if isinstance(spoiled, bytes) else spoiled.encode())
    before = path.read_bytes()
    for use in (
        lambda: records.read(path),
        lambda: records.find(record.spec, "paper"),
        lambda: records.save(record, "paper"),
        lambda: records.load("paper"),
    ):
        with pytest.raises(RecordError, match=message) as error:
            use()
        text = sentence(error)
        assert str(path) in text and "delete it and run again" in text and len(text) < 600
    assert path.read_bytes() == before


def test_every_truncation_is_noticed():
    text = make().to_text()
    for end in range(0, len(text) - 2, 7):
        with pytest.raises(RecordError):
            RunRecord.from_text(text[:end])


def test_another_run_under_the_same_name_says_what_differs():
    records.save(make(), "paper")
    other = paper.spec_for("rcl-inf", 3, "paper", epochs=3, learning_rate=0.5, options={"scaling": "batch"})
    with pytest.raises(RecordError) as error:
        records.find(other, "paper")
    assert "learning_rate is 0.001 and 0.5 is asked" in sentence(error)
    assert "option scaling is 'coordinate' and 'batch' is asked" in sentence(error)
    assert "margin" not in sentence(error)


@pytest.mark.parametrize("copy", ["rcl-inf/seed-4.json", "standard/seed-3.json"])
def test_copy_under_another_name_counts_once(copy, results):
    path = records.save(make(), "paper")
    write_atomically(results / "paper" / "runs" / copy, path.read_bytes())
    with pytest.raises(RecordError, match="holds the run of row rcl-inf, seed 3, under another name; delete the copy"):
        records.load("paper")


def test_record_stays_valid_when_its_method_gets_another_option(monkeypatch):
    def method(later):
        class Probe(methods.Method):
            def __init__(self, network, strength: float = 1.0):
                super().__init__(network)

        class ProbeLater(methods.Method):
            def __init__(self, network, strength: float = 1.0, reading: float = 2.0):
                super().__init__(network)

        return ProbeLater if later else Probe

    def spec():
        return paper.RunSpec(row="probe", method="probe", epochs=3)

    monkeypatch.setitem(methods.METHODS, "probe", method(later=False))
    records.save(make(spec=spec()), "paper")
    monkeypatch.setitem(methods.METHODS, "probe", method(later=True))
    found = records.find(spec(), "paper")
    assert found.spec == spec() and found.spec.options == {"strength": 1.0, "reading": 2.0}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused_without_hanging(results):
    path = records.record_path("paper", "rcl-inf", 3)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(RecordError, match=r"cannot be read \(not a file\)"):
        records.find(make().spec, "paper")
    path.unlink()
    path.symlink_to("nowhere")
    with pytest.raises(RecordError, match="is a link to nothing; delete it"):
        records.find(make().spec, "paper")
    path.unlink()
    path.mkdir()
    with pytest.raises(RecordError, match="cannot be read"):
        records.find(make().spec, "paper")


def test_symlinked_record_is_read(tmp_path):
    path = records.save(make(), "paper")
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert records.find(make().spec, "paper") == make()


# Faults while writing


def leftovers(results):
    return sorted(path.name for path in results.rglob("*") if path.is_file())


@pytest.mark.faults
@pytest.mark.parametrize("broken", [("link", "replace"), ("fsync",)], ids=["name", "fsync"])
def test_failed_write_leaves_nothing(broken, results, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    for name in broken:
        monkeypatch.setattr(os, name, fail)
    with pytest.raises(RecordError, match=r"cannot be written \(No space left on device\); free or repair") as error:
        records.save(make(), "paper")
    assert "seed-3.json" in sentence(error)
    assert leftovers(results) == []


@pytest.mark.faults
def test_file_size_limit_of_the_system_leaves_nothing(results):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))
    try:
        with pytest.raises(RecordError, match=r"cannot be written \(File too large\)"):
            records.save(make(), "paper")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert leftovers(results) == []
    records.save(make(), "paper")
    assert leftovers(results) == ["seed-3.json"]


def test_of_two_writers_the_first_counts_also_where_there_are_no_links(results, monkeypatch):
    path = records.save(make(), "paper")
    first = path.read_bytes()
    monkeypatch.setattr(store, "find", lambda *_: None)  # as another process sees it just before
    for refuse in (False, True):
        if refuse:
            monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links here")))
        with pytest.raises(RecordError, match="vanished"):  # what finding nothing means after writing
            records.save(make(seconds=9.0), "paper")
        assert path.read_bytes() == first and leftovers(results) == ["seed-3.json"]
    path.unlink()
    write_atomically(path, first, keep=True)
    assert path.read_bytes() == first and leftovers(results) == ["seed-3.json"]


@pytest.mark.faults
def test_interrupt_while_writing_leaves_nothing(results, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.save(make(), "paper")
    assert leftovers(results) == []


@pytest.mark.faults
def test_file_in_place_of_the_folder(results):
    (results / "paper").mkdir(parents=True)
    (results / "paper" / "runs").write_text("in the way")
    for use in (lambda: records.save(make(), "paper"), lambda: records.check_writable("paper")):
        with pytest.raises(RecordError, match="free or repair|make it readable"):
            use()
    with pytest.raises(RecordError, match="must be a readable folder"):
        records.load("paper")
    status = records.status("paper", [make().spec])
    assert list(status["missing"]) == [1] and len(status.attrs["problems"]) == 1


def test_check_writable_leaves_no_trace_but_sweeps_old_leftovers(results):
    path = records.save(make(), "paper")
    old, new = path.parent / ".seed-1.json.7-a.tmp", path.parent / ".seed-2.json.7-b.tmp"
    for file in (old, new):
        file.write_text('{"torn')
    os.utime(old, (time.time() - 100_000,) * 2)
    records.check_writable("paper")
    assert leftovers(results) == [".seed-2.json.7-b.tmp", "seed-3.json"]
    assert len(records.load("paper")) == 1  # what a killed run left is not read


# All records of a preset


def test_load_gives_a_line_per_run_by_row_and_seed():
    for record in (make("rcl-inf", 10), make("rcl-inf", 9), make("standard", 1), diverged("standard", 0)):
        records.save(record, "paper")
    own = make(spec=dataclasses.replace(make().spec, row="aaa-my-own"))
    records.save(own, "paper")
    frame = records.load("paper")
    assert list(frame.columns) == list(records.COLUMNS)
    assert list(zip(frame["row"], frame["seed"])) == [
        ("aaa-my-own", 3), ("rcl-inf", 9), ("rcl-inf", 10), ("standard", 0), ("standard", 1)]  # fmt: skip
    assert list(frame["status"]) == ["done", "done", "done", "diverged", "done"]
    line = frame.iloc[1]
    assert line["val_correct"] == [9000, 9001, 9002] and line["test_correct"] == [7000, 7001, 7002]
    assert line["options"]["margin"] == math.inf and line["spec"] == make(seed=9).spec
    assert line["key"] == line["spec"].key() and line["file"] == "paper/runs/rcl-inf/seed-9.json"
    assert line["device"] == "synthetic" and line["dataset"] == "mnist"


def test_recorded_gives_those_of_the_runs_that_there_are():
    specs = [make(seed=seed).spec for seed in (0, 1, 2)]
    records.save(make(seed=1), "paper")
    assert list(records.recorded(specs, "paper")["spec"]) == [specs[1]]
    records.save(make(seed=2, spec=dataclasses.replace(specs[2], learning_rate=0.5)), "paper")
    with pytest.raises(RecordError, match="holds another run"):
        records.recorded(specs, "paper")


def test_presets_never_meet():
    records.save(make(), "paper")
    assert len(records.load("quick")) == 0 and list(records.load("quick").columns) == list(records.COLUMNS)


def test_load_collects_all_problems(results):
    runs = results / "paper" / "runs"
    records.save(make(), "paper")
    for name in ("standard/seed-0.json", "standard/seed-007.json", "standard/seed-1 (copy).json", "stray.json"):
        write_atomically(runs / name, "")
    for name in ("standard/.DS_Store", "standard/notes.txt", ".ipynb_checkpoints/seed-1.json"):
        write_atomically(runs / name, "harmless")
    (runs / "standard" / "folder.json").mkdir()
    with pytest.raises(RecordError) as error:
        records.load("paper")
    problems = str(error.value).splitlines()
    names = ("seed-0.json", "seed-007", "copy", "folder", "stray")
    assert [sum(name in line for line in problems) for name in names] == 5 * [1]
    assert len(problems) == 5 and all(line.endswith(".") for line in problems)


def test_message_about_thousands_of_problems_stays_short(results):
    for seed in range(30):
        write_atomically(results / "paper" / "runs" / "standard" / f"seed-{seed}.json", "")
    with pytest.raises(RecordError, match="and 10 more like these"):
        records.load("paper")


def test_history_is_a_row_per_epoch_in_percent():
    records.save(make("standard", 0), "paper")
    records.save(diverged("standard", 1), "paper")
    frame = records.history("paper")
    assert list(zip(frame["seed"], frame["epoch"])) == [(0, 1), (0, 2), (0, 3), (1, 1)]
    assert list(frame["val_accuracy"]) == [90.0, 90.01, 90.02, 90.0] and frame["test_accuracy"][0] == 70.0
    assert list(frame["term:cross_entropy"]) == 4 * [1e-300]
    assert list(records.history("quick").columns[:4]) == ["row", "seed", "status", "epoch"]


def test_status_counts_per_row(results):
    records.save(make("standard", 0), "paper")
    records.save(diverged("standard", 1), "paper")
    records.save(make("rcl-inf", 0), "paper")
    write_atomically(records.record_path("paper", "rcl-inf", 1), "torn")
    specs = [paper.spec_for(row, seed, "paper", epochs=3) for row in ("standard", "rcl-inf") for seed in (0, 1, 2)]
    specs[3] = dataclasses.replace(specs[3], epochs=5)
    frame = records.status("paper", specs)
    assert frame.to_dict("records") == [
        {"row": "standard", "planned": 3, "done": 1, "diverged": 1, "missing": 1, "broken": 0},
        {"row": "rcl-inf", "planned": 3, "done": 0, "diverged": 0, "missing": 1, "broken": 2},
    ]
    torn, other = frame.attrs["problems"]
    assert "torn" in torn and "epochs is 3 and 5 is asked" in other


# Places


def test_results_follow_the_variable_and_else_the_checkout(monkeypatch, tmp_path):
    assert paths.results("paper") == tmp_path / "results" / "paper"
    monkeypatch.delenv("MNISTMP_RESULTS")
    monkeypatch.setenv("MNISTMP_FIGURES", "")  # empty counts as not set
    monkeypatch.chdir(tmp_path)
    root = paths.checkout()
    assert (paths.results(), paths.figures("quick"), paths.notebooks()) == (
        root / "results", root / "figures" / "quick", root / "notebooks")  # fmt: skip
    monkeypatch.setattr(paths, "checkout", lambda: None)  # installed elsewhere
    assert paths.results() == tmp_path / "results"


@pytest.mark.parametrize("link", [".", "paper", "paper/runs", "paper/runs/rcl-inf"])
def test_folders_may_be_links_to_another_disk(link, results, tmp_path):
    elsewhere = tmp_path / "another disk"
    elsewhere.mkdir()
    (results / link).parent.mkdir(parents=True, exist_ok=True)
    (results / link).symlink_to(elsewhere)
    records.check_writable("paper")
    assert records.read(records.save(make(), "paper")) == make() == records.find(make().spec, "paper")
    assert records.load("paper")["file"].tolist() == ["paper/runs/rcl-inf/seed-3.json"]
    assert list(elsewhere.rglob("seed-3.json"))
