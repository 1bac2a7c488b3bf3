"""Checks, before any training, that the outputs of a user's networks suit the objective.

Shapes cannot show it: class probabilities have the same shape as logits, and a log-variance of 100 as one of 0.
"""

import contextlib
import contextvars
from collections.abc import Iterator, Mapping

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import private
from keras_ssvae.checks import warn_caller
from keras_ssvae.distributions import as_floatx

# The kinds of outputs.
CLASS_LOGITS, PIXEL_LOGITS, PIXELS, LOGVAR = "class logits", "logits of pixels", "pixels in [-1, 1]", "log-variances"
_LARGEST_LOGVAR = 80.0  # e^88 is the largest float32, and the objective has sums of variances

_off = contextvars.ContextVar("off", default=False)


@contextlib.contextmanager
def without_probes() -> Iterator[None]:
    """Context without these checks, for loading a file: the networks get their weights only later."""
    token = _off.set(True)
    try:
        yield
    finally:
        _off.reset(token)


def probe(name: str, network: keras.Model | None, kinds: Mapping[int, str | None], unit_pixels: bool = False) -> None:
    """Runs a network once on two random inputs and checks its outputs.

    Args:
        name: Name of the argument, for messages.
        network: A built network, or None for the default network, which is not checked.
        kinds: Number of an output -> its required kind.
        unit_pixels: Whether the network takes images with pixels in [0, 1] instead of [-1, 1].

    Raises:
        ValueError: If an output is not finite, or a log-variance overflows.

    Warns:
        UserWarning: If an output has an activation that its kind must not have.
    """
    if network is None or _off.get():
        return
    rng, shapes = np.random.default_rng(0), network.input_shape
    several = isinstance(shapes[0], tuple)
    inputs = []
    for _, *shape in shapes if several else [shapes]:
        size = (2, *shape)
        drawn = rng.uniform(0 if unit_pixels else -1, 1, size) if len(shape) == 3 else rng.normal(size=size)
        inputs.append(ops.convert_to_tensor(drawn, "float32"))
    outputs = network(inputs if several else inputs[0], training=False)
    outputs = list(outputs) if isinstance(outputs, list | tuple) else [outputs]
    for i, output in enumerate(outputs):
        values = ops.convert_to_numpy(as_floatx(output))
        which = f"`{name}`" if len(outputs) == 1 else f"output {i} of `{name}`"
        if not np.isfinite(values).all():
            raise ValueError(
                f"{which[0].upper()}{which[1:]} is not finite for random inputs: {values.ravel()[:4]} ... Look at its "
                "weights."
            )
        kind = kinds.get(i)
        if kind == LOGVAR and np.abs(values).max() > _LARGEST_LOGVAR:
            extreme = values.ravel()[np.abs(values).argmax()]
            raise ValueError(
                f"{which[0].upper()}{which[1:]} has a log-variance of {extreme:.4g} for a random input; the variance, "
                "its exponential, is too large or too small for sums in float32. Let the last layer begin near 0, or "
                "clip it: `Dense(d, activation=networks.vae.clip_logvar)`."
            )
        _warn_of_activation(which, kind, private.last_activation(network, i), values)


def _warn_of_activation(which, kind, activation, values):
    rows = values.reshape(len(values), -1)
    sums_to_one = rows.shape[1] > 1 and np.abs(rows.sum(axis=1) - 1.0).max() < 1e-3 and rows.min() >= 0
    if kind == CLASS_LOGITS and (activation in _BOUNDED or sums_to_one):
        ends = "gives probabilities, whose sum is 1" if sums_to_one else f"ends in {activation}"
        advice = (
            "the model takes logits, and makes probabilities of them itself. Build it with `activation=None` in the "
            "last layer (`classifier_activation=None` in `keras.applications`)"
        )
    elif kind == PIXEL_LOGITS and (activation in _BOUNDED or (rows.min() >= 0 and 0 < rows.max() <= 1)):
        ends = f"ends in {activation}" if activation in _BOUNDED else "gives numbers from 0 to 1"
        advice = (
            "the likelihood takes logits, any number, and makes pixels of them by a sigmoid itself. Build it with "
            "`activation=None` in the last layer"
        )
    elif kind == PIXELS and (activation in _NEVER_NEGATIVE or (rows.min() >= 0 and rows.max() > 0)):
        ends = f"ends in {activation}" if activation in _NEVER_NEGATIVE else "gives no number below 0"
        advice = (
            'images have pixels in [-1, 1], so it cannot draw the dark ones. Build it with `activation="tanh"` in the '
            "last layer, or none"
        )
    else:
        return
    warn_caller(f"{which[0].upper()}{which[1:]} {ends}, but {advice}.")


_NEVER_NEGATIVE = ("softmax", "sigmoid", "relu", "relu6", "softplus", "exponential", "hard_sigmoid")
_BOUNDED = (*_NEVER_NEGATIVE, "tanh", "log_sigmoid", "softsign", "hard_tanh")  # a log-softmax is a logit
