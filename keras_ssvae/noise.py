"""Random numbers as a pure function of a seed and a counter."""

import zlib

import keras
from keras import ops

from keras_ssvae.backend import SEED_DTYPE
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor


class Stream(keras.random.SeedGenerator):
    """A `SeedGenerator` without a variable: what it gives depends on its arguments alone.

    So a step that is repeated, in another process or after an interruption, draws the same numbers. Use it inside the
    computation that draws: it counts in Python.

    Args:
        seed: An integer or an integer tensor; it counts modulo 2^32.
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
        drawn = ops.stack([self._seed, self._counter])
        self._counter = self._counter + 1
        return drawn


def _modulo_2_to_the_32(number):
    number = int(number) % 2**32 if is_integer(number) else number
    return ops.bitwise_and(ops.cast(number, SEED_DTYPE), ops.cast(2**32 - 1, SEED_DTYPE))
