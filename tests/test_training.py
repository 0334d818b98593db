"""fit: determinism, divergence, what is measured, and how precision is chosen. All on the embedded digits."""

import copy

import pytest
import torch

from mnistmp import data, engine, paper, records
from mnistmp.engine.optimizer import SGD
from mnistmp.engine.seeding import generator, stream_seed
from mnistmp.engine.splits import Splits
from mnistmp.spec import RunSpec

CPU = torch.device("cpu")


TRAIN, TEST = 224, 100  # digits that the tests train on and evaluate


@pytest.fixture(autouse=True)
def small(tmp_path, monkeypatch):
    """A few of the digits, one thread, results in a folder of the test's own."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    full = data.load("digits")
    few = {name: part[: TRAIN if "train" in name else TEST] for name, part in vars(full).items()}
    monkeypatch.setattr(data, "load", lambda name, *args: data.GreyDigits(**few))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def short(row="standard", **changes) -> RunSpec:
    return paper.spec_for(
        row, changes.pop("seed", 0), "digits", changes.pop("precision", "float32"), epochs=2, **changes
    )


def content(record):
    """A record without its times."""
    values = copy.deepcopy(record.to_json())
    for name in ("started", "seconds"):
        del values[name]
    for epoch in values["history"]:
        del epoch["seconds"]
    return values


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("row", ["rcl-m0.9", "dropout"])
def test_same_spec_gives_the_same_record(row, precision):
    torch.manual_seed(1)  # whatever else used the global generator
    first = content(engine.fit(short(row, precision=precision)))
    torch.manual_seed(2)
    assert content(engine.fit(short(row, precision=precision))) == first
    assert content(engine.fit(short(row, precision=precision, seed=1)))["history"] != first["history"]


def test_training_learns_and_counts_are_counts():
    lines, seen = [], []
    record = engine.fit(short(), progress=lines.append, on_epoch=lambda e, method, entry: seen.append((e, entry)))
    assert record.status == "done" and len(record.history) == 2 == len(lines)
    assert seen == [(1, record.history[0]), (2, record.history[1])]
    assert record.val_total == record.test_total == TEST
    first, last = record.history
    assert last["train_loss"] < first["train_loss"] < 2.4
    assert 0 <= last["val_correct"] <= TEST and isinstance(last["test_correct"], int)
    assert "epoch 2/2" in lines[1] and f"val {last['val_correct']:.2f} %" in lines[1]


def test_standard_training_sees_colours_and_no_shapes(monkeypatch):
    """The paper's phenomenon on all the embedded digits: perfect on coloured, near chance on grey ones."""
    monkeypatch.undo()
    last = engine.fit(paper.spec_for("standard", 0, "digits", "float32", epochs=4)).history[-1]
    assert last["val_correct"] > 0.97 * 360 and last["test_correct"] < 0.5 * 360


def test_divergence_is_a_record_not_a_crash():
    record = engine.fit(short("rcl-inf", learning_rate=50.0))
    assert record.status == "diverged"
    assert record.diverged_epoch == len(record.history) + 1
    path = records.save(record, "digits")
    assert records.read(path).status == "diverged"


def test_a_weight_that_is_not_finite_counts_as_diverged_even_if_the_loss_hides_it():
    method = engine.build(short(), CPU)
    optimizer = SGD(method, 0.1, 0.9, 0.0)
    assert optimizer.finite()
    with torch.no_grad():
        method.features.conv1.weight[0, 0, 0, 0] = float("nan")
    assert not optimizer.finite()


def test_initial_weights_and_order_depend_on_the_seed_alone():
    one, same, other = (
        engine.build(short(seed=s, precision=p), CPU) for s, p in ((0, "float32"), (0, "bfloat16"), (1, "float32"))
    )
    for a, b, c in zip(one.parameters(), same.parameters(), other.parameters()):
        assert torch.equal(a.bfloat16(), b) and not torch.equal(a, c)
    labels = [
        torch.cat([y for _, y in Splits(short(seed=s), CPU).train_batches(generator(s, "order"))]) for s in (0, 0, 1)
    ]
    assert torch.equal(labels[0], labels[1]) and not torch.equal(labels[0], labels[2])
    assert len(labels[0]) == TRAIN


def test_streams_of_one_seed_differ():
    seeds = {stream_seed(s, stream) for s in range(50) for stream in ("initialization", "order", "noise")}
    assert len(seeds) == 150


def test_mixed_precision_starts_from_unrounded_weights(monkeypatch):
    started = []
    monkeypatch.setitem(
        engine.fit.__wrapped__.__globals__,
        "train_epoch",
        lambda m, optimizer, b: started.append(optimizer) or {"loss": 0.0},
    )
    engine.fit(short(precision="bfloat16"))
    exact = list(engine.build(short(), CPU).parameters())
    assert all(torch.equal(a, b) for a, b in zip(started[0].weights, exact))
    assert all(p.dtype == torch.bfloat16 for p in started[0].parameters)


def test_what_each_split_shows():
    splits = Splits(short(), CPU)
    (train, _), (val, val_labels), (test, test_labels) = (
        splits.batch(s, slice(0, 100)) for s in ("train", "val", "test")
    )
    assert train.shape == (100, 3, 28, 28) and train.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(val_labels, test_labels) and not torch.equal(val, test)
    assert (test[:, 0] == test[:, 1]).all() and (test[:, 0] == test[:, 2]).all()  # grey
    assert train.min() == -1 and train.max() <= 1
    original = Splits(short("standard-original"), CPU)
    for split in ("train", "val", "test"):
        images, _ = original.batch(split, slice(0, 100))
        assert (images[:, 0] == images[:, 2]).all() and images.max() < 0.01  # 127/255 becomes about 0


def test_readings_of_size_range_and_last_batch():
    splits = Splits(short(image_size=32, input_range="[0,1]", last_batch="drop"), CPU)
    batches = list(splits.train_batches(generator(0, "order")))
    assert len(batches) == TRAIN // splits.batch_size and all(len(y) == splits.batch_size for _, y in batches)
    assert batches[0][0].shape[-2:] == (32, 32) and batches[0][0].min() == 0
    logits = engine.build(short(image_size=32), CPU)(batches[0][0])
    assert logits.shape == (splits.batch_size, 10)


def test_evaluation_counts_what_a_loop_counts():
    splits, method = Splits(short(), CPU), engine.build(short(), CPU)
    expected = sum(int((method(x).argmax(1) == y).sum()) for x, y in splits.batches("val", size=7))
    assert engine.count_correct(method, splits, "val") == expected


def test_fit_selected_returns_the_network_of_the_selected_epoch():
    spec = paper.spec_for("standard", 0, "digits", "float32", epochs=4)
    record, method = engine.fit_selected(spec)
    counts = [epoch["val_correct"] for epoch in record.history]
    chosen = record.history[counts.index(max(counts))]
    splits = Splits(spec, CPU)
    assert engine.count_correct(method, splits, "val") == chosen["val_correct"]
    assert engine.count_correct(method, splits, "test") == chosen["test_correct"]


def test_estimate_is_of_the_right_size():
    spec = short()
    estimate = engine.estimate_seconds(spec)
    assert 0.02 < estimate / engine.fit(spec).seconds < 50
