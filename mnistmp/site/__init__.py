"""The executed notebooks of a preset as one website, to be read from disk, without a server or a network."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mnistmp import paper, paths, records
from mnistmp.results import claims, table2
from mnistmp.files import write_atomically
from mnistmp.site import front

INTERACTIVE = "figure3.html"  # as `interactive.save` names it: a page of its own, which is copied


class SiteError(ValueError):
    """A report that cannot be made; one sentence with what is wrong and what to do."""


@dataclass(frozen=True)
class Page:
    """One notebook of the report: `name` without suffix, its title, and the notebook itself."""

    name: str
    title: str
    notebook: Any


def build(preset: str, folder: Path) -> list[Path]:
    """Write the report of a preset: `index.html` with Table 2 and the figures, and a page per executed notebook.

    Every page holds its style, pictures and formulas; it loads nothing and runs no script. Other
    files in the folder stay as they are.

    Args:
        preset: "paper" shows the committed notebooks, any other those that its batch has executed.
        folder: made where missing.

    Returns:
        What was written, `index.html` first.

    Raises:
        SiteError: no executed notebook, one that cannot be read or shown, or a package is missing.
        RecordError, ReportError: from the records behind Table 2.
        OSError: the folder cannot be written.
    """
    preset = paper.preset(preset).name
    pages = read(notebooks(preset))
    found = records.load(preset)
    table = table2.table2(found)
    tested = claims.to_markdown(claims.compare(found))
    interactive = paths.figures(preset) / INTERACTIVE
    files: dict[str, str | bytes] = {"table2.csv": table2.to_csv(table), "table2.tex": table2.to_latex(table, preset)}
    if interactive.is_file():
        files[INTERACTIVE] = interactive.read_bytes()
    index = Page("index", front.TITLE, front.notebook(table, tested, preset, INTERACTIVE in files))
    html = _html([index, *pages], sorted(files))
    return [write_atomically(folder / name, content) for name, content in {**html, **files}.items()]


def notebooks(preset: str) -> Path:
    """Where the executed notebooks of a preset lie."""
    return paths.notebooks() if preset == "paper" else paths.results(preset) / "notebooks"


def read(folder: Path) -> list[Page]:
    """The executed notebooks of a folder, in their order; those with a cell that never ran are left out.

    Raises:
        SiteError: there is none, or one is no notebook.
    """
    import nbformat

    pages = []
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        try:
            notebook = nbformat.read(path, as_version=4)
        except Exception as error:  # torn JSON, a folder of that name, a schema of the future ...
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise SiteError(f"{path} is no notebook ({reason}); execute it again.") from None
        if all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"):
            pages.append(Page(path.stem, _title(path.stem, notebook), notebook))
    if not pages:
        what = "make notebooks" if folder == paths.notebooks() else "mnistmp reproduce with this preset"
        raise SiteError(f"{folder} holds no executed notebook to show; run {what} first.")
    return pages


def _title(name: str, notebook: Any) -> str:
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := re.match(r"#\s+(.+)", cell.source)):
            return found[1].strip()
    return name


def _html(pages: Sequence[Page], files: Sequence[str]) -> dict[str, str]:
    try:
        from mnistmp.site.exporter import Exporter
    except ImportError as error:
        raise SiteError(f"The report needs the package {error.name}; pip install -e .[report] brings it.") from None
    exporter = Exporter(names=[page.name for page in pages], files=files)
    html = {}
    for place, page in enumerate(pages):
        around = {"pages": pages, "here": page, "interactive": INTERACTIVE if INTERACTIVE in files else None,
                  "previous": pages[place - 1] if place else None, "next": next(iter(pages[place + 1 :]), None),
                  "sections": []}  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # nbconvert's, on a picture without alternative text
            try:
                html[f"{page.name}.html"], _ = exporter.from_notebook_node(page.notebook, {"site": around})
            except ValueError as error:
                raise SiteError(f"{page.name} cannot be shown ({error}); write that part in another way.") from None
    return html
