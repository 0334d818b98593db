"""What is run: Table 2's rows with the paper's numbers, presets, seeds, and RunSpec's checks and keys."""

import dataclasses
import json
import math
import re

import pytest
from stub_runs import record

from mnistmp import paper, paths, records
from mnistmp.errors import InputError
from mnistmp.paper import PRESETS, TABLE2, parse_seeds, plan, row, spec_for, trainings
from mnistmp.spec import PROTOCOL_VERSION, RunSpec

# Typed from the paper's Table 2: validation mean and deviation, test mean and deviation.
PAPER = """
standard                        99.8  0.006 26.0 4.7
dropout                         99.8  0.01  31.9 3.1
dropout-orthogonality           99.8  0.008 42.7 2.6
dropout-covariance              99.8  0.002 42.6 2.0
jigsaw                          99.8  0.01  43.0 3.0
jigsaw-early-stop               98.5  0.3   59.9 4.5
reconstruction                  99.8  0.007 28.5 4.8
spectral-decoupling             99.8  0.004 47.7 2.9
spectral-decoupling-early-stop  99.4  0.09  49.8 1.5
rsc                             99.2  0.2   43.5 5.0
rcl-m0.2                        99.8  0.007 12.5 2.6
rcl-m0.4                        99.8  0.007 19.9 5.5
rcl-m0.6                        99.8  0.009 36.8 5.6
rcl-m0.8                        99.7  0.03  55.7 4.7
rcl-m0.9                        99.4  0.08  68.2 4.0
rcl-m0.9-early-stop             95.84 0.6   74.7 8.5
rcl-inf                         96.0  0.3   89.9 0.9
standard-original               97.8  0.12  97.8 0.12
"""
PAPER = {name: tuple(map(float, numbers)) for name, *numbers in map(str.split, PAPER.strip().splitlines())}

# Section 5.1: "The weight is 1.0 for the orthogonality constraint, 0.01 for the covariance constraint, 10.0 for
# the Jigsaw Puzzle, 1.0 for the reconstruction, 5.0 for Spectral Decoupling and 1.0 for our" own.
WEIGHTS = {
    "dropout-orthogonality": 1.0, "dropout-covariance": 0.01, "jigsaw": 10.0, "reconstruction": 1.0,
    "spectral-decoupling": 5.0, "rcl": 1.0,
}  # fmt: skip

NOTEBOOKS = {
    "02_standard": ["standard", "standard-original"],
    "03_dropout": ["dropout", "dropout-orthogonality", "dropout-covariance"],
    "04_jigsaw": ["jigsaw"],
    "05_reconstruction": ["reconstruction"],
    "06_spectral_decoupling": ["spectral-decoupling"],
    "07_rsc": ["rsc"],
    "08_rcl_margin_sweep": ["rcl-m0.2", "rcl-m0.4", "rcl-m0.6", "rcl-m0.8", "rcl-m0.9", "rcl-inf"],
}


# ---- Table 2 ----


def test_rows_and_numbers_are_the_papers():
    assert [r.id for r in TABLE2] == list(PAPER) and len(TABLE2) == 18
    assert {r.id: r.paper for r in TABLE2} == PAPER


def test_15_trainings_serve_18_rows():
    assert len(trainings()) == 15
    shared = {r.id: r.training for r in TABLE2 if r.id != r.training}
    assert shared == {
        "jigsaw-early-stop": "jigsaw",
        "spectral-decoupling-early-stop": "spectral-decoupling",
        "rcl-m0.9-early-stop": "rcl-m0.9",
    }
    for r in TABLE2:
        assert r.selection == ("early-stop" if r.id in shared else "best-validation")
        assert spec_for(r.id, 4) == spec_for(r.training, 4), "the same training"
        assert (r.method, r.options, r.notebook) == (
            row(r.training).method,
            row(r.training).options,
            row(r.training).notebook,
        )


def test_weights_and_margins_are_the_papers():
    for r in TABLE2:
        assert r.options.get("weight") == WEIGHTS.get(r.method), r.id
        if r.method == "rcl":
            margin = r.id.removesuffix("-early-stop").removeprefix("rcl-").removeprefix("m")
            assert r.options["margin"] == float(margin)
    assert row("standard").options == {} == row("rsc").options


def test_labels_name_the_papers_rows():
    assert len({r.label for r in TABLE2}) == 18
    assert row("rcl-inf").label == "RCL, m = ∞" and row("rcl-m0.2").label == "RCL, m = 0.2"
    assert all(r.label.endswith("(with early stopping @95)") == (r.selection == "early-stop") for r in TABLE2)


def test_only_the_last_row_leaves_the_class_colors():
    assert [r.id for r in TABLE2 if r.colors != "class"] == ["standard-original"]
    assert spec_for("standard-original", 0).colors == "test" and spec_for("standard-original", 0).method == "standard"


def test_every_row_is_trained_by_one_notebook():
    assert {name: [r.id for r in trainings(notebook=name)] for name in NOTEBOOKS} == NOTEBOOKS
    assert sum(map(len, NOTEBOOKS.values())) == 15


@pytest.mark.parametrize(
    "rows, expected",
    [
        ("rcl-inf,standard", ["standard", "rcl-inf"]),  # in Table 2's order
        (" rcl-m0.9-early-stop , rcl-m0.9 ", ["rcl-m0.9"]),
        (["jigsaw-early-stop"], ["jigsaw"]),
        ([], []),
    ],
)
def test_rows_name_their_trainings(rows, expected):
    assert [r.id for r in trainings(rows)] == expected


@pytest.mark.parametrize("rows", ["standrad", "", "standard,", "standard rsc", "rcl-m0.7", ["all"], "ALL"])
def test_unknown_row_is_refused_with_the_ids(rows):
    with pytest.raises(
        InputError, match="There is no row '.*'; choose from standard, dropout, .*, standard-original"
    ) as refusal:
        trainings(rows)
    assert_one_sentence(refusal)


# ---- presets ----


def test_the_paper_preset_is_the_papers_protocol():
    specs = plan("paper")
    assert len(specs) == 150 and {s.seed for s in specs} == set(range(10))
    for spec in specs:
        # Section 5.1
        assert (spec.epochs, spec.batch_size, spec.learning_rate, spec.momentum, spec.weight_decay) == (
            10,
            128,
            1e-3,
            0.9,
            1e-5,
        )
        assert (spec.dataset, spec.image_size, spec.input_range, spec.last_batch) == ("mnist", 28, "[-1,1]", "keep")
    assert specs[-2].options["scaling"] == "coordinate" and specs[-2].options["margin"] == math.inf


def test_presets_differ_from_it_only_where_they_say():
    assert list(PRESETS) == ["digits", "quick", "paper"] == [p.name for p in PRESETS.values()]
    for preset in PRESETS.values():
        for r in trainings():
            spec, reference = spec_for(r.id, 0, preset.name, "float32"), spec_for(r.id, 0, "paper", "float32")
            changed = {f.name for f in dataclasses.fields(spec) if getattr(spec, f.name) != getattr(reference, f.name)}
            assert changed <= {*preset.fields, *(["options"] if preset.weights else [])}
            assert spec.options.get("weight") == preset.weights.get(r.method, reference.options.get("weight"))
    assert PRESETS["digits"].fields["dataset"] == "digits" and "not MNIST" in PRESETS["digits"].note
    assert len(PRESETS["digits"].seeds) >= 2
    with pytest.raises(InputError, match="There is no preset 'papers'; choose one of digits, quick, paper."):
        paper.preset("papers")


def test_plan_goes_seed_by_seed_in_the_tables_order():
    order = [r.id for r in trainings()]
    assert [(s.seed, s.row) for s in plan("digits", seeds="2,0")] == [(seed, id) for seed in (0, 2) for id in order]
    assert [(s.seed, s.row) for s in plan("quick", "rsc,dropout", "5,1")] == [
        (1, "dropout"),
        (1, "rsc"),
        (5, "dropout"),
        (5, "rsc"),
    ]
    assert [s.row for s in plan("quick", notebook="03_dropout")] == NOTEBOOKS["03_dropout"]
    assert [s.row for s in plan("quick", rows="rsc,dropout", notebook="07_rsc")] == ["rsc"]
    assert {s.seed for s in plan("digits")} == set(PRESETS["digits"].seeds)


def test_a_plan_of_recorded_seeds_trains_nothing_but_is_checked():
    assert plan("paper", seeds="recorded") == []
    for wrong in ({"preset_name": "papers"}, {"preset_name": "paper", "rows": "standrad"}):
        with pytest.raises(InputError, match="There is no"):
            plan(**wrong, seeds="recorded")


def test_precision_comes_from_the_caller_or_the_preset():
    assert spec_for("rsc", 0, "paper").precision == "bfloat16"
    assert spec_for("rsc", 0, "paper", "float32").precision == "float32"
    assert spec_for("rsc", 0, "digits").precision == "float32"  # "auto", and nobody asked the device
    assert {s.precision for s in plan("digits", precision="bfloat16")} == {"bfloat16"}


def test_changes_make_an_ablation(monkeypatch):
    spec = spec_for("rcl-inf", 1, row="rcl-inf-channel", options={"scaling": "channel"}, image_size=32)
    assert (spec.row, spec.options["scaling"], spec.options["margin"], spec.image_size) == (
        "rcl-inf-channel",
        "channel",
        math.inf,
        32,
    )
    monkeypatch.setitem(PRESETS, "quick", dataclasses.replace(PRESETS["quick"], weights={"rcl": 0.25}))
    assert spec_for("rcl-inf", 1, "quick").options["weight"] == 0.25
    # A weight that is asked for goes before the preset's: weight selection depends on it.
    assert spec_for("rcl-inf", 1, "quick", options={"weight": 5.0}).options["weight"] == 5.0
    with pytest.raises(InputError, match="there is no field 'colour'."):
        spec_for("rcl-inf", 1, colour="red")


# ---- seeds ----


@pytest.mark.parametrize(
    "text, seeds",
    [
        ("0", (0,)), ("0-9", tuple(range(10))), ("3,1,1", (1, 3)), (" 2 , 5 - 7 ,6", (2, 5, 6, 7)), ("4-4", (4,)),
        (7, (7,)), ("007", (7,)), ("999999999", (999_999_999,)), ("1-100000", tuple(range(1, 100_001))),
    ],
)  # fmt: skip
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize(
    "text, problem",
    [
        ("3-1", "run backwards; write 1-3"),
        ("0,9-2", "'9-2' run backwards"),
        ("0-100000", "are more than 100,000 runs; ask for at most so many"),
        ("0-999999999", "are more than 100,000 runs; ask for at most so many"),
        ("1-99999,100000-100001", "are more than 100,000 runs; ask for at most so many"),
        *((text, "cannot be read; write them like 0-9, 3 or 0,2,5") for text in (
            "", " ", ",", "1,", "-1", "0--3", "1-2-3", "1.5", "a", "recorded", "0:9", "0..9",
            "1 2", "9999999999", "None", "inf", "٣",
        )),
    ],
)  # fmt: skip
def test_seeds_that_cannot_be(text, problem):
    with pytest.raises(InputError, match=problem) as refusal:
        parse_seeds(text)
    assert_one_sentence(refusal)


# ---- RunSpec ----


def test_spec_is_complete_frozen_and_hashable():
    spec = RunSpec(row="mine", method="rcl", options={"margin": 0.5})
    assert spec.options["scaling"] == "coordinate" and spec.options["margin"] == 0.5, "defaults are filled in"
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.seed = 3
    assert spec == RunSpec(row="mine", method="rcl", options={"margin": 0.5, "scaling": "coordinate"})
    assert (
        len({spec, RunSpec(row="mine", method="rcl", options={"margin": 0.5}), dataclasses.replace(spec, seed=1)}) == 2
    )
    for wrong in ({"sed": 3}, {}):
        with pytest.raises(InputError, match="sed|row"):
            RunSpec(**({"row": "mine"} if wrong else {}), **wrong)


@pytest.mark.parametrize("preset", PRESETS)
def test_round_trip_through_strict_json(preset):
    for spec in plan(preset, seeds="7", precision="bfloat16"):
        text = json.dumps(spec.to_json(), allow_nan=False)
        again = RunSpec.from_json(json.loads(text))
        assert again == spec and again.key() == spec.key() and again.options == spec.options
    assert spec_for("rcl-inf", 0).to_json()["options"]["margin"] == "inf"


def test_key_follows_every_field_and_nothing_else():
    spec = spec_for("rcl-m0.9", 0)
    assert re.fullmatch("[0-9a-f]{16}", spec.key())
    changes = {
        "row": "other", "options": {**spec.options, "margin": 0.8}, "seed": 1, "dataset": "digits", "colors": "test",
        "image_size": 32, "input_range": "[0,1]", "initialization": "glorot", "precision": "float32",
        "epochs": 11, "batch_size": 64, "learning_rate": 2e-3, "momentum": 0.8, "weight_decay": 0.0,
        "last_batch": "drop",
    }  # fmt: skip
    assert {*changes, "method", "resize"} == {f.name for f in dataclasses.fields(spec)}
    keys = {dataclasses.replace(spec, **{name: value}).key() for name, value in changes.items()}
    assert len(keys | {spec.key(), spec_for("standard", 0).key()}) == len(changes) + 2
    # How a number is written makes no difference.
    same = dataclasses.replace(spec, momentum=0.9, options={"margin": 0.9, "weight": 1}, weight_decay=1e-5)
    assert same.key() == spec.key()
    assert dataclasses.replace(spec, weight_decay=0).key() == dataclasses.replace(spec, weight_decay=-0.0).key()


@pytest.mark.parametrize(
    "preset, key", [("digits", "08d4a8326ce6d23d"), ("quick", "7fc2104a231e1e0d"), ("paper", "889de4c1dd4d504a")]
)
def test_keys_are_stable(preset, key):
    """The key of row rcl-inf, seed 3, in bfloat16. A failure means that existing records no longer match.

    Change a key here only on purpose: when a default, a preset's field or weight, a dataset or the set of
    fields changed, and the recorded runs of that preset are to be made anew. When the *computation* behind an unchanged
    spec changes, raise PROTOCOL_VERSION instead, which changes all three.
    """
    assert PROTOCOL_VERSION == 1
    assert spec_for("rcl-inf", 3, preset, "bfloat16").key() == key


INVALID = {
    "row": ("", " a", "a/b", "../a", "é", "-a", ".a", "a" * 101, "a\n", None, 3),
    "method": ("", "rlc", None, ["rcl"]),
    "seed": (-1, 2**31, 1.5, "1", True, None),
    "epochs": (0, 10_001, 2.5, "10", True),
    "batch_size": (1, 10_001, False),
    "image_size": (0, 30, "28", True),
    "learning_rate": (-1e-3, math.nan, math.inf, 100, "1e-3", True, None, 10**400),
    "momentum": (-0.1, 1, math.nan, "0.9"),
    "weight_decay": (-1e-5, math.inf, None),
    "precision": ("", "float64", None, 1, ["float32"], math.nan),
    "last_batch": ("other", True),
    "options": (None, "weight", [("margin", 1)]),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_value_is_one_sentence_that_names_it(name):
    for value in INVALID[name]:
        with pytest.raises(InputError) as refusal:
            RunSpec(**{"row": "mine", name: value})
        assert_one_sentence(refusal)
        assert name in str(refusal.value)


@pytest.mark.parametrize(
    "method, options",
    [
        ("rcl", {"margin": -1}), ("rcl", {"margin": math.nan}), ("rcl", {"margin": "infinite"}),
        ("rcl", {"weight": "inf"}), ("rcl", {"scaling": "pixel"}),
        ("rcl", {"alpha": 1}), ("standard", {"weight": 1.0}), ("dropout", {"rescale": 1}),
        ("jigsaw", {"weight": True}), ("spectral-decoupling", {"weight": math.inf}),
    ],
)  # fmt: skip
def test_invalid_option_is_one_sentence_that_names_it(method, options):
    with pytest.raises(InputError) as refusal:
        RunSpec(row="mine", method=method, options=options)
    assert_one_sentence(refusal)
    assert str(*options) in str(refusal.value) and repr(method) in str(refusal.value)


def test_from_json_wants_every_field_and_no_other():
    values = spec_for("rcl-inf", 0).to_json()
    with pytest.raises(InputError, match="there is no field 'colour'.") as refusal:
        RunSpec.from_json({**values, "colour": "red"})
    assert_one_sentence(refusal)
    for name in values:
        with pytest.raises(InputError, match=f"The run lacks the field '{name}'."):
            RunSpec.from_json({key: value for key, value in values.items() if key != name})
    for nonsense in (None, [], "row", 3, [["row", "mine"]]):
        with pytest.raises(InputError, match="it must be an object with the run's fields"):
            RunSpec.from_json(nonsense)


def assert_one_sentence(refusal):
    text = str(refusal.value)
    assert "\n" not in text and text.endswith(".") and len(text) < 400 and text[0] != " "


# ---- precision ----


def test_precision_is_as_asked_else_the_preset_s_else_that_of_its_records(tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    monkeypatch.delenv("MNISTMP_PRECISION", raising=False)
    monkeypatch.setattr("mnistmp.engine.device.native_bfloat16", lambda device=None: True)
    assert paper.precision("paper") == "bfloat16" and paper.precision("paper", "float32") == "float32"
    assert paper.precision("digits") == "bfloat16"
    records.save(record(spec_for("standard", 0, "digits", "float32")), "digits")
    assert paper.precision("digits") == "float32"  # go on as begun
    (tmp_path / "digits/runs/broken").mkdir()
    (tmp_path / "digits/runs/broken/seed-0.json").write_text("{")
    assert paper.precision("digits") == "float32"
    monkeypatch.setenv("MNISTMP_PRECISION", "bfloat16")  # set for the notebooks of a sweep
    assert paper.precision("digits") == "bfloat16"


@pytest.mark.parametrize(
    "name, training, changed",
    [("rcl-m0.9+condition=batch", "rcl-m0.9+condition=batch", {"condition": "batch"}),
     ("rcl-m0.9-early-stop+condition=batch", "rcl-m0.9+condition=batch", {"condition": "batch"}),
     ("rcl-inf+weight=5.0", "rcl-inf+weight=5", {"weight": 5.0}),
     ("rcl-inf+weight=1000000", "rcl-inf+weight=1000000", {"weight": 1e6}),
     ("rcl-inf+weight=1e16", "rcl-inf+weight=1e16", {"weight": 1e16}),
     ("rcl-inf+weight=0.00001", "rcl-inf+weight=1e-05", {"weight": 1e-5}),
     ("standard+learning_rate=0.00123456789", "standard+learning_rate=0.00123456789", {"learning_rate": 0.00123456789}),
     ("rcl-inf+margin=0.5", "rcl-inf+margin=0.5", {"margin": 0.5}),
     ("dropout+rescale=false", "dropout+rescale=false", {"rescale": False}),
     ("standard+size=32+range=0..1+epochs=3", "standard+size=32+range=0..1+epochs=3",
      {"image_size": 32, "input_range": "[0,1]", "epochs": 3})],
)  # fmt: skip
def test_a_row_with_other_values_is_a_row(name, training, changed):
    spec, own = spec_for(name, 0), spec_for(name.partition("+")[0], 0)
    assert (row(name).training, spec.row) == (training, training)
    assert row(name).selection == row(name.partition("+")[0]).selection
    values, default = vars(spec) | spec.options, vars(own) | own.options
    assert {one: values[one] for one in values if values[one] != default[one]} == {
        "row": training, **changed, **({"options": spec.options} if spec.options != own.options else {})
    }  # fmt: skip


def test_recorded_rows_keep_their_names():
    names = {path.name for path in paths.checkout().glob("results/*/runs/*+*")}
    assert len(names) > 100
    assert {row(name).id for name in names} == names


def test_rows_with_other_values_stand_after_their_own_in_the_tables_order():
    assert [r.id for r in trainings("rsc+unit=element,rcl-m0.9-early-stop+condition=batch,standard")] == [
        "standard", "rsc+unit=element", "rcl-m0.9+condition=batch"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name, message",
    [("rcl-m0.9+conditon=batch", "no option 'conditon'; choose from weight, margin"),
     ("rcl-m0.9+condition=both", "condition cannot be 'both'; give one of anchor, closest"),
     ("rcl-inf+weight=much", "weight cannot be 'much'; give a number, such as 1"),
     ("dropout+", "no option ''"),
     ("rcl-m0.9+condition=anchor", "condition is anchor anyway; leave it out"),
     ("other+weight=1", "There is no row 'other'")],
)  # fmt: skip
def test_a_row_with_impossible_values_is_refused(name, message):
    with pytest.raises(InputError, match=re.escape(message)):
        spec_for(name, 0)


def test_a_weight_in_the_name_goes_before_the_presets():
    assert spec_for("rcl-inf", 0, "digits").options["weight"] == 0.1
    assert spec_for("rcl-inf+weight=1", 0, "digits").options["weight"] == 1.0
    with pytest.raises(InputError, match="weight is 0.1 anyway"):
        spec_for("rcl-inf+weight=0.1", 0, "digits")
