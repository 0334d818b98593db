"""Table 2 from records: against numbers worked out by hand, scipy, and the tables expected of invented records.

`data/synthetic` holds invented records (device "synthetic", nothing was trained for them) and the
three files that `table2.write` must make of them. `data/make_synthetic.py` writes both again.
"""

from __future__ import annotations

import dataclasses
import io
import math
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from mnistmp import records
from mnistmp.errors import InputError
from mnistmp.paper import TABLE2, row
from mnistmp.results import accuracy, table2
from mnistmp.results.accuracy import CLOSE, DIFFERS, SAME, UNCLEAR, Difference, Summary

SYNTHETIC = Path(__file__).parent / "data" / "synthetic"


@pytest.fixture(autouse=True)
def results(monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(SYNTHETIC))


@pytest.fixture
def frame():
    return records.load("paper")


@pytest.fixture
def table(frame):
    return table2.table2(frame)


def line(table, id):
    return table.set_index("id").loc[id]


# Numbers


def test_closest_interpretations_stand_below_their_rows_and_are_counted_apart(monkeypatch):
    monkeypatch.delenv("MNISTMP_RESULTS", raising=False)
    table, own = table2.side_by_side("paper"), table2.table2(records.load("paper"))
    as_written = table[table["interpretation"] == ""]
    pd.testing.assert_frame_equal(as_written.reset_index(drop=True), own)
    for place in range(1, len(table)):
        if table["interpretation"].iloc[place]:
            assert table["id"].iloc[place] == f"{table['id'].iloc[place - 1]}+{table['interpretation'].iloc[place]}"
    assert {"rescale=false", "reduction=sum", "otherwise=negative-unweighted"} == set(table["interpretation"]) - {""}
    closest = table2.closest(table)
    assert list(closest["id"]) == list(own["id"]) and list(closest["label"]) == list(own["label"])
    text = table2.conclusion(table)
    assert text[: len(table2.conclusion(own))] == table2.conclusion(own)
    within = sum(closest["difference"].abs() <= 5)
    assert text[len(table2.conclusion(own)) + 1].startswith(
        f"Mean test accuracy is within 5 points of the paper's in {within}"
    )


def test_rows_stand_in_the_papers_order_with_its_numbers(table):
    assert list(table.columns) == list(table2.COLUMNS)
    assert list(table["id"]) == [r.id for r in TABLE2] and list(table["label"]) == [r.label for r in TABLE2]
    columns = ["paper_val_mean", "paper_val_std", "paper_test_mean", "paper_test_std"]
    assert [tuple(values) for values in table[columns].itertuples(index=False)] == [r.paper for r in TABLE2]


def test_best_validation_row_by_hand(table):
    # Best epochs 2, 2 (the first of two equal ones), 3: validation 99.82, 99.80, 99.83; test 22.5, 26.5, 31.0.
    standard = line(table, "standard")
    assert standard["n"] == 3 and standard["epochs"] == (2, 2, 3)
    assert standard["val_mean"] == pytest.approx((99.82 + 99.80 + 99.83) / 3, rel=1e-14)
    assert standard["test_mean"] == pytest.approx(80 / 3, rel=1e-14)
    deviations = [x - 80 / 3 for x in (22.5, 26.5, 31.0)]
    assert standard["test_std"] == pytest.approx(math.sqrt(sum(d * d for d in deviations) / 2), rel=1e-14)
    assert standard["difference"] == pytest.approx(80 / 3 - 26.0, rel=1e-12)


def test_early_stopping_row_reads_the_same_runs_at_another_epoch(table):
    # Seed 0 reaches 95 % in epoch 2; seed 1 never does and counts with its best, epoch 3.
    stopped, whole = line(table, "rcl-m0.9-early-stop"), line(table, "rcl-m0.9")
    assert stopped["epochs"] == (2, 3) and stopped["unreached"] == 1
    assert stopped["test_mean"] == pytest.approx((73 + 71) / 2) and whole["test_mean"] == pytest.approx((67 + 71) / 2)


def test_diverged_run_is_counted_and_not_averaged(table):
    infinite = line(table, "rcl-inf")
    assert (infinite["n"], infinite["diverged"], infinite["test_mean"]) == (1, 1, 90.1)
    assert math.isnan(infinite["test_std"]) and math.isnan(infinite["ci_low"]) and infinite["verdict"] == ""


def test_row_without_records_has_no_numbers_of_ours(table):
    dropout = line(table, "dropout")
    assert dropout["n"] == 0 and dropout["epochs"] == () and dropout["verdict"] == ""
    assert dropout[["val_mean", "val_std", "test_mean", "test_std", "difference", "ci_low"]].isna().all()


def test_no_record_at_all(frame):
    table = table2.table2(frame[:0])
    assert len(table) == 18 and not table["n"].any()
    assert "precision not known yet" in table2.to_markdown(table, "paper")


@pytest.mark.parametrize(
    "interval, expected",
    [((0.0, -5.0, 5.0), SAME), ((0.9, 0.1, 1.6), SAME), ((5.0, 5.0, 5.0), SAME), ((0.0, 0.0, 0.0), SAME),
     ((0.0, -5.01, 5.0), CLOSE), ((-5.0, -7.6, -2.3), CLOSE), ((1.0, -39.0, 41.0), CLOSE),
     ((5.01, 0.01, 10.0), DIFFERS), ((-23.3, -27.4, -19.3), DIFFERS), ((6.0, 6.0, 6.0), DIFFERS),
     ((20.1, -0.9, 41.2), UNCLEAR), ((5.01, 0.0, 10.02), UNCLEAR), ((-6.0, -12.0, 0.0), UNCLEAR),
     ((4.0, math.nan, math.nan), ""), ((math.nan,) * 3, ""),
     ((1.0, -math.inf, math.inf), CLOSE)],
)  # fmt: skip
def test_verdicts_of_constructed_differences(interval, expected):
    assert Difference(*interval).verdict() == expected


def test_the_margin_is_the_verdicts_scale():
    assert Difference(0.3, 0.1, 0.45).verdict(accuracy.MARGIN["val"]) == SAME
    assert Difference(0.6, 0.1, 1.1).verdict(accuracy.MARGIN["val"]) == DIFFERS
    assert accuracy.MARGIN == {"test": 5.0, "val": 0.5}


def test_verdicts_stand_in_the_table(frame):
    # Our test mean 80/3, std 4.2525, n = 3 against a paper row of small spread, near and far.
    for mean, expected in ((26.7, CLOSE), (20.0, UNCLEAR), (10.0, DIFFERS), (45.0, DIFFERS)):
        rows = (dataclasses.replace(row("standard"), paper=(99.8, 0.006, mean, 0.1)),)
        result = table2.table2(frame, rows).iloc[0]
        assert (result["verdict"], result["val_verdict"]) == (expected, SAME)


def test_what_differs_is_said_in_a_sentence_the_furthest_first(frame):
    standard = row("standard")
    near, far, further = ((99.8, 0.006, mean, 0.1) for mean in (26.7, 5.0, 90.0))
    rows = [dataclasses.replace(standard, id="near", paper=near), dataclasses.replace(standard, id="far", paper=far),
            dataclasses.replace(standard, id="further", label="Further", paper=further), row("dropout"),
            dataclasses.replace(standard, id="own", label="Mine", paper=None)]  # fmt: skip

    def said(chosen):
        return table2.conclusion(table2.table2(frame, chosen))

    assert said(rows) == [
        "Mean test accuracy is within 5 points of the paper's in 1 of 4 rows. "
        "By verdict: 0 the same, 1 close, 2 differ, 0 unclear, 1 with too few runs.",
        f"Rows that differ: Further -63.3; {standard.label} +21.7.",
    ]
    assert said([rows[0], rows[0]]) == [
        "Mean test accuracy is within 5 points of the paper's in 2 of 2 rows. "
        "By verdict: 0 the same, 2 close, 0 differ, 0 unclear."
    ]
    assert said(rows[3:]) == said(rows[:1]) == []  # nothing is decided, or it stands in the only line anyway


def test_early_stopping_in_the_first_epoch_is_said_where_every_run_does(frame):
    said = "Stopped after the first epoch in every run"
    assert said not in table2.to_markdown(table2.table2(frame), "paper")  # RCL's stops in epochs 2 and 3
    frame["val_correct"] = frame["val_correct"].map(lambda counts: [9500, *counts[1:]])
    text = table2.to_markdown(table2.table2(frame), "paper")
    assert f"{said}, as validation is at 95 % by then: RCL, m = 0.9 (with early stopping @95)." in text


def test_own_row_stands_beside_the_papers(frame):
    mine = dataclasses.replace(row("standard"), id="mine", label="Mine & 100 %", paper=None)
    table = table2.table2(frame, (*TABLE2, mine))
    own = table.iloc[-1]
    assert own["n"] == 3 and own["test_mean"] == table["test_mean"][0]
    assert math.isnan(own["paper_test_mean"]) and math.isnan(own["difference"]) and own["verdict"] == ""
    assert table2.to_markdown(table, "paper").splitlines()[-1].endswith("| – | – | 26.7 ± 4.3 | – | – | – |")


def summary(mean, std, n):
    return Summary(n, math.nan, math.nan, mean, std)


@pytest.mark.parametrize("sizes", [(3, 10), (10, 10), (2, 30)])
def test_welch_interval_is_scipys(sizes):
    values = [[50 + 7 * math.sin(5 * i + n) for i in range(n)] for n in sizes]
    ours, other = (summary(float(pd.Series(v).mean()), float(pd.Series(v).std()), len(v)) for v in values)
    expected = stats.ttest_ind(*values, equal_var=False).confidence_interval(0.95)
    difference = accuracy.welch(ours, other)
    assert difference == pytest.approx((ours.test_mean - other.test_mean, expected.low, expected.high), rel=1e-9)


def test_welch_interval_at_its_ends():
    assert accuracy.welch(summary(5, 0, 3), summary(3, 0, 3)) == (2, 2, 2)
    difference, low, high = alone = accuracy.welch(summary(5, math.nan, 1), summary(3, 1, 10))
    assert difference == 2 and math.isnan(low) and math.isnan(high) and alone.verdict() == ""


# What does not belong together


@pytest.mark.parametrize(("column", "value"), [("precision", "float32"), ("protocol", 2), ("dataset", "digits")])
def test_mixing_is_refused_with_an_example_of_each(frame, column, value):
    frame.loc[frame["file"] == "paper/runs/rcl-inf/seed-0.json", column] = value
    with pytest.raises(InputError, match=f"These records mix {column} .*seed-.*seed-") as error:
        table2.table2(frame)
    assert "\n" not in str(error.value)


def test_records_of_other_rows_do_not_matter(frame):
    frame.loc[frame["row"] == "rcl-inf", "precision"] = "float32"
    assert table2.table2(frame, [row("standard")])["n"].tolist() == [3]


def test_one_row_holds_one_kind_of_run(frame):
    first = frame.index[frame["row"] == "standard"][0]
    frame.at[first, "spec"] = dataclasses.replace(frame["spec"][first], weight_decay=0.5)
    message = r"Row standard mixes runs of weight_decay 0.5 \(seed 0\) and 1e-05 \(seed 1\)"
    with pytest.raises(InputError, match=message):
        table2.table2(frame)


def test_a_seed_counts_once(frame):
    with pytest.raises(InputError, match="Row standard has seed 0 twice"):
        table2.table2(pd.concat([frame, frame[frame["row"] == "standard"][:1]]))


def test_records_must_be_of_the_rows_method(frame):
    wrong = dataclasses.replace(row("rcl-m0.9"), options={"weight": 1.0, "margin": 0.2})
    with pytest.raises(InputError, match="records of row rcl-m0.9 have margin 0.9 instead of 0.2"):
        table2.table2(frame, [wrong])


def test_another_weight_is_the_presets_choice(frame):
    heavier = dataclasses.replace(row("rcl-m0.9"), options={"weight": 5.0, "margin": 0.9})
    assert table2.table2(frame, [heavier])["n"].tolist() == [2]


def test_digits_get_no_verdict(frame):
    frame["dataset"] = "digits"
    table = table2.table2(frame)
    assert set(table["verdict"]) == set(table["val_verdict"]) == {""}
    assert "| not MNIST |" in table2.to_markdown(table, "digits")
    assert "not the paper's numbers" in table2.to_markdown(table, "digits").lower()


# Files


def test_written_tables_are_the_expected_bytes(table, tmp_path, monkeypatch):
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    for _ in range(2):
        written = table2.write(table, "paper")
        assert written == [tmp_path / "paper" / f"table2.{kind}" for kind in ("md", "csv", "tex")]
        for path in written:
            assert path.read_bytes() == (SYNTHETIC / "paper" / path.name).read_bytes()
            assert path.read_bytes().endswith(b"\n") and b"\r" not in path.read_bytes()
    assert sorted(os.listdir(tmp_path / "paper")) == ["table2.csv", "table2.md", "table2.tex"]


def test_table_does_not_depend_on_the_order_of_records(frame, table):
    shuffled = table2.table2(frame.sample(frac=1, random_state=0))
    assert table2.to_csv(shuffled) == table2.to_csv(table)


def test_csv_holds_every_number(table):
    back = pd.read_csv(io.StringIO(table2.to_csv(table)))
    assert list(back["id"]) == list(table["id"]) and list(back["n"]) == list(table["n"])
    for name in ("val_mean", "val_std", "test_mean", "test_std", "paper_test_mean"):
        assert back[f"{name}_percent"].tolist() == pytest.approx(table[name].tolist(), rel=1e-11, nan_ok=True)
    assert back["test_ci_low_percentage_points"][0] == pytest.approx(table["ci_low"][0], rel=1e-11)
    assert back["selected_epochs"][0] == "2 2 3" and set(back["precision"]) == {"bfloat16"}


def test_markdown_says_how_to_read_it(table):
    text = table2.to_markdown(table, "paper")
    for part in ("the paper's protocol", "precision bfloat16", "n = 0 to 3", "standard deviation over n seeds (n - 1",
                 "does not say which standard deviation", "95 % Welch interval", "rcl-inf: 1 of 2 runs diverged",
                 "rcl-m0.9-early-stop: 1 of 2 runs never reached 95 %"):  # fmt: skip
        assert part in text
    rows = [r for r in text.splitlines() if r.startswith("|")]
    assert {r.count("|") for r in rows} == {10} and len(rows) == 20
    assert "| RCL, m = ∞ | 1 | 96.10 | 96.0 ± 0.3 | n < 2 | 90.1 | 89.9 ± 0.9 | +0.2 | n < 2 |" in rows


def test_latex_has_the_same_columns_in_every_line(table):
    text = table2.to_latex(table, "paper")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()[1:]
    assert len(body) == 18 and all(r.endswith(r" \\") and len(re.findall(r"(?<!\\)&", r)) == 8 for r in body)
    assert r"Dropout \& Orthogonality & 0 & -- & 99.8 $\pm$ 0.008" in text
    assert r"RCL, m = $\infty$ & 1 & 96.10 &" in text and "n $<$ 2" in text and "[$-$7.6, +9.0]" in text
    code = [r for r in text.splitlines() if not r.startswith("%")]
    assert all(r.isascii() for r in code) and not re.search(r"(?<!\\)[%#_]", "\n".join(code))
    assert [text.count(f"\\{rule}{{tabular}}") for rule in ("begin", "end")] == [1, 1]


def test_latex_escapes_a_label_of_ones_own(frame):
    mine = dataclasses.replace(row("standard"), label="[x] 50 % #1_{a}~^\\ $2")
    text = table2.to_latex(table2.table2(frame, [mine]), "paper")
    assert r"{}[x] 50 \% \#1\_\{a\}\textasciitilde{}\textasciicircum{}\textbackslash{} \$2 &" in text


def test_unwritable_folder_is_one_sentence(table, tmp_path, monkeypatch):
    (tmp_path / "paper").write_text("in the way")
    monkeypatch.setenv("MNISTMP_RESULTS", str(tmp_path))
    with pytest.raises(InputError, match="table2.md cannot be written"):
        table2.write(table, "paper")
