"""Figure 3, interactive: one HTML file, drawn by Bokeh, that needs no network, no server and no other file."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnistmp.figures.latent import Panel
from mnistmp.figures.style import CLASSES

PICTURES = 2000  # digits whose picture is in the file; all 10,000 would be most of MNIST's test set again

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_PAGE = Path(__file__).resolve().with_suffix(".html")


def latent_space(
    panels: Sequence[Panel],
    images: torch.Tensor,
    colors: Sequence[Any],
    captions: Sequence[str],
    letters: str,
    digits_note: str = "",
) -> str:
    """The page: linked panels that can be zoomed; pointing at a digit shows it as each network saw it.

    All points are drawn. The first `PICTURES` digits can be pointed at, and the page says so.

    Args:
        panels: with points, of the same digits in the same order.
        images: grey uint8 (M, 28, 28), of these digits.
        colors: per panel the RGB colours (10, 3), 0 to 255, that its network saw the classes in.
        captions: more to say below each title.
        letters: of the panels.
        digits_note: what must be said about the digits, as of `style.note_on`.
    """
    from bokeh.embed import file_html  # half a second, for the one figure that needs it
    from bokeh.models import BooleanFilter, CDSView, CheckboxButtonGroup, ColumnDataSource, CustomJS, GroupFilter
    from bokeh.plotting import figure
    from bokeh.resources import INLINE
    from bokeh.transform import linear_cmap

    table = {"label": np.asarray(panels[0].labels)}
    for place, panel in enumerate(panels):
        table[f"x{place}"], table[f"y{place}"] = np.ascontiguousarray(np.asarray(panel.xy, np.float32).T)
        table[f"predicted{place}"] = np.asarray(panel.predicted)
        table[f"right{place}"] = (panel.predicted == panel.labels).astype(np.uint8)
    pictured, others = slice(PICTURES), slice(PICTURES, None)
    digits = ColumnDataSource({name: values[pictured] for name, values in table.items()}, name="digits")
    pale = ColumnDataSource({name: values[others] for name, values in table.items()})
    classes = {source: BooleanFilter([True] * len(source.data["label"])) for source in (digits, pale)}
    # The digit pointed at, above the clouds: its ring is drawn anew on every move; they, which take longer, are not.
    chosen = ColumnDataSource({name: [] for name in table}, name="chosen")
    plots, clouds = [], []
    for place, (panel, caption) in enumerate(zip(panels, captions)):
        plot = figure(
            title=f"({letters[place]}) {panel.title}\naccuracy {np.mean(table[f'right{place}']):.1%}, {caption}",
            tools="pan,wheel_zoom,box_zoom,fullscreen,reset",
            match_aspect=True,
            sizing_mode="stretch_both",
            min_border=2,
        )
        plot.axis.visible = plot.grid.visible = False
        plot.toolbar.autohide, plot.toolbar.logo = True, None
        at = {"x": f"x{place}", "y": f"y{place}"}
        for source, look in ((pale, {"size": 2.5, "alpha": 0.35}), (digits, {"size": 4.5, "alpha": 0.85})):
            for right, marker in ((1, {"marker": "circle", "line_width": 0}), (0, {"marker": "x", "line_width": 1.3})):
                view = CDSView(filter=classes[source] & GroupFilter(column_name=f"right{place}", group=right))
                color = linear_cmap("label", CLASSES, -0.5, 9.5)
                clouds.append(plot.scatter(**at, source=source, view=view, color=color, **look, **marker))
        for width, color in ((5, "white"), (2, "black")):
            ring = {"size": 17, "fill_color": None, "line_color": color, "line_width": width, "level": "overlay"}
            plot.scatter(**at, source=chosen, **ring)
        plot.js_on_event("mousemove", CustomJS(code=f"point({place}, cb_obj)"))
        plot.js_on_event("tap", CustomJS(code=f"point({place}, cb_obj)"))
        plot.js_on_event("mouseleave", CustomJS(code="if (pointer === 'mouse') choose(null)"))
        plots.append(plot)
    legend = CheckboxButtonGroup(
        name="legend",
        labels=[*"0123456789", "predicted right", "without picture"],
        active=list(range(12)),
        stylesheets=[
            ".bk-btn-group { flex-wrap: wrap }",
            *(f".bk-btn:nth-child({i}) {{ border-bottom: 5px solid {c} }}" for i, c in enumerate(CLASSES, 1)),
        ],
    )
    code = """const on = new Set(cb_obj.active)
sources.forEach((source, i) => { filters[i].booleans = Array.from(source.data.label, label => on.has(label)) })
clouds.forEach((cloud, i) => { cloud.visible = (i % 2 || on.has(10)) && (i % 4 > 1 || on.has(11)) })
choose(null)"""
    args = {"sources": list(classes), "filters": list(classes.values()), "clouds": clouds}
    legend.js_on_change("active", CustomJS(args=args, code=code))
    note = "Neighbour purity: the share of a digit's ten nearest neighbours, in all dimensions, that are of its class."
    if len(table["label"]) > PICTURES:
        note += f" Only the first {PICTURES:,} digits can be pointed at; the others, paler, are here without picture."
    page = {
        "note": note,
        "digits_note": digits_note,
        "letters": [f"({letter})" for letter in letters],
        "colors": [torch.as_tensor(each).tolist() for each in colors],
        **_sprite(images[:PICTURES].numpy()),
    }
    template = _PAGE.read_text(encoding="utf-8")
    html = file_html([legend, *plots], INLINE, "MNIST-MP: latent spaces", template=template, template_variables=page)
    for number, name in enumerate(dict.fromkeys(_UUID.findall(html))):  # by chance: the same figure is the same bytes
        html = html.replace(name, f"id-{number}")
    return html


def _sprite(images: np.ndarray) -> dict[str, Any]:
    # All pictures as one image: a PNG each would be three times the size.
    count, side = images.shape[:2]
    columns = math.ceil(math.sqrt(count))
    grid = np.zeros((math.ceil(count / columns) * columns, side, side), np.uint8)
    grid[:count] = images
    sheet = grid.reshape(-1, columns, side, side).swapaxes(1, 2).reshape(-1, columns * side)
    buffer = io.BytesIO()
    Image.fromarray(sheet).save(buffer, "png", optimize=True)
    return {"sprite": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode(), "columns": columns}
