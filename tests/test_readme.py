"""The README and docs/ tell the truth: their tables are the records', their links lead somewhere, their code runs."""

import re
import shutil

import pytest

from mnistmp import cli, paths, records
from mnistmp.errors import InputError
from mnistmp.results import ablation, artifact, audit, calibration, claims, findings, markdown, table2, weights

ROOT = paths.checkout()
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in markdown.pages()}


def test_tables_are_the_records(monkeypatch):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    found = records.load("paper")
    table, interpretations = table2.side_by_side("paper"), ablation.table("paper", found)
    compared = claims.side_by_side("paper", found)
    shown = {
        "findings": findings.findings(table, *compared),
        "table2": table2.to_markdown(table, "paper"),
        "claims": claims.to_markdown(*compared),
        "interpretations": ablation.conclusions(interpretations),
        "weights": weights.to_markdown(weights.table(found), "paper"),
        "artifact": artifact.artifact(found, compared[0]),
    }
    assert "Of 12 statements of the paper's text and table, as written, " in shown["findings"]
    for part, text in shown.items():
        assert markdown.block(part) == text.strip(), "run: mnistmp table --preset paper --readme"
    measured = calibration.table(calibration.SEEDS)
    assert markdown.block("calibration") == calibration.conclusion(measured).strip(), (
        "run: mnistmp calibrate --recorded --readme"
    )


def test_written_tables_are_the_records(monkeypatch, tmp_path):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    found = records.load("paper")
    tables = table2.side_by_side("paper"), claims.side_by_side("paper", found), ablation.table("paper", found)
    tables += (calibration.table(),)
    for name, text in audit.texts("paper").items():
        assert (ROOT / "results/variants" / name).read_text() == text, "run: mnistmp audit --preset paper"
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    written = [*table2.write(tables[0], "paper"), *claims.write(*tables[1], "paper")]
    written += [*ablation.write(tables[2], "paper"), *calibration.write(tables[3])]
    written += weights.write(weights.table(found), "paper")
    assert len(written) == 11
    for path in written:
        committed = ROOT / "results" / path.relative_to(tmp_path)
        assert path.read_bytes() == committed.read_bytes(), f"{committed} is not what the records give"


def test_the_readme_is_short_and_every_page_is_one_click_away():
    assert len(PAGES["README.md"].split()) <= 1200
    assert [page for page in PAGES if page != "README.md" and f"({page})" not in PAGES["README.md"]] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_and_pictures_exist(page):
    links = re.findall(r"\]\(([^)#]+)\)", PAGES[page])
    assert [link for link in links if "://" not in link and not (ROOT / page).parent.joinpath(link).exists()] == []


def test_commands_named_exist():
    text = "\n".join(PAGES.values())
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M))
    verbs = set(re.findall(r"(?:^|`)mnistmp ([a-z-]+)", text, flags=re.M))
    made = set(re.findall(r"(?:^|`)make ([a-z-]+)", text, flags=re.M))
    assert verbs <= set(cli.VERBS) and len(verbs) >= 6
    assert made <= targets and len(made) >= 5


def example(page):
    """The Python of a page, on the embedded digits instead of a download."""
    code = re.search(r"```python\n(.*?)```", PAGES[page], re.S)[1]
    return code.replace("download=True", 'dataset="digits"').replace('root="data"', 'dataset="digits"')


@pytest.mark.slow
def test_the_examples_run(capsys, monkeypatch):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    names = {}
    exec(example("README.md"), names)
    assert names["data"].dataset == "digits"
    assert names["images"].shape == (128, 3, 28, 28) and names["rcl"].item() < 0 and names["loss"].requires_grad
    exec(example("docs/results.md"), names)
    assert len(names["table"]) == 18
    exec(example("docs/datasets.md"), names)
    assert re.findall(r"^(\S+) 0\.\d+$", capsys.readouterr().out, re.M) == ["mp", "up-uniform", "up-anti"]


def test_the_loss_grows_with_the_number_of_features():
    import torch

    from mnistmp import losses

    torch.manual_seed(0)
    labels = torch.arange(128) % 10
    for features, value in ((2048, -680), (25088, -8400)):  # what the README says of random features
        assert losses.reverse_contrastive_loss(torch.rand(128, features), labels).item() == pytest.approx(
            value, rel=0.05
        )


def test_replace_changes_only_its_part(tmp_path):
    path = tmp_path / "README.md"
    path.write_text("above\n<!-- begin: x -->\nold\n<!-- end: x -->\nbelow\n")
    markdown.replace_block("x", "new\n", path)
    assert path.read_text() == "above\n<!-- begin: x -->\nnew\n<!-- end: x -->\nbelow\n"
    assert markdown.block("x", path) == "new"
    for broken in ("no markers", "<!-- end: x --><!-- begin: x -->", 2 * path.read_text(), "<!-- begin: x -->"):
        path.write_text(broken)
        with pytest.raises(InputError, match="needs the markers <!-- begin: x --> and <!-- end: x -->, once each"):
            markdown.replace_block("x", "", path)
        assert path.read_text() == broken


def test_a_part_of_the_rows_makes_a_table_too(monkeypatch, tmp_path):
    """What docs/ARTIFACT.md asks for: some rows, trained into a folder of their own."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    shutil.copytree(ROOT / "results/paper/runs/standard", tmp_path / "paper/runs/standard")
    shutil.copytree(ROOT / "results/paper/runs/dropout", tmp_path / "paper/runs/dropout")
    assert cli.main(["table"]) == 0
    written = (tmp_path / "paper/claims.md").read_text()
    committed = (ROOT / "results/paper/claims.md").read_text()
    line = next(line for line in committed.splitlines() if line.startswith("| Dropout is better"))
    assert line.rsplit("|", 3)[0] in written  # but for p, corrected for all comparisons, and the lines →


def test_only_the_paper_preset_goes_into_the_readme(capsys):
    assert cli.main(["table", "--preset", "digits", "--readme"]) == 2
    assert "add --preset paper" in capsys.readouterr().err
