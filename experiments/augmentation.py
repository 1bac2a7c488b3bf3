"""Classifiers trained on generated images, on MNIST or Fashion-MNIST: Figure 9 of N-VAE's paper, without its GANs.

A generative model is trained on `--images` labelled images. Then classifiers are trained on the same images. In each
epoch every image is replaced, with a probability of 0.4 or 1, by a new generated image of the same class. The latent
variables of generated images have 1, 1.5 or 2 times the standard deviation of their prior. The baseline sees no
generated images. All classifiers have one small network, fixed beforehand (experiments/judges.py). The paper draws
Figure 9 and gives no numbers. It does not say how the classifiers are made, nor whether its sigma is a variance.

Each model and seed is a run, with seven classifiers. These start from the same weights and see the labelled images in
the same order, also in the run of the other model with the same seed. Finished runs are kept; the same command makes or
resumes the others. Encoder and decoder have two dense layers of 300 units. The result depends on `--class-dims` and
`--shared-dims`: with many shared variables N-VAE keeps the class in them, and generates images of other classes.
`--dataset digits` (1,437 images embedded in scikit-learn, no download) has its own settings. With KERAS_BACKEND=jax it
trains on JAX, without TensorFlow.

The number of test images gives each test error a standard error, which is printed below the table.
"""

import argparse
import dataclasses
import math
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import judges
import keras
import mnist_nvae
import numpy as np
from matplotlib.figure import Figure

from keras_ssvae import data, evaluation, plots
from keras_ssvae.runs import flags, sweep
from keras_ssvae.runs.errors import UserError, check_choice
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.sets import AllLabeled

SHARES, SCALES = (0.4, 1.0), (1.0, 1.5, 2.0)
# Few shared variables: N-VAE then keeps the class in the others, and more of its images are of their class.
MODEL = {"filters": [], "hidden": [300, 300], "class_dims": 4, "shared_dims": 2, "beta_c": 2.0}
PAPER = {"epochs": 36, "steps_per_epoch": 79, "batch_size": 128, "validation": 0} | MODEL
PAPER |= {"images": 10_000, "classifier_epochs": 10}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 100, "steps_per_epoch": 20, "batch_size": 64, "validation": 0}
    | {**MODEL, "images": 1000, "classifier_epochs": 15},
}
MODELS = ("nvae", "cvae")
DIMS = [axis for axis in mnist_nvae.AXES if axis.name.endswith("_dims")]
AXES = [sweep.Axis("model", str, list(MODELS), f"models, of {', '.join(MODELS)}"), sweep.SEEDS]


class Classifier(keras.Model):
    """Classifies the labelled images of a training batch."""

    def __init__(self, network: keras.Model):
        super().__init__()
        self.network = network

    def call(self, images, training=False):
        return self.network(images["labeled"], training=training)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", choices=MODELS, default=MODELS[0], help="(default %(default)s)")
    shown = ", ".join(f"{name} {each['images']}" for name, each in SETTINGS.items())
    parser.add_argument("--images", type=int, help=f"training images, drawn by the seed (default {shown})")
    for axis in DIMS:
        parser.add_argument(axis.flag, type=axis.type, help=f"{axis.help} (default {MODEL[axis.name]})")


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {"model": args.model, **given(args)}


def given(args: argparse.Namespace) -> dict[str, int]:
    """The settings that flags change."""
    names = ["images", *(axis.name for axis in DIMS)]
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def run_suffix(args: argparse.Namespace) -> str:
    return f"_{args.model}" + "".join(f"_{name.replace('_dims', '')}{value}" for name, value in given(args).items())


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    check_choice("model", args.model, MODELS)  # in a table it is one of a list
    chosen = MODEL | given(args)
    mnist_nvae.check_dims({axis.name: chosen[axis.name] for axis in DIMS})
    return args


def sets(images: data.ImageData, settings: dict[str, Any], *given: Any) -> AllLabeled:
    """A part of the training images, with the shares of the classes kept."""
    number, size = settings["images"], len(images.train_labels)
    if not images.num_classes <= number <= size:
        raise UserError(f"--images is {number}; it must be from {images.num_classes} to {size}.")
    chosen = data.split(images.train_labels, number, 0, settings["seed"], stratify="proportional").labeled
    part = {name: getattr(images, name)[chosen] for name in ("train_images", "train_labels")}
    return AllLabeled(dataclasses.replace(images, **part), settings, *given)


def classifier_error(run: Run, share: float = 0.0, scale: float = 1.0) -> float:
    """The test error, in percent, of a classifier that sees a share of generated images."""
    images, settings = run.images, run.settings
    print(f"A classifier, share {share:g} of generated images, scale {scale:g}", flush=True)
    steps = -(-len(images.train_images) // settings["batch_size"])
    batches = data.semi_supervised(
        (images.train_images, images.train_labels),
        None,
        num_classes=images.num_classes,
        labeled_batch_size=settings["batch_size"],
        steps_per_epoch=steps,
        seed=settings["seed"],
        replace_labeled=data.augment_with(run.model, share, scale, settings["seed"]) if share else None,
    )
    keras.utils.set_random_seed(settings["seed"])
    network = judges.network(images.train_images.shape[1:], images.num_classes)
    classifier = Classifier(network)
    options = flags.compile_options(settings)
    options["steps_per_execution"] = math.gcd(options["steps_per_execution"], steps)  # else one would go past an epoch
    classifier.compile(keras.optimizers.Adam(1e-3), "categorical_crossentropy", **options)
    epochs = settings["classifier_epochs"]
    classifier.fit(batches, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
    return evaluation.classification_error(network.predict(run.test_images, 500, verbose=0), images.test_labels)


def name_of(share: float, scale: float) -> str:
    return f"error_share{share:g}_scale{scale:g}"


def metrics(run: Run) -> dict[str, Any]:
    """The errors of the classifiers."""
    errors = {"error_baseline": classifier_error(run)}
    for share in SHARES:
        errors |= {name_of(share, scale): classifier_error(run, share, scale) for scale in SCALES}
    return errors


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    rows = np.tile(np.arange(run.images.num_classes), mnist_nvae.SHOWN)
    return {
        f"generated_{scale:g}": plots.images(
            run.model.generate(rows, seed=1, scale=scale), run.images.num_classes, title=f"Generated, scale {scale:g}"
        )
        for scale in SCALES
    }


def finish(results: list[sweep.Result], output_dir: Path) -> str:
    """Figure 9: a table with the differences from the baseline of the same seed, and a figure for each share."""
    baseline = {run.plan.settings["seed"]: run.metrics["error_baseline"] for run in results}
    rows = [["baseline", "", "", str(len(baseline)), sweep.Cell(list(baseline.values()), 2), sweep.Cell([0.0], 2)]]
    for share in SHARES:
        lines = {"baseline": {scale: list(baseline.values()) for scale in SCALES}}
        for model, runs in sweep.by(results, "model").items():
            lines[model] = {scale: [run.metrics[name_of(share, scale)] for run in runs] for scale in SCALES}
            for scale, errors in lines[model].items():
                less = [error - run.metrics["error_baseline"] for error, run in zip(errors, runs, strict=True)]
                cells = [sweep.Cell(errors, 2), sweep.Cell(less, 2)]
                rows.append([model, f"{share:g}", f"{scale:g}", str(len(runs)), *cells])
        title = f"{results[0].plan.data_title}: {share:.0%} of the images generated"
        plots.errors(lines, x="scale", title=title).savefig(output_dir / f"figure_9_share{share:g}.png", dpi=150)
    header = ["model", "share", "scale", "runs", "error %", "minus baseline"]
    table = sweep.write_tables(output_dir, results, header, rows)
    p, n = np.mean(list(baseline.values())) / 100, results[0].metrics["test_images"]
    return f"{table}\n\nStandard error of one such test error: {100 * np.sqrt(p * (1 - p) / n):.2f} points."


EXPERIMENT = dataclasses.replace(
    mnist_nvae.EXPERIMENT,
    name="augmentation",
    description=__doc__,
    settings=SETTINGS,
    sets=sets,
    own_settings=own_settings,
    figures=figures,
    metrics=metrics,
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)
SWEEP = sweep.Sweep(EXPERIMENT, __doc__, AXES, ["error_baseline"], finish)

if __name__ == "__main__":
    sweep.main(SWEEP)
