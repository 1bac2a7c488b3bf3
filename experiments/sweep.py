"""What the tables share: one run for each combination of some flags, made one after the other, and a table of them."""

import argparse
import dataclasses
import itertools
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import flags
import keras
import numpy as np
import runner
from experiment import Experiment
from flags import UserError
from run_directory import check_output_dir, check_writable, finished, write_table, write_text


@dataclasses.dataclass(frozen=True)
class Axis:
    """A flag that a sweep varies.

    Attributes:
        name: The flag, without its dashes; the sweep's own takes a list, and ends in an s.
        type: Of its values.
        default: The list by default.
        help: What the flag means.
    """

    name: str
    type: type
    default: Sequence[Any]
    help: str

    @property
    def flag(self) -> str:
        return f"--{self.name.removesuffix('s')}s"


SEEDS = Axis("seed", int, [1], "seeds: each has its own draw of the labelled images, weights and noise")


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run of a sweep: its plan, and what its `metrics.json` holds."""

    plan: runner.Plan
    metrics: dict[str, Any]

    def model(self) -> keras.Model:
        return keras.models.load_model(self.plan.output_dir / "model.keras", compile=False)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A table of runs.

    Attributes:
        experiment: The experiment, whose other flags are the sweep's too.
        description: For the help.
        axes: The flags that are varied; each combination is a run.
        finish: (results, output directory) -> what to print last; it writes the table and the figures.
    """

    experiment: Experiment
    description: str
    axes: Sequence[Axis]
    finish: Callable[[list[Result], Path], str]


def main(sweep: Sweep) -> None:
    """Runs a sweep, as its script is called.

    Runs that are finished are kept, also those of the experiment's own script, and one that was interrupted goes on.
    """
    runner.script(lambda: _run(sweep))


def _run(sweep):
    args, rest = _parse(sweep)
    plans = []
    for values in itertools.product(*(getattr(args, axis.name) for axis in sweep.axes)):
        varied = [f"--{axis.name}={value}" for axis, value in zip(sweep.axes, values, strict=True)]
        plan = runner.plan(sweep.experiment, flags.arguments(sweep.experiment, [*rest, *varied, "--resume"]))
        plan.output_dir = args.runs_dir / plan.output_dir.name
        plan.export_dir = plan.output_dir / "saved_model"
        plans.append((" ".join(varied), plan))
    # All are checked before the first is trained.
    check_writable(args.output_dir, "--output-dir")
    left = [plan for _, plan in plans if finished(plan.output_dir, plan.settings) is None]
    for plan in left:
        check_output_dir(plan.output_dir, plan.settings, resume=True)
    results = []
    for i, (varied, plan) in enumerate(plans):
        print(f"\nRun {i + 1} of {len(plans)}: {varied}", flush=True)
        if plan in left:
            runner.train(runner.prepare(plan))
            keras.backend.clear_session()  # or the memory of all models would add up
        else:
            print(f"Finished before: {plan.output_dir}")
        results.append(Result(plan, finished(plan.output_dir, plan.settings)))
    args.output_dir.mkdir(parents=True, exist_ok=True)
    print(f"\n{sweep.finish(results, args.output_dir)}\n\nWritten to {args.output_dir}")


def _parse(sweep):
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(
        description=sweep.description,
        epilog="All other flags are those of the experiment, and hold for every run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    for axis in sweep.axes:
        default = " ".join(map(str, axis.default))
        parser.add_argument(
            axis.flag,
            dest=axis.name,
            type=axis.type,
            nargs="+",
            default=axis.default,
            help=f"{axis.help} (default {default})",
        )
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        help="where the runs are; finished ones are kept, unfinished ones go on (default %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("runs") / name,
        help="where the tables and figures go (default %(default)s)",
    )
    args, rest = parser.parse_known_args()
    for axis in sweep.axes:
        values = getattr(args, axis.name)
        if len(set(values)) < len(values):
            raise UserError(f"{axis.flag} is {shlex.join(map(str, values))}; no value may stand there twice.")
        if any(each.split("=")[0] == f"--{axis.name}" for each in rest):
            raise UserError(f"--{axis.name} is what {name}.py varies: give {axis.flag}, with one value or more.")
    for flag in ("--export-dir", "--resume"):
        if any(each.split("=")[0] == flag for each in rest):
            raise UserError(f"{name}.py has no {flag}: runs go on by themselves, and export to their own directories.")
    return args, rest


def by(results: Iterable[Result], name: str) -> dict[Any, list[Result]]:
    """The results by a setting, in their order."""
    groups = {}
    for result in results:
        groups.setdefault(result.plan.settings[name], []).append(result)
    return groups


def mean_and_deviation(values: Sequence[float], digits: int) -> str:
    """`mean (standard deviation)`, the latter where there are two runs or more."""
    mean = f"{np.mean(values):.{digits}f}"
    return mean if len(values) < 2 else f"{mean} ({np.std(values, ddof=1):.{digits}f})"


def write_tables(output_dir: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Writes `table.csv` and `table.md`; returns the latter."""
    write_table(output_dir / "table.csv", list(header), rows)
    lines = [header, ["---"] * len(header), *rows]
    markdown = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    write_text(output_dir / "table.md", markdown + "\n")
    return markdown
