"""Figure 3 in numbers: how far its classes are spread and mixed, and whether the paper's reading of it holds."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_lowercase
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from mnistmp.losses import pairwise_l1

if TYPE_CHECKING:
    from mnistmp.latent.panels import Embedding

MEASURED = 2000  # the first so many digits give the distances; all pairs of 10,000 would be 25 times the work
NEIGHBOURS = 10


def measure(features: np.ndarray, labels: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """What a picture cannot be trusted with.

    Distances are the paper's (Sec. 4.1): L1, between features rescaled to [0, 1] by the smallest and
    largest activation of each coordinate, here over the first `MEASURED` digits.

    Returns:
        accuracy: share of all digits predicted right;
        purity: mean share of a digit's `NEIGHBOURS` nearest others that are of its class;
        intra, inter: mean distance of two digits of one class, and of two classes;
        digits: how many all but the accuracy are from.
    """
    points = torch.from_numpy(features[:MEASURED])
    classes = torch.from_numpy(labels[:MEASURED].astype(np.int64))
    low, span = points.amin(0), points.amax(0) - points.amin(0)
    # What never changes says nothing: 0, as in the loss.
    distances = pairwise_l1(torch.where(span > 0, (points - low) / span.clamp_min(1e-30), 0)).double()
    same = classes[:, None] == classes
    itself = torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    nearest = distances.masked_fill(itself, torch.inf).topk(min(NEIGHBOURS, len(classes) - 1), largest=False).indices
    return {
        "accuracy": float((labels == predicted).mean()),
        "purity": float((classes[nearest] == classes[:, None]).double().mean()),
        "intra": float(distances[same & ~itself].mean()),
        "inter": float(distances[~same].mean()),
        "digits": len(classes),
    }


def numbers(panels: Sequence[Embedding]) -> pd.DataFrame:
    """`measure` of the panels that are there, one row each, by letter; also the ratio of intra to inter."""
    there = [(letter, panel) for letter, panel in zip(ascii_lowercase, panels) if panel]
    lines = [{"panel": letter, "title": panel.title, **panel.numbers} for letter, panel in there]
    table = pd.DataFrame(lines, columns=["panel", "title", "accuracy", "purity", "intra", "inter"]).set_index("panel")
    return table.assign(ratio=table["intra"] / table["inter"])


# The paper's reading of its figure (Sec. 5.2), as comparisons: in this measure the first is above the
# second. Of two letters the loss from the one to the other counts.
CLAIMS = (
    ("(d) has the classes expanded, compared to (a)", "ratio", "d", "a"),
    ("(e) mixes the classes, (d) still separates them", "purity", "d", "e"),
    ("(b) is misunderstood by the network, (f) less so", "accuracy", "ab", "ef"),
    ("(f) stays similar to (e), (b) does not to (a)", "purity", "ab", "ef"),
    ("(e) has larger clusters than original MNIST, (c)", "ratio", "e", "c"),
)


def claims(panels: Sequence[Embedding]) -> pd.DataFrame:
    """Whether `CLAIMS` hold in the panels that are there."""
    table, lines = numbers(panels), []
    for statement, measured, *sides in CLAIMS:
        if set("".join(sides)) <= set(table.index):
            values = [table[measured][list(side)] for side in sides]
            high, low = (v.iloc[0] if len(v) == 1 else v.iloc[0] - v.iloc[1] for v in values)
            words = [f"({side})" if len(side) == 1 else f"({side[0]}) to ({side[1]})" for side in sides]
            holds = f"{'yes' if high > low else 'no'}, by {abs(high - low):.2f}"
            lines.append((statement, measured + (" lost" if len(sides[0]) == 2 else ""), f"{words[0]} {high:.2f}",
                          f"{words[1]} {low:.2f}", holds))  # fmt: skip
    return pd.DataFrame(
        lines, columns=["the paper says", "measured by", "expected larger", "expected smaller", "holds here"]
    )
