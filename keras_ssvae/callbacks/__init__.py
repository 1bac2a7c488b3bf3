"""Callbacks for `fit`. They work with this library's models, and any Keras model with the methods that they name."""

from keras_ssvae.callbacks.checkpoint import Checkpoint, CheckpointError
from keras_ssvae.callbacks.early_stopping import EarlyStopping
from keras_ssvae.callbacks.figures import ImageGrid, Interpolation, LatentScatter
from keras_ssvae.callbacks.loss_weight import LossWeightSchedule
from keras_ssvae.callbacks.progress import ProgressBar
from keras_ssvae.callbacks.report import Report

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "EarlyStopping",
    "ImageGrid",
    "Interpolation",
    "LatentScatter",
    "LossWeightSchedule",
    "ProgressBar",
    "Report",
]
