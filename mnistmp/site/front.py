"""The report's first page, as a notebook of text cells: what this is about, Table 2, the figures."""

from __future__ import annotations

import base64
from typing import Any

import pandas as pd

from mnistmp import paths
from mnistmp.results import table2

TITLE = "MNIST-MP and the reverse contrastive loss"

_ABOUT = """\
Which methods find the clue that a network would rather ignore? **MNIST-MP** colours every training digit by its class
and takes the colour away at test time, so that only shape is left. Standard training looks at the colour and little
else; the **reverse contrastive loss** (RCL) pushes features of one class apart until the network finds other clues.
This is a reproduction of *Encouraging Intra-Class Diversity Through a Reverse Contrastive Loss for Single-Source
Domain Generalization* (Duboudin et al., ICCV Workshops 2021), made from recorded trainings by the notebooks listed
under Contents."""

# The file, the notebook that draws it, and what there is to see.
FIGURES = (
    ("figure1", "01_dataset", "Figure 1: the digits as they are trained on, and as they are tested."),
    ("table2", "10_table2", "Table 2 as a picture: mean and standard deviation of every row, beside the paper's."),
    ("margin-curve", "08_rcl_margin_sweep", "Test accuracy against the margin m of the reverse contrastive loss."),
    ("figure2", "08_rcl_margin_sweep", "Figure 2: which of two features of one class are pushed apart."),
    ("figure3", "09_latent_space", "Figure 3: what the networks make of the digits, in two dimensions."),
)


def notebook(table: pd.DataFrame, claims: str, preset: str, interactive: bool) -> Any:
    """The page.

    Args:
        table: as of `table2.table2`.
        claims: what the paper says about it, tested: of `claims.to_markdown`.
        preset: whose figures are shown, those that there are.
        interactive: whether the site holds Figure 3 to point at.
    """
    from nbformat.v4 import new_markdown_cell as cell
    from nbformat.v4 import new_notebook

    heading, _, rest = table2.to_markdown(table, preset).partition("\n")
    cells = [
        cell(f"# {TITLE}\n\n{_ABOUT}", id="about"),
        cell(f"## {heading.strip('*')}\n{rest}\nAs files: [CSV](table2.csv), [LaTeX](table2.tex).", id="table2"),
        cell(f"## What the paper says about it, tested\n\n{claims}", id="claims"),
    ]
    figures = [(name, *about) for name, *about in FIGURES if (paths.figures(preset) / f"{name}.png").is_file()]
    if figures:
        cells.append(cell("## Figures", id="figures"))
    for name, source, caption in figures:
        picture = base64.b64encode((paths.figures(preset) / f"{name}.png").read_bytes()).decode()
        text = f"![{caption}](attachment:{name}.png)\n\n{caption} Drawn by [notebook {source[:2]}]({source}.ipynb)."
        if name == "figure3" and interactive:
            text += "\n\n**[Figure 3 to point at](figure3.html)** shows the digit behind each point."
        cells.append(cell(text, id=f"show-{name}", attachments={f"{name}.png": {"image/png": picture}}))
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
