"""What the experiments with EXoN share: how it is built and compiled, its summary, and the work of its step."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import keras

from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs import flags
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.work import forward_gflop
from keras_ssvae.schedules import RampUp

WEIGHT_DECAY = 5e-4  # of the classifier


def classifier_optimizer(rate: float | keras.optimizers.schedules.LearningRateSchedule) -> Adam:
    """The classifier's Adam, which has weight decay."""
    return Adam(rate, weight_decay=WEIGHT_DECAY)


def build(
    settings: dict[str, Any],
    prior: GaussianMixture,
    lambda1: float,
    optimizers: Mapping[str, Adam],
    make_networks: Callable[[], dict[str, keras.Model]],
    **options,
) -> EXoN:
    """The compiled model of a run.

    Args:
        settings: Those of the run.
        prior: The prior.
        lambda1: The weight of the cross entropy, and of the consistency once `ramp_epochs` are over.
        optimizers: Those of "autoencoder" and "classifier".
        make_networks: () -> arguments of `EXoN`; called after the seed of the weights is set.
        **options: Further arguments of `EXoN`.
    """
    seed = settings["seed"]
    keras.utils.set_random_seed(seed)
    model = EXoN(
        **make_networks(),
        prior=prior,
        beta=settings["beta"],
        lambda1=lambda1,
        lambda2=RampUp(lambda1, settings["ramp_epochs"], settings["steps_per_epoch"]),
        seed=seed,
        **options,
    )
    model.compile(GroupedOptimizer(optimizers), **flags.compile_options(settings))
    return model


def summary(model: EXoN, metrics: dict[str, Any]) -> dict[str, str]:
    parts = f"categorical {metrics['kl_categorical']:.2f}, Gaussian {metrics['kl_gaussian']:.2f}"
    return {"KL": f"{metrics['kl_divergence']:.2f} nats  ({parts})"}


def step_gflop(model: EXoN, labeled: int, unlabeled: int) -> float:
    """Three forwards for each image in a pass with a gradient, and one of the classifier for each pseudo-label."""
    images = labeled + unlabeled
    autoencoder = forward_gflop(model.encoder) + forward_gflop(model.decoder)
    passes = 3 * (images + labeled + labeled + unlabeled) + unlabeled
    return passes * forward_gflop(model.classifier) + 3 * images * autoencoder


UNITS = {"reconstruction": r"nats $\times\ \beta$ per image"}
experiment = functools.partial(Experiment, name="EXoN", units=UNITS, summary=summary, step_gflop=step_gflop)
