"""Tables of runs: one run for each combination of the values of some flags."""

import argparse
import copy
import dataclasses
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from keras_ssvae.runs import flags
from keras_ssvae.runs.directory import LOG, check_output_dir, check_writable, finished
from keras_ssvae.runs.errors import UserError, check_number, flag_of
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.launch import Job, Pool, end_with_parent, launch, work_off
from keras_ssvae.runs.plan import Plan
from keras_ssvae.runs.run import plan, prepare, train
from keras_ssvae.runs.script import script
from keras_ssvae.runs.tables import Cell, Result, by, filled, markdown, model_file, write_tables

__all__ = [
    "SEEDS",
    "Axis",
    "Cell",
    "Result",
    "Sweep",
    "by",
    "filled",
    "main",
    "markdown",
    "metrics_of",
    "train_run",
    "write_tables",
]


@dataclasses.dataclass(frozen=True)
class Axis:
    """A flag that a table varies: it takes a list of values instead of one.

    Attributes:
        name: Name of the flag as an attribute of the parsed flags, `labeled_batch_size` for `--labeled-batch-size`.
        type: Type of a value.
        default: Default list.
        help: Text of `--help`.
    """

    name: str
    type: type
    default: Sequence[Any]
    help: str

    @property
    def flag(self) -> str:
        return flag_of(self.name)


SEEDS = Axis("seed", int, [1], "seeds: each has its own weights and noise, and its own draw of the labelled images")


def train_run(plan: Plan) -> None:
    """Trains and evaluates the run of a plan, in this process."""
    train(prepare(plan))


def metrics_of(plan: Plan) -> dict[str, Any] | None:
    """The content of `metrics.json` if a finished run of this plan exists, else None."""
    return finished(plan.output_dir, plan.settings, plan.scheduled)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """A table of runs.

    Attributes:
        experiment: The experiment; the table has its flags too.
        description: Text of `--help`.
        axes: The flags that are varied; each combination of their values is a run.
        columns: The entries of the metrics that the table needs.
        finish: (results, output directory) -> the text of the table; it also writes the files.
        train: Makes a run, or resumes it.
        metrics: Plan -> the metrics of the finished run, or None.
        depends_on: (name of an axis -> its value) -> the same, with None for each value that makes no difference in
            this combination, such as the number of categories for a model without categories. Combinations that become
            equal give one run.
    """

    experiment: Experiment
    description: str
    axes: Sequence[Axis]
    columns: Sequence[str]
    finish: Callable[[list[Result], Path], str]
    train: Callable[[Plan], None] = train_run
    metrics: Callable[[Plan], dict[str, Any] | None] = metrics_of
    depends_on: Callable[[dict[str, Any]], dict[str, Any]] = lambda values: values


def main(sweep: Sweep) -> None:
    """Makes a table with the flags of the command line.

    Finished runs are kept, also those that the experiment's own script made. Runs that were interrupted or have fewer
    epochs are resumed.
    """
    # Each run has a process of its own and may need the whole memory of the accelerator, so this one must take little.
    environment = dict(os.environ)
    for name, value in (("XLA_PYTHON_CLIENT_PREALLOCATE", "false"), ("TF_FORCE_GPU_ALLOW_GROWTH", "true")):
        os.environ.setdefault(name, value)
    # Only the process of the table says how to resume after Ctrl-C, not that of a run.
    script(lambda: _main(sweep, environment), go_on=None if "--only" in sys.argv else "")


def _main(sweep, environment):
    args = _parser(sweep).parse_args()
    if args.only is None:
        _make_table(sweep, args, environment)
        return
    if args.started_by_table:
        end_with_parent()
    sweep.train(_plans(sweep, args)[args.only])


def _make_table(sweep, args, environment):
    check_number("jobs", args.jobs, 1)
    plans = _plans(sweep, args)
    output_dir = args.output_dir or args.runs_dir / f"{Path(sys.argv[0]).stem}_{plans[0].images.name}"
    # Check everything before the first run.
    check_writable(output_dir, "--output-dir")
    before = [_finished(sweep, each) for each in plans]
    for each, metrics in zip(plans, before, strict=True):
        if metrics is None and metrics_of(each) is None:
            check_output_dir(each.output_dir, each.settings, True, each.scheduled)
    _make_runs(sweep, plans, [metrics is not None for metrics in before], args, environment)
    output_dir.mkdir(parents=True, exist_ok=True)
    text = sweep.finish([Result(each, _finished(sweep, each)) for each in plans], output_dir)
    print(f"\n{text}\n\nWritten to {output_dir}")


def _make_runs(sweep, plans, done, args, environment):
    """Makes the runs that are not done. When a run fails, the others are still made."""
    at_a_time = args.jobs > 1 or args.cluster is not None
    failed, jobs = [], []
    for i, (each, values) in enumerate(zip(plans, _combinations(sweep, args), strict=True)):
        title = f"Run {i + 1} of {len(plans)}"
        named = {axis.name: value for axis, value in zip(sweep.axes, values, strict=True) if value is not None}
        varied = ", ".join(f"{name} {_short(value)}" for name, value in named.items())
        command = (sys.executable, *sys.argv, "--only", str(i), "--started-by-table")
        if done[i]:
            print(f"{'' if at_a_time else chr(10)}{title}: {varied}\nFinished before: {each.output_dir}", flush=True)
        elif at_a_time:
            jobs.append(Job(title, varied, command, each.output_dir / LOG))
        else:
            print(f"\n{title}: {varied}", flush=True)
            status = launch(list(command), environment)
            if status == 130:
                raise KeyboardInterrupt
            if status:
                failed.append(each.output_dir.name)
    if jobs:
        failed += [job.log.parent.name for job in work_off(jobs, _place(args))]
    if failed:
        raise UserError(
            f"{len(failed)} of {len(plans)} runs failed: {', '.join(failed)}. The same command resumes them."
        )


def _short(value):
    return value if isinstance(value, str) else f"{value:g}"


def _place(args):
    if args.cluster is None:
        return Pool(args.jobs, os.environ)
    from keras_ssvae.runs.cluster import Cluster

    return Cluster(args.cluster, args.jobs)


def _finished(sweep, plan):
    metrics = sweep.metrics(plan)
    if metrics is None:
        return None
    lacking = [name for name in sweep.columns if name not in metrics]
    if lacking or not model_file(plan).exists():
        what = f"whose metrics.json lacks {', '.join(lacking)}" if lacking else "without model.keras"
        raise UserError(
            f"{plan.output_dir} holds a run {what}. Delete its metrics.json, then the same command evaluates and saves "
            "the run again."
        )
    return metrics


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
        help="directory of the runs; finished runs in it are kept, runs that are unfinished or have fewer epochs are "
        "resumed (default %(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        help=f"directory for the table and the figure (default {Path(sys.argv[0]).stem}_<dataset> in --runs-dir)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="number of runs at a time on this machine, which share its cores and GPUs; with --cluster the number on "
        "each GPU, or on each machine if the cluster has no GPU. If it is above 1, each run prints to "
        f"{LOG} in its directory (default %(default)s)",
    )
    parser.add_argument(
        "--cluster",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="make the runs on the Ray cluster (pip install ray) at ADDRESS, host:port, or without ADDRESS on the "
        "cluster that this machine belongs to. All its machines must see this directory, the scripts, the data and "
        "--runs-dir under the same paths, as on a shared file system. A run whose worker is lost is tried again up to "
        "three times, from its checkpoint (default: on this machine)",
    )
    # Flags of the experiment's own script only: the runs of a table resume and export without them.
    for flag in ("--resume", "--export-dir"):
        parser.add_argument(flag, action=_NotHere, nargs="?", help=argparse.SUPPRESS)
    # For the processes of the runs: the number of the run, and whether to end when the parent process ends.
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--started-by-table", action="store_true", help=argparse.SUPPRESS)
    return parser


class _NotHere(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"a table has no {option_string}: its runs resume without a flag, and export into --runs-dir")


def _combinations(sweep, args):
    """The values of the axes for each run."""
    names = [axis.name for axis in sweep.axes]
    combinations: list[tuple[Any, ...]] = []
    for given in itertools.product(*(getattr(args, name) for name in names)):
        values = tuple(sweep.depends_on(dict(zip(names, given, strict=True))).values())
        # A combination that the user gave twice is kept: `_plans` reports it as a mistake.
        if values == given or values not in combinations:
            combinations.append(values)
    return combinations


def _plans(sweep, args):
    plans = {}
    for values in _combinations(sweep, args):
        own = copy.copy(args)
        vars(own).update({axis.name: value for axis, value in zip(sweep.axes, values, strict=True)})
        own.output_dir, own.export_dir, own.resume = None, None, True
        own = sweep.experiment.check_flags(own)
        of_run = plan(sweep.experiment, own)
        of_run.output_dir = args.runs_dir / of_run.output_dir.name
        of_run.export_dir = of_run.output_dir / "saved_model"
        if of_run.output_dir in plans:
            given = " ".join(f"{axis.flag} {' '.join(map(str, getattr(args, axis.name)))}" for axis in sweep.axes)
            raise UserError(f"{given} names {of_run.output_dir} twice; each combination must be a different run.")
        plans[of_run.output_dir] = of_run
    return list(plans.values())
