"""A prior that is a mixture of posteriors: VampPrior (Tomczak and Welling)."""

from collections.abc import Callable
from typing import Any, Self

import keras
from keras import ops

from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.likelihoods import to_unit
from keras_ssvae.pixels import as_images
from keras_ssvae.priors.base import ComputedPrior


@keras.saving.register_keras_serializable("keras_ssvae")
class VampPrior(ComputedPrior):
    """The mean of the posteriors of K learned images: `p(z) = 1/K sum_k q(z | u_k)`.

    The pseudo-inputs `u_k` have pixels in [0, 1], to which they are clipped before the encoder, and are learned with
    the model. The gradient of the prior reaches them and the encoder. The encoder belongs to the model, which hands it
    over by `bind`; it is no part of the prior's weights or configuration. In the prior it runs in inference mode,
    without dropout.

    Args:
        num_components: K.
        latent_dim: d.
        image_shape: `(H, W, C)`.
        initial_mean: Pseudo-inputs start at `N(initial_mean, initial_stddev^2)`.
        initial_stddev: See there.

    Attributes:
        pseudo_inputs: `(K, H, W, C)`, before they are clipped.

    Raises:
        ValueError: For an encoder that does not fit, or a second one; where components are asked for before `bind`.

    Example:
        >>> model = VAE(prior=VampPrior(num_components=500))
        >>> model.prior.log_prob(model.encode(images))

    Reference:
        Tomczak, Welling: VAE with a VampPrior, 2018.
    """

    def __init__(
        self,
        num_components: int = 500,
        latent_dim: int = 40,
        image_shape: tuple[int, int, int] = (28, 28, 1),
        initial_mean: float = 0.05,
        initial_stddev: float = 0.01,
        **kwargs,
    ):
        super().__init__(num_components, latent_dim, **kwargs)
        self.image_shape = tuple(image_shape)
        self.initial_mean, self.initial_stddev = initial_mean, initial_stddev
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs",
            shape=(num_components, *self.image_shape),
            initializer=keras.initializers.RandomNormal(initial_mean, initial_stddev),
        )
        self._encoder_of: Callable[[], keras.Model] | None = None

    @classmethod
    def from_images(cls, images: Tensor, latent_dim: int = 40, stddev: float = 0.01) -> Self:
        """A prior whose pseudo-inputs start at images, plus noise.

        Args:
            images: `(K, H, W, C)`: uint8, or floats in [-1, 1].
            latent_dim: d.
            stddev: Standard deviation of the noise.
        """
        images = as_images("images", images)
        prior = cls(images.shape[0], latent_dim, images.shape[1:], initial_mean=0.0, initial_stddev=stddev)
        prior.pseudo_inputs.assign(to_unit(images) + prior.pseudo_inputs)
        return prior

    def bind(self, encoder: keras.Model) -> None:
        if self._encoder_of is not None and self._encoder_of() is not encoder:
            raise ValueError(f"`{self.name}` has the encoder of another model; give each model a VampPrior of its own.")
        if tuple(encoder.input_shape[1:]) != self.image_shape:
            raise ValueError(
                f"`{self.name}` has pseudo-inputs of the shape {self.image_shape}, and the encoder takes images "
                f"{tuple(encoder.input_shape[1:])}. Give it this shape as `image_shape`."
            )
        # In a function, where Keras does not see it: the model saves and trains it.
        self._encoder_of = lambda: encoder

    def means_and_logvars(self) -> tuple[Tensor, Tensor]:
        if self._encoder_of is None:
            raise ValueError(
                f"`{self.name}` has no encoder. A model gives it its own; elsewhere, call `bind(encoder)`."
            )
        pixels = ops.clip(as_floatx(self.pseudo_inputs), 0.0, 1.0)
        means, logvars = map(as_floatx, self._encoder_of()(pixels, training=False))
        return means, logvars

    def get_config(self) -> dict[str, Any]:
        names = ("image_shape", "initial_mean", "initial_stddev")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
