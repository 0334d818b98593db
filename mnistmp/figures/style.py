"""The common look of the figures, how they show in a notebook, and how they are saved.

These are the colours of plots; those of the digits are in data/palette.py.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure as _Figure
from PIL import Image

from mnistmp import files, paper, paths
from mnistmp.evidence import array  # noqa: F401

STYLE = Path(__file__).resolve().parent / "mnistmp.mplstyle"
# On matplotlib's own defaults, so that nothing of a user's matplotlibrc shows.
_STYLES = ["default", mpl.rc_params_from_file(STYLE, use_default_template=False)]

WIDTH = 5.5  # inches: a column of text
WIDE = 7.0  # inches: a page
NARROW = 3.8  # inches: readable on a phone, too

# What a colour means, in every figure: Okabe and Ito's blue and vermilion, and a grey.
VALIDATION = "#0072B2"
TEST = "#D55E00"
OURS = "#000000"  # ours, where validation and test do not give the colour
PAPER = "#767676"
NEUTRAL = "#B0B0B0"

# Ours is a filled circle and the paper's a hollow square, so grey print can be read too.
OURS_MARKER = {"marker": "o", "markersize": 4.5}
PAPER_MARKER = {"marker": "s", "markersize": 4.5, "markerfacecolor": "white", "color": PAPER}

# Ten colours for ten classes, none of them a claim about the benchmark's palette: found by a search for ten that are
# neither pale nor grey and stay far apart, in OKLab, for readers with and without red-green or blue vision too.
# The worst pair is twice as far apart as in Petroff's ten (arXiv 2107.02270); 4 and 9, 3, 5 and 8 contrast most.
CLASSES = (
    "#1911ff", "#b4d200", "#730000", "#49d7ff", "#ff17a8",
    "#7a7619", "#8a7fff", "#fda2a8", "#9200ad", "#003a67",
)  # fmt: skip

DISPLAY_PIXELS = 120  # per inch in a notebook, so that its text is about as large as ours
DISPLAY_DPI = 180  # of the image behind them: sharp on a dense screen, a few hundred kilobytes at most
SAVE_DPI = {"png": 200, "pdf": 300}  # the PDF's counts for rasterised point clouds only
# matplotlib's version and the time of day are no part of a picture.
_METADATA = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}


class Figure(_Figure):
    """A matplotlib Figure that pyplot does not know, so it is shown once and never left open.

    As the last expression of a notebook cell (`fig`, without a semicolon) it shows itself,
    whatever the backend; `display(fig)` does so in the middle of one. `plt.show()` does not.

    Attributes:
        alt: one sentence for readers who cannot see it; goes into the notebook with the image.
        indexed: its PNG may be cut to the 256 colours that fit it best. A cloud of points then takes
            a third of the space and looks the same; pictures of the benchmark's colours stay exact.
    """

    alt: str = ""
    indexed: bool = False

    def savefig(self, *args: Any, **kwargs: Any) -> None:
        """As matplotlib's, in our style: fonts and file formats are settled only on saving."""
        with style():
            super().savefig(*args, **kwargs)

    def _ipython_display_(self) -> None:
        # Not a _repr_*_ method: `%matplotlib inline` would come before it, with a picture of its own.
        from IPython.display import publish_display_data

        # The width alone: a browser then keeps the proportions where it must make the image smaller.
        about = {"width": round(self.get_size_inches()[0] * DISPLAY_PIXELS), "alt": self.alt}
        picture = {"image/png": render(self, "png", DISPLAY_DPI), "text/plain": repr(self)}
        publish_display_data(picture, {"image/png": about})


def style() -> Any:
    """Context manager: matplotlib's parameters are ours within it, and as before after it."""
    return mpl.style.context(_STYLES)


styled = style()  # as the decorator of a function that draws


def new(height: float, alt: str, width: float = WIDTH, rows: int = 1, columns: int = 1, **subplots: Any):
    """A `Figure` of that size in inches, and its axes as of `Figure.subplots`."""
    figure = Figure(figsize=(width, height))
    figure.alt = alt
    return figure, figure.subplots(rows, columns, **subplots)


def render(figure: _Figure, kind: str, dpi: float | None = None) -> bytes:
    """A figure as a file of `kind` "png" or "pdf": the same bytes for the same figure."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format=kind, dpi=dpi or SAVE_DPI[kind], metadata=_METADATA[kind])
    if kind == "png" and getattr(figure, "indexed", False):
        image = Image.open(buffer).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        image.save(buffer, "png", optimize=True, dpi=(dpi or SAVE_DPI[kind],) * 2)
    return buffer.getvalue()


def save(figure: _Figure, name: str, preset: str) -> list[Path]:
    """Write `name`.png and `name`.pdf into the preset's folder of figures; returns the two paths.

    The same figure gives the same bytes: no date, no version. Each file is there completely
    or as it was. Where the preset's digits are not MNIST's, the figure says so from then on.

    Raises:
        InputError: a name or preset that is not a plain name, or a file that cannot be written.
    """
    folder, name = paths.figures(preset), paths.plain_name(name, "the name of a figure")
    if note := note_on(preset):
        _add_note(figure, note)
    _fix_layout(figure)
    remedy = "free the place, or name another folder with MNISTMP_FIGURES"
    return [files.write(folder / f"{name}.{kind}", render(figure, kind), remedy) for kind in ("png", "pdf")]


def note_on(preset: str) -> str:
    """What a picture must say about the digits of its preset; "" if they are MNIST's, as one takes them to be."""
    known = paper.PRESETS.get(preset)
    return f"preset {preset}: scikit-learn's digits, not MNIST" if known and known.dataset != "mnist" else ""


def _fix_layout(figure: _Figure) -> None:
    # The solver of the layout differs in the last bit from one time to the next, which a PDF's decimals may show.
    if engine := figure.get_layout_engine():
        with style():  # ticks and their letters are made here
            engine.execute(figure)
        figure.set_layout_engine("none")
        for axes in figure.axes:
            axes.set_position(np.round(axes.get_position(original=True).bounds, 6))


def _add_note(figure: _Figure, note: str) -> None:
    # In a strip of its own below everything else (legends of a whole figure stand above); once.
    if any(text.get_gid() == "note" for text in figure.texts):
        return
    height, strip = figure.get_figheight(), 0.14
    figure.text(0.995, 0.02 / (height + strip), note, ha="right", va="bottom", fontsize=6, color=PAPER, gid="note")
    if engine := figure.get_layout_engine():
        figure.set_figheight(height + strip)
        engine.set(rect=(0, strip / (height + strip), 1, height / (height + strip)))


def ink_on(color: Any) -> str:
    """Black or white, whichever is legible on an RGB colour of 0 to 1, by how bright the eye finds it."""
    return "white" if np.dot(color, (0.3, 0.59, 0.11)) < 0.5 else "black"


def say(axes: Any, text: str) -> None:
    """Write into an empty panel why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=PAPER, style="italic")
