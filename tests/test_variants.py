"""Coloured MNISTs: one specification, frozen content, and what their definitions promise."""

import json
import os
import pickle
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torchvision.transforms import Compose, Normalize, ToTensor

import mnistmp
from mnistmp import ColoredMNIST, LeNet, cli, data, evaluate, evidence, paper
from mnistmp.data import palette, variants
from mnistmp.data.variants import VARIANTS, Split
from mnistmp.errors import InputError
from mnistmp.results import audit, irm

FROZEN = json.loads((Path(__file__).parent / "data/variants.json").read_text())
SPLITS = [(name, split) for name, variant in VARIANTS.items() for split in variant.splits]
MNIST = pytest.mark.skipif(not os.environ.get("MNISTMP_DATA"), reason="MNISTMP_DATA is not set")


def digits(variant, split="train", **options):
    return ColoredMNIST(None, variant, split, dataset="digits", **options)


# ---- what is in them ----


@pytest.mark.parametrize("dataset", ["digits", pytest.param("mnist", marks=MNIST)])
def test_frozen_content(dataset):
    """Never changes unnoticed, in no process: results on another content would not be comparable."""
    made = {name: {} for name in VARIANTS}
    for name, split in SPLITS:
        made[name][split] = ColoredMNIST(None, name, split, dataset=dataset).digest()
    assert made == FROZEN[dataset]


def test_mnistmp_is_the_variant_mp():
    from mnistmp import MNISTMP

    for split in palette.SPLITS:
        one, other = MNISTMP(split=split, dataset="digits"), digits("mp", split)
        colored = palette.colorize(one.images, one.color_index).permute(0, 2, 3, 1)
        assert one.digest() == other.digest() and np.array_equal(other.pixels(), colored.numpy())


def test_streams_are_independent():
    """Another split, or noise on the colours, changes nothing of what there is."""
    lntl = VARIANTS["lntl"]
    more = replace(IRM, splits={"extra": Split("test", align=(0.5,)), **IRM.splits})
    assert digits(more).digest() == FROZEN["digits"]["irm"]["train"]
    plain = replace(lntl, splits={name: replace(split, jitter=0.0) for name, split in lntl.splits.items()})
    assert torch.equal(digits(plain, "test").color_index, digits("lntl", "test").color_index)
    other = digits(replace(IRM, seed=1))
    assert not torch.equal(other.targets, digits("irm").targets)
    assert torch.equal(digits("irm", "grey").targets, digits("irm", "test").targets)  # item by item the same digits


def test_sd_is_irm_with_its_environments_as_one():
    irm, sd = digits("irm"), digits("sd")
    assert irm.digest() == sd.digest()
    assert irm.environments.unique().tolist() == [0, 1] and not sd.environments.any()


@MNIST
def test_mnist_has_the_sizes_and_rates_of_the_originals():
    irm = ColoredMNIST(None, "irm")
    assert torch.bincount(irm.environments).tolist() == [25000, 25000]
    assert len(ColoredMNIST(None, "irm", "test")) == 10000
    truth = (irm.digits >= 5).long()
    wrong, worn = irm.targets != truth, irm.color_index != irm.targets
    assert abs(wrong.double().mean() - 0.25) < 4 * (0.25 * 0.75 / 50000) ** 0.5
    for environment, rate in enumerate((0.2, 0.1)):
        own = worn[irm.environments == environment].double().mean()
        assert abs(own - rate) < 4 * (rate * (1 - rate) / 25000) ** 0.5
    assert abs((irm.color_index != truth).double().mean() - 0.325) < 0.01
    sizes = {split: len(ColoredMNIST(None, "gip", split)) for split in ("train", "val", "test", "anomaly")}
    assert sizes == {"train": 45068, "val": 9009, "test": 9020, "anomaly": 980}
    rebias = ColoredMNIST(None, "rebias")
    assert int((rebias.color_index != rebias.targets).sum()) == 63
    uniform = ColoredMNIST(None, "up-uniform", "test")
    table = torch.bincount(10 * uniform.targets + uniform.color_index, minlength=100).view(10, 10)
    assert (table.amax(1) - table.amin(1)).max() <= 1  # every class wears every colour equally often


def test_up_anti_never_wears_its_own_colour():
    test = digits("up-anti", "test")
    assert (test.color_index != test.targets).all() and test.color_index.max() < 10
    assert torch.equal(test.images, digits("up-anti", "val").images)


def test_pixels_of_the_variants():
    irm = digits("irm")
    assert torch.equal(irm.images[0], data.load("digits").train_images[:, ::2, ::2][irm_place(irm)])
    images, labels = irm.tensors(slice(0, 4))
    assert images.shape == (4, 2, 14, 14) and images.dtype == torch.float32 and labels.shape == (4,)
    assert (images[torch.arange(4), irm.color_index[:4]] == 0).all()  # class 0 is green, channel 1
    grey = digits("irm", "grey").pixels()
    assert grey[..., 0].max() == 128 and np.array_equal(grey[..., 0], grey[..., 1]) and not grey[..., 2].any()
    blank = digits("sd", "blank")
    assert len(blank.images.unique()) == 1
    gip = digits("gip")
    assert gip.images.unique().tolist() == [0, 255] and 0 not in gip.digits and gip.targets.max() == 8
    assert (digits("gip", "anomaly").targets == -1).all()
    rebias = digits("rebias", "val")
    pixels, white = rebias.pixels(), rebias.images.numpy() == 255
    assert (pixels[white] == 255).all()
    assert np.array_equal(pixels[:, 0, 0], rebias.colors.numpy()) and pixels.shape[1:] == (28, 28, 3)
    test = digits("mp", "test")
    trained_on = palette.color_batch(test.images, test.color_index, palette.input_table(palette.color_table()))
    assert torch.equal(test.tensors()[0], trained_on)


def irm_place(irm):
    images = data.load("digits").train_images[:, ::2, ::2]
    return int((images == irm.images[0]).all(2).all(1).nonzero()[0])


def test_conventions():
    dataset = digits("irm", "test", transform=np.asarray, target_transform=lambda target: str(target))
    assert pickle.loads(pickle.dumps(digits("irm"))).digest() == digits("irm").digest()  # noqa: S301 (our own bytes)
    image, target = dataset[-1]
    assert image.shape == (14, 14, 3) and target in ("0", "1")
    assert np.array_equal(image, dataset.pixels()[-1])
    assert dataset.classes[0].startswith("0 - zero, 1 - one") and len(dataset.class_to_idx) == 2
    assert "coloured as irm" in repr(dataset)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


# ---- what cannot be ----

MP, IRM = VARIANTS["mp"], VARIANTS["irm"]
BLUE = ((0, 0, 255), (255, 0, 0))


@pytest.mark.parametrize(
    "variant, changes, message",
    [
        (IRM, {"classes": ((0, 1), (1, 2))}, "each digit once"),
        (IRM, {"classes": ((0, 1), ())}, "two or more groups"),
        (MP, {"palette": MP.palette[:9]}, "9 colours for 10 classes"),
        (MP, {"palette": ((0, 0, 256), *MP.palette[1:])}, "palette.0.2 is 256; it should be less than or equal to 255"),
        (MP, {"palette": ((0, 0, 0.5), *MP.palette[1:])}, "palette.0.2 is 0.5; it should be a valid integer"),
        (MP, {"pools": {"some": ()}}, r"pools.some is \(\); it should have at least 1 item"),
        (MP, {"pools": {"some": (MP.palette[3],)}}, "has the class colour"),
        (MP, {"pools": {"mean": ((1, 2, 3),)}}, "which is a rule"),
        (MP, {"label_noise": 1.0}, "label_noise is 1.0; it should be less than 1"),
        (MP, {"follows": "shape"}, "follows is 'shape'; it should be 'digit' or 'label'"),
        (MP, {"resize": "lanczos"}, "resize is 'lanczos'; it should be"),
        (MP, {"channels": 1}, "channels is 1; it should be 2 or 3"),
        (IRM, {"palette": BLUE}, "two channels cannot show blue"),
        (MP, {"threshold": 255}, "threshold is 255; it should be less than 255"),
        (MP, {"value_range": (1.0, 0.0)}, "lower value first"),
        (MP, {"splits": {"train": Split()}}, "no split 'test'"),
        (MP, {"test": Split("test", rest="pool")}, "rest of split 'test' is 'pool'; choose one of"),
        (VARIANTS["gip"], {"test": Split("test", rest="reverse")}, "leaves class 4 of 9 its own colour"),
        (MP, {"val": Split("train", part=(0.9, 1))}, "'val' shares digits with 'train'"),
        (Split(), {"source": "all"}, "source is 'all'; it should be 'train' or 'test'"),
        (Split(), {"part": (0.5, 0.5)}, "the smaller share first"),
        (Split(), {"align": ()}, r"align is \(\); it should have at least 1 item"),
        (Split(), {"align": (1.1,)}, "align.0 is 1.1; it should be less than or equal to 1"),
        (Split(), {"align": (float("nan"),)}, "align.0 is nan; it should be less than or equal to 1"),
        (Split(), {"align": (0.8, 0.9), "exact": True}, "give one environment"),
        (Split(), {"jitter": -1}, "jitter is -1; it should be greater than or equal to 0"),
        (Split(), {"shapes": False}, "there is no field 'shapes'"),
    ],
)
def test_what_cannot_be_is_one_sentence(variant, changes, message):
    if moved := [name for name in changes if name in getattr(variant, "splits", ())]:
        changes = {"splits": {**variant.splits, **{name: changes[name] for name in moved}}}
    with pytest.raises(InputError, match=message) as caught:
        replace(variant, **changes)
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)


def test_unknown_names_and_a_mean_that_is_near_one_class(tmp_path):
    with pytest.raises(InputError, match="variant is 'up'; choose one of mp, up-uniform"):
        ColoredMNIST(tmp_path, "up")  # before MNIST is looked for
    with pytest.raises(InputError, match="split is 'val'; choose one of train, test, grey"):
        ColoredMNIST(tmp_path, "irm", "val")
    crossed = replace(MP, palette=VARIANTS["rebias"].palette)
    with pytest.raises(ValueError, match="class 9 is 0.1.. from the mean colour"):
        ColoredMNIST(tmp_path, crossed)
    with pytest.warns(UserWarning, match="class 9"):
        assert len(digits(crossed, "test", check="warn")) == 360
    assert variants.find(crossed) is crossed


# ---- Table 1, measured ----


def entropy_of(shares):
    shares = np.array(shares)
    return float(-(shares * np.log2(shares)).sum())


def test_the_audit_measures_what_the_definitions_say(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    assert cli.main(["audit"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^gip .* CE +0\.0 .* 10 +9$", printed, re.M) and "up.md" not in printed  # nothing is recorded
    assert "| gip | SDG | SDG | UP & MP | UP & MP | CE |" in (tmp_path / "variants-digits/table.md").read_text()
    table = audit.audit(dataset="digits").set_index(["variant", "split"])
    assert (tmp_path / "variants-digits/table.csv").read_text().count("\n") == len(table) + 1
    assert table.loc["mp", "train"].color_only == table.loc["mp", "val"].color_only == 100
    assert table.loc["mp", "test"].color_bits == pytest.approx(0, abs=1e-9) and table.loc["mp", "test"].own_color == 0
    assert len(audit.read_color(digits("mp", "test")).unique()) == 1  # one answer to all
    assert table.loc["up-anti", "test"].color_only == 0 and table.loc["cdep", "test"].color_only == 0
    assert table.loc["irm", "train"].drop("environments").equals(table.loc["sd", "train"].drop("environments"))
    assert (table.loc["irm", "train"].environments, table.loc["sd", "train"].environments) == (2, 1)
    for name in ("mp", "up-uniform", "up-anti", "irm", "sd", "cdep", "rebias"):  # only class colours, and no noise
        lines = table.loc[name].query("pattern != 'MP'")
        assert len(lines) and (lines.color_only - lines.own_color).abs().max() < 1e-9
    assert table.loc["gip", "train"].classes == 9
    patterns = {name: table.loc[name, "test"].pattern for name in VARIANTS}
    assert [name for name, pattern in patterns.items() if pattern == "MP"] == ["mp", "gip", "repair"]
    assert [name for name, pattern in patterns.items() if pattern == "UP"] == [
        "up-uniform", "up-anti", "irm", "sd", "cdep", "lntl", "rebias",
    ]  # fmt: skip
    capsys.readouterr()
    assert cli.main(["audit", "up"]) == 2 and "choose one of mp, up-uniform" in capsys.readouterr().err


@MNIST
def test_rates_on_mnist_are_the_closed_forms():
    table = audit.audit(["irm", "gip"]).set_index(["variant", "split"])
    irm, gip = table.loc["irm", "train"], table.loc["gip", "train"]
    assert irm.label_noise == pytest.approx(25, abs=0.8) and irm.counter_examples == pytest.approx(32.5, abs=0.9)
    assert irm.color_only == pytest.approx(85, abs=0.7) and table.loc["irm", "test"].color_only == pytest.approx(
        10, abs=1.2
    )
    assert irm.color_bits == pytest.approx(1 - entropy_of([0.85, 0.15]), abs=0.02)
    assert irm.shape_bits == pytest.approx(1 - entropy_of([0.75, 0.25]), abs=0.01)
    assert gip.counter_examples == pytest.approx(20, abs=0.8) and gip.label_noise == 0
    assert gip.color_bits == pytest.approx(0.8 * np.log2(9), abs=0.02)


def test_colour_without_correlation_says_nothing():
    even = replace(IRM, splits={**IRM.splits, "train": Split(part=(0, 5 / 6), align=(0.5,))})
    made = digits(even)
    assert audit.mutual_information(made.targets, made.color_index) < 0.01


def color_bias(images, labels):
    """REPAIR's number: 1 - cross-entropy of a linear classifier on each channel's maximum / entropy of the labels."""
    colors = images.max((1, 2)) / 255
    classifier = LogisticRegression(C=1e4, max_iter=1000).fit(colors, labels)
    shares = np.bincount(labels) / len(labels)
    return 1 - log_loss(labels, classifier.predict_proba(colors)) / (-(shares * np.log(shares)).sum())


def test_the_colour_bias_of_repair_is_one_with_class_colours_and_zero_without():
    train = digits("mp")
    assert color_bias(train.pixels(), train.targets.numpy()) > 0.99
    assert abs(color_bias(train.images.numpy()[..., None].repeat(3, 3), train.targets.numpy())) < 0.05


def test_the_same_networks_are_tested_on_mnist_up(tmp_path, monkeypatch, capsys):
    for name, value in (("RESULTS", str(tmp_path)), ("CHECKPOINTS", "1"), ("PRECISION", "float32")):
        monkeypatch.setenv(f"MNISTMP_{name}", value)
    small = replace(paper.PRESETS["digits"], fields={"dataset": "digits", "epochs": 1})
    monkeypatch.setitem(paper.PRESETS, "digits", small)
    monkeypatch.setattr(audit, "METHODS", ("standard",))
    assert cli.main(["audit", "--train", "up", "--seeds", "0,1"]) == 0
    assert "Standard Training Procedure  2" in capsys.readouterr().out
    seen = audit.observed("digits").set_index("variant")
    for name in ("mp", "up-uniform", "up-anti"):
        right = [evaluate(mnistmp.load("standard", seed, "digits"), name, dataset="digits") for seed in (0, 1)]
        assert seen.loc[name].test_mean == pytest.approx(50 * sum(one["accuracy"] for one in right)), name
    table = (tmp_path / "variants-digits/up.md").read_text()
    assert table.count("| 2 |") == 1 and not (tmp_path / "variants-digits/irm.md").exists()
    assert cli.main(["audit", "--seeds", "0"]) == 2
    assert "--seeds are those of the networks for MNIST-UP; add --train up" in capsys.readouterr().err


def test_another_preset_has_tables_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.setattr(audit, "observe", lambda *_: None)  # these were counted before:
    counted = {"val_total": 10_000, "val_correct": 9900, "test_total": 10_000, **dict.fromkeys(audit.NEW_COLORS, 5000)}
    protocols = {"quick": "2 epochs instead of 10", "paper": "by the paper's protocol"}
    for preset, protocol in protocols.items():
        evidence.write(tmp_path / preset / "evidence/standard/new_colors-seed-0.npz", counted, {})
        assert cli.main(["audit", "--train", "up", "--preset", preset]) == 0
        assert protocol in capsys.readouterr().out
    tables = {path.parent.name: path.read_text() for path in tmp_path.glob("*/up.md")}
    assert "2 epochs instead of 10" in tables["variants-quick"] and "2 epochs" not in tables["variants"]
    assert "by the paper's" in tables["variants"] and "by the paper's" not in tables["variants-quick"]


def test_the_published_experiment_learns_colour_and_without_it_shape():
    erm, grey = (replace(one, steps=60, hidden=64) for one in irm.EXPERIMENTS[:2])
    colored = irm.train(erm, 0, "digits")
    assert colored["train"] > 80 and colored["test"] < 30 and colored == irm.train(erm, 0, "digits")
    assert irm.train(replace(grey, learning_rate=0.01), 0, "digits")["test"] > 55


# ---- anybody's model ----


def test_evaluate():
    test = digits("up-anti", "test")

    def by_color(images):  # nearest class colour of the brightest pixel
        color = (images.amax((2, 3)) + 1) * 127.5
        return -torch.cdist(color, test.palette.float())

    found = evaluate(by_color, "up-anti", dataset="digits", batch_size=7)
    assert found["accuracy"] == 0 and found["n"] == 360 == found["confusion"].sum()
    assert torch.equal(found["confusion"].sum(1), torch.bincount(test.targets))
    assert evaluate(by_color, split="val", dataset="digits")["class_accuracy"] == [1] * 10
    network = LeNet().train()
    one = evaluate(network, dataset="digits")
    other = evaluate(network, dataset="digits", transform=Compose([ToTensor(), Normalize([0.5] * 3, [0.5] * 3)]))
    assert network.training and network.features.training and torch.equal(one["confusion"], other["confusion"])
    assert set(irm_answers := evaluate(lambda x: x[:, :, 0, 0], "irm", dataset="digits")) == set(one)
    assert irm_answers["confusion"].shape == (2, 2)
