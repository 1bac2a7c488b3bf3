"""What the KL-divergence of EXoN and CP-VAE is made of: bounds of it, and its parts in terms of information."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp, rel_entr

from keras_ssvae.checks import check_whole_number, generator
from keras_ssvae.evaluation.inputs import own_components, posterior_arrays
from keras_ssvae.evaluation.metrics import kl_divergence
from keras_ssvae.priors import GaussianMixture

_BLOCK = 2**22  # pairs of a draw and an image whose densities are held at once: some 100 MB


def kl_gaussian_bounds(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> tuple[float, float]:
    """The lower and the upper bound on `kl_gaussian`, the mean over x of the second part of (12) of EXoN.

    With r_kj(x) = sigma_kj^2(x) / s_kj^2 they are d/2 - sum_kj w_k/2 E[r_kj | y = k] and
    sum_kj w_k/2 E[1 / r_kj | y = k] - d/2, where w_k = p(y = k), 1/K unless the prior has weights, and the expectations
    are means over the images of class k.
    EXoN's Theorem 1 assumes that w(y | x) is the true p(y | x), and that the posteriors of each class together have
    the mean and the variance of its prior. A trained model meets this only roughly. Where the posteriors are nearly as
    wide as the prior, the bounds are close to each other, and the KL-divergence can lie outside them: above the upper
    bound if a class is off its centre, below the lower bound if its posteriors together are narrower than the prior.

    Args:
        logvar: Logarithms of the posterior variances sigma_k^2(x), shape (N, K, d).
        labels: True classes, integers of shape (N,), with each of the K classes at least once.
        prior: The prior, with K classes in d dimensions.

    Returns:
        The lower and the upper bound, in nats per example.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or a class has no image.

    Example:

    ```python
    lower, upper = kl_gaussian_bounds(model.posterior(images)["logvar"], labels, model.class_prior)
    ```

    Reference: EXoN, Theorem 1.
    """
    own, labels = own_components(logvar, labels, prior)
    missing = sorted({*range(prior.num_classes)} - {*labels.tolist()})
    if missing:
        raise ValueError(f"`labels` hold no image of the classes {missing}; the bounds are means over every class.")
    log_ratio = own.astype("float64") - np.log(prior.variances.astype("float64"))[labels]
    # Each image of class k stands for w_k / (the number of its images).
    weight = 0.5 * (prior.probs / np.bincount(labels))[labels]
    half = prior.latent_dim / 2
    return float(half - weight @ np.exp(log_ratio).sum(axis=1)), float(weight @ np.exp(-log_ratio).sum(axis=1) - half)


class KLDecomposition(NamedTuple):
    """The four parts of the KL-divergence in (11) and (22) of EXoN, in nats: B2, C2, B1 and C1 of CP-VAE's Table 1.

    No part is negative, except for the error of estimation in the last two. `information_xy + kl_y` is
    `kl_categorical`, `information_xz + kl_z` is `kl_gaussian`, and the sum of all four is the KL-divergence of (23).

    Attributes:
        information_xy: I(x, y): what the class tells of an image, at most log K.
        kl_y: KL(w(y) || p(y)): how uneven the classes are in which the images fall.
        information_xz: E[I(x, z | y)]: what the latent variable tells of an image beyond its class. With a prior that
            does not depend on the class I(z, (x, y)): what it tells of the image and its class.
        kl_z: E[KL(q(z | y) || p(z | y))]: how far the images of a class together are from its prior. With a prior that
            does not depend on the class KL(q(z) || p(z)).
        information_xz_standard_error: The standard error of `information_xz`, and of `kl_z`: their sum is exact. It
            measures the error of the draws for these images, not the error of taking these images for all others.
        information_xz_ceiling: log N - I(x, y): with N images, I(x, z | y) cannot exceed it. An `information_xz` close
            to it says that z tells these images apart, but not how much z would tell about more images. What is then
            missing in `information_xz` is in `kl_z`. With a prior that does not depend on the class the ceiling is the
            entropy of image and class, or log N where z does not depend on the class in the posterior either.
    """

    information_xy: float
    kl_y: float
    information_xz: float
    kl_z: float
    information_xz_standard_error: float
    information_xz_ceiling: float


def kl_decomposition(
    mean: ArrayLike,
    logvar: ArrayLike,
    probs: ArrayLike,
    prior: GaussianMixture,
    draws: int = 10_000,
    seed: int = 0,
) -> KLDecomposition:
    """Splits the KL-divergence, (23) of EXoN, into information about the image and distance from the prior.

    Expectations over x are means over the N images, so q(z | y = k) is a mixture of N Gaussians with the weights
    w(k | x). It has no closed form: I(x, z | y) is the mean of log q(z | x, y) - log q(z | y) over independent draws of
    (x, y, z), and the last part is the rest of the KL-divergence, which is known exactly.

    CP-VAE and INDq have a prior of z for each class, INDp and INDqp a single one. For these CP-VAE's Table 1 has a sum
    of B1 and B2 that is too large by I_q(z, y), and one of C1 and C2 that is too small by it; here all is exact.

    Args:
        mean: Posterior means mu_k(x), shape (N, K, d).
        logvar: Logarithms of the posterior variances, shape (N, K, d).
        probs: Class probabilities w(y | x), shape (N, K).
        prior: The prior, with K classes in d dimensions; or with one, which z has whatever the class, and then the
            classes are equally likely.
        draws: How many draws, at least 2. The time grows with draws N d: 10,000 of each take seconds in the plane.
        seed: Seed of the draws.

    Returns:
        A `KLDecomposition`.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or there are fewer than 2 draws.

    Example:

    ```python
    parts = kl_decomposition(**model.posterior(images), prior=model.class_prior)
    ```

    Reference: EXoN, equations (11) and (22); CP-VAE, (17), (20) and Table 1.
    """
    classes = np.shape(probs)[1] if np.ndim(probs) == 2 else 1
    shared = prior.num_classes == 1 < classes
    if shared:
        prior = GaussianMixture(*(np.repeat(each, classes, axis=0) for each in (prior.means, prior.variances)))
    total = kl_divergence(mean, logvar, probs, prior)
    draws = check_whole_number("draws", draws, 2)  # of one there is no standard error
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)
    probs = probs.astype("float64")
    probs /= probs.sum(axis=1, keepdims=True)  # to the last digit
    marginal = probs.mean(axis=0)
    information_xy = float(rel_entr(probs, marginal).sum(axis=1).mean())
    kl_y = float(rel_entr(marginal, prior.probs).sum())

    rng = generator(seed)
    images = rng.integers(len(probs), size=draws)
    drawn_classes = (probs[images].cumsum(axis=1) > rng.random((draws, 1))).argmax(axis=1)
    noise = rng.standard_normal((draws, prior.latent_dim))
    ceiling = float(np.log(len(probs)))
    if shared:
        gain, beyond = _shared_log_density_ratio(mean, logvar, probs, images, drawn_classes, noise)
        ceiling += beyond
    else:
        ceiling -= information_xy
        gain = np.empty(draws)
        for k in np.unique(drawn_classes):
            drawn = drawn_classes == k
            gain[drawn] = _log_density_ratio(mean[:, k], logvar[:, k], probs[:, k], images[drawn], noise[drawn])
    information_xz = float(gain.mean())
    return KLDecomposition(
        information_xy,
        kl_y,
        information_xz,
        total - information_xy - kl_y - information_xz,
        float(gain.std(ddof=1) / np.sqrt(draws)),
        ceiling,
    )


def _shared_log_density_ratio(mean, logvar, probs, images, classes, noise):
    """log q(z | x, y) - log q(z), of one mixture of all posteriors, and by how much its entropy is above log N."""
    if all(np.array_equal(each, np.broadcast_to(each[:, :1], each.shape)) for each in (mean, logvar)):
        return _log_density_ratio(mean[:, 0], logvar[:, 0], np.ones(len(probs)), images, noise), 0.0
    rows, width = images * probs.shape[1] + classes, mean.shape[2]
    parts = mean.reshape(-1, width), logvar.reshape(-1, width), probs.ravel()
    return _log_density_ratio(*parts, rows, noise), float(entr(probs).sum(axis=1).mean())


def _log_density_ratio(mean, logvar, weights, images, noise):
    """log q(z | x, y) - log q(z | y) for the z that the noise (n, d) gives in the posteriors of images: one class."""
    mean, logvar = mean.astype("float64"), logvar.astype("float64")
    z = mean[images] + np.exp(logvar[images] / 2) * noise
    # Both densities without their factor (2 pi)^(-d/2).
    own = -0.5 * (np.square(noise) + logvar[images]).sum(axis=1)
    # Only these images have any weight in the class; what the others would add is below the last digit.
    counts = weights > 1e-20 * weights.max()
    mean, logvar, weights = mean[counts], logvar[counts], weights[counts]
    # The square (z - mu)^2 / sigma^2 is multiplied out, as matrix products. Around the class's centre it loses little:
    # with a log-variance of -12 some 1e-5 nats.
    centre = np.average(mean, axis=0, weights=weights)
    mean, z = mean - centre, z - centre
    precision = np.exp(-logvar)
    constant = np.log(weights / weights.sum()) - 0.5 * (logvar + np.square(mean) * precision).sum(axis=1)
    mixture = np.empty(len(z))
    step = max(1, _BLOCK // len(mean))
    for start in range(0, len(z), step):
        part = z[start : start + step]
        log_densities = part @ (mean * precision).T - 0.5 * np.square(part) @ precision.T + constant
        mixture[start : start + step] = logsumexp(log_densities, axis=1)
    return own - mixture
