"""REVAE, M2 and M3 on Fashion-MNIST or MNIST: Tables 1, 2, 5 and 6 of REVAE's paper, and figures like its 5 and 7.

Published accuracy on Fashion-MNIST with 0.4 % of the labels: REVAE 68 %, M2 73 %, M3 22 %. Of the images that they
generate for a class, an independent classifier finds 61, 55 and 19 % right. 10,000 training images are held out. The
share `--fraction` of the other 50,000 is labelled, equally many of each class; the labelled images are not among the
unlabelled ones. Batches of labelled and of unlabelled images alternate in the order of the released code, and an epoch
sees each image once. With `--m 10` all of z belongs to the label (Tables 5 and 6). On 2 CPU cores 100 epochs take half
an hour or less. `--dataset digits` (1,437 images embedded in scikit-learn, no download) takes two minutes and has its
own settings. With KERAS_BACKEND=jax it trains on JAX, without TensorFlow.

After the training `--judges` classifiers judge 10,000 generated images; they are trained once, on all labels, and kept
in runs/judges. The paper gives neither the sizes of the batches nor alpha of M2 and M3. Here unlabelled batches have
200 images; labelled ones have 20 on Fashion-MNIST (200 from 5,000 labels on) and 200 on MNIST, chosen by the validation
images. alpha is 0.1 N / labels for N training images, as in M2's paper, or `--alpha`.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import quiet  # noqa: F401

# isort: split
import keras
import numpy as np
from judges import judges
from matplotlib.figure import Figure

from keras_ssvae import data, evaluation, plots
from keras_ssvae.models import M2, M3, REVAE
from keras_ssvae.models.revae import UNLABELED
from keras_ssvae.networks import kingma
from keras_ssvae.optimizers import Adam
from keras_ssvae.runs import flags
from keras_ssvae.runs.errors import UserError, check_number
from keras_ssvae.runs.experiment import Experiment, terms_line
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.runs.sets import Rest, load_data

C_DIM, REST_DIM, HIDDEN = 4, 10, 600
FRACTION, ALPHA = 0.004, 0.1
UNLABELED_TERM = "enumerated"
PAPER = {"epochs": 100, "validation": 10_000, "learning_rate": 5e-4}
SETTINGS = {
    # The sizes of labelled batches are chosen by the validation images. An epoch has as many steps as there are
    # batches: 10 or 1 of the 200 labelled images, and 249 of the 49,800 others.
    "fashion_mnist": PAPER | {"batch_size": 220, "labeled_batch_size": 20, "steps_per_epoch": 259},
    "mnist": PAPER | {"batch_size": 400, "labeled_batch_size": 200, "steps_per_epoch": 250},
    "digits": {"epochs": 300, "steps_per_epoch": 24, "batch_size": 150, "labeled_batch_size": 100, "validation": 200}
    | {"learning_rate": 1e-3},
}
DIGITS_LABELS = 100
# From this number of labels on, labelled batches are large: in small ones, single images with a large weight set
# REVAE's training back.
MANY_LABELS, LARGE = 5000, {"batch_size": 400, "labeled_batch_size": 200}
MODELS = ("revae", "m2", "m3")
SHOWN = 5  # images in a figure
CORNERS = (0, 2, 4, 3)  # t-shirt, pullover, coat and dress, as in Figure 7


def load(name: str, data_dir: str | None) -> data.ImageData:
    return load_data(name, data_dir, first="fashion_mnist")


def add_revae_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--m",
        type=int,
        help=f"dimensions of z, all of which belong to the label (default {C_DIM} that do, and {REST_DIM} others)",
    )
    add(
        "--unlabeled-term",
        choices=UNLABELED,
        help="term of an unlabelled image in REVAE's objective (default enumerated; the paper has marginal, which "
        "gave more errors on the validation images)",
    )


def add_fraction(parser: argparse.ArgumentParser, default: str) -> None:
    """Adds `--fraction`, which `labels_of_share` turns into a number of labelled images."""
    parser.add_argument(
        "--fraction",
        type=float,
        metavar="F",
        help="share of the training images, without those for validation, that is labelled, instead of --labels "
        f"(default {default})",
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", choices=MODELS, default="revae", help="model to train (default %(default)s)")
    add_fraction(parser, f"{FRACTION}; digits {DIGITS_LABELS} labels")
    add_revae_flags(parser)
    add("--alpha", type=float, help="weight of the classifier of M2 and M3 (default 0.1 N / labels, of N images)")
    add(
        "--judges",
        type=int,
        default=3,
        help="independent classifiers that judge generated images, 0 for none (default %(default)s)",
    )


def labels_of_share(args: argparse.Namespace, size: int, classes: int = 1) -> int:
    """How many of `size` images `--fraction` labels, equally many of each of `classes` classes."""
    if args.labels is not None or args.labeled_indices is not None:
        raise UserError(
            "--fraction sets the number of labelled images, as do --labels and --labeled-indices. Give only one."
        )
    if not 0 < args.fraction < 1:
        raise UserError(f"--fraction is {args.fraction}; it must be between 0 and 1.")
    return max(1, round(args.fraction * size / classes)) * classes


def take_turns(args: argparse.Namespace, own: dict[str, Any], size: int, labels: int) -> None:
    """Fills in how labelled and unlabelled batches alternate, and the length of an epoch.

    Args:
        args: The flags. `rhythm` becomes the numbers of labelled and of unlabelled batches that hold each image once.
        own: The settings of the data set.
        size: Number of training images without those for validation.
        labels: Number of them that are labelled.
    """
    labeled = own["labeled_batch_size"] if args.labeled_batch_size is None else args.labeled_batch_size
    unlabeled = (own["batch_size"] if args.batch_size is None else args.batch_size) - labeled
    if labels < 1 or labeled < 1 or unlabeled < 1 or labels >= size:
        raise UserError(
            f"{labels} of {size} training images are labelled, and batches have {labeled} labelled or {unlabeled} "
            "unlabelled images; there must be some of each. Change --labels, --validation or the sizes of the batches."
        )
    args.rhythm = [math.ceil(labels / labeled), math.ceil((size - labels) / unlabeled)]
    if args.steps_per_epoch is None:
        args.steps_per_epoch = sum(args.rhythm)


def check_flags(
    args: argparse.Namespace,
    settings: dict[str, dict[str, Any]] = SETTINGS,
    load: Callable[[str, str | None], data.ImageData] = load,
) -> argparse.Namespace:
    """Fills in the number of labelled images that `--fraction` gives, and the length of an epoch.

    Args:
        args: The flags.
        settings: The settings of the experiment.
        load: The function that loads its data set.

    Returns:
        The flags.
    """
    if args.model == "revae" and args.alpha is not None:
        raise UserError(f"--alpha is {args.alpha}, but REVAE has none. It is for --model m2 and m3.")
    if args.model != "revae" and args.unlabeled_term is not None:
        raise UserError(f"--unlabeled-term is {args.unlabeled_term}; it is for --model revae.")
    if args.m is not None and (args.m < 1 or args.model != "revae"):
        raise UserError(f"--m is {args.m}; it must be at least 1, and is for --model revae.")
    check_number("judges", args.judges)
    images = load(args.dataset, args.data_dir)
    own = settings[images.name]
    size = len(images.train_images) - (own["validation"] if args.validation is None else args.validation)
    if args.fraction is not None:
        args.labels = labels_of_share(args, size, images.num_classes)
    elif args.labels is None and args.labeled_indices is None:
        args.labels = DIGITS_LABELS if images.name == "digits" else round(FRACTION * size)
    indices = flags.read_indices(args.labeled_indices)
    labels = args.labels if indices is None else len(indices)
    if labels >= MANY_LABELS and args.batch_size is None and args.labeled_batch_size is None:
        vars(args).update(LARGE)
    take_turns(args, own, size, labels)
    if args.alpha is None and args.model != "revae":
        args.alpha = ALPHA * size / labels
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    own = {name: getattr(args, name) for name in ("model", "rhythm", "m", "alpha")}
    if args.model == "revae":
        own["unlabeled_term"] = args.unlabeled_term or UNLABELED_TERM
    return {name: value for name, value in own.items() if value is not None}


def run_suffix(args: argparse.Namespace) -> str:
    parts = [args.model, None if args.m is None else f"m{args.m}", args.unlabeled_term]
    return "".join(f"_{part}" for part in parts if part)


def build_model(settings: dict[str, Any], prior: None = None) -> keras.Model:
    keras.utils.set_random_seed(settings["seed"])
    if settings["model"] == "m2":
        sizes = {"latent_dim": REST_DIM, "hidden": (HIDDEN, HIDDEN)}
        networks = {
            "encoder": kingma.m2_encoder(**sizes),
            "decoder": kingma.m2_decoder(**sizes),
            "classifier": kingma.m2_classifier(hidden=(HIDDEN, HIDDEN)),
        }
        options = {"alpha": settings["alpha"], "weight_prior": 0.0, "binarize": False}
        model = M2(**networks, z_dim=REST_DIM, **options, seed=settings["seed"])
    else:
        sizes = (C_DIM, REST_DIM) if "m" not in settings else (settings["m"], 0)
        dims = dict(zip(("c_dims", "rest_dim"), sizes, strict=True))
        given = {**dims, "seed": settings["seed"]}
        if settings["model"] == "revae":
            model = REVAE(**given, unlabeled_term=settings["unlabeled_term"], mu=settings.get("mu", 0.0))
        else:
            model = M3(**given, alpha=settings["alpha"])
    return compiled(model, settings)


def compiled(model: keras.Model, settings: dict[str, Any]) -> keras.Model:
    """Compiles a model with Adam as in the released code, and returns it."""
    optimizer = Adam(settings["learning_rate"], epsilon=1e-8, corrected_epsilon=True)
    model.compile(optimizer, **flags.compile_options(settings))
    return model


def metrics(run: Run) -> dict[str, Any]:
    """How independent classifiers judge generated images, and their own error."""
    number = run.options["judges"]
    if not number:
        return {}
    given, error = judges(run.images, number)
    found = evaluation.conditional_generation(run.model, given)
    return {**{f"generated_{name}": value for name, value in found._asdict().items()}, "judges_error_percent": error}


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    lines = terms_line(model, metrics)
    if "generated_right_percent" in metrics:
        right, error = metrics["generated_right_percent"], metrics["judges_error_percent"]
        lines["generated"] = f"{right:.1f} % show their class, by classifiers whose own test error is {error:.2f} %"
    return lines


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    model, test_images, names = run.model, run.test_images, run.images.class_names
    labels = np.tile(np.arange(model.num_classes), SHOWN)
    drawn = {
        "reconstructions": plots.reconstructions(model, test_images[:20]),
        "generated": plots.images(model.generate(labels, seed=1), title="Images generated for each class"),
    }
    if not isinstance(model, M2):
        drawn["interventions"] = plots.interventions(model, test_images[:SHOWN], names, seed=1)
        drawn["swap"] = plots.swap(model, test_images[:SHOWN], test_images[SHOWN : 2 * SHOWN])
    if isinstance(model, REVAE):
        drawn["surface"] = plots.surface(model, test_images[0], CORNERS, class_names=names)
    return drawn


EXPERIMENT = Experiment(
    name="REVAE",
    description=__doc__,
    settings=SETTINGS,
    labels=round(FRACTION * 50_000),
    load=load,
    sets=Rest,
    own_settings=own_settings,
    build_model=build_model,
    figures=figures,
    metrics=metrics,
    summary=summary,
    units={"loss": "nats per image", "reconstruction": "nats per image"},
    options=("judges",),
    run_suffix=run_suffix,
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
