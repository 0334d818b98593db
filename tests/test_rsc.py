"""Representation self-challenging: its mask against a loop over samples, its gradient by finite differences."""

import pytest
import torch
from method_factory import LABELS, build, pictures
from torch.nn import functional as F

from mnistmp.methods.rsc import most_responsible


def muted_by_loop(scores, rate):
    """Sample by sample: the round(rate * D) largest, the earlier of equal ones first."""
    mask = torch.zeros_like(scores, dtype=torch.bool)
    for n, row in enumerate(scores.tolist()):
        ranking = sorted(range(len(row)), key=lambda c: (-row[c], c))
        for c in ranking[: round(rate * len(row))]:
            mask[n, c] = True
    return mask


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.25, 1 / 3, 0.5, 0.9, 1 - 2**-24, 1.0])
def test_muted_are_the_largest_of_each_sample(rate):
    generator = torch.Generator().manual_seed(0)
    distinct = torch.randn(9, 32, generator=generator)
    for scores in (distinct, distinct.round(), torch.zeros(9, 32), distinct.double(), distinct[:, :1]):
        assert torch.equal(most_responsible(scores, torch.tensor(rate)), muted_by_loop(scores, rate))


@pytest.mark.parametrize("target", ["logit", "probability", "loss"])
def test_gradient_by_finite_differences(target):
    method = build("rsc", target=target).double()
    features, labels = method.features(pictures(2).double()).detach(), LABELS[:2]
    gradient = method.target_gradient(features, labels)

    @torch.no_grad()
    def chosen(features):
        logits = method.classifier(features)
        if target == "probability":
            logits = logits.softmax(1)
        if target == "loss":
            logits = logits.log_softmax(1)
        return logits[0, labels[0]] + logits[1, labels[1]]

    for place in ((0, 3, 1, 2), (1, 100, 0, 0), (1, 7, 3, 3)):
        step = torch.zeros_like(features)
        step[place] = 1e-5
        slope = (chosen(features + step) - chosen(features - step)) / 2e-5
        assert float(gradient[place]) == pytest.approx(float(slope), rel=1e-4, abs=1e-9)
    assert all(p.grad is None for p in method.parameters())


@pytest.mark.parametrize("unit", ["channel", "element", "position"])
@pytest.mark.parametrize("score", ["gradient", "gradient-activation"])
def test_mask_by_loop(unit, score):
    method, rate = build("rsc", unit=unit, score=score), torch.tensor(0.3)
    features = method.features(pictures()).detach()
    gradient = method.target_gradient(features, LABELS)
    scores = gradient * features if score == "gradient-activation" else gradient
    flat = {
        "channel": scores.flatten(2).mean(2),
        "element": scores.flatten(1),
        "position": scores.mean(1).flatten(1),
    }[unit]
    expected = muted_by_loop(flat, 0.3)
    expected = {
        "channel": lambda mask: mask[:, :, None, None].expand(6, 128, 4, 4),
        "element": lambda mask: mask.view(6, 128, 4, 4),
        "position": lambda mask: mask.view(6, 1, 4, 4).expand(6, 128, 4, 4),
    }[unit](expected)
    assert torch.equal(method.muted(features, LABELS, rate).expand_as(features), expected)


def test_mixed_units_are_channels_or_positions():
    method = build("rsc", unit="mixed")
    features = method.features(pictures()).detach()
    seen = set()
    for _ in range(20):
        muted = method.muted(features, LABELS, torch.tensor(0.5))
        by_channel = bool((muted == muted[..., :1, :1]).all())
        by_position = bool((muted == muted[:, :1]).all())
        assert by_channel != by_position
        seen.add(by_channel)
    assert seen == {True, False}


@pytest.mark.parametrize("rescale", [False, True])
def test_muted_features_are_classified_at_every_rate(rescale, monkeypatch):
    method, images = build("rsc", rescale=rescale), pictures()
    features = method.features(images)
    for rate in (0.0, 0.25, 1 - 2**-24):
        monkeypatch.setattr(method, "random", lambda *shape, like, rate=rate: torch.full(shape, rate))
        loss, _ = method.loss(images, LABELS)
        kept = features.masked_fill(method.muted(features, LABELS, torch.tensor(rate)), 0)
        expected = F.cross_entropy(method.classifier(kept / (1 - rate) if rescale else kept), LABELS)
        torch.testing.assert_close(loss, expected)
        method.zero_grad()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in method.parameters())
    assert kept.abs().max() == 0, "everything is muted at a rate near 1"
