"""The digits: every file that is missing, damaged or not MNIST's gets one sentence with the remedy."""

import gzip
import hashlib
import multiprocessing
import os
import shutil
import socket
import time
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision

import mnistmp
from mnistmp import cli, data

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = data.MNIST_SHA256
OFFLINE = URLError("no route to host")


def idx(array):
    """The bytes of a uint8 array as an IDX file."""
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def tiny_files():
    """Twelve training and six test digits: (images, labels, images, labels) as uint8."""
    rng = np.random.RandomState(1)
    return [
        part
        for n in (12, 6)
        for part in (rng.randint(0, 256, (n, 28, 28), dtype=np.uint8), rng.randint(0, 10, n, dtype=np.uint8))
    ]


def write(root, contents=None):
    """Write the tiny files where torchvision would put them under `root`."""
    raw = Path(root) / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for name, content in zip(data.MNIST_SHA256, contents or map(idx, tiny_files())):
        (raw / name).write_bytes(content)
    return raw


def use_tiny_sums(monkeypatch):
    sums = {name: hashlib.sha256(idx(part)).hexdigest() for name, part in zip(data.MNIST_SHA256, tiny_files())}
    monkeypatch.setattr(data.digits, "MNIST_SHA256", sums)
    data.digits._mnist.cache_clear()


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    """A folder with a tiny "MNIST" whose sums are taken for the published ones."""
    use_tiny_sums(monkeypatch)
    write(tmp_path)
    yield tmp_path
    data.digits._mnist.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    def fail(self):
        raise OFFLINE

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fail)


def error_of(root, download=False):
    """The message of the DataError, which is one sentence, names the folder and offers the embedded digits."""
    with pytest.raises(data.DataError) as caught:
        data.load("mnist", root, download=download)
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and message.count(". ") == 0
    assert str(root) in message and "--preset digits" in message
    return message


# ---- good files -----------------------------------------------------------------------------


def test_mnist_decodes_what_the_files_hold(tiny):
    digits = data.load("mnist", tiny, download=False)
    parts = (digits.train_images, digits.train_labels, digits.test_images, digits.test_labels)
    for part, source in zip(parts, tiny_files()):
        assert part.dtype == (torch.uint8 if part.ndim == 3 else torch.int64)
        assert np.array_equal(part.numpy(), source)
    shutil.rmtree(tiny / "MNIST")
    assert torch.equal(data.load("mnist", tiny, download=False).train_images, digits.train_images)  # read once


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize("folder", ["MNIST/raw", "raw", "."])
def test_mnist_is_found_however_it_is_kept(tiny, folder, pack):
    contents = [path.read_bytes() for path in map((tiny / "MNIST/raw").joinpath, data.MNIST_SHA256)]
    shutil.rmtree(tiny / "MNIST")
    (tiny / folder).mkdir(parents=True, exist_ok=True)
    for name, content in zip(data.MNIST_SHA256, contents):
        (tiny / folder / f"{name}.gz" if pack else tiny / folder / name).write_bytes(
            gzip.compress(content, 1, mtime=0) if pack else content
        )
    assert torch.equal(data.load("mnist", tiny).test_images, torch.from_numpy(tiny_files()[2]))  # nothing downloaded


def test_agrees_with_torchvision(tiny):
    digits = data.load("mnist", tiny, download=False)
    theirs = torchvision.datasets.MNIST(tiny, train=False)
    assert torch.equal(digits.test_images, theirs.data) and torch.equal(digits.test_labels, theirs.targets)


def test_root_then_environment_then_cache(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_DATA", str(tiny))
    assert data.data_root() == tiny.resolve()
    assert torch.equal(data.load(download=False).train_images, data.load("mnist", tiny).train_images)
    assert data.data_root(tmp_path / "other") == (tmp_path / "other").resolve()
    assert data.data_root("~") == Path.home().resolve()
    monkeypatch.setenv("MNISTMP_DATA", "")
    assert "mnistmp" in str(data.data_root())


def test_published_mnist():
    if not os.environ.get("MNISTMP_DATA"):
        pytest.skip("MNISTMP_DATA is not set: the real MNIST is not at hand")
    start = time.perf_counter()
    digits = data.load("mnist", download=False)
    assert time.perf_counter() - start < 5  # about 0.2 s on an idle machine
    assert digits.train_images.shape == (60000, 28, 28) and digits.test_images.shape == (10000, 28, 28)
    assert torch.bincount(digits.train_labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


# ---- bad files ------------------------------------------------------------------------------


def test_missing_file(tiny):
    (tiny / "MNIST/raw" / TRAIN_LABELS).unlink()
    assert f"{TRAIN_LABELS} is missing" in error_of(tiny)


def test_folder_without_mnist(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_DATA", str(tmp_path))
    with pytest.raises(data.DataError, match="is missing.* run mnistmp data, which downloads it.*MNISTMP_DATA"):
        data.load(download=False)


@pytest.mark.parametrize(
    "content", [b"", idx(tiny_files()[1])[:9], idx(tiny_files()[1])[:-1] + b"x", idx(tiny_files()[0])]
)
def test_foreign_content(tiny, content):
    (tiny / "MNIST/raw" / TRAIN_LABELS).write_bytes(content)  # nothing, a part, a byte changed, another file's
    assert f"{TRAIN_LABELS} is not the published file, by its SHA-256 ({len(content):,} bytes)" in error_of(tiny)


def test_archives_are_known_by_their_content(tiny):
    path = tiny / "MNIST/raw" / TRAIN_IMAGES
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[:-9])
    assert f"{TRAIN_IMAGES} is not the published file" in error_of(tiny)
    path.write_bytes(packed)
    assert len(data.load("mnist", tiny, download=False).train_images) == 12
    (tiny / "MNIST/raw" / TEST_IMAGES).rename(tiny / f"{TEST_IMAGES}.gz")  # a browser unpacked it and kept the name
    data.digits._mnist.cache_clear()
    assert len(data.load("mnist", tiny, download=False).test_images) == 6
    (tiny / f"{TEST_IMAGES}.gz").write_bytes(gzip.compress(b"else"))
    data.digits._mnist.cache_clear()
    assert f"{TEST_IMAGES}.gz is not the published file" in error_of(tiny)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_file_neither_hangs_nor_floods(tiny, make):
    path = tiny / "MNIST/raw" / TEST_LABELS
    path.unlink()
    make(path)
    assert f"{TEST_LABELS} cannot be read (not a file)" in error_of(tiny)


def test_a_file_without_end_is_not_read_whole(tiny):
    path = tiny / "MNIST/raw" / TEST_LABELS
    os.truncate(path, 10**12)  # sparse
    assert f"{TEST_LABELS} is not the published file" in error_of(tiny)


def test_a_user_without_a_home_is_told_where_to_put_mnist(monkeypatch, capsys):
    def unknown(_):
        raise KeyError("uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "MNISTMP_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cli.main(["data", "--check"]) == 2
    said = capsys.readouterr().err
    assert "MNISTMP_DATA" in said and said.count("\n") == 1
    assert len(mnistmp.MNISTMP(dataset="digits")) == 1437


def test_a_folder_of_nobody(monkeypatch):
    monkeypatch.setenv("MNISTMP_DATA", "~no-such-user/data")
    with pytest.raises(data.DataError, match="~no-such-user/data is no folder for MNIST"):
        data.load("mnist")


@pytest.mark.parametrize("download", [False, True])
def test_unreadable_folder(tiny, monkeypatch, download):
    # by hand: chmod does not stop a test that runs as the administrator
    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "stat", refuse) if download else patch.setattr(data.digits, "read_bounded", refuse)
        with pytest.raises(data.DataError) as caught:
            data.load("mnist", tiny.resolve(), download=download)
    assert f"{TRAIN_IMAGES} cannot be read (Permission denied)" in str(caught.value)


def test_root_is_a_file(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "cannot be written (Not a directory)" in error_of(tmp_path / "file", download=True)


# ---- the download ---------------------------------------------------------------------------


def fake_download(self):
    """What torchvision's download leaves behind, after a while; each call leaves a line in a log."""
    with open(os.environ["MNISTMP_TEST_LOG"], "a") as log:
        log.write("download\n")
    time.sleep(0.5)
    write(self.root)


def _load_in_a_process(root, start, results):
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_sums(patch)
        patch.setattr(torchvision.datasets.MNIST, "download", fake_download)
        start.wait()
        results.put(data.load("mnist", root).train_images.sum().item())


def test_two_processes_download_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_TEST_LOG", str(tmp_path / "log"))
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "new", start, results)
    processes = [context.Process(target=_load_in_a_process, args=arguments, daemon=True) for _ in "ab"]
    for process in processes:
        process.start()
    sums = [results.get(timeout=40) for _ in processes]
    for process in processes:
        process.join()
    assert sums == [int(tiny_files()[0].sum(dtype=np.int64))] * 2
    assert (tmp_path / "log").read_text() == "download\n"
    assert not (tmp_path / "new/MNIST/download").exists()


def test_download_keeps_the_files_that_are_there(tiny, monkeypatch):
    monkeypatch.setenv("MNISTMP_TEST_LOG", str(tiny / "log"))
    monkeypatch.setattr(torchvision.datasets.MNIST, "download", fake_download)
    raw = tiny / "MNIST/raw"
    (raw / TEST_LABELS).unlink()
    (raw / TEST_IMAGES).write_bytes(b"somebody's own file")
    assert f"{TEST_IMAGES} is not the published file" in error_of(tiny, download=True)
    assert (raw / TEST_LABELS).exists() and (raw / TEST_IMAGES).read_bytes() == b"somebody's own file"


def test_no_network(tmp_path, no_network):
    message = error_of(tmp_path / "new", download=True)
    assert "the download failed" in message and "no route to host" in message
    assert socket.getdefaulttimeout() is None  # the time limit was the download's only


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert "holds no complete MNIST and cannot be written (Permission denied)" in error_of(tmp_path, download=True)


def test_files_in_a_read_only_folder_need_no_lock(tiny, monkeypatch):
    monkeypatch.setattr(data.digits, "FileLock", None)
    assert len(data.load("mnist", tiny, download=True).train_images) == len(tiny_files()[0])


# ---- scikit-learn's digits ------------------------------------------------------------------


@pytest.fixture
def source():
    from sklearn.datasets import load_digits  # here, not above: the two processes need not import it

    return load_digits()


def test_digits():
    digits = data.load("digits")  # the checksum is verified inside
    assert digits.train_images.shape == (1437, 28, 28) and digits.test_images.shape == (360, 28, 28)
    assert digits.train_images.dtype == torch.uint8 and digits.test_labels.dtype == torch.int64
    assert digits.train_images.max() == 255
    border = torch.ones(28, 28, dtype=torch.bool)
    border[4:24, 4:24] = False
    assert not digits.train_images[:, border].any()
    per_class = torch.bincount(digits.test_labels, minlength=10)
    assert per_class.min() >= 35 and per_class.max() <= 37  # stratified
    assert set(data.CHECKSUMS) == set(data.DATASETS)


def test_digits_are_split_without_overlap(source):
    digits = data.load("digits")
    together = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    labels = torch.cat([digits.train_labels, digits.test_labels])
    assert len(together) == len(together.unique(dim=0)) == 1797
    assert torch.equal(torch.bincount(labels), torch.bincount(torch.from_numpy(source.target)))


def test_digits_are_scaled_as_torch_scales(source):
    images = torch.from_numpy(source.images[:200])
    theirs = torch.nn.functional.interpolate(images[:, None] * 255 / 16, size=20, mode="bilinear")
    ours = torch.from_numpy(data.digits._enlarge(images.long().numpy()))[:, 4:24, 4:24]
    assert (ours - theirs[:, 0]).abs().max() < 0.51  # rounding


def test_changed_digits_are_refused(monkeypatch):
    monkeypatch.setitem(data.CHECKSUMS, "digits", "0" * 64)
    data.digits._digits.cache_clear()
    with pytest.raises(data.DataError, match="not the expected ones.*requirements.lock"):
        data.load("digits")
    data.digits._digits.cache_clear()
