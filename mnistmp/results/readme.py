"""The README's generated parts: what stands between its markers comes from a command, never from a hand."""

from __future__ import annotations

from pathlib import Path

from mnistmp import paths
from mnistmp.files import write_atomically


class ReadmeError(ValueError):
    """The README cannot be brought up to date: what is wrong and what to do."""


def replace(part: str, text: str, path: Path | None = None) -> Path:
    """Put `text` between `<!-- begin: part -->` and `<!-- end: part -->`; the file changes only if the text does.

    Raises:
        ReadmeError: there is no checkout, or no such pair of markers.
    """
    path = path or _readme()
    content = path.read_text(encoding="utf-8")
    before, after = _around(part, content, path)
    new = f"{before}\n{text.strip()}\n{after}"
    if new != content:
        write_atomically(path, new)
    return path


def read(part: str, path: Path | None = None) -> str:
    """What now stands between the markers of a part."""
    path = path or _readme()
    content = path.read_text(encoding="utf-8")
    before, after = _around(part, content, path)
    return content[len(before) : len(content) - len(after)].strip()


def _around(part: str, content: str, path: Path) -> tuple[str, str]:
    begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
    if content.count(begin) != 1 or content.count(end) != 1 or content.index(begin) > content.index(end):
        raise ReadmeError(f"{path} needs the markers {begin} and {end}, once each and in this order; put them back.")
    return content[: content.index(begin) + len(begin)], content[content.index(end) :]


def _readme() -> Path:
    root = paths.checkout()
    if root is None:
        raise ReadmeError("The README belongs to a checkout of the project; install it with pip install -e from one.")
    return root / "README.md"
