"""The priors of EXoN's experiments."""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.priors.mixture import GaussianMixture

PAPER_VARIANCE = 4.0
PAPER_DISTANCE = 8.0  # four standard deviations of PAPER_VARIANCE between the centres of neighbours


def circle(num_classes: int = 10, variance: ArrayLike = PAPER_VARIANCE, radius: float | None = None) -> GaussianMixture:
    """Places the classes counterclockwise on a circle in the plane: EXoN's prior for MNIST.

    Class k = 0, ..., K-1 has its centre at the angle (2k + 1) pi / K, so class 0 is just above 3 o'clock. Without
    `radius`, neighbouring centres are 8 apart, four standard deviations of the default variance: r = 4 / sin(pi / K).

    Args:
        num_classes: K, at least 2.
        variance: The variance of each dimension: a scalar, (2,) or (K, 2).
        radius: The distance of the centres from the origin, positive.

    Returns:
        A `GaussianMixture` with d = 2.

    Raises:
        ValueError: If there are fewer than 2 classes, or the radius is not positive.

    Example:

    ```python
    prior = circle(10)  # Figure 1 of EXoN
    ```

    Reference: EXoN, Appendix A.4.
    """
    num_classes = check_whole_number("num_classes", num_classes, 2)
    if radius is None:
        radius = PAPER_DISTANCE / 2 / np.sin(np.pi / num_classes)
    elif not radius > 0:
        raise ValueError(f"`radius` is {radius}; it must be positive.")
    angles = (2 * np.arange(num_classes) + 1) * np.pi / num_classes
    return GaussianMixture(radius * np.stack([np.cos(angles), np.sin(angles)], axis=1), variance)


def line(
    num_classes: int = 2, distance: float = PAPER_DISTANCE, variance: ArrayLike = PAPER_VARIANCE, latent_dim: int = 2
) -> GaussianMixture:
    """Places the classes on the first axis, from left to right, centred on the origin.

    With two classes the centres are (-r, 0) and (r, 0) with r = distance / 2. EXoN studies the proximity of two digits
    with r = 4, 8, 12 and 16.

    Args:
        num_classes: K, at least 1.
        distance: The distance between neighbouring centres, positive.
        variance: The variance of each dimension: a scalar, (d,) or (K, d).
        latent_dim: d, at least 1.

    Returns:
        A `GaussianMixture`.

    Raises:
        ValueError: If a number is too small.

    Example:

    ```python
    prior = line(2, distance=16.0)  # centres (-8, 0) and (8, 0)
    ```

    Reference: EXoN, Appendix A.2, Figure 6.
    """
    num_classes = check_whole_number("num_classes", num_classes, 1)
    latent_dim = check_whole_number("latent_dim", latent_dim, 1)
    if not distance > 0:
        raise ValueError(f"`distance` is {distance}; it must be positive.")
    means = np.zeros((num_classes, latent_dim))
    means[:, 0] = distance * (np.arange(num_classes) - (num_classes - 1) / 2)
    return GaussianMixture(means, variance)


def one_hot(
    num_classes: int = 10, latent_dim: int = 256, label_variance: float = 0.1, rest_variance: float = 1.0
) -> GaussianMixture:
    """Gives each class its own coordinate: EXoN's prior for CIFAR-10.

    The centre of class k is the k-th unit vector. The variance of the first K coordinates is `label_variance`. That of
    all other coordinates, which the classes share, is `rest_variance`.

    Args:
        num_classes: K, at least 1.
        latent_dim: d, at least K.
        label_variance: The variance of the first K coordinates.
        rest_variance: The variance of the other d - K.

    Returns:
        A `GaussianMixture`.

    Raises:
        ValueError: If there are more classes than dimensions.

    Example:

    ```python
    prior = one_hot(10, latent_dim=256)
    ```

    Reference: EXoN, Appendix A.4.
    """
    num_classes = check_whole_number("num_classes", num_classes, 1)
    latent_dim = check_whole_number("latent_dim", latent_dim, 1)
    if num_classes > latent_dim:
        raise ValueError(
            f"`num_classes` is {num_classes} and `latent_dim` is {latent_dim}; each class takes one dimension, so "
            "`num_classes` must be at most `latent_dim`."
        )
    is_label = np.arange(latent_dim) < num_classes
    return GaussianMixture(np.eye(num_classes, latent_dim), np.where(is_label, label_variance, rest_variance))
