"""The shortcuts of `fast` give what torch's own operators give."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from method_factory import build, digits
from torch import nn
from torch.nn import functional as F

from mnistmp import engine, paper
from mnistmp.engine.optimizer import SGD
from mnistmp.engine.seeding import generator
from mnistmp.engine.splits import Splits
from mnistmp.errors import InputError
from mnistmp.fast import kernels, layers
from mnistmp.fast.layers import accelerate
from mnistmp.methods import METHODS

CPU = torch.device("cpu")
PATHS = ["numba", "torch"]
NAN = float("nan")


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def take(monkeypatch):
    """take("numba" | "torch" | "off"): the shortcuts from here on."""
    return lambda path: monkeypatch.setattr(kernels, "in_use", lambda: path)


def assert_same(ours, theirs):
    """Bit for bit, NaN included; 0.0 and -0.0 count as the same."""
    assert ours.shape == theirs.shape and torch.equal(ours.isnan(), theirs.isnan())
    assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))


# ---- pooling with ReLU ----------------------------------------------------------------------

SHAPES = [(128, 64, 24, 24), (3, 128, 8, 8), (1, 1, 2, 2), (5, 7, 5, 10), (2, 3, 4, 7)]


def hard_maps(shape, dtype):
    """Ties of every kind, zeros of both signs, infinities, tiny and huge numbers."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(shape, generator=generator)
    special = torch.tensor([0.0, -0.0, 1.0, 1.0, -1.0, float("inf"), -float("inf"), 1e-40, -1e-40, 3e38, -3e38])
    chosen = special[torch.randint(len(special), shape, generator=generator)]
    maps = torch.where(torch.rand(shape, generator=generator) < 0.5, maps, chosen)
    return maps.to(dtype).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", SHAPES)
def test_pool_relu_is_bit_equal(dtype, shape):
    ours, theirs = (hard_maps(shape, dtype).requires_grad_() for _ in range(2))
    pooled, reference = kernels.PoolReLU.apply(ours), F.relu(F.max_pool2d(theirs, 2))
    assert_same(pooled, reference)
    assert pooled.is_contiguous(memory_format=torch.channels_last) and not pooled.detach().signbit().any()
    # Not channels-last: the gradient may come from a flattened classifier.
    gradient = torch.randn(reference.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for value in (gradient, gradient.contiguous(memory_format=torch.channels_last)):
        both = ((pooled, ours), (reference, theirs))
        assert_same(*(torch.autograd.grad(y, x, value, retain_graph=True)[0] for y, x in both))
    with torch.no_grad():
        assert_same(kernels.PoolReLU.apply(ours), reference)


@pytest.mark.parametrize("place", range(4))
def test_nan_in_pool_relu(place):
    """A NaN without sign wins as in torch; one with its sign bit set reads as negative and is lost.

    So a loss can stay finite over weights that are not: `SGD.finite` looks at the weights.
    """
    maps = torch.ones(1, 8, 2, 2, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    maps.view(-1, 2, 2)[:, place // 2, place % 2] = NAN
    assert kernels.PoolReLU.apply(maps).isnan().all() and F.relu(F.max_pool2d(maps, 2)).isnan().all()
    signed = torch.where(maps.isnan(), torch.tensor(-64, dtype=torch.int16).view(torch.bfloat16), maps)
    signed = signed.contiguous(memory_format=torch.channels_last)
    assert signed.isnan().sum() == 8 and (kernels.PoolReLU.apply(signed) == 1).all()


# ---- layers ---------------------------------------------------------------------------------

LAYERS = {
    "conv2": (layers.Conv2d, nn.Conv2d, (64, 128, 5), {}, (7, 64, 12, 12)),
    "conv not square": (layers.Conv2d, nn.Conv2d, (32, 5, 3), {}, (2, 32, 9, 4)),
    "conv of one pixel": (layers.Conv2d, nn.Conv2d, (40, 8, 5), {}, (3, 40, 5, 5)),
    "transposed": (layers.ConvTranspose2d, nn.ConvTranspose2d, (128, 64, 5), {}, (7, 128, 8, 8)),
    "transposed, one image": (layers.ConvTranspose2d, nn.ConvTranspose2d, (5, 33, 3), {}, (1, 5, 1, 6)),
    "2x2": (layers.ConvTranspose2x2, nn.ConvTranspose2d, (64, 32, 2), {"stride": 2}, (7, 64, 6, 4)),
    "linear": (layers.LinearTransposed, nn.Linear, (256, 32), {}, (9, 256)),
}


def run_layer(layer, rows, weights):
    """Output, and gradients of input and parameters."""
    rows = rows.detach().requires_grad_()
    out = layer(rows)
    gradients = torch.autograd.grad(
        out, [rows, *layer.parameters()], weights[: out.numel()].view(out.shape).to(out.dtype)
    )
    return [out.detach(), *gradients]


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_layers_equal_torchs(name, dtype):
    """In bfloat16 both round a sum kept in float32, so they may differ where the sum lies between two numbers."""
    kind, torchs, arguments, options, shape = LAYERS[name]
    torch.manual_seed(0)
    ours, theirs = kind(*arguments, **options), torchs(*arguments, **options)
    theirs.load_state_dict(ours.state_dict())
    rows, weights = torch.randn(shape), torch.randn(200_000)
    if len(shape) == 4:
        ours, theirs = (layer.to(memory_format=torch.channels_last) for layer in (ours, theirs))
        rows = rows.contiguous(memory_format=torch.channels_last)
    ours, theirs, rows, weights = ours.to(dtype), theirs.to(dtype), rows.to(dtype), weights.to(dtype)
    results, references = run_layer(ours, rows, weights), run_layer(theirs, rows, weights)
    exact = run_layer(copy.deepcopy(theirs).double(), rows.double(), weights)
    tolerance = {torch.bfloat16: 2**-7, torch.float32: 2e-6, torch.float64: 1e-14}[dtype]
    for result, reference, truth in zip(results, references, exact):
        size = truth.abs().max().item()
        torch.testing.assert_close(result, reference, rtol=0, atol=tolerance * size)
        error, usual = ((t.double() - truth).abs().max().item() for t in (result, reference))
        assert error <= 1.2 * usual + tolerance / 2 * size  # and not further from the truth


def test_weights_gradient_is_exact_where_nothing_is_rounded():
    """Small whole numbers: every product and sum is a bfloat16 number, so the two ways must agree to the bit."""
    generator = torch.Generator().manual_seed(0)
    zeros_and_ones = [
        (torch.rand(shape, generator=generator) < 0.02).bfloat16() for shape in ((6, 64, 12, 12), (6, 128, 8, 8))
    ]
    maps, gradient = (t.contiguous(memory_format=torch.channels_last) for t in zeros_and_ones)
    expected = torch.ops.aten.convolution_backward(
        gradient.float(), maps.float(), torch.zeros(128, 64, 5, 5), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
        [False, True, False],
    )[1]  # fmt: skip
    assert expected.max() > 1
    assert torch.equal(kernels._weight_gradient(maps, gradient, 5).float(), expected)


def test_shortcuts_refuse_to_be_differentiated_twice():
    convolution = layers.Conv2d(64, 8, 5).bfloat16().to(memory_format=torch.channels_last)
    images = torch.randn(2, 64, 12, 12).bfloat16().contiguous(memory_format=torch.channels_last).requires_grad_()
    for out in (convolution(images), kernels.PoolReLU.apply(images)):
        (gradient,) = torch.autograd.grad(out.square().sum(), images, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.sum().backward()


# ---- methods --------------------------------------------------------------------------------


def fast_layers(method):
    return {name: type(layer) for name, layer in method.named_modules() if type(layer).__module__ == layers.__name__}


def test_which_layers_are_exchanged(take):
    take("numba")
    method = build("reconstruction").bfloat16()
    names = list(method.state_dict())
    assert accelerate(method) is method and list(method.state_dict()) == names
    pools = {"features.pool1": layers.CompiledPoolReLU, "features.pool2": layers.CompiledPoolReLU}
    doubled = {"decoder.0": layers.ConvTranspose2x2, "decoder.4": layers.ConvTranspose2x2}
    assert fast_layers(method) == {
        **pools, **doubled, "features.conv2": layers.Conv2d, "decoder.2": layers.ConvTranspose2d,
        **{f"classifier.{place}": layers.LinearTransposed for place in (1, 3, 5)},
    }  # fmt: skip
    assert fast_layers(accelerate(build("reconstruction"))) == {**pools, **doubled}
    assert fast_layers(accelerate(build("reconstruction").double())) == doubled
    take("torch")
    assert fast_layers(accelerate(build("reconstruction"))) == doubled
    assert "features.pool1" not in fast_layers(accelerate(build("reconstruction").bfloat16()))
    for there in ("cpu", "meta"):
        take("off" if there == "cpu" else "numba")
        assert not fast_layers(accelerate(build("reconstruction").to(there)))


def test_convolutions_of_another_geometry_stay_as_they_are(take):
    take("numba")
    method = build("standard")
    method.heads = nn.ModuleList([
        nn.Conv2d(64, 8, 3, padding=1), nn.Conv2d(64, 8, 3, stride=2), nn.Conv2d(64, 64, 3, groups=2),
        nn.Conv2d(64, 8, (3, 5)), nn.Conv2d(64, 8, 3, dilation=2), nn.ConvTranspose2d(64, 64, 3, stride=2),
        nn.ConvTranspose2d(64, 64, 2, stride=2, output_padding=1), nn.Linear(3, 3),
    ])  # fmt: skip
    assert not any(name.startswith("heads") for name in fast_layers(accelerate(method.bfloat16())))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", METHODS)
def test_losses_and_gradients_equal_the_plain_path(take, name, dtype):
    images, labels = digits(32)
    method, reference = build(name).to(dtype), build(name).to(dtype)
    reference.features.pool1 = reference.features.pool2 = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    take("numba")
    accelerate(method)
    loss, terms = method.loss(images.to(dtype), labels)
    loss.backward()
    expected, expected_terms = reference.loss(images.to(dtype).contiguous(), labels)
    expected.backward()
    tight = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    torch.testing.assert_close(loss, expected, **tight)
    assert terms.keys() == expected_terms.keys()
    for term in terms:
        torch.testing.assert_close(terms[term], expected_terms[term], **tight)
    for (parameter, ours), theirs in zip(method.named_parameters(), reference.parameters()):
        # A sum over the batch in another order: relative to the largest entry of the tensor.
        size = theirs.grad.abs().max().item()
        limit = size * (2e-5 if dtype == torch.float32 else 1e-12)
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=limit, msg=lambda text: f"{parameter}: {text}")


# ---- the update -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("settings", [(1e-3, 0.9, 1e-5), (0.1, 0.5, 0.0), (0.01, 0.0, 1e-2)])
@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_update_equals_torchs_sgd(take, path, settings, memory_format):
    take(path)
    torch.manual_seed(0)
    module = nn.ModuleList([nn.Conv2d(40, 60, 5), nn.Linear(300, 250), nn.Linear(3, 2), nn.Linear(2, 2)])
    exact = copy.deepcopy(module).to(memory_format=memory_format)
    module = module.bfloat16().to(memory_format=memory_format)
    rate, momentum, decay = settings
    ours = SGD(module, *settings)
    ours.load_weights(list(exact.parameters()))
    theirs = torch.optim.SGD(exact.parameters(), rate, momentum, weight_decay=decay, nesterov=momentum > 0, fused=True)
    for _ in range(8):
        for mine, torchs in zip(list(module.parameters())[:-2], exact.parameters()):
            mine.grad = torch.randn_like(mine)
            torchs.grad = mine.grad.float()
        ours.step()
        theirs.step()
    for mine, weight, torchs in zip(module.parameters(), ours.weights, exact.parameters()):
        # Compiled code may contract a product and a sum into one rounding: an ulp or two per step.
        torch.testing.assert_close(weight, torchs.detach(), rtol=2e-6, atol=2e-7)
        assert torch.equal(mine, weight.bfloat16())  # the working copy is the rounded weight, ties to even
    untouched = list(module.parameters())[-1]
    assert untouched.grad is None and torch.equal(untouched, list(exact.parameters())[-1].bfloat16())


def test_rounding_of_the_working_copy():
    bits = torch.tensor(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF, 0, 1, 0x00008001], dtype=torch.int32
    )
    weight = bits.view(torch.float32).clone()
    weight = torch.cat([weight, -weight, torch.tensor([float("inf"), -float("inf"), NAN])])
    working = torch.zeros(len(weight), dtype=torch.bfloat16)
    kernels.update(torch.zeros_like(working), weight, torch.zeros_like(weight), working, 0.0, 0.9, 0.0)
    assert_same(working[:-3], weight.bfloat16()[:-3])
    assert working[-1].isnan()


# ---- training -------------------------------------------------------------------------------


def train(row, steps, precision="bfloat16"):
    spec = paper.spec_for(row, 0, "digits", precision, batch_size=16, learning_rate=2e-3)
    splits, method = Splits(spec, CPU), engine.build(spec, CPU)
    optimizer = SGD(method, spec.learning_rate, spec.momentum, spec.weight_decay)
    batches = splits.train_batches(generator(0, "order"))
    losses = [engine.train_epoch(method, optimizer, [batch])["loss"] for batch, _ in zip(batches, range(steps))]
    return losses, optimizer.weights, method, splits


@pytest.mark.parametrize("row", ["standard", "reconstruction", "rcl-inf"])
def test_paths_train_alike_and_each_repeats_itself(take, row):
    results = {}
    for path in [*PATHS, "off"]:
        take(path)
        losses, weights, *_ = train(row, 4)
        again, same, *_ = train(row, 4)
        assert losses == again and all(torch.equal(a, b) for a, b in zip(weights, same))
        results[path] = torch.tensor(losses)
    for path in PATHS:
        torch.testing.assert_close(results[path], results["torch"], rtol=1e-4, atol=0)  # the same roundings
        torch.testing.assert_close(results[path], results["off"], rtol=3e-3, atol=0)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_evaluation_in_batches_equals_evaluation_at_once(take, path, precision):
    take(path)
    _, _, method, splits = train("standard", 3, precision)
    with torch.inference_mode():
        whole, parts = (torch.cat([method(x) for x, _ in splits.batches("test", size)]) for size in (1000, 77))
    tight = 1e-5 if precision == "float32" else 0.02
    torch.testing.assert_close(whole, parts, rtol=tight, atol=tight)
    if precision == "float32":
        assert torch.equal(whole.argmax(1), parts.argmax(1))


# ---- the switch -----------------------------------------------------------------------------


def test_switch(monkeypatch):
    for value in ("torch", "off"):
        monkeypatch.setenv("MNISTMP_KERNELS", value)
        assert kernels.in_use.__wrapped__() == value
    monkeypatch.setenv("MNISTMP_KERNELS", "yes")
    with pytest.raises(InputError, match="MNISTMP_KERNELS is 'yes'; choose one of on, torch, off."):
        kernels.in_use.__wrapped__()


def test_without_numba_torch_takes_over(monkeypatch):
    monkeypatch.setattr(kernels, "_compiled", lambda: (_ for _ in ()).throw(ImportError("no numba")))
    monkeypatch.setenv("MNISTMP_KERNELS", "on")
    with pytest.warns(UserWarning, match="numba does not compile here .no numba."):
        assert kernels.in_use.__wrapped__() == "torch"


def test_numba_is_not_even_imported_where_it_is_switched_off():
    code = (
        "import sys, torch\nfrom mnistmp import engine\n"
        "print(engine.path_name(torch.device('cpu')), 'numba' in sys.modules)"
    )
    environment = {**os.environ, "MNISTMP_KERNELS": "off"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=environment)
    assert result.stdout.split() == ["cpu-off", "False"], result.stderr


# ---- the benchmark --------------------------------------------------------------------------


def test_loops_of_the_benchmark_train_the_same(monkeypatch):
    """What training_speed.py compares differs in nothing but the way it is computed."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import loops

    for row in ("standard", "rcl-inf"):
        losses = {kind: loops.prepare(kind, row, "digits", CPU)(2) for kind in loops.KINDS if kind != "product"}
        for kind, loss in losses.items():
            assert loss == pytest.approx(losses["dataset"], rel=1e-2 if kind == "bfloat16" else 1e-5), (row, kind)


def test_every_benchmark_starts():
    code = "import glob, runpy, sys; sys.path.insert(0, 'benchmarks')\n"
    code += "for path in glob.glob('benchmarks/*.py'): runpy.run_path(path)"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
