"""REVAE on MNIST with one labelled image of each class: Appendix D.2 of its paper.

The published accuracy is 76.7 %, with mu = 5. The paper gives neither the number of draws of the ten images nor the
size of z_c. mu is the weight of a further term. It draws z_c from the prior and takes the label of that labelled image
whose posterior has the largest density there; the classifier must give this label to z_c. `--mu 0 5` shows the effect.
With `--m 10` all of z belongs to the label.

Each mu and seed is a run with the images, networks and order of batches of fashion_mnist_revae.py; the seed also draws
the ten images. An epoch has one batch of the ten labelled images, and sees each other image once. Finished runs are
kept; the same command makes or resumes the others. `--dataset digits` (1,437 images embedded in scikit-learn, no
download) has its own settings.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import fashion_mnist_revae

from keras_ssvae.runs import sweep
from keras_ssvae.runs.errors import UserError, check_number
from keras_ssvae.runs.sets import load_data

CLASSES, MU, PUBLISHED = 10, 5.0, 76.7
OF_BATCH = {"batch_size": 200 + CLASSES, "labeled_batch_size": CLASSES}
SETTINGS = {
    # An epoch has as many steps as there are batches: 1 of the labelled images, and 250 of the 49,990 others.
    "mnist": fashion_mnist_revae.PAPER | OF_BATCH | {"steps_per_epoch": 251},
    "digits": fashion_mnist_revae.SETTINGS["digits"]
    | {"batch_size": 50 + CLASSES, "labeled_batch_size": CLASSES, "steps_per_epoch": 26},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    fashion_mnist_revae.add_revae_flags(parser)
    parser.add_argument("--mu", type=float)
    parser.add_argument("--labels", type=int, help=argparse.SUPPRESS)
    parser.set_defaults(model="revae", alpha=None, fraction=None, judges=0)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.labels is not None:
        raise UserError(f"--labels is {args.labels}, but here each class has one labelled image. Leave it out.")
    check_number("mu", args.mu)
    args.labels = CLASSES
    return fashion_mnist_revae.check_flags(args, SETTINGS, load_data)


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {**fashion_mnist_revae.own_settings(args, dataset, epochs), "mu": args.mu}


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """The accuracy for each mu."""
    rows = []
    for mu, runs in sweep.by(results, "mu").items():
        of_paper = mu == MU and runs[0].plan.settings["dataset"] == "mnist"
        accuracy = sweep.Cell([100.0 - run.metrics["test_error_percent"] for run in runs], 2)
        rows.append([f"{mu:g}", str(len(runs)), accuracy, str(PUBLISHED) if of_paper else ""])
    header = ["mu", "runs", "accuracy %", "accuracy %, published (100 epochs)"]
    return sweep.write_tables(output_dir, results, header, rows)


EXPERIMENT = dataclasses.replace(
    fashion_mnist_revae.EXPERIMENT,
    description=__doc__,
    settings=SETTINGS,
    labels=CLASSES,
    load=load_data,
    own_settings=own_settings,
    metrics=lambda run: {},
    options=(),
    run_suffix=lambda args: f"{fashion_mnist_revae.run_suffix(args)}_mu{args.mu:g}",
    add_flags=add_flags,
    check_flags=check_flags,
)
MUS = sweep.Axis("mu", float, [MU], "weights of the term for a single labelled image of each class")
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, [MUS, sweep.SEEDS], ["test_error_percent"], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
