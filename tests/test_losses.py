"""The penalties against closed forms: explicit Gram matrices, numpy.cov, loops and finite differences."""

import numpy as np
import pytest
import torch

from mnistmp.losses import decorrelation, double_soft_orthogonality, reverse_contrastive_loss, spectral_decoupling


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def finite_differences(function, point, step=1e-6):
    """Central differences of a scalar function, one coordinate at a time."""
    slopes = torch.zeros_like(point)
    for i in range(point.numel()):
        shift = torch.zeros_like(point)
        shift.view(-1)[i] = step
        slopes.view(-1)[i] = (function(point + shift) - function(point - shift)) / (2 * step)
    return slopes


def gradient(function, point):
    point = point.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(function(point), point)
    return slopes


# ---- double soft orthogonality ----

KERNELS = {"more weights than filters": (4, 3, 2, 2), "more filters than weights": (9, 1, 2, 2), "square": (8, 2, 2, 2)}


@pytest.mark.parametrize("shape", KERNELS.values(), ids=KERNELS)
def test_orthogonality_equals_both_gram_matrices(shape):
    weight = normal(*shape)
    w = weight.reshape(shape[0], -1).T.numpy()  # (Cin k k, Cout), a filter a column
    misses = [w.T @ w - np.eye(w.shape[1]), w @ w.T - np.eye(w.shape[0])]
    for norm, expected in {
        "squared": sum((miss**2).sum() for miss in misses),
        "unsquared": sum(np.linalg.norm(miss, "fro") for miss in misses),
        "mean": sum((miss**2).mean() for miss in misses),
    }.items():
        assert float(double_soft_orthogonality(weight, norm)) == pytest.approx(expected, rel=1e-12), norm
        slopes = gradient(lambda w: double_soft_orthogonality(w, norm), weight)
        torch.testing.assert_close(
            slopes, finite_differences(lambda w: double_soft_orthogonality(w, norm), weight), rtol=1e-6, atol=1e-6
        )


def test_orthogonality_has_twice_the_gradient_of_the_single_form():
    weight = normal(4, 3, 2, 2)

    def single(weight):
        w = weight.flatten(1).T
        return (w.T @ w - torch.eye(4, dtype=w.dtype)).square().sum()

    torch.testing.assert_close(gradient(double_soft_orthogonality, weight), 2 * gradient(single, weight))


@pytest.mark.parametrize("norm", ["squared", "unsquared", "mean"])
def test_orthonormal_filters_are_a_flat_floor(norm):
    filters, _ = torch.linalg.qr(normal(75, 64))
    weight = filters.T.reshape(64, 3, 5, 5).float()
    if norm == "squared":
        assert float(double_soft_orthogonality(weight)) == pytest.approx(75 - 64, abs=1e-3)
    assert gradient(lambda w: double_soft_orthogonality(w, norm), weight).isfinite().all()
    assert double_soft_orthogonality(torch.eye(4).reshape(4, 4, 1, 1), norm) == 0
    assert gradient(lambda w: double_soft_orthogonality(w, norm), torch.eye(4).reshape(4, 4, 1, 1)).abs().max() == 0


# ---- decorrelation ----

LAYOUTS = {
    "positions": lambda maps: np.moveaxis(maps, 1, -1).reshape(-1, maps.shape[1]),
    "pooled": lambda maps: maps.mean((2, 3)),
    "flat": lambda maps: maps.reshape(len(maps), -1),
}


def decov(rows):
    """Half the squared off-diagonal covariances, and how many there are."""
    covariance = np.atleast_2d(np.cov(rows, rowvar=False, bias=True))
    off = covariance[~np.eye(len(covariance), dtype=bool)]
    return (off**2).sum() / 2, off.size


@pytest.mark.parametrize("shape", [(20, 3, 2, 2), (5, 6, 3, 2), (2, 4, 1, 1)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_decorrelation_equals_numpy(layout, shape):
    maps = normal(*shape) + 3
    expected, entries = decov(LAYOUTS[layout](maps.numpy()))
    assert float(decorrelation(maps, layout)) == pytest.approx(expected, rel=1e-10)
    assert float(decorrelation(maps, layout, "mean")) == pytest.approx(expected / entries, rel=1e-10)
    channels_last = maps.float().contiguous(memory_format=torch.channels_last)
    assert float(decorrelation(channels_last, layout)) == pytest.approx(expected, rel=1e-4)
    slopes = gradient(lambda m: decorrelation(m, layout), maps)
    differences = finite_differences(lambda m: decorrelation(m, layout), maps)
    torch.testing.assert_close(slopes, differences, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(50, 4), (4, 50), (3, 1), (1, 5)])
def test_decorrelation_of_plain_rows(shape):
    rows = normal(*shape)
    expected, _ = decov(rows.numpy())
    for layout in LAYOUTS:
        assert float(decorrelation(rows, layout)) == pytest.approx(expected, abs=1e-12)
    assert decorrelation(rows, reduction="mean").isfinite()


def test_uncorrelated_channels_cost_nothing():
    rows = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert decorrelation(rows) == 0
    assert decorrelation(rows[:, [0, 0]]) == 1  # covariance 1, twice off the diagonal, halved


def test_decorrelation_is_not_negative_by_rounding():
    # Few rows, many variables: the sum of squares is a difference there.
    for seed in range(20):
        rows = torch.zeros(4, 200)
        rows[:, 0] = normal(4, seed=seed)
        assert 0 <= decorrelation(rows) < 1e-6


def test_decorrelation_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"features \(2, 3, 4\) do not fit"):
        decorrelation(torch.zeros(2, 3, 4))


# ---- spectral decoupling ----


def test_spectral_decoupling_by_hand():
    logits, labels = torch.tensor([[1.0, -2.0], [3.0, 0.0], [0.0, 1.0]]), torch.tensor([1, 0, 0])
    expected = {"mean": 15 / 6, "sum": 15 / 3, "half-mean": 15 / 12, "true-logit": (4 + 9 + 0) / 3 / 2}
    for reduction, value in expected.items():
        assert float(spectral_decoupling(logits, labels, reduction)) == pytest.approx(value)
    assert spectral_decoupling(logits) == expected["mean"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "half-mean", "true-logit"])
def test_spectral_decoupling_gradient_by_finite_differences(reduction):
    logits, labels = normal(6, 4), torch.tensor([0, 3, 1, 1, 2, 0])
    slopes = gradient(lambda z: spectral_decoupling(z, labels, reduction), logits)
    differences = finite_differences(lambda z: spectral_decoupling(z, labels, reduction), logits)
    torch.testing.assert_close(slopes, differences, rtol=1e-7, atol=1e-8)


def test_spectral_decoupling_of_the_true_logit_needs_labels():
    with pytest.raises(ValueError, match="needs the labels"):
        spectral_decoupling(torch.zeros(2, 3), reduction="true-logit")


# ---- all of them ----


@pytest.mark.parametrize(
    "refuse",
    [
        lambda: double_soft_orthogonality(torch.zeros(2, 2, 1, 1), "cubed"),
        lambda: decorrelation(torch.zeros(2, 2), "cubed"),
        lambda: decorrelation(torch.zeros(2, 2), reduction="cubed"),
        lambda: spectral_decoupling(torch.zeros(2, 2), reduction="cubed"),
    ],
)
def test_unknown_reading_is_refused_with_what_is_valid(refuse):
    with pytest.raises(ValueError, match=r"^\w+ is 'cubed'; choose one of \S+, .*\.$"):
        refuse()


@pytest.mark.parametrize(
    "loss, shape",
    [
        (double_soft_orthogonality, (64, 3, 5, 5)),
        (decorrelation, (32, 64, 4, 4)),
        (lambda features: decorrelation(features, "flat"), (32, 64, 4, 4)),
        (spectral_decoupling, (32, 10)),
    ],
)
def test_bfloat16_and_autocast_sum_in_float32(loss, shape):
    tensor = normal(*shape).bfloat16()
    assert loss(tensor).dtype == torch.float32 and loss(tensor.double()).dtype == torch.float64
    assert float(loss(tensor)) == pytest.approx(float(loss(tensor.double())), rel=1e-5)
    inside = tensor.float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(inside)
    value.backward()  # outside of the region, as PyTorch asks for
    assert torch.equal(value, loss(tensor.float()))
    assert torch.equal(inside.grad, gradient(loss, tensor.float()))


def test_an_empty_batch_is_refused_by_name():
    nothing = torch.zeros(0, 8), torch.zeros(0, dtype=torch.long)
    for loss in (reverse_contrastive_loss, spectral_decoupling, lambda rows, _: decorrelation(rows)):
        with pytest.raises(ValueError, match=r"the batch \(0, 8\) is empty; a loss needs one sample at least"):
            loss(*nothing)
