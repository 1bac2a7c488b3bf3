"""Optimizers that the papers need and Keras does not have."""

from keras_ssvae.optimizers.adam import Adam
from keras_ssvae.optimizers.grouped import GroupedOptimizer
from keras_ssvae.optimizers.normalized import NormalizedAdam
from keras_ssvae.optimizers.plateau import PlateauAdam

__all__ = ["Adam", "GroupedOptimizer", "NormalizedAdam", "PlateauAdam"]
