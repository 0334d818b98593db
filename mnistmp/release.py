"""One archive to deposit: records, tables, figures, the website, MNIST-MP as files, where all came from, and sums."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path

import yaml

from mnistmp import __version__, paper, paths, site
from mnistmp.data.export import export
from mnistmp.errors import InputError
from mnistmp.files import write
from mnistmp.results import audit

LEFT_OUT = {"attempts", "checkpoints", "notebooks"}  # of results/: what stays on the machine, and what site/ shows


def release(preset: str, folder: str | Path) -> Path:
    """Write `mnistmp-<version>.tar.gz`; the same content gives the same bytes.

    Args:
        preset: "paper" packs all results but those of other presets; another one its own.
        folder: made where missing.

    Raises:
        InputError: not a checkout, no executed notebooks, or a folder that cannot be written.
        DataError: the digits cannot be had.
    """
    preset, root, folder = paper.preset(preset), paths.checkout(), paths.absolute(folder, "folder")
    if root is None:
        raise InputError("A release is made of a checkout of the project; install it with pip install -e from one.")
    with tempfile.TemporaryDirectory() as place:
        made = Path(place)
        site.build(preset.name, made / "site")
        export("mp", made / "data" / "mnist-mp", dataset=preset.dataset)
        files = {path.relative_to(made).as_posix(): path for path in made.rglob("*") if path.is_file()}
        files |= {name: root / name for name in ("README.md", "LICENSE", "CITATION.cff", "requirements.lock")}
        files |= {f"docs/{path.name}": path for path in root.glob("docs/*.md")}
        files |= _below(paths.figures(preset.name), f"figures/{preset.name}")
        others = {*paper.PRESETS, *map(audit.folder, paper.PRESETS)} - {preset.name, audit.folder(preset.name)}
        for one in sorted(paths.results().iterdir()):
            if one.is_dir() and (one.name == preset.name or preset.name == "paper" and one.name not in others):
                files |= _below(one, f"results/{one.name}")
        files["results/lineage.json"] = paths.results() / "lineage.json"
        content = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    content[".zenodo.json"] = zenodo((root / "CITATION.cff").read_text(encoding="utf-8")).encode()
    sums = "".join(f"{hashlib.sha256(content[name]).hexdigest()}  {name}\n" for name in sorted(content))
    content["SHA256SUMS"] = sums.encode()
    name = f"mnistmp-{__version__}"
    buffer = io.BytesIO()
    # No date, no owner, no file name: the same bytes on every machine.
    with (
        gzip.GzipFile("", "wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for path in sorted(content):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size = len(content[path])
            archive.addfile(entry, io.BytesIO(content[path]))
    return write(folder / f"{name}.tar.gz", buffer.getvalue(), "name another folder")


def zenodo(citation: str) -> str:
    """`.zenodo.json` with what CITATION.cff says."""
    cited = yaml.safe_load(citation)
    return json.dumps({
        "upload_type": "software",
        "title": cited["title"],
        "version": cited["version"],
        "license": cited["license"],
        "creators": [{"name": author["name"]} for author in cited["authors"]],
        "description": f"<p>{cited['abstract'].strip()}</p>",
        "keywords": cited["keywords"],
        "related_identifiers": [
            {"identifier": one["value"], "relation": "isDerivedFrom", "resource_type": "publication-conferencepaper"}
            for paper in cited["references"] for one in paper["identifiers"]
        ],
    }, indent=1, ensure_ascii=False) + "\n"  # fmt: skip


def _below(folder: Path, name: str) -> dict[str, Path]:
    found = {}
    for path in folder.rglob("*"):
        part = path.relative_to(folder)
        if path.is_file() and part.parts[0] not in LEFT_OUT and not path.name.startswith("."):
            found[f"{name}/{part.as_posix()}"] = path
    return found
