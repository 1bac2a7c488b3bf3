"""Augmentation of batches of images. The same seed gives the same images.

Every `random_*` function draws its parameters with `keras.random` and passes them to a deterministic function, which
you can also use directly. Images are `float32` of shape `(B, H, W, C)` with pixels in [-1, 1]. A seed is an integer or
a `keras.random.SeedGenerator`, such as a `noise.Stream`. All functions work on every device and inside compiled
functions.
"""

import functools
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ssvae.data.backend import gather, precise_matmul
from keras_ssvae.distributions import Tensor
from keras_ssvae.noise import Stream

# SciPy extends an image by this many edge pixels before the filter, and reads no others.
_SPLINE_PAD = 12


def mnist(images: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
    """The augmentation of the EXoN paper for MNIST: `random_rotation`, then `random_crop`.

    Args:
        images: `float32` of shape `(B, H, W, C)`, pixels in [-1, 1].
        seed: A `keras.random.SeedGenerator`, or an integer.

    Returns:
        Images of the same shape.

    Reference: [An, Choi, Jeon, 2022](https://arxiv.org/abs/2105.10867), Appendix A.4.
    """
    seed = _generator(seed)
    return random_crop(random_rotation(images, seed), seed)


def cifar10(images: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
    """The augmentation of the EXoN paper for CIFAR-10: `random_flip`, then `random_crop` from a reflection by 2 pixels.

    Args:
        images: `float32` of shape `(B, H, W, C)`, pixels in [-1, 1].
        seed: A `keras.random.SeedGenerator`, or an integer.

    Returns:
        Images of the same shape.

    Reference: [An, Choi, Jeon, 2022](https://arxiv.org/abs/2105.10867), Appendix A.4.
    """
    seed = _generator(seed)
    return random_crop(random_flip(images, seed), seed, padding=2, mode="reflect")


def random_flip(images: Tensor, seed: int | keras.random.SeedGenerator) -> Tensor:
    """Mirrors each image, left to right, with a probability of one half."""
    flipped = keras.random.randint(ops.shape(images)[:1], 0, 2, dtype="int32", seed=seed)
    return flip(images, flipped)


def flip(images: Tensor, flipped: Tensor) -> Tensor:
    """Mirrors some images, left to right.

    Args:
        images: Images of shape `(B, H, W, C)`.
        flipped: Booleans or integers of shape `(B,)`; an image is mirrored if its value is not 0.

    Returns:
        Images of the same shape.
    """
    images = ops.convert_to_tensor(images)
    flipped = ops.cast(ops.convert_to_tensor(flipped), "bool")
    return ops.where(flipped[:, None, None, None], ops.flip(images, axis=2), images)


def random_rotation(images: Tensor, seed: int | keras.random.SeedGenerator, low: int = -25, high: int = 24) -> Tensor:
    """Rotates each image by a whole number of degrees, drawn uniformly from `low` to `high` (both included)."""
    degrees = keras.random.randint(ops.shape(images)[:1], low, high + 1, dtype="int32", seed=seed)
    return rotate(images, degrees, low, high)


def rotate(images: Tensor, degrees: Tensor, low: int = -25, high: int = 24) -> Tensor:
    """Rotates images about their centre, with cubic B-spline interpolation and repeated edge pixels.

    Equals `scipy.ndimage.rotate(image, angle, reshape=False, order=3, mode="nearest")` on each image, up to float32
    rounding.

    Args:
        images: `float32` of shape `(B, H, W, C)`.
        degrees: Integers of shape `(B,)`, in degrees, from `low` to `high`. Another angle raises an error on TensorFlow
            on a CPU. JAX and accelerators cannot raise errors that depend on values: there the image becomes NaN (JAX)
            or is undefined.
        low: Smallest angle.
        high: Largest angle. Interpolation tables are stored for every whole degree between the two.

    Returns:
        Images of the same shape.
    """
    images = ops.convert_to_tensor(images)
    height, width, channels = images.shape[1:]
    tables = _rotation_tables(height, width, low, high)
    planes = ops.reshape(ops.transpose(images, (0, 3, 1, 2)), (-1, height, width))
    filtered = precise_matmul(precise_matmul(tables.filter_rows, planes), tables.filter_columns.T)
    # A pixel needs 4x4 coefficients. Gathering is fast if it copies aligned groups of 4, so the coefficients are stored
    # four times, each time shifted by one column.
    columns = tables.filter_columns.shape[0] - 3
    groups = ops.reshape(ops.stack([filtered[:, :, t : t + columns] for t in range(4)], axis=1), (-1, 4))
    angle = ops.cast(ops.convert_to_tensor(degrees), "int32") - low
    first = ops.arange(ops.shape(planes)[0], dtype="int32") * (tables.filter_rows.shape[0] * columns)
    taps = gather(tables.taps, angle)
    weights = gather(tables.weights, angle)
    if channels > 1:
        taps, weights = ops.repeat(taps, channels, axis=0), ops.repeat(weights, channels, axis=0)
    windows = ops.reshape(gather(groups, taps + first[:, None, None]), (-1, height * width, 16))
    rotated = ops.reshape(ops.sum(windows * weights, axis=-1), (-1, channels, height, width))
    return ops.transpose(rotated, (0, 2, 3, 1))


def random_crop(
    images: Tensor, seed: int | keras.random.SeedGenerator, padding: int = 4, mode: str = "constant"
) -> Tensor:
    """Shifts each image by up to `padding` pixels in each direction: padding, then a random crop (see `crop`)."""
    shape = (ops.shape(images)[0], 2)
    offsets = keras.random.randint(shape, 0, 2 * padding + 1, dtype="int32", seed=seed)
    return crop(images, offsets, padding, mode)


def crop(images: Tensor, offsets: Tensor, padding: int = 4, mode: str = "constant") -> Tensor:
    """Pads images on all sides and cuts a window of the original size out of each.

    Args:
        images: `float32` of shape `(B, H, W, C)`.
        offsets: Integers of shape `(B, 2)`: the window's top and left edge in the padded image, 0 to `2 * padding`.
        padding: Width of the border, in pixels.
        mode: Content of the border: `"constant"` is -1 (black); `"reflect"` is the image mirrored at its edge pixels,
            which are not repeated.

    Returns:
        Images of the same shape.

    Raises:
        ValueError: For another `mode`.
    """
    if mode not in ("constant", "reflect"):
        raise ValueError(f'`mode` is {mode!r}. It must be "constant" or "reflect".')
    images = ops.convert_to_tensor(images)
    height, width, channels = images.shape[1:]
    border = (padding, padding)
    filling = {"constant_values": -1.0} if mode == "constant" else {}
    padded = ops.pad(images, ((0, 0), border, border, (0, 0)), mode=mode, **filling)
    rows, columns = height + 2 * padding, width + 2 * padding
    offsets = ops.cast(ops.convert_to_tensor(offsets), "int32")
    first = ops.arange(ops.shape(images)[0], dtype="int32")[:, None] * rows
    row = first + offsets[:, :1] + np.arange(height, dtype=np.int32)
    column = offsets[:, 1:] + np.arange(width, dtype=np.int32)
    return gather(ops.reshape(padded, (-1, channels)), row[:, :, None] * columns + column[:, None, :])


def _generator(seed):
    """A seed generator, which gives new numbers at every draw."""
    return seed if isinstance(seed, keras.random.SeedGenerator) else Stream(seed, 0)


class _RotationTables(NamedTuple):
    """The linear operators of a rotation by every whole degree from the lowest to the highest.

    Attributes:
        filter_rows: `(R, H)`, from the rows of an image to rows of spline coefficients.
        filter_columns: `(S + 3, W)`, the same for columns; S is a multiple of 4.
        taps: `(angles, H * W, 4)`, positions of the four groups of four coefficients of a pixel.
        weights: `(angles, H * W, 16)`, the weights of these coefficients.
    """

    filter_rows: np.ndarray
    filter_columns: np.ndarray
    taps: np.ndarray
    weights: np.ndarray


@functools.cache
def _rotation_tables(height, width, low, high):
    angles = np.deg2rad(np.arange(low, high + 1))[:, None, None]
    y, x = np.meshgrid(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2, indexing="ij")
    filter_rows, row, row_weights = _spline(np.cos(angles) * y + np.sin(angles) * x, height, 1)
    filter_columns, column, column_weights = _spline(np.cos(angles) * x - np.sin(angles) * y, width, 4)
    columns = len(filter_columns) - 3
    shift, group = column % 4, column // 4
    taps = (shift * len(filter_rows) + row)[..., None] + np.arange(4)
    taps = taps * (columns // 4) + group[..., None]
    weights = row_weights[..., :, None] * column_weights[..., None, :]
    count = high + 1 - low
    return _RotationTables(
        filter_rows,
        filter_columns,
        taps.reshape(count, height * width, 4).astype(np.int32),
        weights.reshape(count, height * width, 16).astype(np.float32),
    )


def _spline(position, size, multiple):
    """Cubic B-spline interpolation along one axis, at positions relative to the centre.

    Returns:
        The matrix from pixels to the coefficients that are needed (their number is 3 more than a multiple of
        `multiple`), the index of the first of the four coefficients of each position, and the four weights.
    """
    padded = size + 2 * _SPLINE_PAD
    position = np.clip(position + (size - 1) / 2 + _SPLINE_PAD, 0, padded - 1)
    below = np.floor(position).astype(int)
    t = position - below
    u = 1 - t
    weights = np.stack([u**3, 3 * t**3 - 6 * t**2 + 4, 3 * u**3 - 6 * u**2 + 4, t**3], axis=-1) / 6
    # Interpolation: neighbouring coefficients have the weights 1/6, 4/6, 1/6 at a pixel. The line is reflected at its
    # ends.
    conditions = (np.eye(padded) * 4 + np.eye(padded, k=1) + np.eye(padded, k=-1)) / 6
    conditions[0, 0] += 1 / 6
    conditions[-1, -1] += 1 / 6
    edge_padding = np.eye(size)[np.clip(np.arange(padded) - _SPLINE_PAD, 0, size - 1)]
    coefficients = np.linalg.solve(conditions, edge_padding)
    start = below.min() - 1
    count = -(-(below.max() - 1 - start + 1) // multiple) * multiple + 3
    needed = np.clip(np.arange(start, start + count), 0, padded - 1)
    return coefficients[needed], below - 1 - start, weights
