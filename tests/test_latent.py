"""Figure 3: what is stored is what the network did, the numbers are right, and the page works in a browser."""

import dataclasses
import inspect
import io
import json
import re

import numpy as np
import pytest
import torch
from browser import Browser, needs_chromium
from PIL import Image
from stub_runs import record as stub_record

from mnistmp import engine, evidence, figures, latent, paper, paths, records
from mnistmp.data import palette
from mnistmp.errors import InputError
from mnistmp.figures import interactive

PRESET = "digits"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Results and figures of its own, and a preset of one epoch."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    fields = {"dataset": "digits", "epochs": 1}
    short = dataclasses.replace(paper.PRESETS[PRESET], precision="float32", fields=fields)
    monkeypatch.setitem(paper.PRESETS, PRESET, short)
    return tmp_path


def spec_of(row="standard", seed=0):
    return paper.spec_for(row, seed, PRESET, "float32")


NUMBERS = {"accuracy": 0.5, "purity": 0.5, "intra": 1.0, "inter": 2.0, "digits": 40}


def embedding(view=latent.PANELS[0], count=40, **numbers):
    labels = np.arange(count) % 10
    xy = np.random.default_rng(0).normal(0, 9, (count, 2))
    return latent.Embedding(view.title, xy, labels, (labels + labels % 2) % 10, {**NUMBERS, **numbers})


# ---- what the figure is ----


def test_panels_are_the_papers():
    assert [view.letter for view in latent.PANELS] == list("abcdef")
    assert {view.row for view in latent.PANELS} <= {row.id for row in paper.trainings()}
    assert [(view.row, view.split) for view in latent.PANELS[::5]] == [("standard", "val"), ("rcl-inf", "test")]


def test_no_argument_of_tsne_is_left_to_scikit_learn():
    from sklearn.manifold import TSNE

    assert set(latent.TSNE) == set(inspect.signature(TSNE).parameters)
    json.dumps(latent.TSNE, allow_nan=False)


def test_tsne_repeats_itself_and_keeps_neighbours():
    random = np.random.default_rng(1)
    features = np.concatenate([random.normal(9 * c, 1, (40, 30)) for c in range(3)]).astype(np.float32)
    first = latent.tsne(features)
    assert first.dtype == np.float32 and first.shape == (120, 2)
    assert (first == latent.tsne(features)).all()
    middles = first.reshape(3, 40, 2).mean(1)
    nearest = np.linalg.norm(first[:, None] - middles, axis=2).argmin(1)
    assert (nearest == np.repeat(range(3), 40)).all()


@pytest.mark.parametrize("features", [np.eye(60)[:20], np.full((60, 8), np.nan), np.ones((60, 8)), 1e-30 * np.eye(60)])
def test_features_without_a_picture_are_said(features):
    with pytest.raises(InputError, match="t-SNE cannot place"):  # the last two would end this process
        latent.tsne(features.astype(np.float32))


# ---- numbers ----


def test_measures_agree_with_plain_loops():
    random = np.random.default_rng(2)
    labels = np.arange(50).astype(np.uint8) % 3
    features = (random.normal(0, 1, (50, 8)) + labels[:, None]).astype(np.float32)
    features[:, 3] = 7.0  # never changes
    scaled = [(x - x.min()) / (x.max() - x.min()) if np.ptp(x) else 0 * x for x in features.astype(float).T]
    points = np.array(scaled).T
    distance = [[sum(abs(a - b) for a, b in zip(p, q)) for q in points] for p in points]
    same, other, pure = [], [], []
    for i in range(50):
        nearest = sorted((j for j in range(50) if j != i), key=lambda j: distance[i][j])[: latent.measures.NEIGHBOURS]
        pure.append(np.mean([labels[j] == labels[i] for j in nearest]))
        for j in range(50):
            if j != i:
                (same if labels[i] == labels[j] else other).append(distance[i][j])
    found = latent.measure(features, labels, (labels + (labels == 0)).astype(np.uint8))
    assert found["accuracy"] == pytest.approx((labels > 0).mean()) and found["digits"] == 50
    assert found["purity"] == pytest.approx(np.mean(pure))
    assert found["intra"] == pytest.approx(np.mean(same), rel=1e-5)
    assert found["inter"] == pytest.approx(np.mean(other), rel=1e-5)


def test_claims_compare_what_they_name():
    rows = {"a": (0.99, 1.0, 1, 4), "b": (0.2, 0.7, 2, 4), "c": (0.98, 0.9, 2, 4), "d": (0.99, 0.9, 3, 4),
            "e": (0.96, 0.6, 3.6, 4), "f": (0.9, 0.55, 3.5, 4)}  # fmt: skip
    names = ("accuracy", "purity", "intra", "inter")
    made = [embedding(view, **dict(zip(names, rows[view.letter]))) for view in latent.PANELS]
    table = latent.claims(made)
    assert len(table) == len(latent.CLAIMS) and table["holds here"].tolist() == [
        f"yes, by {by}" for by in ("0.50", "0.30", "0.73", "0.25", "0.40")
    ]
    assert table.iloc[2, 2:4].tolist() == ["(a) to (b) 0.79", "(e) to (f) 0.06"]
    assert latent.numbers(made)["ratio"].tolist() == [0.25, 0.5, 0.5, 0.75, 0.9, 0.875]
    made[3].numbers["intra"] = 0.5
    assert latent.claims(made)["holds here"][0] == "no, by 0.12"
    few = [made[0], *[latent.Embedding(view.title, (), (), ()) for view in latent.PANELS[1:]]]
    assert latent.claims(few).empty and latent.numbers(few).index.tolist() == ["a"]


# ---- from networks ----


def test_panels_show_what_the_networks_of_their_rows_did(place, monkeypatch):
    monkeypatch.setattr("mnistmp.latent.embedding.tsne", lambda features: features[:, :2])
    views = latent.PANELS[:2]
    panels = latent.load(PRESET, views=views)
    run = records.find(spec_of(), PRESET)  # a training that had no record gets one
    for panel, view, counted in zip(panels, views, ("val_correct", "test_correct")):
        right = (panel.labels == panel.predicted).sum()
        assert right == run.history[0][counted] == round(360 * panel.numbers["accuracy"])
        assert panel.title == view.title and set(panel.numbers) == set(NUMBERS) and (panel.xy >= 0).all()
    monkeypatch.setattr(engine, "fit_selected", None)  # not needed: what was seen is kept
    again = latent.load(PRESET, views=views)
    assert all((one.xy == other.xy).all() for one, other in zip(panels, again))
    assert len(figures.latent_space(again).axes) == 2


def test_a_run_that_diverged_has_nothing_to_show(place):
    lost = stub_record(spec_of("rcl-inf"), status="diverged", history=[], diverged_epoch=1)
    records.save(lost, PRESET)
    panels = latent.load(PRESET, views=latent.PANELS[-2:])
    assert not any(panels) and [panel.title for panel in panels] == [view.title for view in latent.PANELS[-2:]]
    figures.latent_space(panels)


def test_committed_panels_are_those_of_the_papers_runs(monkeypatch):
    monkeypatch.setattr(evidence, "trained", lambda *a, **k: pytest.fail("an embedding is missing or out of date"))
    panels = latent.load("paper")
    assert [len(panel) for panel in panels] == [10_000] * 6
    for view, panel in zip(latent.PANELS, panels):
        assert (panel.labels == panel.predicted).mean() == pytest.approx(panel.numbers["accuracy"])
        path = paths.results("paper") / "evidence" / view.row / "latent_space-seed-0.npz"
        assert path.stat().st_size < 300_000


def test_features_of_half_precision_are_stored_in_full(place):
    from mnistmp.engine.splits import Splits

    spec = dataclasses.replace(spec_of(), precision="bfloat16")
    network, splits = engine.build(spec, torch.device("cpu")), Splits(spec, torch.device("cpu"))
    features, labels, predicted = latent.outputs(network, splits, "test")
    assert features.dtype == np.float32 and features.shape == (360, 2048)
    assert labels.dtype == predicted.dtype == np.uint8
    assert (labels == predicted).sum() == engine.count_correct(network, splits, "test")


# ---- the interactive figure ----


def page_of(count=40, views=2):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 28, 28), generator=random, dtype=torch.uint8)
    made = [embedding(view, count) for view in latent.PANELS[:views]]
    colors = [palette.PALETTE, palette.TEST_COLOR.expand(10, 3)] * 3
    return interactive.latent_space(made, images, colors[:views], ["purity"] * views, "abcdef"[:views]), made, images


def test_the_page_holds_nothing_of_chance_and_says_what_it_leaves_out():
    first, second = (re.sub(r"\bp\d{4,}\b", "id", page_of()[0]) for _ in range(2))  # counted per process
    assert first == second and "Only the first" not in first
    assert "Only the first 2,000 digits can be pointed at" in page_of(2001, 1)[0]


def test_the_page_is_written_where_there_is_something_to_show(place, monkeypatch):
    nothing = latent.Embedding("", (), (), ())
    assert latent.save_interactive([nothing] * 6, PRESET) is None
    panels = [nothing, *(embedding(view, count=360) for view in latent.PANELS[1:3]), nothing, nothing, nothing]
    shown = []
    monkeypatch.setattr(interactive, "latent_space", lambda *args, **more: shown.append((args, more)) or "page")
    path = latent.save_interactive(panels, PRESET)
    assert path == paths.figures(PRESET) / "figure3.html" and path.read_text() == "page"
    (((drawn, images), about),) = shown
    assert drawn == panels[1:3] and len(images) == 360
    assert (
        "not MNIST" in about["digits_note"]
        and about["letters"] == "bc"
        and about["captions"] == ["neighbour purity 50.0%"] * 2
    )
    assert all((colors == palette.TEST_COLOR).all() for colors in about["colors"])  # (c) is trained on grey digits
    monkeypatch.setenv("MNISTMP_DATA", str(place / "nothing"))
    assert latent.save_interactive(panels, "paper") is None


WHERE = """(() => { const { origin: plot } = { origin: Bokeh.documents[0].roots()[2] };
const view = Bokeh.index.find_one(plot), box = view.el.getBoundingClientRect(), { data } = model("digits");
const x = view.frame.x_scale.compute(data.x1[7]), y = view.frame.y_scale.compute(data.y1[7]);
return [box.left + x, box.top + y]; })()"""


@pytest.mark.slow
@needs_chromium
def test_the_page_works_in_a_browser(tmp_path):
    page, made, images = page_of()
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    requests = []
    with Browser(tmp_path / "profile") as browser:
        browser.page.on("request", lambda request: requests.append(request.url))
        browser.open(tmp_path / "page.html", 1280, 900)
        browser.wait("window.Bokeh?.documents[0]?.is_idle")
        assert browser.evaluate("document.documentElement.scrollHeight") <= 900
        x, y = browser.evaluate(WHERE)
        browser.page.mouse.move(x + 2, y)  # at digit 7 in panel (b)
        tip, readout = browser.page.locator("#tip"), browser.page.locator("#readout")
        label, predicted = made[1].labels[7], made[1].predicted[7]
        assert tip.inner_text() == f"class {label}\npredicted {predicted}, wrong"
        assert readout.inner_text().startswith(f"Digit 7 of the test set, class {label}; predicted as")
        assert browser.evaluate("model('chosen').data.x0[0]") == pytest.approx(made[0].xy[7, 0])
        for picture, color in zip(readout.locator(".digit").all(), (palette.PALETTE, palette.TEST_COLOR.expand(10, 3))):
            picture.evaluate("e => { e.style.cssText += 'zoom: 1; position: fixed; left: 0; top: 0; z-index: 99' }")
            shot = np.array(Image.open(io.BytesIO(picture.screenshot())).convert("RGB"))
            level = images[7].numpy()[..., None] * color[label].double().numpy() / 255
            assert shot.shape == (28, 28, 3) and abs(shot - level).max() <= 1  # as the network saw it
        browser.page.keyboard.press("ArrowRight")
        assert readout.inner_text().startswith("Digit 8 of the test set") and tip.is_hidden()
        browser.page.get_by_role("button", name="predicted right").click()
        assert readout.inner_text() == "No digit chosen."
    assert requests == [f"file://{tmp_path / 'page.html'}"]  # and nothing from elsewhere
    assert not [problem for problem in browser.problems if problem.startswith(("error", "warning"))]


@pytest.mark.slow
@needs_chromium
def test_all_panels_are_seen_at_once_on_a_desk_and_one_below_the_other_on_a_phone(tmp_path):
    (tmp_path / "page.html").write_text(page_of(views=6)[0], encoding="utf-8")
    edges = """[...document.querySelectorAll("main > div, #readout")].map(one => one.getBoundingClientRect())
        .map(box => [box.left, box.top + scrollY, box.right, box.bottom + scrollY])"""
    with Browser(tmp_path / "profile") as browser:
        for width, height in ((1280, 900), (1600, 1000), (1280, 720), (390, 844)):
            browser.open(tmp_path / "page.html", width, height)
            browser.wait("window.Bokeh?.documents[0]?.is_idle")
            browser.page.keyboard.press("ArrowRight")  # what is then read about the digit takes room, too
            left, top, right, bottom = np.array(browser.evaluate(edges)).T
            assert len(left) == 7 and left.min() >= 0 and right.max() <= width
            assert len({*left[:6]}) == (1 if width == 390 else 3)
            assert width == 390 or (bottom.max() <= height and (bottom - top)[:6].min() > 200)
        assert not [problem for problem in browser.problems if problem.startswith(("error", "warning"))]
