"""A Gaussian mixture whose means and variances are learned with the model."""

from typing import Any, Self

import keras
from keras import ops

from keras_ssvae.checks import check_switch
from keras_ssvae.distributions import Tensor, as_floatx, bhattacharyya_coefficients
from keras_ssvae.priors.base import Prior

_NAMES_BEFORE = {"num_classes": "num_components", "dim": "latent_dim"}


@keras.saving.register_keras_serializable("keras_ssvae")
class LearnedMixture(Prior):
    """K Gaussians with diagonal covariance in d dimensions, whose means and variances are learned.

    Args:
        num_components: Number of components K.
        latent_dim: Number of dimensions d.
        bounded: True, for `p(u | c)` of PartedVAE, which has one component for each value of a label: a log-variance is
            `2 tanh(free) - 1`, so that a standard deviation lies between 0.22 and 1.65; means and `free` start at
            `N(0, 1)`. False, for `p(z | c)` of CP-VAE and the mixture prior in CP-VAE's comparison: log-variances are
            free; they and the means start at `U(0, 1)`.
        above_one: True makes the log-variances `2 log(1 + exp(free / 2))`, so that standard deviations are above 1, as
            in `p(z | c)` of CP-VAE's released code. It needs `bounded=False`.
        mean_of_logs: True makes `log_prob` the mean of the K log densities, as for the mixture prior of CP-VAE's
            released code. This is no log density, but a lower bound of that of the mixture.
        **kwargs: The arguments of `keras.layers.Layer`. `trainable=False` fixes the components.

    Raises:
        ValueError: If `bounded` and `above_one` are both True.

    Example:
        >>> prior = LearnedMixture(10, 2)
        >>> loss += ops.mean(prior.kl(probs, mean, logvar)) + 30.0 * prior.overlap(0.15)

    Reference:
        Hajimiri, Lotfi, Soleymani Baghshah: PartedVAE, Section 4.2.
    """

    def __init__(
        self,
        num_components: int,
        latent_dim: int,
        bounded: bool = True,
        above_one: bool = False,
        mean_of_logs: bool = False,
        **kwargs,
    ):
        super().__init__(num_components, latent_dim, **kwargs)
        if bounded and above_one:
            raise ValueError("`bounded` and `above_one` are both True. With `above_one` set `bounded=False`.")
        for name, value in (("bounded", bounded), ("above_one", above_one), ("mean_of_logs", mean_of_logs)):
            check_switch(name, value)
        self.bounded, self.above_one, self.mean_of_logs = bounded, above_one, mean_of_logs
        start = keras.initializers.RandomNormal(stddev=1.0) if bounded else keras.initializers.RandomUniform(0.0, 1.0)
        shape = (num_components, latent_dim)
        self.free_means = self.add_weight(name="free_means", shape=shape, initializer=start)
        self.free_logvars = self.add_weight(name="free_logvars", shape=shape, initializer=start.clone())
        self.trainable = kwargs.get("trainable", True)  # again, since new weights are always trainable

    @property
    def meanings(self) -> tuple[bool, ...]:
        return self.bounded, self.above_one, self.mean_of_logs

    @property
    def means(self) -> Tensor:
        return as_floatx(self.free_means)

    @property
    def logvars(self) -> Tensor:
        free = as_floatx(self.free_logvars)
        if self.bounded:
            return 2.0 * ops.tanh(free) - 1.0
        return 2.0 * ops.softplus(0.5 * free) if self.above_one else free

    def log_prob(self, z: Tensor) -> Tensor:
        return ops.mean(self.component_log_probs(z), axis=-1) if self.mean_of_logs else super().log_prob(z)

    def overlap(self, tolerance: float) -> Tensor:
        """`max(BC - tolerance, 0)`, summed over the pairs of components, with their Bhattacharyya coefficient BC."""
        excess = ops.maximum(bhattacharyya_coefficients(self.means, self.variances) - tolerance, 0.0)
        return ops.sum(ops.tril(excess, -1))

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Builds the prior that `get_config` described, also with the names that arguments had in older releases."""
        return cls(**{_NAMES_BEFORE.get(name, name): value for name, value in config.items()})

    def get_config(self) -> dict[str, Any]:
        names = ("bounded", "above_one", "mean_of_logs")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
