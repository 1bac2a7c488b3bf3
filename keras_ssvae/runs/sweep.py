"""What the tables share: one run for each combination of some flags, and a table of them."""

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
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.launch import Job, Pool, end_with_parent, launch, work_off
from keras_ssvae.runs.run import Plan, plan, prepare, train
from keras_ssvae.runs.script import script
from keras_ssvae.runs.tables import Cell, Result, by, markdown, model_file, write_tables

__all__ = [
    "SEEDS",
    "Axis",
    "Cell",
    "Result",
    "Sweep",
    "by",
    "main",
    "markdown",
    "metrics_of",
    "train_run",
    "write_tables",
]


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
    return finished(plan.output_dir, plan.settings, plan.scheduled)


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
        depends_on: The values of the axes by their names -> the same with None for each that makes no difference beside
            the others, as the number of categories of a model that has none. Of combinations that then are the same
            one is made.
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
    """Makes a table, as its script is called.

    Runs that are finished are kept, also those of the experiment's own script; one that was interrupted, or has fewer
    epochs, goes on.
    """
    # Each run has a process of its own, and may need the memory of the whole accelerator, of which this one takes less.
    environment = dict(os.environ)
    for name, value in (("XLA_PYTHON_CLIENT_PREALLOCATE", "false"), ("TF_FORCE_GPU_ALLOW_GROWTH", "true")):
        os.environ.setdefault(name, value)
    # What goes on after Ctrl-C is the table.
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
    if args.jobs < 1:
        raise UserError(f"--jobs is {args.jobs}; it must be at least 1.")
    plans = _plans(sweep, args)
    output_dir = args.output_dir or args.runs_dir / f"{Path(sys.argv[0]).stem}_{plans[0].images.name}"
    # What can be checked is checked before the first run.
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
    """Makes those that are not done; when some fail, the others are made all the same."""
    at_a_time = args.jobs > 1 or args.cluster is not None
    failed, jobs = [], []
    for i, (each, values) in enumerate(zip(plans, _combinations(sweep, args), strict=True)):
        title = f"Run {i + 1} of {len(plans)}"
        named = {axis.name: value for axis, value in zip(sweep.axes, values, strict=True) if value is not None}
        varied = ", ".join(f"{name} {_short(value)}" for name, value in named.items())
        command = (sys.executable, *sys.argv, "--only", str(i))
        if done[i]:
            print(f"{'' if at_a_time else chr(10)}{title}: {varied}\nFinished before: {each.output_dir}", flush=True)
        elif at_a_time:
            jobs.append(Job(title, varied, (*command, "--started-by-table"), each.output_dir / LOG))
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
            f"{len(failed)} of {len(plans)} runs failed: {', '.join(failed)}. The same command goes on with what is "
            "left."
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
            f"{plan.output_dir} holds a run {what}. Delete its metrics.json, and it is evaluated and saved again."
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
        help="where the runs are; finished ones are kept, unfinished ones and those of fewer epochs go on (default "
        "%(default)s)",
    )
    parser.add_argument(
        "--output-dir",
        type=Path,
        help=f"where table and figure go (default {Path(sys.argv[0]).stem}_<dataset> in --runs-dir)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at a time on this machine, which share its cores and GPUs; with --cluster on each GPU, or where "
        f"there is none on each machine. From 2 on each run prints to {LOG} in its directory (default %(default)s)",
    )
    parser.add_argument(
        "--cluster",
        nargs="?",
        const="auto",
        metavar="ADDRESS",
        help="make the runs on a Ray cluster (pip install ray): that of ADDRESS, host:port, or by itself the one that "
        "this machine belongs to. Its machines must have this directory, the scripts, the data and --runs-dir under "
        "the same paths, as on a shared file system. A run whose worker is lost is tried again up to three times, and "
        "goes on from its checkpoint (default: on this machine)",
    )
    # What a run of its own has: in a table runs go on by themselves, and export to their own directories.
    for flag in ("--resume", "--export-dir"):
        parser.add_argument(flag, action=_NotHere, nargs="?", help=argparse.SUPPRESS)
    # The run that this process is for, and whether its input ends with the process that started it.
    parser.add_argument("--only", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--started-by-table", action="store_true", help=argparse.SUPPRESS)
    return parser


class _NotHere(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(f"a table has no {option_string}: its runs go on by themselves, and export into --runs-dir")


def _combinations(sweep, args):
    """The values of the axes for each run."""
    names = [axis.name for axis in sweep.axes]
    combinations: list[tuple[Any, ...]] = []
    for given in itertools.product(*(getattr(args, name) for name in names)):
        values = tuple(sweep.depends_on(dict(zip(names, given, strict=True))).values())
        # A combination that is given twice is a mistake, which is found later.
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
            raise UserError(f"{given} names {of_run.output_dir} twice; each combination must be another run.")
        plans[of_run.output_dir] = of_run
    return list(plans.values())
