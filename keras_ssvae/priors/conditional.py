"""A prior with one component for each value of a label, computed by a network: `p(z_c | y)` of REVAE."""

from typing import Any

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.networks.layers import torch_start
from keras_ssvae.networks.revae import softplus_logvar
from keras_ssvae.priors.base import ComputedPrior


@keras.saving.register_keras_serializable("keras_ssvae")
class ConditionalMixture(ComputedPrior):
    """K Gaussians in d dimensions, one for each value of a label, with learned means and standard deviations.

    They are the outputs of a network with one hidden layer for the one-hot label (REVAE's Table 3), or free parameters
    (Table 4). The standard deviations are `max(softplus(raw), 1e-3)`.

    Args:
        num_components: K, the number of values of the label.
        latent_dim: Number of dimensions d.
        hidden: Units of the network's hidden layer. With None there is no network: means, which start at 0, and `raw`,
            which starts at 1, are free parameters.

    Example:
        >>> prior = ConditionalMixture(10, 4)
        >>> prior.draw(labels, epsilon)  # labels (B,), epsilon (B, 4) -> z_c (B, 4)

    Reference:
        Joy et al.: Rethinking semi-supervised learning in VAEs, 2020, Tables 3 and 4.
    """

    def __init__(self, num_components: int, latent_dim: int, hidden: int | None = 50, **kwargs):
        super().__init__(num_components, latent_dim, **kwargs)
        self.hidden = hidden
        if hidden is None:
            shape = (num_components, latent_dim)
            self.free_means = self.add_weight(name="free_means", shape=shape, initializer="zeros")
            self.free_deviations = self.add_weight(name="free_deviations", shape=shape, initializer="ones")
        else:
            # For one-hot labels a dense layer is a lookup table.
            start = torch_start(num_components)
            self.hidden_layer = layers.Dense(hidden, activation="relu", dtype="float32", **start, name="hidden")
            self.heads = layers.Dense(2 * latent_dim, dtype="float32", **torch_start(hidden), name="heads")
            self.hidden_layer.build((None, num_components))
            self.heads.build((None, hidden))

    def means_and_logvars(self) -> tuple[Tensor, Tensor]:
        if self.hidden is None:
            means, raw = as_floatx(self.free_means), as_floatx(self.free_deviations)
        else:
            means, raw = ops.split(as_floatx(self.heads(self.hidden_layer(ops.eye(self.num_components)))), 2, axis=-1)
        return means, softplus_logvar(raw)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden}
