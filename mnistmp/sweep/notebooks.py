"""Executed notebooks as files: cleaned for git, put in place in one step, made again only when out of date."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mnistmp import paths
from mnistmp.errors import InputError, first_line
from mnistmp.files import write_atomically

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from mnistmp.sweep.unit import Unit

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
BESIDES = ("calibration", "search", "variants*")  # folders of results/ that notebooks read besides their preset's
_RANDOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){0,3}(-[0-9a-f]{12})?")  # as nbformat and JupyterLab draw them


def find(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """The numbered notebooks of a folder; with names (08, 08_rcl_margin_sweep or a file name) only those."""
    there = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not there:
        raise InputError(f"{folder} holds no numbered notebooks; run mnistmp from a checkout of the project.")
    stems = [Path(name).name.removesuffix(".ipynb") for name in names]
    for name, stem in zip(names, stems):
        if not any(stem in (path.stem, path.stem[:2]) for path in there):
            raise InputError(f"There is no notebook {name!r}; choose from {', '.join(path.stem for path in there)}.")
    return [path for path in there if not names or {path.stem, path.stem[:2]} & set(stems)]


def clean(notebook: NotebookNode, strict: bool = True) -> NotebookNode:
    """A copy without what differs between machines and says nothing: times, versions, random ids.

    Outputs stay. Execution counts are 1, 2, 3 ...; a cell keeps its id if a person chose it, else
    gets one by its place; of the cells' metadata only tags stay. Cleaning twice changes nothing.

    Args:
        notebook: as `nbformat.read` gives it.
        strict: refuse errors and anything on stderr, which readers and nbval stumble over.

    Raises:
        InputError: with `strict`, naming the cell.
    """
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    notebook, _ = CoalesceStreamsPreprocessor().preprocess(copy.deepcopy(notebook), {})
    notebook.nbformat_minor = 5
    notebook.metadata = {"kernelspec": dict(KERNEL), "language_info": {"name": "python"}}
    taken = {cell.get("id") for cell in notebook.cells}
    count = 0
    for place, cell in enumerate(notebook.cells, 1):
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        if _RANDOM_ID.fullmatch(cell.get("id", "0" * 8)):
            cell.id = next(name for n in range(place, 10_000) if (name := f"cell-{n:02}") not in taken)
            taken.add(cell.id)
        if cell.cell_type == "code" and cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        for output in cell.get("outputs", ()):
            if strict and "raises-exception" not in cell.metadata.get("tags", ()):
                _refuse(output, cell.id)
            if "execution_count" in output:
                output.execution_count = cell.execution_count
    return notebook


def publish(executed: Path, target: Path, *, strict: bool) -> None:
    """Put an executed notebook, cleaned, where it belongs, in one step.

    Raises:
        InputError: it shows what it should not (see `clean`), cannot be read, or cannot be written.
    """
    import nbformat

    try:
        notebook = clean(nbformat.read(executed, as_version=4), strict)
        nbformat.validate(notebook)
        # allow_nan: NaN is no JSON, and editors refuse to open it.
        text = nbformat.writes(notebook, allow_nan=False)
        write_atomically(target, text if text.endswith("\n") else text + "\n")
    except InputError as error:
        raise InputError(f"{target.name}: {error}") from None
    except (OSError, ValueError, nbformat.ValidationError) as error:
        raise InputError(f"{target} cannot be made: {first_line(error)}.") from None


def out_of_date(units: Sequence[Unit], preset: str) -> list[Unit]:
    """Those of `plan.show_units` whose source, library, records, evidence, result or figures changed."""
    made, marks = _made_from(preset), fingerprints(units, preset)
    if not set(made["figures"]) <= set(_figures(preset)):  # which notebook draws which figure is not known here
        return list(units)
    kept = {unit.label for unit in units if Path(unit.target).is_file()}
    return [unit for unit in units if unit.label not in kept or made["notebooks"].get(unit.label) != marks[unit.label]]


def fingerprints(units: Sequence[Unit], preset: str) -> dict[str, str]:
    """Label -> marks of the source, of library and records, and of the evidence that a unit would be made from now."""
    package, results = Path(__file__).resolve().parents[1], paths.results()
    # All of the library, unlike a record's code_version: tables and figures decide what a notebook shows.
    library = [path for path in package.rglob("*") if path.suffix in (".py", ".mplstyle", ".html")]
    places = [f"{folder}/{kind}" for folder in (preset, *BESIDES) for kind in ("runs", "irm")]
    shown = _hash([*library, *(path for place in places for path in results.glob(f"{place}/*/seed-*.json"))])
    return {unit.label: f"{_hash([Path(unit.notebook)])}-{shown}-{_evidence(preset)}" for unit in units}


def remember(marks: Mapping[str, str], preset: str) -> None:
    """Note what notebooks were made from: their `fingerprints`, taken before, as records may be added meanwhile.

    Evidence that was added meanwhile is what they saw themselves, and no other notebook reads it: whatever was up to
    date with the evidence before is up to date with it now.
    """
    made = {**_made_from(preset)["notebooks"], **marks}
    before, now = {mark.rpartition("-")[2] for mark in marks.values()}, _evidence(preset)
    for label, mark in made.items():
        others, _, evidence = mark.rpartition("-")
        made[label] = f"{others}-{now}" if evidence in before else mark
    content = {"notebooks": dict(sorted(made.items())), "figures": _figures(preset)}
    write_atomically(_memory(preset), json.dumps(content, indent=1) + "\n")


def _made_from(preset: str) -> dict:
    try:
        return json.loads(_memory(preset).read_bytes())
    except (OSError, ValueError):  # whatever is wrong with the file costs no more than executing again
        return {"notebooks": {}, "figures": []}


def _memory(preset: str) -> Path:
    return paths.results(preset) / "notebooks" / "made-from.json"


def _evidence(preset: str) -> str:
    return _hash(paths.results(preset).glob("evidence/*/*.npz"))


def _figures(preset: str) -> list[str]:
    folder = paths.figures(preset)
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(files):
        content = path.read_bytes()
        digest.update(f"{path.parent.name}/{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _refuse(output: NotebookNode, cell: str) -> None:
    if output.output_type == "error" or output.get("name") == "stderr":
        text, what = (output.evalue, "fails") if output.output_type == "error" else (output.text, "writes to stderr")
        raise InputError(f"cell {cell} {what} ({first_line(text or 'no message')}); repair its cause.")
