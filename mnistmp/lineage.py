"""What every figure and table was made from: `results/lineage.json`.

Written by the commands that make them. Per command: the folders of records that it reads, and the files that it makes;
per record: its key, the code that it was made with, and its SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from mnistmp import evidence, paper, paths
from mnistmp.files import write_atomically

# Command -> the folders of `results/` that it reads, and the files there that it makes.
TABLES = {
    "mnistmp table": (["paper/runs/*", "search/runs/*"], ["paper/*.*"]),
    "mnistmp calibrate --recorded": (["calibration/runs/*", "paper/runs/*"], ["calibration/*.*"]),
    "mnistmp search --recorded": (["search/runs/*", "paper/runs/*"], ["search/*.*"]),
    "mnistmp audit --preset paper": (["variants/irm/*", "paper/evidence/*"], ["variants/*.*"]),
    **{
        f"python benchmarks/precision.py --preset {name}": (
            [f"precision-{name}-{precision}/runs/*" for precision in ("float32", "bfloat16")],
            [f"precision-{name}/table.md"],
        )
        for name in ("paper", "digits")
    },
}  # fmt: skip
# Notebook -> what it reads besides its own rows, their other interpretations and the rows that its code names.
BESIDES = {
    "06_spectral_decoupling": [f"paper/runs/{row.id}" for row in paper.TABLE2],
    "08_rcl_margin_sweep": ["calibration/runs/*"],
    "09_latent_space": [f"paper/*/{row}" for row in ("standard", "standard-original", "rcl-m0.9", "rcl-inf")],
    "10_table2": ["paper/runs/*", "search/runs/*"],
    "12_datasets": ["variants/irm/*", "paper/evidence/*"],
}
# Folder -> what a notebook calls to read there; the same cell names the row.
READERS = {"paper/evidence": r"evidence\.observe\(", "paper/runs": r"records\.\w+\("}


def lineage() -> dict[str, Any]:
    """`made`: command -> the folders that it reads ("from") and the files that it "makes"; `records`: folder -> file ->
    key, code_version and sha256."""
    results, figures = paths.results(), paths.figures("paper")
    made, folders = {}, set()
    plan = [(command, *entry, results) for command, entry in TABLES.items()]
    plan += [(command, *entry, figures) for command, entry in _notebooks().items()]
    for command, read, written, place in plan:
        sources = {path for pattern in read for path in results.glob(pattern) if _kept(path)}
        files = {path for pattern in written for path in place.glob(pattern) if path.is_file()}
        root = results.parent if place == results else figures.parents[1]
        if sources and files:
            folders |= sources
            made[command] = {
                "from": sorted(path.relative_to(results).as_posix() for path in sources),
                "makes": sorted(path.relative_to(root).as_posix() for path in files),
            }
    records = {
        folder.relative_to(results).as_posix(): {path.name: _about(path) for path in _kept(folder)}
        for folder in sorted(folders)
    }
    return {"made": made, "records": records}


def write() -> Path:
    """Write `results/lineage.json`; the same records and files give the same bytes."""
    return write_atomically(paths.results() / "lineage.json", json.dumps(lineage(), indent=1) + "\n")


def _notebooks() -> dict[str, tuple[list[str], list[str]]]:
    commands = {}
    for path in sorted(paths.notebooks().glob("[0-9][0-9]_*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        rows = {row.training for row in paper.TABLE2 if row.notebook == path.stem}
        own = [
            f"{place}/{row}{more}"
            for row in rows
            for place in ("paper/runs", "search/runs", "paper/evidence")
            for more in ("", "+*")
        ]
        named = [
            f"{place}/{word}"  # of all words in quotation marks the rows are those that have a folder
            for place, reader in READERS.items()
            for cell in code
            if re.search(reader, cell)
            for word in re.findall(r'"([a-z][\w.+=-]*)"', cell)
        ]
        drawn = re.findall(r'figures\.save\([^"]*"([^"]+)", preset\)', "".join(code))
        read = own + named + BESIDES.get(path.stem, [])
        commands[f"mnistmp notebooks {path.stem}"] = read, [f"{name}.*" for name in drawn]
    return commands


def _kept(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*seed-*") if path.suffix in (".json", ".npz"))


def _about(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    about = evidence.read(path)[1] if path.suffix == ".npz" else json.loads(content)
    found = {"key": about.get("key"), "code_version": about.get("environment", {}).get("code_version")}
    return {name: value for name, value in found.items() if value} | {"sha256": hashlib.sha256(content).hexdigest()}
