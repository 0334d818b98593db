"""What a user's process is set to changes no result."""

import contextlib

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

import mnistmp
from mnistmp import engine, losses, paper, records
from mnistmp.results import table2


@contextlib.contextmanager
def setting(owner, name, value):
    """An attribute as long as the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextlib.contextmanager
def switched(set_value, now, value):
    before = now()
    set_value(value)
    try:
        yield
    finally:
        set_value(before)


def dtype(value):
    return switched(torch.set_default_dtype, torch.get_default_dtype, value)


def matmul(value):
    return switched(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision, value)


def deterministic(value):
    return switched(torch.use_deterministic_algorithms, torch.are_deterministic_algorithms_enabled, value)


def convolutions(value):
    if not hasattr(torch.backends.mkldnn, "conv"):  # torch before 2.9
        return contextlib.nullcontext()
    return setting(torch.backends.mkldnn.conv, "fp32_precision", value)


# What a user's process may be set to: how it is set, and to what; the usual first.
STATES = {
    "dtype": (dtype, [torch.float32, torch.float64, torch.bfloat16]),
    "device": (torch.device, ["cpu", "meta"]),  # "meta" stands for a GPU
    "gradient": (lambda mode: mode(), [torch.enable_grad, torch.no_grad, torch.inference_mode]),
    "autocast": (lambda on: torch.autocast("cpu", torch.bfloat16, enabled=on), [False, True]),
    "matmul": (matmul, ["highest", "medium"]),
    "convolutions": (convolutions, ["none", "bf16"]),
    "onednn": (lambda on: setting(torch.backends.mkldnn, "enabled", on), [True, False]),
    "deterministic": (deterministic, [False, True]),
    "numpy": (lambda how: np.errstate(all=how), ["warn", "raise"]),
    "pandas": (lambda digits: pd.option_context("display.precision", digits, "mode.chained_assignment", None), [6, 1]),
    "matplotlib": (lambda on: mpl.rc_context({"savefig.transparent": on, "xtick.top": on}), [False, True]),
}
UNUSUAL = {name: values[-1] for name, (_, values) in STATES.items()}


@contextlib.contextmanager
def set_to(states):
    with contextlib.ExitStack() as stack:
        for name, value in states.items():
            stack.enter_context(STATES[name][0](value))
        yield


def now():
    return (torch.get_default_dtype(), torch.get_default_device(), torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"), torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled,
            torch.backends.cudnn.deterministic, torch.get_rng_state().sum().item())  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():  # sums over several have another order
    with switched(torch.set_num_threads, torch.get_num_threads, 1):
        yield


def course():
    """Counts, loss and terms of one epoch of the loss with the most operations, drawing noise."""
    options = {"margin": 0.9, "positive": "random"}
    spec = mnistmp.RunSpec(row="ours", method="rcl", options=options, dataset="digits", precision="float32", epochs=1)
    (entry,) = mnistmp.fit(spec, device="cpu").history
    return {**entry, "seconds": 0}


@pytest.fixture(scope="module")
def usual():
    return course()


@settings(max_examples=4, deadline=None, derandomize=True, phases=[Phase.explicit, Phase.generate],
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(states=st.fixed_dictionaries({name: st.sampled_from(values) for name, (_, values) in STATES.items()}))
@example(states=UNUSUAL)
@example(states={"matmul": "medium", "convolutions": "bf16"})
@example(states={"autocast": True})
@example(states={"onednn": False})
def test_a_run_does_not_depend_on_what_its_process_is_set_to(usual, states):
    with set_to(states):
        before = now()
        found = course()
        assert now() == before
    assert found == usual


def test_settings_come_back_after_an_error_and_an_estimate_works_under_all():
    spec = paper.spec_for("standard", 0, "digits", "float32", epochs=1)
    with set_to(UNUSUAL):
        before = now()
        assert engine.estimate_seconds(spec, "cpu", steps=1) > 0
        with pytest.raises(ZeroDivisionError):
            mnistmp.fit(spec, device="cpu", progress=lambda line: 1 / 0)
        assert now() == before


FEATURES = torch.randn(24, 6, 4, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(24) % 4


def penalties():
    """Every loss, of those that draw noise too."""
    draw = [
        losses.reverse_contrastive_loss(FEATURES, LABELS, positive=one, generator=torch.Generator().manual_seed(0))
        for one in ("closest", "shifted", "random", "subset", "active-mean")
    ]
    other = losses.double_soft_orthogonality(FEATURES), losses.decorrelation(FEATURES)
    return [*draw, *other, losses.spectral_decoupling(FEATURES.flatten(1))]


@pytest.mark.parametrize("state", ["dtype", "device", "autocast"])
def test_a_loss_depends_on_its_arguments_alone(state):
    expected = penalties()
    with set_to({state: UNUSUAL[state]}):
        found = penalties()
    assert [(one.dtype, one.device.type, one.item()) for one in found] == [
        (torch.float32, "cpu", one.item()) for one in expected
    ]


def test_a_table_does_not_depend_on_pandas_options():
    def written():
        return table2.to_markdown(table2.table2(records.load("paper")), "paper")

    expected = written()
    with pd.option_context("display.precision", 0, "display.float_format", "{:.0f}".format):
        assert written() == expected
