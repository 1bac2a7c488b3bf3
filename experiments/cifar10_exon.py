"""EXoN on CIFAR-10 with 4,000 labels: Section 4.2, Tables 1 and 2 and Figures 4, 5 and 7 to 12 of the paper.

The published test error is 7.27 % and the Inception Score 3.36, after 600 epochs at beta 0.05 (5 runs). A step takes
about ten seconds on 2 CPU cores, so this run needs a GPU, best with KERAS_BACKEND=jax (without TensorFlow) and
`--mixed-precision bfloat16`. `--schedule-epochs 60` makes a run of 60 epochs with all schedules of the 600 epochs in
proportion, except the warm-up, which stays one epoch.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import exon
import keras
import numpy as np
from matplotlib.figure import Figure

from keras_ssvae import callbacks, data, evaluation, plots, priors
from keras_ssvae.models import EXoN
from keras_ssvae.networks import exon as networks
from keras_ssvae.optimizers import Adam
from keras_ssvae.runs.errors import UserError, check_number, flags_named
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.schedules import WarmUpStepDecay

LEARNING_RATE, LAMBDA1 = 1e-3, 5000.0
AUTOENCODER_WARM_UP, CLASSIFIER_WARM_UP, FACTOR = 0.1, 0.2, 0.5  # the paper says 0.1 for the last, the code has 0.5
PAPER_EPOCHS, RAMP_EPOCHS, BOUNDARIES = 600, 50, (250, 350, 450, 550)
SETTINGS = {
    "cifar10": {"epochs": PAPER_EPOCHS, "steps_per_epoch": 390, "batch_size": 128, "labeled_batch_size": 32}
    | {"dropout": 0.1, "validation": 5000}
}
PAIRS, PERTURBED, RECONSTRUCTED = 5, 3, 50  # images in a figure
SHOWN = 1  # the class of the paper's Figures 5, 9 and 10: automobile
IMAGENET = "imagenet"


def add_flags(parser: argparse.ArgumentParser) -> None:
    exon.add_flags(parser)
    parser.add_argument(
        "--schedule-epochs",
        type=int,
        metavar="N",
        help="number of epochs that the paper's schedules of 600 epochs take, in proportion, except the warm-up of one "
        "epoch. The run has N epochs, or fewer by --epochs. Adds _schedule<N> to the name of the run's directory "
        "(default: 600, or --epochs if that is more)",
    )
    parser.add_argument(
        "--inception-score",
        nargs="?",
        const=IMAGENET,
        metavar="CLASSIFIER.keras",
        help="after the training compute the Inception Score of 10,000 generated images, by InceptionV3 with the "
        "weights of ImageNet, or by a classifier of your own whose outputs are class probabilities (default: off)",
    )


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    if args.schedule_epochs is not None:
        args.epochs = args.schedule_epochs if args.epochs is None else args.epochs
        check_number("schedule_epochs", args.schedule_epochs, 2)
        if args.epochs > args.schedule_epochs:
            raise UserError(
                f"--epochs is {args.epochs}; it must be at most --schedule-epochs, {args.schedule_epochs}, since the "
                "schedule of the learning rate ends there."
            )
    if args.inception_score is not None:  # a classifier that does not fit is found before the training, not after
        noise = np.random.default_rng(0).integers(0, 256, (2, *networks.CIFAR10_SHAPE), dtype=np.uint8)
        _inception_score(args.inception_score, noise, splits=1)
    return args


def _inception_score(classifier, images, **options):
    with flags_named(classifier="--inception-score"):
        try:
            return evaluation.inception_score(images, None if classifier == IMAGENET else classifier, **options)
        except evaluation.ClassifierUnavailableError as error:
            raise UserError(str(error)) from error


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The paper's schedules, in epochs and in proportion to `--schedule-epochs`, and those of `exon.own_settings`.

    The warm-up is always one epoch.
    """
    total = max(PAPER_EPOCHS, epochs) if args.schedule_epochs is None else args.schedule_epochs

    def in_proportion(epoch):
        # A decay begins with the last epoch at the latest.
        return min(total - 1, max(1, int(epoch * total / PAPER_EPOCHS + 0.5)))

    boundaries = [in_proportion(epoch) for epoch in BOUNDARIES]
    own = {"schedule_epochs": total, "ramp_epochs": in_proportion(RAMP_EPOCHS), "boundaries": boundaries}
    return {**own, **exon.own_settings(args)}


def run_suffix(args: argparse.Namespace) -> str:
    return ("" if args.schedule_epochs is None else f"_schedule{args.schedule_epochs}") + exon.run_suffix(args)


def build_model(settings: dict[str, Any], prior: priors.GaussianMixture) -> EXoN:
    steps = settings["steps_per_epoch"]
    rate = WarmUpStepDecay(
        LEARNING_RATE,
        steps,
        CLASSIFIER_WARM_UP,
        settings["boundaries"],
        FACTOR,
        start=settings["boundaries"][-1],
        epochs=settings["schedule_epochs"],
    )
    optimizers = {
        "autoencoder": Adam(WarmUpStepDecay(LEARNING_RATE, steps, AUTOENCODER_WARM_UP)),
        "classifier": exon.classifier_optimizer(rate),
    }

    def make_networks():
        return {
            "encoder": networks.cifar10_encoder(),
            "decoder": networks.cifar10_decoder(),
            "classifier": networks.cifar10_classifier(dropout=settings["dropout"]),
        }

    return exon.build(settings, prior, LAMBDA1, optimizers, make_networks, pseudo_label_dropout=False)


def epoch_figures(run: Run, where: dict[str, Any]) -> list[keras.callbacks.Callback]:
    centres, images = run.prior.means, run.images
    test_images, test_labels = run.test_images[:2000], images.test_labels[:2000]
    return [
        callbacks.LatentScatter(test_images, test_labels, class_names=images.class_names, **where),
        callbacks.Interpolation(centres[0], centres[1], **where),
    ]


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """The paper's Figures 4, 5 and 7 to 12, and the latent space on its principal axes."""
    model, names = run.model, run.images.class_names
    images, labels = run.images.test_images, run.images.test_labels
    v_nat = np.array(report["v_nat"])
    shown, own = images[labels == SHOWN], v_nat[SHOWN]
    activated = evaluation.activated(own)
    of_class = {
        "perturbation": plots.perturbation(model, shown[:PERTURBED], activated),
        "axis_sweep": plots.axis_sweep(model, shown[0], own),
        "activated_noise": plots.activated_noise(model, shown[0], activated),
    }
    for figure in of_class.values():
        figure.suptitle(": ".join(filter(None, [names[SHOWN], figure.get_suptitle()])), fontsize=11)
    return {
        "latent": plots.latent(model, images, labels, class_names=names),
        "interpolation": plots.image_interpolation(model, images[:PAIRS], images[PAIRS : 2 * PAIRS]),
        "v_nat": plots.v_nat(v_nat, class_names=names),
        f"v_nat_{names[SHOWN]}": plots.v_nat(v_nat, classes=SHOWN, class_names=names),
        "v_nat_correlation": plots.v_nat_correlation(v_nat, class_names=names),
        **of_class,
        "reconstructions_train": plots.reconstructions(model, run.images.train_images[:RECONSTRUCTED]),
        "reconstructions_test": plots.reconstructions(model, images[:RECONSTRUCTED]),
    }


def metrics(run: Run) -> dict[str, Any]:
    """The Inception Score, if `--inception-score` asks for it."""
    classifier = run.options["inception_score"]
    if classifier is None:
        return {}
    images = evaluation.sample_classes(run.model, seed=run.settings["seed"])
    return {"inception_score": _inception_score(classifier, images)._asdict()}


def summary(model: EXoN, metrics: dict[str, Any]) -> dict[str, str]:
    lines, score = exon.summary(model, metrics), metrics.get("inception_score")
    if score is not None:
        lines["Inception"] = f"{score['mean']:.2f} +- {score['deviation']:.2f} by {score['classifier']}"
    return lines


EXPERIMENT = exon.experiment(
    description=__doc__,
    settings=SETTINGS,
    labels=4000,
    beta=0.05,
    own_settings=own_settings,
    prior=lambda args, class_names: priors.one_hot(),
    build_model=build_model,
    augment=data.augment.cifar10,
    epoch_figures=epoch_figures,
    figures=figures,
    metrics=metrics,
    summary=summary,
    options=("inception_score",),
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
