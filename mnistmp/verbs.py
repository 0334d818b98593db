"""What each verb of the `mnistmp` command does; the work is done elsewhere.

A verb takes the parsed arguments and returns the exit code. Nothing slow is imported before a
verb needs it.
"""

from __future__ import annotations

import argparse
import sys


def reproduce(args: argparse.Namespace) -> int:
    """Train by notebooks, then make notebooks, figures and tables of what is recorded."""
    from mnistmp import paths
    from mnistmp.sweep import cluster, reproduce

    with cluster.connected(args.executor, args.scheduler) as executor:
        job = reproduce.prepare(**_asked(args), folder=paths.notebooks(), executor=executor)
        return reproduce.dry_run(job) if args.dry_run else reproduce.reproduce(job)


def run(args: argparse.Namespace) -> int:
    """Train without notebooks."""
    from mnistmp.sweep import cluster, reproduce

    with cluster.connected(args.executor, args.scheduler) as executor:
        job = reproduce.prepare(**_asked(args), executor=executor)
        return reproduce.dry_run(job) if args.dry_run else reproduce.run(job)


def status(args: argparse.Namespace) -> int:
    """Count what is recorded, missing and broken; 1 if anything is broken."""
    from mnistmp import paper, records
    from mnistmp.sweep import plan

    # Unlike the other verbs this one goes on where a record is broken: it is how one finds out.
    precision = args.precision or plan.recorded_precision(args.preset)
    specs = paper.plan(args.preset, args.rows, args.seeds, precision)
    status = records.status(args.preset, specs)
    width = max([len("row"), *status["row"].str.len()])
    print(f"{'row':{width}}  {'planned':>7}  {'done':>7}  {'missing':>7}  {'diverged':>8}  {'broken':>6}")
    for line in status.itertuples():
        counts = f"{line.planned:7}  {line.done:7}  {line.missing:7}  {line.diverged:8}  {line.broken:6}"
        print(f"{line.row:{width}}  {counts}")
    done = status["done"].sum() + status["diverged"].sum()
    diverged = f", of which {status['diverged'].sum()} diverged" if status["diverged"].any() else ""
    print(f"{args.preset}: {done} of {len(specs)} done{diverged}.")
    for problem in status.attrs["problems"]:
        print(f"mnistmp: {problem}", file=sys.stderr)
    return 1 if status.attrs["problems"] else 0


def table(args: argparse.Namespace) -> int:
    """Print and write Table 2."""
    from mnistmp import paper
    from mnistmp.errors import InputError
    from mnistmp.results import markdown
    from mnistmp.sweep import reproduce

    if args.readme and args.preset != "paper":
        raise InputError(f"The README shows the paper preset, not {args.preset}; add --preset paper.")
    shown = reproduce.table(paper.preset(args.preset).name)
    if args.readme:
        for name, text in shown.items():
            path = markdown.replace_block(name, text)
        print(f"README:     {path}")
    return 0


def figures(args: argparse.Namespace) -> int:
    """Execute the notebooks of a preset, which draw the figures."""
    from mnistmp import paper, paths
    from mnistmp.sweep import batch, reproduce

    preset = paper.preset(args.preset).name
    outcomes = reproduce.show(preset, args.rows, paths.notebooks(), args.jobs or batch.default_jobs(), again=True)
    print(f"Figures:    {paths.figures(preset)}")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def notebooks(args: argparse.Namespace) -> int:
    """Execute the committed notebooks in place."""
    from mnistmp import paths
    from mnistmp.sweep import batch, notebooks

    units = notebooks.own_units(paths.notebooks(), args.names)
    outcomes = batch.run_units(units, args.jobs or batch.default_jobs())
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def report(args: argparse.Namespace) -> int:
    """Make a website of the executed notebooks."""
    from pathlib import Path

    from mnistmp import paths, site

    folder = Path(args.out).expanduser().absolute() if args.out else (paths.checkout() or Path.cwd()) / "site"
    written = site.build(args.preset, folder)
    print(f"Report:     {written[0]} ({sum(path.suffix == '.html' for path in written)} pages; open it in a browser)")
    return 0


def latent(args: argparse.Namespace) -> int:
    """Embed what Figure 3 shows."""
    from mnistmp import latent, paper, paths, records
    from mnistmp.sweep import batch, reproduce

    preset = paper.preset(args.preset).name
    seed = latent.seed_of(preset, args.seed)
    units = reproduce.figure3_units(preset, seed, paths.notebooks(), args.precision)
    records.check_writable(preset)
    precision = units[0].specs[0].precision if units else None
    outcomes = batch.run_units(units, args.jobs or batch.default_jobs(), precision=precision)
    panels = latent.load(preset, seed)
    for remark in latent.remarks(panels, preset):
        print(remark)
    stored = sum(map(bool, panels))
    print(f"{stored} of {len(panels)} panels of Figure 3 are stored in {paths.results(preset) / 'latent'}.")
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def select_weights(args: argparse.Namespace) -> int:
    """Choose a method's weight by the paper's rule."""
    from mnistmp.results import weights
    from mnistmp.sweep import study

    threshold = weights.THRESHOLD if args.threshold is None else args.threshold
    return study.select_weight(
        args.method, args.preset, args.seeds, threshold,
        jobs=args.jobs, precision=args.precision, dry_run=args.dry_run,
    )  # fmt: skip


def ablate(args: argparse.Namespace) -> int:
    """Train a row under the other readings of the paper."""
    from mnistmp.sweep import study

    return study.ablate(
        args.row, args.preset, args.seeds, args.options,
        jobs=args.jobs, precision=args.precision, dry_run=args.dry_run,
    )  # fmt: skip


def calibrate(args: argparse.Namespace) -> int:
    """Compare readings of the paper on validation."""
    from mnistmp.results import calibration, markdown
    from mnistmp.sweep import study

    seeds = args.seeds or calibration.SEEDS
    code = study.calibrate(seeds, jobs=args.jobs, recorded=args.recorded, dry_run=args.dry_run)
    if args.readme and not args.dry_run:
        print(f"README:     {markdown.replace_block('calibration', calibration.conclusion(calibration.table(seeds)))}")
    return code


def search(args: argparse.Namespace) -> int:
    """Train the search for the authors' loss."""
    from mnistmp.sweep import study

    return study.search_stages(args.stage, jobs=args.jobs, dry_run=args.dry_run)


def data(args: argparse.Namespace) -> int:
    """Find and verify MNIST."""
    from mnistmp import data

    digits = data.load("mnist", download=not args.check)
    images = len(digits.train_images) + len(digits.test_images)
    print(f"MNIST is complete and verified: {images:,} digits in {data.data_root() / 'MNIST' / 'raw'}")
    return 0


def doctor(args: argparse.Namespace) -> int:
    """Say whether this machine can run it."""
    from mnistmp import doctor

    return doctor.doctor(args.json)


def _asked(args: argparse.Namespace) -> dict:
    return {name: getattr(args, name) for name in ("preset", "rows", "seeds", "jobs", "precision", "shard")}
