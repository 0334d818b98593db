"""A method's loss is cross-entropy plus its published term, and the term reaches the layers it should."""

import pytest
import torch
from method_factory import LABELS, build, pictures
from torch import nn
from torch.nn import functional as F

from mnistmp.losses import decorrelation, double_soft_orthogonality, reverse_contrastive_loss, spectral_decoupling


@pytest.mark.parametrize(
    "name, term, reached",
    [
        ("standard", "cross_entropy", {"features", "classifier"}),
        ("rcl", "rcl", {"features"}),  # "the following for the features extractor only" (Sec. 4.1)
        ("spectral-decoupling", "squared_logits", {"features", "classifier"}),
        ("reconstruction", "reconstruction", {"features", "decoder"}),
        ("dropout-covariance", "covariance", {"features"}),
        ("jigsaw", "cross_entropy", {"features", "classifier"}),
        ("rsc", "cross_entropy", {"features", "classifier"}),
    ],
)
def test_a_term_reaches_its_part_of_the_network(name, term, reached):
    method = build(name)
    _, terms = method.loss(pictures(), LABELS)
    terms[term].backward()
    assert {name.split(".")[0] for name, p in method.named_parameters() if p.grad is not None} == reached


def test_jigsaw_term_reaches_the_shared_layers_but_not_the_class_layer():
    for head, shared in (("shared", {"1", "3"}), ("features", set())):
        method = build("jigsaw", head=head)
        method.loss(pictures(), LABELS)[1]["jigsaw"].backward()
        # Layers that both batches pass get a gradient; where it is None or zero the term has no part in them.
        touched = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
        assert {n.split(".")[1] for n in touched if n.startswith("classifier")} == shared
        assert {n.split(".")[0] for n in touched} == {"features", "jigsaw_head"} | ({"classifier"} if shared else set())


def test_orthogonality_term_reaches_the_kernels_only():
    for filters, expected in (
        ("conv2", {"features.conv2.weight"}),
        ("both", {"features.conv1.weight", "features.conv2.weight"}),
    ):
        method = build("dropout-orthogonality", filters=filters)
        _, terms = method.loss(pictures(), LABELS)
        terms["orthogonality"].backward()
        assert {n for n, p in method.named_parameters() if p.grad is not None} == expected
        total = sum(double_soft_orthogonality(method.get_parameter(n)) for n in expected)
        torch.testing.assert_close(terms["orthogonality"], total)


@pytest.mark.parametrize(
    "name", ["dropout-orthogonality", "dropout-covariance", "jigsaw", "reconstruction", "spectral-decoupling", "rcl"]
)
def test_loss_is_cross_entropy_plus_the_weighted_term(name):
    for weight in (0.0, 0.25):
        loss, terms = build(name, weight=weight).loss(pictures(), LABELS)
        extra = next(term for key, term in terms.items() if key != "cross_entropy")
        torch.testing.assert_close(loss, terms["cross_entropy"] + weight * extra)


def test_terms_are_the_published_formulas_of_the_networks_tensors():
    images = pictures()
    for name, term, formula in (
        ("rcl", "rcl", lambda m: reverse_contrastive_loss(m.features(images), LABELS)),
        ("spectral-decoupling", "squared_logits", lambda m: spectral_decoupling(m(images))),
        ("reconstruction", "reconstruction", lambda m: (m.decoder(m.features(images)) - images).square().mean()),
        # "before dropout is applied for the calculation" (Sec. 4.2)
        ("dropout-covariance", "covariance", lambda m: decorrelation(m.features(images))),
    ):
        method = build(name)
        _, terms = method.loss(images, LABELS)
        torch.testing.assert_close(terms[term], formula(method))


# ---- reconstruction and RCL ----


@pytest.mark.parametrize("size, sides", [(28, [8, 12, 24, 28]), (32, [10, 14, 28, 32])])
def test_decoder_mirrors_the_extractor(size, sides):
    method = build("reconstruction", image_size=size)
    hidden, seen = method.features(pictures(2, size)), []
    for layer in method.decoder:
        hidden = layer(hidden)
        if isinstance(layer, nn.ConvTranspose2d):
            seen.append(hidden.shape[-1])
    assert seen == sides and hidden.shape == (2, 3, size, size)
    assert isinstance(method.decoder[-1], nn.Tanh)
    assert torch.equal(method.reconstruct(pictures(2, size)), hidden)


def test_reconstruction_errors():
    images = pictures()
    for error, reduction, formula in (
        ("squared", "mean", lambda gap: (gap**2).mean()),
        ("absolute", "mean", lambda gap: gap.abs().mean()),
        ("squared", "sum", lambda gap: (gap**2).sum() / 6),
        ("absolute", "sum", lambda gap: gap.abs().sum() / 6),
    ):
        method = build("reconstruction", error=error, reduction=reduction)
        _, terms = method.loss(images, LABELS)
        torch.testing.assert_close(terms["reconstruction"], formula(method.reconstruct(images) - images))


def test_rcl_before_relu_classifies_the_same_features():
    images = pictures()
    before, after = build("rcl", tensor="pre-relu"), build("rcl")
    _, terms = before.loss(images, LABELS)
    torch.testing.assert_close(terms["cross_entropy"], after.loss(images, LABELS)[1]["cross_entropy"])
    raw = F.max_pool2d(before.features.conv2(before.features.pool1(before.features.conv1(images))), 2)
    assert raw.min() < 0
    torch.testing.assert_close(terms["rcl"], reverse_contrastive_loss(raw, LABELS))
