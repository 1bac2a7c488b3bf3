"""Checks of training data before any training starts. Each error message is a full sentence."""

import numpy as np

from keras_ssvae.checks import warn_caller
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import check_form, check_values

_UNEVEN = 10  # a warning if one class has this many times the images of another


def check_indices(name, indices, size) -> np.ndarray:
    """Checks indices of images and returns them as an int64 array.

    Raises:
        ValueError: Unless they are at least one integer, each from 0 to `size - 1`, each only once.
    """
    indices = np.asarray(indices)
    if indices.ndim != 1 or not len(indices) or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(
            f"`{name}` has shape {indices.shape} and dtype {indices.dtype}. It must be a one-dimensional array of "
            "integers, at least one index of an image."
        )
    outside = indices[(indices < 0) | (indices >= size)]
    if len(outside):
        raise ValueError(f"`{name}` holds {outside[0]}. There are {size} images, so indices go from 0 to {size - 1}.")
    values, repeats = np.unique(indices, return_counts=True)
    if repeats.max() > 1:
        raise ValueError(f"`{name}` holds {values[repeats.argmax()]} {repeats.max()} times. Name every image once.")
    return indices.astype(np.int64)


def check_arrays(name: str, source, kinds: Labels | None) -> tuple[int, ...]:
    """Checks a labelled source of arrays (`kinds` given) or an unlabelled one, completely.

    Returns:
        The shape `(H, W, C)` of an image.
    """
    if kinds is None:
        if isinstance(source, tuple | list) and not (len(source) and np.ndim(source[0]) == 3):
            raise ValueError(
                f"`{name}` is a {type(source).__name__} of {len(source)} parts. It must be one array of images, "
                "without their labels."
            )
        return _check_images(name, np.asarray(source))
    if not isinstance(source, tuple) or len(source) != 2:
        raise ValueError(
            f"`{name}` is a {type(source).__name__}. It must be a tuple (images, labels), or a Dataset of "
            "pairs (image, label)."
        )
    images, labels = (np.asarray(each) for each in source)
    shape = _check_images(f"{name}[0]", images)
    columns = kinds.check(f"{name}[1]", labels, len(images)).reshape(len(images), -1).T
    for i, (column, count) in enumerate(zip(columns, kinds.sizes, strict=True)):
        missing = np.setdiff1d(np.arange(count), column)
        which = "" if len(columns) == 1 else f" by its label {i}"
        if len(missing):
            raise ValueError(
                f"`{name}` holds no image of class {missing[0]}{which}. Every one of the `num_classes` = "
                f"{kinds.num_classes} classes needs at least one labelled image."
            )
        warn_if_uneven(
            f"{name}[1]{which}",
            np.bincount(column[column >= 0]),
            "`data.class_frequencies` gives the shares, for the prior of the classes of the model.",
        )
    return shape


def warn_if_uneven(name: str, sizes: np.ndarray, hint: str) -> None:
    """Warns if one class has ten times the images of another."""
    largest, smallest = int(sizes.argmax()), int(sizes.argmin())
    if sizes[largest] >= _UNEVEN * max(sizes[smallest], 1):
        warn_caller(
            f"`{name}` holds {sizes[largest]} images of class {largest} and {sizes[smallest]} of class {smallest}. "
            f"{hint}"
        )


def check_batch(name: str, batch, kinds: Labels | None, first: bool) -> None:
    """Checks a batch of images, or of images and labels (`kinds` given), from a source that is read batch by batch."""
    images = batch if kinds is None else batch[0]
    check_values(name if kinds is None else f"{name}[0]", images, "refuse" if first else "ignore")
    if kinds is not None:
        labels = batch[1]
        kinds.check(f"{name}[1]", labels, len(images))


def _check_images(name, images):
    check_form(name, images)
    if not images.size:
        raise ValueError(f"`{name}` has shape {images.shape}; it must be (N, H, W, C), none of them 0.")
    check_values(name, images)
    return images.shape[1:]
