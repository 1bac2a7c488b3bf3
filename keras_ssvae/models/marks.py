"""Marks in a file of weights, beside the weights: the priors of the model, and which layers are quantised.

A prior may have no weights. With another prior the weights of the networks would have another meaning: a model could
generate images of the wrong class without any error. And layers that a model makes by itself are in no configuration,
so their quantisation is not either.
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
    """The marks to save with the weights of a model."""
    return {**_of_priors(model), **_of_quantisation(model)}


def obeyed(model: keras.Model, store: Mapping) -> dict[str, np.ndarray]:
    """Applies the marks of a file to a model and returns the other contents of the file.

    It checks the priors and quantises the layers as the marks say. Files of version 0.1 have no marks.

    Raises:
        ValueError: If the marks are those of another prior than the model's.
    """
    names = set(store.keys())
    given, own = {name for name in names if name.startswith(_PRIOR)}, _of_priors(model)
    if given and not (given == set(own) and all(_agree(np.asarray(store[name]), own[name]) for name in own)):
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


def _agree(mark, own):
    # Earlier files have a 1 for each prior with weights, and nothing of its arguments.
    return np.array_equal(mark, own) or (own.ndim == 1 and np.array_equal(mark, np.ones(1)))


def _of_priors(model):
    """Means and variances of each prior without weights; a 1 and the `meanings` of each prior with weights."""
    result = {}
    for i, prior in enumerate(layer for layer in flatten_layers(model) if isinstance(layer, Prior)):
        if prior.weights:
            result[f"{_PRIOR}{i}_learned"] = np.array([1.0, *prior.meanings], "float32")
        else:
            means, variances, _ = map(ops.convert_to_numpy, prior.components())
            result |= {f"{_PRIOR}{i}_means": means, f"{_PRIOR}{i}_variances": variances}
    return result


def _of_quantisation(model):
    """The quantisation mode of each layer, as JSON in bytes."""
    modes = [getattr(layer, "quantization_mode", None) for layer in flatten_layers(model)]
    return {_QUANTIZED: np.frombuffer(json.dumps(modes).encode(), "uint8")} if any(modes) else {}
