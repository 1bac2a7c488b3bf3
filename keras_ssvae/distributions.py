"""Log densities, Kullback-Leibler divergences and reparameterised samples.

Pure functions of tensors, in nats per example. Shapes: `B` examples, `K` mixture components, `d` latent dimensions.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

Tensor = Any

# EXoN's code clips probabilities at this value, inside logarithms only. Below it the gradient is 0.
PROBABILITY_FLOOR = 1e-10


def as_floatx(x: Tensor) -> Tensor:
    """Casts outputs of a network to `keras.config.floatx()`, the precision of all sums and logarithms."""
    return ops.cast(x, keras.config.floatx())


def blocks(values: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Cuts the last axis into pieces of the given sizes. Raises ValueError if it has more or fewer entries."""
    if values.shape[-1] not in (None, sum(sizes)):
        raise ValueError(
            f"An array has shape {tuple(values.shape)}; its last axis must have {sum(sizes)} entries, of parts of "
            f"{[*sizes]}."
        )
    ends = itertools.accumulate(sizes)
    return [values[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


def log_probs(probs: Tensor) -> Tensor:
    """The logarithm of probabilities, which are clipped to `[1e-10, 1]` as in EXoN's code.

    Args:
        probs: Probabilities, any shape.

    Returns:
        Their logarithms (nats), at least -23.03. The gradient is 0 where a probability was clipped.
    """
    return ops.log(ops.clip(probs, PROBABILITY_FLOOR, 1.0))


def gaussian_log_prob(z: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """`log N(z; mean, exp(logvar))` of diagonal Gaussians, with all constants.

    Args:
        z: Points, `(..., d)`.
        mean: Means, broadcastable to `(..., d)`.
        logvar: Log-variances, broadcastable to `(..., d)`.

    Returns:
        The log density (nats), summed over the last axis: `(...)`.

    Example:
        >>> gaussian_log_prob(ops.zeros((1, 2)), 0.0, ops.zeros((2,)))  # -log(2 pi)
    """
    squared = ops.square(z - mean) / ops.exp(logvar)
    return -0.5 * ops.sum(math.log(2.0 * math.pi) + logvar + squared, axis=-1)


def mixture_log_prob(z: Tensor, log_weights: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
    """`log sum_k w_k N(z; mean_k, exp(logvar_k))`, with all constants; each example has its own mixture.

    Args:
        z: S points for each example, `(B, S, d)`.
        log_weights: Logarithms of the weights, `(B, K)`.
        mean: Means of the components, `(B, K, d)`.
        logvar: Log-variances of the components, `(B, K, d)`.

    Returns:
        `(B, S)`, in nats.
    """
    components = gaussian_log_prob(z[:, :, None], mean[:, None], logvar[:, None])
    return ops.logsumexp(components + log_weights[:, None], axis=-1)


def gaussian_kl(mean: Tensor, logvar: Tensor, prior_mean: Tensor, prior_variance: Tensor) -> Tensor:
    """`KL(N(mean, exp(logvar)) || N(prior_mean, prior_variance))` of diagonal Gaussians.

    Args:
        mean: Means, `(..., d)`.
        logvar: Log-variances, `(..., d)`.
        prior_mean: Means of the prior, broadcastable to `(..., d)`.
        prior_variance: Variances (not logarithms) of the prior, broadcastable to `(..., d)`.

    Returns:
        The divergence (nats, not negative), summed over the last axis: `(...)`.

    Example:
        >>> gaussian_kl(ops.zeros((1, 2)), ops.zeros((1, 2)), 0.0, 1.0)  # the same distribution: 0 nats
    """
    squared = (ops.square(mean - prior_mean) + ops.exp(logvar)) / prior_variance
    return 0.5 * ops.sum(squared + ops.log(prior_variance) - logvar - 1.0, axis=-1)


def categorical_kl_from_uniform(probs: Tensor) -> Tensor:
    """`KL(w || uniform)` of a categorical distribution over K classes: `sum_k w_k (log w_k + log K)`.

    Args:
        probs: Probabilities `w`, `(..., K)`.

    Returns:
        The divergence (nats, between 0 and log K): `(...)`.
    """
    num_classes = ops.cast(ops.shape(probs)[-1], probs.dtype)
    return ops.sum(probs * (log_probs(probs) + ops.log(num_classes)), axis=-1)


def bhattacharyya_coefficients(means: Tensor, variances: Tensor) -> Tensor:
    """The overlap of each pair of diagonal Gaussians: the integral of `sqrt(p_k(z) p_l(z))` over z.

    Args:
        means: Means of the K Gaussians, `(K, d)`.
        variances: Their variances, `(K, d)`.

    Returns:
        A symmetric matrix `(K, K)` of values between 0 and 1, with exactly 1 on the diagonal.

    Reference:
        Bhattacharyya, On a measure of divergence between two statistical populations, 1943; PartedVAE, Appendix A.1.
    """
    total = variances[:, None] + variances[None]
    # For equal variances the quotients are exactly 1/2, so the logarithm is exactly 0.
    shares = 4.0 * (variances[:, None] / total) * (variances[None] / total)
    distances = ops.square(means[:, None] - means[None]) / total
    return ops.exp(0.25 * ops.sum(ops.log(shares) - distances, axis=-1))


def sample_gaussian(mean: Tensor, logvar: Tensor, epsilon: Tensor) -> Tensor:
    """The reparameterised sample `mean + exp(logvar / 2) * epsilon`; all arguments have the same shape."""
    return mean + ops.exp(0.5 * logvar) * epsilon


def sample_mixture(log_weights: Tensor, mean: Tensor, logvar: Tensor, gumbel: Tensor, epsilon: Tensor) -> Tensor:
    """Draws S samples for each example from its own mixture. The Gumbel-max trick draws the components.

    Args:
        log_weights: Logarithms of the weights, `(B, K)`.
        mean: Means of the components, `(B, K, d)`.
        logvar: Log-variances of the components, `(B, K, d)`.
        gumbel: Standard Gumbel noise, `(B, S, K)`.
        epsilon: Standard normal noise, `(B, S, d)`.

    Returns:
        `(B, S, d)`, without a gradient to the weights.
    """
    component = ops.argmax(log_weights[:, None] + gumbel, axis=-1)
    mean, logvar = (of_components(values, component) for values in (mean, logvar))
    return sample_gaussian(mean, logvar, epsilon)


def of_components(values: Tensor, components: Tensor) -> Tensor:
    """Selects the parameters of given components.

    Args:
        values: Parameters of all components, `(B, K, d)`.
        components: S components for each example, integers `(B, S)`.

    Returns:
        `(B, S, d)`.
    """
    return ops.take_along_axis(values, components[:, :, None], axis=1)


def straight_through_one_hot(logits: Tensor) -> Tensor:
    """Returns the one-hot vector of the largest logit, and passes the gradient unchanged to the logits.

    With Gumbel noise in the logits the result is an exact categorical sample (the Gumbel-max trick). As in EXoN's code,
    the gradient is that of the logits themselves, not of their softmax.

    Args:
        logits: Perturbed logits, `(..., K)`.

    Returns:
        One-hot vectors, `(..., K)`.
    """
    hard = ops.one_hot(ops.argmax(logits, axis=-1), ops.shape(logits)[-1], dtype=logits.dtype)
    return hard + (logits - ops.stop_gradient(logits))


def sample_gumbel(shape: tuple, seed: keras.random.SeedGenerator) -> Tensor:
    """Standard Gumbel noise. It is finite, since the uniform numbers keep a distance from 0 and 1."""
    return -ops.log(-ops.log(keras.random.uniform(shape, minval=1e-7, maxval=1.0 - 1e-7, seed=seed)))


def gumbel_of_uniform(uniform: Tensor, floor: float) -> Tensor:
    """Gumbel noise from uniform numbers u in [0, 1]: `-log(-log(u + floor) + floor)`, which is finite at both ends."""
    return -ops.log(-ops.log(uniform + floor) + floor)


# An attempt fails with a probability below 5 %, so all sixteen fail less than once in 10^20 times.
_GAMMA_ATTEMPTS = 16


def _sample_log_gamma(concentration: float, seed: keras.random.SeedGenerator) -> Tensor:
    """The logarithm of a Gamma(concentration) number (scalar), by Marsaglia and Tsang's method.

    All attempts are drawn at once, and the first accepted one is used. Without a loop, every compiler accepts it.
    """
    d = concentration + 1.0 - 1.0 / 3.0
    normal = keras.random.normal((_GAMMA_ATTEMPTS,), seed=seed)
    uniform = keras.random.uniform((_GAMMA_ATTEMPTS + 1,), minval=1e-30, seed=seed)
    v = ops.maximum(1.0 + normal / (9.0 * d) ** 0.5, 1e-10) ** 3
    accepted = ops.log(uniform[1:]) < 0.5 * normal**2 + d * (1.0 - v + ops.log(v))
    log_gamma_plus_one = ops.log(d * v[ops.argmax(ops.cast(accepted, "int32"))])
    return log_gamma_plus_one + ops.log(uniform[0]) / concentration


def sample_beta(alpha: float, beta: float, seed: keras.random.SeedGenerator) -> Tensor:
    """Draws one number from Beta(alpha, beta), exactly, also for concentrations far below 1.

    `keras.random.beta` does not compile under XLA on a CPU. This function does, on every backend.

    Args:
        alpha: First concentration, positive.
        beta: Second concentration, positive.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        A scalar in [0, 1].

    Example:
        >>> mixing_weight = sample_beta(0.1, 0.1, keras.random.SeedGenerator(1))
    """
    return ops.sigmoid(_sample_log_gamma(alpha, seed) - _sample_log_gamma(beta, seed))
