"""Image sets, semi-supervised splits, augmentation and batches for training."""

from keras_ssvae.data import augment
from keras_ssvae.data.batch import scale
from keras_ssvae.data.pipeline import distribute, semi_supervised
from keras_ssvae.data.sources import CLASS_NAMES, DataDamagedError, DataUnavailableError, ImageData, load
from keras_ssvae.data.splits import Split, split

__all__ = [
    "CLASS_NAMES",
    "DataDamagedError",
    "DataUnavailableError",
    "ImageData",
    "Split",
    "augment",
    "distribute",
    "load",
    "scale",
    "semi_supervised",
    "split",
]
