"""Forward passes of a training step, each with its own dropout."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
from keras import ops

from keras_ssvae.backend import private, replica
from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.noise import Stream

# Random numbers are a function of (seed, step). Each step has this many counters: the first half is for the noise of
# the model, the rest for the dropout of the networks, with up to `_COUNTERS_PER_PASS` layers in each forward pass.
COUNTERS_PER_STEP = 1024
_COUNTERS_PER_PASS = 32


def first_counter(step: Tensor) -> Tensor:
    """The first counter of a step."""
    return ops.cast(step, "int32") * COUNTERS_PER_STEP


def passes(
    networks: Mapping[keras.Model, int], seed: int, dropout: Tensor, first: int = 0
) -> Callable[[keras.Model, Tensor], Any]:
    """Makes a function `(network, inputs) -> outputs` that runs the networks of a training step in training mode.

    Each pass has its own counters, and so its own dropout. The outputs have the precision of the losses.

    Args:
        networks: Network -> number of its passes in a step.
        seed: Seed of the model.
        dropout: The first counter of the step for dropout.
        first: Number of passes that earlier parts of the same step used.
    """
    places = {}
    for network, number in networks.items():
        places[id(network)] = iter(range(first, first + number))
        first += number

    def run(network, inputs):
        if id(network) not in places:
            raise ValueError(
                f"A training step runs `{network.name}`, which `forward_passes` of the model does not name. Add the "
                "attribute's name there, with how often a step runs it."
            )
        place = next(places[id(network)], None)
        if place is None:
            raise ValueError(f"A training step runs `{network.name}` more often than its `forward_passes` says.")
        _seed_dropout(network, seed, dropout + place * _COUNTERS_PER_PASS)
        outputs = network(inputs, training=True)
        if network.losses:
            raise ValueError(
                f"A layer of `{network.name}` adds a loss, as by `add_loss` or an `activity_regularizer`, which the "
                "objective does not hold. Build the network without it."
            )
        return _as_losses(outputs)

    return run


def in_use(network: keras.Model, inputs: Tensor | list[Tensor]) -> Any:
    """Outputs of a network in inference mode, in the precision of the losses."""
    return _as_losses(network(inputs, training=False))


def _as_losses(outputs):
    return [as_floatx(each) for each in outputs] if isinstance(outputs, list | tuple) else as_floatx(outputs)


def _seed_dropout(network, seed, counter):
    """Gives each layer of `network` that draws random numbers the next counter."""
    states = private.seed_states(network)
    if len(states) > _COUNTERS_PER_PASS:
        raise ValueError(
            f"`{network.name}` has {len(states)} layers that draw random numbers; at most {_COUNTERS_PER_PASS} are "
            "supported."
        )
    # Replicas compute different images, so they need different dropout.
    stream = Stream(seed + replica() * 2**20, counter)
    for state in states:
        state.assign(stream.next())


@contextlib.contextmanager
def without_dropout(network: keras.Model) -> Iterator[None]:
    """Context in which the layers of the network that draw random numbers at a `rate` have the rate 0."""
    draws = [layer for layer in private.flatten_layers(network) if getattr(layer, "seed_generator", None) is not None]
    rates = [(layer, layer.rate) for layer in draws if getattr(layer, "rate", 0)]
    for layer, _ in rates:
        layer.rate = 0.0
    try:
        yield
    finally:
        for layer, rate in rates:
            layer.rate = rate
