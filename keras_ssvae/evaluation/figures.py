"""Figures computed from the outputs of a model on a test set."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

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
    mean, logvar, probs = (np.asarray(array, dtype="float32") for array in (mean, logvar, probs))
    expected = (len(probs), *prior.means.shape)
    if not mean.shape == logvar.shape == expected or probs.shape != expected[:2]:
        raise ValueError(
            f"`mean`, `logvar` and `probs` have shapes {mean.shape}, {logvar.shape} and {probs.shape}; with this prior "
            f"they must be (examples, {prior.num_classes}, {prior.latent_dim}) twice and "
            f"(examples, {prior.num_classes})."
        )
    categorical, gaussian = mixture_kl(probs, mean, logvar, prior.means, prior.variances)
    return float(ops.convert_to_numpy(categorical + gaussian).mean(dtype="float64"))
