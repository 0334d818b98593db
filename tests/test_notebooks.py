"""The committed notebooks: executed, clean, of readable size, and parameterised as the batch expects."""

from __future__ import annotations

import ast
import base64
import getpass
import hashlib
import io
import json
import linecache
import re
import statistics
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import papermill
import pytest
from PIL import Image
from torchvision.datasets import MNIST

from mnistmp import evidence, paper
from mnistmp.results import ablation, audit, search, table2
from mnistmp.sweep.notebooks import clean

FOLDER = Path(__file__).resolve().parent.parent / "notebooks"

# How many pictures a reader finds in each. A cell that shows a figure twice, or not at all, changes the number.
# A range where one is drawn only once its runs are recorded.
IMAGES = {
    "01_dataset": 4,
    "02_standard": 3,
    "03_dropout": 5,
    "04_jigsaw": 4,
    "05_reconstruction": 3,
    "06_spectral_decoupling": 4,
    "07_rsc": 3,
    "08_rcl_margin_sweep": 7,
    "09_latent_space": 1,
    "10_table2": 2,
    "11_your_method": 0,
    "12_datasets": 1,
}
NAMES = sorted(IMAGES)
TRAINING = sorted({row.notebook for row in paper.TABLE2})

CODE_CELLS, CELL_LINES, MEDIAN_LINES, LINE_LENGTH, FUNCTION_LINES = 18, 25, 8, 120, 20
BYTES = 600_000

# The batch hands preset and seeds to every notebook, and rows to those that train.
PARAMETERS = {name: {"preset": '"paper"', "seeds": '"recorded"'} for name in NAMES}
for name in TRAINING:
    PARAMETERS[name]["rows"] = '"all"'
PARAMETERS["11_your_method"] |= {"preset": '"digits"', "weight": "1.0"}  # its own, trained live

# A path from the root of a file system, but neither a link nor a fraction.
ABSOLUTE = re.compile(
    r"(?<![\w./:~-])(?:[A-Za-z]:\\{1,2}\w|~/\w|/(?:home|Users|root|tmp|mnt|opt|srv|usr|var|etc|data)\b)"
)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code(notebook) for output in cell.outputs]


def python(cell):
    """A cell without its magics, so that it parses."""
    return "\n".join("" if line.startswith(("%", "!")) else line for line in cell.source.splitlines())


def parameters_cell(notebook):
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1, "exactly one cell is tagged parameters"
    return tagged[0]


def test_the_notebooks_are_those_that_are_expected():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


def test_is_valid_and_as_small_as_promised():
    for name in NAMES:
        path = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        assert path.stat().st_size < BYTES
        assert path.read_bytes().endswith(b"}\n")


def test_cleaning_finds_nothing_to_clean():
    """So: stable unique ids, counts from 1, kernel python3, no foreign metadata, no widget, no stderr, no error."""
    for name in NAMES:
        text = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
        assert nbformat.writes(clean(nbformat.reads(text, as_version=4))) == text.rstrip("\n")


def test_was_executed_from_top_to_bottom():
    for name in NAMES:
        cells = code(read(name))
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_names_no_machine_and_no_user():
    for name in NAMES:
        notebook = read(name)
        shown = [cell.source for cell in notebook.cells]
        for output in outputs(notebook):
            shown += [str(text) for kind, text in output.get("data", {}).items() if not kind.startswith("image/png")]
            shown.append(str(output.get("text", "")))
        text = "\n".join(shown)
        assert not ABSOLUTE.search(text), ABSOLUTE.search(text)
        assert str(FOLDER.parent) not in text
        assert " at 0x" not in text
        user = getpass.getuser()
        assert user == "root" or not re.search(rf"\b{re.escape(user)}[@/\\]", text)


def test_shows_the_expected_number_of_images():
    for name in NAMES:
        shown = [output for output in outputs(read(name)) if "image/png" in output.get("data", {})]
        assert len(shown) == IMAGES[name]
        for output in shown:
            assert output.metadata["image/png"]["alt"]  # for readers who cannot see it
            pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(output.data["image/png"]))).convert("L"))
            border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert border.min() > 250, f"{name}: {output.metadata['image/png']['alt']} is cut off"


def test_parameters_are_the_literal_lines_that_papermill_reads():
    for name in NAMES:
        lines = parameters_cell(read(name)).source.splitlines()
        written = {one: re.fullmatch(r"(\w+): (\w+) = ([^#=]+?) +# [^=]+", one) for one in lines}
        assert all(written.values()), written  # with a comment, and one "=": papermill loses the comment otherwise
        assert {match[1]: match[3] for match in written.values()} == PARAMETERS[name]

        inspected = papermill.inspect_notebook(str(FOLDER / f"{name}.ipynb"))
        assert {key: value["default"] for key, value in inspected.items()} == PARAMETERS[name]
        assert all(value["help"] and value["inferred_type_name"] in ("str", "float") for value in inspected.values())


def test_parameters_come_before_everything_that_runs():
    for name in NAMES:
        notebook = read(name)
        assert code(notebook)[0].id == parameters_cell(notebook).id


def test_opens_with_a_question_and_the_time_it_takes():
    for name in NAMES:
        first = read(name).cells[0]
        assert first.cell_type == "markdown"
        title = first.source.splitlines()[0]
        assert re.fullmatch(rf"# {name[:2]} · .*\?", title)
        assert "*Time:" in first.source
        assert "mnistmp " in first.source or name == "11_your_method"  # how to run it in batch


def test_cells_can_be_read_at_a_glance():
    for name in NAMES:
        cells = code(read(name))
        lengths = [len(cell.source.splitlines()) for cell in cells]
        assert len(cells) <= CODE_CELLS
        assert max(lengths) <= CELL_LINES
        assert statistics.median(lengths) <= MEDIAN_LINES
        for cell in cells:
            assert max(map(len, cell.source.splitlines())) <= LINE_LENGTH, cell.source
            for node in ast.walk(ast.parse(python(cell))):
                if isinstance(node, ast.ClassDef):
                    assert name == "11_your_method"
                elif isinstance(node, ast.FunctionDef) and name != "11_your_method":
                    assert node.end_lineno - node.lineno < FUNCTION_LINES, node.name


def test_uses_only_what_is_public():
    for name in NAMES:
        for cell in code(read(name)):
            for node in ast.walk(ast.parse(python(cell))):
                assert not (isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr)), node.attr


def test_its_links_lead_somewhere():
    for name in NAMES:
        for cell in read(name).cells:
            if cell.cell_type == "markdown":
                for link in re.findall(r"\]\((?!https?://|#)([^)\s]+)\)", cell.source):
                    assert (FOLDER / link).resolve().is_file(), link


def test_checked_outputs_hold_nothing_that_varies():
    for name in NAMES:
        for cell in code(read(name)):
            assert "NBVAL" not in cell.source  # tags ask for it, out of the reader's sight
            if "nbval-check-output" in cell.metadata.get("tags", []):
                assert cell.outputs
                assert all("image/png" not in output.get("data", {}) for output in cell.outputs)


@pytest.mark.parametrize("name", [name for name in TRAINING if name in NAMES])
def test_a_training_notebook_trains_what_is_its_own(name):
    calls = [cell.source for cell in code(read(name)) if "train_planned(" in cell.source]
    assert calls == [f'train_planned(preset, rows, seeds, notebook="{name}");']
    tagged = [cell.source for cell in code(read(name)) if "training" in cell.metadata.get("tags", [])]
    assert tagged == calls  # a unit that only trains stops after this cell


def test_what_we_found_is_what_the_records_say(monkeypatch):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    tables = (
        table2.to_markdown(table2.side_by_side("paper"), "paper"),
        search.to_markdown(search.recorded()),
    )
    tables += (ablation.to_markdown(ablation.table("paper"), "paper"),)
    tables += audit.texts("paper")["up.md"], audit.texts("paper")["irm.md"]
    known = {pair for text in tables for pair in re.findall(r"[\d.]+ ± [\d.]+", text)}
    for name in NAMES:
        cells = [cell.source for cell in read(name).cells if "## What we found" in cell.source]
        assert len(cells) == 1, name
        cited = set(re.findall(r"[\d.]+ ± [\d.]+(?<!\.)", cells[0].partition("## What we found")[2]))
        assert cited <= known, (name, cited - known)
        if name == "09_latent_space":  # one run of each method: its own outputs are the source
            shown = "".join(str(output.get("data", output.get("text"))) for output in outputs(read(name)))
            assert set(re.findall(r"\b0\.\d\d\b", cells[0].partition("## What we found")[2])) <= {
                *re.findall(r"0\.\d\d", shown)
            }
        assert cited or name in ("01_dataset", "09_latent_space", "11_your_method")  # cite none
        # What was seen in a network is shown by the notebook itself.
        data = [output.get("data", {}) for output in outputs(read(name))]
        shown = str([[one.get("text/html"), one.get("text/markdown")] for one in data])
        shown += str([output.get("text") for output in outputs(read(name))])
        others = re.sub(r"[\d.]+ ± [\d.]+", "", cells[0].partition("## What we found")[2])
        others = set(re.findall(r"\d+\.\d+(?= %)|\d+\.\d\d+", others))
        assert others <= set(re.findall(r"\d+\.\d+", shown)), (name, others)


@pytest.mark.parametrize("name", ["01_dataset", "12_datasets"])
def test_figures_of_other_digits_do_not_land_among_those_of_mnist(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("MNISTMP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(MNIST, "mirrors", [])  # nothing can be downloaded
    space, cells = {}, [python(cell) for cell in code(read(name))]
    for source in cells[: 1 + max(at for at, source in enumerate(cells) if "figures.save(" in source)]:
        exec(compile(source, name, "exec"), space)
    assert "scikit-learn's digits stand in" in capsys.readouterr().out
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["digits"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["09_latent_space", "10_table2"])
def test_shows_something_where_nothing_is_recorded(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    short = paper.PRESETS["digits"]
    monkeypatch.setitem(paper.PRESETS, "digits", replace(short, fields={**short.fields, "epochs": 2}))
    space = {"display": print}  # which IPython gives a notebook
    for cell in code(read(name)):
        source, file = python(cell).replace('preset: str = "paper"', 'preset: str = "digits"'), f"<{name} {cell.id}>"
        linecache.cache[file] = len(source), None, source.splitlines(keepends=True), file  # for `inspect`
        exec(compile(source, file, "exec"), space)
    assert space["fig"].axes
    assert [path.name for path in tmp_path.glob("figures/*")] == ["digits"]


def test_what_was_seen_in_the_networks_is_committed_and_up_to_date():
    cells = [python(cell) for name in NAMES for cell in code(read(name))]
    looks = {
        node.name: hashlib.sha256(f"{ast.get_source_segment(cell, node)}\n".encode()).hexdigest()[:16]
        for cell in cells
        for node in ast.parse(cell).body
        if isinstance(node, ast.FunctionDef)
    }
    seen = set()
    for path in (FOLDER.parent / "results/paper/evidence").glob("*/*.npz"):
        (look, _, seed), about = path.stem.rpartition("-seed-"), evidence.read(path)[1]
        assert about["key"] == paper.spec_for(path.parent.name, int(seed), "paper").key(), path
        assert path.stat().st_size < 300_000
        if look in looks:  # others are the library's
            assert about["look"] == looks[look], f"{path} is of another {look}; delete it and execute its notebook"
            seen.add(look)
    asked = {name for cell in cells for name in re.findall(r"evidence\.observe\([^,]+, (\w+), preset", cell)}
    assert asked and asked <= seen


def test_no_two_notebooks_save_a_figure_under_one_name():
    saved = re.compile(r'figures\.save\([^"]*"([^"]+)", preset\)')
    names = [one for name in NAMES for cell in code(read(name)) for one in saved.findall(cell.source)]
    assert names and len(set(names)) == len(names)


def test_no_notebook_holds_what_json_does_not_know():
    for path in FOLDER.glob("*.ipynb"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
