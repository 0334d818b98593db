"""Where results, figures and notebooks live; one environment variable overrides each place.

JupyterLab, nbval and papermill run a notebook in three different folders, so nothing here
depends on the current one as long as mnistmp runs from its checkout.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mnistmp.errors import InputError, require

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,99}")


def checkout() -> Path | None:
    """The checkout that this package runs from, or None where it is installed without one."""
    folder = Path(__file__).resolve().parent.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def results(preset: str | None = None) -> Path:
    """Folder of all results, or of one preset: MNISTMP_RESULTS, else `results/` of the checkout.

    Raises:
        InputError: a preset that is not a plain name, so that no name leads out of the folder; or a
            variable that names no folder.
    """
    return _place("MNISTMP_RESULTS", "results", preset)


def figures(preset: str | None = None) -> Path:
    """Folder of all figures, or of one preset: MNISTMP_FIGURES, else `figures/` of the checkout."""
    return _place("MNISTMP_FIGURES", "figures", preset)


def notebooks() -> Path:
    """Folder of the numbered notebooks, `notebooks/` of the checkout."""
    return (checkout() or Path.cwd()) / "notebooks"


def plain_name(name: str, what: str) -> str:
    """`name` if it is safe as one part of a path; InputError says how it must be otherwise."""
    valid = "use up to 100 letters, digits and the signs . _ = + -, a letter or digit first"
    require(isinstance(name, str) and _NAME.fullmatch(name), what, name, valid)
    return name


def absolute(place: str | Path, what: str, kind: str = "folder") -> Path:
    """The absolute path of the folder, or of what another `kind` says; InputError where `place` cannot name one."""
    try:
        path = Path(place).expanduser().absolute()
        str(path).encode()  # notebooks and records name it, in UTF-8
        if "\0" in str(path):
            raise ValueError
        return path
    except (RuntimeError, TypeError, ValueError):  # no such user, no path, not UTF-8
        raise InputError(f"{what} is {place!r}, which cannot name a {kind}; give the path of another {kind}.") from None


def shown(path: Path) -> str:
    """A path as one would type it: relative to the current folder where it lies in there."""
    try:
        return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)
    except OSError:  # the current folder is gone
        return str(path)


def _place(variable: str, name: str, preset: str | None) -> Path:
    override = os.environ.get(variable)  # an empty value counts as none
    place = absolute(override, variable) if override else (checkout() or Path.cwd()) / name
    return place if preset is None else place / plain_name(preset, "preset")
