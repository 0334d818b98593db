"""Coloured MNISTs as one specification, and their splits: MNIST-MP, those of the paper's Table 1, and relatives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from mnistmp import data
from mnistmp.data import palette
from mnistmp.data.palette import PALETTE
from mnistmp.errors import InputError, check_choice, in_one_sentence

Level = Annotated[int, Field(ge=0, le=255)]
RGB = tuple[Level, Level, Level]
Share = Annotated[float, Field(ge=0, le=1)]
RULES = ("other", "uniform", "reverse", "mean")


@in_one_sentence
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Split:
    """Which digits a split takes, and how their colours are drawn.

    Attributes:
        source: file of the digits, "train" or "test".
        part: where in it they begin and end, as shares from 0 to 1.
        align: share of digits in their class's colour, per environment; the digits are dealt to these in turn.
        rest: whose colour the others wear: one of the "other" classes', any class's ("uniform"), that of
            class K - 1 - y ("reverse"), the "mean" of all, or one of the pool of this name.
        exact: exact shares within each class instead of a draw per digit.
        shuffle: put the digits into random order before they are dealt.
        jitter: standard deviation of normal noise on each digit's colour, with colours from 0 to 1.
        shape: False for empty images of the split's mean brightness.
        outside: take the digits that belong to no class instead, with label -1.

    Raises:
        InputError: a value that cannot be, in one sentence.
    """

    source: Literal["train", "test"] = "train"
    part: tuple[Share, Share] = (0.0, 1.0)
    align: Annotated[tuple[Share, ...], Field(min_length=1)] = (1.0,)
    rest: str = "other"
    exact: bool = False
    shuffle: bool = False
    jitter: Annotated[float, Field(ge=0)] = 0.0
    shape: bool = True
    outside: bool = False

    def __post_init__(self):
        _require(self.part[0] < self.part[1], f"part is {self.part}; give the smaller share first")
        _require(not self.exact or len(self.align) == 1, f"exact shares for align {self.align}; give one environment")


@in_one_sentence
@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Variant:
    """A coloured MNIST, complete.

    Attributes:
        name: how it is called.
        about: what it is and where it is from, in a line or two.
        splits: by name; "train" and "test" at least. No other split may share digits with "train".
        palette: an RGB colour (0 to 255) per class.
        classes: the digits of each class.
        pools: further colours, by name.
        label_noise: probability of a wrong label, uniformly any of the others.
        follows: whether a colour follows the (noisy) "label" or the class of the "digit".
        paint: colour the "digit" on black, or the "background" of a white digit.
        threshold: grey levels (0 to 255) above it become 255, others 0; None keeps them.
        resize: "none" 28x28, or "stride" 14x14 (every second pixel).
        channels: 3, or 2 for red and green.
        value_range: black and full colour in `ColoredMNIST.tensors`.
        merged: environments are not told apart.
        seed: every random draw derives from it, from the split's name and from what is drawn.

    Raises:
        InputError: a combination that cannot be, in one sentence.
    """

    name: str
    about: str
    splits: Mapping[str, Split]
    palette: tuple[RGB, ...] = tuple(map(tuple, PALETTE.tolist()))
    classes: tuple[tuple[int, ...], ...] = tuple((digit,) for digit in range(10))
    pools: Mapping[str, Annotated[tuple[RGB, ...], Field(min_length=1)]] = field(default_factory=dict)
    label_noise: Annotated[float, Field(ge=0, lt=1)] = 0.0
    follows: Literal["digit", "label"] = "digit"
    paint: Literal["digit", "background"] = "digit"
    threshold: Annotated[int, Field(ge=0, lt=255)] | None = None
    resize: Literal["none", "stride"] = "none"
    channels: Literal[2, 3] = 3
    value_range: tuple[float, float] = (-1.0, 1.0)
    merged: bool = False
    seed: int = 0

    def __post_init__(self):
        digits = sorted(digit for group in self.classes for digit in group)
        _require(
            len(self.classes) >= 2 and all(self.classes) and digits == sorted(set(digits) & set(range(10))),
            f"classes are {self.classes}; give two or more groups of the digits 0 to 9, each digit once at most",
        )
        _require(
            len(self.palette) == len(self.classes),
            f"the palette has {len(self.palette)} colours for {len(self.classes)} classes; give one for each",
        )
        for name, pool in self.pools.items():
            _require(name not in RULES, f"a pool is called {name!r}, which is a rule; choose another name")
            shared = set(pool) & set(self.palette)
            _require(not shared, f"pool {name!r} has the class colour {min(shared, default=())}; take it out")
        blue = [color for color in (*self.palette, *sum(self.pools.values(), ())) if color[2]]
        _require(
            self.channels == 3 or not blue and self.paint == "digit",
            "two channels cannot show blue; use colours without it on black, or channels=3",
        )
        low, high = self.value_range
        _require(low < high, f"value_range is {self.value_range}; give the lower value first")
        for name in ("train", "test"):
            _require(name in self.splits, f"there is no split {name!r}; a variant needs train and test")
        train = self.splits["train"]
        for name, split in self.splits.items():
            check_choice(f"rest of split {name!r}", split.rest, (*RULES, *self.pools))
            _require(
                split.rest != "reverse" or len(self.classes) % 2 == 0,
                f"rest of split {name!r} is 'reverse', which leaves class {len(self.classes) // 2} of "
                f"{len(self.classes)} its own colour; choose 'other'",
            )
            _require(
                name == "train" or split.outside != train.outside or split.source != train.source
                or split.part[1] <= train.part[0] or train.part[1] <= split.part[0],
                f"split {name!r} shares digits with 'train'; give it another source or part",
            )  # fmt: skip

    def class_of(self) -> tuple[int, ...]:
        """The class of each digit, -1 for those of none."""
        owner = {digit: number for number, group in enumerate(self.classes) for digit in group}
        return tuple(owner.get(digit, -1) for digit in range(10))


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise InputError(f"{sentence}.")


def find(variant: str | Variant) -> Variant:
    """A variant of `VARIANTS` by its name; a `Variant` is itself. Raises InputError for a name that is none."""
    if isinstance(variant, Variant):
        return variant
    check_choice("variant", variant, tuple(VARIANTS))
    return VARIANTS[variant]


_MP = Variant(
    "mp",
    "MNIST-MP (Duboudin et al. 2021): a colour per class in training, their mean at test time.",
    {"train": Split(), "val": Split("test"), "test": Split("test", align=(0.0,), rest="mean")},
)


def _up(name: str, about: str, rest: str) -> Variant:
    test = Split("test", align=(0.0,), rest=rest, exact=True)
    return replace(_MP, name=name, about=about, splits={**_MP.splits, "test": test})


def _irm(name: str, about: str, **changes: Any) -> Variant:
    splits = {
        "train": Split(part=(0, 5 / 6), align=(0.8, 0.9), shuffle=True),
        "test": Split(part=(5 / 6, 1), align=(0.1,)),
        "grey": Split(part=(5 / 6, 1), align=(0.0,), rest="mean"),
        "yellow": Split(part=(5 / 6, 1), align=(0.0,), rest="sum"),
        "blank": Split(part=(5 / 6, 1), align=(0.1,), shape=False),
    }
    return Variant(
        name, about, splits, palette=((0, 255, 0), (255, 0, 0)), classes=((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)),
        pools={"sum": ((255, 255, 0),)}, label_noise=0.25, follows="label", resize="stride", channels=2,
        value_range=(0.0, 1.0), **changes,
    )  # fmt: skip


VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        _MP,
        _up(
            "up-uniform",
            "MNIST-UP, our construction, as we found no files of the paper's: test colours independent of the class.",
            "uniform",
        ),
        _up(
            "up-anti",
            "MNIST-UP, our construction with anti-correlated colours: every test digit wears another class's colour.",
            "other",
        ),
        _irm("irm", "Colored MNIST of Invariant Risk Minimization (Arjovsky et al. 2019): two environments."),
        _irm("sd", "Spectral Decoupling's (Pezeshki et al. 2021): IRM's with both environments as one.", merged=True),
        Variant(
            "gip",
            "Systematic generalisation with group invariant predictions (Ahmed et al. 2021): 80 % of the training "
            "digits in their class's colour; digit 0 belongs to no class. The pools were drawn by the authors' rule.",
            {
                "train": Split(part=(0, 5 / 6), align=(0.8,), rest="minority"),
                "val": Split(part=(5 / 6, 1), align=(0.8,), rest="minority"),
                "test": Split("test", align=(0.0,), rest="unseen"),
                "test-systematic": Split("test", align=(0.0,)),
                "in-distribution": Split("test", align=(0.8,), rest="minority"),
                "anomaly": Split("test", align=(0.0,), rest="uniform", outside=True),
            },
            palette=((0, 100, 0), (188, 143, 143), (255, 0, 0), (255, 215, 0), (0, 255, 0), (65, 105, 225),
                     (0, 225, 225), (0, 0, 255), (255, 20, 147)),
            classes=tuple((digit,) for digit in range(1, 10)),
            pools={  # at least 50 apart from the palette, and "unseen" also from "minority"
                "minority": ((172, 47, 117), (192, 67, 251), (195, 103, 9), (211, 21, 242), (36, 87, 70),
                             (216, 88, 140), (58, 193, 230), (39, 87, 174), (88, 81, 165), (25, 77, 72)),
                "unseen": ((9, 148, 115), (208, 243, 197), (254, 79, 175), (216, 177, 243), (29, 147, 147),
                           (142, 167, 32), (193, 9, 185), (127, 32, 31), (202, 244, 151), (163, 254, 203)),
            },
            threshold=127,
        ),
        Variant(
            "repair",
            "Colored MNIST of REPAIR (Li and Vasconcelos 2019): noisy class colours, white test digits. The class "
            "colours were drawn by the authors' rule.",
            {
                "train": Split(jitter=0.1),
                "val": Split("test", jitter=0.1),
                "test": Split("test", align=(0.0,), rest="white"),
            },
            palette=((140, 182, 154), (139, 108, 165), (112, 227, 246), (98, 202, 135), (145, 236, 18), (22, 5, 212),
                     (198, 222, 250), (204, 118, 199), (30, 163, 37), (241, 133, 106)),
            pools={"white": ((255, 255, 255),)},
            value_range=(0.0, 1.0),
        ),
        Variant(
            "cdep",
            "ColorMNIST of contextual decomposition explanation penalization (Rieger et al. 2020): colours are "
            "reversed after training.",
            {
                "train": Split(part=(0, 0.9)),
                "val": Split(part=(0.9, 1), align=(0.0,), rest="reverse"),
                "test": Split("test", align=(0.0,), rest="reverse"),
            },
            palette=((255, 0, 0), (241, 134, 0), (202, 227, 0), (71, 213, 0), (0, 199, 44), (0, 184, 144),
                     (0, 114, 170), (0, 17, 156), (63, 0, 142), (128, 0, 128)),
            value_range=(0.0, 1.0),
        ),
        Variant(
            "lntl",
            "In the style of Learning not to Learn (Kim et al. 2019), whose palette is not public: noisy class "
            "colours (variance 0.02), at test time any class's. Palette and noise at test time are our choice.",
            {
                "train": Split(jitter=0.02**0.5),
                "val": Split("test", jitter=0.02**0.5),
                "test": Split("test", align=(0.0,), rest="uniform", jitter=0.02**0.5),
            },
            value_range=(0.0, 1.0),
        ),
        Variant(
            "rebias",
            "Biased MNIST of ReBias (Bahng et al. 2020), correlation 0.999: white digits on coloured ground.",
            {
                "train": Split(align=(0.999,), exact=True),
                "val": Split("test"),
                "test": Split("test", align=(0.1,), exact=True),
                "test-anti": Split("test", align=(0.0,), exact=True),
            },
            palette=((255, 0, 0), (0, 255, 0), (0, 0, 255), (225, 225, 0), (225, 0, 225), (0, 255, 255), (255, 128, 0),
                     (255, 0, 128), (128, 0, 255), (128, 128, 128)),
            paint="background",
            threshold=0,
        ),
    )
}  # fmt: skip


# ---- how a split is made: plain NumPy, in streams that are the same everywhere ----


def make(variant: Variant, name: str, digits: data.GreyDigits) -> tuple[np.ndarray, ...]:
    """What `ColoredMNIST` holds of a split: images, targets, color_index, colors, digits, environments; all copies."""
    split = variant.splits[name]
    images, numbers = (getattr(digits, f"{split.source}_{what}").numpy() for what in ("images", "labels"))
    first, last = (round(share * len(numbers)) for share in split.part)
    class_of = np.array(variant.class_of(), np.int64)
    chosen = np.arange(first, last)
    chosen = chosen[(class_of[numbers[chosen]] < 0) == split.outside]
    # Labels belong to the digits: splits that show the same ones agree on them.
    targets = _noisy(class_of[numbers], variant, _stream(variant, split.source, "labels"))
    if split.shuffle:
        chosen = _stream(variant, name, "order").permutation(chosen)
    images, numbers, targets = _scaled(images[chosen], variant, split), numbers[chosen], targets[chosen]
    environments = np.arange(len(chosen)) % len(split.align)
    own = targets if variant.follows == "label" else class_of[numbers]
    color_index = _drawn(own, environments, variant, split, _stream(variant, name, "colors"))
    colors = all_colors(variant)[color_index]
    if split.jitter:
        noise = 255 * split.jitter * _stream(variant, name, "jitter").standard_normal(colors.shape)
        colors = np.rint(np.clip(colors + noise, 0, 255)).astype(np.uint8)
    return images, targets, color_index, colors, numbers, 0 * environments if variant.merged else environments


def _stream(variant: Variant, name: str, what: str) -> np.random.RandomState:
    # RandomState: NumPy guarantees that its streams never change.
    words = hashlib.sha256(f"{variant.seed} {name} {what}".encode()).digest()
    return np.random.RandomState(np.frombuffer(words, "<u4"))


def _scaled(images: np.ndarray, variant: Variant, split: Split) -> np.ndarray:
    if variant.threshold is not None:
        images = np.where(images > variant.threshold, np.uint8(255), np.uint8(0))
    if variant.resize == "stride":
        images = np.ascontiguousarray(images[:, ::2, ::2])
    return images if split.shape else np.full_like(images, round(images.mean()))


def _noisy(labels: np.ndarray, variant: Variant, stream: np.random.RandomState) -> np.ndarray:
    classes = len(variant.classes)
    wrong, by = stream.random_sample(len(labels)), stream.random_sample(len(labels))
    others = (labels + 1 + (by * (classes - 1)).astype(np.int64)) % classes
    return np.where((wrong < variant.label_noise) & (labels >= 0), others, labels)


def all_colors(variant: Variant) -> np.ndarray:
    """All colours as uint8 (C, 3): the classes', their mean, the pools'."""
    own = palette.as_palette(variant.palette, len(variant.classes))
    pools = [np.array(pool, np.uint8) for pool in variant.pools.values()]
    return np.concatenate([own.numpy(), palette.mean_color(own).numpy()[None], *pools])


def _drawn(
    own: np.ndarray, environments: np.ndarray, variant: Variant, split: Split, stream: np.random.RandomState
) -> np.ndarray:
    """The row of `all_colors` that each digit wears; `own` is that of its class."""
    classes, sizes = len(variant.classes), {name: len(pool) for name, pool in variant.pools.items()}
    many = {"other": classes - 1, "uniform": classes, "reverse": 1, "mean": 1, **sizes}[split.rest]
    if split.exact:  # what is left of each class is dealt to the colours in turn
        rest, choice = np.zeros(len(own), bool), np.zeros(len(own), np.int64)
        for number in range(classes):
            members = stream.permutation(np.flatnonzero(own == number))
            members = members[int(split.align[0] * len(members)) :]
            rest[members], choice[members] = True, np.arange(len(members)) % many
    else:
        rest = stream.random_sample(len(own)) >= np.array(split.align)[environments]
        choice = (many * stream.random_sample(len(own))).astype(np.int64)
    if split.rest in ("other", "uniform"):
        drawn = (own + 1 + choice) % classes
    elif split.rest == "reverse":
        drawn = classes - 1 - own
    elif split.rest == "mean":
        drawn = np.full_like(own, classes)
    else:
        names = list(sizes)
        drawn = classes + 1 + sum(sizes[name] for name in names[: names.index(split.rest)]) + choice
    return np.where(rest, drawn, own)
