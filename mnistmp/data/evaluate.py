"""Accuracy of anybody's model on a coloured MNIST."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mnistmp.data.dataset import ColoredMNIST
from mnistmp.data.variants import Variant
from mnistmp.errors import InputError, first_line, require


def evaluate(
    model: Callable[[torch.Tensor], torch.Tensor],
    variant: str | Variant = "mp",
    split: str = "test",
    root: str | Path | None = None,
    batch_size: int = 1000,
    transform: Callable[[Any], torch.Tensor] | None = None,
    device: str | torch.device | None = None,
    dataset: str = "mnist",
) -> dict[str, Any]:
    """Classify a split and count.

    Args:
        model: maps float images (N, C, H, W) to logits (N, K) of finite numbers. A module is put into evaluation mode
            meanwhile; it is moved nowhere.
        variant, split, root, dataset: as for `ColoredMNIST`.
        transform: makes a tensor (C, H, W) of a PIL image; by default images come as of `ColoredMNIST.tensors`,
            for MNIST-MP (N, 3, 28, 28) in [-1, 1].
        device: for the images; None for that of the module's parameters.

    Returns:
        `accuracy` and `class_accuracy` (K values, NaN for a class without images), from 0 to 1; `confusion` int64
        (K, K), rows are true classes and columns answers; `n`, the number of images.

    Raises:
        InputError: answers of the wrong shape or not finite, a batch size that cannot be.
        DataError, ValueError: as `ColoredMNIST`.
    """
    require(callable(model) and not isinstance(model, type), "model", model, "give a module or a function, no class")
    require(type(batch_size) is int and batch_size >= 1, "batch_size", batch_size, "give a whole number from 1 on")
    images = ColoredMNIST(root, variant, split, transform, dataset=dataset)
    if bool((images.targets < 0).any()):
        raise InputError(f"Split {split!r} holds digits of no class, so there is no accuracy; choose another split.")
    classes = len(images.classes)
    if device is None:
        device = next((one.device for one in getattr(model, "parameters", list)()), torch.device("cpu"))
    try:
        torch.empty(0, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:  # torch built without CUDA asserts
        why = first_line(error).rstrip(".")
        raise InputError(f"device is {device!r}, which cannot be used here ({why}); give one such as 'cpu'.") from None
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device="cpu")
    with torch.inference_mode(), _evaluating(model):
        for start in range(0, len(images), batch_size):
            end = min(start + batch_size, len(images))
            if transform is None:
                batch, labels = images.tensors(slice(start, end))
            else:
                made = [images[index][0] for index in range(start, end)]
                shapes = {tuple(one.shape) if isinstance(one, torch.Tensor) else type(one).__name__ for one in made}
                require(
                    len(shapes) == 1 and isinstance(made[0], torch.Tensor), "what transform makes",
                    " and ".join(map(str, shapes)), "let it make tensors (C, H, W) of one size",
                )  # fmt: skip
                batch = torch.stack(made)
                labels = images.targets[start:end]
            try:
                logits = model(batch.to(device))
            except RuntimeError as error:  # other channels, another size or precision
                why = first_line(error)
                raise InputError(f"The model fails on float32 images {tuple(batch.shape)}: {why}.") from error
            named = _answers(logits, len(labels), classes)
            confusion += torch.bincount(classes * labels + named, minlength=classes**2).view(classes, classes)
    right = confusion.diagonal().double()
    return {
        "accuracy": float(right.sum() / len(images)),
        "class_accuracy": (right / confusion.sum(1)).tolist(),
        "confusion": confusion,
        "n": len(images),
    }


def _answers(logits: Any, count: int, classes: int) -> torch.Tensor:
    fits = isinstance(logits, torch.Tensor) and logits.is_floating_point() and logits.shape == (count, classes)
    due = f"a floating-point tensor of logits of shape ({count}, {classes}) is due"
    require(fits, f"the model's answer to {count} images", logits, due)
    if not bool(torch.isfinite(logits).all()):
        raise InputError("The model answers with NaN or infinite logits; look at its weights and its input.")
    return logits.argmax(1).cpu()


@contextlib.contextmanager
def _evaluating(model: Any):
    training = [module for module in model.modules() if module.training] if hasattr(model, "modules") else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
