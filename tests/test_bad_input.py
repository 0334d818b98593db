"""Arguments of an odd type or value: one sentence that says what is wrong, what is valid and what to do."""

import math

import numpy as np
import pytest
import torch

from mnistmp import MNISTMP, ColoredMNIST, LeNet, ReverseContrastiveLoss, evaluate
from mnistmp.data.export import export
from mnistmp.errors import InputError
from mnistmp.losses import decorrelation, reverse_contrastive_loss, spectral_decoupling

FEATURES, LABELS = torch.arange(24.0).view(8, 3), torch.arange(8) % 2


def answer(*shape, **options):
    return lambda images: torch.zeros(len(images), *shape, **options)


def coloured(**options):
    return ColoredMNIST(**{"dataset": "digits", **options})


def mnistmp(**options):
    return MNISTMP(**{"dataset": "digits", **options})


def evaluated(model=None, **options):
    return evaluate(answer(10) if model is None else model, **{"dataset": "digits", **options})


def loss(features=FEATURES, labels=LABELS, **options):
    return reverse_contrastive_loss(features, labels, **options)


CHOICES = [
    (coloured, "split", "choose one of train, val, test"),
    (coloured, "variant", "choose one of mp, up-uniform"),
    (coloured, "dataset", "choose one of mnist, digits"),
    (coloured, "check", "choose one of raise, warn"),
    (mnistmp, "split", "choose one of train, val, test"),
    (evaluated, "variant", "choose one of mp, up-uniform"),
    (loss, "scaling", "choose one of coordinate, channel"),
    (ReverseContrastiveLoss, "positive", "choose one of closest, second"),
]
CASES = [
    *((call, {name: odd}, said)
      for call, name, said in CHOICES for odd in (3, None, ["train"], np.array(["mp", "sd"]))),
    *((call, {"root": root, "dataset": "mnist"}, "is no folder for MNIST .*set MNISTMP_DATA to one")
      for call in (coloured, mnistmp, evaluated) for root in (5, b"data", ["data"], "a\0b")),
    *((call, {name: 5}, f"{name} is 5; give a function")
      for call in (coloured, mnistmp) for name in ("transform", "target_transform")),
    *((mnistmp, {"palette": palette}, r"give 10 RGB colours of whole numbers")
      for palette in (None, "red", 10 * ["red"], torch.rand(10, 3), [[1, 2], [3, 4, 5]], torch.full((10, 3), 256),
                      torch.full((10, 3), -1), torch.full((9, 3), 1))),
    *((evaluated, {"batch_size": size}, "give a whole number from 1 on") for size in ("a", 0, -1, 1.5, None, True)),
    *((evaluated, {"device": one}, "cannot be used here .*; give one such as 'cpu'") for one in ("nope", "", 3.5, [1])),
    *((evaluated, {"model": model}, "give a module or a function, no class") for model in ("LeNet", 3, LeNet)),
    *((evaluated, {"model": model}, r"logits of shape \(360, 10\) is due")
      for model in (answer(9), answer(10, 1), answer(10, dtype=torch.int64), lambda images: None,
                    lambda images: np.zeros((len(images), 10)))),
    (evaluated, {"model": lambda images: torch.full((len(images), 10), math.nan)}, "NaN or infinite logits"),
    *((evaluated, options, r"The model fails on float32 images \(\d+, ")
      for options in ({"model": LeNet().double()}, {"model": LeNet(), "variant": "irm"})),
    (evaluated, {"variant": "gip", "split": "anomaly"}, "digits of no class"),
    (evaluated, {"transform": 5}, "give a function"),
    (evaluated, {"transform": lambda image: image}, "what transform makes is 'Image'; let it make tensors"),
    (evaluated, {"transform": lambda image: torch.rand(torch.randint(1, 99, ()))}, "of one size"),
    *((export, {"variant": "mp", "folder": folder}, "give the path of another folder")
      for folder in (5, None, b"data", "a\0b", "~no-such-user/x")),
    *((export, {"variant": "mp", "folder": "new", "kind": kind}, "choose one of npz, torch")
      for kind in (3, None, "np")),
    *((loss, {"labels": labels}, "give a class number for each sample")
      for labels in (LABELS.float(), LABELS.tolist(), LABELS.numpy(), None)),
    *((loss, {"labels": labels}, r"do not fit; expected \(N, ...\) and \(N,\)")
      for labels in (LABELS[:3], LABELS[:, None])),
    (loss, {"labels": LABELS.to("meta")}, "features are on cpu and labels on meta; move labels there"),
    *((loss, {"features": features}, "give a floating-point tensor")
      for features in (FEATURES.long(), FEATURES.numpy(), FEATURES.tolist(), None, torch.tensor(1.0))),
    (loss, {"features": FEATURES[:, 0]}, "do not fit; expected"),
    (loss, {"features": FEATURES[:0], "labels": LABELS[:0]}, "needs one sample at least"),
    (decorrelation, {"features": LABELS}, "give a floating-point tensor"),
    (spectral_decoupling, {"logits": None}, "give a floating-point tensor"),
    *((call, {"margin": margin}, "a number, 0 or more, or infinity")
      for call in (loss, ReverseContrastiveLoss) for margin in ("a", None, math.nan, -math.inf, -1e-9, 1j)),
    *((loss, {"epsilon": epsilon}, "a finite number, 0 or more") for epsilon in ("a", math.inf, -1)),
    (ReverseContrastiveLoss, {"margn": 0.9}, "no option 'margn'; the options are margin"),
]  # fmt: skip


def test_each_is_one_sentence():
    for call, arguments, said in CASES:
        with pytest.raises(ValueError, match=said) as caught:
            call(**arguments)
        text = str(caught.value)
        assert text.endswith(".") and "\n" not in text and len(text) < 400, text


def test_an_array_is_named_by_its_type_and_shape():
    with pytest.raises(InputError, match=r"^labels is torch.Tensor \(torch.float32, shape \(8,\)\); give"):
        loss(labels=LABELS.float())
