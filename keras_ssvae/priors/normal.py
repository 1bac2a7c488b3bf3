"""The standard normal prior of the plain VAE."""

from typing import Any

import keras
import numpy as np

from keras_ssvae.priors.base import Prior


@keras.saving.register_keras_serializable("keras_ssvae")
class StandardNormal(Prior):
    """The standard normal distribution `N(0, I)` in d dimensions, as a mixture of one component.

    Args:
        latent_dim: Number of dimensions d.
        **kwargs: The arguments of `keras.layers.Layer`.

    Example:
        >>> kl = StandardNormal(2).kl_per_component(mean, logvar)[:, 0]

    Reference:
        Kingma, Welling: Auto-encoding variational Bayes, 2014.
    """

    def __init__(self, latent_dim: int, **kwargs):
        super().__init__(1, latent_dim, **kwargs)

    @property
    def means(self) -> np.ndarray:
        return np.zeros((1, self.latent_dim), keras.config.floatx())

    @property
    def variances(self) -> np.ndarray:
        return np.ones((1, self.latent_dim), keras.config.floatx())

    @property
    def logvars(self) -> np.ndarray:
        return self.means

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["num_components"]
        return config
