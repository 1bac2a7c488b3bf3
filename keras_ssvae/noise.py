"""Random numbers as a pure function of a seed and a counter."""

import math
import zlib
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import SEED_DTYPE, categorical_rows, normal_rows
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor

_NOISES_OF_IMAGES = 1024


class Stream(keras.random.SeedGenerator):
    """A `SeedGenerator` without a variable: its numbers depend on its arguments only.

    So a repeated step draws the same numbers, in another process or after an interruption. Make it inside the
    computation that draws, since it counts the draws in Python.

    Args:
        seed: An integer or an integer tensor, taken modulo 2^32. A tensor `(B,)` gives each row its own seed; then draw
            with `normal` and `categorical` of this module.
        counter: Number of the first draw, an integer or an integer tensor. Each draw increases it by 1.
        purpose: A name. Streams with the same seed and different purposes share no numbers, whatever their counters.

    Example:
        >>> stream = Stream(seed=1, counter=1024 * step)
        >>> epsilon, gumbel = (keras.random.normal((4, 2), seed=stream) for _ in range(2))
    """

    def __init__(self, seed: int | Tensor, counter: int | Tensor, purpose: str = ""):
        # The parent's constructor is not called: it would make a variable.
        seed, offset = (_modulo_2_to_the_32(number) for number in (seed, zlib.crc32(purpose.encode())))
        self._seed = _modulo_2_to_the_32(seed + offset)
        self._counter = ops.cast(counter, SEED_DTYPE)

    def next(self, ordered: bool = True) -> Tensor:
        drawn = ops.stack([self._seed, ops.broadcast_to(self._counter, ops.shape(self._seed))])
        self._counter = self._counter + 1
        return drawn

    def rows(self) -> int | Tensor | None:
        """The number of rows that have their own seeds. None if all rows have the same seed."""
        return ops.shape(self._seed)[0] if len(self._seed.shape) else None


def normal(shape: Sequence[int | Tensor], seed: keras.random.SeedGenerator) -> Tensor:
    """Draws standard normal numbers; up to rounding those of `keras.random.normal`.

    Args:
        shape: The shape of the result.
        seed: A seed generator. If it is a `Stream` of B seeds, `shape` must begin with B, and row i is exactly the row
            that seed i alone would give.

    Raises:
        ValueError: If the number of seeds is not the number of rows.
    """
    if _has_rows(shape[0], seed):
        return normal_rows(seed.next(), tuple(shape[1:]))
    if isinstance(seed, Stream):  # by the same operations as for many seeds, for the same bits
        return normal_rows(seed.next()[:, None], tuple(shape))[0]
    return keras.random.normal(shape, seed=seed)


def categorical(log_weights: Tensor, n: int | Tensor, seed: keras.random.SeedGenerator) -> Tensor:
    """Draws n categories, integers `(n,)`.

    Args:
        log_weights: Logarithms of the weights of the categories, `(K,)`.
        n: Number of draws.
        seed: A seed generator. If it is a `Stream` of many seeds, there must be n, one for each draw, as in `normal`.

    Raises:
        ValueError: If the number of seeds is not n.
    """
    if not _has_rows(n, seed):
        return keras.random.categorical(log_weights[None], n, seed=seed)[0]
    return categorical_rows(log_weights, seed.next())


def normal_of_images(images: Tensor, dim: int) -> Tensor:
    """Standard normal numbers `(B, dim)`: the pixels of each image choose one of 1,024 rows of numbers.

    So results do not depend on how the images are divided into batches.
    """
    # A sum of integers is the same in any order. Each pixel is weighted by its position, since otherwise similar images
    # would often have equal sums.
    pixels = ops.cast(ops.round(127.5 * images), "int32")
    shape = images.shape[1:]
    places = ops.reshape(ops.arange(1, math.prod(shape) + 1), shape)
    chosen = ops.mod(ops.sum(pixels * places, axis=(1, 2, 3)), _NOISES_OF_IMAGES)
    noises = keras.random.normal((_NOISES_OF_IMAGES, dim), seed=Stream(0, 0, "evaluation"))
    return ops.take(noises, chosen, axis=0)


def _has_rows(n, seed):
    rows = seed.rows() if isinstance(seed, Stream) else None
    if isinstance(rows, int) and isinstance(n, int) and n != rows:
        raise ValueError(f"`seed` holds {rows} seeds for {n} images; it must be one integer, or one for each image.")
    return rows is not None


def _modulo_2_to_the_32(number):
    if (number is None or np.isscalar(number)) and not is_integer(number):
        raise ValueError(f"`seed` is {number!r}; it must be an integer.")
    number = int(number) % 2**32 if is_integer(number) else number
    return ops.bitwise_and(ops.cast(number, SEED_DTYPE), ops.cast(2**32 - 1, SEED_DTYPE))
