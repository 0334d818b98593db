"""Writes the invented records that test_table2.py makes a table of; run it after a change of their format.

    python tests/data/make_synthetic.py

Nothing was trained for them (their device says "synthetic"): three epochs, round counts, and one
of everything the table must cope with: several seeds, one seed, a diverged run, a run that never
reaches 95 %, rows without any record. It also rewrites the tables expected of them, so read the
diff before committing it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

HERE = Path(__file__).resolve().parent / "synthetic"

# row -> per seed: validation and test counts of 10,000 after epochs 1, 2, 3; fewer epochs: diverged
COUNTS = {
    "standard": ([9970, 9982, 9981], [2100, 2250, 2300]), "standard/1": ([9975, 9980, 9980], [2700, 2650, 2600]),
    "standard/2": ([9972, 9979, 9983], [3000, 3050, 3100]),
    "rcl-m0.9": ([9410, 9560, 9930], [7400, 7300, 6700]), "rcl-m0.9/1": ([9100, 9300, 9480], [7900, 7700, 7100]),
    "rcl-inf": ([9000, 9400, 9610], [8700, 8900, 9010]), "rcl-inf/1": ([9050], [8600]),
    "standard-original": ([9600, 9700, 9780], [9600, 9700, 9780]),
}  # fmt: skip


def synthetic(row: str, seed: int, val: list[int], test: list[int]):
    """The invented record of a run with these counts."""
    from mnistmp import paper
    from mnistmp.records import RunRecord

    history = [
        {"epoch": i + 1, "val_correct": val[i], "test_correct": test[i], "train_loss": 0.5 / (i + 1),
         "terms": {"cross_entropy": 0.25 / (i + 1)}, "seconds": 1.5}
        for i in range(len(val))
    ]  # fmt: skip
    diverged = len(val) < 3
    return RunRecord(
        spec=paper.spec_for(row, seed, "paper", epochs=3), status="diverged" if diverged else "done",
        history=history, val_total=10_000, test_total=10_000, started="2000-01-01T00:00:00Z", seconds=4.5,
        environment={"device": "synthetic", "threads": 1, "path": "none", "code_version": "000000000000"},
        diverged_epoch=len(val) + 1 if diverged else None,
    )  # fmt: skip


def main() -> None:
    os.environ["MNISTMP_RESULTS"] = str(HERE)
    from mnistmp import records
    from mnistmp.results import table2

    shutil.rmtree(HERE, ignore_errors=True)
    for name, counts in COUNTS.items():
        row, _, seed = name.partition("/")
        records.save(synthetic(row, int(seed or 0), *counts), "paper")
    table2.write(table2.table2(records.load("paper")), "paper")


if __name__ == "__main__":
    main()
