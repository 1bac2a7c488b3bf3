"""The systems, one `keras.Model` each."""

# Registers what a saved model refers to, so that `keras.models.load_model` finds it.
from keras_ssvae import optimizers, schedules  # noqa: F401
from keras_ssvae.models.exon import EXoN
from keras_ssvae.models.explanation import Explanation

__all__ = ["EXoN", "Explanation"]
