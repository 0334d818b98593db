"""The network of Section 5.1, and its pooling-before-ReLU against the usual order."""

import pytest
import torch
from torch import nn

from mnistmp.network import LeNet, PoolReLU, initialize


def textbook(side):
    """The same network as its authors write it: convolution, ReLU, max-pooling."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 128, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(128 * side * side, 1024), nn.ReLU(),
        nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10),
    )  # fmt: skip


@pytest.mark.parametrize("size, side, parameters", [(28, 4, 3_367_818), (32, 5, 4_547_466)])
def test_shapes_and_size(size, side, parameters):
    network = LeNet(image_size=size)
    features = network.features(torch.rand(2, 3, size, size))
    assert features.shape == (2, 128, side, side) and (features >= 0).all()
    assert network.classifier(features).shape == (2, 10)
    assert sum(p.numel() for p in network.parameters()) == parameters
    assert [name for name, _ in network.features.named_children()] == ["conv1", "pool1", "conv2", "pool2"]


def test_number_of_classes_is_free():
    assert LeNet(num_classes=3)(torch.rand(2, 3, 28, 28)).shape == (2, 3)


@pytest.mark.parametrize("size, works", [(15, False), (16, True), (1, False), (0, False), (-5, False)])
def test_images_that_are_too_small_are_refused(size, works):
    if works:
        assert LeNet(image_size=size)(torch.rand(1, 3, size, size)).shape == (1, 10)
    else:
        with pytest.raises(ValueError, match=f"image_size is {size}; this network needs images of at least 16x16"):
            LeNet(image_size=size)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_equals_the_textbook_order_of_layers(memory_format):
    network, reference = LeNet(), textbook(4)
    for ours, theirs in zip(network.parameters(), reference.parameters()):
        theirs.data.copy_(ours.data)
    network, reference = network.to(memory_format=memory_format), reference.to(memory_format=memory_format)
    images = torch.rand(8, 3, 28, 28).contiguous(memory_format=memory_format)
    torch.testing.assert_close(network(images), reference(images))
    network(images).square().sum().backward()
    reference(images).square().sum().backward()
    for ours, theirs in zip(network.parameters(), reference.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("sides", [(6, 8), (7, 5)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pooling_before_relu_is_the_same_function(memory_format, sides, dtype):
    maps = torch.randn(3, 5, *sides).round().to(dtype)  # rounded: full of ties and zeros
    maps = maps.contiguous(memory_format=memory_format)
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    pooled = PoolReLU()(ours)
    reference = nn.functional.max_pool2d(theirs.relu(), 2)
    assert torch.equal(pooled, reference)
    weights = torch.randn(reference.shape).to(dtype)
    (pooled * weights).sum().backward()
    (reference * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_default_initialization_is_pytorchs():
    torch.manual_seed(3)
    network = LeNet()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initialize(network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    torch.manual_seed(3)
    for ours, theirs in zip(network.parameters(), textbook(4).parameters()):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("scheme", ["glorot", "he"])
def test_glorot_and_he_initialization(scheme):
    network = nn.Sequential(LeNet(), nn.ConvTranspose2d(8, 4, 3))
    initialize(network, scheme)
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            area = layer.weight[0, 0].numel()
            fan = sum(layer.weight.shape[:2]) if scheme == "glorot" else layer.weight.shape[1]
            limit = (6 / (area * fan)) ** 0.5
            assert 0.98 * limit < layer.weight.abs().max() <= limit or layer.weight.numel() < 1000
            assert layer.bias.abs().max() == 0
