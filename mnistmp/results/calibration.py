"""`mnistmp calibrate`: confirm the default reading of the paper by its validation column, test accuracy unseen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from mnistmp import paper, paths, records
from mnistmp.sweep import study
from mnistmp.files import write_tables
from mnistmp.results.readings import CLEARLY, DEFAULT, DROPPED_BATCH, KEY, RESOLUTION, TARGETS
from mnistmp.results.readings import clearly_better, in_order, measure, scores, specs, undecided
from mnistmp.records import RunRecord
from mnistmp.selection import EARLY_STOP
from mnistmp.spec import RunSpec, SpecError

PRESET = "calibration"  # the folder of `results/`
SEEDS = "0,1"
SCORES = ["score", "score_dropped", "least", "least_dropped"]


def calibrate(
    seeds: str = SEEDS,
    *,
    jobs: int | None = None,
    recorded: bool = False,
    dry_run: bool = False,
    train: Callable[[Sequence[RunSpec], str, int | None], list[str]] = study.train,
) -> int:
    """Train what is missing of the study, score the readings, print the table and write it.

    The default reading's runs are Table 2's own: those that preset paper has recorded are taken over.

    Args:
        seeds: as on the command line.
        jobs, train: how to train, see `study.train`.
        recorded: train nothing, score what there is.
        dry_run: only say what would be trained.

    Returns:
        0; or 1 where trainings are missing that should have been made: their readings have no score.

    Raises:
        ValueError: of our own kinds, before any work.
    """
    planned = specs(seeds)
    if dry_run:
        return study.dry_run(planned, PRESET, jobs, "paper")
    study.reuse(planned, "paper", PRESET)
    problems = [] if recorded else train(planned, PRESET, jobs)
    found = _recorded(seeds)
    measured = measure(found, seeds)
    text = to_markdown(measured, seeds)
    print(f"\n{text}")
    print(f"Table:      {', '.join(str(path) for path in write(measured, text))}")
    if len(found) < len(planned) and not recorded:
        print(f"{len(planned) - len(found)} of {len(planned)} trainings are missing; the same command tries again.")
        print("\n".join(f"  {problem}" for problem in problems))
        return 1
    return 0


def summary(seeds: str = SEEDS) -> str:
    """What `calibrate` printed, as far as it is recorded; else how to record it. For notebooks."""
    found = _recorded(seeds)
    if not found:
        return "The readings are not recorded here; `mnistmp calibrate` trains them."
    return to_markdown(measure(found, seeds), seeds)


def conclusion(seeds: str = SEEDS) -> str:
    """What was asked, how it was decided and what came out, in a few lines. For the README."""
    found = _recorded(seeds)
    scored = scores(measure(found, seeds))
    return (
        "The paper does not say the size of the images (28, or 32 by bilinear resizing), their range ([-1,1] or [0,1]), "
        "or over what RCL takes minimum and maximum (each coordinate of the features, each channel, or the whole "
        f"batch). The default, {DEFAULT}, was fixed on its text and validation column before any table was made. "
        f"`mnistmp calibrate` tests that: {len(scored)} readings, seeds "
        f"{', '.join(map(str, paper.parse_seeds(seeds)))}, scored by how far five *validation* accuracies are from "
        f"the paper's; {len(found)} of its {len(specs(seeds))} trainings are recorded. {_verdict(scored)} "
        "The numbers, with the test accuracies of the same runs after them, are in "
        "[results/calibration/table.md](results/calibration/table.md)."
    )


def to_markdown(measured: pd.DataFrame, seeds: str = SEEDS) -> str:
    """The validation accuracies with their scores, what follows from them, and only then the test accuracies."""
    scored = scores(measured)
    head = f"| image | range | scaled per | {' | '.join(TARGETS.values())} |"
    lines = [
        "**Readings of what the paper leaves open, by its validation column**",
        "",
        f"Real MNIST, the paper's protocol, seeds {', '.join(map(str, paper.parse_seeds(seeds)))}; "
        "validation accuracy in percent, mean ± standard deviation.",
        "Score: the sum over the five columns of ((ours - paper's) / tolerance)², first with ours as it is, then with "
        f"ours times {DROPPED_BATCH}, which a dropped last validation batch would explain.",
        "Tolerance: the standard error of the difference, by the paper's standard deviation, and the "
        f"{RESOLUTION:g} points that its rounding hides. The authors' own reading would score about 5.",
        "",
        f"{head} score | × {DROPPED_BATCH} |",
        f"|---|---|---|{'---:|' * (len(TARGETS) + 2)}",
        f"| the paper's | | | {_paper(0)} | | |",
    ]
    rows = _rows(measured, scored, "val", 2)
    lines += [
        f"{row} {_score(own, least)} | {_score(dropped, least_dropped)} |"
        for row, (own, dropped, least, least_dropped) in zip(rows, scored[SCORES].itertuples(index=False))
    ]
    lines += ["", _verdict(scored)]
    if measured["unreached"].any():
        lines.append(f"(u): so many runs never reached {EARLY_STOP} %; their best epoch counts.")
    lines += [
        "",
        "**Test accuracy of the same runs**, which took no part in this",
        "",
        head,
        f"|---|---|---|{'---:|' * len(TARGETS)}",
        f"| the paper's | | | {_paper(2)} |",
        *_rows(measured, scored, "test", 1),
    ]
    return "\n".join([*lines, ""])


def write(measured: pd.DataFrame, text: str) -> list[Path]:
    """Write `results/calibration/table.md` and `.csv`; the same records give the same bytes.

    Raises:
        SpecError: they cannot be written.
    """
    units = {name: f"{name}_percent" for name in ("val_mean", "val_std", "test_mean", "test_std", "paper_val")}
    units |= {"tolerance": "tolerance_percentage_points"}
    csv = measured.rename(columns=units).to_csv(index=False, float_format="%.12g", lineterminator="\n")
    folder = paths.results(PRESET)
    return write_tables({folder / "table.md": text, folder / "table.csv": csv}, SpecError)


def _recorded(seeds: str) -> list[RunRecord]:
    found = (records.find(spec, PRESET) for spec in specs(seeds))
    return [record for record in found if record]


def _rows(measured: pd.DataFrame, scored: pd.DataFrame, kind: str, decimals: int) -> list[str]:
    # In the order of the scores.
    by_reading = {reading: group.to_dict("records") for reading, group in measured.groupby(KEY)}
    rows = []
    for size, range, scaling in scored[KEY].itertuples(index=False, name=None):
        cells = [_cell(line, kind, decimals) for line in by_reading[size, range, scaling]]
        rows.append(f"| {size}x{size} | {range} | {scaling} | {' | '.join(cells)} |")
    return rows


def _cell(line: dict, kind: str, decimals: int) -> str:
    mean = f"{line[f'{kind}_mean']:.{decimals}f}" if line["n"] else "–"
    std = f" ± {line[f'{kind}_std']:.{decimals}f}" if line["n"] > 1 else ""
    unreached = f" (u: {line['unreached']})" if line["unreached"] else ""
    diverged = f" ({line['diverged']} diverged)" if line["diverged"] else ""
    return mean + std + unreached + diverged


def _paper(place: int) -> str:
    published = (paper.row(target).paper for target in TARGETS)
    return " | ".join(f"{numbers[place]:g} ± {numbers[place + 1]:g}" for numbers in published)


def _score(score: float, least: float) -> str:
    if math.isnan(score):  # what is missing can only add to it
        return f"≥ {least:.1f}" if least else "–"
    return "diverged" if math.isinf(score) else f"{score:.1f}"


def _verdict(scored: pd.DataFrame) -> str:
    order = in_order(scored)
    complete = scored["best"].notna().tolist()
    if not complete[order.index(DEFAULT)]:
        return f"{complete.count(False)} of {len(order)} readings are incomplete: nothing is concluded yet."
    if complete.count(True) == 1:
        text = f"The default ({DEFAULT}) is the only reading that is complete"
    else:
        place = "fits best" if order[0] == DEFAULT else f"is in place {order.index(DEFAULT) + 1}"
        text = f"The default ({DEFAULT}) {place} of {complete.count(True)} by the lower of its scores"
    better, open_ = clearly_better(scored), undecided(scored)
    clear = f"by more than {CLEARLY:g} in both scores"
    text += f". Clearly better, {clear}: {'; '.join(map(str, better))}." if better else (
        f"; none is clearly better, which would be {clear}.")  # fmt: skip
    if not all(complete):
        settled = complete.count(False) - len(open_)
        text += f" {complete.count(False)} of {len(order)} readings are incomplete; "
        text += f"{settled} of them cannot become clearly better any more, by what is recorded of them alone"
        text += f", and {len(open_)} may: {'; '.join(map(str, open_))}." if open_ else "."
    return text
