"""A prior whose components are learned with the model."""

from typing import Any

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor, as_floatx, bhattacharyya_coefficients, gaussian_kl
from keras_ssvae.priors.mixture import GaussianMixture


@keras.saving.register_keras_serializable("keras_ssvae")
class LearnedMixture(layers.Layer):
    """K Gaussians with diagonal covariance in d dimensions, one for each value of a label: `p(u | c)` of PartedVAE.

    Means are free; a log-variance is `2 tanh(free) - 1`, so that a standard deviation lies between 0.22 and 1.65.

    Args:
        num_classes: K.
        dim: d.

    Example:
        >>> prior = LearnedMixture(10, 2)
        >>> loss += ops.mean(prior.kl(probs, mean, logvar)) + 30.0 * prior.overlap(0.15)

    Reference:
        Hajimiri, Lotfi, Soleymani Baghshah: PartedVAE, Section 4.2.
    """

    def __init__(self, num_classes: int, dim: int, **kwargs):
        super().__init__(**kwargs)
        self.num_classes, self.dim = num_classes, dim
        shape, normal = (num_classes, dim), keras.initializers.RandomNormal(stddev=1.0)
        self.free_means = self.add_weight(name="free_means", shape=shape, initializer=normal)
        self.free_logvars = self.add_weight(name="free_logvars", shape=shape, initializer=normal.clone())
        self.built = True

    @property
    def means(self) -> Tensor:
        """`(K, d)`."""
        return as_floatx(self.free_means)

    @property
    def logvars(self) -> Tensor:
        """`(K, d)`."""
        return 2.0 * ops.tanh(as_floatx(self.free_logvars)) - 1.0

    def kl(self, probs: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """`sum_k probs_k KL(N(mean, exp(logvar)) || component k)`, nats per example.

        Args:
            probs: `q(c | x)`, `(B, K)`.
            mean: Means of the posterior, `(B, d)`.
            logvar: Its log-variances, `(B, d)`.

        Returns:
            `(B,)`.
        """
        components = gaussian_kl(mean[:, None], logvar[:, None], self.means, ops.exp(self.logvars))
        return ops.sum(probs * components, axis=-1)

    def overlap(self, tolerance: float) -> Tensor:
        """`max(BC - tolerance, 0)` of the Bhattacharyya coefficients BC, summed over the pairs of components."""
        excess = ops.maximum(bhattacharyya_coefficients(self.means, ops.exp(self.logvars)) - tolerance, 0.0)
        return ops.sum(ops.tril(excess, -1))

    def now(self) -> GaussianMixture:
        """The mixture as it is at the moment, for `plots` and `bhattacharyya_coefficients`."""
        return GaussianMixture(*map(ops.convert_to_numpy, (self.means, ops.exp(self.logvars))))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "dim": self.dim}
