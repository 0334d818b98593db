"""Executed notebooks as files: cleaned for git, put in place in one step, made again only when out of date."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mnistmp import paper, paths
from mnistmp.files import read_bounded, write_atomically
from mnistmp.sweep.unit import Unit

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
_WIDGET = "application/vnd.jupyter.widget-view+json"
_ID = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_LARGEST = 10_000_000  # bytes read of one file
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")  # as nbformat and JupyterLab draw them


class NotebookError(ValueError):
    """A notebook that cannot be used or shown: one sentence with the file, what is wrong and what to do."""


def clean_notebook(notebook: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    """A copy without what differs between machines and says nothing: times, versions, widgets, random ids.

    Outputs stay. Execution counts are 1, 2, 3 ...; a cell keeps its id if a person chose it, else
    gets one by its place; of the cells' metadata only tags stay. Cleaning twice changes nothing.

    Args:
        notebook: as `nbformat.read` gives it, or the same as plain dictionaries.
        strict: refuse errors and anything on stderr, which readers and nbval stumble over.

    Raises:
        NotebookError: with `strict`, naming the cell.
    """
    notebook = copy.deepcopy(notebook)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    notebook["metadata"] = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    _name_cells(notebook["cells"])
    count = 0
    for cell in notebook["cells"]:
        tags = [tag for tag in cell["metadata"].get("tags", []) if not tag.startswith("papermill-")]
        cell["metadata"] = {"tags": tags} if tags else {}
        if cell["cell_type"] != "code":
            continue
        if cell.get("execution_count") is not None:
            count += 1
            cell["execution_count"] = count
        cell["outputs"] = _clean_outputs(cell, strict and "raises-exception" not in tags)
    return notebook


def publish(executed: Path, target: Path, *, strict: bool) -> None:
    """Put an executed notebook, cleaned, where it belongs, in one step.

    Raises:
        NotebookError: it shows what it should not (see `clean_notebook`), cannot be read, or cannot be written.
    """
    import nbformat

    try:
        notebook = clean_notebook(nbformat.read(executed, as_version=4), strict)
        nbformat.validate(notebook)
        text = nbformat.writes(notebook)
        json.loads(text, parse_constant=_refuse)
        write_atomically(target, text if text.endswith("\n") else text + "\n")
    except NotebookError as error:
        raise NotebookError(f"{target.name}: {error}") from None
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise NotebookError(f"{target} cannot be made: {str(error).splitlines()[0]}.") from None


def find(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks of a folder; with names (08, 08_rcl_margin_sweep or a file name) only those.

    Raises:
        NotebookError: no such notebook, or none at all.
    """
    there = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not there:
        raise NotebookError(f"{folder} holds no numbered notebooks; run mnistmp from a checkout of the project.")
    chosen = set()
    for name in names:
        stem = Path(name).name.removesuffix(".ipynb")
        match = [path for path in there if stem in (path.stem, path.stem[:2])]
        if not match:
            raise NotebookError(f"There is no notebook {name!r}; choose from {', '.join(path.stem for path in there)}.")
        chosen.update(match)
    return [path for path in there if not names or path in chosen]


def own_units(folder: Path, names: Sequence[str] = ()) -> list[Unit]:
    """Execute notebooks with their own parameters and put the result, if spotless, in their place."""
    return [
        Unit(name=f"own-{path.stem}", label=path.stem, preset="paper", notebook=str(path), target=str(path),
             strict=True)
        for path in find(folder, names)
    ]  # fmt: skip


def recorded_units(folder: Path, preset: str, rows: str = "all") -> list[Unit]:
    """Execute, to show what is recorded, the notebooks of these rows and all that train no row of Table 2."""
    training = {row.notebook for row in paper.TABLE2}
    asked = {row.notebook for row in paper.trainings(rows)}
    return [
        Unit(name=f"show-{path.stem}", label=path.stem, preset=preset, notebook=str(path), seeds="recorded",
             target=str(_shown(preset) / path.name))
        for path in find(folder) if path.stem in asked or path.stem not in training
    ]  # fmt: skip


def out_of_date(units: Sequence[Unit], preset: str) -> list[Unit]:
    """Those of `recorded_units` whose source, library, records, result or figures changed since `remember`."""
    before, figures = _made_from(preset)
    if not figures <= set(_figures(preset)):  # which notebook draws which figure is not known here
        return list(units)
    now = fingerprints(units, preset)
    return [unit for unit in units if not Path(unit.target).is_file() or before.get(unit.label) != now[unit.label]]


def fingerprints(units: Sequence[Unit], preset: str) -> dict[str, str]:
    """Label -> mark of the source, library and records that a unit would be made from now."""
    records = _records_hash(preset)
    return {unit.label: _fingerprint(unit, records) for unit in units}


def remember(marks: Mapping[str, str], preset: str) -> None:
    """Note what notebooks were made from: their `fingerprints`, taken before, as records may be added meanwhile.

    Raises:
        OSError: it cannot be written; they will be executed again.
    """
    made, _ = _made_from(preset)
    content = {"notebooks": dict(sorted({**made, **marks}.items())), "figures": _figures(preset)}
    write_atomically(_shown(preset) / "made-from.json", json.dumps(content, indent=1) + "\n")


def _made_from(preset: str) -> tuple[dict[str, str], set[str]]:
    # Label -> fingerprint, and figures. Whatever is wrong with the file costs no more than executing again.
    try:
        made = json.loads(read_bounded(_shown(preset) / "made-from.json", _LARGEST))
        if not all(isinstance(mark, str) for mark in made["notebooks"].values()):
            raise ValueError("a fingerprint is no text")
        return dict(made["notebooks"]), set(made["figures"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}, set()


def _name_cells(cells: list[dict[str, Any]]) -> None:
    taken: set[str] = set()
    unnamed = []
    for place, cell in enumerate(cells, 1):
        own = str(cell.get("id", ""))
        if _ID.fullmatch(own) and not _RANDOM_ID.fullmatch(own) and own not in taken:
            taken.add(own)
        else:
            unnamed.append((place, cell))
    for place, cell in unnamed:
        while (name := f"cell-{place:02}") in taken:
            place += 1
        taken.add(name)
        cell["id"] = name


def _clean_outputs(cell: dict[str, Any], strict: bool) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = []
    for output in cell["outputs"]:
        kind = output["output_type"]
        if strict and (kind == "error" or output.get("name") == "stderr"):
            text = output["evalue"] if kind == "error" else "".join(output["text"])
            what = "fails" if kind == "error" else "writes to stderr"
            first = (text.strip().splitlines() or [""])[0][:200]
            raise NotebookError(f"cell {cell['id']} {what} ({first}); repair its cause.")
        if kind == "stream" and outputs and outputs[-1].get("name") == output["name"]:
            # Where one message ends and the next begins is chance.
            outputs[-1]["text"] = "".join(outputs[-1]["text"]) + "".join(output["text"])
            continue
        if "data" in output:
            output["data"].pop(_WIDGET, None)
        if "execution_count" in output:
            output["execution_count"] = cell["execution_count"]
        outputs.append(output)
    return outputs


def _shown(preset: str) -> Path:
    return paths.results(preset) / "notebooks"


def _figures(preset: str) -> list[str]:
    folder = paths.figures(preset)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _fingerprint(unit: Unit, records: str) -> str:
    source = hashlib.sha256(Path(unit.notebook).read_bytes()).hexdigest()
    return hashlib.sha256(f"{source} {_library_hash()} {records}".encode()).hexdigest()


@lru_cache(maxsize=1)
def _library_hash() -> str:
    # All of it, unlike a record's code_version: report and figures decide what a notebook shows.
    package = Path(__file__).resolve().parent.parent
    return _hash(package, [p for p in package.rglob("*") if p.suffix in (".py", ".mplstyle", ".html")])


def _records_hash(preset: str) -> str:
    folder = paths.results(preset)
    return _hash(folder, [*folder.glob("runs/*/seed-*.json"), *folder.glob("latent/*.npz")])


def _hash(folder: Path, files: Any) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        content = read_bounded(path, _LARGEST)
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _refuse(constant: str):
    raise ValueError(f"it holds {constant}, which is not JSON")
