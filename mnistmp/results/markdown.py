"""Tables as Markdown, CSV and LaTeX, and the generated parts of the README: everything that is written of results."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import files, paths
from mnistmp.errors import InputError

# ---- cells ----


def plus_minus(mean: float, std: float, decimals: int = 1, std_decimals: int | None = None) -> str:
    """ "26.3 ± 4.7"; without the standard deviation where there is none, "–" without a mean."""
    if math.isnan(mean):
        return "–"
    std_decimals = decimals if std_decimals is None else std_decimals
    return f"{mean:.{decimals}f}" + ("" if math.isnan(std) else f" ± {std:.{std_decimals}f}")


def published(mean: float, std: float, decimals: int = 1) -> str:
    """ "26.0 ± 4.7", as the paper prints it: so many decimals, or more where it has more; "–" where it has none."""
    if math.isnan(mean):
        return "–"
    return " ± ".join(f"{n:.{decimals}f}" if round(n, decimals) == n else f"{n:g}" for n in (mean, std))


def interval(difference: float, low: float, high: float) -> str:
    """ "+1.2 [-0.3, +2.7]"; without the interval where there is none, "–" without a difference."""
    if math.isnan(difference):
        return "–"
    return f"{difference:+.1f}" + ("" if math.isnan(low) else f" [{low:+.1f}, {high:+.1f}]")


def span(numbers: Iterable[int]) -> str:
    """ "10", or "4 to 10": the smallest and the largest."""
    return " to ".join(dict.fromkeys(map(str, (min(numbers), max(numbers)))))


# ---- tables ----


def table(head: Sequence[str], align: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; `align` has a letter per column, l or r."""
    rules = "|".join("---:" if letter == "r" else "---" for letter in align)
    return "\n".join([_row(head), f"|{rules}|", *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    # An empty cell is one space wide.
    return "|" + "|".join(f" {cell} " if cell != "" else " " for cell in cells) + "|"


def csv(table: pd.DataFrame, units: Mapping[str, Iterable[str]], digits: int = 12) -> str:
    """A table as CSV, empty where there is nothing.

    Args:
        units: unit -> names of the columns that get it behind their name.
        digits: significant ones.
    """
    names = {name: f"{name}_{unit}" for unit, columns in units.items() for name in columns}
    return table.rename(columns=names).to_csv(index=False, float_format=f"%.{digits}g", lineterminator="\n")


_TEX = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$", "∞": r"$\infty$", "±": r"$\pm$",
        "–": "--"}  # fmt: skip


def tex(text: str) -> str:
    """Text as LaTeX, such as a cell of a `tabular`."""
    text = "".join(_TEX.get(character, character) for character in text)
    text = re.sub(r"(?<![\w-])-(?=\d)", "$-$", text)  # a minus sign, not a hyphen
    return "{}" + text if text[:1] in ("[", "*") else text  # which the \\ before it would take for its argument


# ---- files ----


def write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write each text to its name in a folder; the same texts give the same bytes."""
    return [files.write(folder / name, text) for name, text in texts.items()]


def replace_block(part: str, text: str, path: Path | None = None) -> Path:
    """Put `text` between `<!-- begin: part -->` and `<!-- end: part -->` of the README or a page of docs/.

    The file changes only if the text does.

    Raises:
        InputError: there is no checkout, or no such pair of markers.
    """
    path = path or _page(part)
    before, old, after = _around(part, path)
    if text.strip() != old.strip():
        files.write(path, f"{before}\n{text.strip()}\n{after}")
    return path


def block(part: str, path: Path | None = None) -> str:
    """What now stands between the markers of a part."""
    return _around(part, path or _page(part))[1].strip()


def pages() -> list[Path]:
    """The README and the pages of docs/."""
    root = paths.checkout()
    if root is None:
        raise InputError("The README belongs to a checkout of the project; install it with pip install -e from one.")
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def _page(part: str) -> Path:
    """The page with the markers of a part; the README where none has them."""
    there = pages()
    return next((page for page in there if f"<!-- begin: {part} -->" in page.read_text(encoding="utf-8")), there[0])


def _around(part: str, path: Path) -> tuple[str, str, str]:
    begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
    pieces = re.split(f"(?<={re.escape(begin)})|(?={re.escape(end)})", path.read_text(encoding="utf-8"))
    if len(pieces) != 3 or not pieces[0].endswith(begin):
        raise InputError(f"{path} needs the markers {begin} and {end}, once each and in this order; put them back.")
    return tuple(pieces)
