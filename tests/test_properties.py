"""Whatever is asked for: what cannot be is refused in one sentence before any work, and what can be means the same
wherever it travels: through JSON, papermill's parameters, the units of a batch and the record.

The examples are drawn the same way every time, so that a pass or a failure repeats.
"""

import json
import math
import re
import string
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import nbformat
import papermill.parameterize
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from stub_runs import PRESET, record, specs_of
from stub_sweep import PARAMETERS

from mnistmp import cli, engine, methods, paper, paths, records
from mnistmp.errors import InputError
from mnistmp.records import RecordError, RunRecord
from mnistmp.spec import RunSpec
from mnistmp.sweep import plan, run


def bounded(examples):
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])  # fmt: skip


def through_papermill(cell, parameters):
    """A notebook of one cell tagged `parameters`, and the one that papermill puts after it."""
    notebook = nbformat.v4.new_notebook(metadata={"papermill": {}})
    notebook.cells.append(nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]}))
    return papermill.parameterize.parameterize_notebook(notebook, parameters, kernel_name="python3", language="python")


def one_sentence(text):
    return "\n" not in text and text.endswith(".") and 10 < len(text) < 700


# ---- what can be asked for ----

NUMBERS = st.floats(0, 1e300)
ROWS = st.text(string.ascii_letters + string.digits + "._=+-", max_size=40).map("r".__add__)


@st.composite
def options(draw):
    """A method and some of its options, at any value they can take."""
    method = draw(st.sampled_from([*sorted(methods.METHODS), "rcl", "rcl", "rcl"]))  # the one with an infinity
    given = {}
    named = methods.choices(methods.METHODS[method])
    for name, default in methods.default_options(methods.METHODS[method]).items():
        if draw(st.booleans()):
            values = st.sampled_from(named[name]) if name in named else NUMBERS
            if default == math.inf:
                values |= st.sampled_from([math.inf, "inf"])
            given[name] = draw(values)
    return {"method": method, "options": given}


@st.composite
def fields(draw):
    """Arguments of a RunSpec that can be trained."""
    hints = get_type_hints(RunSpec)
    drawn = {name: draw(st.sampled_from(get_args(hint))) for name, hint in hints.items() if get_origin(hint) is Literal}
    drawn.update(draw(options()), row=draw(ROWS), seed=draw(st.integers(0, 2**31 - 1)), epochs=draw(st.integers(1, 6)),
                 batch_size=draw(st.integers(2, 10_000)),
                 learning_rate=draw(st.floats(0, 99)), momentum=draw(st.floats(0, 1, exclude_max=True)),
                 weight_decay=draw(st.floats(0, 99)))  # fmt: skip
    return drawn


# Anything that a JSON file, a notebook or a mistake could put in a field's place.
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def test_strict_json_gives_back_the_same_run():
    infinite = 0

    @bounded(150)
    @given(fields())
    def check(given):
        nonlocal infinite
        spec = RunSpec(**given)
        text = json.dumps(spec.to_json(), allow_nan=False)
        again = RunSpec.from_json(json.loads(text, parse_constant=pytest.fail))
        assert again == spec and again.key() == spec.key() and again.to_json() == spec.to_json()
        infinite += math.inf in spec.options.values()

    check()
    assert infinite > 3  # the examples hold what JSON cannot write


@bounded(60)
@given(fields())
def test_papermill_hands_the_same_run_to_a_notebook_that_stays_strict_json(given):
    spec = RunSpec(**given)
    notebook = through_papermill("run = {}", {"run": spec.to_json()})
    told = {}
    exec(notebook.cells[1].source, told)
    assert RunSpec.from_json(told["run"]) == spec
    stored = json.loads(nbformat.writes(notebook), parse_constant=pytest.fail)
    assert RunSpec.from_json(stored["metadata"]["papermill"]["parameters"]["run"]) == spec


@bounded(40)
@given(
    st.sets(st.sampled_from([row.id for row in paper.trainings()]), min_size=1),
    st.sets(st.integers(0, 999_999_999), min_size=1, max_size=4),
    st.integers(1, 9),
    st.data(),
)
def test_what_units_tell_their_notebooks_is_what_was_asked_for(rows, seeds, jobs, data):
    asked = paper.plan(PRESET, ",".join(rows), ",".join(map(str, seeds)), "float32")
    missing = data.draw(st.lists(st.sampled_from(asked), unique_by=lambda spec: spec.key()))
    missing = [spec for spec in asked if spec in missing]
    told = []
    for unit in plan.train_units(missing, PRESET, jobs, _notebooks()):
        notebook = through_papermill(PARAMETERS, unit.parameters)
        heard = {}
        exec(notebook.cells[1].source, heard)
        told += paper.plan(heard["preset"], heard["rows"], heard["seeds"], "float32", Path(unit.notebook).stem)
    assert sorted(spec.key() for spec in told) == sorted(spec.key() for spec in missing)


def _notebooks():
    return Path(__file__).resolve().parent.parent / "notebooks"


FINITE = st.floats(allow_nan=False, allow_infinity=False)


@bounded(60)
@given(fields(), st.data())
def test_a_record_is_read_as_it_was_written(given, data):
    spec = RunSpec(**given)
    terms = st.dictionaries(st.text(max_size=10), FINITE, max_size=3)
    counts, seconds = st.integers(0, 360), st.floats(0, 1e9)
    history = [
        {"epoch": epoch, "val_correct": data.draw(counts), "test_correct": data.draw(counts),
         "train_loss": data.draw(FINITE), "terms": data.draw(terms), "seconds": data.draw(seconds)}
        for epoch in range(1, spec.epochs + 1)
    ]  # fmt: skip
    values = st.text(max_size=20) | FINITE | st.integers(-(10**9), 10**9) | st.booleans()
    environment = data.draw(st.dictionaries(st.text(max_size=10), values, max_size=3))
    run = record(spec, history=history, environment=environment)
    text = run.to_text()
    json.loads(text, parse_constant=pytest.fail)
    assert RunRecord.from_text(text) == run and RunRecord.from_text(text.encode()).to_text() == text


# ---- what cannot be asked for ----


@bounded(300)
@given(fields(), st.sampled_from([*RunSpec.__dataclass_fields__]), ANYTHING)
def test_a_run_is_refused_in_one_sentence_or_is_complete(given, name, value):
    try:
        spec = RunSpec(**{**given, name: value})
    except InputError as error:
        assert one_sentence(str(error))
    else:
        assert RunSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec


@bounded(150)
@given(st.sampled_from(sorted(methods.METHODS)), st.dictionaries(st.sampled_from(
    ["weight", "margin", "scaling", "p", "", "a\nb"]), ANYTHING, min_size=1, max_size=2))  # fmt: skip
def test_options_are_refused_in_one_sentence_or_are_complete(method, options):
    try:
        spec = RunSpec(row="mine", method=method, options=options)
    except InputError as error:
        assert one_sentence(str(error))
    else:
        assert RunSpec.from_json(json.loads(json.dumps(spec.to_json(), allow_nan=False))) == spec


@bounded(200)
@given(ANYTHING | st.dictionaries(st.sampled_from([*RunSpec.__dataclass_fields__]), ANYTHING))
def test_no_json_value_is_taken_for_a_run(values):
    with pytest.raises(InputError) as error:
        RunSpec.from_json(values)
    assert one_sentence(str(error.value))


@bounded(400)
@given(st.integers(0, 2500), st.binary(max_size=30), st.integers(0, 30))
def test_a_damaged_record_is_refused_or_says_what_it_said(at, put, drop):
    whole = record(*specs_of("rcl-inf")).to_text().encode()
    damaged = whole[:at] + put + whole[at + drop :]
    try:
        found = RunRecord.from_text(damaged)
    except RecordError as error:
        assert "\n" not in str(error)
    else:  # numbers that no rule forbids may be others; the run they belong to may not
        assert found.spec == RunRecord.from_text(whole).spec and RunRecord.from_text(found.to_text()) == found


# ---- the command line ----


@pytest.fixture
def started(tmp_path, monkeypatch):
    """What a command would begin; nothing is recorded in its folder and nothing begins."""
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("MNISTMP_FIGURES", str(tmp_path / "figures"))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    monkeypatch.setattr(engine, "estimate_seconds", lambda spec: 100.0)
    begun = []
    monkeypatch.setattr(run, "run_units", lambda units, *_, **__: begun.extend(units) or [])
    return begun


IDS = [row.id for row in paper.TABLE2]
NONSENSE = st.text(max_size=12) | st.sampled_from(
    ["", " ", "all,", "../x", "-1", "1e3", "inf", "nan", "٣", "\0", "None", "0-"]
)
NUMBER = st.integers(0, 40).map(str)
SEEDS = st.lists(NUMBER | st.tuples(NUMBER, NUMBER).map("-".join), min_size=1, max_size=3).map(",".join)
ARGUMENTS = {
    "rows": st.just("all") | st.lists(st.sampled_from(IDS), min_size=1, max_size=4).map(",".join),
    "seeds": SEEDS,
    "preset": st.sampled_from(sorted(paper.PRESETS)),
    "jobs": NUMBER,
    "precision": st.sampled_from(["float32", "bfloat16"]),
    "shard": st.tuples(NUMBER, NUMBER).map("/".join),
}


def can_be(name, value):
    """What the manual says, written down once more."""
    if name == "rows":
        return value == "all" or all(part.strip() in IDS for part in value.split(","))
    if name == "seeds":
        parts = [re.fullmatch(r"\s*([0-9]{1,9})\s*(-\s*([0-9]{1,9})\s*)?", part) for part in value.split(",")]
        return all(part and (part[3] is None or int(part[1]) <= int(part[3])) for part in parts)
    if name == "jobs":
        return re.fullmatch("[0-9]+", value) is not None and 1 <= int(value) <= 10_000
    if name == "shard":
        part = re.fullmatch("([0-9]{1,6})/([0-9]{1,6})", value)
        return part is not None and int(part[1]) < int(part[2])
    return value in (paper.PRESETS if name == "preset" else ["float32", "bfloat16"])


@bounded(150)
@given(
    verb=st.sampled_from(["reproduce", "run"]),
    asked=st.fixed_dictionaries({}, optional={name: values | NONSENSE for name, values in ARGUMENTS.items()}),
)
@example(verb="run", asked={"precision": ""})
@example(verb="run", asked={"rows": "standard", "seeds": "0-2", "shard": "1/2", "jobs": "٣"})
def test_the_command_refuses_exactly_what_cannot_be(started, capsys, verb, asked):
    started.clear()
    capsys.readouterr()
    try:
        code = cli.main([verb, "--dry-run", *(f"--{name}={value}" for name, value in asked.items())])
    except SystemExit as stop:  # argparse
        code = stop.code
    out, err = capsys.readouterr()
    assert started == [] and not paths.results().exists()
    if all(can_be(name, value) for name, value in asked.items()):
        asked_for = paper.plan(asked.get("preset", PRESET), asked.get("rows", "all"), asked.get("seeds"), "float32")
        part, parts = map(int, asked.get("shard", "0/1").split("/"))
        assert (code, err) == (0, "")
        assert f"0 of {len(asked_for[part::parts])} runs recorded" in out
    else:
        assert (code, out) == (2, "")
        assert err.startswith("mnistmp: ") and err.endswith("\n") and one_sentence(err[:-1])


@bounded(60)
@given(st.sampled_from([verb for verb, *_ in cli.VERBS]),
       st.lists(st.text("-=abcdelnoprstuw ./\0\n", max_size=12), max_size=3))  # fmt: skip
def test_no_words_make_the_command_stumble(started, capsys, verb, words):
    try:
        code = cli.main([verb, "--no-such-option", *words])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert code == 2 and out == "" and err.count("\n") == 1 and started == []


@pytest.mark.parametrize("preset", sorted(paper.PRESETS))
def test_every_planned_run_of_a_preset_survives_the_journey(preset, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    for spec in paper.plan(preset, seeds="0", precision="float32"):
        (again,) = [RunSpec.from_json(values) for values in json.loads(json.dumps([spec.to_json()], allow_nan=False))]
        records.save(record(again), preset)
        assert records.find(spec, preset).spec == spec
