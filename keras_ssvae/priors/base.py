"""What every prior that is a mixture of Gaussians gives: densities, divergences and samples."""

import math
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import config, layers, ops

from keras_ssvae.checks import check_whole_number, generator, is_integer
from keras_ssvae.distributions import (
    Tensor,
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
    """A prior `p(z) = sum_k w_k N(z; m_k, diag s_k^2)` of K components in d dimensions.

    A subclass gives `means` and, of `variances` and `logvars`, the one that it has, or both; `log_weights` are those
    of a uniform mixture unless it gives its own. All else is derived from these:

    | closed form, and differentiable                                                 | sampled            |
    |---------------------------------------------------------------------------------|--------------------|
    | `log_prob`, `component_log_probs`, `log_prob_given`: densities, all constants    | `draw`, `random`   |
    | `kl_per_component`, `kl`: divergence of a Gaussian posterior from each component | `sample`           |

    The divergence of a posterior from the *mixture* has no closed form: `log_prob` at samples of the posterior gives an
    estimate, and `kl`, with weights of the components that the posterior has, a bound. All sums are float32, under any
    dtype policy.

    Args:
        num_components: K.
        latent_dim: d.
        **kwargs: Those of `keras.layers.Layer`.

    Raises:
        ValueError: If a number is not an integer of at least 1.

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

    def bind(self, encoder: keras.Model) -> None:
        """A model hands over its encoder here, for priors whose components the encoder makes."""

    @property
    def means(self) -> Tensor:
        """`(K, d)`."""
        raise NotImplementedError

    @property
    def variances(self) -> Tensor:
        """`(K, d)`."""
        return ops.exp(self.logvars)

    @property
    def logvars(self) -> Tensor:
        """`(K, d)`."""
        return ops.log(self.variances)

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """`means`, `variances` and `logvars`."""
        return self.means, self.variances, self.logvars

    @property
    def log_weights(self) -> Tensor:
        """`(K,)`; their exponentials add up to 1."""
        return ops.full((self.num_components,), -math.log(self.num_components), dtype=config.floatx())

    @property
    def uniform(self) -> bool:
        """Whether all components have the same weight, whatever a model learns."""
        return type(self).log_weights is Prior.log_weights

    def categorical_kl(self, probs: Tensor) -> Tensor:
        """`KL(probs || p(k))`, of a posterior's weights of the components from the prior's: `(..., K)` -> `(...)`."""
        if self.uniform:
            return categorical_kl_from_uniform(probs)
        return ops.sum(probs * (log_probs(probs) - self.log_weights), axis=-1)

    def component_log_probs(self, z: Tensor) -> Tensor:
        """`log N(z; m_k, s_k^2)` of each component, without its weight: `(..., d)` -> `(..., K)`, in nats."""
        means, _, logvars = self.components()
        return gaussian_log_prob(z[..., None, :], means, logvars)

    def log_prob(self, z: Tensor) -> Tensor:
        """`log p(z)` of the mixture: `(..., d)` -> `(...)`, in nats."""
        return ops.logsumexp(self.component_log_probs(z) + self.log_weights, axis=-1)

    def kl_per_component(self, mean: Tensor, logvar: Tensor) -> Tensor:
        """`KL(N(mean, exp(logvar)) || N(m_k, s_k^2))` for each k, in closed form.

        Args:
            mean: Means of the posterior, `(B, d)`, compared with every component, or `(B, K, d)`, the k-th compared
                with the k-th component.
            logvar: Its log-variances, of the same shape.

        Returns:
            `(B, K)`, in nats.
        """
        if len(mean.shape) == 2:
            mean, logvar = mean[:, None], logvar[:, None]
        means, variances, _ = self.components()
        return gaussian_kl(mean, logvar, means, variances)

    def kl(self, probs: Tensor, mean: Tensor, logvar: Tensor) -> Tensor:
        """`sum_k probs_k KL(N(mean, exp(logvar)) || N(m_k, s_k^2))`, in closed form.

        It is the second part of (12) of EXoN, `kl_u` of PartedVAE, and B1 of CP-VAE.

        Args:
            probs: The posterior's weights of the components, `(B, K)`.
            mean: Its means, `(B, d)` or, one for each component, `(B, K, d)`.
            logvar: Its log-variances, of the same shape.

        Returns:
            `(B,)`, in nats.
        """
        return ops.sum(probs * self.kl_per_component(mean, logvar), axis=-1)

    def draw(self, components: Tensor, epsilon: Tensor) -> Tensor:
        """Points of the given components, `m_k + s_k epsilon`.

        Args:
            components: k of each point, integers `(...)`.
            epsilon: Standard normal noise, `(..., d)`.

        Returns:
            `(..., d)`.
        """
        mean, logvar = self._of(components)
        return sample_gaussian(mean, logvar, epsilon)

    def log_prob_given(self, z: Tensor, components: Tensor) -> Tensor:
        """`log N(z; m_k, s_k^2)` of the given component k of each point, integers `(...)`: `(..., d)` -> `(...)`."""
        return gaussian_log_prob(z, *self._of(components))

    def _of(self, components):
        """Means and log-variances of given components."""
        means, _, logvars = self.components()
        return (ops.take(values, components, axis=0) for values in (means, logvars))

    def random(self, n: int, seed: keras.random.SeedGenerator) -> Tensor:
        """Draws from p(z) in the backend, `(n, d)`; `sample` draws in NumPy and tells the components."""
        components = categorical(self.log_weights, n, seed)
        return self.draw(components, normal((n, self.latent_dim), seed))

    def sample(self, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws from p(z), in NumPy; of each point also its component.

        Args:
            n: How many.
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
        """The mixture as it is at the moment, in NumPy arrays, for `plots` and `bhattacharyya_coefficients`."""
        from keras_ssvae.priors.mixture import GaussianMixture  # which is a Prior itself

        means, variances = map(ops.convert_to_numpy, self.components()[:2])
        return GaussianMixture(means, variances, self._unequal_weights())

    def _unequal_weights(self):
        """The weights in NumPy; None where they are equal, of which NumPy draws other numbers."""
        log_weights = ops.convert_to_numpy(self.log_weights).astype("float64")
        if np.ptp(log_weights) == 0:
            return None
        weights = np.exp(log_weights - log_weights.max())
        return weights / weights.sum()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_components": self.num_components, "latent_dim": self.latent_dim}


class ComputedPrior(Prior):
    """A prior of which one computation, `means_and_logvars`, gives all components."""

    def means_and_logvars(self) -> tuple[Tensor, Tensor]:
        """Means and log-variances, `(K, d)` each."""
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
