"""Checks of numbers, switches and lists among the arguments, and warnings that point to the caller's line."""

import inspect
import math
import numbers
import warnings
from typing import Any, TypeGuard

import numpy as np


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer of Python or NumPy. Booleans are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_whole_number(name: str, value: object, minimum: int) -> int:
    """Returns an argument as a Python integer; a `ValueError` if it is no integer of at least `minimum`."""
    if not is_integer(value) or value < minimum:
        raise ValueError(f"`{name}` is {value!r}. It must be an integer of at least {minimum}.")
    return int(value)


def check_switch(name: str, value: object) -> None:
    """Raises a `ValueError` unless an argument is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"`{name}` is {value!r}; it must be True or False.")


def is_listed(names: Any) -> bool:
    """Whether names are given as a list or the like, not as one string."""
    return np.iterable(names) and not isinstance(names, str)


def is_finite_number(value: object, minimum: float = 0.0) -> bool:
    """Whether a value is a finite number of at least `minimum`. Booleans are no numbers."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return is_number and minimum <= value < math.inf  # type: ignore[operator]


def generator(seed: object) -> np.random.Generator:
    """Returns NumPy's random generator for an integer `seed` of at least 0."""
    return np.random.default_rng(check_whole_number("seed", seed, 0))


def warn_caller(sentence: str) -> None:
    """Issues a `UserWarning` that points to the user's line, which called this library directly or through Keras."""
    level, frame = 1, inspect.currentframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] in ("keras_ssvae", "keras"):
        level, frame = level + 1, frame.f_back
    warnings.warn(sentence, UserWarning, stacklevel=level)
