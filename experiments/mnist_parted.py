"""PartedVAE on MNIST with 256 labels: Section 5 of the paper, Figures 4, 5 and 7.

The published accuracy is 95 %, and 83 % for the classifier alone on the same labels. On 2 CPU cores the 60 epochs of
938 steps take about an hour. `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes one minute
and has its own settings: 20 epochs of 75 steps, and schedules that fit these. Images are resized to 32x32 pixels, as in
the paper. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

`--classifier-alone` also trains a second model for the same number of steps, which takes the supervised step only.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import parted

from keras_ssvae.models import PartedVAE
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.runs.sets import load_data

LEARNING_RATE, CAPACITY_STEPS, SLOPE_STEPS = 1.5e-3, 100_000, 35_000
PAPER = {"epochs": 60, "steps_per_epoch": 938, **parted.BATCHES, "validation": 5000}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 20, "steps_per_epoch": 75, **parted.BATCHES, "validation": 200},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--classifier-alone",
        action="store_true",
        help="also train a classifier without unlabelled images, and write its error to metrics.json (default: off)",
    )


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.classifier_alone and args.labels == 0:
        raise UserError("--classifier-alone needs labelled images, but --labels is 0.")
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The schedules in steps: the paper's or, for the digits, some that fit 20 epochs of 75 steps."""
    if dataset == "digits":
        return {"capacity_steps": 1500, "slope_steps": 750}
    return {"capacity_steps": CAPACITY_STEPS, "slope_steps": SLOPE_STEPS}


def build_model(settings: dict[str, Any], prior: None = None, kind: type[PartedVAE] = PartedVAE) -> PartedVAE:
    schedules = {name: settings[name] for name in ("capacity_steps", "slope_steps")}
    return parted.build(settings, LEARNING_RATE, kind=kind, **schedules)


class ClassifierAlone(PartedVAE):
    """A PartedVAE that takes only the first of the two steps, the supervised one."""

    def replay_step(self, batch, noise):
        return super().replay_step({name: batch[name] for name in ("labeled", "labels")}, noise)


def metrics(run: Run) -> dict[str, Any]:
    """The error of the classifier alone after the same number of steps, if `--classifier-alone` asks for it."""
    if not run.options["classifier_alone"]:
        return {}
    print("Training the classifier alone.")
    model = build_model(run.settings, kind=ClassifierAlone)
    batches = run.sets.batches(0)
    epochs, steps = run.settings["epochs"], run.settings["steps_per_epoch"]
    model.fit(batches, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
    figures = run.sets.evaluate(model)
    return {"classifier_alone_error_percent": figures["error"]}


EXPERIMENT = parted.experiment(
    description=__doc__,
    settings=SETTINGS,
    labels=256,
    own_settings=own_settings,
    build_model=build_model,
    epoch_figures=parted.epoch_figures,
    figures=lambda run, report: parted.figures(run, [4, 7, 8]),  # the digits of the paper's Figure 4
    load=lambda name, data_dir: load_data(name, data_dir).resized(32),
    needs_labels=False,
    metrics=metrics,
    options=("classifier_alone",),
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
