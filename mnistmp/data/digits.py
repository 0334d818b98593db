"""Grey digits, checked before use: the real MNIST, or scikit-learn's small embedded digits.

torchvision checks MNIST's compressed files only and accepts any uncompressed file it finds.
Here the very bytes that become tensors are compared with the published SHA-256 sums.
"""

import gzip
import hashlib
import http.client
import io
import os
import shutil
import socket
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from platformdirs import user_cache_path

from mnistmp.errors import DataError, check_choice
from mnistmp.files import read_bounded

DATASETS = ("mnist", "digits")

# SHA-256 of the four uncompressed IDX files, in the order of GreyDigits' fields.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

# One sum per dataset; it is part of every run's key.
CHECKSUMS = {
    "mnist": hashlib.sha256("".join(MNIST_SHA256.values()).encode()).hexdigest(),
    "digits": "1c0eb80ea2c3cf5d803f7e22e47bca09df66983826eb67ca09fca2bd5e709612",
}

DIGITS_REMEDY = "or use the embedded digits (--preset digits)"
# Where MNIST's files may lie in the named folder, each as it is or as .gz; a download goes into the first.
PLACES = ("MNIST/raw", "raw", ".")
SIZE_LIMIT = 100_000_000  # bytes read of a file; the largest of the four has 47,040,016
GZIP = b"\x1f\x8b"  # how a gzip archive begins
DOWNLOAD_TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class GreyDigits:
    """Grey digits, background 0.

    Images are uint8 (N, 28, 28) in 0..255, labels int64 (N,) in 0..9.
    """

    train_images: torch.Tensor
    train_labels: torch.Tensor
    test_images: torch.Tensor
    test_labels: torch.Tensor


def load(name: str = "mnist", root: str | Path | None = None, download: bool = True) -> GreyDigits:
    """Return the checked digits of one of `DATASETS` as tensors of the caller's own; they are read once per process.

    MNIST lies in `data_root(root)`, in its `MNIST/raw` as torchvision lays it out, in `raw` or in the folder itself,
    compressed (.gz) or not. Missing files are downloaded once, however many processes ask. "digits" needs no files.
    Raises DataError for anything that is missing, unreadable or not the published content.
    """
    check_choice("dataset", name, DATASETS)
    if name == "digits":
        return _copy(_digits())
    root = data_root(root)
    if download and _missing(root):
        _download(root)
    return _copy(_mnist(root))


def _copy(digits: GreyDigits) -> GreyDigits:
    """Tensors that the caller may change: what this process keeps stays as it was checked."""
    return GreyDigits(*(tensor.clone() for tensor in vars(digits).values()))


def data_root(root: str | Path | None = None) -> Path:
    """Return the folder that holds MNIST: `root`, else MNISTMP_DATA, else the user's cache.

    Raises DataError for a folder that cannot be, such as one of a user that nobody knows.
    """
    named = root or os.environ.get("MNISTMP_DATA")
    try:
        return Path(named or user_cache_path("mnistmp")).expanduser().resolve()
    # From pathlib: no such user, a user without a home, a link to itself; no path at all
    except (RuntimeError, TypeError, ValueError) as error:
        raise DataError(
            f"{named or 'the cache folder'} is no folder for MNIST ({str(error).rstrip('.')}): "
            f"set MNISTMP_DATA to one, {DIGITS_REMEDY}."
        ) from None


# ---- MNIST ----------------------------------------------------------------------------------


def _find(root: Path, name: str) -> Path | None:
    """Return MNIST's file `name` where it lies; a folder that may not be looked into is an error."""
    for place in PLACES:
        for path in (root / place / name, root / place / f"{name}.gz"):
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise _unreadable(path, error) from error
            return path
    return None


def _missing(root: Path) -> list[str]:
    return [name for name in MNIST_SHA256 if _find(root, name) is None]


@cache
def _mnist(root: Path) -> GreyDigits:
    train_images, train_labels, test_images, test_labels = (_read_idx(root, name) for name in MNIST_SHA256)
    return GreyDigits(train_images, train_labels.long(), test_images, test_labels.long())


def _read_idx(root: Path, name: str) -> torch.Tensor:
    """Read one IDX file as uint8 (N, 28, 28) or (N,), made from the same bytes that were checked."""
    path = _find(root, name)
    if path is None:
        raise DataError(
            f"{name} is missing in {root} (and in its MNIST/raw and raw, also as .gz): run mnistmp data, which "
            f"downloads it (download=True in Python), set MNISTMP_DATA to a folder that holds it, {DIGITS_REMEDY}."
        ) from FileNotFoundError(name)
    try:
        content = _unpacked(np.frombuffer(bytearray(read_bounded(path, SIZE_LIMIT)), np.uint8))
    except OSError as error:
        raise _unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest() != MNIST_SHA256[name]:
        raise DataError(
            f"{path} is not the published file, by its SHA-256 ({len(content):,} bytes): delete it to have it "
            f"downloaded again, set MNISTMP_DATA to a folder with a good copy, {DIGITS_REMEDY}."
        )
    begin = 4 + 4 * int(content[3])  # the number of dimensions, and then their sizes
    return torch.from_numpy(content[begin:]).view(content[4:begin].view(">u4").tolist())


def _unpacked(content: np.ndarray) -> np.ndarray:
    """The content of a gzip archive, whatever its name; anything else as it is, a damaged archive too."""
    if content[:2].tobytes() != GZIP:
        return content
    try:
        return np.frombuffer(bytearray(gzip.GzipFile(fileobj=io.BytesIO(content)).read(SIZE_LIMIT)), np.uint8)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return content


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError(
        f"{path} cannot be read ({error.strerror or error}): correct its permissions, "
        f"set MNISTMP_DATA to another folder, {DIGITS_REMEDY}."
    )


def _download(root: Path) -> None:
    """Download what is missing, once: other processes wait at the lock and then find it there.

    torchvision writes into a staging folder, because a download that is killed there leaves no
    half-written file where `load` looks. Files already in place are never overwritten.
    """
    raw, staging = root / PLACES[0], root / "MNIST" / "download"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(root / "MNIST" / "download.lock"):
            missing = _missing(root)
            if not missing:
                return
            _download_with_torchvision(staging)
            for name in missing:
                os.replace(staging / PLACES[0] / name, raw / name)
            shutil.rmtree(staging)
    except OSError as error:
        raise DataError(
            f"{root} holds no complete MNIST and cannot be written ({error.strerror or error}): set MNISTMP_DATA "
            f"to a folder that holds it or to one that can be written, {DIGITS_REMEDY}."
        ) from error


def _download_with_torchvision(staging: Path) -> None:
    import torchvision  # a second to import, and needed by a download only

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(DOWNLOAD_TIMEOUT)  # torchvision sets none: a silent network would hang for ever
    try:
        torchvision.datasets.MNIST(staging, download=True)
    except (RuntimeError, OSError, EOFError, http.client.HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise DataError(
            f"{staging.parent.parent} holds no complete MNIST and the download failed ({reason}): check the network, "
            f"set MNISTMP_DATA to a folder that holds it, {DIGITS_REMEDY}."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


# ---- scikit-learn's digits ------------------------------------------------------------------


@cache
def _digits() -> GreyDigits:
    """scikit-learn's 1,797 digits: 1,437 to train on, 360 to test on, the same share of each class."""
    from sklearn.datasets import load_digits  # slow to import, and not needed for MNIST

    source = load_digits()
    images = _enlarge(source.images.astype(np.int64))
    labels = source.target.astype(np.int64)
    # RandomState: NumPy guarantees that its stream never changes. Every fifth digit of the
    # shuffled classes, one class after the other, is a test digit.
    order = np.random.RandomState(0).permutation(len(labels))
    test = np.sort(order[np.argsort(labels[order], kind="stable")][::5])
    train = np.setdiff1d(np.arange(len(labels)), test)

    parts = (images[train], labels[train], images[test], labels[test])
    digest = hashlib.sha256(b"".join(part.astype(np.uint8).tobytes() for part in parts)).hexdigest()
    if digest != CHECKSUMS["digits"]:
        raise DataError(
            "scikit-learn's digits are not the expected ones (their SHA-256 differs): "
            "install the versions in requirements.lock, or use --preset quick, which takes MNIST."
        )
    return GreyDigits(*(torch.from_numpy(part) for part in parts))


def _enlarge(images: np.ndarray) -> np.ndarray:
    """Scale int64 (N, 8, 8) in 0..16 to uint8 (N, 28, 28): bilinear to 20x20, then 4 black pixels around.

    MNIST's own digits sit in a box of 20x20 as well. With half-pixel centres, output row i reads
    input row (4i - 3)/10, so all weights are whole tenths: integer arithmetic, equal on every machine.
    """
    weights = np.zeros((20, 8), dtype=np.int64)
    for i in range(20):
        row, tenths = divmod(min(max(4 * i - 3, 0), 70), 10)
        weights[i, row] += 10 - tenths
        weights[i, min(row + 1, 7)] += tenths
    brightness = weights @ images @ weights.T  # full brightness is 16 * 10 * 10 = 1600
    grey = (2 * 255 * brightness + 1600) // 3200  # rounded
    return np.pad(grey, ((0, 0), (4, 4), (4, 4))).astype(np.uint8)
