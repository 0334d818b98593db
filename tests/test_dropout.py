"""Channel dropout: masks, rates and where it is applied."""

import itertools
import math

import pytest
import torch
from method_factory import LABELS, build, pictures
from torch.nn import functional as F

from mnistmp.losses import decorrelation
from mnistmp.methods.dropout import channel_mask


def test_channel_mask_by_loop():
    uniforms = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    features = torch.zeros(5, 7, 2, 2)
    for rate in (0.0, 0.3, float(uniforms[2, 3]), 0.999):
        for rescale in (True, False):
            mask = channel_mask(features, uniforms, torch.tensor(rate), rescale)
            for n, c in itertools.product(range(5), range(7)):
                kept = uniforms[n, c] >= torch.tensor(rate)
                assert float(mask[n, c, 0, 0]) == pytest.approx(
                    float(kept) * (1 / (1 - rate) if rescale else 1), rel=1e-6
                )
    assert mask.shape == (5, 7, 1, 1)


def test_a_fixed_rate_has_the_statistics_of_dropout2d():
    method = build("dropout", rate="half")
    features = torch.ones(400, 128, 2, 2)
    dropped = method.drop(features, method.draw_rate(features))
    channels = dropped.flatten(2)
    assert (channels == channels[..., :1]).all(), "whole channels"
    assert set(channels.unique().tolist()) == {0.0, 2.0}
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)  # 4.5 standard deviations
    assert len({tuple(row) for row in (channels[..., 0] > 0).tolist()}) == 400, "every sample has a mask of its own"
    one = build("dropout", rate="half", mask="batch").drop(features, torch.tensor(0.5))
    assert (one == one[:1]).all() and set(one.unique().tolist()) == {0.0, 2.0}


def test_rates_are_uniform_and_new_at_every_step():
    method = build("dropout")
    rates = torch.stack([method.draw_rate(torch.empty(0)) for _ in range(4000)])
    assert (rates[1:] != rates[:-1]).all() and 0 <= rates.min() and rates.max() < 1
    rates = rates.sort().values
    # Kolmogorov-Smirnov: the largest gap to the uniform distribution, at the 0.1 % level.
    steps = torch.arange(4001) / 4000
    assert torch.maximum((rates - steps[:-1]).abs(), (steps[1:] - rates).abs()).max() < 1.95 / math.sqrt(4000)


@pytest.mark.parametrize("layer", ["conv2", "conv1", "both", "classifier"])
@pytest.mark.parametrize("rescale", [True, False])
def test_rates_near_one_stay_finite(layer, rescale, monkeypatch):
    largest = torch.tensor(1 - 2**-24)  # the largest number that torch.rand draws
    for dtype in (torch.float32, torch.bfloat16):
        method = build("dropout", layer=layer, rescale=rescale).to(dtype)
        for rate in (largest, torch.tensor(0.0)):
            monkeypatch.setattr(method, "draw_rate", lambda like, rate=rate: rate)
            loss, _ = method.loss(pictures().to(dtype), LABELS)
            loss.backward()
            assert loss.isfinite() and all(p.grad.isfinite().all() for p in method.parameters())
    with_nothing_dropped = F.cross_entropy(method(pictures().to(dtype)).float(), LABELS)
    torch.testing.assert_close(loss, with_nothing_dropped)


@pytest.mark.parametrize("layer", ["conv2", "conv1", "both", "classifier"])
def test_dropout_is_applied_where_it_says(layer, monkeypatch):
    method = build("dropout", layer=layer)
    shapes = []
    monkeypatch.setattr(method, "drop", lambda features, rate: shapes.append(tuple(features.shape[1:])) or features)
    method.loss(pictures(), LABELS)
    conv1, conv2, hidden = (64, 12, 12), (128, 4, 4), (1024, 1, 1)
    assert shapes == {"conv1": [conv1], "conv2": [conv2], "both": [conv1, conv2], "classifier": [hidden, hidden]}[layer]


def test_covariance_readings_take_the_maps_they_name():
    images = pictures()
    for maps, expected in (
        ("pooled", lambda m: m.features(images)),
        ("unpooled", lambda m: m.features[:-1](images).relu()),
    ):
        method = build("dropout-covariance", maps=maps)
        _, terms = method.loss(images, LABELS)
        torch.testing.assert_close(terms["covariance"], decorrelation(expected(method)))
