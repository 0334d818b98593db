"""Exported files: the same bytes again, and item by item what the class gives, wherever they are opened."""

import hashlib
import json
import subprocess
import sys

import datasets
import mlcroissant
import numpy as np
import pytest
import torch

from mnistmp import ColoredMNIST, cli
from mnistmp.data.export import export
from mnistmp.errors import InputError

SPLITS = ("train", "val", "test")
# What a stranger does, in a fresh process: print the SHA-256 of a split's images and labels.
OPENED = {
    "npz": "import numpy as np; a = np.load('{0}/{1}.npz'); x, y = a['images'], a['labels']",
    "torch": "import torch; a = torch.load('{0}/{1}.pt', weights_only=True);"
    "x, y = a['images'].permute(0, 2, 3, 1).contiguous().numpy(), a['labels'].numpy()",
    "parquet": "import io, numpy as np, pyarrow.parquet as p; from PIL import Image\n"
    "a = p.read_table('{0}/{1}.parquet')\n"
    "x = np.stack([np.array(Image.open(io.BytesIO(i['bytes']))) for i in a['image'].to_pylist()]);"
    "y = np.array(a['label'])",
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder per format, made when first asked for."""
    folders = {}

    def of(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind) / "mp"
            export("mp", folders[kind], kind, dataset="digits")
        return folders[kind]

    return of


@pytest.mark.parametrize("kind", OPENED)
def test_others_find_what_the_class_gives(exported, kind):
    folder = exported(kind)
    for split in ("train", "test"):
        code = f"import hashlib, sys\n{OPENED[kind].format(folder, split)}\nassert 'mnistmp' not in sys.modules\n"
        code += "print(hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest())"
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        one = ColoredMNIST(None, "mp", split, dataset="digits")
        pixels = np.stack([np.asarray(image) for image, _ in one])  # item by item
        labels = np.array([label for _, label in one])
        assert printed.strip() == hashlib.sha256(pixels.tobytes() + labels.tobytes()).hexdigest()


@pytest.mark.parametrize("kind", OPENED)
def test_the_same_command_gives_the_same_bytes(exported, kind, tmp_path):
    folder = exported(kind)
    export("mp", tmp_path / "again", kind, dataset="digits")
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in (tmp_path / "again").iterdir())
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), name
    sums = dict(line.split("  ")[::-1] for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert sorted([*sums, "SHA256SUMS"]) == names
    assert all(hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_the_announced_layout(exported):
    content = torch.load(exported("torch") / "mp.pt", weights_only=True)
    assert tuple(content) == SPLITS
    for split, parts in content.items():
        one = ColoredMNIST(None, "mp", split, dataset="digits")
        assert parts["images"].shape == (len(one), 3, 32, 32) and parts["images"].dtype == torch.float32
        assert -1 == parts["images"].min() < 0.9 < parts["images"].max() <= 1 or split == "test"
        assert torch.equal(parts["labels"], one.targets)


def test_datasets_reads_parquet(exported, tmp_path):
    files = {split: str(exported("parquet") / f"{split}.parquet") for split in SPLITS}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path))
    one = ColoredMNIST(None, "mp", "test", dataset="digits")
    assert loaded["test"].num_rows == len(one)
    for item, (image, label), digit in zip(loaded["test"], one, one.digits):
        assert np.array_equal(np.asarray(item["image"]), np.asarray(image))
        assert (item["label"], item["digit"]) == (label, digit)


@pytest.mark.parametrize("kind", OPENED)
def test_croissant_is_valid(exported, kind, caplog):
    folder = exported(kind)
    about = json.loads((folder / "croissant.json").read_text())
    assert {one["name"] for one in about["distribution"]} >= {
        f"{split}.{'pt' if kind == 'torch' else kind}" for split in SPLITS
    }
    found = mlcroissant.Dataset(folder / "croissant.json")
    assert not found.metadata.ctx.issues.errors and not caplog.records and found.metadata.name == "mp"
    if kind == "parquet":
        for record, (image, label) in zip(found.records("test"), ColoredMNIST(None, "mp", "test", dataset="digits")):
            assert record["test/image"].tobytes() == image.tobytes() and record["test/label"] == label


def test_what_cannot_be_exported_leaves_nothing(tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    for arguments, sentence in (
        (["--to", str(tmp_path / "full")], "is not an empty folder"),
        (["--to", str(tmp_path / "full/file")], "is not an empty folder"),
        (["--to", str(tmp_path / "new"), "--format", "hdf5"], "format is 'hdf5'; choose one of npz, torch, parquet"),
        (["--to", str(tmp_path / "new"), "--variant", "up"], "variant is 'up'; choose one of"),
        (["--to", "/proc/new"], "cannot be written"),
    ):
        assert cli.main(["export", "--preset", "digits", *arguments]) == 2
        said = capsys.readouterr().err
        assert sentence in said and said.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "full"]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mnistmp.data.export._card", full)
    with pytest.raises(InputError, match="No space left on device"):
        export("mp", tmp_path / "new", dataset="digits")
    assert not (tmp_path / "new").exists()
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InputError, match="pip install pyarrow"):
        export("mp", tmp_path / "new", "parquet", dataset="digits")


def test_the_command(tmp_path, capsys):
    assert cli.main(["export", "--variant", "irm", "--preset", "digits", "--to", str(tmp_path / "irm")]) == 0
    assert np.load(tmp_path / "irm/grey.npz")["images"].shape == (239, 14, 14, 3)
    assert "SHA256SUMS" in capsys.readouterr().out
