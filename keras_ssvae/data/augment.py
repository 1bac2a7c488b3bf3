"""Batched, stateless augmentation: the same images for the same seed, on every device.

Every `random_*` function draws its parameters with `tf.random.stateless_*` and passes them to a deterministic function
that can be used on its own. Images are `float32` of shape `(B, H, W, C)` with pixels in [-1, 1]; a seed is an integer
tensor of shape `(2,)`.
"""

import functools
from typing import NamedTuple

import numpy as np
import tensorflow as tf

# SciPy extends an image by so many edge pixels before it filters it, and reads nothing beyond.
_SPLINE_PAD = 12


def mnist(images, seed):
    """The augmentation of the EXoN paper for MNIST: `random_rotation`, then `random_crop`.

    Args:
        images: `float32` of shape `(B, H, W, C)`, pixels in [-1, 1].
        seed: Integer tensor of shape `(2,)`.

    Returns:
        Images of the same shape.

    Reference: [An, Choi, Jeon, 2022](https://arxiv.org/abs/2105.10867), Appendix A.4.
    """
    seeds = tf.random.split(seed, 2)
    return random_crop(random_rotation(images, seeds[0]), seeds[1])


def random_rotation(images, seed, low: int = -25, high: int = 24):
    """Rotates every image by a whole number of degrees, drawn uniformly from `low` to `high` (both included)."""
    degrees = tf.random.stateless_uniform(tf.shape(images)[:1], seed, low, high + 1, dtype=tf.int32)
    return rotate(images, degrees, low, high)


def rotate(images, degrees, low: int = -25, high: int = 24):
    """Rotates images about their centre, with cubic B-spline interpolation and repeated edge pixels.

    Equals `scipy.ndimage.rotate(image, angle, reshape=False, order=3, mode="nearest")` on each image, up to float32
    rounding.

    Args:
        images: `float32` of shape `(B, H, W, C)`.
        degrees: Integers of shape `(B,)`, in degrees, from `low` to `high`.
        low: The smallest angle that occurs.
        high: The largest angle that occurs. Interpolation tables are kept for every whole degree between them.

    Returns:
        Images of the same shape.
    """
    height, width, channels = images.shape[1:]
    tables = _rotation_tables(height, width, low, high)
    # On a GPU, float32 products may be rounded to 10 bits (TF32), which is visible after the filter.
    precise = tf.float64 if tf.config.list_logical_devices("GPU") else tf.float32
    planes = tf.reshape(tf.transpose(images, (0, 3, 1, 2)), (-1, height, width))
    filtered = tf.matmul(tf.cast(tables.filter_rows, precise), tf.cast(planes, precise))
    filtered = tf.matmul(filtered, tf.cast(tables.filter_columns.T, precise))
    filtered = tf.cast(filtered, tf.float32)
    # A pixel needs 4x4 coefficients. Gathering is fast if it copies aligned groups of 4, so they are laid out four
    # times, each shifted by one column.
    columns = tables.filter_columns.shape[0] - 3
    groups = tf.reshape(tf.stack([filtered[:, :, t : t + columns] for t in range(4)], axis=1), (-1, 4))
    angle = tf.cast(degrees, tf.int32) - low
    first = tf.range(tf.shape(planes)[0]) * (tables.filter_rows.shape[0] * columns)
    taps = tf.gather(tables.taps, angle)
    weights = tf.gather(tables.weights, angle)
    if channels > 1:
        taps, weights = tf.repeat(taps, channels, axis=0), tf.repeat(weights, channels, axis=0)
    windows = tf.reshape(tf.gather(groups, taps + first[:, None, None]), (-1, height * width, 16))
    rotated = tf.reshape(tf.reduce_sum(windows * weights, axis=-1), (-1, channels, height, width))
    return tf.transpose(rotated, (0, 2, 3, 1))


def random_crop(images, seed, padding: int = 4):
    """Shifts every image by up to `padding` pixels in each direction, as padding with -1 and a random crop do."""
    offsets = tf.random.stateless_uniform((tf.shape(images)[0], 2), seed, 0, 2 * padding + 1, dtype=tf.int32)
    return crop(images, offsets, padding)


def crop(images, offsets, padding: int = 4):
    """Pads images with -1 (black) on all sides and cuts a window of the original size out of each.

    Args:
        images: `float32` of shape `(B, H, W, C)`.
        offsets: Integers of shape `(B, 2)`: the window's top and left edge in the padded image, 0 to `2 * padding`.
        padding: Width of the border, in pixels.

    Returns:
        Images of the same shape.
    """
    height, width = images.shape[1:3]
    border = (padding, padding)
    padded = tf.pad(images, ((0, 0), border, border, (0, 0)), constant_values=-1.0)
    offsets = tf.cast(offsets, tf.int32)
    rows = tf.gather(padded, offsets[:, :1] + tf.range(height), axis=1, batch_dims=1)
    return tf.gather(rows, offsets[:, 1:] + tf.range(width), axis=2, batch_dims=1)


class _RotationTables(NamedTuple):
    """The linear operators of a rotation by every whole degree from the lowest to the highest.

    Attributes:
        filter_rows: `(R, H)`, from the rows of an image to rows of spline coefficients.
        filter_columns: `(S + 3, W)`, the same for columns; S is a multiple of 4.
        taps: `(angles, H * W, 4)`, where the four groups of four coefficients of a pixel lie.
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
        The matrix from pixels to those coefficients that are needed (their number is 3 more than a multiple of
        `multiple`), the index of the first of each position's four coefficients, and the four weights.
    """
    padded = size + 2 * _SPLINE_PAD
    position = np.clip(position + (size - 1) / 2 + _SPLINE_PAD, 0, padded - 1)
    below = np.floor(position).astype(int)
    t = position - below
    u = 1 - t
    weights = np.stack([u**3, 3 * t**3 - 6 * t**2 + 4, 3 * u**3 - 6 * u**2 + 4, t**3], axis=-1) / 6
    # Interpolation: neighbouring coefficients weigh 1/6, 4/6, 1/6 at a pixel; the line is reflected at its ends.
    conditions = (np.eye(padded) * 4 + np.eye(padded, k=1) + np.eye(padded, k=-1)) / 6
    conditions[0, 0] += 1 / 6
    conditions[-1, -1] += 1 / 6
    edge_padding = np.eye(size)[np.clip(np.arange(padded) - _SPLINE_PAD, 0, size - 1)]
    coefficients = np.linalg.solve(conditions, edge_padding)
    start = below.min() - 1
    count = -(-(below.max() - 1 - start + 1) // multiple) * multiple + 3
    needed = np.clip(np.arange(start, start + count), 0, padded - 1)
    return coefficients[needed], below - 1 - start, weights
