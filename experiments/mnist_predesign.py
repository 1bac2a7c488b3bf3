"""EXoN on the digits 0 and 1 of MNIST, with several distances between the two prior centres: Figure 6 of the paper.

A run has 20 labels, batches of 64 images with 10 labelled ones, beta 5, and 20 epochs of 197 steps. `--distance` is the
distance between the two centres in a plane where each component has a standard deviation of 2. The figure decodes
points on the line from (-10, 0) to (10, 0). The table says how much neighbouring images on this line differ: the mean
over the pairs, the root mean square, which is larger if the change is a jump between similar images, and the largest.
The paper expects a slower change for a larger distance. Finished runs are kept; the same command makes or resumes the
others. On 2 CPU cores a run takes five minutes.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import exon
import keras
import mnist_exon
import numpy as np

from keras_ssvae import evaluation, plots, priors
from keras_ssvae.runs import sweep
from keras_ssvae.runs.errors import check_number

DIGITS = (0, 1)
START, END, POINTS = (-10.0, 0.0), (10.0, 0.0), 11
PAPER = {"epochs": 20, "batch_size": 64, "labeled_batch_size": 10, "validation": 0}
SETTINGS = {
    "mnist": mnist_exon.PAPER | PAPER | {"steps_per_epoch": 12_665 // 64},
    "digits": mnist_exon.SETTINGS["digits"] | PAPER | {"steps_per_epoch": 75},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    exon.add_flags(parser, *mnist_exon.OF_DIGITS)
    parser.add_argument("--distance", type=float)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    check_number("distance", args.distance, above=True)
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {**mnist_exon.schedules(args, dataset, epochs), **exon.own_settings(args), "distance": args.distance}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Figure 6 of the first seed, and the changes along its lines, over all seeds."""
    z = keras.ops.convert_to_tensor(np.linspace(START, END, POINTS, dtype="float32"))
    first, rows = {}, []
    for distance, runs in sweep.by(results, "distance").items():
        models = [run.model() for run in runs]
        first[f"distance {distance:g}"] = models[0]
        changes = [evaluation.changes(keras.ops.convert_to_numpy(model.decode(z))) for model in models]
        figures = [
            [each.mean() for each in changes],
            [np.sqrt(np.square(each).mean()) for each in changes],
            [each.max() for each in changes],
        ]
        errors = [run.metrics["test_error_percent"] for run in runs]
        cells = [*(sweep.Cell(values, 3) for values in figures), sweep.Cell(errors, 2)]
        rows.append([f"{distance:g}", str(len(runs)), *cells])
    header = ["distance", "runs", "mean change", "root mean square", "largest", "error %"]
    table = sweep.write_tables(output_dir, results, header, rows)
    plots.paths(first, START, END, POINTS, title="").savefig(output_dir / "figure_6.png", dpi=110)
    return table


EXPERIMENT = dataclasses.replace(
    mnist_exon.EXPERIMENT,
    settings=SETTINGS,
    labels=20,
    beta=5.0,
    classes=DIGITS,
    own_settings=own_settings,
    prior=lambda args, class_names: priors.line(len(DIGITS), args.distance),
    run_suffix=lambda args: f"_distance{args.distance:g}{exon.run_suffix(args)}",
    add_flags=add_flags,
    check_flags=check_flags,
)
DISTANCES = sweep.Axis("distance", float, [8.0, 16.0, 24.0, 32.0], "distances between the centres of the two digits")
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, [DISTANCES, sweep.SEEDS], ["test_error_percent"], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
