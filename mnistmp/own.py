"""Methods, networks and rows from your own files: `--methods my_idea.py`, or MNISTMP_METHODS for all commands."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

from mnistmp import paths
from mnistmp.errors import InputError

_LOADED: dict[Path, ModuleType | None] = {}  # None while a file is being read, which may ask for rows itself


def files() -> list[Path]:
    """The files that MNISTMP_METHODS names, separated as in PATH."""
    named = os.environ.get("MNISTMP_METHODS", "").split(os.pathsep)
    return [paths.absolute(name, "MNISTMP_METHODS", "file") for name in named if name]


def modules() -> list[ModuleType]:
    """The files as modules, each executed once."""
    for path in files():
        if path not in _LOADED:
            _LOADED[path] = None
            try:
                _LOADED[path] = _execute(path)
            finally:
                if _LOADED[path] is None:
                    del _LOADED[path]
    return [module for path in files() if (module := _LOADED[path])]


def write_template(name: str, folder: Path) -> Path:
    """Write the commented starting file of a method called `name`, `my-idea` into `my_idea.py`.

    Raises:
        InputError: a name that cannot be, or a file that is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise InputError(f"A method cannot be called {name!r}; use small letters, digits and hyphens, as in my-idea.")
    path = folder / f"{name.replace('-', '_')}.py"
    if path.exists():
        raise InputError(f"{path} is there already; choose another name, or delete the file.")
    text = TEMPLATE.replace("my-idea", name).replace("my_idea", path.stem)
    # The class keeps its ending Method: None cannot be a name, and F would hide the import above it.
    path.write_text(text.replace("MyIdea", name.title().replace("-", "")), encoding="utf-8")
    return path


def _execute(path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise InputError(f"{path} is no Python file; name one that is, or write one with mnistmp new-method NAME.")
    spec = importlib.util.spec_from_file_location(f"mnistmp_own_{path.stem}", path)
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{path} fails ({type(error).__name__}: {said}); repair it.") from error
    return module


TEMPLATE = '''"""My idea, in a sentence.

mnistmp reproduce --methods my_idea.py --rows standard,my-idea

trains it, and shows it in the table and in curves. A run that is recorded is not trained again:
after a change, delete results/PRESET/runs/my-idea, or give the row below another id.
"""

from torch.nn import functional as F

from mnistmp import methods
from mnistmp.paper import own_row


@methods.register("my-idea")
class MyIdeaMethod(methods.Method):
    """What it adds to the cross-entropy, and why."""

    # Without this line the paper's LeNet. A network of your own is called with image_size and has `features`,
    # images (N, 3, H, W) -> features, and `classifier`, features -> logits (N, 10).
    # network = MyNetwork

    # Options: after `network`, each with a type (float, int, bool or Literal) and a default.
    def __init__(self, network, weight: float = 1.0):
        super().__init__(network)
        self.weight = weight

    # Images (N, 3, H, W), labels (N,). Losses in float32 (.float()); randomness from self.random(...), so that a seed
    # decides it; no .item() and no `if` on a tensor, so that a GPU need not wait.
    def loss(self, images, labels):
        features = self.features(images)
        cross_entropy = F.cross_entropy(self.classifier(features).float(), labels)
        extra = features.float().square().mean()  # yours goes here
        return cross_entropy + self.weight * extra, {"cross_entropy": cross_entropy, "extra": extra}


# The rows of the table: an id, a label, and options that differ from the defaults.
ROWS = [own_row("my-idea", "My idea", method="my-idea", options={"weight": 1.0})]
'''
