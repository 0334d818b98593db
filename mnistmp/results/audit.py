"""The paper's Table 1, measured: what colour says of the class in each variant, and what is new at test time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from mnistmp import evidence, paper, paths
from mnistmp.data.dataset import ColoredMNIST
from mnistmp.data.variants import VARIANTS, all_colors
from mnistmp.engine import Splits, count_correct
from mnistmp.methods import Method
from mnistmp.results import accuracy, irm, markdown

# What the paper says: domains, pattern at test time, label noise (LN) or counter-examples (CE), classes.
PAPER = {
    "irm": ("MDG (2)", "UP", "LN", 2),
    "sd": ("SDG", "UP", "LN", 2),
    "gip": ("SDG", "UP & MP", "CE", 10),
    "mp": ("SDG", "MP", "none", 10),
}
NEAR = 0.05  # colours that are not further apart count as one; the edge of the RGB cube is 1
TOLERANCE = 0.02  # above 1/K, a share of own colours up to which they are not correlated with the class


def audit(names: Sequence[str] = tuple(VARIANTS), dataset: str = "mnist") -> pd.DataFrame:
    """Measure variants: a line per variant and split.

    Returns:
        DataFrame with variant, split, n, `environments`, `classes`; in percent `label_noise` (labels that are not
        the digit's), `counter_examples` (digits not in the colour of their own class), `own_color` (images in the
        colour of their label), `color_only` (accuracy of who names the class whose colour is nearest to the
        image's, read from its pixels); in bits `color_bits` and `shape_bits`, the mutual information of label and
        colour and of label and digit; `pattern`: "MP" where no colour occurs in training, "UP" where colours do and
        are not correlated with the label, else "–".
    """
    lines = []
    for name in names:
        train = ColoredMNIST(None, name, "train", dataset=dataset)
        for split in train.variant.splits:
            one = train if split == "train" else ColoredMNIST(None, name, split, dataset=dataset)
            lines.append({"variant": name, "split": split, **_measured(one), "pattern": _pattern(one, train)})
    return pd.DataFrame(lines)


def _measured(one: ColoredMNIST) -> dict[str, float]:
    own, labels, worn = torch.tensor(one.variant.class_of())[one.digits], one.targets, one.color_index
    return {
        "n": len(one),
        "environments": len(one.environments.unique()),
        "classes": len(labels.unique()),
        "label_noise": _percent(labels != own),
        "counter_examples": _percent(worn != own),
        "own_color": _percent(worn == labels),
        "color_only": _percent(read_color(one) == labels),
        "color_bits": mutual_information(labels, worn),
        "shape_bits": mutual_information(labels, one.digits),
    }


def _percent(which: torch.Tensor) -> float:
    return 100 * float(which.double().mean())


def read_color(one: ColoredMNIST) -> torch.Tensor:
    """The class whose colour is nearest to each image's, int64 (N,), from the pixels alone."""
    brightest = one.variant.paint == "digit"  # on black; or the ground, beside white
    named = []
    for start in range(0, len(one), 8192):
        pixels = one.pixels(slice(start, start + 8192))
        color = pixels.max((1, 2)) if brightest else pixels.min((1, 2))
        named.append(torch.cdist(torch.from_numpy(color).double(), one.palette.double()).argmin(1))
    return torch.cat(named)


def mutual_information(one: torch.Tensor, other: torch.Tensor) -> float:
    """Mutual information in bits of two int64 (N,), from their counts."""
    counts = np.zeros((int(one.max()) + 2, int(other.max()) + 2))
    np.add.at(counts, (one.numpy(), other.numpy()), 1 / len(one))
    independent = counts.sum(1, keepdims=True) * counts.sum(0)
    seen = counts > 0
    return float((counts[seen] * np.log2(counts[seen] / independent[seen])).sum())


def _pattern(one: ColoredMNIST, train: ColoredMNIST) -> str:
    rows = torch.from_numpy(all_colors(one.variant)).double() / 255  # before noise
    known = torch.cdist(rows[one.color_index.unique()], rows[train.color_index.unique()]).amin(1) <= NEAR
    if not known.any():
        return "MP"
    uncorrelated = float((one.color_index == one.targets).double().mean()) <= 1 / len(one.classes) + TOLERANCE
    return "UP" if known.all() and uncorrelated else "–"


def to_markdown(measured: pd.DataFrame, dataset: str = "mnist") -> str:
    """Table 1 with the paper's words and what was measured, and what was measured of every split."""
    rows = [
        [line.variant, line.split, f"{line.n:,}", f"{line.own_color:.1f}", f"{line.color_only:.1f}",
         f"{abs(line.color_bits):.3f}", f"{abs(line.shape_bits):.3f}", line.pattern]
        for line in measured.itertuples(index=False)
    ]  # fmt: skip
    head = ["variant", "split", "images", "own colour %", "colour-only %", "I(colour; y)", "I(digit; y)", "pattern"]
    return "\n\n".join([
        table1(measured, dataset),
        "**Every split**: share of images in the colour of their label, accuracy of who names the class whose colour "
        "is nearest, and mutual information of colour, and of digit, with the label y in bits.",
        markdown.table(head, "llrrrrrl", rows),
    ])  # fmt: skip


def table1(measured: pd.DataFrame, dataset: str = "mnist") -> str:
    """Table 1 alone."""
    rows, tests = [], measured[measured["split"].str.startswith("test")]
    for line in measured[measured["split"] == "train"].itertuples(index=False):
        found = tests.loc[tests["variant"] == line.variant, "pattern"].unique()
        domains = f"MDG ({line.environments})" if line.environments > 1 else "SDG"
        hints = f"{line.label_noise:.1f}", f"{line.counter_examples:.2f}"
        both = zip(PAPER.get(line.variant, ("–",) * 4), (domains, " & ".join(sorted(found)[::-1]), hints, line.classes))
        (d1, d2), (p1, p2), (h1, h2), (c1, c2) = both
        rows.append([line.variant, d1, d2, p1, p2, h1, *h2, c1, c2])
    head = ["variant", "domains", "measured", "pattern", "measured", "hints", "LN %", "CE %", "classes", "measured"]
    digits = "MNIST" if dataset == "mnist" else "scikit-learn's digits (not MNIST)"
    return (
        f"**Table 1**, what the paper says beside what was measured on {digits}. SDG, MDG: one or several training "
        "domains; UP, MP: the colour is uncorrelated or anti-correlated with the class at test time, or missing; LN: "
        "label noise, CE: counter-examples, digits not in the colour of their own class, both of the training "
        "digits.\n\n" + markdown.table(head, "llllllrrrr", rows)
    )


# ---- the same networks on MNIST-MP and on both MNIST-UP ----

NEW_COLORS = ("mp", "up-uniform", "up-anti")  # they differ in the colours of the test digits alone
METHODS = (
    "standard", "dropout", "dropout-orthogonality", "dropout-covariance", "jigsaw", "reconstruction",
    "spectral-decoupling", "rsc", "rcl-m0.9", "rcl-m0.9+otherwise=negative-unweighted", "rcl-inf",
)  # fmt: skip


def observe(preset: str, seeds: str | None = None) -> None:
    """Count what the networks of `METHODS` get right of each of `NEW_COLORS`, seed 0 unless others are asked.

    Networks are taken from their checkpoints or trained once more; what is counted is kept, see `evidence.observe`.
    """
    dataset = paper.preset(preset).dataset

    def new_colors(network: Method, splits: Splits) -> dict[str, int]:
        grey, labels, _ = splits.splits["test"]
        seen = {"val_total": splits.total("val"), "val_correct": count_correct(network, splits, "val")}
        for name in NEW_COLORS:
            worn = ColoredMNIST(None, name, "test", dataset=dataset).color_index
            splits.splits["test"] = grey, labels, worn.to(grey.device)
            seen |= {"test_total": len(labels), name: count_correct(network, splits, "test")}
        return seen

    for seed in paper.parse_seeds(seeds or "0"):
        for row in METHODS:
            evidence.observe(row, new_colors, preset, seed)


def observed(preset: str) -> pd.DataFrame:
    """A line per variant and method of which something was counted: variant, method, `accuracy.Summary`'s numbers.
    `.attrs` holds the preset."""
    seen = {}
    for row in METHODS:
        files = sorted((paths.results(preset) / "evidence" / row).glob("new_colors-seed-*.npz"))
        seen[row] = [{key: int(value) for key, value in evidence.read(path)[0].items()} for path in files]
    lines = []
    for name in NEW_COLORS:
        for row in METHODS:
            runs = [{**one, "seed": seed, "status": "done", "val_correct": [one["val_correct"]],
                     "test_correct": [one[name]]} for seed, one in enumerate(seen[row])]  # fmt: skip
            if runs:
                summary = accuracy.summary(pd.DataFrame(runs))
                lines.append({"variant": name, "method": paper.row(row).label, **summary._asdict()})
    table = pd.DataFrame(lines, columns=["variant", "method", *accuracy.Summary._fields[:5]])
    table.attrs["preset"] = preset
    return table


def observed_to_markdown(table: pd.DataFrame) -> str:
    """The table of `observed` with what one must know to read it."""
    rows, preset = [], paper.preset(table.attrs["preset"])
    protocol = "by the paper's protocol" if preset.name == "paper" else f"of preset {preset.name} ({preset.note})"
    for method, lines in table.groupby("method", sort=False):
        first = lines.iloc[0]
        val = markdown.plus_minus(first["val_mean"], first["val_std"], 2, 3)
        rows.append([method, first["n"], val, *map(markdown.plus_minus, lines["test_mean"], lines["test_std"])])
    return "\n\n".join([
        "**MNIST-UP beside MNIST-MP.** Accuracies in percent as mean ± standard deviation over n seeds (n - 1 in the "
        f"denominator), {protocol}, at the epoch with the best validation accuracy: of validation, and of "
        "three tests. The paper names MNIST-UP, of which we found no files: `up-uniform` and `up-anti` are our "
        "constructions. They differ from MNIST-MP in the colours of the test digits alone, so the same networks are "
        "tested on all three. Their trainings were repeated for this, so that `mp` may differ a little from Table 2.",
        markdown.table(["method", "n", "validation", *NEW_COLORS], "lrrrrr", rows),
    ])  # fmt: skip


# ---- files ----


def folder(name: str) -> str:
    """The folder of `results/` for the tables of a preset, which never meet another's; or, by a data set's name, for
    what depends on the digits alone."""
    return "variants" if name in ("paper", "mnist") else f"variants-{name}"


def texts(preset: str, measured: pd.DataFrame | None = None) -> dict[str, str]:
    """The files of `folder`: `table.md` and `.csv` of an `audit`, where given; and of what is recorded `up.md` and
    `.csv` (`observed`) and `irm.md`."""
    dataset = paper.preset(preset).dataset
    found, seen, published = {}, observed(preset), irm.table(folder(dataset))
    if measured is not None:
        percent = ["label_noise", "counter_examples", "own_color", "color_only"]
        found["table.md"] = to_markdown(measured, dataset) + "\n"
        found["table.csv"] = markdown.csv(measured, {"percent": percent}, digits=6)
    if len(seen):
        found["up.md"] = observed_to_markdown(seen) + "\n"
        found["up.csv"] = markdown.csv(seen, {"percent": ["val_mean", "val_std", "test_mean", "test_std"]})
    if published["n"].any():
        found["irm.md"] = irm.to_markdown(published) + "\n"
    return found
