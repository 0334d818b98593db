"""MNIST-MP: its colours, and one definition of every pixel for the Dataset and for training."""

import hashlib
import math
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, ToTensor
from torchvision.transforms.v2.functional import resize as torchvision_resize

from mnistmp import data
from mnistmp.data import palette
from mnistmp.data.dataset import MNISTMP
from mnistmp.data.palette import PALETTE, TEST, TEST_COLOR

FROZEN_DIGITS = "ff29ea8e13a3838eb106806011074fde3fbf3432e5e7f490ab30eafbe34088ad"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


# ---- colours (Section 3.2) ------------------------------------------------------------------


def test_published_geometry():
    facts = palette.check_geometry()
    assert facts["on_sphere"] == 6 and facts["on_cube"] == 4
    assert facts["tied_nearest"] == 6
    assert facts["smallest_gap"] == pytest.approx(math.sqrt(0.5), abs=0.005)
    assert TEST_COLOR.tolist() == [127, 127, 127] and TEST_COLOR.dtype == torch.uint8
    assert palette.check_geometry(PALETTE.numpy()) == palette.check_geometry(PALETTE.tolist()) == facts


def test_geometry_refuses_or_warns():
    alike = PALETTE.clone()
    alike[3] = alike[1] + torch.tensor([0, 20, 0], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"classes 1 and 3 are only 0\.\d+ apart"):
        palette.check_geometry(alike)
    with pytest.warns(UserWarning, match="classes 1 and 3"):
        assert palette.check_geometry(alike, strict=False)["smallest_gap"] < 0.5

    near = PALETTE.clone()
    near[7] = TEST_COLOR  # at 0.5 from its neighbours, but it is the mean itself
    with pytest.raises(ValueError, match="the colour of class 7 is 0.* only 0 others are as near"):
        palette.check_geometry(near)


# ---- colouring (Section 3.1) ----------------------------------------------------------------


def test_color_table_is_the_rounded_product():
    table = palette.color_table()
    assert table.shape == (11, 256, 3) and table.dtype == torch.uint8
    colors = np.vstack([PALETTE.numpy(), TEST_COLOR.numpy()]).astype(np.float64)
    expected = np.rint(np.arange(256)[None, :, None] / 255 * colors[:, None, :])
    assert np.array_equal(table.numpy(), expected)
    assert not table[:, 0].any()  # the background stays black
    assert torch.equal(table[:10, 255], PALETTE) and torch.equal(table[TEST, 255], TEST_COLOR)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("input_range, low", [("[0,1]", 0), ("[-1,1]", -1)])
def test_color_batch(digits, dtype, input_range, low):
    grey, index = digits.test_images[:50], torch.arange(50) % 11
    table = palette.input_table(palette.color_table(), input_range, dtype)
    batch = palette.color_batch(grey, index, table)
    assert batch.shape == (50, 3, 28, 28) and batch.dtype == dtype
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert batch.min() == low and batch.max() == 1
    for n in range(50):  # one image at a time, straight from the definition
        pixels = (grey[n].double()[..., None] * palette.color_table()[index[n], 255].double() / 255).round()
        x = pixels.float() / 255
        expected = x if input_range == "[0,1]" else 2 * x - 1
        assert torch.equal(batch[n], expected.to(dtype).permute(2, 0, 1))


def test_colorize(digits):
    rgb = palette.colorize(digits.test_images[:20], digits.test_labels[:20])
    assert rgb.dtype == torch.uint8 and rgb.shape == (20, 3, 28, 28)
    brightest = digits.test_images[:20].amax((1, 2)).double()[:, None] / 255
    assert torch.equal(rgb.amax((2, 3)), (PALETTE[digits.test_labels[:20]] * brightest).round())
    with pytest.raises(IndexError):
        palette.colorize(digits.test_images[:1], torch.tensor([11]))


def test_frozen_pixels(digits):
    """The coloured digits never change unnoticed: records made from other pixels would not be comparable."""
    rgb = palette.colorize(digits.test_images, digits.test_labels).contiguous()
    assert hashlib.sha256(rgb.numpy().tobytes()).hexdigest() == FROZEN_DIGITS


def test_unknown_input_range():
    with pytest.raises(ValueError, match="input_range is .*; choose one of"):
        palette.input_table(palette.color_table(), "[0,255]")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_color_batch_in_a_cuda_graph(digits):
    table = palette.input_table(palette.color_table())
    grey, index = digits.test_images[:64], torch.arange(64) % 11
    on_gpu = [tensor.cuda() for tensor in (torch.zeros_like(grey), torch.zeros_like(index), table)]
    palette.color_batch(*on_gpu)  # warm up
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        batch = palette.color_batch(*on_gpu)
    on_gpu[0].copy_(grey), on_gpu[1].copy_(index)
    graph.replay()
    assert torch.equal(batch.cpu(), palette.color_batch(grey, index, table))


# ---- sizes ----------------------------------------------------------------------------------


def test_resize(digits):
    images = digits.test_images[:40]
    assert palette.resize(images, 28) is images
    larger = palette.resize(images, 32)
    theirs = torchvision_resize(images[:, None].float(), [32, 32], antialias=True)[:, 0]
    assert larger.dtype == torch.uint8 and (larger - theirs).abs().max() < 0.51


# ---- the Dataset ----------------------------------------------------------------------------


def test_splits(digits):
    train, val, test = (MNISTMP(split=split, dataset="digits") for split in palette.SPLITS)
    assert torch.equal(train.images, digits.train_images) and torch.equal(train.targets, digits.train_labels)
    assert torch.equal(val.images, test.images) and torch.equal(val.images, digits.test_images)
    assert torch.equal(val.targets, test.targets)
    for dataset in (train, val):
        assert torch.equal(dataset.colors, PALETTE[dataset.targets])  # colour and class always go together
    assert torch.equal(test.colors, TEST_COLOR.expand(360, 3))


@pytest.mark.parametrize("split", palette.SPLITS)
def test_items_are_rgb_pictures_in_the_digits_colour(split):
    dataset = MNISTMP(split=split, dataset="digits")
    for index in (0, 7, len(dataset) - 1, -1):
        image, target = dataset[index]
        assert image.mode == "RGB" and image.size == (28, 28)
        assert type(target) is int and target == dataset.targets[index]
        pixels = np.asarray(image)
        brightest = dataset.images[index].max().item() / 255
        assert np.array_equal(pixels.max((0, 1)), np.rint(dataset.colors[index].numpy() * brightest))
        assert not pixels[dataset.images[index].numpy() == 0].any()  # the background stays black
    with pytest.raises(IndexError):
        dataset[len(dataset)]
    assert sum(1 for _ in dataset) == len(dataset)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("split", ["train", "test"])
def test_dataloader_equals_the_fast_path(split, workers):
    dataset = MNISTMP(split=split, transform=ToTensor(), dataset="digits")
    unit, signed = (palette.input_table(palette.color_table(), name) for name in ("[0,1]", "[-1,1]"))
    start = 0
    for images, targets in DataLoader(dataset, batch_size=128, num_workers=workers):
        here = slice(start, start + len(images))
        grey, index = dataset.images[here], dataset.color_index[here]
        assert torch.equal(images, palette.color_batch(grey, index, unit))
        assert torch.equal(2 * images - 1, palette.color_batch(grey, index, signed))
        assert torch.equal(targets, dataset.targets[here])
        start += len(images)
    assert start == len(dataset)


def test_torchvision_conventions():
    dataset = MNISTMP(None, "val", Compose([ToTensor()]), lambda target: target + 100, dataset="digits")
    image, target = dataset[0]
    assert image.shape == (3, 28, 28) and target == dataset.targets[0] + 100
    assert dataset.classes[0] == "0 - zero" and dataset.class_to_idx["9 - nine"] == 9
    lines = repr(dataset).splitlines()
    assert lines[:3] == ["Dataset MNISTMP", "    Number of datapoints: 360", "    Split: val"]
    assert "scikit-learn" in lines[3] and "StandardTransform" in lines[4]
    copy = pickle.loads(pickle.dumps(MNISTMP(split="val", dataset="digits")))  # noqa: S301 (our own bytes)
    assert copy[3][0].tobytes() == MNISTMP(split="val", dataset="digits")[3][0].tobytes()


def test_nothing_is_downloaded_unless_asked_for(tmp_path):
    with pytest.raises(data.DataError, match="is missing"):
        MNISTMP(tmp_path)


def test_own_palette():
    rotated = PALETTE.roll(1, 0)
    dataset = MNISTMP(split="train", palette=rotated.tolist(), dataset="digits")
    assert torch.equal(dataset.colors, rotated[dataset.targets])
    bad = PALETTE.clone()
    bad[0] = bad[4]
    with pytest.raises(ValueError, match="classes 0 and 4 are only 0.000 apart"):
        MNISTMP(palette=bad, dataset="digits")
    with pytest.warns(UserWarning, match="classes 0 and 4"):
        test = MNISTMP(split="test", palette=bad, dataset="digits", check="warn")
    assert torch.equal(test.colors[0], palette.mean_color(bad))
