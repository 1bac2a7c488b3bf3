"""Selects the images of a step, as a pure function of the seed and the step."""

import math
from typing import NamedTuple

import keras
from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.noise import Stream


class Part(NamedTuple):
    """One of the two parts of the batches, labelled or unlabelled.

    Attributes:
        kind: `"labeled"` or `"unlabeled"`.
        batch_size: Number of images in a full batch.
        rhythm: Numbers of labelled and unlabelled batches that alternate; `None` if each step has a batch of the part.
    """

    kind: str
    batch_size: int
    rhythm: tuple[int, int] | None

    @property
    def keep_short(self) -> bool:
        """Whether every pass through the set ends with its own, possibly short, batch (see `batch_slice`)."""
        return self.kind == "labeled" or self.rhythm is not None

    def turn(self, step: int | Tensor) -> tuple:
        """Whether a step of the epoch has a batch of this part, and how many earlier steps of the epoch had one.

        In each cycle of `labeled + unlabeled` steps, step i, from 0, is labelled if i is a multiple of
        `(labeled + unlabeled) // labeled`, until all `labeled` batches of the cycle are used.
        """
        if self.rhythm is None:
            return True, step
        labeled, unlabeled = self.rhythm
        rounds, within = step // (labeled + unlabeled), step % (labeled + unlabeled)
        period = (labeled + unlabeled) // labeled
        is_labeled = (within % period == 0) & (within < labeled * period)
        before = rounds * labeled + _minimum((within + period - 1) // period, labeled)
        return is_labeled == (self.kind == "labeled"), before if self.kind == "labeled" else step - before

    def turns(self, steps: int) -> int:
        """Number of batches of this part in the first `steps` steps of an epoch."""
        return self.turn(steps)[1]

    def passes(self, size: int, steps: int) -> int:
        """Number of passes through a set of `size` images that an epoch of `steps` steps begins."""
        return passes_of_epoch(size, self.batch_size, self.turns(steps), self.keep_short)

    def slice(self, step: int | Tensor, size: int) -> tuple:
        """Position `(begin, end)` of a step's batch in the epoch's order; `(begin, begin)` for a step without one."""
        is_due, turn = self.turn(step)
        begin, end = batch_slice(turn, size, self.batch_size, self.keep_short)
        if self.rhythm is None:
            return begin, end
        return begin, begin + (end - begin) * (int(is_due) if isinstance(step, int) else ops.cast(is_due, end.dtype))


def epoch_order(seed: int, epoch: int | Tensor, size: int, passes: int, purpose: str, shuffle: bool = True) -> Tensor:
    """Makes the permutations in which an epoch uses a set, one for each pass through it.

    Args:
        seed: Seed of the order, an integer of at least 0.
        epoch: The epoch, counted from 0: an integer or an integer tensor.
        size: Number of images in the set, n.
        passes: Number of passes through the set, including an incomplete one.
        purpose: Name of the use of the set. Sets with different purposes have different orders.
        shuffle: `False`: every pass goes from the first image to the last.

    Returns:
        `int32` of shape `(passes, n)`; every row holds 0 to n - 1.
    """
    if not shuffle:
        return ops.tile(ops.arange(size, dtype="int32")[None], (passes, 1))
    numbers = keras.random.randint((passes, size), 0, 2**31 - 1, dtype="int32", seed=Stream(seed, epoch, purpose))
    return ops.cast(ops.argsort(numbers, axis=1), "int32")


def passes_of_epoch(size: int, batch_size: int, steps: int, keep_short: bool) -> int:
    """Number of passes through a set of `size` images that an epoch of `steps` batches begins (see `batch_slice`)."""
    if keep_short:
        return math.ceil(steps / math.ceil(size / batch_size))
    return math.ceil(steps * batch_size / size)


def batch_slice(step: int | Tensor, size: int, batch_size: int, keep_short: bool) -> tuple:
    """Position of a step's batch in the epoch's order, in which its passes follow each other.

    Args:
        step: The step within the epoch: an integer or an integer tensor.
        size: Number of images in the set.
        batch_size: Number of images in a full batch.
        keep_short: `True`: every pass ends with its own batch, which may be short. `False`: every batch is full and may
            continue from one pass into the next.

    Returns:
        Tuple `(begin, end)`, of the type of `step`.
    """
    if not keep_short:
        return step * batch_size, (step + 1) * batch_size
    batches = math.ceil(size / batch_size)
    first, begin = step // batches * size, step % batches * batch_size
    return first + begin, first + _minimum(begin + batch_size, size)


def _minimum(a, b):
    return min(a, b) if isinstance(a, int) else ops.minimum(a, b)
