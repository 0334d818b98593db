"""Coloured MNISTs as torch Datasets with torchvision's conventions, for anyone's own training loop."""

import hashlib
import operator
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from PIL import Image

from mnistmp import data
from mnistmp.data import variants
from mnistmp.data.palette import PALETTE, as_palette, check_geometry
from mnistmp.data.variants import VARIANTS, Variant
from mnistmp.errors import check_choice, require


class ColoredMNIST(torchvision.datasets.VisionDataset):
    """A coloured MNIST with torchvision's conventions: an item is (RGB PIL image, class as int).

    Arguments: `root` as in `data.load` (None: MNISTMP_DATA or the user's cache folder), `variant` a name of
    `variants.VARIANTS` or a `Variant` of one's own, `split` one of its splits, `dataset` "mnist" or "digits".
    A mean colour must meet the conditions of `check_geometry`; with `check="warn"` a violation warns.
    Raises DataError where the digits cannot be had, InputError for a wrong variant or split, ValueError for a palette.

    Attributes: `images` uint8 (N, H, W) grey, `targets` int64 (N,), `colors` uint8 (N, 3) the RGB colour that each
    image is painted in, `color_index` int64 (N,) which colour that is, before noise (the class's: 0 to K - 1; the mean:
    K; then those of the pools in their order), `digits` int64 (N,) 0 to 9, `environments` int64 (N,) from 0.
    They may be changed: no other dataset and no training shares them, and labels are apart from colours.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        variant: str | Variant = "mp",
        split: str = "train",
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
        dataset: str = "mnist",
        check: str = "raise",
    ) -> None:
        check_choice("dataset", dataset, data.DATASETS)
        if root is None and dataset == "mnist":
            root = data.data_root()
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.variant = variants.find(variant)
        check_choice("split", split, tuple(self.variant.splits))  # before the digits are loaded or even downloaded
        check_choice("check", check, ("raise", "warn"))
        for name, function in (("transform", transform), ("target_transform", target_transform)):
            valid = "give a function of an image or a label, or None"
            require(function is None or callable(function), name, function, valid)
        classes = len(self.variant.classes)
        if any(one.rest == "mean" for one in self.variant.splits.values()):
            check_geometry(self.variant.palette, strict=check == "raise", classes=classes)
        self.palette = as_palette(self.variant.palette, classes)
        self.split, self.dataset = split, dataset
        names = torchvision.datasets.MNIST.classes
        self.classes = [", ".join(names[digit] for digit in group) for group in self.variant.classes]
        made = variants.make(self.variant, split, data.load(dataset, root, download))
        self.images, self.targets, self.color_index, self.colors, self.digits, self.environments = (
            torch.from_numpy(part) for part in made
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            index = int(operator.index(index))
        except TypeError:
            raise TypeError(f"index {index!r} is no whole number: torch.utils.data.Subset takes several.") from None
        target = int(self.targets[index])
        image = Image.fromarray(self._paint(self.images[index].numpy(), self.colors[index].numpy()))
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def pixels(self, index: slice = slice(None)) -> np.ndarray:
        """Images of a slice as uint8 (N, H, W, 3)."""
        return self._paint(self.images[index].numpy(), self.colors[index].numpy()[:, None, None])

    def tensors(self, index: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor]:
        """Images of a slice as float32 (N, C, H, W) in the variant's channels and range of values, and their labels."""
        low, high = self.variant.value_range
        images = torch.from_numpy(self.pixels(index)[..., : self.variant.channels]).float() / 255
        return (high - low) * images.permute(0, 3, 1, 2) + low, self.targets[index]

    def digest(self) -> str:
        """SHA-256 of all images, labels, digits and colours, as hexadecimal digits."""
        content = hashlib.sha256()
        for start in range(0, len(self), 8192):
            content.update(np.ascontiguousarray(self.pixels(slice(start, start + 8192))))
        for part in (self.targets, self.digits, self.colors):
            content.update(part.numpy().astype(np.int16 if part is self.targets else np.uint8))
        return content.hexdigest()

    def _paint(self, grey: np.ndarray, colors: np.ndarray) -> np.ndarray:
        # Products of grey and colour, both from 0 to 1, rounded to whole levels; none lies halfway between two.
        grey = grey[..., None].astype(np.float32)
        if self.variant.paint == "digit":
            return np.rint(grey * colors / 255).astype(np.uint8)
        return np.rint(grey + (255 - grey) * colors / 255).astype(np.uint8)

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def extra_repr(self) -> str:
        digits = "MNIST" if self.dataset == "mnist" else "scikit-learn's (not MNIST)"
        return f"Split: {self.split}\nDigits: {digits}, coloured as {self.variant.name}"


class MNISTMP(ColoredMNIST):
    """MNIST-MP: `ColoredMNIST` of variant "mp", in 28x28.

    Arguments: besides those of `ColoredMNIST`, `palette`, ten colours uint8 (10, 3), whose rounded mean is the
    test colour. `split` is "train", "val" or "test".
    """

    def __init__(
        self,
        root: str | Path | None = None,
        split: str = "train",
        transform: Callable | None = None,
        target_transform: Callable | None = None,
        download: bool = False,
        palette: Any = PALETTE,
        dataset: str = "mnist",
        check: str = "raise",
    ) -> None:
        variant = replace(VARIANTS["mp"], palette=as_palette(palette).tolist())
        super().__init__(root, variant, split, transform, target_transform, download, dataset, check)
