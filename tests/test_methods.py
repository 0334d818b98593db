"""Every registered method and every variant of it, through the same checks."""

import gc
import math
import typing

import pytest
import torch
from method_factory import build, digits
from torch import nn

from mnistmp.methods import METHODS, Method, choices, default_options, get, register, resolve_options
from mnistmp.network import LeNet


def variants(name):
    """Each choice of each named option that is not the default, one at a time."""
    defaults = default_options(METHODS[name])
    for option, values in choices(METHODS[name]).items():
        yield from ({option: value} for value in values if value != defaults[option])


NAMES = list(METHODS)
CASES = [(name, {}) for name in NAMES] + [(name, variant) for name in NAMES for variant in variants(name)]
EACH_CASE = pytest.mark.parametrize(
    "name, options", CASES, ids=[f"{name}-{'-'.join(map(str, o.values())) or 'default'}" for name, o in CASES]
)
RANDOM = {"dropout", "dropout-orthogonality", "dropout-covariance", "jigsaw", "rsc"}


# ---- every method, every variant ----


@EACH_CASE
def test_steps_are_finite_reach_every_weight_and_repeat(name, options):
    images, labels = digits(32)  # classes of three: of two, a random positive is always the other one
    losses = []
    for seed_of_others in (1, 2):
        torch.manual_seed(seed_of_others)  # the method has its own generator and leaves torch's alone
        before = torch.get_rng_state()
        method = build(name, **options)
        steps = [method.loss(images, labels) for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), before)
        losses.append([loss.detach() for loss, _ in steps])
    for loss, terms in steps:
        assert loss.shape == () and loss.dtype == torch.float32 and loss.isfinite()
        assert "cross_entropy" in terms and all(t.shape == () and t.isfinite() for t in terms.values())
    assert losses[0] == losses[1], "same seed, same losses"
    drawn = name in RANDOM or options.get("positive") in ("random", "subset")
    repeats = not drawn or options == {"rate": "third"}
    assert (losses[0][0] == losses[0][1]) == repeats, "fresh noise in every step"

    steps[0][0].backward()
    for parameter_name, parameter in method.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name
    assert method(images).shape == (32, 10) and method.features(images).shape == (32, 128, 4, 4)


@pytest.mark.parametrize("name", NAMES)
def test_loss_never_looks_at_a_value_and_trains_in_bfloat16(name):
    images, labels = digits(8)
    for options in ({}, *variants(name)):
        # On the "meta" device tensors have shapes and no values: .item(), a Python branch on a
        # tensor or a shape that depends on the data fails there, as it would in a GPU graph.
        method = build(name, **options).to("meta")
        method.generator = None
        loss, _ = method.loss(torch.empty_like(images, device="meta"), torch.empty_like(labels, device="meta"))
        loss.backward()
        assert loss.device.type == "meta"

        method = build(name, **options).to(torch.bfloat16)
        loss, terms = method.loss(images.bfloat16(), labels)
        loss.backward()
        assert loss.dtype == torch.float32 and all(term.isfinite() for term in terms.values())
        assert all(p.grad.dtype == torch.bfloat16 and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_and_autocast_are_near_float32(name):
    images, labels = digits(8)
    expected, _ = build(name).loss(images, labels)
    rounded, _ = build(name).to(torch.bfloat16).loss(images.bfloat16(), labels)
    with torch.autocast("cpu", torch.bfloat16):
        mixed, _ = build(name).loss(images, labels)
    torch.testing.assert_close(rounded, expected, rtol=0.05, atol=0)
    torch.testing.assert_close(mixed, expected, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_training_lowers_the_loss(name):
    method = build(name)
    images, labels = digits()
    optimizer = torch.optim.SGD(method.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

    losses = []
    for step in range(10):
        # Two draws of the noise, in turn: the same sum is measured again after every two steps.
        method.generator.manual_seed(step % 2)
        optimizer.zero_grad()
        loss, _ = method.loss(images, labels)
        losses.append(loss.detach())
        loss.backward()
        optimizer.step()
    assert sum(losses[-2:]) < sum(losses[:2])


@pytest.mark.parametrize("name", NAMES)
def test_memory_does_not_grow(name):
    psutil = pytest.importorskip("psutil")
    # A narrow classifier, the smallest images and no update: only what a step leaves behind counts.
    network = LeNet(image_size=16)
    network.classifier = nn.Sequential(
        nn.Flatten(), nn.Linear(128, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 10)
    )
    method = build(name, network=network)
    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 1, 0, 0])
    totals = torch.zeros(())

    def take(steps):
        for _ in range(steps):
            method.zero_grad()
            loss, terms = method.loss(images, labels)
            loss.backward()
            totals.add_(sum(term.detach() for term in terms.values()))
        gc.collect()
        tensors = sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())
        return tensors, psutil.Process().memory_info().rss

    tensors, used = take(10)
    tensors_later, used_later = take(190)
    assert tensors_later == tensors
    assert used_later - used < 20 * 2**20  # keeping every step's graph would take more than twice that


@pytest.mark.parametrize("name", NAMES)
def test_32_pixels_work_too(name):
    method = build(name, image_size=32)
    loss, _ = method.loss(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 1, 2]))
    loss.backward()
    assert loss.isfinite() and method.features(torch.rand(1, 3, 32, 32)).shape == (1, 128, 5, 5)


# ---- the registry ----


@pytest.fixture
def newcomer():
    @register("newcomer")
    class Newcomer(Method):
        """What METHODS asks of a method, and nothing else."""

        def __init__(self, network, weight: float = 0.1, limit: float = math.inf, tiles: int = 2, loud: bool = False,
                     mode: typing.Literal["soft", "hard"] = "soft"):  # fmt: skip
            super().__init__(network)
            self.weight = weight

        def loss(self, images, labels):
            cross_entropy = nn.functional.cross_entropy(self(images), labels)
            return cross_entropy + self.weight * cross_entropy, {"cross_entropy": cross_entropy}

    yield Newcomer
    METHODS.pop("newcomer")


def test_a_new_method_is_available_at_once(newcomer):
    assert get("newcomer") is newcomer
    assert list(variants("newcomer")) == [{"loud": True}, {"mode": "hard"}]
    assert resolve_options("newcomer", {"weight": 2}) == {
        "weight": 2.0, "limit": math.inf, "tiles": 2, "loud": False, "mode": "soft"
    }  # fmt: skip
    loss, _ = build("newcomer", weight=2.0).loss(*digits(4))
    assert loss.isfinite()


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"wieght": 1}, "has no option 'wieght'; its options are: weight, limit, tiles, loud, mode."),
        ({3: 1}, "has no option 3"),
        ({"weight": "1"}, "'newcomer', option weight is '1'; it should be a valid number."),
        ({"weight": None}, "is None; it should be a valid number"),
        ({"weight": True}, "is True; it should be a valid number"),
        ({"weight": -0.1}, "is -0.1; it should be greater than or equal to 0."),
        ({"weight": math.nan}, "is nan; it should be"),
        ({"weight": "inf"}, "is inf; it should be a finite number."),
        ({"weight": 10**400}, "it should be a valid number."),
        ({"limit": "infinity"}, "is 'infinity'; it should be a valid number"),
        ({"tiles": 2.0}, "is 2.0; it should be a valid integer."),
        ({"tiles": -1}, "is -1; it should be greater than or equal to 0"),
        ({"loud": 1}, "is 1; it should be a valid boolean."),
        ({"mode": "medium"}, "is 'medium'; it should be 'soft' or 'hard'."),
        ({"mode": ["soft"]}, r"is \['soft'\]; it should be"),
    ],
)
def test_wrong_options_are_one_sentence(newcomer, options, problem):
    with pytest.raises(ValueError, match=problem) as refusal:
        resolve_options("newcomer", options)
    assert "\n" not in str(refusal.value) and str(refusal.value).endswith(".")


def test_a_method_passes_on_the_options_of_its_parent():
    names = [*default_options(METHODS["dropout-orthogonality"])]
    assert names == ["weight", "norm", "filters", *default_options(METHODS["dropout"])]
    method = get("dropout-orthogonality")(LeNet(), norm="mean", layer="conv1", rescale=False)
    assert (method.norm, method.layer, method.rescale, method.mask) == ("mean", "conv1", False, "sample")


def test_infinity_and_whole_numbers_are_options(newcomer):
    for given in (math.inf, "inf"):
        assert resolve_options("newcomer", {"limit": given})["limit"] == math.inf
    weight = resolve_options("newcomer", {"weight": -0.0})["weight"]
    assert isinstance(weight, float) and math.copysign(1, weight) == 1


@pytest.mark.parametrize("name", ["standrad", "", None])
def test_unknown_method_is_refused_with_the_names(name):
    with pytest.raises(ValueError, match="choose one of .*dropout-orthogonality, .*rcl"):
        get(name)
    with pytest.raises(ValueError, match="There is no method"):
        resolve_options(name, {})


def test_registering_again_replaces_and_a_taken_name_is_refused(newcomer):
    again = type(newcomer.__name__, (newcomer,), {"__qualname__": newcomer.__qualname__})
    assert register("newcomer")(again) is get("newcomer") is again

    class Other(Method):
        pass

    with pytest.raises(ValueError, match="'rcl' is taken by RCL; choose another name"):
        register("rcl")(Other)
    assert get("rcl") is not Other


def test_faulty_methods_are_refused_when_they_register():
    class NoDefault(Method):
        def __init__(self, network, weight):
            super().__init__(network)

    class OddType(Method):
        def __init__(self, network, sizes: list = (1, 2)):
            super().__init__(network)

    class BadDefault(Method):
        def __init__(self, network, mode: typing.Literal["soft", "hard"] = "medium"):
            super().__init__(network)

    for faulty, problem in (
        (NoDefault, "'weight' of NoDefault needs a default"),
        (OddType, "options are float, int, bool or Literal"),
        (BadDefault, "is 'medium'; it should be 'soft' or 'hard'"),
        (nn.Linear, "must be a subclass of mnistmp.methods.Method"),
        (lambda: None, "must be a subclass"),
    ):
        with pytest.raises((TypeError, ValueError), match=problem):
            register("faulty")(faulty)
    assert "faulty" not in METHODS


def test_a_method_without_a_loss_says_so():
    with pytest.raises(NotImplementedError, match="Method defines no loss"):
        Method(LeNet()).loss(None, None)
