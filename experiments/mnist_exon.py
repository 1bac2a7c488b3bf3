"""EXoN on MNIST with 100 labels: Section 4.1, Figures 1 to 3 and Table 3 of the paper.

Paper: test error 3.23 % after 100 epochs at beta 0.25. On 2 CPU cores a step takes about 0.1 s, so 100 epochs of 468
steps take about an hour and a half; `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes two
minutes, with settings of its own: 20 epochs of 75 steps, batches of 64 with 16 labelled, dropout 0.1, and ramps in
proportion to the run (lambda2 over its first half). With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import flags
import keras
from experiment import Experiment
from matplotlib.figure import Figure
from runner import Run, main

from keras_ssvae import callbacks, data, plots, priors
from keras_ssvae.models import EXoN
from keras_ssvae.networks import mnist
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import LateExponentialDecay, RampUp

LEARNING_RATE, WEIGHT_DECAY, LAMBDA1 = 3e-3, 5e-4, 6000.0
PAPER_EPOCHS = 100
# What depends on the data set: Table 7 for MNIST (and its like), and what 1,437 images want.
PAPER = {"epochs": 100, "steps_per_epoch": 468, "batch_size": 128, "labeled_batch_size": 32}
PAPER |= {"dropout": 0.5, "validation": 5000}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 20, "steps_per_epoch": 75, "batch_size": 64, "labeled_batch_size": 16}
    | {"dropout": 0.1, "validation": 200},
}


def schedules(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The paper's schedules in epochs; in proportion to the run where 100 epochs of them do not fit."""
    if dataset == "digits":
        return {"schedule_epochs": epochs, "decay_start": max(1, epochs // 10), "ramp_epochs": max(1, epochs // 2)}
    return {"schedule_epochs": max(PAPER_EPOCHS, epochs), "decay_start": 10, "ramp_epochs": 10}


def build_model(settings: dict[str, Any]) -> EXoN:
    steps, seed = settings["steps_per_epoch"], settings["seed"]
    keras.utils.set_random_seed(seed)
    model = EXoN(
        classifier=mnist.classifier(dropout=settings["dropout"]),
        prior=priors.circle(),
        beta=settings["beta"],
        lambda1=LAMBDA1,
        lambda2=RampUp(LAMBDA1, settings["ramp_epochs"], steps),
        seed=seed,
    )
    rate = LateExponentialDecay(LEARNING_RATE, settings["decay_start"], settings["schedule_epochs"], steps)
    optimizer = GroupedOptimizer(
        {"autoencoder": Adam(LEARNING_RATE), "classifier": Adam(rate, weight_decay=WEIGHT_DECAY)}
    )
    model.compile(optimizer, **flags.compile_options(settings))
    return model


def epoch_figures(model, test_images, test_labels, where) -> list[keras.callbacks.Callback]:
    return [callbacks.LatentScatter(test_images, test_labels, **where), callbacks.ImageGrid(**where)]


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """The paper's Figures 1, 2 (its two rows) and 3."""
    model, names = run.model, run.images.class_names
    return {
        "prior": plots.prior(model.prior, class_names=names),
        "latent": plots.latent(model, run.test_images, run.images.test_labels, class_names=names),
        "grid": plots.grid(model),
        "interpolation": plots.interpolation(model, class_names=names),
    }


EXPERIMENT = Experiment(
    name="EXoN",
    description=__doc__,
    settings=SETTINGS,
    labels=100,
    beta=0.25,
    schedules=schedules,
    build_model=build_model,
    augment=data.augment.mnist,
    epoch_figures=epoch_figures,
    figures=figures,
)

if __name__ == "__main__":
    main(EXPERIMENT)
