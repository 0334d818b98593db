"""The published experiment on IRM's Colored MNIST: its networks, its steps, its numbers beside ours.

Sources: facebookresearch/InvariantRiskMinimization (code/colored_mnist) and mohammadpz/Gradient_Starvation
(Figure_4_and_table_1). The authors chose the settings by accuracy on the *test* environment too.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.nn import functional as F

from mnistmp import paths
from mnistmp.data.dataset import ColoredMNIST
from mnistmp.data.variants import VARIANTS
from mnistmp.files import write_atomically
from mnistmp.records.provenance import environment
from mnistmp.results import markdown


@dataclass(frozen=True)
class Experiment:
    """A method with its published settings and accuracies.

    Attributes:
        hidden: width of the two hidden layers.
        l2: weight of the sum of squared parameters.
        penalty: "irm", "sd" or none.
        grey: on both channels' sum: the colour is taken away.
        train, test: published accuracies, mean and standard deviation over ten restarts, in percent.
    """

    name: str
    hidden: int
    learning_rate: float
    steps: int
    train: tuple[float, float]
    test: tuple[float, float]
    l2: float = 0.0
    penalty: str = ""
    grey: bool = False


EXPERIMENTS = (
    Experiment("ERM", 256, 1e-3, 501, (87.39, 0.19), (17.07, 0.67), l2=1e-3),
    Experiment("ERM on grey digits", 83, 0.0028171488, 101, (73.50, 0.19), (73.01, 0.47), l2=8.602868865e-4, grey=True),
    Experiment("IRM", 390, 0.0004898537, 501, (70.81, 0.93), (66.90, 2.54), l2=0.00110794568, penalty="irm"),
    Experiment("Spectral decoupling", 300, 1e-4, 2001, (70.04, 0.91), (68.40, 1.24), penalty="sd"),
)
RESTARTS = 10


def train(experiment: Experiment, seed: int, dataset: str = "mnist") -> dict[str, float]:
    """One restart: accuracies in percent after the last step, "train" and "test".

    Products are in bfloat16, weights, losses and updates in float32. Label noise and colours are drawn anew for every
    seed, as in the originals.
    """
    parts = {}
    for split in ("train", "test"):
        one = ColoredMNIST(None, replace(VARIANTS["irm"], seed=seed), split, dataset=dataset)
        images, labels = one.tensors()
        images = images.sum(1) if experiment.grey else images
        parts[split] = images.flatten(1), labels.float(), one.environments
    images, labels, environments = parts["train"]
    network = _network(experiment, images.shape[1], seed)
    optimizer = torch.optim.Adam(network.parameters(), experiment.learning_rate)
    for step in range(experiment.steps):
        loss = _loss(experiment, network, _logits(network, images), labels, environments, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.inference_mode():
        return {
            split: 100 * float(((_logits(network, images) > 0) == (labels > 0.5)).double().mean())
            for split, (images, labels, _) in parts.items()
        }


def _network(experiment: Experiment, inputs: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        widths = (inputs, experiment.hidden, experiment.hidden, 1)
        layers = [nn.Linear(*pair) for pair in zip(widths, widths[1:])]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.autocast(images.device.type, torch.bfloat16):
        return network(images).squeeze(1).float()


def _loss(experiment, network, logits, labels, environments, step) -> torch.Tensor:
    if experiment.penalty == "sd":
        # In the original both terms have the factor 2e-5 from step 450 on, which Adam does not notice.
        weight = 1.0 if step >= 450 else 2e-5
        return F.binary_cross_entropy_with_logits(logits, labels) + weight * logits.square().mean()
    losses, penalties = [], []
    for number in (0, 1):
        scale, inside = torch.ones((), requires_grad=True), environments == number
        losses.append(F.binary_cross_entropy_with_logits(scale * logits[inside], labels[inside]))
        if experiment.penalty == "irm":
            penalties.append(torch.autograd.grad(losses[-1], scale, create_graph=True)[0].square())
    loss = torch.stack(losses).mean()
    loss = loss + experiment.l2 * sum(parameter.square().sum() for parameter in network.parameters())
    if not penalties:
        return loss
    weight = 91257.18613115903 if step >= 190 else 1.0
    return (loss + weight * torch.stack(penalties).mean()) / weight


# ---- records and their table ----


def run(folder: str, dataset: str) -> None:
    """Train every restart that `results/<folder>/irm` lacks, and record it."""
    for experiment in EXPERIMENTS:
        for seed in range(RESTARTS):
            path = _path(folder, experiment, seed)
            if path.exists():
                continue
            clock, origin = time.perf_counter(), environment("cpu", "bfloat16", "reference")
            accuracy = train(experiment, seed, dataset)
            seconds = round(time.perf_counter() - clock, 1)
            content = {"experiment": asdict(experiment), "dataset": dataset, "seed": seed, **accuracy,
                       "seconds": seconds, "environment": origin}  # fmt: skip
            write_atomically(path, json.dumps(content, indent=1) + "\n", keep=True)
            shown = ", ".join(f"{split} {percent:.2f} %" for split, percent in accuracy.items())
            print(f"{experiment.name} {seed}: {shown}, {seconds} s")


def _path(folder: str, experiment: Experiment, seed: int) -> Path:
    name = experiment.name.lower().replace(" ", "-")
    return paths.results(folder) / "irm" / name / f"seed-{seed}.json"


def table(folder: str) -> pd.DataFrame:
    """A line per experiment: name, n, our and the published mean and standard deviation of train and test, in percent,
    and `deviations`, how many published standard deviations our test mean is from the published one."""
    lines = []
    for one in EXPERIMENTS:
        files = [path for seed in range(RESTARTS) if (path := _path(folder, one, seed)).exists()]
        found = pd.DataFrame([json.loads(path.read_text()) for path in files], columns=["train", "test"])
        line = {"name": one.name, "n": len(found)}
        for split in ("train", "test"):
            ours = found[split].mean(), found[split].std(ddof=0)  # ddof 0, as published
            line |= dict(zip((f"{split}_mean", f"{split}_std"), ours))
            line |= dict(zip((f"published_{split}_mean", f"published_{split}_std"), getattr(one, split)))
        lines.append({**line, "deviations": (line["test_mean"] - one.test[0]) / one.test[1]})
    return pd.DataFrame(lines)


def to_markdown(table: pd.DataFrame) -> str:
    """What is recorded of the table, with the note that belongs to it."""
    rows = [
        [line.name, line.n, *(
            markdown.plus_minus(getattr(line, f"{which}{split}_mean"), getattr(line, f"{which}{split}_std"))
            for split in ("train", "test") for which in ("", "published_")
        ), f"{line.deviations:+.1f}"]
        for line in table[table["n"] > 0].itertuples(index=False)
    ]  # fmt: skip
    head = ["method", "n", "train", "train, published", "test", "test, published", "difference / std"]
    return "\n\n".join([
        markdown.table(head, "lrrrrrr", rows),
        "Accuracy in percent, mean ± standard deviation over restarts; *difference / std*: how many published standard "
        "deviations our test mean is from the published one. The authors chose the settings by accuracy on the test "
        "environment too, so none of these numbers is an estimate for new data.",
    ])  # fmt: skip
