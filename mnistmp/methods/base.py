"""What every method has in common: a network, options with defaults, and a loss."""

from __future__ import annotations

import inspect
import math
from functools import lru_cache
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from torch import nn

from mnistmp.network import LeNet

METHODS: dict[str, type[Method]] = {}


class Method(nn.Module):
    """How a batch becomes a loss.

    A subclass names its options as keyword arguments of `__init__` after `network`,
    each annotated (float, int, bool or Literal[...]) and with its default, and
    defines `loss`. Everything else (data, optimiser, evaluation, records) is done for it.

    `loss` must stay free of `.item()`, of Python branches on tensor values and of
    shapes that depend on the data, so that one step can be captured as a GPU graph.
    Evaluation always uses `classifier(features(images))`, so nothing random belongs there.

    Attributes:
        added_options: options that the method got after its first runs were recorded, with the default that computes
            what was computed before; see `RunSpec.to_json`.
        features, classifier: the parts of `network`, see `LeNet`.
        generator: source of the method's own randomness, on the training device;
            None means torch's global one.
    """

    added_options: ClassVar[dict[str, Any]] = {}

    def __init__(self, network: LeNet):
        super().__init__()
        self.features = network.features
        self.classifier = network.classifier
        self.generator: torch.Generator | None = None

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (N, num_classes) of images (N, 3, H, W), as used for evaluation."""
        return self.classifier(self.features(images))

    def loss(self, images: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The scalar to minimise for a batch, and its named terms for the curves.

        Args:
            images: float (N, 3, H, W), channels-last, in the range of the run's input_range.
            labels: int64 (N,), 0 to 9.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no loss(images, labels).")

    def random(self, *shape: int, like: torch.Tensor) -> torch.Tensor:
        """Uniform numbers in [0, 1) from the method's own generator, float32, on `like`'s device."""
        return torch.rand(*shape, generator=self.generator, device=like.device)


def register(name: str):
    """Class decorator: make a `Method` available to runs, tables and tests under `name`.

    Registering a class of the same name again replaces it, so that a notebook cell can be re-run.
    """

    def add(cls: type[Method]) -> type[Method]:
        if not (isinstance(cls, type) and issubclass(cls, Method)):
            raise TypeError(
                f"{cls!r} cannot be registered as {name!r}: it must be a subclass of mnistmp.methods.Method."
            )
        known = METHODS.get(name)
        if known is not None and known.__qualname__ != cls.__qualname__:
            raise ValueError(f"The method name {name!r} is taken by {known.__qualname__}; choose another name.")
        for option, (default, hint) in _options(cls).items():  # a faulty option fails now, not at training time
            _checked(f"The default of option {option!r} of method {name!r}", default, hint)
        METHODS[name] = cls
        return cls

    return add


def get(name: str) -> type[Method]:
    """The class registered as `name`; ValueError with the valid names otherwise."""
    if not isinstance(name, str) or name not in METHODS:
        raise ValueError(f"There is no method {name!r}; choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def default_options(cls: type[Method]) -> dict[str, Any]:
    """The options of a method with their defaults, in the order of its `__init__`."""
    return {name: default for name, (default, _) in _options(cls).items()}


@lru_cache(maxsize=None)  # reading signatures is slow, and thousands of records ask for them
def _options(cls: type[Method]) -> dict[str, tuple[Any, Any]]:
    # Option name -> its default and its annotated type.
    hints, options = get_type_hints(cls.__init__), {}
    for parameter in list(inspect.signature(cls.__init__).parameters.values())[2:]:
        if parameter.default is inspect.Parameter.empty:
            raise TypeError(f"Option {parameter.name!r} of {cls.__name__} needs a default value.")
        options[parameter.name] = parameter.default, hints.get(parameter.name, type(parameter.default))
    return options


def resolve_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` checked against method `name`, with every default filled in.

    The string "inf" stands for infinity, since JSON has no other way to write it.

    Raises:
        ValueError: an unknown option or a value it cannot take, with what is valid.
    """
    known = _options(get(name))
    resolved = {key: default for key, (default, _) in known.items()}
    for key, value in options.items():
        if key not in known:
            raise ValueError(f"Method {name!r} has no option {key!r}; its options are: {', '.join(known) or 'none'}.")
        default, hint = known[key]
        what = f"Option {key!r} of method {name!r}"
        resolved[key] = _checked(what, value, hint)
        if resolved[key] == math.inf and default != math.inf:
            raise ValueError(f"{what} is infinite; it must be finite.")
    return resolved


def _checked(what: str, value: Any, hint: Any) -> Any:
    if get_origin(hint) is Literal:
        if not isinstance(value, str) or value not in get_args(hint):
            raise ValueError(f"{what} is {value!r}; choose one of {', '.join(map(str, get_args(hint)))}.")
        return value
    if hint is bool:
        if not isinstance(value, bool):
            raise ValueError(f"{what} is {value!r}; it must be true or false.")
        return value
    if hint is int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{what} is {value!r}; it must be a whole number of 0 or more.")
        return value
    if hint is float:
        if isinstance(value, str) and value == "inf":
            value = math.inf
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise ValueError(f"{what} is {value!r}; it must be a number of 0 or more.")
        try:
            return abs(float(value))  # -0.0 is 0.0: equal runs have equal keys
        except OverflowError:  # a whole number beyond float's range
            return math.inf
    raise TypeError(f"{what} has the type {hint!r}; options are float, int, bool or Literal strings.")
