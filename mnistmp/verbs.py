"""What each verb of the `mnistmp` command does.

A verb takes the parsed arguments and returns the exit code. Nothing slow is imported before a verb needs it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from mnistmp import paths
from mnistmp.errors import InputError, first_line

if TYPE_CHECKING:
    from mnistmp.spec import RunSpec
    from mnistmp.sweep.process import Outcome
    from mnistmp.sweep.run import Sweep

Function = Callable[[argparse.Namespace], int]
VERBS: dict[str, tuple[str, tuple[str, ...], bool, Function]] = {}  # name -> as of `verb`, and the function

RUNS = ("--preset", "--results", "--methods", "--rows", "--seeds", "--precision")
WORK = (*RUNS, "--jobs", "--shard", "--executor", "--scheduler", "--dry-run")
STUDY = ("--preset", "--results", "--methods", "--seeds", "--precision", "--jobs", "--dry-run")


def verb(help: str, *options: str, makes: bool = False) -> Callable[[Function], Function]:
    """Make a verb of a function: what `mnistmp --help` says of it, which of `cli.OPTIONS` it takes, and whether it
    makes figures or tables, whose `lineage` is then written."""

    def register(function: Function) -> Function:
        VERBS[function.__name__.replace("_", "-")] = help, options, makes, function
        return function

    return register


@verb("train what is missing by notebooks, then make figures and tables", *WORK, makes=True)
def reproduce(args: argparse.Namespace) -> int:
    from mnistmp.sweep import cluster, notebooks, run

    folder = paths.notebooks()
    with cluster.connected(args.executor, args.scheduler) as executor:
        specs = _specs(args)
        notebooks.find(folder)
        sweep = run.Sweep(specs, args.preset, jobs=args.jobs, executor=executor, folder=folder)
        if args.dry_run:
            print(sweep.forecast())
            return 0
        outcomes = sweep.train()
        if args.shard:
            code = sweep.close(outcomes)
            rest = "without --shard the same command makes notebooks, figures and tables"
            print(f"This was a part; {rest} of {args.preset}.")
            return code
        problems = []
        steps = {
            "The notebooks could not be executed": lambda: outcomes.extend(
                run.show(args.preset, args.rows, args.jobs, executor=executor)
            ),
            "The table could not be written": lambda: _table(args.preset),
        }
        for what, step in steps.items():
            try:
                step()
            except (OSError, InputError) as error:  # after hours of work: say it, go on, and say where the rest is
                problems.append(f"{what}: {first_line(error)}")
        print(f"Figures:    {paths.shown(paths.figures(args.preset))}")
        print(f"Notebooks:  {paths.shown(paths.results(args.preset) / 'notebooks')}")
        code = sweep.close(outcomes)
        print("".join(f"{problem}\n" for problem in problems), end="")
        return 1 if problems else code


@verb("train what is missing without notebooks; needs no Jupyter", *WORK, "--checkpoints")
def run(args: argparse.Namespace) -> int:
    from mnistmp.sweep import cluster
    from mnistmp.sweep.run import Sweep

    with cluster.connected(args.executor, args.scheduler) as executor:
        return _train(Sweep(_specs(args), args.preset, jobs=args.jobs, executor=executor), args)


@verb("how many runs are recorded, missing or broken", *RUNS)
def status(args: argparse.Namespace) -> int:
    from mnistmp import records

    # Unlike the other verbs this one goes on where a record is broken: it is how one finds out.
    specs = _specs(args)
    status = records.status(args.preset, specs)
    done = status["done"].sum() + status["diverged"].sum()
    diverged = f", of which {status['diverged'].sum()} diverged" if status["diverged"].any() else ""
    print(status[["row", "planned", "done", "missing", "diverged", "broken"]].to_string(index=False))
    print(f"{args.preset}: {done} of {len(specs)} done{diverged}.")
    for problem in status.attrs["problems"]:
        print(f"mnistmp: {problem}", file=sys.stderr)
    return 1 if status.attrs["problems"] else 0


@verb("print Table 2 from the records and write it", "--preset", "--results", "--methods", "--readme", makes=True)
def table(args: argparse.Namespace) -> int:
    from mnistmp import paper
    from mnistmp.results import markdown

    if args.readme and args.preset != "paper":
        raise InputError(f"The README shows the paper preset, not {args.preset}; add --preset paper.")
    shown = _table(paper.preset(args.preset).name)
    if args.readme:
        written = dict.fromkeys(markdown.replace_block(name, text) for name, text in shown.items())
        print(f"Pages:      {', '.join(map(paths.shown, written))}")
    return 0


@verb("execute the notebooks again to draw the figures", "--preset", "--results", "--rows", "--jobs", makes=True)
def figures(args: argparse.Namespace) -> int:
    from mnistmp import paper
    from mnistmp.sweep import run

    outcomes = run.show(paper.preset(args.preset).name, args.rows, args.jobs, again=True)
    print(f"Figures:    {paths.figures(args.preset)}")
    return _failed(outcomes)


@verb("execute the committed notebooks in place and clean them", "names", "--jobs", makes=True)
def notebooks(args: argparse.Namespace) -> int:
    from mnistmp.sweep import plan, run

    return _failed(run.run_units(plan.own_units(paths.notebooks(), args.names), args.jobs or run.default_jobs()))


@verb("make a website of the executed notebooks, to open from disk", "--preset", "--results", "--out")
def report(args: argparse.Namespace) -> int:
    from mnistmp import site

    folder = paths.absolute(args.out, "--out") if args.out else (paths.checkout() or Path.cwd()) / "site"
    written = site.build(args.preset, folder)
    print(f"Report:     {written[0]} ({sum(path.suffix == '.html' for path in written)} pages; open it in a browser)")
    return 0


@verb("a method's largest weight that keeps validation up", "method", *STUDY, "--threshold", makes=True)
def select_weights(args: argparse.Namespace) -> int:
    from mnistmp import paper, records
    from mnistmp.results import search, weights
    from mnistmp.sweep.run import Sweep

    threshold = weights.THRESHOLD if args.threshold is None else args.threshold
    weights.check_threshold(threshold)
    steps = weights.specs(args.method, args.preset, args.seeds, paper.precision(args.preset, args.precision))
    if args.dry_run:
        print("At most:")
        steps = [sum(steps, [])]
    for specs in steps:
        code = _train(Sweep(specs, args.preset, jobs=args.jobs, sources=[search.PRESET]), args)
        if code or args.dry_run:
            return code
        grid = weights.table(records.load(args.preset), threshold)
        if weights.pick(grid, weights.weighted_row(args.method).id) is not None:
            break  # smaller weights cannot change what the rule picks
    _show(weights.to_markdown(grid, args.preset, args.method), weights.write(grid, args.preset))
    return 0


@verb("a row under other interpretations of the paper, one at a time", "row", *STUDY, "--options", makes=True)
def ablate(args: argparse.Namespace) -> int:
    from mnistmp import paper
    from mnistmp.results import ablation, calibration
    from mnistmp.sweep.run import Sweep

    precision = paper.precision(args.preset, args.precision)
    specs = ablation.specs(args.row, args.preset, args.seeds, args.options, precision)
    code = _train(Sweep(specs, args.preset, jobs=args.jobs, sources=[calibration.PRESET]), args)
    if not args.dry_run:
        lines = ablation.table(args.preset)
        _show(ablation.to_markdown(lines, args.preset), ablation.write(lines, args.preset))
    return code


@verb(
    "which interpretations of the paper fit its validation column",
    *("--results", "--seeds", "--recorded", "--readme", "--jobs", "--dry-run"),
    makes=True,
)
def calibrate(args: argparse.Namespace) -> int:
    from mnistmp.results import calibration, markdown
    from mnistmp.sweep.run import Sweep

    seeds = args.seeds or calibration.SEEDS
    sweep = Sweep(calibration.specs(seeds), calibration.PRESET, jobs=args.jobs, sources=["paper"])
    code = 0 if args.recorded and not args.dry_run else _train(sweep, args)
    if not args.dry_run:
        measured = calibration.table(seeds)
        _show(calibration.to_markdown(measured), calibration.write(measured))
        if args.readme:
            print(f"Page:       {markdown.replace_block('calibration', calibration.conclusion(measured))}")
    return code


@verb(
    "which positive and scaling fit RCL's validation column, in stages",
    *("--results", "--stage", "--recorded", "--readme", "--jobs", "--dry-run"),
    makes=True,
)
def search(args: argparse.Namespace) -> int:
    from mnistmp.results import markdown, search
    from mnistmp.sweep.run import Sweep

    code = 0
    for number in () if args.recorded else range(1, (args.stage or len(search.STAGES)) + 1):
        runs = search.recorded()
        print(f"Stage {number}: {len(search.entrants(number, runs))} candidates.", flush=True)
        todo = [spec for spec in search.specs(number, runs) if (spec.row, spec.seed) not in runs]
        code = _train(Sweep(todo, search.PRESET, jobs=args.jobs), args) if todo else 0
        if code or (todo and args.dry_run):
            break  # who takes part in the next stage is not known yet
    if not args.dry_run:
        runs = search.recorded()
        text = search.to_markdown(runs)
        _show(text, search.write(runs))
        if args.readme:
            print(f"Page:       {markdown.replace_block('search', text)}")
    return code


@verb(
    "measure the paper's Table 1 on the coloured MNISTs",
    *("variant", "--train", "--preset", "--results", "--seeds"),
    makes=True,
)
def audit(args: argparse.Namespace) -> int:
    from mnistmp import paper
    from mnistmp.data import variants
    from mnistmp.results import audit, irm, markdown

    dataset, measured = paper.preset(args.preset).dataset, None
    if args.seeds and args.train != "up":
        raise InputError("--seeds are those of the networks for MNIST-UP; add --train up, or leave --seeds out.")
    if args.train == "irm":
        irm.run(audit.folder(dataset), dataset)
        text = irm.to_markdown(irm.table(audit.folder(dataset)))
    elif args.train:
        audit.observe(args.preset, args.seeds)
        text = audit.observed_to_markdown(audit.observed(args.preset))
    else:
        names = [variants.find(args.variant).name] if args.variant else tuple(variants.VARIANTS)
        measured = audit.audit(names, dataset)
        text = audit.to_markdown(measured, dataset)
    texts = {} if args.variant else audit.texts(args.preset, measured)
    _show(text, markdown.write(paths.results(audit.folder(args.preset)), texts))
    return 0


@verb("write a coloured MNIST as files for others", "--variant", "--to", "--format", "--preset")
def export(args: argparse.Namespace) -> int:
    from mnistmp import paper
    from mnistmp.data.export import export

    dataset = paper.preset(args.preset).dataset
    written = export(args.variant, args.to, args.format, dataset=dataset)
    print(f"Files:      {', '.join(map(paths.shown, written))}")
    return 0


@verb("pack records, figures, website and data set into one archive", "--preset", "--results", "--to")
def release(args: argparse.Namespace) -> int:
    from mnistmp.release import release

    written = release(args.preset, args.to)
    print(f"Archive:    {paths.shown(written)} ({written.stat().st_size / 1e6:.0f} MB)")
    return 0


@verb("say whether this machine can run it, and what to do where not", "--results", "--json")
def doctor(args: argparse.Namespace) -> int:
    from mnistmp import doctor

    return doctor.doctor(args.json)


@verb("find MNIST, or download it, and verify every byte", "--check")
def data(args: argparse.Namespace) -> int:
    from mnistmp import data

    digits = data.load("mnist", download=not args.check)
    images = len(digits.train_images) + len(digits.test_images)
    print(f"MNIST is complete and verified: {images:,} digits in {data.data_root()}")
    return 0


@verb("write a commented starting file for a method of your own", "name")
def new_method(args: argparse.Namespace) -> int:
    from mnistmp import methods, own, paper

    if args.name in methods.METHODS or args.name in {row.id for row in paper.all_rows()}:
        raise InputError(f"There is a method or row {args.name!r} already; choose another name.")
    path = own.write_template(args.name, Path.cwd())
    print(f"{path.name} is written; mnistmp reproduce --methods {path.name} --rows standard,{args.name} trains it.")
    return 0


# ---- what verbs share ----


def _specs(args: argparse.Namespace) -> list[RunSpec]:
    from mnistmp import paper

    specs = paper.plan(args.preset, args.rows, args.seeds, paper.precision(args.preset, args.precision))
    if getattr(args, "shard", None) is None:
        return specs
    from mnistmp.sweep import plan

    return plan.shard(specs, args.shard)


def _train(sweep: Sweep, args: argparse.Namespace) -> int:
    if args.dry_run:
        print(sweep.forecast())
        return 0
    return sweep.close(sweep.train())


def _table(preset: str) -> dict[str, str]:
    """Print Table 2, write it with the paper's claims, other interpretations of rows and weights, and say where.

    Returns:
        What the README and docs/ show of them, as Markdown: "table2", "claims", "interpretations", "weights"
        and, where all rows of the paper preset are recorded, "findings" and "artifact".
    """
    from mnistmp import paper, records
    from mnistmp.results import ablation, artifact, claims, findings, table2, weights

    found = records.load(preset)
    if found.empty:
        others = [name for name in paper.PRESETS if (paths.results(name) / "runs").is_dir() and name != preset]
        instead = f", or choose --preset {' or '.join(others)}" if others else ""
        raise InputError(f"Preset {preset} has no records yet; run mnistmp reproduce --preset {preset}{instead}.")
    lines, comparisons = table2.side_by_side(preset, found=found), claims.side_by_side(preset, found)
    interpretations = ablation.table(preset, found)
    text = table2.to_markdown(lines, preset)
    _show(text, table2.write(lines, preset))
    print(f"Claims:     {', '.join(map(paths.shown, claims.write(*comparisons, preset)))}")
    if len(interpretations):
        print(f"Variants:   {', '.join(map(paths.shown, ablation.write(interpretations, preset)))}")
    selections = weights.table(found)
    if len(selections):
        print(f"Weights:    {', '.join(map(paths.shown, weights.write(selections, preset)))}")
    recorded = set(found["row"])
    if own := [row.id for row in paper.all_rows() if not row.notebook and row.id in recorded]:
        from mnistmp import figures

        history = records.history(preset)
        for row in own:
            figures.save(figures.training_curves(history, [row]), f"curves-{row}", preset)
    conclusions = ablation.conclusions(interpretations)
    pages = {"table2": text, "claims": claims.to_markdown(*comparisons), "interpretations": conclusions}
    pages["weights"] = weights.to_markdown(selections, preset)
    if preset == "paper" and lines["n"].all():
        pages["findings"] = findings.findings(lines, *comparisons)
        pages["artifact"] = artifact.artifact(found, comparisons[0])
    return pages


def _show(text: str, files: Sequence[Path]) -> None:
    print(f"\n{_aligned(text)}")
    if files:
        print(f"Table:      {', '.join(map(paths.shown, files))}")


def _failed(outcomes: Sequence[Outcome]) -> int:
    return 1 if any(outcome.problem for outcome in outcomes) else 0


def _aligned(markdown: str) -> str:
    """Markdown with its tables' columns as wide in every line, for a terminal."""
    lines = [line.strip("|").split("|") if line.startswith("|") else line for line in markdown.splitlines()]
    tables = [cells for cells in lines if isinstance(cells, list)]
    widths = [max(len(cell.strip()) for cell in column) for column in zip_longest(*tables, fillvalue="")]
    shown = []
    for line in lines:
        if isinstance(line, str):
            shown.append(line)
        elif set("".join(line)) - set("-: "):  # not the rule below the head
            shown.append("  ".join(cell.strip().ljust(width) for cell, width in zip(line, widths)).rstrip())
    return "\n".join(shown)
