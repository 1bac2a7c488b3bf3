"""Figures computed from the outputs of a model on a test set."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike
from scipy.special import logsumexp

from keras_ssvae.distributions import mixture_kl
from keras_ssvae.evaluation.inputs import check_labels
from keras_ssvae.priors import GaussianMixture


def classification_error(probs: ArrayLike, labels: ArrayLike) -> float:
    """The share of examples whose most probable class is not their label.

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

    Reference: the paper's equation (25).
    """
    probs = np.asarray(probs)
    if probs.ndim != 2 or probs.size == 0:
        raise ValueError(f"`probs` has shape {probs.shape}; it must be (examples, classes).")
    labels = check_labels(labels, *probs.shape)
    return float(100.0 * np.mean(probs.argmax(axis=1) != labels))


def kl_divergence(mean: ArrayLike, logvar: ArrayLike, probs: ArrayLike, prior: GaussianMixture) -> float:
    """The upper bound on KL(q(z | x) || p(z)), averaged over the examples: Table 3's KL-divergence.

    It is the sum of `kl_categorical`, KL(w(y | x) || uniform), and `kl_gaussian`, the components' KL weighted by
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
    mean, logvar, probs = model.posterior(images)
    kl_divergence(mean, logvar, probs, model.prior)
    ```

    Reference: the paper's equation (23).
    """
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)
    categorical, gaussian = mixture_kl(probs, mean, logvar, prior.means, prior.variances)
    return float(ops.convert_to_numpy(categorical + gaussian).mean(dtype="float64"))


def v_nat(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> np.ndarray:
    """V-nat of each class and coordinate: how much narrower than the prior the posterior of the class's images is.

    V-nat_kj = log of the mean, over the images of class k, of s_kj^2 / sigma_kj^2(x): 0 where the posterior has the
    prior's variance and tells nothing of the image, large where it is nearly a point. Only the class's own component
    counts.

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
    _, logvar, _ = model.posterior(images)
    values = v_nat(logvar, labels, model.prior)
    ```

    Reference: the paper's Section 3.4, after Theorem 1.
    """
    own, labels = own_components(logvar, labels, prior)
    values = np.full(prior.means.shape, np.nan)
    for k in np.unique(labels):
        of_class = own[labels == k].astype("float64")
        mean_precision = logsumexp(-of_class, axis=0) - np.log(len(of_class))
        values[k] = np.log(prior.variances[k].astype("float64")) + mean_precision
    return values


def activated(v_nat: ArrayLike, delta: float = 1.0) -> np.ndarray:
    """The activated latent subspace: which coordinates have a V-nat above delta.

    Args:
        v_nat: V-nat of any shape, as `v_nat` gives it: (K, d).
        delta: The threshold in nats.

    Returns:
        Booleans of the same shape; False where V-nat is NaN.

    Example:

    ```python
    counts = activated(v_nat(logvar, labels, model.prior)).sum(axis=1)  # the paper's |A_k(1)|
    ```

    Reference: the paper's Section 3.4, the set A_k(delta).
    """
    return np.asarray(v_nat, dtype="float64") > delta


def mean_change(images: ArrayLike) -> float:
    """How much neighbouring images of a series differ: the root of their mean squared difference, averaged over pairs.

    It puts a number to what a decoded path shows. The more evenly a path goes from one image to another, and the less
    it goes astray, the smaller it is.

    Args:
        images: The series, shape (n, H, W, C), n at least 2.

    Returns:
        The mean change, in the unit of the pixels: for pixels in [-1, 1] at most 2.

    Raises:
        ValueError: If the images have another shape.

    Example:

    ```python
    z = np.linspace([-10, 0], [10, 0], 11)
    mean_change(model.decode(z))
    ```

    Reference: the paper's Figure 6.
    """
    images = np.asarray(images, dtype="float64")
    if images.ndim != 4 or len(images) < 2 or images.size == 0:
        raise ValueError(f"`images` has shape {images.shape}; it must be at least 2 images, (n, H, W, channels).")
    return float(np.sqrt(np.square(np.diff(images, axis=0)).mean(axis=(1, 2, 3))).mean())


def posterior_arrays(
    mean: ArrayLike, logvar: ArrayLike, probs: ArrayLike, prior: GaussianMixture
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parameters of posteriors, (N, K, d) twice and (N, K), as float32 arrays.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or there is no example.
    """
    mean, logvar, probs = (np.asarray(array, dtype="float32") for array in (mean, logvar, probs))
    expected = (len(probs), *prior.means.shape) if probs.ndim and len(probs) else None
    if not mean.shape == logvar.shape == expected or probs.shape != expected[:2]:
        raise ValueError(
            f"`mean`, `logvar` and `probs` have shapes {mean.shape}, {logvar.shape} and {probs.shape}; with this prior "
            f"they must be (examples, {prior.num_classes}, {prior.latent_dim}) twice and "
            f"(examples, {prior.num_classes})."
        )
    return mean, logvar, probs


def own_components(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> tuple[np.ndarray, np.ndarray]:
    """The log-variances (N, d) of each image in the component of its own class, and the labels as integers.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or a label is out of range.
    """
    logvar = np.asarray(logvar)
    if logvar.ndim != 3 or logvar.size == 0 or logvar.shape[1:] != prior.means.shape:
        raise ValueError(
            f"`logvar` has shape {logvar.shape}; with this prior it must be (examples, {prior.num_classes}, "
            f"{prior.latent_dim})."
        )
    labels = check_labels(labels, len(logvar), prior.num_classes)
    return logvar[np.arange(len(labels)), labels], labels
