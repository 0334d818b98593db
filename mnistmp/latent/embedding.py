"""Train, look at the features of the network of the best validation epoch, and store what Figure 3 shows of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mnistmp import engine, paper, records
from mnistmp.records.provenance import environment
from mnistmp.latent import file
from mnistmp.latent.file import Embedding, LatentError
from mnistmp.latent.measures import measure
from mnistmp.latent.panels import PANELS, View, missing, seed_of
from mnistmp.latent.picture import settings, tsne
from mnistmp.methods import Method
from mnistmp.records import RunRecord
from mnistmp.selection import select
from mnistmp.spec import RunSpec
from mnistmp.engine.splits import Splits


def embed_planned(preset: str, seeds: str = "recorded", rows: str = "all", *, progress=print) -> list[Path]:
    """What a notebook is asked for: `compute` for the first of the seeds; "recorded" computes nothing."""
    if seeds == "recorded":
        return []
    wanted = {row.id for row in paper.trainings(rows)}
    views = [view for view in PANELS if view.row in wanted]
    return compute(preset, seed_of(preset, seeds), views, progress=progress)


def compute(
    preset: str, seed: int | None = None, views: Sequence[View] = PANELS, *, progress: Callable[[str], Any] = print
) -> list[Path]:
    """Train and embed what is missing, one panel after the other; the files that were written.

    A training that had no record gets one.

    Raises:
        LatentError, RecordError: a file that cannot be used; nothing is trained then. Or a training
            that diverged.
    """
    written = []
    for spec, due in missing(preset, seed, views).items():
        try:
            record, panels = embed(spec, due)
        except engine.Diverged as error:
            if records.find(spec, preset) is None:  # that it diverged is its result
                records.save(error.record, preset)
            raise LatentError(str(error)) from None
        agreement = _compare(record, preset, progress)
        for panel in panels:
            panel.about["record"] = agreement
            written.append(file.save(panel, preset))
            progress(f"{spec.row} seed {spec.seed} {panel.about['split']}  t-SNE of {len(panel)} digits stored")
    return written


def embed(spec: RunSpec, views: Sequence[View]) -> tuple[RunRecord, list[Embedding]]:
    """Train, take the network of the best validation epoch and look at its features. Stores nothing.

    Args:
        spec: what to train.
        views: the splits to look at, and their titles.

    Raises:
        training.Diverged: there is no network to look at.
    """
    device = engine.pick_device()
    record, network = engine.fit_selected(spec, device=device)
    epoch = select([entry["val_correct"] for entry in record.history], record.val_total) + 1
    splits, panels = Splits(spec, device), []
    for view in views:
        features, labels, predicted = outputs(network, splits, view.split)
        about = {
            "key": spec.key(), "spec": spec.to_json(), "row": spec.row, "split": view.split, "seed": spec.seed,
            "epoch": epoch, "record": "new", "tsne": settings(spec.seed),
            "environment": environment(device, spec.precision, engine.path_name(device)),
            "numbers": measure(features, labels, predicted),
        }  # fmt: skip
        xy = tsne(features, spec.seed)
        panels.append(Embedding(view.title, xy, labels, predicted, np.arange(len(labels)), about))
    return record, panels


def outputs(network: Method, splits: Splits, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """F's output as float32 (N, D), classes uint8 (N,) and predicted classes uint8 (N,) of a split."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for images, labels in splits.batches(split):
            features = network.features(images)
            parts.append((features.flatten(1).float(), labels, network.classifier(features).argmax(1)))
    features, labels, predicted = (torch.cat(column).cpu().numpy() for column in zip(*parts))
    return features, labels.astype(np.uint8), predicted.astype(np.uint8)


def _compare(record: RunRecord, preset: str, progress: Callable[[str], Any]) -> str:
    """Whether the training took the course of the recorded one: "equal", "differs", or "new" if there was none."""
    recorded = records.find(record.spec, preset)
    if recorded is None:
        records.save(record, preset)
        return "new"
    counts = [[(e["val_correct"], e["test_correct"]) for e in run.history] for run in (recorded, record)]
    if counts[0] == counts[1]:
        return "equal"
    epoch = next((i for i, (old, new) in enumerate(zip(*counts), 1) if old != new), 1)
    names = [n for n in ("path", "threads", "code_version") if recorded.environment.get(n) != record.environment.get(n)]
    why = f"; {' and '.join(names)} differ as well" if names else ""
    progress(
        f"{record.spec.row} seed {record.spec.seed}: this training differs from the recorded one from epoch {epoch} "
        f"on{why}; Figure 3 shows this one, Table 2 that one."
    )
    return "differs"
