"""Checks of latents and factors, and a fixed order of the images for all scores."""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import is_integer


def checked(latents: ArrayLike, factors: ArrayLike, least_factors: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Checks latents and factors, and sorts the images, so that draws do not depend on their order.

    They are sorted by the factors, and images with equal factors by the latents.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        least_factors: Smallest number of factors that the score needs.

    Returns:
        The latents as float64, and the factors as int64 with the values 0, ..., K-1 of each.

    Raises:
        ValueError: If a shape or a dtype is wrong, a latent is not finite, or a factor has one value.
    """
    latents, factors = np.asarray(latents, dtype="float64"), np.asarray(factors)
    if latents.ndim != 2 or latents.size == 0:
        raise ValueError(f"`latents` has shape {latents.shape}; it must be (images, coordinates).")
    if not np.isfinite(latents).all():
        raise ValueError(f"`latents` holds {(~np.isfinite(latents)).sum()} numbers that are NaN or infinite.")
    if factors.ndim != 2 or len(factors) != len(latents) or not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(
            f"`factors` has shape {factors.shape} and dtype {factors.dtype}; it must be integers of shape "
            f"({len(latents)}, factors), one row for each image of `latents`."
        )
    if factors.shape[1] < least_factors:
        raise ValueError(
            f"`factors` has {factors.shape[1]} columns; this score needs at least {least_factors}, because it measures "
            "how well factors are told apart."
        )
    factors = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    constant = np.flatnonzero(factors.max(axis=0) == 0).tolist()
    if constant:
        raise ValueError(
            f"`factors` has one value only in each of its columns {constant}, so there is nothing to predict. Leave "
            "these columns out."
        )
    order = np.lexsort((*latents.T[::-1], *factors.T[::-1]))
    return latents[order], factors[order]


def standardized(latents: np.ndarray) -> np.ndarray:
    """Scales the coordinates to mean 0 and standard deviation 1. Constant ones become 0."""
    centred = latents - latents.mean(axis=0)
    return np.divide(centred, latents.std(axis=0), out=np.zeros_like(latents), where=np.ptp(latents, axis=0) > 0)


def at_least(name: str, value: int, least: int, reason: str) -> None:
    """Raises a `ValueError` if a number is too small or no integer."""
    if not is_integer(value) or value < least:
        raise ValueError(f"`{name}` is {value!r}; it must be an integer of at least {least}, {reason}.")
