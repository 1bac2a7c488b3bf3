"""The named terms of the objectives, as pure functions. All are to be minimised, in nats per example, not negative.

They sum over pixels and classes, not over the batch.
"""

import math

import numpy as np
from keras import ops

from keras_ssvae.backend import clipped_cross_entropy
from keras_ssvae.distributions import Tensor, log_probs


def reconstruction(images: Tensor, reconstructed: Tensor) -> Tensor:
    """Half the squared error, summed over pixels: `||x - D(z)||^2 / 2`.

    This is the negative log-likelihood of `N(D(z), beta I)`, times beta and without its constant (EXoN, equation (3)).

    Args:
        images: `(B, ...)`, pixels in [-1, 1].
        reconstructed: `(B, ...)`, of the same shape.

    Returns:
        `(B,)`.
    """
    return 0.5 * _sum_over_pixels(ops.square(images - reconstructed))


def binary_cross_entropy(images: Tensor, logits: Tensor, floor: float = 0.0) -> Tensor:
    """Cross entropy of Bernoulli pixels, summed over pixels: `-sum (x log p + (1 - x) log(1 - p))`.

    Args:
        images: `(B, ...)`, pixels in [0, 1].
        logits: Logits of p, `(B, ...)`, of the same shape.
        floor: p is clipped to `[floor, 1 - floor]`; its gradient is 0 where it was clipped.

    Returns:
        `(B,)`.
    """
    if not floor:
        return _sum_over_pixels(ops.softplus(logits) - images * logits)
    low = math.log(floor / (1.0 - floor))
    # VampPrior's code clips float32 probabilities, and float32 rounds 1 - 1e-5.
    highest = float(np.float32(1.0 - floor))
    high = math.log(highest / (1.0 - highest)) if highest < 1.0 else -low
    return _sum_over_pixels(clipped_cross_entropy(images, logits, low, high))


def absolute_error(images: Tensor, reconstructed: Tensor) -> Tensor:
    """The absolute error, summed over pixels: `||x - D(z)||_1`.

    Args:
        images: `(B, ...)`.
        reconstructed: `(B, ...)`, of the same shape and in the same range.

    Returns:
        `(B,)`.
    """
    return _sum_over_pixels(ops.abs(images - reconstructed))


def discretized_logistic(images: Tensor, mean: Tensor, log_scale: Tensor, num_bins: int = 256) -> Tensor:
    """The negative log probability of the bins `[b, b + 1 / num_bins)` of logistic pixels, summed over pixels.

    Args:
        images: `(B, ...)`, pixels in [0, 1]; 1 lies in the last bin.
        mean: Mean of the logistic distribution, `(B, ...)`, of the same shape.
        log_scale: Logarithm of its scale, of the same shape.
        num_bins: Number of bins of [0, 1].

    Returns:
        `(B,)`. The probability of each bin is raised by 1e-7, so that its logarithm is finite.
    """
    begin = ops.clip(ops.floor(images * num_bins), 0.0, num_bins - 1.0) / num_bins
    ends = ((edge - mean) / ops.exp(log_scale) for edge in (begin + 1.0 / num_bins, begin))
    above, below = (ops.sigmoid(end) for end in ends)
    return -_sum_over_pixels(ops.log(above - below + 1e-7))


def cross_entropy(labels: Tensor, probs: Tensor) -> Tensor:
    """Cross entropy `H(labels, probs)` with the logarithm clipped as in `distributions.log_probs`.

    Args:
        labels: One-hot or soft labels, `(B, K)`.
        probs: Predicted probabilities, `(B, K)`.

    Returns:
        `(B,)`.
    """
    return -ops.sum(labels * log_probs(probs), axis=-1)


def mix(values: Tensor, partners: Tensor, weight: Tensor) -> Tensor:
    """Interpolates a batch with a permutation of itself: `weight * values[partners] + (1 - weight) * values`.

    Args:
        values: `(B, ...)`.
        partners: A permutation of `0 .. B - 1`, integers `(B,)`.
        weight: The mixing weight rho in [0, 1], one number for the batch.

    Returns:
        `(B, ...)`.
    """
    return weight * ops.take(values, partners, axis=0) + (1.0 - weight) * values


def sci(labels: Tensor, partner_labels: Tensor, mixed_probs: Tensor, weight: Tensor) -> Tensor:
    """Soft-label consistency interpolation: `rho H(t_partner, f(x_mixed)) + (1 - rho) H(t, f(x_mixed))`.

    Args:
        labels: True labels (one-hot) or pseudo-labels `t`, `(B, K)`.
        partner_labels: Labels or pseudo-labels of the partners, `(B, K)`.
        mixed_probs: Class probabilities of the mixed images `mix(images, partners, weight)`, `(B, K)`.
        weight: The mixing weight rho, one number for the batch.

    Returns:
        `(B,)`.

    Reference:
        EXoN, equation (7). The cross entropy is linear in the labels, so mixing the labels first gives the same.
    """
    return cross_entropy(weight * partner_labels + (1.0 - weight) * labels, mixed_probs)


def _sum_over_pixels(values):
    return ops.sum(values, axis=tuple(range(1, len(values.shape))))
