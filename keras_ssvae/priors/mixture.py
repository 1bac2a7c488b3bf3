"""A fixed prior with one Gaussian for each class."""

from typing import Any, Self

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae import distributions
from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.priors.base import Prior


@keras.saving.register_keras_serializable(package="keras_ssvae")
class GaussianMixture(Prior):
    """A mixture of K Gaussians with diagonal covariance in d dimensions, which are not trained.

    It is the customised prior p(z) of Section 3.1 of EXoN: the latent variables of class k lie around `means[k]`.
    `circle`, `line` and `one_hot` build the priors of EXoN's experiments; `from_layout` or this class build your own.

    Args:
        means: The classes' centres m_k, shape (K, d).
        variances: The variances s_k^2, all positive: a scalar, one for each dimension (d,), or (K, d).
        weights: The probabilities p(y) of the classes, (K,), all positive with the sum 1, such as
            `data.class_frequencies` gives. Default: 1/K, as in EXoN.

    Attributes:
        means: float32 array of shape (K, d), read-only.
        variances: float32 array of shape (K, d), read-only.

    Raises:
        ValueError: If a shape does not fit, a number is not finite, or a variance or a weight is not positive.

    Example:

    ```python
    prior = GaussianMixture(means=[[-4, 0], [4, 0], [0, 6]], variances=1.0)
    z, labels = prior.sample(1000, seed=0)
    ```

    Reference: An, Choi, Jeon: EXoN: EXplainable encoder Network, Section 3.1.
    """

    def __init__(self, means: ArrayLike, variances: ArrayLike, weights: ArrayLike | None = None):
        means = _float32("means", means)
        if means.ndim != 2 or means.size == 0:
            raise ValueError(f"`means` has shape {means.shape}; it must be (number of classes, latent dimensions).")
        given = _float32("variances", variances)
        if given.shape not in ((), means.shape[1:], means.shape):
            raise ValueError(
                f"`variances` has shape {given.shape}; with means of shape {means.shape} it must be a scalar, "
                f"{means.shape[1:]} or {means.shape}."
            )
        if not (given > 0).all():
            raise ValueError(f"`variances` must all be positive, but the smallest is {given.min()}.")
        super().__init__(*means.shape, dtype="float32")
        self._probs = None if weights is None else _probabilities(weights, len(means))
        self._means, self._variances = means, np.broadcast_to(given, means.shape).copy()
        for array in (self._means, self._variances):
            array.flags.writeable = False

    @property
    def means(self) -> np.ndarray:
        return self._means

    @property
    def variances(self) -> np.ndarray:
        return self._variances

    @property
    def uniform(self) -> bool:
        return self._probs is None

    @property
    def probs(self) -> np.ndarray:
        """The probabilities p(y) of the classes, float64 `(K,)`."""
        return np.full(self.num_components, 1 / self.num_components) if self._probs is None else self._probs

    @property
    def log_weights(self) -> Tensor:
        return super().log_weights if self.uniform else as_floatx(np.log(self.probs))

    @property
    def num_classes(self) -> int:
        """The number of components K."""
        return self.num_components

    def now(self) -> Self:
        """Itself: it does not change."""
        return self

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as lists, which `from_config` restores exactly."""
        config = {"means": self.means.tolist(), "variances": self.variances.tolist()}
        return config if self._probs is None else {**config, "weights": self._probs.tolist()}


def _probabilities(weights, num_components):
    try:
        weights = np.asarray(weights, "float64")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`weights` is {weights!r}; it must be an array of numbers.") from error
    if weights.shape != (num_components,) or not (weights > 0).all() or abs(weights.sum() - 1) > 1e-3:
        raise ValueError(
            f"`weights` is {weights.tolist()}; it must be {num_components} positive probabilities, whose sum is 1."
        )
    return weights / weights.sum()


def bhattacharyya_coefficients(prior: GaussianMixture) -> np.ndarray:
    """How much the components overlap: the integral of sqrt(p_k(z) p_l(z)) over z, for each pair.

    It is 1 for equal components and 0 for disjoint ones. Two components of one variance s^2 whose centres are a
    distance D apart have exp(-D^2 / (8 s^2)).

    Args:
        prior: The mixture.

    Returns:
        Symmetric float32 array of shape (K, K), 1 on the diagonal.

    Example:

    ```python
    bhattacharyya_coefficients(circle())[0, 1]  # exp(-2) = 0.135
    ```

    Reference: Bhattacharyya, On a measure of divergence between two statistical populations, 1943.
    """
    return keras.ops.convert_to_numpy(distributions.bhattacharyya_coefficients(prior.means, prior.variances))


def _float32(name: str, value: ArrayLike) -> np.ndarray:
    try:
        array = np.array(value, dtype="float32")
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{name}` is {value!r}; it must be an array of numbers.") from error
    if not np.isfinite(array).all():
        raise ValueError(f"`{name}` must hold finite numbers only, but it holds NaN or infinity.")
    return array
