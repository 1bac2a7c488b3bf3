"""EXoN on the digits 0 and 1 of MNIST, their prior centres at several distances: Figure 6 of the paper.

20 labels, batches of 64 with 10 labelled, beta 5, 20 epochs of 197 steps; `--distances` are those between the two
centres, in a plane where each component has a standard deviation of 2. The figure decodes the line from (-10, 0) to
(10, 0); the table says how much neighbouring images on it differ, which the paper expects to fall as the distance
grows. Finished runs are kept, and the same command goes on with what is left. On 2 CPU cores a run takes five minutes.
"""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import mnist_exon
import numpy as np
import sweep
from flags import UserError

from keras_ssvae import evaluation, plots, priors

DIGITS = (0, 1)
START, END, POINTS = (-10.0, 0.0), (10.0, 0.0), 11
PAPER = {"epochs": 20, "batch_size": 64, "labeled_batch_size": 10, "validation": 0}
SETTINGS = {
    "mnist": mnist_exon.PAPER | PAPER | {"steps_per_epoch": 12_665 // 64},
    "digits": mnist_exon.SETTINGS["digits"] | PAPER | {"steps_per_epoch": 75},
}


def parse(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    parser.add_argument("--distance", type=float, default=8.0)
    args = parser.parse_args(argv)
    if not 0 < args.distance < math.inf:
        raise UserError(f"A distance is {args.distance:g}; it must be above 0.")
    return args


def schedules(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {**mnist_exon.schedules(args, dataset, epochs), "distance": args.distance, "digits": list(DIGITS)}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Figure 6 of the first seed, and the mean change along its lines, over all seeds."""
    z = keras.ops.convert_to_tensor(np.linspace(START, END, POINTS, dtype="float32"))
    first, rows = {}, []
    for distance, runs in sweep.by(results, "distance").items():
        models = [run.model() for run in runs]
        first[f"distance {distance:g}"] = models[0]
        changes = [evaluation.mean_change(keras.ops.convert_to_numpy(model.decode(z))) for model in models]
        errors = [run.metrics["test_error_percent"] for run in runs]
        row = [f"{distance:g}", str(len(runs))]
        rows.append([*row, sweep.mean_and_deviation(changes, 3), sweep.mean_and_deviation(errors, 2)])
    plots.paths(first, START, END, POINTS, title="").savefig(output_dir / "figure_6.png", dpi=110)
    return sweep.write_tables(output_dir, ["distance", "runs", "mean change of neighbours", "error %"], rows)


EXPERIMENT = dataclasses.replace(
    mnist_exon.EXPERIMENT,
    description=__doc__,
    settings=SETTINGS,
    labels=20,
    beta=5.0,
    classes=DIGITS,
    schedules=schedules,
    prior=lambda args, class_names: priors.line(len(DIGITS), args.distance),
    run_suffix=lambda args: f"_distance{args.distance:g}",
    parse=parse,
)
DISTANCES = sweep.Axis("distance", float, [8.0, 16.0, 24.0, 32.0], "between the centres of the two digits")

SWEEP = sweep.Sweep(EXPERIMENT, __doc__, [DISTANCES, sweep.SEEDS], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
