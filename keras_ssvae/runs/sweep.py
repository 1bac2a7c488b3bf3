"""What the tables share: one run for each combination of some flags, made one after the other, and a table of them."""

import argparse
import copy
import dataclasses
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ssvae.runs import flags
from keras_ssvae.runs.directory import check_output_dir, check_writable, finished, write_table, write_text
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.run import Plan, plan, prepare, script, train


@dataclasses.dataclass(frozen=True)
class Axis:
    """A flag that a table varies: it takes a list instead of one value.

    Attributes:
        name: The flag, without its dashes in front, and with underscores for those in it.
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
        return f"--{self.name.replace('_', '-')}"


SEEDS = Axis("seed", int, [1], "seeds: each has its own weights and noise, and its own draw of the labelled images")


def train_run(plan: Plan) -> None:
    train(prepare(plan))


def metrics_of(plan: Plan) -> dict[str, Any] | None:
    """What a finished run of this plan left in `metrics.json`; None where there is none."""
    return finished(plan.output_dir, plan.settings)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A table of runs.

    Attributes:
        experiment: The experiment, whose flags are the table's too.
        description: For the help.
        axes: The flags that are varied; each combination is a run.
        columns: The entries of the metrics that the table needs.
        finish: (results, output directory) -> the text of the table; it writes the files.
        train: Makes a run, or goes on with it.
        metrics: Plan -> what the finished run left, or None.
    """

    experiment: Experiment
    description: str
    axes: Sequence[Axis]
    columns: Sequence[str]
    finish: Callable[[list["Result"], Path], str]
    train: Callable[[Plan], None] = train_run
    metrics: Callable[[Plan], dict[str, Any] | None] = metrics_of


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run: its plan, and its metrics."""

    plan: Plan
    metrics: dict[str, Any]

    def model(self) -> keras.Model:
        return keras.models.load_model(_model_file(self.plan), compile=False)


def main(sweep: Sweep) -> None:
    """Makes a table, as its script is called.

    Runs that are finished are kept, also those of the experiment's own script, and one that was interrupted goes on.
    """
    # Each run has a process of its own, and may need the memory of the whole accelerator, of which this one takes less.
    environment = dict(os.environ)
    for name, value in (("XLA_PYTHON_CLIENT_PREALLOCATE", "false"), ("TF_FORCE_GPU_ALLOW_GROWTH", "true")):
        os.environ.setdefault(name, value)
    args = _parser(sweep).parse_args()
    if args.only is None:
        script(lambda: _make_table(sweep, args, environment), go_on="")
    else:
        script(lambda: sweep.train(_plans(sweep, args)[args.only]))


def _make_table(sweep, args, environment):
    plans = _plans(sweep, args)
    output_dir = args.output_dir or args.runs_dir / f"{Path(sys.argv[0]).stem}_{plans[0].images.name}"
    # What can be checked is checked before the first run.
    check_writable(output_dir, "--output-dir")
    for each in plans:
        if _finished(sweep, each) is None and metrics_of(each) is None:
            check_output_dir(each.output_dir, each.settings, resume=True)
    for i, each in enumerate(plans):
        varied = ", ".join(f"{axis.name} {each.settings[axis.name]:g}" for axis in sweep.axes)
        print(f"\nRun {i + 1} of {len(plans)}: {varied}", flush=True)
        if _finished(sweep, each) is None:
            launch([sys.executable, *sys.argv, "--only", str(i)], environment)
        else:
            print(f"Finished before: {each.output_dir}")
    output_dir.mkdir(parents=True, exist_ok=True)
    text = sweep.finish([Result(each, _finished(sweep, each)) for each in plans], output_dir)
    print(f"\n{text}\n\nWritten to {output_dir}")


def launch(command: list[str], environment: dict[str, str]) -> None:
    """Runs a process to its end; its messages are the user's, its failure ends the table."""
    process = subprocess.Popen(command, env=environment)
    try:
        code = process.wait()
    except KeyboardInterrupt:  # which the process had too
        process.wait()
        raise
    if code:
        sys.exit(code)


def _finished(sweep, plan):
    metrics = sweep.metrics(plan)
    if metrics is None:
        return None
    lacking = [name for name in sweep.columns if name not in metrics]
    if lacking or not _model_file(plan).exists():
        what = f"whose metrics.json lacks {', '.join(lacking)}" if lacking else "without model.keras"
        raise UserError(
            f"{plan.output_dir} holds a run {what}. Delete its metrics.json, and it is evaluated and saved again."
        )
    return metrics


def _model_file(plan):
    return plan.output_dir / "model.keras"


def _parser(sweep):
    parser = flags.parser(sweep.experiment)
    parser.description = sweep.description
    for axis in sweep.axes:
        help = f"{axis.help} (default {' '.join(map(str, axis.default))})"
        parser.add_argument(axis.flag, type=axis.type, nargs="+", default=axis.default, help=help)
    parser.add_argument(
        "--runs-dir",
        type=Path,
        default=Path("runs"),
        help="where the runs are; finished ones are kept, unfinished ones go on (default %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        help=f"where table and figure go (default {Path(sys.argv[0]).stem}_<dataset> in --runs-dir)",
    )
    # What a run of its own has: in a table runs go on by themselves, and export to their own directories.
    for flag in ("--resume", "--export-dir"):
        parser.add_argument(flag, action=_NotHere, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)  # the run that this process is for
    return parser


class _NotHere(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"a table has no {option_string}: its runs go on by themselves, and export into --runs-dir")


def _plans(sweep, args):
    plans = {}
    for values in itertools.product(*(getattr(args, axis.name) for axis in sweep.axes)):
        own = copy.copy(args)
        vars(own).update({axis.name: value for axis, value in zip(sweep.axes, values, strict=True)})
        own.output_dir, own.export_dir, own.resume = None, None, True
        own = sweep.experiment.check_flags(own)
        of_run = plan(sweep.experiment, own)
        of_run.output_dir = args.runs_dir / of_run.output_dir.name
        of_run.export_dir = of_run.output_dir / "saved_model"
        if of_run.output_dir in plans:
            given = " ".join(f"{axis.flag} {' '.join(map(str, getattr(args, axis.name)))}" for axis in sweep.axes)
            raise UserError(f"{given} names {of_run.output_dir} twice; each combination must be another run.")
        plans[of_run.output_dir] = of_run
    return list(plans.values())


def by(results: Sequence[Result], name: str) -> dict[Any, list[Result]]:
    """The results by a setting, in their order."""
    groups = {}
    for result in results:
        groups.setdefault(result.plan.settings[name], []).append(result)
    return groups


@dataclasses.dataclass(frozen=True)
class Cell:
    """Figures of the runs of a row: their mean, and from two on their standard deviation."""

    values: Sequence[float | None]
    digits: int

    @property
    def mean(self) -> str:
        return "" if None in self.values else f"{np.mean(self.values):.{self.digits}f}"

    @property
    def deviation(self) -> str:
        few = None in self.values or len(self.values) < 2
        return "" if few else f"{np.std(self.values, ddof=1):.{self.digits}f}"

    def __str__(self) -> str:
        return f"{self.mean} ({self.deviation})" if self.deviation else self.mean


def write_tables(
    output_dir: Path, results: Sequence[Result], header: Sequence[str], rows: Sequence[Sequence[str | Cell]]
) -> str:
    """Writes `table.csv`, with deviations in columns of their own, and `table.md`; returns the latter."""
    settings, title = results[0].plan.settings, results[0].plan.data_title
    names, lines = [], [[] for _ in rows]
    for i, name in enumerate(header):
        measured = isinstance(rows[0][i], Cell)
        names += [name, f"{name}, deviation"] if measured else [name]
        for line, row in zip(lines, rows, strict=True):
            line += [row[i].mean, row[i].deviation] if measured else [row[i]]
    write_table(output_dir / "table.csv", names, lines)
    shown = [header, ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    planned = f" of {settings['schedule_epochs']}" if "schedule_epochs" in settings else ""
    layout = f", layout {settings['layout']}" if settings.get("layout") else ""
    markdown = [
        f"{title}, {settings['epochs']}{planned} epochs, each of {settings['steps_per_epoch']} steps{layout}; "
        "mean (standard deviation) over the runs.\n",
        *(f"| {' | '.join(line)} |" for line in shown),
    ]
    write_text(output_dir / "table.md", "\n".join(markdown) + "\n")
    return "\n".join(markdown)
