"""The small LeNet of the paper: feature extractor F, classifier, and their initialisation."""

from __future__ import annotations

import functools
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F


class PoolReLU(nn.Module):
    """2x2 max-pooling, then ReLU: (N, C, H, W) -> (N, C, H // 2, W // 2).

    The same function as the usual ReLU before pooling, because ReLU is monotonic; ReLU
    and its backward then touch a quarter of the values.
    """

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return F.relu(F.max_pool2d(maps, 2))


class LeNet(nn.Module):
    """Two convolutions and three fully connected layers (paper Sec. 5.1).

    Section 5.1 takes the network of JiGen's digit experiments (fmcarlucci/JigenDG,
    `models/mnist.py`): 5x5 convolutions with 64 and 128 channels, each followed by
    ReLU and 2x2 max-pooling, then fully connected layers of 1024, 1024 and 10.

    Attributes:
        features: F, images (N, 3, H, W) -> features (N, 128, k, k), all >= 0;
            k = 4 for 28x28 images and 5 for 32x32.
        classifier: features -> logits (N, num_classes).

    Raises:
        ValueError: the image is too small for two 5x5 convolutions and poolings.
    """

    def __init__(self, num_classes: int = 10, image_size: int = 28):
        super().__init__()
        side = ((image_size - 4) // 2 - 4) // 2
        if side < 1:
            raise ValueError(f"image_size is {image_size}; this network needs images of at least 16x16 pixels.")
        layers = {
            "conv1": nn.Conv2d(3, 64, 5),
            "pool1": PoolReLU(),
            "conv2": nn.Conv2d(64, 128, 5),
            "pool2": PoolReLU(),
        }
        self.features = nn.Sequential(OrderedDict(layers))
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(128 * side * side, 1024), nn.ReLU(),
            nn.Linear(1024, 1024), nn.ReLU(),
            nn.Linear(1024, num_classes),
        )  # fmt: skip

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W)."""
        return self.classifier(self.features(images))


def initialize(module: nn.Module, scheme: str = "pytorch") -> None:
    """Initialise in place. The paper does not say how.

    "pytorch" keeps the layers' own default (what JiGen's code does); "glorot" draws
    Glorot-uniform weights and zero biases, the defaults of the TensorFlow original
    (ricvolpi/generalize-unseen-domains); "he" He-uniform weights and zero biases.
    """
    if scheme == "pytorch":
        return
    draw = {"glorot": nn.init.xavier_uniform_, "he": functools.partial(nn.init.kaiming_uniform_, nonlinearity="relu")}
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            draw[scheme](layer.weight)
            nn.init.zeros_(layer.bias)
