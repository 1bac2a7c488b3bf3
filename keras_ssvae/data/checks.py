"""The checks that training data passes before any training starts. Every error is a sentence."""

import numpy as np
import tensorflow as tf


def check_whole_number(name, value, minimum):
    """Raises a `ValueError` unless the argument `name` is an integer of at least `minimum`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise ValueError(f"`{name}` is {value!r}. It must be an integer of at least {minimum}.")


def check_source(name, source, num_classes):
    """Checks a labelled source (`num_classes` given) or an unlabelled one; returns the shape `(H, W, C)` of an image.

    Arrays are read completely. A dataset may be larger than memory or slow, so of it only the element specification,
    the cardinality and the first element are looked at.
    """
    if isinstance(source, tf.data.Dataset):
        return _check_dataset(name, source, num_classes)
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
    _check_labels(name, labels, num_classes)
    if len(labels) != len(images):
        raise ValueError(f"`{name}` holds {len(images)} images and {len(labels)} labels. Every image needs one label.")
    missing = np.setdiff1d(np.arange(num_classes), labels)
    if len(missing):
        raise ValueError(
            f"`{name}` holds no image of class {missing[0]}. Every one of the `num_classes` = {num_classes} classes "
            "needs at least one labelled image."
        )
    return shape


def _check_images(name, images):
    if images.ndim != 4 or not images.size:
        raise ValueError(f"The images of `{name}` have shape {images.shape}. It must be (N, H, W, C), none of them 0.")
    _check_image_dtype(name, images.dtype)
    if images.dtype != np.uint8:
        _check_pixels(name, images)
    return images.shape[1:]


def _check_image_dtype(name, dtype):
    if dtype != np.uint8 and not np.issubdtype(dtype, np.floating):
        raise ValueError(
            f"The images of `{name}` have dtype {dtype}. It must be uint8 (pixels 0 to 255) or floating point (pixels "
            "in [-1, 1])."
        )


def _check_pixels(name, images):
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"The images of `{name}` hold NaN or infinite pixels. Every pixel must be in [-1, 1].")
    if low < -1 or high > 1:
        raise ValueError(
            f"The images of `{name}` have pixels from {low:g} to {high:g}. Floating-point pixels must be in [-1, 1]; "
            "pixels from 0 to 255 must be uint8."
        )


def _check_label_type(name, dtype, rank, wanted):
    if rank == wanted + 1:
        raise ValueError(
            f"The labels of `{name}` look one-hot. They must be integers, one for each image: use `argmax(axis=-1)`."
        )
    if rank != wanted or not np.issubdtype(dtype, np.integer):
        raise ValueError(
            f"The labels of `{name}` have rank {rank} and dtype {dtype}. They must be integers, one for each image."
        )


def _check_labels(name, labels, num_classes):
    _check_label_type(name, labels.dtype, labels.ndim, 1)
    outside = labels[(labels < 0) | (labels >= num_classes)]
    if len(outside):
        raise ValueError(
            f"`{name}` holds the label {outside[0]}. With `num_classes` = {num_classes}, labels go from 0 to "
            f"{num_classes - 1}."
        )


def _check_dataset(name, dataset, num_classes):
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    wanted = 1 if num_classes is None else 2
    if num_classes is None and len(parts) == 2:
        raise ValueError(
            f"`{name}` is a Dataset of pairs. It must be a Dataset of images alone: drop the labels with "
            "`.map(lambda image, label: image)`."
        )
    if len(parts) != wanted or not all(isinstance(part, tf.TensorSpec) for part in parts):
        content = "images" if num_classes is None else "pairs (image, integer label)"
        raise ValueError(f"`{name}` is a Dataset of {spec}. It must be a Dataset of {content}.")
    shape = parts[0].shape
    if shape.rank == 4:
        raise ValueError(
            f"`{name}` is a Dataset of batches of shape {shape}. It must be a Dataset of single images: "
            "use `.unbatch()`."
        )
    if shape.rank != 3 or not shape.is_fully_defined():
        raise ValueError(
            f"`{name}` is a Dataset of images of shape {shape}. The shape must be a fully known (H, W, C): use "
            "`tf.ensure_shape` in a `.map`."
        )
    _check_image_dtype(name, parts[0].dtype.as_numpy_dtype)
    if num_classes is not None:
        _check_label_type(name, parts[1].dtype.as_numpy_dtype, parts[1].shape.rank, 0)
    _check_cardinality(name, int(dataset.cardinality()))
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise ValueError(f"`{name}` is an empty Dataset. It must hold at least one image.")
    image = (first if num_classes is None else first[0]).numpy()
    if image.dtype != np.uint8:
        _check_pixels(name, image)
    if num_classes is not None:
        _check_labels(name, np.atleast_1d(first[1].numpy()), num_classes)
    return tuple(shape)


def _check_cardinality(name, cardinality):
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{name}` is an infinite Dataset. It must be finite: drop `.repeat()`, it is repeated here.")
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            f"`{name}` is a Dataset of unknown size. State it with "
            "`.apply(tf.data.experimental.assert_cardinality(n))`."
        )
