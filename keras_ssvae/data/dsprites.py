"""dSprites: white shapes on black, with known factors of variation."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Self

import numpy as np

from keras_ssvae.data import sources
from keras_ssvae.data.sources import ImageData

_SHAPES = ("square", "ellipse", "heart")
_FACTORS = ("color", "shape", "scale", "orientation", "x", "y")
# The names of the factors in tensorflow_datasets, which leaves out the colour: it is always white.
_FEATURES = ("label_shape", "label_scale", "label_orientation", "label_x_position", "label_y_position")
_TEST_IMAGES = 10_000
_BATCH = 4096


@dataclasses.dataclass(frozen=True, eq=False)
class FactorData(ImageData):
    """An image set in memory with known factors of variation.

    Attributes:
        train_factors: `int64` of shape `(N, F)`, the F factors of each training image, each counted from 0.
        test_factors: `int64` of shape `(M, F)`.
        factor_names: The F names of the factors.
    """

    train_factors: np.ndarray
    test_factors: np.ndarray
    factor_names: tuple[str, ...]

    def only(self, classes: Sequence[int]) -> Self:
        part = super().only(classes)
        train, test = np.isin(self.train_labels, classes), np.isin(self.test_labels, classes)
        train_factors, test_factors = self.train_factors[train], self.test_factors[test]
        return dataclasses.replace(part, train_factors=train_factors, test_factors=test_factors)


def load_dsprites(data_dir: str | os.PathLike | None = None) -> FactorData:
    """Loads dSprites: 737,280 images of 64x64 pixels, one of each combination of its factors.

    It reads the files that tensorflow_datasets prepares (`dsprites` 2.0.0), in their order, on the TensorFlow backend
    of Keras. If they are missing, it downloads them with tensorflow_datasets; the download stops if no data arrive for
    18 seconds. The images take 3 GB of memory. The labels are the shapes. All images are training images, and the test
    set is a fixed random choice of 10,000 of them: this set is for finding factors, not for generalisation to new
    images.

    Args:
        data_dir: Directory of tensorflow_datasets. Default: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Returns:
        A `FactorData` with the factors color (always 0), shape (3 values: square, ellipse, heart), scale (6),
        orientation (40), x (32) and y (32).

    Raises:
        DataUnavailableError: If the set is missing and cannot be downloaded, or Keras runs on another backend.
        DataDamagedError: If its files cannot be read.

    Example:

    >>> data = load_dsprites()
    >>> data.train_images.shape, data.train_factors.shape
    ((737280, 64, 64, 1), (737280, 6))

    Reference: [Matthey, Higgins, Hassabis, Lerchner, 2017](https://github.com/deepmind/dsprites-dataset).
    """
    prepared = sources.directory_on_tensorflow("dsprites", data_dir)
    if not (prepared / "dataset_info.json").is_file():
        sources.prepare("dsprites", prepared)
    with sources.damage_named("dsprites", prepared):
        images, factors = _read(prepared)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(images))
    test = np.sort(order[:_TEST_IMAGES])
    labels = factors[:, _FACTORS.index("shape")].copy()
    return FactorData("dsprites", images, labels, images[test], labels[test], _SHAPES, factors, factors[test], _FACTORS)


def _read(path):
    """Reads images and factors batch by batch; all at once would hold the images twice in memory."""
    batches, size = sources.open_tfds(path, "train", _BATCH)
    images, factors = np.empty((size, 64, 64, 1), np.uint8), np.zeros((size, len(_FACTORS)), np.int64)
    count = 0
    for batch in batches:  # fails if there are fewer or more images
        end = count + len(batch["image"])
        images[count:end] = batch["image"]
        factors[count:end, 1:] = np.stack([batch[name] for name in _FEATURES], axis=1)
        count = end
    if images.max() != 1:
        raise ValueError(f"the pixels go up to {images.max()}, not 1")
    images *= 255
    shapes = np.unique(factors[:, _FACTORS.index("shape")])
    if not np.array_equal(shapes, np.arange(len(_SHAPES))):
        raise ValueError(f"the shapes are {shapes}, not 0 to {len(_SHAPES) - 1}")
    return images, factors
