"""MNIST-MP (paper, Sections 3.1 and 3.2): every class has a colour, and at test time no digit wears it.

One table of 11 x 256 colours defines every pixel of a training; `ColoredMNIST`, which knows other variants too,
computes the same pixels itself. The colours of plots are in figures/style.py.
"""

import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F

from mnistmp.errors import check_choice, require

# Class colours 0-9, RGB. The paper gives the geometry only; the authors published these values later.
PALETTE = torch.tensor(
    [(255, 127, 127), (0, 127, 127), (127, 255, 127), (127, 0, 127), (127, 127, 255),
     (127, 127, 0), (0, 255, 255), (255, 0, 0), (255, 0, 255), (0, 255, 0)], dtype=torch.uint8, device="cpu",
)  # fmt: skip
SPLITS = ("train", "val", "test")
TEST = 10  # the test colour's row in a colour table, after the ten classes

# Distances between colours, in units of the RGB cube's edge.
SPHERE_RADIUS = 0.5  # six colours (Section 3.2; the radius is the published palette's)
CUBE_RADIUS = math.sqrt(3) / 2  # four colours, at the cube's vertices
ROUNDING = math.sqrt(3) / 255  # two distances may differ by this because colours are whole numbers
# "Sufficiently different" (Section 3.2) comes without a number: the sphere's radius is our choice.
SMALLEST_GAP = 0.5


def as_palette(palette: Any, classes: int = 10) -> torch.Tensor:
    """Return a colour per class (tensor, array or nested lists of whole numbers 0..255) as a new uint8 (K, 3)."""
    try:
        colors = torch.as_tensor(palette, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        colors = torch.empty(0)
    whole = colors.shape == (classes, 3) and not colors.is_floating_point() and not colors.is_complex()
    require(
        whole and colors.min() >= 0 and colors.max() <= 255, "palette", palette,
        f"give {classes} RGB colours of whole numbers from 0 to 255, of shape ({classes}, 3)",
    )  # fmt: skip
    return colors.to(torch.uint8, copy=True)


def mean_color(palette: torch.Tensor = PALETTE) -> torch.Tensor:
    """Return the rounded mean of a uint8 (K, 3) palette, uint8 (3,): the test colour (Section 3.2)."""
    return palette.double().mean(0).round().to(torch.uint8)


TEST_COLOR = mean_color(PALETTE)  # (127, 127, 127)


def check_geometry(palette: Any = PALETTE, strict: bool = True, classes: int = 10) -> dict[str, Any]:
    """Verify Section 3.2's conditions on the class colours and return what was measured.

    "No particular color is closer to the average than at least three others", and all colours are
    "sufficiently different" (`SMALLEST_GAP`). A violation raises ValueError, or warns where `strict`
    is False. Keys, with distances in [0, 1] colour units: `on_sphere` and `on_cube` (how many colours lie
    at 0.5 and at 0.866 from the mean; 6 and 4 in the published palette), `tied_nearest` (how many are as near
    to it as the nearest), and `smallest_gap` between two colours.
    """
    colors = as_palette(palette, classes).double() / 255
    distances = (colors - colors.mean(0)).norm(dim=1)
    nearest = distances.min()
    gaps = (colors[:, None] - colors).norm(dim=2).fill_diagonal_(math.inf)
    smallest_gap = gaps.min()
    facts = {
        "on_sphere": int(((distances - SPHERE_RADIUS).abs() <= ROUNDING).sum()),
        "on_cube": int(((distances - CUBE_RADIUS).abs() <= ROUNDING).sum()),
        "tied_nearest": int((distances <= nearest + ROUNDING).sum()),
        "smallest_gap": float(smallest_gap),
    }
    problems = []
    if facts["tied_nearest"] < min(4, classes):  # the nearest colour itself and at least three others
        problems.append(
            f"the colour of class {int(distances.argmin())} is {nearest:.3f} from the mean colour and only "
            f"{facts['tied_nearest'] - 1} others are as near (at least {min(3, classes - 1)} must be)"
        )
    if smallest_gap < SMALLEST_GAP:
        first, second = divmod(int(gaps.argmin()), classes)
        problems.append(
            f"the colours of classes {first} and {second} are only {smallest_gap:.3f} apart "
            f"(at least {SMALLEST_GAP} is required)"
        )
    if problems:
        message = f"the palette breaks the benchmark's conditions: {' and '.join(problems)}."
        if strict:
            raise ValueError(message)
        warnings.warn(message, stacklevel=2)
    return facts


def color_table() -> torch.Tensor:
    """Return uint8 (11, 256, 3): entry [c, g] is grey level g in class c's colour, or for c = 10 the test colour.

    Colouring multiplies grey and colour, both in [0, 1] (Section 3.1), and rounds to whole levels;
    the background stays black. g * colour / 255 never lies halfway between two levels.
    """
    colors = torch.cat([PALETTE, TEST_COLOR[None]]).int()
    grey = torch.arange(256, dtype=torch.int32, device=colors.device)
    return ((2 * grey[None, :, None] * colors[:, None, :] + 255) // 510).to(torch.uint8)


def input_table(table: torch.Tensor, input_range: str = "[-1,1]", dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return a `color_table` as the network's input values, (11, 256, 3) of `dtype`, computed in float32.

    "[0,1]" divides by 255 as torchvision's ToTensor does; "[-1,1]" is 2x - 1 of that, black being -1.
    """
    check_choice("input_range", input_range, ("[-1,1]", "[0,1]"))
    values = table.float() / 255
    return (values if input_range == "[0,1]" else 2 * values - 1).to(dtype)


def color_batch(grey: torch.Tensor, color_index: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """Colour grey uint8 (B, H, W) by table row `color_index` (B,): (B, 3, H, W), channels-last, in the table's dtype.

    With an `input_table` this is the network's input. All tensors on one device; two passes and no
    synchronisation, so it can be part of a CUDA graph.
    """
    # int32 instead of int64: half the index traffic, a quarter of the time on a CPU
    row = color_index.to(torch.int32).view(-1, 1, 1) * 256 + grey
    return F.embedding(row, table.view(-1, 3)).permute(0, 3, 1, 2)


def colorize(images: torch.Tensor, color_index: torch.Tensor) -> torch.Tensor:
    """Colour grey uint8 (N, H, W) as RGB uint8 (N, 3, H, W), channels-last, in the published colours."""
    return color_batch(images, color_index, color_table().to(images.device))


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Return grey uint8 (N, 28, 28) as uint8 (N, size, size), size 28 (unchanged) or 32.

    32x32 is another interpretation of the paper, which gives no size. Bilinear; antialiasing has nothing to do when
    enlarging.
    """
    if size == 28:
        return images
    blocks = [  # in blocks, because all of MNIST as float32 would take half a gigabyte
        F.interpolate(block[:, None].float(), size=(size, size), mode="bilinear")[:, 0].round().to(torch.uint8)
        for block in images.split(8192)
    ]
    return torch.cat(blocks)
