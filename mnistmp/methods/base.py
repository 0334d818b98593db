"""What every method has in common: a network, options with defaults, and a loss."""

from __future__ import annotations

import functools
import inspect
import math
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from torch import nn

from mnistmp import own
from mnistmp.errors import InputError, UnknownMethod, sentence
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
        network: called with `image_size`, gives the module whose features and classifier are trained.
        features, classifier: the parts of `network`, see `LeNet`.
        generator: source of the method's own randomness, on the training device;
            None means torch's global one.
    """

    added_options: ClassVar[dict[str, Any]] = {}
    network: ClassVar[type[nn.Module]] = LeNet

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
        return torch.rand(*shape, generator=self.generator, dtype=torch.float32, device=like.device)


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
        try:  # a faulty option fails now, not when it is trained
            default_options(cls)
        except ValidationError as error:
            raise ValueError(f"Method {name!r}, the default of option {sentence(error)}") from None
        METHODS[name] = cls
        return cls

    return add


def get(name: str) -> type[Method]:
    """The class registered as `name`; InputError with the valid names otherwise."""
    if name not in METHODS:
        own.modules()  # which may register it
    if name not in METHODS:
        raise UnknownMethod(
            f"There is no method {name!r}; choose one of {', '.join(METHODS)}, or name a file of your own with "
            "--methods or MNISTMP_METHODS."
        )
    return METHODS[name]


def default_options(cls: type[Method]) -> dict[str, Any]:
    """The options of a method with their defaults, in the order of its `__init__`."""
    return dict(_model(cls)())


def choices(cls: type[Method]) -> dict[str, tuple]:
    """The options of a method whose values have names, or are true or false, with all these values."""
    hints = {name: field.annotation for name, field in _model(cls).model_fields.items()}
    named = {name: (True, False) if hint is bool else get_args(hint) for name, hint in hints.items()}
    return {name: values for name, values in named.items() if values}


def resolve_options(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` checked against method `name`, with every default filled in.

    The string "inf" stands for infinity, since JSON has no other way to write it.

    Raises:
        InputError: an unknown option or a value it cannot take, with what is valid.
    """
    model = _model(get(name))
    unknown = [key for key in options if key not in model.model_fields]
    if unknown:
        known = ", ".join(model.model_fields) or "none"
        raise InputError(f"Method {name!r} has no option {unknown[0]!r}; its options are: {known}.")
    try:
        return dict(model.model_validate(options))
    except ValidationError as error:
        raise InputError(f"Method {name!r}, option {sentence(error)}") from None


@functools.cache  # reading signatures is slow, and thousands of records ask for them
def _model(cls: type[Method]) -> type[BaseModel]:
    """A pydantic model of a method's options, from the signature of its `__init__`.

    `**others` in it stands for the options of the parent class.
    """
    fields: dict[str, Any] = {}
    for parent in cls.__mro__:
        hints = get_type_hints(parent.__init__)
        parameters = list(inspect.signature(parent.__init__).parameters.values())[2:]
        for option in parameters:
            if option.kind is not option.VAR_KEYWORD and option.name not in fields:
                if option.default is option.empty:
                    raise TypeError(f"Option {option.name!r} of {cls.__name__} needs a default value.")
                hint = hints.get(option.name, type(option.default))
                fields[option.name] = _checked(hint, option.default), option.default
        if not any(option.kind is option.VAR_KEYWORD for option in parameters):
            break
    config = ConfigDict(strict=True, validate_default=True, protected_namespaces=())
    return create_model(cls.__name__, __config__=config, **fields)


def _checked(hint: Any, default: Any) -> Any:
    """The type of an option with what every option of that type must meet."""
    if hint is int:
        return Annotated[int, Field(ge=0)]
    if hint is float:
        finite = default != math.inf  # only an option whose default is infinite may be
        infinity = BeforeValidator(lambda value: math.inf if value == "inf" else value)
        return Annotated[float, Field(ge=0, allow_inf_nan=not finite), AfterValidator(abs), infinity]
    if hint is bool or get_origin(hint) is Literal:
        return hint
    raise TypeError(f"An option has the type {hint!r}; options are float, int, bool or Literal strings.")
