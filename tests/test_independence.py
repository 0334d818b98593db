"""Datasets are independent of each other, of the library's constants and of what the process keeps or is set to."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

import mnistmp
from mnistmp import MNISTMP, data, paper
from mnistmp.data import palette


def digits(split="train"):
    return MNISTMP(dataset="digits", split=split)


def content():
    """All that somebody who begins now would get."""
    parts = [*vars(data.load("digits")).values(), mnistmp.PALETTE]
    for split in palette.SPLITS:
        made = digits(split)
        parts += [made.images, made.targets, made.color_index, made.colors]
    return [part.numpy().copy() for part in parts]


def same(parts, others):
    return all(np.array_equal(*pair) for pair in zip(parts, others, strict=True))


@pytest.mark.parametrize("split", palette.SPLITS)
def test_a_change_of_one_dataset_is_its_own(split):
    before = content()
    changed = digits(split)
    for name in ("images", "targets", "color_index", "palette", "colors"):
        getattr(changed, name).zero_()
        assert same(content(), before), name


@pytest.mark.parametrize("split", palette.SPLITS)
def test_labels_are_independent_of_colours(split):
    dataset = digits(split)
    worn = np.asarray(dataset[0][0])
    dataset.targets.add_(1).remainder_(10)
    assert np.array_equal(np.asarray(dataset[0][0]), worn)


def test_a_change_of_what_was_loaded_changes_no_run():
    spec = paper.spec_for("standard", 0, "digits", "float32", epochs=1)
    before, expected = content(), mnistmp.fit(spec, device="cpu").history[0]["train_loss"]
    data.load("digits").train_labels.zero_()
    digits().targets.zero_()
    assert same(content(), before) and mnistmp.fit(spec, device="cpu").history[0]["train_loss"] == expected


@pytest.mark.parametrize("state", [torch.device("meta"), torch.inference_mode()], ids=["device", "gradient"])
def test_digits_and_colours_do_not_depend_on_what_the_process_is_set_to(state):
    def made():
        dataset = MNISTMP(dataset="digits", palette=mnistmp.PALETTE.numpy())
        return np.asarray(dataset[3][0]), dataset.colors.numpy(), dataset.targets.numpy()

    expected = made()
    with state:
        assert same(made(), expected)


@pytest.mark.parametrize("index", [slice(0, 4), [0, 1], np.array([0, 1]), torch.tensor([0, 1])])
def test_several_items_at_once_are_said(index):
    with pytest.raises(TypeError, match="Subset"):
        digits()[index]


def test_indices_that_libraries_use():
    dataset = digits()
    assert dataset[-1][1] == dataset[np.int64(len(dataset) - 1)][1] == dataset[torch.tensor(len(dataset) - 1)][1]
    assert len(list(DataLoader(Subset(dataset, range(3)), batch_size=None))) == 3
    with pytest.raises(IndexError):
        dataset[len(dataset)]
