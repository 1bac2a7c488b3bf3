"""Metrics computed from a model's outputs on a test set."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from keras_ssvae.evaluation.inputs import own_components, posterior_arrays
from keras_ssvae.models.labels import Labels
from keras_ssvae.priors import GaussianMixture


def classification_error(probs: ArrayLike, labels: ArrayLike) -> float:
    """The classification error: the share of examples whose most probable class is not their label.

    Args:
        probs: Class probabilities w(y | x), shape (N, K).
        labels: True classes, integers of shape (N,).

    Returns:
        The error in percent.

    Raises:
        ValueError: If a shape or a label is wrong, or there is no example.

    Example:

    ```python
    classification_error([[0.9, 0.1], [0.8, 0.2]], [0, 1])  # 50.0
    ```

    Reference: equation (25) of EXoN.
    """
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.size == 0:
        raise ValueError(f"`probs` has shape {probs.shape}; it must be (examples, classes).")
    labels = Labels(probs.shape[1]).check("labels", labels, len(probs))
    return float(100.0 * np.mean(probs.argmax(axis=1) != labels))


def kl_divergence(mean: ArrayLike, logvar: ArrayLike, probs: ArrayLike, prior: GaussianMixture) -> float:
    """The KL-divergence of EXoN's Table 3: an upper bound on KL(q(z | x) || p(z)), averaged over the examples.

    It is the sum of `kl_categorical`, KL(w(y | x) || p(y)), and `kl_gaussian`, the components' KL weighted by
    w(y | x).

    Args:
        mean: Posterior means mu_k(x), shape (N, K, d).
        logvar: Logarithms of the posterior variances, shape (N, K, d).
        probs: Class probabilities w(y | x), shape (N, K).
        prior: The prior, with K classes in d dimensions.

    Returns:
        Nats per example.

    Raises:
        ValueError: If the shapes do not fit each other and the prior.

    Example:

    ```python
    posterior = model.posterior(images)  # of an `EXoN`: mean, logvar and probs
    kl_divergence(**posterior, prior=model.class_prior)
    ```

    Reference: equation (23) of EXoN.
    """
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)
    categorical, gaussian = prior.categorical_kl(probs), prior.kl(probs, mean, logvar)
    return float(ops.convert_to_numpy(categorical + gaussian).mean(dtype="float64"))


def v_nat(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> np.ndarray:
    """V-nat of each class and coordinate: how much narrower than the prior the posteriors of the class's images are.

    V-nat_kj is the logarithm of the mean of s_kj^2 / sigma_kj^2(x) over the images of class k. It is 0 if the posterior
    has the variance of the prior, so that the coordinate says nothing about the image. It is large if the posterior is
    nearly a point. Only the component of the image's own class is used.

    Args:
        logvar: Logarithms of the posterior variances sigma_k^2(x), shape (N, K, d).
        labels: True classes, integers of shape (N,).
        prior: The prior, with K classes in d dimensions.

    Returns:
        Nats, float64 of shape (K, d); NaN for a class without images.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or a label is out of range.

    Example:

    ```python
    values = v_nat(model.posterior(images)["logvar"], labels, model.class_prior)
    ```

    Reference: EXoN, Section 3.4, after Theorem 1.
    """
    own, labels = own_components(logvar, labels, prior)
    values = np.full(prior.means.shape, np.nan)
    for k in np.unique(labels):
        of_class = own[labels == k].astype("float64")
        mean_precision = logsumexp(-of_class, axis=0) - np.log(len(of_class))
        values[k] = np.log(prior.variances[k].astype("float64")) + mean_precision
    return values


def activated(v_nat: ArrayLike, delta: float = 1.0) -> np.ndarray:
    """The activated latent subspace: the coordinates whose V-nat is above delta.

    Args:
        v_nat: V-nat of any shape, such as the (K, d) of `v_nat`.
        delta: The threshold in nats.

    Returns:
        Booleans of the same shape; False where V-nat is NaN.

    Example:

    ```python
    counts = activated(v_nat(logvar, labels, model.class_prior)).sum(axis=1)  # EXoN's |A_k(1)|
    ```

    Reference: EXoN, Section 3.4, the set A_k(delta).
    """
    return np.asarray(v_nat, dtype="float64") > delta


def changes(images: ArrayLike) -> np.ndarray:
    """The root mean squared difference between each image of a series and the one before.

    Use it to compare decoded paths between the same two images. A path that changes more evenly has a smaller maximum
    and a smaller mean square of the changes. A path with a detour has a larger mean.

    Args:
        images: The series, shape (n, H, W, C), n at least 2.

    Returns:
        The n - 1 changes, float64, in the unit of the pixels: at most 2 for pixels in [-1, 1].

    Raises:
        ValueError: If the images have another shape.

    Example:

    ```python
    z = np.linspace([-10, 0], [10, 0], 11)
    print(changes(model.decode(z)).mean())
    ```

    Reference: EXoN, Figure 6.
    """
    images = np.asarray(images, dtype="float64")
    if images.ndim != 4 or len(images) < 2 or images.size == 0:
        raise ValueError(f"`images` has shape {images.shape}; it must be at least 2 images, (n, H, W, channels).")
    return np.sqrt(np.square(np.diff(images, axis=0)).mean(axis=(1, 2, 3)))
