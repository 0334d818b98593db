"""Figure 3: what is stored is what the network did, the numbers are right, and the page works in a browser."""

import base64
import dataclasses
import inspect
import io
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from browser import Browser, needs_chromium
from mnistmp import engine, figures, latent, paper, paths, records
from mnistmp.data import palette
from mnistmp.figures import interactive
from mnistmp.latent import embedding as work
from mnistmp.latent import file, panels, picture
from stub_runs import record as stub_record

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
             "record": "equal", "tsne": picture.settings(seed), "environment": {"python": "3"},
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
    json.dumps(picture.settings(0), allow_nan=False)


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
        found = latent.find(latent.PANELS[0], spec_of(), PRESET)
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
    coarse, seeded = {**picture.settings(0), "perplexity": 5.0}, picture.settings(1)
    faster = dataclasses.replace(spec_of(), learning_rate=0.5)
    other = {"key": faster.key(), "spec": faster.to_json()}
    for changed, what in ((other, "run"), ({"tsne": coarse}, "t-SNE"), ({"tsne": seeded}, "t-SNE")):
        file.save(dataclasses.replace(saved, about={**saved.about, **changed}), PRESET)
        with pytest.raises(latent.LatentError, match=rf"standard-val-seed-0.npz was made from another {what} "):
            latent.load(PRESET)


def arrays_of(path):
    with np.load(path) as archive:
        return dict(archive)


def bytes_of(text):
    return np.frombuffer(text.encode(), np.uint8)


def told(arrays, **changes):
    """The file's description with other values."""
    return bytes_of(json.dumps({**json.loads(arrays["about"].tobytes()), **changes}))


def announcing(path, honest, absurd):
    """The file with an array whose head promises more than there is: nothing may be allocated on its word."""
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(packed, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename == "xy.npy":
                head = content[: 10 + int.from_bytes(content[8:10], "little")]
                longer = head[10:].replace(honest, absurd).rstrip() + b"\n"
                content = head[:8] + len(longer).to_bytes(2, "little") + longer + content[len(head) :]
            target.writestr(entry.filename, content)
    return packed.getvalue()


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path, arrays: path.write_bytes(path.read_bytes()[:200]), "torn or not of this kind"),
        (lambda path, arrays: path.write_bytes(b""), "torn or not of this kind"),
        (lambda path, arrays: np.savez(path, **{**arrays, "extra": np.zeros(1)}), "it holds about, extra, index"),
        (lambda path, arrays: np.savez(path, **{**arrays, "xy": arrays["xy"] * np.nan}), "coordinate is not finite"),
        (lambda path, arrays: np.savez(path, **{**arrays, "xy": arrays["xy"][:-1]}), r"xy is float32 \(39, 2\)"),
        (lambda path, arrays: np.savez(path, **{**arrays, "labels": arrays["labels"] + 1}), "class is above 9"),
        (lambda path, arrays: np.savez(path, **{**arrays, "labels": arrays["labels"].astype(object)}), "torn or not"),
        (lambda path, arrays: np.savez(path, **{**arrays, "index": arrays["index"][::-1]}), "out of order"),
        (lambda path, arrays: np.savez(path, **{**arrays, "about": arrays["about"][:-3]}), "torn or not of this kind"),
        (lambda path, arrays: np.savez_compressed(path, **{**arrays, "xy": np.zeros((2_000_000, 2), np.float32)}),
         "an array is too large"),
        (lambda path, arrays: path.write_bytes(announcing(path, b"'shape': (40, 2)", b"'shape': (10**12, 2)")),
         "torn or not"),
        (lambda path, arrays: path.write_bytes(announcing(path, b"'shape': (40, 2)", b"'shape': (9000000000000, 2)")),
         "torn or not"),
        (lambda path, arrays: path.write_bytes(path.read_bytes() + bytes(file.SIZE_LIMIT)), "it is larger than"),
        (lambda path, arrays: np.savez(path, **{**arrays, "about": told(arrays, spec={})}), "its spec is invalid"),
        (lambda path, arrays: np.savez(path, **{**arrays, "about": told(arrays, key="0" * 16)}), "not that of its spec"),
        (lambda path, arrays: np.savez(path, **{**arrays, "about": bytes_of("[" * 100_000)}), "torn or not"),
        (lambda path, arrays: np.savez(path, **{**arrays, "about": bytes_of('{"format": NaN}')}), "it holds NaN|holds NaN"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_the_remedy(place, spoil, words):
    path = file.save(embedding(), PRESET)
    spoil(path, arrays_of(path))
    sentence = rf"standard-val-seed-0.npz is no usable .*{words}.*; delete it and run mnistmp"
    with pytest.raises(latent.LatentError, match=sentence):
        latent.load(PRESET)


def test_nothing_wrong_is_written(place):
    wrong = embedding()
    for changes in ({"xy": np.full((40, 2), np.inf)}, {"about": {**wrong.about, "numbers": {}}}):
        with pytest.raises(latent.LatentError, match="is not written: "):
            file.save(dataclasses.replace(wrong, **changes), PRESET)
    assert not (place / "results").exists()


# ---- computing ----


def test_what_is_missing_is_computed_once_and_compared_with_the_record(place, monkeypatch):
    monkeypatch.setattr(work, "tsne", lambda features, seed: features[:, :2])
    trained = engine.fit_selected(spec_of(), device="cpu")  # once: training again would give the same
    monkeypatch.setattr(engine, "fit_selected", lambda spec, device: trained)
    said, views = [], latent.PANELS[:2]
    written = latent.compute(PRESET, views=views, progress=said.append)
    assert [path.name for path in written] == ["standard-val-seed-0.npz", "standard-test-seed-0.npz"]
    run = records.find(spec_of(), PRESET)  # a training that had no record gets one
    for view, counted in zip(views, ("val_correct", "test_correct")):
        panel = latent.find(view, spec_of(), PRESET)
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
        "Of another course than the training in Table 2: (a); machine or code differ.",
    ]
    begin = "standard seed 0: this training differs from the recorded one from epoch 1 on; path and "
    assert said[3].startswith(begin) and said[3].endswith("; Figure 3 shows this one, Table 2 that one.")


def test_what_a_notebook_asks_for(place, monkeypatch):
    asked = []
    ask = lambda preset, seed, views, progress: asked.append((seed, [view.letter for view in views]))  # noqa: E731
    monkeypatch.setattr(work, "compute", ask)
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

    def diverge(spec, device):
        raise engine.Diverged(lost)

    monkeypatch.setattr(engine, "fit_selected", diverge)
    with pytest.raises(latent.LatentError, match="rcl-inf seed 0 diverged in epoch 1; there is no network"):
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


# ---- the page ----


def page_of(count=40, title="standard, validation", images=None, views=2):
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 28, 28), generator=random, dtype=torch.uint8) if images is None else images
    made = [dataclasses.replace(embedding(view, count), title=title) for view in latent.PANELS[:views]]
    return interactive.html(made, images, [interactive.worn_colors(panel.about) for panel in made]), made, images


def content_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def test_the_page_holds_what_was_given_and_nothing_from_elsewhere():
    title = "</script><img src=x onerror=alert(1)> & m = ∞"
    assert not re.search(r"(src|href)=|@import|https?:|url\(|__DATA__", page_of()[0])
    page, made, images = page_of(title=title)
    content = content_of(page)
    assert "<img" not in page and page.count("</script>") == page_of()[0].count("</script>")
    assert content["classes"] == list(figures.CLASSES)
    first, second = content["panels"]
    assert first["title"] == title and (first["letter"], second["letter"]) == ("a", "b")
    assert first["colors"] == palette.PALETTE.tolist() and second["colors"] == [[127, 127, 127]] * 10
    assert first["index"] is None
    places = np.frombuffer(base64.b64decode(first["xy"]), "<u2").reshape(-1, 2).astype(float)
    assert places.min() > 0 and places.max() < 65535
    scale = np.ptp(places, axis=0) / np.ptp(made[0].xy, axis=0)
    assert scale[0] == pytest.approx(scale[1], rel=1e-3)  # one scale for both axes
    assert list(base64.b64decode(first["predicted"])) == made[0].predicted.tolist()
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(content["sprite"]["src"].partition(",")[2]))))
    columns = content["sprite"]["columns"]
    for digit in (0, columns, 39):
        top, left = divmod(digit, columns)
        assert (sheet[28 * top : 28 * top + 28, 28 * left : 28 * left + 28] == images[digit].numpy()).all()


def test_ten_thousand_digits_fit_into_a_small_page():
    stroke = torch.zeros(10_000, 28, 28, dtype=torch.uint8)
    stroke[:, 4:24, 8:20] = torch.randint(0, 256, (10_000, 20, 12), dtype=torch.uint8)  # worse to compress than digits
    page, _, _ = page_of(10_000, images=stroke, views=6)
    content = content_of(page)
    assert len(page) < 2_500_000 and content["sprite"]["count"] == interactive.PICTURES
    assert "Of the 10,000 digits only the first 2,000 can be pointed at" in content["note"]


def test_the_page_is_written_where_there_is_something_to_show(place, monkeypatch):
    assert interactive.save(latent.load(PRESET), PRESET) is None
    for view in latent.PANELS[1:3]:
        file.save(embedding(view, count=360), PRESET)
    path = interactive.save(latent.load(PRESET), PRESET)
    assert path == paths.figures(PRESET) / "figure3.html"
    content = content_of(path.read_text(encoding="utf-8"))
    assert [panel["letter"] for panel in content["panels"]] == ["b", "c"]
    assert content["panels"][1]["colors"] == [[127, 127, 127]] * 10  # (c) is trained on grey digits
    monkeypatch.setenv("MNISTMP_DATA", str(place / "nothing"))
    spec = dataclasses.replace(spec_of(), dataset="mnist").to_json()
    there = [dataclasses.replace(embedding(), about={**embedding().about, "spec": spec})]
    assert interactive.save(there, PRESET) is None
    with pytest.raises(ValueError, match="give as many of each"):
        interactive.html([], torch.zeros(1, 28, 28), [])


# Run inside the page, after its own script.
CHECK = """<script>
const say = (name, value) => { document.documentElement.dataset[name] = value; };
function check() {
  if (!grey) return setTimeout(check, 20);
  const panel = panels[1], box = panel.marks.getBoundingClientRect(), [x, y] = position(panel, 7);
  const where = { clientX: box.left + x, clientY: box.top + y, pointerType: "mouse" };
  panel.marks.dispatchEvent(new PointerEvent("pointermove", where));
  say("tip", [...panel.tip.querySelectorAll("div")].map(line => line.textContent).join("; "));
  say("which", by("which").textContent);
  const canvas = panel.tip.querySelector("canvas");
  const red = canvas.getContext("2d").getImageData(0, 0, 28, 28).data.filter((_, i) => i % 4 === 0);
  say("picture", red.join());
  panel.marks.dispatchEvent(new PointerEvent("pointerleave", { pointerType: "mouse" }));
  say("left", panel.tip.hidden);
  panel.marks.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
  say("spoken", by("spoken").textContent);
  document.querySelector("#toggles button").click();
  say("shown", panels.filter(panel => !panel.figure.hidden).length);
  const pixels = panel.points.getContext("2d").getImageData(0, 0, panel.points.width, panel.points.height).data;
  say("ink", pixels.some(value => value > 0));
  say("checked", "yes");
}
check();
</script>"""


@pytest.mark.slow
@needs_chromium
def test_the_page_works_in_a_browser(tmp_path):
    page, made, images = page_of()
    (tmp_path / "page.html").write_text(page.replace("</body>", f"{CHECK}</body>"), encoding="utf-8")
    with Browser(tmp_path / "profile") as browser:
        browser.open(tmp_path / "page.html", 1200, 1000)
        browser.wait("document.documentElement.dataset.checked")
        found = browser.evaluate("({...document.documentElement.dataset})")
    assert not browser.problems
    label, predicted = made[1].labels[7], made[1].predicted[7]
    assert found["tip"] == f"class {label}; predicted {predicted}, wrong"
    assert found["which"] == f"Digit 7 of the test set, class {label}; predicted as"
    seen = palette.colorize(images[7:8], torch.tensor([palette.TEST]))[0, 0]
    assert found["picture"] == ",".join(map(str, seen.flatten().tolist()))  # as the network saw it, level by level
    assert (found["left"], found["shown"], found["ink"]) == ("true", "1", "true")
    assert re.fullmatch(r"Digit \d+, class \d, predicted \d, (right|wrong)", found["spoken"])


def test_stored_files_hold_no_pickle_and_no_date(place):
    path = file.save(embedding(), PRESET)
    with zipfile.ZipFile(path) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert panels.NOTEBOOK == "09_latent_space"
