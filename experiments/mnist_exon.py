"""EXoN on MNIST with 100 labels: Section 4.1, Figures 1 to 3 and Table 3 of the paper.

The published test error is 3.23 %, after 100 epochs at beta 0.25. On 2 CPU cores a step takes about 0.1 s, so 100
epochs of 468 steps take about an hour and a half. `--dataset digits` (1,437 images embedded in scikit-learn, no
download) takes two minutes and has its own settings: 20 epochs of 75 steps, batches of 64 images with 16 labelled ones,
dropout 0.1, and ramps in proportion to the run (lambda2 over its first half). With KERAS_BACKEND=jax it trains on JAX,
without TensorFlow.

`--layout` places the classes elsewhere in the latent space than the paper; layouts/fashion_mnist.json is an example.
"""

import argparse
import dataclasses
import functools
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import quiet  # noqa: F401

# isort: split
import exon
import keras
from matplotlib.figure import Figure

from keras_ssvae import callbacks, data, plots, priors
from keras_ssvae.models import EXoN
from keras_ssvae.networks.exon import mnist_classifier
from keras_ssvae.optimizers import Adam
from keras_ssvae.runs import flags
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.schedules import LateExponentialDecay

LEARNING_RATE, LAMBDA1 = 3e-3, 6000.0
PAPER_EPOCHS = 100
OF_DIGITS = (
    "; digits three quarters of the epochs",
    f"; digits {exon.CONSISTENCY}",
)  # the defaults for the digits, in the help of the flags that all experiments with EXoN have
# The settings that depend on the data set: Table 7 for MNIST and Fashion-MNIST, and what suits 1,437 images.
PAPER = {"epochs": 100, "steps_per_epoch": 468, "batch_size": 128, "labeled_batch_size": 32}
PAPER |= {"dropout": 0.5, "validation": 5000}
SETTINGS = {
    "mnist": PAPER,
    "fashion_mnist": PAPER,
    "digits": {"epochs": 20, "steps_per_epoch": 75, "batch_size": 64, "labeled_batch_size": 16}
    | {"dropout": 0.1, "validation": 200},
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    exon.add_flags(parser, *OF_DIGITS)
    parser.add_argument(
        "--layout",
        type=read_layout,
        metavar="FILE.json",
        help="file with the prior of each class: an object with the name of each class and its position, a list of "
        'numbers, or {"mean": position, "variance": a number or a list}. Adds _layout_<file> to the name of the run\'s '
        "directory (default: the paper's circle)",
    )


def schedules(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The paper's schedules, in epochs. The digits, with fewer epochs, have schedules in proportion to the run."""
    if dataset == "digits":
        return {
            "schedule_epochs": epochs,
            "decay_start": max(1, epochs // 10),
            "ramp_epochs": max(1, epochs // 2),
            "settling_epochs": max(1, 3 * epochs // 4),
            "consistency": exon.CONSISTENCY,
        }
    return {"schedule_epochs": max(PAPER_EPOCHS, epochs), "decay_start": 10, "ramp_epochs": 10}


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The schedules, the settings of `exon.own_settings`, and the layout."""
    layout = None if args.layout is None else flags.by_content(args.layout.file, args.layout.content)
    return {**schedules(args, dataset, epochs), **exon.own_settings(args), "layout": layout}


def run_suffix(args: argparse.Namespace) -> str:
    return ("" if args.layout is None else f"_layout_{args.layout.file.stem}") + exon.run_suffix(args)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The file of `--layout`, with its content at the time of reading."""

    file: Path
    content: bytes

    def opened(self) -> io.BytesIO:
        result = io.BytesIO(self.content)
        result.name = str(self.file)
        return result


def read_layout(file: str) -> Layout:
    try:
        return Layout(Path(file), Path(file).read_bytes())
    except OSError as error:
        raise UserError(f"--layout {file} cannot be read: {error.strerror}.") from error


def prior(args: argparse.Namespace, class_names: tuple[str, ...]) -> priors.GaussianMixture:
    return priors.circle() if args.layout is None else _placed(args.layout, class_names)


@functools.cache  # a table asks once for each of its runs
def _placed(layout: Layout, class_names: tuple[str, ...]) -> priors.GaussianMixture:
    with warnings.catch_warnings(record=True) as caught:
        try:
            result = priors.from_layout(layout.opened(), class_names=class_names)
        except ValueError as error:
            raise UserError(f"--layout {error}") from error
    for each in caught:  # without the line of source that Python shows
        print(f"WARNING: --layout {each.message}", file=sys.stderr)
    if result.latent_dim < 2:
        raise UserError(f"--layout {layout.file} has positions of one number; the figures of a run need at least two.")
    return result


def classifier_optimizer(settings: dict[str, Any]) -> Adam:
    steps = settings["steps_per_epoch"]
    rate = LateExponentialDecay(LEARNING_RATE, settings["decay_start"], settings["schedule_epochs"], steps)
    return exon.classifier_optimizer(rate)


def build_model(
    settings: dict[str, Any], prior: priors.GaussianMixture, autoencoder: Adam | None = None, kind: type[EXoN] = EXoN
) -> EXoN:
    """The compiled model of a run. Other scripts give another optimizer of the autoencoder, or another class."""
    optimizers = {"autoencoder": autoencoder or Adam(LEARNING_RATE), "classifier": classifier_optimizer(settings)}

    def networks():
        return {"classifier": mnist_classifier(prior.num_classes, dropout=settings["dropout"])}

    return exon.build(settings, prior, LAMBDA1, optimizers, networks, kind)


def epoch_figures(run: Run, where: dict[str, Any]) -> list[keras.callbacks.Callback]:
    names, labels = run.images.class_names, run.images.test_labels
    return [
        keras.callbacks.LambdaCallback(on_train_begin=lambda logs: draw_prior(run)),
        callbacks.LatentScatter(run.test_images, labels, class_names=names, **where),
        *([callbacks.ImageGrid(**where)] if run.prior.latent_dim == 2 else []),
    ]


def draw_prior(run: Run) -> None:
    """Draws the paper's Figure 1 before the training, so that the user sees a layout early."""
    file = run.output_dir / "figures" / "prior.png"
    file.parent.mkdir(exist_ok=True)
    plots.prior(run.prior, class_names=run.images.class_names).savefig(file, dpi=150)


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """The two rows of the paper's Figure 2 (the grid only if the latent space is a plane), and Figure 3."""
    model, names = run.model, run.images.class_names
    return {
        "latent": plots.latent(model, run.test_images, run.images.test_labels, class_names=names),
        **({"grid": plots.grid(model)} if model.latent_dim == 2 else {}),
        "interpolation": plots.interpolation(model, class_names=names),
    }


EXPERIMENT = exon.experiment(
    description=__doc__,
    settings=SETTINGS,
    labels=100,
    beta=0.25,
    own_settings=own_settings,
    prior=prior,
    build_model=build_model,
    augment=data.augment.mnist,
    epoch_figures=epoch_figures,
    figures=figures,
    run_suffix=run_suffix,
    add_flags=add_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
