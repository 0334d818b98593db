"""Untrained methods and small batches for the tests of methods."""

import copy
import functools

import torch

from mnistmp import data
from mnistmp.data import palette
from mnistmp.methods import get
from mnistmp.network import LeNet

LABELS = torch.tensor([0, 1, 1, 2, 0, 0])  # of `pictures`: two classes with pairs, one with a single member


@functools.cache
def _untrained(image_size):
    torch.manual_seed(0)
    return LeNet(image_size=image_size)


def build(name, network=None, image_size=28, **options):
    """A method with its own generator, always the same weights; torch's global generator stays as it is."""
    with torch.random.fork_rng():
        network = network or copy.deepcopy(_untrained(image_size))
        torch.manual_seed(0)
        method = get(name)(network, **options)
    method.generator = torch.Generator().manual_seed(0)
    return method.to(memory_format=torch.channels_last)


def digits(count=16):
    """Embedded digits in their class colours: images (N, 3, 28, 28) in [-1, 1], labels (N,)."""
    grey, labels = data.load("digits").train_images[:count], data.load("digits").train_labels[:count]
    return palette.color_batch(grey, labels, palette.input_table(palette.color_table())), labels


def pictures(count=6, size=28):
    """Noise in [-1, 1], (N, 3, size, size), channels-last."""
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return images.contiguous(memory_format=torch.channels_last)
