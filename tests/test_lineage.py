"""`results/lineage.json` follows the records, and knows every figure and table."""

import json
import shutil

import pytest

from mnistmp import lineage, paths

ROOT = paths.checkout()


def test_it_is_what_the_records_and_files_say(monkeypatch):
    for name in ("RESULTS", "FIGURES"):
        monkeypatch.delenv(f"MNISTMP_{name}", raising=False)
    committed = json.loads((ROOT / "results/lineage.json").read_text(encoding="utf-8"))
    assert committed == lineage.lineage(), "run: mnistmp table"
    makes = [path for one in committed["made"].values() for path in one["makes"]]
    assert len(makes) == len(set(makes))
    uncommitted = {ROOT / "results" / name for name in ("digits", "quick", "variants-digits", "variants-quick")}
    tables = [
        path for path in ROOT.glob("results/**/*.*")
        if path.suffix in (".md", ".csv", ".tex") and not uncommitted & {*path.parents}
    ]  # fmt: skip
    # Notebook 01 reads no record.
    pure = {f"{name}.{kind}" for name in ("figure1", "validation-and-test", "palette-cube", "test-colour")
            for kind in ("png", "pdf")}  # fmt: skip
    drawn = [path for path in ROOT.glob("figures/paper/*.*") if path.name not in pure]
    assert {path.relative_to(ROOT).as_posix() for path in tables + drawn} == set(makes)
    for one in committed["made"].values():
        assert set(one["from"]) <= set(committed["records"])
    run = committed["records"]["paper/runs/standard"]["seed-0.json"]
    assert run["key"] == json.loads((ROOT / "results/paper/runs/standard/seed-0.json").read_text())["key"]


@pytest.mark.parametrize(
    "notebook, folders",
    [
        ("06_spectral_decoupling", {"evidence/standard", "runs/standard", "runs/rcl-inf"}),
        ("07_rsc", {"evidence/standard", "runs/dropout", "runs/dropout+rescale=false"}),
        ("08_rcl_margin_sweep", {"evidence/standard", "runs/standard", "evidence/rcl-m0.9"}),
        ("09_latent_space", {"evidence/standard-original", "evidence/rcl-m0.9+otherwise=negative-unweighted"}),
    ],
)
def test_a_notebook_is_made_from_the_rows_of_others_that_it_looks_into(monkeypatch, notebook, folders):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    made = lineage.lineage()["made"]
    assert {f"paper/{folder}" for folder in folders} <= set(made[f"mnistmp notebooks {notebook}"]["from"])
    assert "mnistmp notebooks 01_dataset" not in made  # it names standard, and reads no record


def test_it_changes_with_a_record(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    shutil.copytree(ROOT / "results/paper/runs/standard", tmp_path / "paper/runs/standard")
    shutil.copy(ROOT / "results/paper/table2.md", tmp_path / "paper")
    before = json.loads(lineage.write().read_text())
    assert set(before["records"]) == {"paper/runs/standard"} and before["made"]["mnistmp table"]["makes"]
    path = tmp_path / "paper/runs/standard/seed-3.json"
    path.write_text(path.read_text().replace('"seconds": 1', '"seconds": 2', 1))
    after = lineage.lineage()["records"]["paper/runs/standard"]
    changed = [name for name, about in after.items() if about != before["records"]["paper/runs/standard"][name]]
    assert changed == ["seed-3.json"]
