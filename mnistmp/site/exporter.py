"""nbconvert's HTML, without what it loads from the network: formulas as MathML, links within the site."""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from jinja2 import pass_context
from latex2mathml import converter
from nbconvert import HTMLExporter
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from traitlets.config import Config

_TEMPLATES = Path(__file__).resolve().parent / "templates"


class Exporter(HTMLExporter):
    """A notebook and its surroundings in the site -> a page.

    `from_notebook_node(notebook, {"site": ...})` needs what templates/report/index.html.j2 shows:
    pages, here, previous, next, interactive and an empty list of sections.

    Args:
        names: of the site's pages, without suffix. Links to these notebooks become links to their
            pages; links to notebooks and files that are not in the site lose their target.
        files: of the site, other than pages.
    """

    def __init__(self, names: Sequence[str], files: Sequence[str] = ()):
        # The style is left open in nbconvert's default, which counts on JupyterLab's own CSS.
        config = Config({"CSSHTMLHeaderPreprocessor": {"style": "default"}})
        super().__init__(config=config, template_name="report", extra_template_basedirs=[str(_TEMPLATES)])
        self.exclude_input_prompt = self.exclude_output_prompt = True
        self.targets = {f"{name}.ipynb": f"{name}.html" for name in names} | {name: name for name in files}

    @pass_context
    def markdown2html(self, context: Any, source: str) -> str:
        """Markdown of a cell or an output as HTML; the template's filter of that name."""
        renderer = _Renderer(self.targets, context["resources"]["site"]["sections"],
                             context.get("cell", {}).get("attachments", {}))  # fmt: skip
        return MarkdownWithMath(renderer=renderer).render(source)


def mathml(formula: str, display: str) -> str:
    """A formula in LaTeX as MathML, which browsers show by themselves and read aloud.

    Args:
        formula: without its dollar signs.
        display: "inline" or "block".

    Raises:
        ValueError: it cannot be read.
    """
    try:
        tree = converter.convert_to_element(formula.strip(), display=display)
    except Exception:  # latex2mathml has a dozen of its own, and lets others through
        tree = None
    # Not its own text form, which lets through what looks like HTML; and a command it does not know it leaves as it is.
    if tree is None or any("\\" in (one.text or "") for one in tree.iter()):
        raise ValueError(f"the formula {formula.strip()} cannot be read")
    for one in tree.iter():
        one.text = one.text and html.unescape(one.text)  # signs stand there as &#x...;
        if one.text == "∞":  # no operator: browsers would set it off by spaces
            one.tag = "mi"
    made = ElementTree.tostring(tree, encoding="unicode")
    return made if display == "inline" else f'<span class="formula">{made}</span>'


class _Renderer(IPythonRenderer):
    def __init__(self, targets: dict[str, str], sections: list[dict[str, str]], attachments: dict[str, Any]):
        # escape: HTML in Markdown is shown, not obeyed. What it says may come from a record.
        super().__init__(escape=True, allow_harmful_protocols=False, attachments=attachments)
        self._targets, self._sections = targets, sections

    def inline_math(self, body: str) -> str:
        return mathml(body, "inline")

    def block_math(self, body: str) -> str:
        return mathml(body, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", "block")

    def heading(self, text: str, level: int, **attrs: Any) -> str:
        made = super().heading(text, level, **attrs)
        if level == 2 and (found := re.match(r'<h2 id="([^"]*)"', made)):
            self._sections.append({"id": html.unescape(found[1]), "html": re.sub(r"</?a\b[^>]*>", "", text)})
        return made

    def table(self, text: str) -> str:
        # Its own box to scroll in: a wide table must not widen the page.
        return f'<div class="table" tabindex="0"><table>\n{text}</table></div>\n'

    def table_cell(self, text: str, align: str | None = None, head: bool = False) -> str:
        # Numbers and single words stay on one line; sentences give way.
        kind, style = "th" if head else "td", f' style="text-align:{align}"' if align else ""
        short = ' class="short"' if align == "right" or len(text) <= 12 else ""
        return f"  <{kind}{short}{style}>{text}</{kind}>\n"

    def image(self, text: str, url: str, title: str | None = None) -> str:
        # Nothing is loaded: what the notebook does not hold itself is named instead.
        return super().image(text, url, title) if url.startswith(("attachment:", "data:")) else text

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if re.match(r"[a-z][a-z0-9+.-]*:|#", url, re.IGNORECASE):
            return super().link(text, url, title)
        path, mark, fragment = url.partition("#")
        target = self._targets.get(posixpath.basename(path))
        return super().link(text, target + mark + fragment, title) if target else text
