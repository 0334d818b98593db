"""MNIST-MP as a torch Dataset with torchvision's conventions, for anyone's own training loop."""

import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchvision
from PIL import Image

from mnistmp import data
from mnistmp.data.palette import (
    PALETTE,
    SPLITS,
    as_palette,
    check_geometry,
    color_table,
    mean_color,
    split_digits,
)
from mnistmp.errors import check_choice


class MNISTMP(torchvision.datasets.VisionDataset):
    """MNIST-MP with torchvision's conventions: an item is (RGB PIL image 28x28, class as int).

    Arguments: `root` as in `data.load` (None: MNISTMP_DATA or the user's cache folder), `split`
    "train", "val" or "test" (see `split_digits`), `palette` ten colours uint8 (10, 3), whose rounded
    mean is the test colour; `check="warn"` accepts one that breaks the conditions of `check_geometry`;
    `dataset` "mnist" or "digits". Raises DataError where the digits cannot be had, ValueError
    for a wrong split or palette.

    Attributes: `images` uint8 (N, 28, 28) grey, `targets` int64 (N,), `color_index` int64 (N,) the
    row of `table` uint8 (11, 256, 3) that each digit wears, `colors` uint8 (N, 3) the same as RGB.
    They may be changed: no other dataset and no training shares them, and labels are apart from colours.
    """

    classes = torchvision.datasets.MNIST.classes

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
        if root is None and dataset == "mnist":
            root = data.data_root()
        super().__init__(root, transform=transform, target_transform=target_transform)
        check_choice("split", split, SPLITS)  # before the digits are loaded or even downloaded
        check_choice("check", check, ("raise", "warn"))
        check_geometry(palette, strict=check == "raise")
        self.palette = as_palette(palette)
        self.table = color_table(self.palette, mean_color(self.palette))
        self.split, self.dataset = split, dataset
        self.images, self.targets, self.color_index = split_digits(data.load(dataset, root, download), split)
        self.colors = self.table[self.color_index, 255]  # full brightness is the colour itself

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        try:
            index = int(operator.index(index))
        except TypeError:
            raise TypeError(f"index {index!r} is no whole number: torch.utils.data.Subset takes several.") from None
        pixels = self.table[self.color_index[index]].numpy()[self.images[index].numpy()]
        image, target = Image.fromarray(pixels), int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.classes)}

    def extra_repr(self) -> str:
        digits = "MNIST" if self.dataset == "mnist" else "scikit-learn's (not MNIST)"
        return f"Split: {self.split}\nDigits: {digits}"
