"""A coloured MNIST as files that numpy, torch or pandas open, with sums, a data card and Croissant metadata."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mnistmp import paths
from mnistmp.data.dataset import ColoredMNIST
from mnistmp.data.palette import resize
from mnistmp.data.variants import Variant, find
from mnistmp.errors import InputError, check_choice
from mnistmp.files import write_atomically

FORMATS = {  # name -> ending, media type
    "npz": ("npz", "application/zip"),
    "torch": ("pt", "application/zip"),
    "parquet": ("parquet", "application/x-parquet"),
}
LICENSES = {  # of the digits: the name that data cards use, and the address
    "mnist": ("cc-by-sa-3.0", "https://creativecommons.org/licenses/by-sa/3.0/"),
    "digits": ("cc-by-4.0", "https://creativecommons.org/licenses/by/4.0/"),
}
FIELDS = {
    "images": "RGB images, 0 to 255; background black unless the variant paints it",
    "labels": "class from 0, as the variant defines it, with its label noise; -1 for digits of no class",
    "digits": "the digit from 0 to 9",
    "colors": "RGB colour that the image is painted in, 0 to 255",
}


def export(variant: str | Variant, folder: str | Path, kind: str = "npz", dataset: str = "mnist") -> list[Path]:
    """Write one file per split, `README.md`, `croissant.json` and `SHA256SUMS`, which comes last; the same bytes again.

    npz holds uint8 images (N, H, W, 3), int64 labels (N,), uint8 digits (N,), uint8 colors (N, 3). torch holds
    a dict of these as tensors with images (N, 3, H, W), and `<variant>.pt` all splits as the authors announced them:
    per split a dict of labels and float32 images in [-1, 1], (N, 3, 32, 32), or (N, 3, 14, 14) of irm and sd. parquet
    holds images as PNG, as the `datasets` library reads them, and needs pyarrow.

    Raises:
        InputError: an unknown variant or format, pyarrow missing, a folder that is not empty or not writable; before
            anything is written.
        DataError: the digits cannot be had.
    """
    variant, folder = find(variant), paths.absolute(folder, "folder")
    check_choice("format", kind, FORMATS)
    if kind == "parquet":
        _pyarrow()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not an empty folder; name a new one.")
    splits = {name: ColoredMNIST(None, variant, name, dataset=dataset) for name in variant.splits}
    made = not folder.exists()
    written: list[Path] = []
    try:
        for name, split in splits.items():
            written.append(write_atomically(folder / f"{name}.{FORMATS[kind][0]}", _content(split, kind)))
        if kind == "torch":
            written.append(write_atomically(folder / f"{variant.name}.pt", _announced(splits)))
        sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written}
        written.append(write_atomically(folder / "README.md", _card(variant, splits, kind, dataset)))
        about = _croissant(variant, splits, sums, written, kind, dataset)
        written.append(write_atomically(folder / "croissant.json", json.dumps(about, indent=1) + "\n"))
        sums |= {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in written[-2:]}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        written.append(write_atomically(folder / "SHA256SUMS", lines))
    except BaseException as error:
        for path in written:
            path.unlink(missing_ok=True)
        if made and folder.exists():
            folder.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"{folder} cannot be written ({error.strerror or error}); name another folder.") from None
        raise
    return written


def _pyarrow() -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise InputError("parquet needs pyarrow; pip install pyarrow, or choose --format npz.") from None
    return pyarrow


def _content(split: ColoredMNIST, kind: str) -> bytes:
    buffer = io.BytesIO()
    arrays = {"images": split.pixels(), "labels": split.targets.numpy(),
              "digits": split.digits.numpy().astype(np.uint8), "colors": split.colors.numpy()}  # fmt: skip
    if kind == "npz":
        np.savez_compressed(buffer, **arrays)
    elif kind == "torch":
        arrays["images"] = np.ascontiguousarray(arrays["images"].transpose(0, 3, 1, 2))
        torch.save({name: torch.from_numpy(values) for name, values in arrays.items()}, buffer)
    else:
        pyarrow = _pyarrow()
        images = []
        for image in arrays["images"]:
            Image.fromarray(image).save(png := io.BytesIO(), "png")
            images.append({"bytes": png.getvalue(), "path": None})
        columns = {
            "image": pyarrow.array(images, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})),
            "label": pyarrow.array(arrays["labels"]),
            "digit": pyarrow.array(arrays["digits"]),
            "color": pyarrow.array(arrays["colors"].tolist(), pyarrow.list_(pyarrow.uint8())),
        }
        features = {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"},
                    "digit": {"_type": "Value", "dtype": "uint8"},
                    "color": {"_type": "List", "feature": {"_type": "Value", "dtype": "uint8"}}}  # fmt: skip
        table = pyarrow.table(columns).replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
        pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def _announced(splits: dict[str, ColoredMNIST]) -> bytes:
    content = {}
    for name, split in splits.items():
        images = torch.from_numpy(split.pixels()).permute(0, 3, 1, 2)
        if images.shape[2] == 28:  # each channel is resized as a grey image
            images = resize(images.flatten(0, 1), 32).unflatten(0, (-1, 3))
        content[name] = {"images": (2 * (images.float() / 255) - 1).contiguous(), "labels": split.targets}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _card(variant: Variant, splits: dict[str, ColoredMNIST], kind: str, dataset: str) -> str:
    digits = "MNIST (LeCun, Cortes and Burges)" if dataset == "mnist" else "scikit-learn's embedded digits, not MNIST"
    rows = [f"| {name} | {len(split):,} | {variant.splits[name].source} |" for name, split in splits.items()]
    fields = [f"* **{name}**: {text}." for name, text in FIELDS.items()]
    return "\n".join([
        "---", f"pretty_name: {variant.name}", f"license: {LICENSES[dataset][0]}",
        "task_categories: [image-classification]",
        "---", "", f"# {variant.name}", "", variant.about, "", f"Digits: {digits}. Made by mnistmp's `export`.", "",
        "| split | images | from the digits' file |", "|---|---:|---|", *rows, "", *fields, "",
        "**Intended use**: to measure whether a classifier learns shape where colour is the easier clue. "
        "**Not for**: reading digits. **Known limits**: splits other than train may show the same digits in other "
        "colours; label noise and counter-examples, where a variant has them, are part of its definition.", "",
        f"`SHA256SUMS` has the sum of every file (`sha256sum --check SHA256SUMS`); format: {kind}.", "",
    ])  # fmt: skip


def _croissant(variant, splits, sums, written, kind, dataset) -> dict[str, Any]:
    """Croissant 1.0 metadata: the files with their sums and, of parquet, the columns."""
    files = [
        {"@type": "cr:FileObject", "@id": path.name, "name": path.name, "contentUrl": path.name,
         "contentSize": f"{path.stat().st_size} B", "encodingFormat": FORMATS[kind][1], "sha256": sums[path.name]}
        for path in written if path.name in sums
    ]  # fmt: skip
    types = {"image": "sc:ImageObject", "label": "sc:Integer", "digit": "sc:Integer"}
    records = [
        {"@type": "cr:RecordSet", "@id": name, "name": name, "field": [
            {"@type": "cr:Field", "@id": f"{name}/{column}", "name": column, "dataType": of,
             "source": {"fileObject": {"@id": f"{name}.parquet"}, "extract": {"column": column},
                        **({"transform": {"jsonPath": "bytes"}} if column == "image" else {})}}
            for column, of in types.items()
        ]}
        for name in splits
    ]  # fmt: skip
    return {
        "@context": _CONTEXT, "@type": "sc:Dataset", "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": variant.name, "description": variant.about, "license": LICENSES[dataset][1], "version": "1.0.0",
        "url": "https://arxiv.org/abs/2106.07916", "datePublished": "2026-11-26",
        "citeAs": "Duboudin et al., Encouraging Intra-Class Diversity Through a Reverse Contrastive Loss for "
                  "Single-Source Domain Generalization, ICCVW 2021",
        "distribution": files, **({"recordSet": records} if kind == "parquet" else {}),
    }  # fmt: skip


# Croissant's own, to the letter: a reader warns of any other.
_TERMS = """citeAs column equivalentProperty extract field fileObject fileProperty fileSet format
includes isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate
separator source subField transform"""
_CONTEXT = {
    "@language": "en", "@vocab": "https://schema.org/", "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/", "rai": "http://mlcommons.org/croissant/RAI/", "sc": "https://schema.org/",
    "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"}, "conformsTo": "dct:conformsTo",
    **{term: f"cr:{term}" for term in _TERMS.split()},
}  # fmt: skip
