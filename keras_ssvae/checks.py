"""What an integer is, in one place: Python's and NumPy's are, booleans are not. And where a warning points to."""

import inspect
import numbers
import warnings
from typing import TypeGuard

import numpy as np


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy, and no boolean."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole_number(name: str, value: object, minimum: int) -> int:
    """Returns the argument `name` as Python's integer; a `ValueError` unless it is one of at least `minimum`."""
    if not is_integer(value) or value < minimum:
        raise ValueError(f"`{name}` is {value!r}. It must be an integer of at least {minimum}.")
    return int(value)


def generator(seed: object) -> np.random.Generator:
    """NumPy's generator of random numbers, of a `seed` that is an integer of at least 0."""
    return np.random.default_rng(check_whole_number("seed", seed, 0))


def warn_caller(sentence: str) -> None:
    """A `UserWarning` that points to the line from which this library, by way of Keras or not, was called."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("keras_ssvae", "keras"):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)
