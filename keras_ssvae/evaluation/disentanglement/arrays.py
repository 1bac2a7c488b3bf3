"""Checks of latents and factors, and the order in which all scores see them."""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import is_integer


def checked(latents: ArrayLike, factors: ArrayLike, least_factors: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Checks latents and factors, and puts the images in an order of their own, so that draws are of the same images.

    The order is that of the factors; where these are the same, that of the latents.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        least_factors: How many factors the score needs.

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
            f"`factors` has {factors.shape[1]} columns; this score must have at least {least_factors}: it tells which "
            "factor is which."
        )
    factors = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    constant = np.flatnonzero(factors.max(axis=0) == 0).tolist()
    if constant:
        raise ValueError(
            f"`factors` has one and the same value throughout its columns {constant}, of which nothing can be learned; "
            "leave them out."
        )
    order = np.lexsort((*latents.T[::-1], *factors.T[::-1]))
    return latents[order], factors[order]


def standardized(latents: np.ndarray) -> np.ndarray:
    """The coordinates with mean 0 and standard deviation 1; constant ones are 0."""
    centred = latents - latents.mean(axis=0)
    return np.divide(centred, latents.std(axis=0), out=np.zeros_like(latents), where=np.ptp(latents, axis=0) > 0)


def at_least(name: str, value: int, least: int, reason: str) -> None:
    """Raises a ValueError where a number is too small, or no integer."""
    if not is_integer(value) or value < least:
        raise ValueError(f"`{name}` is {value!r}; it must be an integer of at least {least}, {reason}.")
