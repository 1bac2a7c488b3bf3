"""Semi-supervised and mixture-prior variational autoencoders for Keras 3."""

__version__ = "0.1.0"

# Imported first: it raises an error that explains what to do if Keras' backend cannot be used.
from keras_ssvae import backend as _backend  # noqa: F401
from keras_ssvae import (
    callbacks,
    data,
    distributions,
    evaluation,
    export,
    likelihoods,
    losses,
    models,
    networks,
    optimizers,
    plots,
    priors,
    schedules,
)

__all__ = [
    "callbacks",
    "data",
    "distributions",
    "evaluation",
    "export",
    "likelihoods",
    "losses",
    "models",
    "networks",
    "optimizers",
    "plots",
    "priors",
    "schedules",
]
