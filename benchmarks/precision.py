"""Whether bfloat16 changes the results: the same runs in float32 and in bfloat16, and how far their means are apart.

    python benchmarks/precision.py --preset digits --seeds 0-4 --rows standard,rcl-inf

Records lie in results/precision-PRESET-PRECISION, apart from the preset's own, which are taken over
where they are the same run. What is recorded is not trained again; the table shows all that is recorded in both.
"""

from __future__ import annotations

import argparse
import math
import sys

from mnistmp import paper, paths, records
from mnistmp.errors import InputError
from mnistmp.files import write_atomically
from mnistmp.results import accuracy, markdown, search
from mnistmp.sweep.run import Sweep


def folder(preset: str, precision: str) -> str:
    return f"precision-{preset}-{precision}"


def train(preset: str, precision: str, rows: str, seeds: str, jobs: int | None) -> int:
    """Record what is missing; 1 where something failed, which is said."""
    specs = paper.plan(preset, rows, seeds, precision)
    sweep = Sweep(specs, folder(preset, precision), jobs=jobs, sources=[preset, search.PRESET])
    return sweep.close(sweep.train())


def compare(preset: str) -> list[list[str]]:
    """A line of the table per recorded row and split, over the seeds that both precisions have."""
    tables = [records.load(folder(preset, precision)) for precision in ("float32", "bfloat16")]
    lines = []
    for row in paper.trainings(sorted(set(tables[0]["row"]))):
        runs = [table[table["row"] == row.id] for table in tables]
        seeds = set(runs[0]["seed"]) & set(runs[1]["seed"])
        exact, short = (accuracy.summary(some[some["seed"].isin(seeds)]) for some in runs)
        for split in ("val", "test") if seeds else ():
            difference, low, high = accuracy.welch(short, exact, split)
            interval = "" if math.isnan(low) else f" ({low:+.2f} to {high:+.2f})"
            shown = (_shown(summary, split) for summary in (exact, short))
            lines.append([row.id, split, *shown, f"{difference:+.2f}{interval}"])
    return lines


def _shown(summary: accuracy.Summary, split: str) -> str:
    numbers = (getattr(summary, f"{split}_{name}") for name in ("mean", "std"))
    return f"{markdown.plus_minus(*numbers, 2)} (n = {summary.n})"


def text_of(preset: str, lines: list[list[str]]) -> str:
    head = ["row", "split", "float32", "bfloat16", "difference (95 % interval)"]
    cells = [head, ["---", "---", "---:", "---:", "---:"], *lines]
    table = "\n".join(f"| {' | '.join(line)} |" for line in cells)
    note = paper.preset(preset).note
    return (
        f"Preset {preset}: {note}. Accuracy in percent at the epoch of the best validation accuracy, mean ± standard "
        f"deviation over seeds; difference is bfloat16 minus float32, its interval Welch's.\n\n{table}\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=paper.PRESETS, default="digits")
    parser.add_argument("--seeds", default="0-4", help="such as 0-4 (default)")
    parser.add_argument("--rows", default="standard,rcl-inf", help="default standard,rcl-inf")
    parser.add_argument("--jobs", type=int, help="processes at a time (default: as many as suit the machine)")
    parser.add_argument("--readme", action="store_true", help="put the table between the markers `precision-PRESET`")
    options = parser.parse_args()
    try:
        codes = [
            train(options.preset, one, options.rows, options.seeds, options.jobs) for one in ("float32", "bfloat16")
        ]
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    text = text_of(options.preset, compare(options.preset))
    print(f"\n{text}")
    write_atomically(paths.results(f"precision-{options.preset}") / "table.md", text)
    if options.readme:
        markdown.replace_block(f"precision-{options.preset}", text)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
