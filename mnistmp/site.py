"""The executed notebooks of a preset as one website, to be read from disk, without a server or a network.

nbconvert's own lab template makes the pages. What `site.html.j2` and this file add is a frame of contents and
neighbours, formulas as MathML and links within the site, since the template loads MathJax and others from the network.
"""

from __future__ import annotations

import base64
import html
import posixpath
import re
import warnings
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import latex2mathml.converter
import nbformat
from jinja2 import pass_context
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat.v4 import new_markdown_cell, new_notebook

from mnistmp import paper, paths, records
from mnistmp.errors import InputError, first_line
from mnistmp.files import write_atomically
from mnistmp.results import claims, table2
from mnistmp.results.findings import findings

# What latex2mathml does not know, in words that it does; numbers of formulas are not shown.
UNKNOWN = {
    r"\\operatorname\*": r"\\operatorname",
    r"\\arg\s*\\(min|max)(?![a-zA-Z])": r"\\operatorname{arg\\,\1}",
    r"\\label\s*\{[^{}]*\}": "",
    r"\\(begin|end)\{aligned\}": r"\\\1{split}",
}
INTERACTIVE = "figure3.html"  # as `figures.interactive` names it; a page of its own, which is copied

ABOUT = """\
# MNIST-MP and the reverse contrastive loss

Which methods find the clue that a network would rather ignore? **MNIST-MP** colours every training digit by its class
and takes the colour away at test time, so that only shape is left. A network that has
learned colours alone is then lost; the **reverse contrastive loss** (RCL) pushes features of one class apart, so that
the network looks for other clues, too.
This is a reproduction of *Encouraging Intra-Class Diversity Through a Reverse Contrastive Loss for Single-Source
Domain Generalization* (Duboudin et al., ICCV Workshops 2021), made from recorded runs by the notebooks listed under
Contents."""

# The file, the notebook that draws it, and what there is to see.
FIGURES = (
    ("figure1", "01_dataset", "Figure 1: the digits as they are trained on, and as they are tested."),
    ("table2", "10_table2", "Table 2 as a picture: mean and standard deviation of every row, beside the paper's."),
    ("margin-curve", "08_rcl_margin_sweep", "Test accuracy against the margin m of the reverse contrastive loss."),
    ("figure2", "08_rcl_margin_sweep", "Figure 2: which of two features of one class are pushed apart."),
    ("figure3", "09_latent_space", "Figure 3: what the networks make of the digits, in two dimensions."),
)


def build(preset: str, folder: Path) -> list[Path]:
    """Write the website of a preset: `index.html` with Table 2 and the figures, and a page per executed notebook.

    Every page holds its style, pictures and formulas; it loads nothing and runs no script.

    Args:
        preset: "paper" shows the committed notebooks, any other those that its sweep has executed.
        folder: made where missing; else empty, or with an earlier website.

    Returns:
        What was written, `index.html` first.

    Raises:
        InputError: no executed notebook, one or a record that cannot be used, or a folder with something else.
        OSError: the folder cannot be written.
    """
    preset = paper.preset(preset).name
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "table2.tex").exists():
        raise InputError(f"{folder} holds other files and no website of mnistmp; name a new folder.")
    notebooks = _executed(paths.notebooks() if preset == "paper" else paths.results(preset) / "notebooks")
    found = records.load(preset)
    if found.empty and preset == "paper":  # whose page begins with what they say
        raise InputError(f"Preset {preset} has no records in {paths.results(preset)}; run mnistmp reproduce first.")
    table = table2.side_by_side(preset, found=found)
    files: dict[str, str | bytes] = {"table2.csv": table2.to_csv(table), "table2.tex": table2.to_latex(table, preset)}
    interactive = paths.figures(preset) / INTERACTIVE
    if interactive.is_file():
        files[INTERACTIVE] = interactive.read_bytes()
    compared = claims.side_by_side(preset, found)
    complete = preset == "paper" and table["n"].all()
    first = f"{ABOUT}\n\n## What we found\n\n{findings(table, *compared)}" if complete else ABOUT
    index = _index(preset, first, table2.to_markdown(table, preset), claims.to_markdown(*compared))
    pages = {"index": index, **notebooks}
    targets = {f"{name}.ipynb": f"{name}.html" for name in pages} | {name: name for name in files}
    exporter = _Exporter(targets | dict.fromkeys(("table2.md", "claims.md", "results.md"), "index.html"))
    titles = [(f"{name}.html", _title(name, page)) for name, page in pages.items()]
    written = {}
    for place, (name, page) in enumerate(pages.items()):
        page.metadata["title"] = titles[place][1]
        around = {
            "here": f"{name}.html",
            "titles": titles,
            "interactive": INTERACTIVE in files and INTERACTIVE,
            "previous": titles[place - 1] if place else None,
            "next": (titles + [None])[place + 1],
        }
        written[f"{name}.html"], _ = exporter.from_notebook_node(page, {"site": around, "sections": []})
    return [write_atomically(folder / name, content) for name, content in {**written, **files}.items()]


def mathml(formula: str, display: str) -> str:
    """A formula in LaTeX as MathML, which browsers show by themselves and read aloud.

    Args:
        formula: without its dollar signs.
        display: "inline" or "block".
    """
    known = formula.strip()
    for pattern, replacement in UNKNOWN.items():
        known = re.sub(pattern, replacement, known)
    try:
        tree = latex2mathml.converter.convert_to_element(known, display=display)
    except Exception:  # latex2mathml has a dozen of its own, and lets others through
        tree = None
    # A command that it does not know stays as it is, and so does the & of columns that it does not know.
    if tree is None or any("\\" in (one.text or "") or one.text == "&" for one in tree.iter()):
        raise ValueError(f"the formula {formula.strip()} cannot be read")
    for one in tree.iter():
        one.text = one.text and html.unescape(one.text)  # signs stand there as &#x...;
        if one.text == "∞":  # no operator: browsers would set it off by spaces
            one.tag = "mi"
    made = ElementTree.tostring(tree, encoding="unicode")
    return made if display == "inline" else f'<span class="formula">{made}</span>'


class _Exporter(HTMLExporter):
    def __init__(self, targets: dict[str, str]):
        super().__init__(template_file=str(Path(__file__).with_name("site.html.j2")))
        self.exclude_input_prompt = self.exclude_output_prompt = True
        self.targets = targets

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        # escape: HTML in Markdown is shown, not obeyed. What it says may come from a record.
        renderer = _Renderer(escape=True, allow_harmful_protocols=False,
                             attachments=context.get("cell", {}).get("attachments"))  # fmt: skip
        resources = context["resources"]
        renderer.targets, renderer.sections = self.targets, resources["sections"]
        renderer.here = resources["site"]["here"]
        return MarkdownWithMath(renderer=renderer).render(source)


class _Renderer(IPythonRenderer):
    targets: dict[str, str]  # file names that notebooks link to -> files of the site
    sections: list[tuple[str, str]]  # of the page so far: id and title, for the contents
    here: str  # the page's file

    def inline_math(self, body: str) -> str:
        return self._formula(body, "inline")

    def block_math(self, body: str) -> str:
        return self._formula(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return self._formula(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def _formula(self, body: str, display: str) -> str:
        try:
            return mathml(body, display)
        except ValueError as error:
            warnings.warn(f"{Path(self.here).stem}: {error}; it is shown as TeX.", stacklevel=2)
            shown = f"<code>{html.escape(body.strip())}</code>"
            return shown if display == "inline" else f"<pre>{shown}</pre>"

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        made = super().heading(text, level, **attrs)
        if level == 2:
            self.sections.append((html.unescape(re.search(r'id="([^"]*)"', made)[1]), re.sub("<[^>]+>", "", text)))
        return made

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if re.match(r"[a-z][a-z0-9+.-]*:|#", url, re.IGNORECASE):
            return super().link(text, url, title)
        path, mark, fragment = url.partition("#")
        target = self.targets.get(posixpath.basename(path))
        return super().link(text, target + mark + fragment, title) if target else text


def _executed(folder: Path) -> dict[str, Any]:
    """The executed notebooks of a folder by name, in their order; one with a cell that never ran is left out."""
    found = {}
    for path in sorted(folder.glob("[0-9][0-9]_*.ipynb")):
        try:
            notebook = nbformat.reads(path.read_text(encoding="utf-8-sig"), as_version=4)
        except Exception as error:  # torn JSON, a schema of the future ...
            raise InputError(f"{path} is no notebook ({first_line(error)}); execute it again.") from None
        if all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code"):
            found[path.stem] = notebook
    if not found:
        what = "make notebooks" if folder == paths.notebooks() else "mnistmp reproduce with this preset"
        raise InputError(f"{folder} holds no executed notebook to show; run {what} first.")
    return found


def _title(name: str, notebook: Any) -> str:
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+)", text, re.MULTILINE)
    return found[1].strip() if found else name


def _index(preset: str, first: str, table: str, tested: str) -> Any:
    """The first page: what this is about and what came out, Table 2, the claims, and those figures that there are."""
    heading, _, rest = table.partition("\n")
    notes, start, lines = rest.partition("| | ")  # the table first
    cells = [
        new_markdown_cell(first),
        new_markdown_cell(
            f"## {heading.strip('*')}\n\n{start}{lines}\nAs files: [CSV](table2.csv), [LaTeX](table2.tex).\n{notes}"
        ),
        new_markdown_cell(f"## What the paper says about it, tested\n\n{tested}\n\n## Figures"),
    ]
    for name, source, caption in FIGURES:
        path = paths.figures(preset) / f"{name}.png"
        if path.is_file():
            text = f"![{caption}](attachment:{name}.png)\n\n{caption} Drawn by [notebook {source[:2]}]({source}.ipynb)."
            if name == "figure3" and path.with_name(INTERACTIVE).is_file():
                text += f"\n\n**[The interactive Figure 3]({INTERACTIVE})** shows the digit behind each point."
            picture = {"image/png": base64.b64encode(path.read_bytes()).decode()}
            cells.append(new_markdown_cell(text, attachments={f"{name}.png": picture}))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"  # not by chance: the same records give the same bytes
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
