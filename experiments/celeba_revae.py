"""REVAE on CelebA: its rows of Tables 1 and 2 of the paper, and figures like its Figures 4 to 7 and 9.

Published with 0.4, 6 and 20 % of the labels: accuracy 80, 88 and 88 %, FID 130.0, 122.6 and 121.0. Faces of 218x178
pixels are squeezed to 64x64. The labels are 18 of CelebA's attributes. Each label has one dimension of z, and 27 other
dimensions belong to no label. 10,000 training images are held out. The share `--fraction` of the others is labelled,
drawn by --seed; the labelled images are not among the unlabelled ones. Batches of labelled and of unlabelled images
alternate in the order of the released code. The accuracy is the share of right (image, label) pairs, 100 minus the test
error. The released code differs from the paper: it has `--learning-rate 1e-4 --epochs 200`. An epoch has about 765
steps, so a run needs a GPU.

`--fid` compares 10,000 generated images, with labels drawn from their prior, with as many test images. It uses Keras'
InceptionV3, whose weights are not those of the usual FID, so its result may be near the paper's figures but cannot be
compared with them.

The data set is read as tensorflow_datasets prepares it, on the TensorFlow backend only, image by image during the
training. The files are in a random order, and each epoch shuffles them again in a window of 16,384 images. The window
takes 0.2 GB of memory, each labelled image 12 kB.

This script was tested for a few steps on generated images of the right shape only: CelebA itself was not available, so
nothing here was compared with the paper's figures.
"""

import argparse
import functools
from collections.abc import Iterator
from typing import Any

import quiet  # noqa: F401

# isort: split
import celeba_parted
import fashion_mnist_revae
import keras
import numpy as np
from matplotlib.figure import Figure

from keras_ssvae import data, evaluation, plots
from keras_ssvae.data import CELEBA_ATTRIBUTES
from keras_ssvae.likelihoods import Laplace
from keras_ssvae.models import REVAE
from keras_ssvae.networks import revae
from keras_ssvae.runs.errors import UserError, check_number
from keras_ssvae.runs.experiment import Experiment, terms_line
from keras_ssvae.runs.plan import Run
from keras_ssvae.runs.run import main
from keras_ssvae.runs.sets import OnDiskRest

IMAGE_SIZE, REST_DIM, FRACTION, WINDOW = (64, 64), 27, 0.004, 16_384
NAMES = list(CELEBA_ATTRIBUTES)
TRAINING_IMAGES = 162_770
# An epoch has as many steps as there are batches: 4 of the 611 labelled images and 761 of the 152,159 others.
PAPER = {"epochs": 100, "steps_per_epoch": 765, "batch_size": 400, "labeled_batch_size": 200, "validation": 10_000}
PAPER |= {"learning_rate": 2e-4}
LABELS = round(FRACTION * (TRAINING_IMAGES - PAPER["validation"]))
COMPARED, INTERVENED, AT_A_TIME = 10_000, 200, 100
DRAWN, WALKS = ("smiling", "eyeglasses"), (("pale skin", "young"), ("smiling", "wearing necktie"), ("male", "no beard"))


@functools.cache  # loading reads all labels
def load(name: str, data_dir: str | None) -> data.CelebA:
    return data.load_celeba(data_dir, CELEBA_ATTRIBUTES, IMAGE_SIZE)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Replaces the shared flags that have another meaning here, and adds those of this script."""
    add = parser.add_argument
    add("--labels", type=int, help=f"labelled images, drawn by --seed (default {FRACTION} of those not held out)")
    fashion_mnist_revae.add_fraction(parser, str(FRACTION))
    add("--learning-rate", type=float, default=PAPER["learning_rate"], help="of Adam (default %(default)s)")
    add("--fid", action="store_true", help="compute the FID, by InceptionV3, a download of 96 MB (default: off)")
    add("--data-dir", help=celeba_parted.DATA_DIR)
    add("--labeled-indices", help=argparse.SUPPRESS)


def check_flags(args: argparse.Namespace) -> argparse.Namespace:
    """Fills in the number of labelled images that `--fraction` gives, and the length of an epoch."""
    args = celeba_parted.check_flags(args)
    check_number("learning_rate", args.learning_rate, above=True)
    images = load(args.dataset, args.data_dir)
    size = len(images.train.labels) - (PAPER["validation"] if args.validation is None else args.validation)
    if args.fraction is not None:
        args.labels = fashion_mnist_revae.labels_of_share(args, size)
    elif args.labels is None:
        args.labels = max(1, round(FRACTION * size))
    fashion_mnist_revae.take_turns(args, PAPER, size, args.labels)
    if args.fid:  # missing weights are found before the training, not after
        try:
            evaluation.load_classifier()
        except evaluation.ClassifierUnavailableError as error:
            raise UserError(str(error)) from error
    return args


def own_settings(args: argparse.Namespace, dataset: str, epochs: int) -> dict[str, Any]:
    return {"rhythm": args.rhythm, "learning_rate": args.learning_rate}


def frequencies(args: argparse.Namespace, sets: OnDiskRest) -> list[list[float]]:
    """The shares of the labelled images with each label off and on; both occur at least once."""
    on = sets.train.labels[sets.split].mean(axis=0)
    return np.stack([1.0 - on, on], axis=1).tolist()


def build_model(settings: dict[str, Any], prior: None, class_priors: list[list[float]]) -> REVAE:
    """The networks of Table 4, and the objective of the released code."""
    keras.utils.set_random_seed(settings["seed"])
    latent_dim = len(NAMES) + REST_DIM
    model = REVAE(
        encoder=revae.celeba_encoder(latent_dim),
        decoder=revae.celeba_decoder(latent_dim),
        classifier=revae.factorized_classifier([2] * len(NAMES), [1] * len(NAMES)),
        num_classes=[2] * len(NAMES),
        c_dims=[1] * len(NAMES),
        rest_dim=REST_DIM,
        likelihood=Laplace(),
        class_priors=class_priors,
        unlabeled_term="sampled",
        weight_constant="z_c",
        bounded_weight=False,
        seed=settings["seed"],
        class_names=[list(values) for values in CELEBA_ATTRIBUTES.values()],
    )
    return fashion_mnist_revae.compiled(model, settings)


def generated(model: REVAE, number: int) -> Iterator[np.ndarray]:
    """Batches of generated images, with labels drawn from their prior."""
    for i, start in enumerate(range(0, number, AT_A_TIME)):
        yield keras.ops.convert_to_numpy(model.generate(min(AT_A_TIME, number - start), seed=i))


def metrics(run: Run) -> dict[str, Any]:
    """The FID, if `--fid` asks for it, of as many generated images as there are test images, up to 10,000."""
    if not run.options["fid"]:
        return {}
    number = min(COMPARED, run.sets.num_test_images)
    test = run.images.test.images().take(number).batch(AT_A_TIME)
    found = evaluation.frechet_distance(generated(run.model, number), test.as_numpy_iterator())
    return {"fid": found.distance, "fid_images": number, "fid_network": found.network}


def summary(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    lines = {"accuracy": f"{100.0 - metrics['test_error_percent']:.2f} % of (image, label) pairs"}
    lines |= terms_line(model, metrics)
    if "fid" in metrics:
        lines["FID"] = f"{metrics['fid']:.1f}, {metrics['fid_images']} images, by {metrics['fid_network']}"
    return lines


def effects(model: REVAE, images: np.ndarray, seed: int = 1) -> np.ndarray:
    """How an intervention on each label (column) changes the probability of each label (row), as in Figure 4.

    Returns the mean over the images of `p(row | column on) - p(row | column off)`. The probabilities of the intervened
    images are the model's own `q(y | x)`; the paper has a separately trained classifier.
    """

    def probs(label, value):
        intervened = model.intervene(images, label, value, seed=seed)
        return keras.ops.convert_to_numpy(model.classify(intervened))[:, 1::2].mean(axis=0)

    return np.stack([probs(i, 1) - probs(i, 0) for i in range(len(NAMES))], axis=1)


def draw_effects(matrix: np.ndarray) -> Figure:
    figure = Figure(figsize=(8, 7.5), layout="constrained")
    ax = figure.subplots()
    figure.colorbar(ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1), ax=ax, shrink=0.7)
    ax.set_xticks(range(len(NAMES)), NAMES, rotation=90)
    ax.set_yticks(range(len(NAMES)), NAMES)
    ax.set_title(f"Change of each row's probability by each column; condition number {np.linalg.cond(matrix):.1f}")
    return figure


def figures(run: Run, report: dict[str, Any]) -> dict[str, Figure]:
    """Figures 9 (each column has one label on), 6, 7, 5 (swap) and 4 (effects) of the paper, and reconstructions."""
    model, test = run.model, run.images.test
    images = data.scale(test.read(test.complete[:INTERVENED])[0])
    drawn = {f"diversity_{name}": plots.diversity(model, images[:8], NAMES.index(name), 1, 8, NAMES) for name in DRAWN}
    for pair in WALKS:
        name = "_".join(pair).replace(" ", "_")
        drawn[f"walk_{name}"] = plots.walk(model, images[0], list(map(NAMES.index, pair)), class_names=NAMES)
    return {
        **drawn,
        "interventions": plots.interventions(model, images[:8], NAMES),
        "swap": plots.swap(model, images[:6], images[6:12]),
        "effects": draw_effects(effects(model, images)),
        "reconstructions": plots.reconstructions(model, images[:20]),
    }


EXPERIMENT = Experiment(
    name="REVAE",
    description=__doc__,
    settings={"celeba": PAPER},
    labels=LABELS,
    load=load,
    sets=functools.partial(OnDiskRest, label_names=tuple(NAMES), shuffle_buffer=WINDOW),
    own_settings=own_settings,
    given=frequencies,
    build_model=build_model,
    figures=figures,
    metrics=metrics,
    summary=summary,
    units={"loss": "nats per image", "reconstruction": "nats per image"},
    options=("fid",),
    add_flags=add_flags,
    check_flags=check_flags,
)

if __name__ == "__main__":
    main(EXPERIMENT)
