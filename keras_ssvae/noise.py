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
    """A `SeedGenerator` without a variable: what it gives depends on its arguments alone.

    So a step that is repeated, in another process or after an interruption, draws the same numbers. Use it inside the
    computation that draws: it counts in Python.

    Args:
        seed: An integer or an integer tensor; it counts modulo 2^32. Of a tensor `(B,)` each row has a seed of its
            own: draw with `normal` and `categorical`.
        counter: Where the stream begins, an integer or an integer tensor. Each draw takes the next one.
        purpose: Streams of one seed and different purposes share no number, whatever their counters are.

    Example:
        >>> stream = Stream(seed=1, counter=1024 * step)
        >>> epsilon, gumbel = (keras.random.normal((4, 2), seed=stream) for _ in range(2))
    """

    def __init__(self, seed: int | Tensor, counter: int | Tensor, purpose: str = ""):
        # Not the parent's: it would make a variable.
        seed, offset = (_modulo_2_to_the_32(number) for number in (seed, zlib.crc32(purpose.encode())))
        self._seed = _modulo_2_to_the_32(seed + offset)
        self._counter = ops.cast(counter, SEED_DTYPE)

    def next(self, ordered: bool = True) -> Tensor:
        drawn = ops.stack([self._seed, ops.broadcast_to(self._counter, ops.shape(self._seed))])
        self._counter = self._counter + 1
        return drawn

    def rows(self) -> int | Tensor | None:
        """The number of rows that have a seed of their own; None where all have the same."""
        return ops.shape(self._seed)[0] if len(self._seed.shape) else None


def normal(shape: Sequence[int | Tensor], seed: keras.random.SeedGenerator) -> Tensor:
    """Standard normal numbers; of a `Stream` of many seeds row i is what seed i alone gives for one row, to the bit.

    Up to rounding they are those of `keras.random.normal`.

    Raises:
        ValueError: If there are not as many seeds as rows.
    """
    if _has_rows(shape[0], seed):
        return normal_rows(seed.next(), tuple(shape[1:]))
    if isinstance(seed, Stream):  # by the same operations
        return normal_rows(seed.next()[:, None], tuple(shape))[0]
    return keras.random.normal(shape, seed=seed)


def categorical(log_weights: Tensor, n: int | Tensor, seed: keras.random.SeedGenerator) -> Tensor:
    """`n` draws `(n,)` of the categories with log-weights `(K,)`; of a `Stream` of many seeds as `normal`.

    Raises:
        ValueError: If there are not as many seeds as draws.
    """
    if not _has_rows(n, seed):
        return keras.random.categorical(log_weights[None], n, seed=seed)[0]
    return categorical_rows(log_weights, seed.next())


def normal_of_images(images: Tensor, dim: int) -> Tensor:
    """Standard normal numbers `(B, dim)` that are a function of each image alone, one of 1,024 rows for each.

    However images are divided into batches, what is computed with it is the same.
    """
    # Whole numbers add up to the same sum in any order; places count, or similar images would have equal sums.
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
