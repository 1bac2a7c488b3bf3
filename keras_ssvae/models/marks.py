"""What a file of weights says of a model beside its weights: its priors, and which layers are quantised.

A prior need not have weights, but with another one those of the networks mean something else: images of a class would
be drawn where another one lies, and nothing would say so. And a layer that a model makes by itself stands in no
configuration, nor does its quantisation.
"""

import json
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend.private import flatten_layers
from keras_ssvae.priors import Prior

_PRIOR, _QUANTIZED = "prior_", "quantized"


def marks(model: keras.Model) -> dict[str, np.ndarray]:
    """What a model's weights are saved with."""
    return {**_of_priors(model), **_of_quantisation(model)}


def obeyed(model: keras.Model, store: Mapping) -> dict[str, np.ndarray]:
    """What a file holds but for the marks, once the model's layers are quantised as they say.

    Raises:
        ValueError: If they are those of another prior than the model's. Files of version 0.1 have none.
    """
    names = set(store.keys())
    given, own = {name for name in names if name.startswith(_PRIOR)}, _of_priors(model)
    if given and not (given == set(own) and all(np.array_equal(store[name], own[name]) for name in own)):
        raise ValueError(
            f"These weights were trained with another prior than that of {model.name!r}; make the model with their "
            "`prior`, or load the whole model from its `.keras` file."
        )
    if _QUANTIZED in names:
        modes = json.loads(np.asarray(store[_QUANTIZED]).tobytes())
        for layer, mode in zip(flatten_layers(model), modes, strict=True):
            if mode and layer.quantization_mode is None:
                layer.quantize(mode)
    return {name: store[name] for name in names - given - {_QUANTIZED}}


def _of_priors(model):
    """Means and variances of the priors that have no weights; of the others, that they have some."""
    result = {}
    for i, prior in enumerate(layer for layer in flatten_layers(model) if isinstance(layer, Prior)):
        if prior.weights:
            result[f"{_PRIOR}{i}_learned"] = np.ones(1, "float32")
        else:
            means, variances, _ = map(ops.convert_to_numpy, prior.components())
            result |= {f"{_PRIOR}{i}_means": means, f"{_PRIOR}{i}_variances": variances}
    return result


def _of_quantisation(model):
    """The mode of each layer, as JSON in bytes."""
    modes = [getattr(layer, "quantization_mode", None) for layer in flatten_layers(model)]
    return {_QUANTIZED: np.frombuffer(json.dumps(modes).encode(), "uint8")} if any(modes) else {}
