"""Figure 3: what is stored is what the network did, the numbers are right, and the page works in a browser."""

import dataclasses
import inspect
import io
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from browser import Browser, needs_chromium
from PIL import Image
from stub_runs import record as stub_record

from mnistmp import engine, figures, latent, paper, paths, records
from mnistmp.data import palette
from mnistmp.errors import InputError
from mnistmp.figures import interactive
from mnistmp.latent import embedding as work
from mnistmp.latent import file
from mnistmp.latent import panels as planned

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


def embedding(view=latent.PANELS[0], count=40, seed=0, **changes):
    random, spec = np.random.default_rng(0), spec_of(view.row, seed)
    labels = np.arange(count) % 10
    about = {"key": spec.key(), "spec": spec.to_json(), "row": view.row, "split": view.split, "seed": seed, "epoch": 1,
             "record": "equal", "tsne": work.settings(seed), "environment": {"python": "3"},
             "numbers": {"accuracy": 0.5, "purity": 0.5, "intra": 1.0, "inter": 2.0, "digits": count}}  # fmt: skip
    values = {"xy": random.normal(0, 9, (count, 2)), "labels": labels, "predicted": (labels + labels % 2) % 10,
              "index": np.arange(count), "about": about}  # fmt: skip
    return latent.Embedding(view.title, **{**values, **changes})


# ---- what the figure is ----


def test_panels_are_the_papers():
    assert [view.letter for view in latent.PANELS] == list("abcdef")
    assert {view.row for view in latent.PANELS} <= {row.id for row in paper.trainings()}
    assert [(view.row, view.split) for view in latent.PANELS[::5]] == [("standard", "val"), ("rcl-inf", "test")]


def test_no_argument_of_tsne_is_left_to_scikit_learn():
    from sklearn.manifold import TSNE

    assert {*latent.TSNE, "random_state"} == set(inspect.signature(TSNE).parameters)
    json.dumps(work.settings(0), allow_nan=False)


def test_tsne_repeats_itself_and_keeps_neighbours():
    random = np.random.default_rng(1)
    features = np.concatenate([random.normal(9 * c, 1, (40, 30)) for c in range(3)]).astype(np.float32)
    first = latent.tsne(features, seed=0)
    assert first.dtype == np.float32 and first.shape == (120, 2)
    assert (first == latent.tsne(features, seed=0)).all()
    middles = first.reshape(3, 40, 2).mean(1)
    nearest = np.linalg.norm(first[:, None] - middles, axis=2).argmin(1)
    assert (nearest == np.repeat(range(3), 40)).all()
    assert latent.tsne(features, seed=0, pca=5).shape == (120, 2)


@pytest.mark.parametrize("features", [np.eye(60)[:20], np.full((60, 8), np.nan), np.ones((60, 8)), 1e-30 * np.eye(60)])
def test_features_without_a_picture_are_said(features):
    with pytest.raises(InputError, match="t-SNE cannot place"):  # the last two would end this process
        latent.tsne(features.astype(np.float32), seed=0)


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
    names, made = ("accuracy", "purity", "intra", "inter"), [embedding(view) for view in latent.PANELS]
    for view, panel in zip(latent.PANELS, made):
        panel.about["numbers"] = dict(zip(names, rows[view.letter]))
    table = latent.claims(made)
    assert len(table) == len(latent.CLAIMS) and set(table["holds here"]) == {"yes"}
    assert table.iloc[2, 2:4].tolist() == ["(a) to (b) 0.79", "(e) to (f) 0.06"]
    assert latent.numbers(made)["ratio"].tolist() == [0.25, 0.5, 0.5, 0.75, 0.9, 0.875]
    made[3].about["numbers"]["intra"] = 0.5
    assert latent.claims(made)["holds here"].tolist() == ["no", "yes", "yes", "yes", "yes"]
    few = [made[0], *[latent.Embedding(view.title, (), (), ()) for view in latent.PANELS[1:]]]
    assert latent.claims(few).empty and latent.numbers(few).index.tolist() == ["a"]


# ---- files ----


def test_a_panel_is_read_as_it_was_saved_and_is_small(place):
    for count in (40, 10_000):
        saved = embedding(count=count)
        path = file.save(saved, PRESET)
        content = path.read_bytes()
        assert path == place / "results/digits/latent/standard-val-seed-0.npz" and len(content) < 130_000
        found = latent.load(PRESET)[0]
        for name in ("xy", "labels", "predicted", "index"):
            assert np.allclose(getattr(found, name), getattr(saved, name))
        assert {"format": file.FORMAT, **saved.about} == dict(found.about) and found.title == saved.title
        assert file.save(found, PRESET).read_bytes() == content  # byte for byte
        assert len(figures.latent_space([found]).axes) == 1


def test_what_is_not_there_has_no_points(place):
    file.save(embedding(latent.PANELS[3]), PRESET)
    found = latent.load(PRESET)
    assert [len(panel) for panel in found] == [0, 0, 0, 40, 0, 0]
    assert [panel.title for panel in found] == [view.title for view in latent.PANELS]
    figures.latent_space(found)
    assert [len(panel) for panel in latent.load(PRESET, seed=1)] == [0] * 6


def test_a_panel_of_another_run_or_picture_is_refused(place):
    saved = embedding()
    coarse, seeded = {**work.settings(0), "perplexity": 5.0}, work.settings(1)
    faster = dataclasses.replace(spec_of(), learning_rate=0.5)
    other = {"key": faster.key(), "spec": faster.to_json()}
    for changed in (other, {"tsne": coarse}, {"tsne": seeded}):
        file.save(dataclasses.replace(saved, about={**saved.about, **changed}), PRESET)
        with pytest.raises(InputError, match="standard-val-seed-0.npz was made from another run, split or t-SNE"):
            latent.load(PRESET)


def rewrite(path, **changes):
    with np.load(path) as stored:
        np.savez(path, **{**stored, **changes})


FORMAT_2 = np.frombuffer(b'{"format": 2}', np.uint8)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: path.write_bytes(path.read_bytes()[:200]), "not a zip file"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n")), ""),
        (lambda path: path.write_bytes(b""), "No data left in file"),
        (lambda path: rewrite(path, xy=np.full((40, 2), np.nan, np.float32)), "not finite"),
        (lambda path: rewrite(path, xy=np.zeros((39, 2), np.float32)), "arrays do not fit each other"),
        (lambda path: rewrite(path, labels=np.zeros(40, object)), "allow_pickle=False"),
        (lambda path: rewrite(path, labels=np.zeros(40, np.int64)), "does not hold the arrays xy, labels"),
        (lambda path: rewrite(path, about=FORMAT_2), "of format version 2 instead of 1"),
    ],
)
def test_a_broken_file_is_named_with_the_remedy(place, spoil, words):
    spoil(file.save(embedding(), PRESET))
    with pytest.raises(InputError, match=rf"-val-seed-0.npz cannot be used: .*{words}.*; delete it"):
        latent.load(PRESET)


def test_committed_panels_are_read_and_written_back_byte_for_byte(monkeypatch, tmp_path):
    committed = {path.name: path.read_bytes() for path in (paths.results("paper") / "latent").glob("*.npz")}
    panels = latent.load("paper")
    assert len(committed) == len(panels) == 6 and all(len(panel) == 10_000 for panel in panels)
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    assert {path.name: path.read_bytes() for path in (file.save(panel, "paper") for panel in panels)} == committed


# ---- computing ----


def test_what_is_missing_is_computed_once_and_compared_with_the_record(place, monkeypatch):
    monkeypatch.setattr(work, "tsne", lambda features, seed: features[:, :2])
    trained = engine.fit_selected(spec_of(), device="cpu")  # once: training again would give the same
    monkeypatch.setattr(engine, "fit_selected", lambda spec, device, on_epoch: trained)
    said, views = [], latent.PANELS[:2]
    written = latent.compute(PRESET, views=views, progress=said.append)
    assert [path.name for path in written] == ["standard-val-seed-0.npz", "standard-test-seed-0.npz"]
    run = records.find(spec_of(), PRESET)  # a training that had no record gets one
    for view, counted in zip(views, ("val_correct", "test_correct")):
        panel = latent.load(PRESET, views=[view])[0]
        right = (panel.labels == panel.predicted).sum()
        assert right == run.history[0][counted] == round(360 * panel.about["numbers"]["accuracy"])
        assert panel.about["record"] == "new" and panel.about["epoch"] == 1 and (panel.xy >= 0).all()
    assert latent.compute(PRESET, views=views, progress=said.append) == [] and len(said) == 2

    written[0].unlink()
    assert latent.compute(PRESET, views=views, progress=said.append) == written[:1]
    assert latent.load(PRESET)[0].about["record"] == "equal" and len(said) == 3

    written[0].unlink()
    path = records.record_path(PRESET, "standard", 0)
    other = dataclasses.replace(run, history=[{**run.history[0], "test_correct": 1}], environment={"path": "other"})
    path.write_text(other.to_text())
    latent.compute(PRESET, views=views, progress=said.append)
    assert latent.load(PRESET)[0].about["record"] == "differs"
    assert latent.remarks(latent.load(PRESET), PRESET) == [
        "Not computed yet: (c), (d), (e), (f); run mnistmp latent --preset digits.",
        "Of another course than the run in Table 2: (a); machine or code differ.",
    ]
    assert said[3].startswith("standard seed 0: this run takes another course than the recorded one")


def test_what_a_notebook_asks_for(place, monkeypatch):
    asked = []
    ask = lambda preset, seed, views, progress: asked.append((seed, [view.letter for view in views]))  # noqa: E731
    monkeypatch.setattr(planned, "compute", ask)
    assert latent.embed_planned(PRESET) == []
    latent.embed_planned(PRESET, "3-5", "standard,rcl-inf")
    latent.embed_planned(PRESET, "0", "dropout")
    assert asked == [(3, list("abef")), (0, [])]
    assert latent.seed_of(PRESET, "recorded") == 0


def test_a_training_that_diverged_has_nothing_to_show(place, monkeypatch):
    spec = spec_of("rcl-inf")
    records.save(stub_record(spec, status="diverged", history=[], diverged_epoch=1), PRESET)
    assert spec not in latent.missing(PRESET) and len(latent.missing(PRESET)) == 3


@pytest.mark.parametrize("recorded", [True, False])
def test_a_training_that_diverges_is_recorded_and_named(place, monkeypatch, recorded):
    spec = spec_of("rcl-inf")
    lost = stub_record(spec, status="diverged", history=[], diverged_epoch=1)
    if recorded:  # as done, on another machine
        records.save(stub_record(spec), PRESET)

    def diverge(spec, device, on_epoch):
        raise engine.Diverged(lost)

    monkeypatch.setattr(engine, "fit_selected", diverge)
    with pytest.raises(InputError, match="rcl-inf seed 0 diverged in epoch 1; there is no network"):
        latent.compute(PRESET, 0, latent.PANELS[-1:])
    assert records.find(spec, PRESET).status == ("done" if recorded else "diverged")


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
    assert latent.save_interactive(latent.load(PRESET), PRESET) is None
    for view in latent.PANELS[1:3]:
        file.save(embedding(view, count=360), PRESET)
    shown = []
    monkeypatch.setattr(interactive, "latent_space", lambda *args, **more: shown.append((args, more)) or "page")
    path = latent.save_interactive(latent.load(PRESET), PRESET)
    assert path == paths.figures(PRESET) / "figure3.html" and path.read_text() == "page"
    (((panels, images), about),) = shown
    assert [panel.title for panel in panels] == [view.title for view in latent.PANELS[1:3]] and len(images) == 360
    assert about["letters"] == "bc" and about["captions"] == ["neighbour purity 50.0%"] * 2
    assert all((colors == palette.TEST_COLOR).all() for colors in about["colors"])  # (c) is trained on grey digits
    monkeypatch.setenv("MNISTMP_DATA", str(place / "nothing"))
    spec = dataclasses.replace(spec_of(), dataset="mnist").to_json()
    there = [dataclasses.replace(embedding(), about={**embedding().about, "spec": spec})]
    assert latent.save_interactive(there, PRESET) is None


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


def test_stored_files_hold_no_pickle_and_no_date(place):
    path = file.save(embedding(), PRESET)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
