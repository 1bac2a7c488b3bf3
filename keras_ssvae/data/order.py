"""The order in which a set of images is used up: a pure function of the seed and the epoch."""

import math

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.noise import Stream


def epoch_order(seed: int, epoch: int | Tensor, size: int, passes: int, purpose: str) -> Tensor:
    """The permutations in which an epoch uses a set, one for each pass through it.

    Args:
        seed: Seed of the order, an integer of at least 0.
        epoch: The epoch, counted from 0: an integer or an integer tensor.
        size: Number of images in the set, n.
        passes: How often the epoch goes through the set, at least in part.
        purpose: Sets of different purposes have orders of their own.

    Returns:
        `int32` of shape `(passes, n)`; every row holds 0 to n - 1.
    """
    numbers = keras.random.randint((passes, size), 0, 2**31 - 1, dtype="int32", seed=Stream(seed, epoch, purpose))
    return ops.cast(ops.argsort(numbers, axis=1), "int32")


def passes_of_epoch(size: int, batch_size: int, steps: int, keep_short: bool) -> int:
    """How many passes through a set of `size` images an epoch of `steps` batches begins (see `batch_slice`)."""
    if keep_short:
        return math.ceil(steps / math.ceil(size / batch_size))
    return math.ceil(steps * batch_size / size)


def batch_slice(step: int | Tensor, size: int, batch_size: int, keep_short: bool) -> tuple:
    """Where the batch of a step lies in the epoch's order, its passes one after the other.

    Args:
        step: The step within the epoch: an integer or an integer tensor.
        size: Number of images in the set.
        batch_size: Images in a full batch.
        keep_short: `True`: every pass ends with a batch of its own, which may be short. `False`: every batch is full,
            and may run from one pass into the next.

    Returns:
        Tuple `(begin, end)`, of the type of `step`.
    """
    if not keep_short:
        return step * batch_size, (step + 1) * batch_size
    batches = math.ceil(size / batch_size)
    first, begin = step // batches * size, step % batches * batch_size
    end = begin + batch_size
    end = min(end, size) if isinstance(step, int) else ops.minimum(end, size)
    return first + begin, first + end
