"""EXoN on CIFAR-10 with 4,000 labels: Section 4.2, Tables 1 and 2 and Figures 4, 5 and 7 to 12 of the paper.

Paper: test error 7.27 %, Inception Score 3.36 after 600 epochs at beta 0.05 (5 runs). A step takes about ten seconds on
2 CPU cores, so this is a run for a GPU, best with KERAS_BACKEND=jax (no TensorFlow is needed) and `--mixed-precision
bfloat16`. `--schedule-epochs 60` makes a run of 60 epochs with all the schedules of the 600 in proportion.
"""

import argparse
from typing import Any

import quiet  # noqa: F401

# isort: split
import flags
import keras
import numpy as np
from matplotlib.figure import Figure
from runner import Experiment, Run, main

from keras_ssvae import callbacks, data, evaluation, plots, priors
from keras_ssvae.models import EXoN
from keras_ssvae.networks import cifar10
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import RampUp, WarmUpStepDecay

LABELS, BETA = 4000, 0.05
LEARNING_RATE, WEIGHT_DECAY, LAMBDA1 = 1e-3, 5e-4, 5000.0
AUTOENCODER_WARM_UP, CLASSIFIER_WARM_UP, FACTOR = 0.1, 0.2, 0.5  # the paper says 0.1 for the last, the code has 0.5
PAPER_EPOCHS, RAMP_EPOCHS, BOUNDARIES = 600, 50, (250, 350, 450, 550)
SETTINGS = {
    "cifar10": {"epochs": PAPER_EPOCHS, "steps_per_epoch": 390, "batch_size": 128, "labeled_batch_size": 32}
    | {"dropout": 0.1, "validation": 5000}
}
PAIRS, PERTURBED, RECONSTRUCTED = 5, 3, 50  # images in a figure
IMAGENET = "imagenet"


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    run_name = "exon_<dataset>_<labels>"
    parser = flags.parser(__doc__, SETTINGS, automatic=False, labels=LABELS, beta=BETA, run_name=run_name)
    parser.add_argument(
        "--schedule-epochs",
        type=int,
        metavar="N",
        help="shorten the paper's schedules of 600 epochs to N, and the run with them unless --epochs says otherwise "
        "(default: 600, or --epochs where that is more)",
    )
    parser.add_argument(
        "--inception-score",
        nargs="?",
        const=IMAGENET,
        metavar="CLASSIFIER.keras",
        help="compute the Inception Score of 10,000 generated images at the end, by InceptionV3 with the weights of "
        "ImageNet, or by your own classifier with probabilities as its output (default: off)",
    )
    args = parser.parse_args(argv)
    if args.inception_score is not None:
        try:  # now, not after the training
            evaluation.load_classifier(_classifier(args))
        except (evaluation.ClassifierUnavailableError, ValueError) as error:
            raise flags.UserError(str(error).replace("`classifier`", "--inception-score")) from error
    if args.epochs is None:
        args.epochs = args.schedule_epochs
    return args


def _classifier(args):
    return None if args.inception_score == IMAGENET else args.inception_score


def schedules(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    """The paper's schedules in epochs, in proportion to `--schedule-epochs`; the warm-up is always one epoch."""
    total = max(PAPER_EPOCHS, epochs) if args.schedule_epochs is None else args.schedule_epochs
    if total < 2:
        raise flags.UserError(f"--schedule-epochs is {total}; it must be at least 2.")

    def in_proportion(epoch):
        # A decay that begins with the last epoch at the latest.
        return min(total - 1, max(1, round(epoch * total / PAPER_EPOCHS)))

    boundaries = [in_proportion(epoch) for epoch in BOUNDARIES]
    return {"schedule_epochs": total, "ramp_epochs": in_proportion(RAMP_EPOCHS), "boundaries": boundaries}


def build_model(settings: dict[str, Any]) -> EXoN:
    steps, seed = settings["steps_per_epoch"], settings["seed"]
    keras.utils.set_random_seed(seed)
    model = EXoN(
        encoder=cifar10.encoder(),
        decoder=cifar10.decoder(),
        classifier=cifar10.classifier(dropout=settings["dropout"]),
        prior=priors.one_hot(),
        beta=settings["beta"],
        lambda1=LAMBDA1,
        lambda2=RampUp(LAMBDA1, settings["ramp_epochs"], steps),
        pseudo_label_dropout=False,
        seed=seed,
    )
    rates = {
        "autoencoder": WarmUpStepDecay(LEARNING_RATE, steps, AUTOENCODER_WARM_UP),
        "classifier": WarmUpStepDecay(
            LEARNING_RATE,
            steps,
            CLASSIFIER_WARM_UP,
            settings["boundaries"],
            FACTOR,
            start=settings["boundaries"][-1],
            epochs=settings["schedule_epochs"],
        ),
    }
    optimizer = GroupedOptimizer(
        {"autoencoder": Adam(rates["autoencoder"]), "classifier": Adam(rates["classifier"], weight_decay=WEIGHT_DECAY)}
    )
    model.compile(optimizer, **flags.compile_options(settings))
    return model


def epoch_figures(model, test_images, test_labels, where) -> list[keras.callbacks.Callback]:
    centres = model.prior.means
    return [
        callbacks.LatentScatter(test_images[:2000], test_labels[:2000], **where),
        callbacks.Interpolation(centres[0], centres[1], **where),
    ]


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """The paper's Figures 4, 5 and 7 to 12, and the latent space on its principal axes."""
    model, names = run.model, run.images.class_names
    images, labels = run.images.test_images, run.images.test_labels
    v_nat = np.array(report["v_nat"])
    activated = evaluation.activated(v_nat)
    own = labels[0]
    return {
        "latent": plots.latent(model, images, labels, class_names=names),
        "interpolation": plots.image_interpolation(model, images[:PAIRS], images[PAIRS : 2 * PAIRS]),
        "v_nat": plots.v_nat(v_nat, class_names=names),
        "v_nat_correlation": plots.v_nat_correlation(v_nat, class_names=names),
        "perturbation": plots.perturbation(model, images[:PERTURBED], activated[labels[:PERTURBED]]),
        "axis_sweep": plots.axis_sweep(model, images[0], v_nat[own]),
        "activated_noise": plots.activated_noise(model, images[0], activated[own]),
        "reconstructions_train": plots.reconstructions(model, run.images.train_images[:RECONSTRUCTED]),
        "reconstructions_test": plots.reconstructions(model, images[:RECONSTRUCTED]),
    }


def metrics(run: Run) -> dict[str, Any]:
    """The Inception Score, where it is asked for."""
    if run.args.inception_score is None:
        return {}
    images = evaluation.sample_classes(run.model, seed=run.settings["seed"])
    return {"inception_score": evaluation.inception_score(images, _classifier(run.args))._asdict()}


EXPERIMENT = Experiment(
    name="EXoN",
    arguments=arguments,
    settings=SETTINGS,
    labels=LABELS,
    schedules=schedules,
    build_model=build_model,
    augment=data.augment.cifar10,
    epoch_figures=epoch_figures,
    figures=figures,
    metrics=metrics,
)

if __name__ == "__main__":
    main(EXPERIMENT)
