"""Figures: what is drawn is what was given, nothing overlaps, and the same figure is the same bytes."""

import dataclasses
import hashlib
import io
import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.figure
import nbclient
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from mnistmp import figures, losses, paper, selection
from mnistmp.data import palette
from mnistmp.figures import geometry, latent, style
from mnistmp.results import claims

TESTS = Path(__file__).resolve().parent


def history(seeds=3, epochs=10, rows=None):
    random = np.random.default_rng(0)
    lines = []
    for row in paper.trainings(rows or "all"):
        for seed, epoch in itertools.product(range(seeds), range(1, epochs + 1)):
            val = row.paper[0] - 20 * math.exp(-epoch) + random.normal(0, 0.05)
            test = np.clip(row.paper[2] + random.normal(0, 5), 0, 100)
            lines.append((row.id, seed, "done", epoch, round(val, 2), round(float(test), 2)))
    return pd.DataFrame(lines, columns=["row", "seed", "status", "epoch", "val_accuracy", "test_accuracy"])


def table2(n=10, missing=()):
    random = np.random.default_rng(0)
    lines = []
    for row in paper.TABLE2:
        count, (val, val_std, test, test_std) = 0 if row.id in missing else n, row.paper
        known, spread = (0 if count else math.nan), (1 if count > 1 else math.nan)
        ours = val + random.normal(0, 0.1) + known, 2 * val_std * spread
        ours += test + random.normal(0, 2) + known, test_std * spread
        lines.append((row.id, row.label, "", count, *ours, *row.paper))
    sides = [f"{split}_{what}" for split in ("val", "test") for what in ("mean", "std")]
    return pd.DataFrame(
        lines, columns=["id", "label", "interpretation", "n", *sides, *(f"paper_{side}" for side in sides)]
    )


def panel(title="standard, validation", count=400, accuracy=0.8):
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, count)
    predicted = np.where(random.random(count) < accuracy, labels, (labels + 1) % 10)
    middles = np.array([*itertools.product(range(5), range(2))])[labels]
    return figures.Panel(title, 20 * middles + random.normal(0, 4, (count, 2)), labels, predicted)


def digits(count=60):
    random = np.random.default_rng(0)
    images, labels = torch.tensor(random.integers(0, 256, (count, 28, 28)), dtype=torch.uint8), torch.arange(count) % 10
    test = palette.colorize(images, torch.full_like(labels, palette.TEST))
    return palette.colorize(images, labels), labels, test, labels


def noise(*shape):
    return np.random.default_rng(0).normal(size=shape)


def interpretations():
    values = {
        "default, same seeds": (8.0, 5.0, 11.0),
        "rate=half": (-20.0, -45.0, 5.0),
        "layer=1": (1.0, -1.0, 3.0),
    }
    lines = [
        {"row": row, "interpretation": name, "n": 3, "difference": math.nan if at == 0 else -at, "ci_low": -at - 1,
         "ci_high": -at + 1, "paper_difference": mean, "paper_ci_low": low, "paper_ci_high": high, "verdict": "close"}
        for row in ("dropout", "rcl-m0.9")
        for at, (name, (mean, low, high)) in enumerate(values.items())
    ]  # fmt: skip
    lines.append(lines[0] | {"interpretation": "the paper's", "n": 10, "paper_difference": math.nan})
    return pd.DataFrame(lines)


def comparisons():
    pairs = [(claim, *pair) for claim in claims.CLAIMS for pair in claim.pairs]
    lines = [
        (claim.text, claim.where, *rows, claim.split, 10, 9.0, at - 20, at - 25, at - 15, 0.2, 0.2, claims.HOLDS)
        for at, (claim, *rows) in enumerate(pairs)
    ]
    return pd.DataFrame(lines, columns=list(claims.COLUMNS))


def epochs():
    return pd.DataFrame({"a": [1.0, 2, 4], "b": [3.0, 2, 1]}, pd.RangeIndex(1, 4, name="epoch"))


EVERY = {
    "samples": lambda: figures.samples(*digits()),
    "image-grid": lambda: figures.image_grid(digits()[0][:8], titles=list("abcd"), rows=["original", "shuffled"]),
    "one-image": lambda: figures.image_grid(digits()[0][:1]),
    "palette-cube": figures.palette_cube,
    "push-rule": figures.push_rule,
    "push-rule-inf": lambda: figures.push_rule(math.inf),
    "margin-curve": lambda: figures.margin_curve(table2()),
    "margin-curve-one-seed": lambda: figures.margin_curve(table2(1, missing=["rcl-m0.4", "standard"])),
    "margin-curve-closest": lambda: figures.margin_curve(
        table2(), table2(3).assign(test_mean=lambda t: t["paper_test_mean"])
    ),
    "margin-curve-empty": lambda: figures.margin_curve(table2(0)),
    "table": lambda: figures.table_figure(table2()),
    "table-one-seed": lambda: figures.table_figure(table2(1, missing=["jigsaw"])),
    "table-empty": lambda: figures.table_figure(table2(0)),
    "curves-1": lambda: figures.training_curves(history(1), ["standard"]),
    "curves-2": lambda: figures.training_curves(history(), ["standard", "standard-original"]),
    "curves-15": lambda: figures.training_curves(history(), [row.id for row in paper.trainings()]),
    "curves-none": lambda: figures.training_curves(history()[:0], ["jigsaw", "rsc"]),
    "latent": lambda: figures.latent_space([panel()] * 5 + [figures.Panel("later", (), (), ())]),
    "latent-2": lambda: figures.latent_space([panel(), panel("standard, test")]),
    "channel-mutes": lambda: figures.channel_mutes(noise(20, 128) > 0.5, noise(20, 128), labels=[*2 * "0123456789"]),
    "singular-values": lambda: figures.singular_values([abs(noise(128))] * 11, [f"epoch {at}" for at in range(11)]),
    "covariance": lambda: figures.covariance_matrices(2 * np.cov(noise(64, 99)), np.eye(64), ["Dropout", "Covariance"]),
    "logit-spread": lambda: figures.logit_spread({"standard": 9 * noise(500, 10), "decoupling": noise(500, 10)}),
    "differences": lambda: figures.interpretation_differences(interpretations(), "dropout", "rcl-m0.9"),
    "differences-empty": lambda: figures.interpretation_differences(interpretations()[:0], "dropout"),
    "claims": lambda: figures.claims(comparisons()),
    "neighbours": lambda: figures.neighbour_distances(
        {title: (abs(noise(50)), 1 + abs(noise(50))) for title in ("untrained", "standard training", "RCL, m = 0.9")},
        (0.2, 0.4, 0.6, 0.8, 0.9, 1.0),
    ),
    "lines-log": lambda: figures.lines(epochs(), "anchors pushed (%)", log=True),
}


def hashes():
    """A hash of both files of figures with images, three dimensions, error bars, long labels, pixels in a PDF."""
    names = ("samples", "palette-cube", "margin-curve", "table", "latent")
    built = {name: EVERY[name]() for name in names}
    return {
        f"{name}.{kind}": hashlib.sha256(style.render(figure, kind)).hexdigest()
        for name, figure in built.items() for kind in ("png", "pdf")
    }  # fmt: skip


@pytest.fixture(scope="module")
def built():
    before = dict(mpl.rcParams)
    made = {name: build() for name, build in EVERY.items()}
    assert dict(mpl.rcParams) == before
    return made


# --- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_nothing_overlaps_and_nothing_is_cut_off(built, name, monkeypatch):
    drawn, draw = {}, mpl.text.Text.draw

    def record(text, renderer):  # what is drawn, while it is drawn: axes hold tick labels that are not
        draw(text, renderer)
        if text.get_text().strip() and text.get_visible():
            drawn[text] = text.get_window_extent(renderer)

    monkeypatch.setattr(mpl.text.Text, "draw", record)
    built[name].savefig(io.BytesIO(), format="raw", dpi=100)  # draws twice; the second is the one that counts
    boxes = [(text.get_text(), box) for text, box in drawn.items()]
    assert boxes or name == "one-image"
    width, height = (100 * inches for inches in built[name].get_size_inches())
    for words, box in boxes:
        assert -1 <= box.x0 and box.x1 <= width + 1 and -1 <= box.y0 and box.y1 <= height + 1, f"{words!r} is cut off"
    for (first, a), (second, b) in itertools.combinations(boxes, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        assert across < 2 or up < 2, f"{first!r} and {second!r} overlap"


@pytest.mark.parametrize("name", ["covariance", "table", "claims", "differences"])
def test_nothing_of_a_saved_picture_is_cut_off(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path))
    figure = EVERY[name]()
    png, _ = style.save(figure, name, "paper")
    for picture in (png, io.BytesIO(style.render(figure, "png", style.DISPLAY_DPI))):
        assert white_border(picture)


def white_border(picture):
    pixels = np.asarray(Image.open(picture).convert("L"))
    return min(side.min() for side in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])) > 250


@pytest.mark.parametrize("dpi", [style.DISPLAY_DPI, *style.SAVE_DPI.values()])
def test_letters_are_as_wide_at_every_resolution(dpi):
    # A layout is worked out once, at 100 dots per inch, and the figure is shown and saved at others.
    widths = []
    with style.style():
        for one in (100, dpi):
            figure = style.Figure(dpi=one)
            renderer = FigureCanvasAgg(figure).get_renderer()
            text = figure.text(0.5, 0.5, "Standard Training Procedure (with early stopping @95)")
            widths.append(text.get_window_extent(renderer).width / one)
    assert widths[1] == pytest.approx(widths[0], rel=2e-3)


def test_a_figure_is_described_and_leaves_nothing_behind(built):
    for name, figure in built.items():
        assert isinstance(figure, matplotlib.figure.Figure) and figure.alt.endswith("."), name
        assert figure.get_size_inches()[0] <= style.WIDE, name
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


MATPLOTLIBRC = {
    "savefig.transparent": True, "savefig.bbox": "tight", "xtick.top": True, "axes.facecolor": "black",
    "lines.linestyle": "--", "axes.xmargin": 0.4, "figure.constrained_layout.use": False, "font.family": "monospace",
    "text.color": "red", "legend.frameon": True, "image.cmap": "jet", "font.size": 20, "figure.facecolor": "red",
    "axes.grid": False, "lines.antialiased": False, "pdf.compression": 0, "path.simplify": False,
}  # fmt: skip


def test_the_same_bytes_in_another_process_whatever_its_settings():
    # Another hash seed, a user's matplotlibrc, and pyplot not even imported.
    code = (
        "import sys, json, matplotlib\n"
        f"matplotlib.rcParams.update({MATPLOTLIBRC})\n"
        "import test_figures; print(json.dumps(test_figures.hashes())); assert 'matplotlib.pyplot' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == hashes()


def test_save(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path))
    written = figures.save(figures.push_rule(), "push-rule", "digits")
    assert written == [tmp_path / "digits" / "push-rule.png", tmp_path / "digits" / "push-rule.pdf"]
    png, pdf = (path.read_bytes() for path in written)
    assert png.startswith(b"\x89PNG") and b"Software" not in png and b"Date" not in png
    assert pdf.startswith(b"%PDF") and not any(word in pdf for word in (b"atplotlib", b"CreationDate", b"/Type3"))
    assert figures.save(figures.push_rule(), "push-rule", "digits") == written
    assert [path.read_bytes() for path in written] == [png, pdf]
    assert len(list((tmp_path / "digits").iterdir())) == 2
    own = matplotlib.figure.Figure()  # the reader's
    own.subplots().plot([1, 2])
    assert all(path.stat().st_size > 1000 for path in figures.save(own, "own", "paper"))
    (tmp_path / "quick").write_text("a file where the folder should be")
    with pytest.raises(ValueError, match="cannot be written .*MNISTMP_FIGURES"):
        figures.save(own, "x", "quick")


def test_a_notebook_shows_each_figure_once(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(TESTS.parent))
    monkeypatch.setenv("MPLBACKEND", "Agg")  # with which matplotlib's own figures vanish silently
    expected = {
        "from mnistmp import figures\nfigures.push_rule()": 1,
        "%matplotlib inline\nimport matplotlib.pyplot as plt\nfig = figures.push_rule()\nfig": 1,
        "fig = figures.push_rule()": 0,
        "fig = figures.push_rule()\ndisplay(fig)\nplt.show()": 1,
        "figures.push_rule();": 0,
    }
    cells = [nbformat.v4.new_code_cell(source) for source in expected]
    book = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(book, kernel_name="python3", timeout=120).execute()
    shown = [[output for output in cell.outputs if "image/png" in output.get("data", {})] for cell in cells]
    assert [len(images) for images in shown] == list(expected.values())
    assert all(len(cell.outputs) == count for cell, count in zip(cells, expected.values()))
    about = shown[0][0].metadata["image/png"]
    assert about["alt"] == geometry.push_rule().alt and about["width"] == round(3.8 * style.DISPLAY_PIXELS)
    assert shown[0][0].data["image/png"] == shown[1][0].data["image/png"]


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(style.render(figure, "png"))).convert("RGB"))


# --- differences ---------------------------------------------------------------------------------


def bars_of(axes):
    """(value, low, high) of every dot with its interval, from top to bottom."""
    for dots in axes.containers:
        (value,) = dots[0].get_xdata()
        ((low, _), (high, _)) = dots[2][0].get_segments()[0]
        yield value, low, high


def test_differences_show_every_interpretation_the_default_first_the_nearest_next():
    table = interpretations()
    rows = "dropout", "rcl-m0.9"
    for axes, row in zip(figures.interpretation_differences(table, *rows).axes, rows, strict=True):
        names = [label.get_text() for label in axes.get_yticklabels()]
        assert names == ["default, same seeds (n = 3)", "layer=1 (n = 3)", "rate=half (n = 3)"]
        assert np.allclose([*bars_of(axes)], [(8, 5, 11), (1, -1, 3), (-20, -45, 5)])
        assert axes.get_title(loc="left") == paper.row(row).label
    table[["paper_difference", "paper_ci_low", "paper_ci_high"]] = math.nan  # other digits: beside the default
    axes, *others = figures.interpretation_differences(table, "dropout").axes
    assert not others and "the default's" in axes.get_xlabel()
    assert np.allclose([*bars_of(axes)], [(0, 0, 0), (-1, -2, 0), (-2, -3, -1)])


def test_claims_show_the_comparison_that_decides():
    table = comparisons()
    deciding = table.loc[claims.verdicts(table)["deciding"]]
    axes = figures.claims(table).axes[0]
    assert np.allclose([*bars_of(axes)], [*zip(deciding["difference"], deciding["ci_low"], deciding["ci_high"])])
    assert [text.get_text() for text in axes.texts] == [claims.HOLDS] * len(claims.CLAIMS)
    assert [label.get_text().split("\n")[0] for label in axes.get_yticklabels()] == [c.text for c in claims.CLAIMS]


# --- figures 1 and 2, the palette ----------------------------------------------------------------


def test_samples_shows_the_first_digit_of_each_class():
    train, labels, test, _ = digits()
    canvas = figures.samples(train, labels, test, labels).axes[0].images[0].get_array()
    for row, images in enumerate((train, test)):
        for column in range(10):  # labels count 0 to 9 over and over, so image j is in column j
            tile = canvas[row * 30 : row * 30 + 28, column * 30 : column * 30 + 28]
            assert (tile == images[column].permute(1, 2, 0).numpy()).all()


def test_image_grid_reads_every_layout():
    images = digits()[0][:4]
    expected = figures.image_grid(images).axes[0].images[0].get_array()
    signed = images.double() / 127.5 - 1
    for same in (images.permute(0, 2, 3, 1), images.numpy(), signed.float(), signed.requires_grad_(), list(images)):
        assert (figures.image_grid(same).axes[0].images[0].get_array() == expected).all()
    unit = figures.image_grid(images.float() / 255, value_range=(0, 1))
    assert (unit.axes[0].images[0].get_array() == expected).all()
    grey = figures.image_grid(images[:, :1]).axes[0].images[0].get_array()
    assert (grey == figures.image_grid(images[:, 0]).axes[0].images[0].get_array()).all()
    assert (grey[..., 0] == grey[..., 1]).all()


def test_image_grid_names_rows_and_columns_and_refuses_what_does_not_fit():
    axes = figures.image_grid(digits()[0][:6], titles=["a", "b", "c"], rows=["above", "below"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["above", "below"]
    for rows in (4, 0):
        with pytest.raises(ValueError, match="give a multiple of the rows"):
            figures.image_grid(digits()[0][:6], rows=rows)
    with pytest.raises(ValueError, match=r"images are \(28, 28\)"):
        figures.image_grid(torch.zeros(28, 28))


def test_palette_cube_shows_the_palette():
    axes = figures.palette_cube().axes[0]
    points = np.stack(axes.collections[-1]._offsets3d, 1)
    assert np.allclose(points[:10], palette.PALETTE.numpy() / 255) and np.allclose(points[10], 127 / 255)
    image = pixels(axes.figure)
    for color in [*palette.PALETTE.tolist(), [127, 127, 127]]:
        assert (image == color).all(2).sum() > 200
    distance = np.linalg.norm(points[:10] - points[10], axis=1)
    assert (abs(distance - 0.5) < 0.01).sum() == 6
    assert [text.get_text() for text in axes.texts if text.get_text().isdigit()] == list("0123456789")


@pytest.mark.parametrize(("margin", "pushed"), [(0.9, [0, 2]), (math.inf, [0, 1, 2]), (0.0, [])])
def test_push_rule_is_the_rule_of_the_loss(margin, pushed):
    axes = figures.push_rule(margin).axes[0]
    data = np.array(geometry._POINTS)
    xy, labels = data[:, :2], data[:, 2]
    assert xy.min() == 0 and xy.max() == 1  # or else the loss would rescale what is drawn
    distance = abs(xy[:, None] - xy).sum(2)  # by hand, in L1
    np.fill_diagonal(distance, math.inf)
    arrows = {tuple(arrow.xyann): np.array(arrow.xy) for arrow in axes.texts if getattr(arrow, "arrow_patch", None)}
    lines = [np.array(line.get_data()).T for line in axes.lines]
    for anchor in range(3):
        same = labels == labels[anchor]
        positive = np.where(same, distance[anchor], math.inf).argmin()
        negative = np.where(same, math.inf, distance[anchor]).argmin()
        assert np.allclose(lines[2 * anchor : 2 * anchor + 2], xy[[[anchor, positive], [anchor, negative]]])
        is_pushed = margin == math.inf or distance[anchor, positive] < margin * distance[anchor, negative]
        assert is_pushed == (anchor in pushed) == (tuple(xy[anchor]) in arrows)
        if is_pushed:  # away from the positive, by the sign of each coordinate
            step = arrows[tuple(xy[anchor])] - xy[anchor]
            assert np.allclose(step / abs(step), np.sign(xy[anchor] - xy[positive]))
    found = losses.nearest_neighbours(torch.tensor(xy), torch.tensor(labels))[1]
    assert np.allclose(found, np.where(labels[:, None] == labels, distance, math.inf).min(1))


# --- accuracies ----------------------------------------------------------------------------------


def points(axes, marker):
    return np.concatenate([np.array(line.get_data()).T for line in axes.lines if line.get_marker() == marker])


def test_margin_curve_draws_the_table():
    table = table2()
    figure = figures.margin_curve(table)
    rows = table[table["id"].isin(["rcl-m0.2", "rcl-m0.4", "rcl-m0.6", "rcl-m0.8", "rcl-m0.9", "rcl-inf"])]
    for axes, split in zip(figure.axes, ("val", "test")):
        assert np.allclose(points(axes, "o")[:, 1], rows[f"{split}_mean"])
        assert np.allclose(points(axes, "s")[:, 1], rows[f"paper_{split}_mean"])
        assert np.allclose(points(axes, "o")[:, 0], [0.2, 0.4, 0.6, 0.8, 0.9, 1.1], atol=0.01)
        heights = sorted(abs(np.diff(path.vertices[:, 1])[0]) for bar in axes.collections for path in bar.get_paths())
        assert np.allclose(heights, sorted([*2 * rows[f"{split}_std"], *2 * rows[f"paper_{split}_std"]]))
        colored = [line for line in axes.lines if line.get_color() in (style.VALIDATION, style.TEST)]
        level = [line.get_ydata()[0] for line in colored if len(set(line.get_ydata())) == 1]
        assert level == [table[f"{split}_mean"][0]]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0.2", "0.4", "0.6", "0.8", "0.9", "∞"]
    assert figure.axes[0].get_ylim()[1] <= 101


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (table2(10), "ours ± std (10 seeds)"),
        (table2(1), "ours (1 seed)"),
        (table2(0), "ours: no records yet"),
        (table2(2).assign(n=range(18)), "ours ± std (10 to 16 seeds)"),
    ],
)
def test_margin_curve_says_how_many_seeds(table, words):
    assert figures.margin_curve(table).legends[0].get_texts()[0].get_text() == words


def test_margin_curve_draws_another_interpretation_at_the_finite_margins():
    other = table2(3).assign(test_mean=lambda table: table["paper_test_mean"])
    figure = figures.margin_curve(table2(), other)
    expected = other[other["id"].isin(["rcl-m0.2", "rcl-m0.4", "rcl-m0.6", "rcl-m0.8", "rcl-m0.9"])]
    assert np.allclose(points(figure.axes[1], "^")[:, 1], expected["paper_test_mean"])
    assert "ours, lines → of Table 2" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_margin_curve_takes_rows_of_the_readers_own_and_gaps():
    extra = {"id": "rcl-m0.95", "label": "mine", "n": 1, "val_mean": 99.0, "val_std": math.nan, "test_mean": 70.0}
    table = pd.concat([table2(1, missing=["rcl-m0.4"]), pd.DataFrame([extra])], ignore_index=True)
    axes = figures.margin_curve(table).axes[1]
    assert np.allclose(points(axes, "o")[:, 0], [0.2, 0.6, 0.8, 0.9, 0.95, 1.15], atol=0.01)
    assert len(points(axes, "s")) == 7 and np.isnan(points(axes, "s")[5, 1])
    with pytest.raises(ValueError, match="no margin"):
        figures.margin_curve(table2()[:3])


def test_the_papers_numbers_are_named_where_the_digits_are_others():
    table = table2()
    table.attrs["dataset"] = "digits"
    for draw in (figures.margin_curve, figures.table_figure):
        assert "paper, on MNIST, ± std (10 runs)" in [text.get_text() for text in draw(table).legends[0].get_texts()]


def test_table_figure_draws_the_table():
    table = table2(3, missing=["rsc"])
    figure = figures.table_figure(table)
    for axes, split in zip(figure.axes, ("test", "val")):
        assert np.allclose(points(axes, "o")[:, 0], table[f"{split}_mean"], equal_nan=True)
        assert np.allclose(points(axes, "s")[:, 0], table[f"paper_{split}_mean"])
        low, high = axes.get_xlim()
        assert low < np.nanmin(table[f"{split}_mean"]) and np.nanmax(table[f"{split}_mean"]) < high
    labels = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert labels == list(table["label"]) and figure.axes[0].get_ylim() == (17.5, -0.5)


def drawn(axes, gid):
    return [np.array(line.get_data()).T for line in axes.lines if line.get_gid() == gid]


def test_training_curves_draws_the_history():
    data = history()
    figure = figures.training_curves(data, ["jigsaw", "standard"])
    assert [axes.get_title() for axes in figure.axes] == ["Jigsaw Puzzle", "Standard training"]
    asked = ("jigsaw", ["best-validation", "early-stop"]), ("standard", ["best-validation"])
    for axes, (row, rules) in zip(figure.axes, asked):
        runs = [run for _, run in data[data["row"] == row].groupby("seed")]
        wanted = [run[["epoch", column]].to_numpy() for run in runs for column in ("val_accuracy", "test_accuracy")]
        assert np.allclose(drawn(axes, "seed"), wanted)
        means = np.array(wanted)[..., 1].reshape(3, 2, 10).mean(0)
        assert np.allclose([line[:, 1] for line in drawn(axes, "mean")], means)
        for rule in selection.RULES:
            marks = drawn(axes, rule)
            assert len(marks) == (6 if rule in rules else 0)
            for mark, line, run in zip(marks, wanted, [run for run in runs for _ in range(2)]):
                correct = (100 * run["val_accuracy"]).round().astype(int).tolist()
                assert (mark[0] == line[selection.select(correct, 10_000, rule)]).all()


def test_training_curves_of_diverged_and_missing_runs():
    data = history(seeds=3, rows="rcl-inf")
    data = data[(data["seed"] != 1) | (data["epoch"] <= 4)]
    data = data.assign(status=np.where(data["seed"] == 1, "diverged", "done"))
    axes, empty = figures.training_curves(data, ["rcl-inf", "mine"]).axes
    assert [cross[0, 0] for cross in drawn(axes, "diverged")] == [4, 4]
    done = data[data["seed"] != 1].groupby("epoch")["test_accuracy"].mean()
    assert np.allclose(drawn(axes, "mean")[1][:, 1], done) and len(drawn(axes, "best-validation")) == 4
    assert empty.get_title() == "mine" and [text.get_text() for text in empty.texts] == ["no records yet"]
    axes = figures.training_curves(data[data["seed"] == 1], ["rcl-inf"]).axes[0]
    assert len(drawn(axes, "diverged")) == 2 and not drawn(axes, "best-validation") and not drawn(axes, "mean")


def test_training_curves_choose_rows():
    # An early-stopping row is the training it reads.
    own = history(1, rows="rsc").assign(row="mine")
    both = pd.concat([own, history(1, rows="jigsaw")])
    figure = figures.training_curves(both, ["jigsaw", "mine"])
    assert [axes.get_title() for axes in figure.axes] == ["Jigsaw Puzzle", "mine"]
    assert len(figures.training_curves(both, ["jigsaw-early-stop", "jigsaw"]).axes) == 1


# --- feature spaces ------------------------------------------------------------------------------


def test_latent_space_draws_every_point_once():
    given = panel()
    wrong = dataclasses.replace(given, title="standard, test", predicted=(given.labels + 1) % 10)
    first, second = figures.latent_space([given, wrong]).axes
    right = given.labels == given.predicted
    circles, crosses = first.collections
    assert [(cloud.get_gid(), cloud.get_rasterized()) for cloud in (circles, crosses)] == [("right", 1), ("wrong", 1)]
    colors = np.array([to_rgb(color) for color in figures.CLASSES])
    for cloud, mask in ((circles, right), (crosses, ~right)):
        shown = np.hstack([cloud.get_offsets(), cloud.get_facecolors()[:, :3]])
        wanted = np.hstack([given.xy[mask], colors[given.labels[mask]]])
        assert np.allclose(shown[np.lexsort(shown.T)], wanted[np.lexsort(wanted.T)])
    assert first.get_title() == f"(a) standard, validation\naccuracy {100 * right.mean():.1f} %"
    assert second.get_title() == "(b) standard, test\naccuracy 0.0 %" and len(second.collections[0].get_offsets()) == 0
    low, high = np.array([first.get_xlim(), first.get_ylim()]).T
    assert (given.xy > low).all() and (given.xy < high).all() and np.isclose(*(high - low))


def test_latent_space_draws_so_few_of_many_points_that_crosses_show_and_names_each_class_once():
    figure = figures.latent_space([panel(count=3000)])
    (axes,) = figure.axes
    assert sum(len(cloud.get_offsets()) for cloud in axes.collections) == latent.DRAWN < 3000
    assert figure.legends[0].get_title().get_text() == "2,000 of 3,000 digits"
    assert {text.get_text(): tuple(np.round(np.array(text.get_position()) / 20)) for text in axes.texts} == {
        str(digit): middle for digit, middle in enumerate(itertools.product(range(5), range(2)))
    }


def test_the_ten_class_colours_differ_for_the_colour_blind():
    """Each pair is well apart in OKLab, also as seen without one kind of cone (Machado et al. 2009)."""
    views = {
        "all cones": (1, 0, 0, 0, 1, 0, 0, 0, 1),
        "protanopia": (0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998),
        "deuteranopia": (0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881),
        "tritanopia": (1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900),
    }
    to_lms = np.array([[0.412221, 0.536333, 0.051446], [0.211903, 0.680700, 0.107397], [0.088302, 0.281719, 0.629979]])
    to_lab = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]
    values = np.array([to_rgb(color) for color in figures.CLASSES])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    for name, view in views.items():
        seen = np.clip(linear @ np.reshape(view, (3, 3)).T, 0, 1)
        lab = np.cbrt(seen @ to_lms.T) @ np.transpose(to_lab)
        gaps = np.linalg.norm(lab[:, None] - lab, axis=2)[np.triu_indices(10, 1)]
        assert gaps.min() > (0.22 if name == "all cones" else 0.12), name  # tab10: 0.007 at worst, Petroff's ten 0.061


# --- what methods do -----------------------------------------------------------------------------


def test_channel_mutes():
    scores = noise(5, 16)
    mask = torch.tensor(scores > 0.5)[:, :, None, None]  # as the method gives it
    top, bottom, _ = figures.channel_mutes(mask, scores, range(5)).axes
    assert (top.images[0].get_array() == scores).all() and (bottom.images[0].get_array() == (scores > 0.5)).all()
    assert top.images[0].norm.vmin == -top.images[0].norm.vmax
    assert bottom.get_title() == f"muted (black): {100 * (scores > 0.5).mean():.0f} % of the channels"
    with pytest.raises(ValueError, match=r"mask is \(5, 16\) and scores are \(5, 3\)"):
        figures.channel_mutes(mask, scores[:, :3], range(5))


def test_singular_values_and_logits_and_covariances():
    lines = figures.singular_values([torch.tensor([1.0, 3.0, 2.0])], ["conv2"]).axes[0].lines
    assert lines[0].get_ydata().tolist() == [3, 2, 1] and lines[0].get_xdata().tolist() == [1, 2, 3]

    axes = figures.logit_spread({"a": torch.ones(4, 10, dtype=torch.bfloat16), "b": 2 * noise(9, 10)}).axes[0]
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words == ["a: 1", f"b: {np.sqrt(np.mean(4 * noise(9, 10) ** 2)):.3g}"]

    before = np.cov(noise(8, 99))
    left, right, _ = figures.covariance_matrices(before, np.eye(8)).axes
    assert (left.images[0].get_array() == before).all() and left.images[0].norm.vmax == right.images[0].norm.vmax
    assert right.get_title() == "after\noff the diagonal: 0 (r.m.s.)"


# --- plain plots -----------------------------------------------------------------------------------


def test_lines_are_the_columns_and_references_are_level():
    (axes,) = figures.lines(epochs(), "accuracy (%)", {"chance": 0.5}, ylim=(0, 5)).axes
    first, second, chance = axes.lines
    assert list(first.get_xdata()) == [1, 2, 3] and list(first.get_ydata()) == [1, 2, 4]
    assert list(second.get_ydata()) == [3, 2, 1] and first.get_linestyle() != second.get_linestyle()
    assert set(chance.get_ydata()) == {0.5}
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "chance"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_ylim()) == ("epoch", "accuracy (%)", (0, 5))


def test_lines_of_one_colour_and_references_differ_by_their_dashes():
    for colors, count in ((["red", "red"], 2), (["red", "blue"], 1)):
        (axes,) = figures.lines(epochs(), "y", {"black": 3.0, "mean": 2.0, "class": 1.0}, colors=colors).axes
        dashes = [str(line._unscaled_dash_pattern) for line in axes.lines]
        assert len({*dashes[:2]}) == count and len({*dashes[2:]}) == 3


def test_lines_on_a_logarithmic_axis():
    (axes,) = figures.lines(epochs() * [1, 100], "anchors pushed (%)", log=True).axes
    assert axes.get_yscale() == "log" and 0 < axes.get_ylim()[0] <= 1 and axes.get_ylim()[1] >= 300


def test_histogram_counts_every_finite_value():
    values = torch.tensor([[0.1, 0.1, 0.9], [math.nan, 0.5, math.inf]])
    (axes,) = figures.histogram(values, "rate", np.linspace(0, 1, 3), "steps").axes
    assert [bar.get_height() for bar in axes.patches] == [2, 2]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("rate", "steps")


# --- single notebooks ------------------------------------------------------------------------------


def test_confusion_shows_the_shares_of_each_true_class():
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    predicted = torch.tensor([0, 0, 0, 3, 1, 9])
    figure = figures.confusion({"here": (predicted, labels), "there": (labels, labels)})
    first, second = figure.axes
    texts = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in first.texts}
    assert texts == {(0, 0): "75", (0, 3): "25", (1, 1): "50", (1, 9): "50"}
    assert first.get_title() == "here\nright: 66.7%"
    assert second.get_title() == "there\nright: 100.0%"
    shown = first.images[0].get_array()
    assert shown[0, 3] == 25 and shown[2].sum() == 0  # a class that does not occur stays empty


def test_color_distances_stand_where_the_colours_are():
    candidates = {"mean": (palette.TEST_COLOR, palette.PALETTE), "white": ((255, 255, 255), palette.PALETTE)}
    (axes,) = figures.color_distances(candidates).axes
    gaps = (palette.PALETTE.double() - palette.TEST_COLOR.double()).norm(dim=1) / 255
    drawn = {text.get_text(): text.get_position() for text in axes.texts[:10]}
    for label in range(10):
        assert drawn[str(label)][0] == pytest.approx(float(gaps[label]))
    heights = [round(drawn[str(label)][1], 6) for label in range(6)]
    assert len(set(heights)) == 6  # six classes tie and are stacked, not drawn over each other
    assert axes.get_xlim()[1] > math.sqrt(3)  # the farthest that two colours can be


def test_neighbour_distances_draw_an_anchor_per_dot_and_leave_out_the_lonely():
    positive, negative = torch.tensor([1.0, 2.0, math.inf, 0.5]), torch.tensor([4.0, 3.0, 2.0, math.inf])
    pairs = {"a": (positive, negative), "b": (positive[:2] * 10, negative[:2]), "alone": (positive[2:3], negative[3:])}
    first, second, alone = figures.neighbour_distances(pairs, margins=(0.5, 2.0)).axes
    assert len(alone.collections[0].get_offsets()) == 0
    assert first.collections[0].get_offsets().tolist() == [[4.0, 1.0], [3.0, 2.0]]
    assert first.get_xlim() == second.get_xlim() == first.get_ylim()  # one scale, so that panels can be compared
    slopes = [line.get_ydata()[1] / line.get_xdata()[1] for line in first.lines]
    assert slopes == pytest.approx([0.5, 2.0])
    names = {text.get_text(): text.xy for text in first.texts if text.get_text() != "m"}
    assert names == {name: tuple(line.get_xydata()[1]) for name, line in zip(("0.5", "2"), first.lines)}


@pytest.mark.parametrize("rows", [1, ["above", "a longer name below"]])
def test_image_grid_leaves_no_strip_blank(rows):
    seen = (pixels(figures.image_grid(digits()[0][:20], rows=rows)) < 250).any(2)
    for side in (seen, seen.T):
        filled = np.flatnonzero(side.any(0))
        assert filled[0] < 20 and len(side.T) - 1 - filled[-1] < 20  # a tenth of an inch
    images = pixels(figures.image_grid(digits()[0][:1].new_zeros(1, 3, 28, 28))) == 0
    assert abs(images.all(2).any(0).sum() - images.all(2).any(1).sum()) <= 2  # square


def test_a_figure_of_other_digits_says_so_within_and_hides_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path))
    for preset, noted in (("digits", True), ("quick", False), ("paper", False)):
        figure = figures.push_rule()
        before = figure.get_figheight()
        figures.save(figure, "one", preset)
        figures.save(figure, "one", preset)
        notes = [text for text in figure.texts if "scikit-learn's digits, not MNIST" in text.get_text()]
        assert len(notes) == noted and (figure.get_figheight() > before) == noted
        if noted:
            lowest = min(box.y0 for box in (axes.get_tightbbox() for axes in figure.axes))
            assert notes[0].get_window_extent().y1 < lowest
