"""Methods, networks and rows from a file outside the package: what they need, where they show, what is refused."""

import os
import subprocess
import sys

import pytest
import torch
from stub_runs import record

from mnistmp import cli, engine, figures, methods, own, paper, paths, records
from mnistmp.errors import InputError
from mnistmp.records import provenance
from mnistmp.results import table2
from mnistmp.sweep import plan, process

START = """
import torch
from torch import nn
from mnistmp import methods
from mnistmp.paper import own_row
"""
ROWS = 'ROWS = [own_row("{0}", "Mine", options={{"weight": 2.0}})]\n'
METHOD = """
@methods.register("{0}")
class Mine(methods.Method):
    {1}
    def __init__(self, network, weight: float = 1.0):
        super().__init__(network)
        self.weight = weight

    def loss(self, images, labels):
        loss = nn.functional.cross_entropy(self(images).float(), labels)
        return self.weight * loss, {{"cross_entropy": loss}}
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(methods.base, "METHODS", dict(methods.METHODS))
    monkeypatch.setattr(own, "_LOADED", {})
    monkeypatch.setenv("MNISTMP_METHODS", "")  # so that it is put back, whatever a command sets
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(place, monkeypatch, text, name="mine.py"):
    (place / name).write_text(START + text)
    monkeypatch.setenv("MNISTMP_METHODS", name)  # relative, as one types it


def test_the_written_file_trains_and_its_row_is_marked(place, monkeypatch, capsys):
    assert cli.main(["new-method", "my-idea"]) == 0
    assert "mnistmp reproduce --methods my_idea.py --rows standard,my-idea" in capsys.readouterr().out
    assert cli.main(["run", "--methods", "my_idea.py", "--rows", "my-idea", "--seeds", "0", "--dry-run"]) == 0
    assert "my-idea seed 0" in capsys.readouterr().out
    (spec,) = paper.plan("digits", "my-idea", "0", "float32")
    assert (spec.method, spec.options, spec.epochs) == ("my-idea", {"weight": 1.0}, 12)
    records.save(record(spec), "digits")
    assert cli.main(["table", "--preset", "digits"]) == 0
    assert "My idea (not in the paper)" in capsys.readouterr().out.splitlines()[-3]
    assert (place / "figures/digits/curves-my-idea.png").is_file()
    assert [row.id for row in paper.trainings()][-1] == "my-idea" and len(paper.TABLE2) == 18
    assert own.write_template("a2-b", place).name == "a2_b.py" and "class A2BMethod(" in (place / "a2_b.py").read_text()


@pytest.mark.parametrize("name", ["none", "f", "true", "class", "methods", "method", "own-row", "torch"])
def test_the_written_file_works_whatever_the_name(place, monkeypatch, name):
    monkeypatch.setenv("MNISTMP_METHODS", str(own.write_template(name, place)))
    (spec,) = paper.plan("digits", name, "0", "float32")
    engine.try_out(spec)


def test_own_rows_are_in_the_sweep_the_table_and_the_curves(place, monkeypatch):
    write(place, monkeypatch, METHOD.format("mine", "") + ROWS.format("mine"))
    specs = paper.plan("digits", "standard,mine", "0,1", "float32")
    units = plan.train_units(specs, "digits", folder=paths.notebooks())
    assert {(unit.notebook[-16:], unit.specs[0].row) for unit in units} == {("02_standard.ipynb"[-16:], "standard"),
                                                                            ("", "mine")}  # fmt: skip
    for spec in specs:
        records.save(record(spec), "digits")
    line = table2.table2(records.load("digits")).iloc[-1]
    assert (line["id"], line["label"], line["n"], line["verdict"]) == ("mine", "Mine (not in the paper)", 2, "")
    drawn = figures.training_curves(records.history("digits"), ["standard", "mine"])
    assert [axes.get_title().replace("\n", " ") for axes in drawn.axes][1] == "Mine (not in the paper)"
    assert process.environment()["MNISTMP_METHODS"] == str(place / "mine.py")  # also from another folder


def test_a_record_whose_file_is_not_named_is_left_out_and_stays(place, monkeypatch, capsys):
    write(place, monkeypatch, ROWS.format("mine") + METHOD.format("mine", ""))
    path = records.save(record(paper.spec_for("mine", 0, "digits", "float32")), "digits")
    monkeypatch.setenv("MNISTMP_METHODS", "")
    methods.base.METHODS.pop("mine")
    with pytest.warns(UserWarning, match="seed-0.json is left out: There is no method 'mine'.*--methods"):
        assert cli.main(["run", "--rows", "standard", "--seeds", "0", "--precision", "float32", "--dry-run"]) == 0
    with pytest.warns(UserWarning, match="is left out"):  # also where it is the first, which gives the precision
        assert cli.main(["status", "--preset", "digits", "--rows", "standard"]) == 0
    assert path.is_file()


def test_a_process_of_its_own_knows_the_method(place, monkeypatch):
    write(place, monkeypatch, METHOD.format("mine", "") + ROWS.format("mine"))
    code = 'from mnistmp import RunSpec; print(RunSpec(row="x", method="mine").options)'
    environment = {**os.environ, **process.environment()}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=place.parent, env=environment, capture_output=True, text=True
    )
    assert said.stdout == "{'weight': 1.0}\n", said.stderr


def test_the_code_version_counts_the_file(place, monkeypatch):
    def version(text):
        write(place, monkeypatch, text)
        return provenance.code_version.__wrapped__()

    without = provenance.code_version.__wrapped__()
    assert len({without, version("a = 1"), version("a = 2")}) == 3


NETWORK = """
class Net(nn.Module):
    def __init__(self, image_size):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 32, 3, padding="same"), nn.ReLU(), nn.Conv2d(32, 8, 5, stride=4))
        self.classifier = nn.Sequential(nn.Flatten(2), nn.Linear({0}, 5), nn.Flatten(), nn.Linear(40, {1}))
"""


def test_a_network_of_ones_own(place, monkeypatch):
    write(place, monkeypatch, NETWORK.format(36, 10) + METHOD.format("mine", "network = Net") + ROWS.format("mine"))
    for precision in ("float32", "bfloat16"):
        spec = paper.spec_for("mine", 0, "digits", precision, epochs=1)
        engine.try_out(spec)
        assert engine.build(spec, torch.device("cpu")).features[2].out_channels == 8
    assert engine.fit(spec).history[0]["val_correct"] > 36  # better than guessing, among 360 digits


@pytest.mark.parametrize(
    "text, words",
    [
        ("1 +", r"mine.py fails \(SyntaxError: "),
        ("import nowhere", r"mine.py fails \(ModuleNotFoundError: No module named 'nowhere'\); repair it."),
        ("", "mine.py names no rows; end it with ROWS"),
        ("ROWS = ['mine']", "mine.py names no rows"),
        (ROWS.format("mine"), "There is no method 'mine'; choose one of standard|There is no method 'mine'; choose"),
        ('ROWS = [own_row("rsc", "Mine")]', "row 'rsc' is there already; choose another id"),
        ('ROWS = [own_row("a+b", "Mine", method="rsc")]', r"row 'a.b' has a .\+.; choose another id"),
        ('ROWS = [own_row("../x", "Mine", method="rsc")]', "row is '../x'; use up to 100 letters"),
        ('ROWS = [own_row("mine", "Mine", method="rsc", options={"wait": 1})]', "has no option 'wait'"),
        ("@methods.register('rsc')\nclass Mine(methods.Method): pass", "method name 'rsc' is taken by RSC"),
        (METHOD.format("mine", "").replace(": float = 1.0", "") + ROWS.format("mine"), "needs a default value"),
    ],
)
def test_bad_files_are_one_sentence_before_any_training(place, monkeypatch, capsys, text, words):
    write(place, monkeypatch, text)
    with pytest.raises(InputError, match=words):
        paper.trainings()
    assert cli.main(["run", "--methods", "mine.py", "--rows", "mine,standard"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mnistmp: ") and said.count("\n") == 1 and not (place / "results").exists()


@pytest.mark.parametrize(
    "text, words",
    [
        (METHOD.format("mine", "").replace("images).float", "images).flat"), "row mine fails on random images"),
        (METHOD.format("mine", "").replace("return self.weight", "return float('nan')"), "the loss is nan"),
        (NETWORK.format(36, 7) + METHOD.format("mine", "network = Net"), "IndexError|out of bounds|7"),
        (NETWORK.format(36, 12) + METHOD.format("mine", "network = Net"), "shape (20, 12) instead of (20, 10)"),
        (NETWORK.format(35, 10) + METHOD.format("mine", "network = Net"), "cannot be multiplied|shapes"),
        ("class Net(nn.Module):\n    def __init__(self, image_size): super().__init__()\n"
         + METHOD.format("mine", "network = Net"), "AttributeError: 'Net' object has no attribute 'features'"),
    ],
)  # fmt: skip
def test_what_fails_in_training_is_said_before_it(place, monkeypatch, capsys, text, words):
    write(place, monkeypatch, text + ROWS.format("mine"))
    assert cli.main(["run", "--rows", "standard,mine", "--seeds", "0"]) == 2
    said = capsys.readouterr().err
    assert (
        any(word in said for word in words.split("|"))
        and said.endswith("the network logits (N, 10).\n")
        and said.count("\n") == 1
    )
    assert not (place / "results").exists()


@pytest.mark.parametrize(
    "name, words", [("My Idea", "use small letters"), ("rsc/", "use small"), ("my-idea", "there already")]
)
def test_a_starting_file_is_refused(place, name, words):
    (place / "my_idea.py").write_text("mine")
    with pytest.raises(InputError, match=words):
        own.write_template(name, place)
    assert (place / "my_idea.py").read_text() == "mine"


def test_a_name_that_is_taken_is_refused(place, capsys):
    assert cli.main(["new-method", "standard"]) == 2
    assert "There is a method or row 'standard' already" in capsys.readouterr().err


def test_a_file_that_is_not_there(place, capsys):
    assert cli.main(["status", "--methods", "nothing.py"]) == 2
    assert f"{place / 'nothing.py'} is no Python file; name one that is" in capsys.readouterr().err
