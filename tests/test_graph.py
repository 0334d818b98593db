"""Recorded steps train exactly as eager ones, and every method's step can be recorded as a GPU graph."""

import itertools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mnistmp import engine, paper
from mnistmp.engine import cuda_graph
from mnistmp.engine.optimizer import SGD
from mnistmp.engine.seeding import generator
from mnistmp.engine.splits import Splits
from mnistmp.fast import kernels

CPU = torch.device("cpu")
BY_METHOD = {paper.row(row.id).method: row.id for row in paper.trainings("all")}


@pytest.fixture(autouse=True)
def plain_torch(monkeypatch):
    """Neither shortcuts nor several threads: what a GPU's step is made of."""
    monkeypatch.setattr(kernels, "in_use", lambda: "off")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rehearse(step, generator):
    """As `cuda_graph.as_graph` does: warm up, then one more step, which a capture would only note down."""
    for _ in range(cuda_graph.WARM_UP):
        step()
    return step


def parts(row, precision="bfloat16", batch_size=96, **options):
    spec = paper.spec_for(row, 0, "digits", precision, batch_size=batch_size, **options)
    splits, method = Splits(spec, CPU), engine.build(spec, CPU)
    return method, SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay), splits


def some_batches(splits):
    """The first two and the last, smaller one of an epoch."""
    order = list(splits.train_order(generator(0, "order")))
    assert splits.batch_sizes() == [len(order[0]), len(order[-1])] and len(order[-1]) < len(order[0])
    return [order[0], order[1], order[-1]]


@pytest.mark.parametrize(
    "row, precision", [*((row, "bfloat16") for row in BY_METHOD.values()), ("standard", "float32")]
)
def test_recorded_steps_equal_eager_ones(row, precision):
    results = []
    for recorded in (True, False):
        method, optimizer, splits = parts(row, precision)
        batches = some_batches(splits)
        if recorded:
            steps = cuda_graph.recorded(method, optimizer, splits, rehearse)
            epochs = [steps.epoch(batches), steps.epoch(batches[:1])]
        else:
            epochs = [
                engine.train_epoch(method, optimizer, (splits.batch("train", index) for index in some))
                for some in (batches, batches[:1])
            ]
        results.append((epochs, optimizer.weights, method.generator.get_state()))
    (ours, weights, noise), (theirs, reference, same_noise) = results
    assert ours == theirs
    assert all(torch.equal(a, b) for a, b in zip(weights, reference))
    assert torch.equal(noise, same_noise)


def test_recording_moves_nothing_in_memory():
    method, optimizer, splits = parts("dropout")
    before = [p.data_ptr() for p in itertools.chain(optimizer.weights, method.parameters())]
    steps = cuda_graph.recorded(method, optimizer, splits, rehearse)
    steps.epoch(some_batches(splits))
    assert before == [p.data_ptr() for p in itertools.chain(optimizer.weights, method.parameters())]


def test_a_step_that_cannot_be_captured_is_run_piece_by_piece():
    def refuse(step, generator):
        rehearse(step, generator)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    method, optimizer, splits = parts("dropout")
    before = [w.clone() for w in optimizer.weights], method.generator.get_state()
    with pytest.warns(
        UserWarning, match=r"Dropout cannot be captured .*\(operation not permitted when stream is capturing\)"
    ):
        assert cuda_graph.recorded(method, optimizer, splits, refuse) is None
    assert all(torch.equal(a, b) for a, b in zip(before[0], optimizer.weights))
    assert torch.equal(before[1], method.generator.get_state())


def test_a_cpu_records_nothing():
    assert cuda_graph.recorded(*parts("standard")) is None


def test_fit_with_recorded_steps_gives_the_same_record(monkeypatch):
    spec = paper.spec_for("rcl-inf", 0, "digits", "bfloat16", epochs=1, batch_size=96)
    eager = engine.fit(spec)
    plain = cuda_graph.recorded
    monkeypatch.setattr(cuda_graph, "recorded", lambda *parts: plain(*parts, record=rehearse))
    ours = engine.fit(spec)
    assert ours.environment["path"] == "cpu-graph" and eager.environment["path"] == "cpu-off"
    for entry in (*ours.history, *eager.history):
        entry.pop("seconds")
    assert ours.history == eager.history


class NoWaiting(TorchDispatchMode):
    """Refuses what a capture refuses: reading a value, shapes that depend on values, constants from the host."""

    REFUSED = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "lift_fresh", "equal", "is_nonzero"}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        name = function.overloadpacket.__name__
        masks = name == "index" and any(t is not None and t.dtype == torch.bool for t in arguments[1])
        assert name not in self.REFUSED and not masks, f"{function} cannot be part of a GPU graph"
        return function(*arguments, **(keywords or {}))


@pytest.mark.parametrize("row", BY_METHOD.values())
def test_every_step_can_be_part_of_a_graph(row):
    method, optimizer, splits = parts(row)
    with NoWaiting():
        cuda_graph.recorded(method, optimizer, splits, lambda step, generator: step)


def test_what_a_graph_refuses_is_noticed():
    with NoWaiting():
        for waiting in (lambda x: x.item(), lambda x: bool(x > 0), lambda x: x.nonzero(), lambda x: torch.tensor(1.0)):
            with pytest.raises(AssertionError, match="cannot be part of a GPU graph"):
                waiting(torch.ones(1))
