"""Bounds of the KL-divergence of EXoN and CP-VAE, and its decomposition into information and distance."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import entr, logsumexp, rel_entr

from keras_ssvae.checks import check_whole_number, generator
from keras_ssvae.evaluation.inputs import own_components, posterior_arrays
from keras_ssvae.evaluation.metrics import kl_divergence
from keras_ssvae.priors import GaussianMixture

_BLOCK = 2**22  # pairs of a draw and an image whose densities are held in memory at once: about 100 MB


def kl_gaussian_bounds(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> tuple[float, float]:
    """A lower and an upper bound on `kl_gaussian`, the mean over x of the second part of equation (12) of EXoN.

    With r_kj(x) = sigma_kj^2(x) / s_kj^2 they are d/2 - sum_kj w_k/2 E[r_kj | y = k] and
    sum_kj w_k/2 E[1 / r_kj | y = k] - d/2. Here w_k = p(y = k), which is 1/K unless the prior has weights, and the
    expectations are means over the images of class k.

    EXoN's Theorem 1 assumes that w(y | x) is the true p(y | x), and that the posteriors of each class together have
    the mean and the variance of its prior. A trained model meets this only roughly. If the posteriors are nearly as
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
    """The four parts of the KL-divergence in equations (11) and (22) of EXoN, in nats.

    In the order of the attributes they are B2, C2, B1 and C1 of CP-VAE's Table 1. No part is negative, except by the
    error of estimation in the last two. `information_xy + kl_y` is `kl_categorical`, `information_xz + kl_z` is
    `kl_gaussian`, and the sum of all four is the KL-divergence of (23).

    Attributes:
        information_xy: I(x, y): the information of the class about the image, at most log K.
        kl_y: KL(w(y) || p(y)): the distance of the frequencies of the classes from their prior.
        information_xz: E[I(x, z | y)]: the information of the latent variable about the image, beyond that of the
            class. If the prior does not depend on the class: I(z, (x, y)), the information about image and class.
        kl_z: E[KL(q(z | y) || p(z | y))]: the distance of all images of a class together from its prior. If the prior
            does not depend on the class: KL(q(z) || p(z)).
        information_xz_standard_error: The standard error of `information_xz`, and also of `kl_z`, since their sum is
            exact. It is the error of the draws for these images, without the error of taking these images for others.
        information_xz_ceiling: log N - I(x, y), which I(x, z | y) cannot exceed for N images. If `information_xz` is
            close to it, z distinguishes these images, but the information about more images is unknown: what is missing
            in `information_xz` is then in `kl_z`. If the prior does not depend on the class, the ceiling is the entropy
            of image and class, or log N if the posterior of z does not depend on the class either.
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
    """Splits the KL-divergence, equation (23) of EXoN, into information about the image and distance from the prior.

    Expectations over x are means over the N images. So q(z | y = k) is a mixture of N Gaussians with the weights
    w(k | x), and I(x, z | y) has no closed form. It is estimated by the mean of log q(z | x, y) - log q(z | y) over
    independent draws of (x, y, z). The last part is the rest of the KL-divergence, which is known exactly.

    CP-VAE and INDq have a prior of z for each class, INDp and INDqp a single one. For INDp and INDqp, B1 + B2 in
    CP-VAE's Table 1 is too large by I_q(z, y), and C1 + C2 is too small by the same amount. This function is exact.

    Args:
        mean: Posterior means mu_k(x), shape (N, K, d).
        logvar: Logarithms of the posterior variances, shape (N, K, d).
        probs: Class probabilities w(y | x), shape (N, K).
        prior: The prior, with K classes in d dimensions; or with one component, which is the prior of z for every
            class; then the classes have the prior 1/K.
        draws: Number of draws, at least 2. The time is proportional to draws * N * d: 10,000 draws for 10,000 images
            take seconds if d = 2.
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
    draws = check_whole_number("draws", draws, 2)  # a single draw has no standard error
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)
    probs = probs.astype("float64")
    probs /= probs.sum(axis=1, keepdims=True)  # corrects rounding
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
    """log q(z | x, y) - log q(z), with the mixture q(z) of all posteriors, and the excess of its entropy over log N."""
    if all(np.array_equal(each, np.broadcast_to(each[:, :1], each.shape)) for each in (mean, logvar)):
        return _log_density_ratio(mean[:, 0], logvar[:, 0], np.ones(len(probs)), images, noise), 0.0
    rows, width = images * probs.shape[1] + classes, mean.shape[2]
    parts = mean.reshape(-1, width), logvar.reshape(-1, width), probs.ravel()
    return _log_density_ratio(*parts, rows, noise), float(entr(probs).sum(axis=1).mean())


def _log_density_ratio(mean, logvar, weights, images, noise):
    """log q(z | x, y) - log q(z | y) for one class y, at the z that noise (n, d) gives in the images' posteriors."""
    mean, logvar = mean.astype("float64"), logvar.astype("float64")
    z = mean[images] + np.exp(logvar[images] / 2) * noise
    # Both densities without their factor (2 pi)^(-d/2).
    own = -0.5 * (np.square(noise) + logvar[images]).sum(axis=1)
    # Images with almost no weight in the class are left out: they would not change the last digit.
    counts = weights > 1e-20 * weights.max()
    mean, logvar, weights = mean[counts], logvar[counts], weights[counts]
    # The square (z - mu)^2 / sigma^2 is expanded into matrix products. Relative to the class's centre this loses little
    # precision: about 1e-5 nats for a log-variance of -12.
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
