"""The README tells the truth: its table is the records', its links lead somewhere, its code runs."""

import re

import pytest

from mnistmp import cli, paths, records
from mnistmp.results import ablation, calibration, claims, readme, table2

ROOT = paths.checkout()
README = ROOT / "README.md"


def test_tables_are_the_records(monkeypatch):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    found = records.load("paper")
    table = table2.table2(found)
    assert readme.read("claims") == claims.to_markdown(claims.compare(found)).strip(), (
        "run: mnistmp table --preset paper --readme"
    )
    assert readme.read("readings") == ablation.conclusions(ablation.table("paper", found)), (
        "run: mnistmp table --preset paper --readme"
    )
    assert readme.read("calibration") == calibration.conclusion(), "run: mnistmp calibrate --recorded --readme"
    assert readme.read("table2") == table2.to_markdown(table, "paper").strip(), (
        "run: mnistmp table --preset paper --readme"
    )


def test_links_and_pictures_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert len(links) >= 13
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_commands_named_exist():
    verbs = {verb[0] for verb in cli.VERBS}
    named = set(re.findall(r"^mnistmp ([a-z-]+)|`mnistmp ([a-z-]+)", README.read_text(encoding="utf-8"), flags=re.M))
    assert {a or b for a, b in named} <= verbs and len(named) >= 4
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    assert set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README.read_text(encoding="utf-8"), flags=re.M)) and all(
        (a or b) in targets
        for a, b in re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README.read_text(encoding="utf-8"), flags=re.M)
    )


def test_dataset_example_runs():
    """The README's loader, on the embedded digits instead of a download."""
    from torch.utils.data import DataLoader
    from torchvision.transforms import ToTensor

    import mnistmp

    loader = DataLoader(mnistmp.MNISTMP(None, split="test", transform=ToTensor(), dataset="digits"), batch_size=128)
    images, labels = next(iter(loader))
    assert images.shape == (128, 3, 28, 28) and 0 <= images.min() and images.max() <= 1
    assert (images[:, 0] == images[:, 1]).all() and labels.shape == (128,)
    features = mnistmp.LeNet().features(2 * images - 1)
    assert mnistmp.losses.ReverseContrastiveLoss(margin=0.9)(features, labels).item() <= 0


def test_replace_changes_only_its_part(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("above\n<!-- begin: x -->\nold\n<!-- end: x -->\nbelow\n")
    readme.replace("x", "new\n", path)
    assert path.read_text() == "above\n<!-- begin: x -->\nnew\n<!-- end: x -->\nbelow\n"
    assert readme.read("x", path) == "new"
    with pytest.raises(readme.ReadmeError, match="begin: y"):
        readme.replace("y", "", path)


def test_only_the_paper_preset_goes_into_the_readme(capsys):
    assert cli.main(["table", "--preset", "digits", "--readme"]) == 2
    assert "add --preset paper" in capsys.readouterr().err
