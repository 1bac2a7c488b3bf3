"""What the experiments with EXoN share: flags, building and compiling, the summary, and the operations of a step."""

import argparse
import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs import flags
from keras_ssvae.runs.errors import check_number
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.work import forward_gflop
from keras_ssvae.schedules import RampUp

WEIGHT_DECAY = 5e-4  # of the classifier
CONSISTENCY = 0.3  # in the runs that have it


def add_flags(parser: argparse.ArgumentParser, settling: str = "", consistency: str = "") -> None:
    """Adds the flags of two extensions that EXoN's paper does not have.

    Args:
        parser: The parser.
        settling: Further defaults of `--settling-epochs`, as text of its help.
        consistency: Further defaults of `--consistency`, as text of its help.
    """
    parser.add_argument(
        "--settling-epochs",
        type=int,
        metavar="N",
        help="give the Gaussian KL a larger weight than beta in the first N epochs, which falls to beta, so that each "
        "class settles where the prior puts it; the paper's training does not ensure that. Adds _settling<N> to the "
        f"name of the run's directory (default: 0, as in the paper{settling})",
    )
    parser.add_argument(
        "--consistency",
        type=float,
        metavar="SHARE",
        help="weight, as a share of lambda2, of the cross entropy between the class probabilities of an image and "
        "those of its reconstruction, so that the classifier recognises what the decoder draws. Adds "
        f"_consistency<SHARE> to the name of the run's directory (default: 0, as in the paper{consistency})",
    )


def own_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that the flags of `add_flags` give."""
    given = {"settling_epochs": args.settling_epochs, "consistency": args.consistency}
    settings = {name: value for name, value in given.items() if value is not None}
    for name, value in settings.items():
        check_number(name, value)
    return settings


def run_suffix(args: argparse.Namespace) -> str:
    settling = "" if args.settling_epochs is None else f"_settling{args.settling_epochs}"
    return settling + ("" if args.consistency is None else f"_consistency{args.consistency:g}")


def classifier_optimizer(rate: float | keras.optimizers.schedules.LearningRateSchedule) -> Adam:
    """The classifier's Adam, which has weight decay."""
    return Adam(rate, weight_decay=WEIGHT_DECAY)


def build(
    settings: dict[str, Any],
    prior: GaussianMixture,
    lambda1: float,
    optimizers: Mapping[str, Adam],
    make_networks: Callable[[], dict[str, keras.Model]],
    kind: type[EXoN] = EXoN,
    **options,
) -> EXoN:
    """The compiled model of a run.

    Args:
        settings: The settings of the run.
        prior: The prior.
        lambda1: The weight of the cross entropy, and of the consistency once `ramp_epochs` are over.
        optimizers: The optimizers of "autoencoder" and "classifier".
        make_networks: () -> arguments of `EXoN`; called after the seed of the weights is set.
        kind: The class of the model.
        **options: Further arguments of `EXoN`.
    """
    seed = settings["seed"]
    keras.utils.set_random_seed(seed)
    model = kind(
        **make_networks(),
        prior=prior,
        beta=settings["beta"],
        lambda1=lambda1,
        lambda2=RampUp(lambda1, settings["ramp_epochs"], settings["steps_per_epoch"]),
        settling_steps=settings.get("settling_epochs", 0) * settings["steps_per_epoch"],
        consistency=settings.get("consistency", 0.0),
        seed=seed,
        **options,
    )
    model.compile(GroupedOptimizer(optimizers), **flags.compile_options(settings))
    return model


def summary(model: EXoN, metrics: dict[str, Any]) -> dict[str, str]:
    parts = f"categorical {metrics['kl_categorical']:.2f}, Gaussian {metrics['kl_gaussian']:.2f}"
    return {"KL": f"{metrics['kl_divergence']:.2f} nats  ({parts})", **_places(model, metrics)}


def _places(model, metrics):
    """The lines on whether the classes lie where the prior puts them and whether generated images show them."""
    names = model.class_names or range(model.num_classes)
    known = [(each, k) for k, each in enumerate(metrics["place_distance_per_class"]) if each is not None]
    distance, farthest = max(known)
    by_neighbors = metrics["generated_right_percent_independent"]
    independent = ""
    if by_neighbors is not None:
        known_percent = metrics["independent_right_percent"]
        independent = (
            f", {by_neighbors:.1f} % by nearest neighbours, which classify {known_percent:.1f} % of test images right"
        )
    nearest = metrics["nearest_place_percent"]  # None if no image is classified right
    share = "" if nearest is None else f"{nearest:.1f} % of the images are nearest to the place of their own class; "
    lines = {
        "places": f"{share}the farthest class is {names[farthest]}, by {distance:.1f} standard deviations",
        "generated": f"{metrics['generated_right_percent']:.1f} % right by the model's classifier{independent}",
    }
    misplaced = ", ".join(str(names[k]) for k in metrics["misplaced_classes"])
    if misplaced:
        cure = "" if model.settling_steps else " (--settling-epochs 20 cures that)"
        lines["WARNING"] = (
            f"classes not where the prior puts them: {misplaced}; `generate` draws other classes there{cure}"
        )
    return lines


def step_gflop(model: EXoN, labeled: int, unlabeled: int) -> float:
    """Counts three forward passes for an image in a pass with a gradient, one of the classifier for a pseudo-label."""
    images = labeled + unlabeled
    autoencoder = forward_gflop(model.encoder) + forward_gflop(model.decoder)
    passes = 3 * (images + labeled + labeled + unlabeled) + unlabeled
    if model.consistency:
        passes += 3 * images
    return passes * forward_gflop(model.classifier) + 3 * images * autoencoder


UNITS = {"reconstruction": r"nats $\times\ \beta$ per image"}
experiment = functools.partial(Experiment, name="EXoN", units=UNITS, summary=summary, step_gflop=step_gflop)
