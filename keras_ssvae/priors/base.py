"""The base class of the priors: densities, divergences and samples of a Gaussian mixture."""

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import config, layers, ops

from keras_ssvae.checks import check_whole_number, generator, is_integer
from keras_ssvae.distributions import (
    Tensor,
    as_floatx,
    categorical_kl_from_uniform,
    gaussian_kl,
    gaussian_log_prob,
    log_probs,
    sample_gaussian,
)
from keras_ssvae.noise import categorical, normal

if TYPE_CHECKING:
    from keras_ssvae.priors.mixture import GaussianMixture


class Prior(layers.Layer):
    """Base class of the priors `p(z) = sum_k w_k N(z; m_k, diag s_k^2)`, with K components in d dimensions.

    A subclass defines `means`, and `variances` or `logvars` or both. The weights are equal unless it also defines
    `log_weights`. This class derives everything else:

    | closed form, and differentiable                                                 | sampled            |
    |---------------------------------------------------------------------------------|--------------------|
    | `log_prob`, `component_log_probs`, `log_prob_given`: densities, all constants    | `draw`, `random`   |
    | `kl_per_component`, `kl`: divergence of a Gaussian posterior from each component | `sample`           |

    The divergence of a posterior from the *mixture* has no closed form. At a sample z of the posterior,
    `distributions.gaussian_log_prob(z, mean, logvar) - prior.log_prob(z)`, `(B,)` in nats, estimates it: add its mean
    to the loss. If the posterior also has weights of the components, `kl` gives an upper bound. All sums are float32
    under every dtype policy.

    Args:
        num_components: Number of components K.
        latent_dim: Number of dimensions d.
        **kwargs: The arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_components` or `latent_dim` is not an integer of at least 1.

    Example:

    ```python
    class Pair(Prior):
        means = np.float32([[-3.0], [3.0]])
        logvars = np.zeros((2, 1), "float32")

    Pair(2, 1).log_prob(z)  # z (B, 1) -> (B,)
    ```
    """

    def __init__(self, num_components: int, latent_dim: int, **kwargs):
        for name, value in (("num_components", num_components), ("latent_dim", latent_dim)):
            if not is_integer(value) or value < 1:
                raise ValueError(f"`{name}` is {value!r}; it must be an integer of at least 1.")
        super().__init__(**kwargs)
        self.num_components, self.latent_dim = int(num_components), int(latent_dim)
        self.built = True

    def __repr__(self) -> str:
        components = "component" if self.num_components == 1 else "components"
        dimensions = "dimension" if self.latent_dim == 1 else "dimensions"
        kind = f"{type(self).__name__} {self.name}"
        return f"<{kind}: {self.num_components} {components} in {self.latent_dim} {dimensions}>"

    @property
    def meanings(self) -> tuple[bool, ...]:
        """The arguments that give the prior's own weights another meaning. A file of weights notes them."""
        return ()

    def bind(self, encoder: keras.Model) -> None:
        """Receives the encoder of the model, for priors whose components the encoder computes. Others ignore it."""

    @property
    def means(self) -> Tensor:
        """The means m_k, `(K, d)`."""
        raise NotImplementedError

    @property
    def variances(self) -> Tensor:
        """The variances s_k^2, `(K, d)`."""
        return ops.exp(self.logvars)

    @property
    def logvars(self) -> Tensor:
        """The logarithms of the variances, `(K, d)`."""
        return ops.log(self.variances)

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Returns `means`, `variances` and `logvars`."""
        return self.means, self.variances, self.logvars

    @property
    def log_weights(self) -> Tensor:
        """The logarithms of the weights w_k, `(K,)`. The weights add up to 1."""
        return ops.full((self.num_components,), -math.log(self.num_components), dtype=config.floatx())

    @property
    def uniform(self) -> bool:
        """Whether all components always have the same weight."""
        return type(self).log_weights is Prior.log_weights

    def categorical_kl(self, probs: Tensor) -> Tensor:
        """`KL(probs || w)` from a posterior's weights of the components to the prior's: `(..., K)` -> `(...)`, nats."""
        if self.uniform:
            return categorical_kl_from_uniform(probs)
        return ops.sum(probs * (log_probs(probs) - self.log_weights), axis=-1)

    def component_log_probs(self, z: Tensor) -> Tensor:
        """`log N(z; m_k, s_k^2)` of each component, without its weight: `(..., d)` -> `(..., K)`, in nats."""
        z = self._checked("z", z)
        means, _, logvars = self.components()
        return gaussian_log_prob(z[..., None, :], means, logvars)

    def log_prob(self, z: Tensor) -> Tensor:
        """`log p(z)` of the mixture: `(..., d)` -> `(...)`, in nats."""
        return ops.logsumexp(self.component_log_probs(z) + self.log_weights, axis=-1)

    def kl_per_component(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """`KL(N(mean, exp(logvar)) || N(m_k, s_k^2))` for each k, in closed form.

        Args:
            mean: Means of the posterior: `(B, d)` to compare one Gaussian with every component, or `(B, K, d)` to
                compare the k-th Gaussian with the k-th component.
            logvar: Its log-variances, of the same shape.

        Returns:
            `(B, K)`, in nats.
        """
        mean, logvar = self._checked("mean", mean), self._checked("logvar", logvar)
        if len(mean.shape) == 2:
            mean, logvar = mean[:, None], logvar[:, None]
        means, variances, _ = self.components()
        return gaussian_kl(mean, logvar, means, variances)

    def kl(self, probs: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """`sum_k probs_k KL(N(mean, exp(logvar)) || N(m_k, s_k^2))`, in closed form.

        It is the second part of equation (12) of EXoN, `kl_u` of PartedVAE, and B1 of CP-VAE.

        Args:
            probs: The posterior's weights of the components, `(B, K)`.
            mean: Means of the posterior: `(B, d)`, or `(B, K, d)` with one for each component.
            logvar: Its log-variances, of the same shape.

        Returns:
            `(B,)`, in nats.
        """
        probs = as_floatx(probs)
        if self.num_components > 1 and probs.shape[-1] != self.num_components:  # one component may be that of all
            raise ValueError(
                f"`probs` has shape {tuple(probs.shape)}; it must hold the probabilities of the {self.num_components} "
                f"components of {self.name!r} along its last axis."
            )
        return ops.sum(probs * self.kl_per_component(mean, logvar), axis=-1)

    def draw(self, components: Tensor, epsilon: Tensor) -> Tensor:
        """Draws points of given components, `m_k + s_k epsilon`.

        Args:
            components: The component k of each point, integers `(...)`.
            epsilon: Standard normal noise, `(..., d)`.

        Returns:
            `(..., d)`.
        """
        mean, logvar = self._of(components)
        return sample_gaussian(mean, logvar, self._checked("epsilon", epsilon))

    def log_prob_given(self, z: Tensor, components: Tensor) -> Tensor:
        """The log density of each point under a given component, `log N(z; m_k, s_k^2)`.

        Args:
            z: Points, `(..., d)`.
            components: The component k of each point, integers `(...)`.

        Returns:
            `(...)`, in nats.
        """
        return gaussian_log_prob(self._checked("z", z), *self._of(components))

    def _checked(self, name, values):
        """Values for each dimension, in the precision of all sums; broadcasting would hide a wrong number of them."""
        values = as_floatx(values)
        if not len(values.shape) or values.shape[-1] != self.latent_dim:
            raise ValueError(
                f"`{name}` has shape {tuple(values.shape)}; its last axis must have {self.latent_dim} entries, the "
                f"dimensions of {self.name!r}."
            )
        return values

    def _of(self, components):
        """The means and log-variances of given components."""
        means, _, logvars = self.components()
        return (ops.take(values, components, axis=0) for values in (means, logvars))

    def random(self, n: int, seed: keras.random.SeedGenerator) -> Tensor:
        """Draws points from p(z) as a backend tensor, `(n, d)`. `sample` draws in NumPy and returns components too."""
        components = categorical(self.log_weights, n, seed)
        return self.draw(components, normal((n, self.latent_dim), seed))

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws points from p(z) in NumPy, with the component of each.

        Args:
            n: Number of points.
            seed: The same seed gives the same draws.

        Returns:
            `z`, float32 of shape (n, d), and `labels`, the components, int64 of shape (n,).
        """
        means, variances = map(ops.convert_to_numpy, self.components()[:2])
        rng = generator(seed)
        labels = rng.choice(self.num_components, size=check_whole_number("n", n, 0), p=self._unequal_weights())
        noise = rng.standard_normal((n, self.latent_dim), dtype=np.float32)
        return means[labels] + np.sqrt(variances[labels]) * noise, labels

    def now(self) -> "GaussianMixture":
        """Returns a copy of the current mixture in NumPy arrays, for `plots` and `bhattacharyya_coefficients`."""
        from keras_ssvae.priors.mixture import GaussianMixture  # which is a Prior itself

        means, variances = map(ops.convert_to_numpy, self.components()[:2])
        return GaussianMixture(means, variances, self._unequal_weights())

    def _unequal_weights(self):
        """The weights in NumPy. None if they are equal: then NumPy draws other numbers than from equal weights."""
        log_weights = ops.convert_to_numpy(self.log_weights).astype("float64")
        if np.ptp(log_weights) == 0:
            return None
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_components": self.num_components, "latent_dim": self.latent_dim}


class ComputedPrior(Prior):
    """Base class of priors that compute all components at once, by `means_and_logvars`."""

    def means_and_logvars(self) -> tuple[Tensor, Tensor]:
        """Returns means and log-variances, `(K, d)` each."""
        raise NotImplementedError

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        means, logvars = self.means_and_logvars()
        return means, ops.exp(logvars), logvars

    @property
    def means(self) -> Tensor:
        return self.means_and_logvars()[0]

    @property
    def logvars(self) -> Tensor:
        return self.means_and_logvars()[1]
