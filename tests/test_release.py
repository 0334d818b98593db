"""The archive to deposit: complete, summed, the same bytes again."""

import hashlib
import io
import json
import re
import tarfile

import nbformat
import numpy as np
import pytest
import yaml
from nbformat.v4 import new_markdown_cell, new_notebook

from mnistmp import ColoredMNIST, cli, paths
from mnistmp.errors import InputError
from mnistmp.release import release

ROOT = paths.checkout()


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    for name in ("results/digits/notebooks", "results/digits/checkpoints", "results/paper", "figures/digits"):
        (tmp_path / name).mkdir(parents=True)
    nbformat.write(new_notebook(cells=[new_markdown_cell("# One")]), tmp_path / "results/digits/notebooks/01_one.ipynb")
    for name in ("results/lineage.json", "results/digits/table2.md", "results/digits/checkpoints/weights",
                 "results/paper/table2.md", "figures/digits/table2.png"):  # fmt: skip
        (tmp_path / name).write_text(name)
    return tmp_path


def test_the_archive(place, capsys):
    assert cli.main(["release", "--preset", "digits", "--to", str(place / "dist")]) == 0
    (path,) = (place / "dist").iterdir()
    assert str(path) in capsys.readouterr().out
    with tarfile.open(path) as archive:
        entries = archive.getmembers()
        content = {one.name.partition("/")[2]: archive.extractfile(one).read() for one in entries}
    names = [one.name for one in entries]
    assert names == sorted(names) and {(one.mtime, one.uid, one.uname) for one in entries} == {(0, 0, "")}
    sums = dict(line.split("  ")[::-1] for line in content["SHA256SUMS"].decode().splitlines())
    assert sorted(sums) == sorted(content.keys() - {"SHA256SUMS"})
    assert all(hashlib.sha256(content[name]).hexdigest() == digest for name, digest in sums.items())
    assert {"README.md", "CITATION.cff", "docs/results.md", "site/index.html", "site/01_one.html", ".zenodo.json",
            "figures/digits/table2.png", "results/digits/table2.md", "results/lineage.json"} <= {*content}  # fmt: skip
    assert not [name for name in content if "checkpoints" in name or "results/paper" in name]
    exported = np.load(io.BytesIO(content["data/mnist-mp/test.npz"]))
    assert np.array_equal(exported["images"], ColoredMNIST(None, "mp", "test", dataset="digits").pixels())
    assert release("digits", place / "again").read_bytes() == path.read_bytes()


def test_what_is_said_of_it_is_what_the_citation_says(place):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    with tarfile.open(release("digits", place / "dist")) as archive:
        about = json.load(archive.extractfile(f"mnistmp-{citation['version']}/.zenodo.json"))
    assert (about["title"], about["version"], about["license"]) == tuple(
        citation[name] for name in ("title", "version", "license")
    )
    assert about["creators"] == citation["authors"]
    assert [one["identifier"] for one in about["related_identifiers"]] == ["arXiv:2106.07916"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    paper = citation["references"][0]
    assert paper["url"] in readme and re.search(r"arXiv:2106\.07916", readme)
    assert f"{{{paper['start']}--{paper['end']}}}" in readme and paper["title"] in readme


def test_a_folder_that_cannot_be_is_one_sentence(place):
    with pytest.raises(InputError, match=r"tar.gz cannot be written \(.*\); name another"):
        release("digits", place / "results/lineage.json")
