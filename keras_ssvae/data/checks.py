"""The checks that training data passes before any training starts. Every error is a sentence."""

import numpy as np

from keras_ssvae.models.labels import Labels, is_integer


def check_whole_number(name, value, minimum) -> None:
    """Raises a `ValueError` unless the argument `name` is an integer of at least `minimum`."""
    if not is_integer(value) or value < minimum:
        raise ValueError(f"`{name}` is {value!r}. It must be an integer of at least {minimum}.")


def check_indices(name, indices, size) -> np.ndarray:
    """Returns the argument `name` as an int64 array, or raises a `ValueError` unless it holds indices of images.

    That is at least one integer, each from 0 to `size - 1`, each once.
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


def check_arrays(name, source, num_classes) -> tuple[int, ...]:
    """Checks a labelled source of arrays (`num_classes` given) or an unlabelled one, completely.

    Returns:
        The shape `(H, W, C)` of an image.
    """
    if num_classes is None:
        if isinstance(source, tuple | list):
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
    shape = _check_images(name, images)
    kinds = Labels(num_classes)
    columns = kinds.check(f"{name}[1]", labels, len(images)).reshape(len(images), -1).T
    for i, (column, count) in enumerate(zip(columns, kinds.sizes, strict=True)):
        missing = np.setdiff1d(np.arange(count), column)
        if len(missing):
            which = "" if len(columns) == 1 else f" by its label {i}"
            raise ValueError(
                f"`{name}` holds no image of class {missing[0]}{which}. Every one of the `num_classes` = {num_classes} "
                "classes needs at least one labelled image."
            )
    return shape


def _check_images(name, images):
    if images.ndim != 4 or not images.size:
        raise ValueError(f"The images of `{name}` have shape {images.shape}. It must be (N, H, W, C), none of them 0.")
    check_image_dtype(name, images.dtype)
    if images.dtype != np.uint8:
        check_pixels(name, images)
    return images.shape[1:]


def check_image_dtype(name, dtype) -> None:
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise ValueError(
            f"The images of `{name}` have dtype {dtype}. It must be uint8 (pixels 0 to 255) or floating point (pixels "
            "in [-1, 1])."
        )


def check_pixels(name, images) -> None:
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"The images of `{name}` hold NaN or infinite pixels. Every pixel must be in [-1, 1].")
    if low < -1 or high > 1:
        raise ValueError(
            f"The images of `{name}` have pixels from {low:g} to {high:g}. Floating-point pixels must be in [-1, 1]; "
            "pixels from 0 to 255 must be uint8."
        )


def check_num_classes(num_classes) -> int | tuple[int, ...]:
    """Returns `num_classes` as a Python integer, or a tuple of them, or raises a `ValueError`."""
    if isinstance(num_classes, tuple | list):
        if not num_classes:
            raise ValueError("`num_classes` is empty. It must hold the number of classes of at least one label.")
        for each in num_classes:
            check_whole_number("num_classes", each, 1)
        return tuple(map(int, num_classes))
    check_whole_number("num_classes", num_classes, 1)
    return int(num_classes)
