"""A prior that is a mixture of posteriors: VampPrior (Tomczak and Welling)."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Self

import keras
from keras import ops

from keras_ssvae.checks import is_finite_number, is_integer
from keras_ssvae.distributions import Tensor, as_floatx
from keras_ssvae.likelihoods import to_unit
from keras_ssvae.pixels import as_images
from keras_ssvae.priors.base import ComputedPrior


@keras.saving.register_keras_serializable("keras_ssvae")
class VampPrior(ComputedPrior):
    """The mixture of the posteriors of K learned images, with equal weights: `p(z) = 1/K sum_k q(z | u_k)`.

    The images `u_k`, called pseudo-inputs, are learned with the model. Their pixels are clipped to [0, 1] before they
    enter the encoder. The gradient of the prior reaches both the pseudo-inputs and the encoder.

    The encoder maps images `(B, H, W, C)` with pixels in [0, 1] to means and log-variances, each `(B, d)`. It belongs
    to the model, which passes it to `bind`; in your own model, call `prior.bind(encoder)` once. It is no part of the
    prior's weights or configuration. In the prior it runs in inference mode, without dropout.

    Args:
        num_components: Number of components K.
        latent_dim: Number of dimensions d.
        image_shape: `(H, W, C)`.
        initial_mean: Mean of the normal distribution from which the pixels of the pseudo-inputs start.
        initial_stddev: Standard deviation of this distribution.
        **kwargs: The arguments of `keras.layers.Layer`.

    Attributes:
        pseudo_inputs: The pseudo-inputs before clipping, `(K, H, W, C)`.

    Raises:
        ValueError: If the encoder takes or gives other shapes, if a second encoder is bound, or if components are
            needed before `bind`.

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
        self.image_shape = tuple(image_shape) if isinstance(image_shape, Iterable) else (image_shape,)
        if len(self.image_shape) != 3 or not all(is_integer(size) and size > 0 for size in self.image_shape):
            raise ValueError(f"`image_shape` is {image_shape!r}; it must be three integers (H, W, C) of at least 1.")
        if not is_finite_number(initial_mean, -math.inf) or not is_finite_number(initial_stddev):
            raise ValueError(
                f"`initial_mean` is {initial_mean!r} and `initial_stddev` {initial_stddev!r}; they must be finite "
                "numbers, the second one 0 or more."
            )
        self.initial_mean, self.initial_stddev = initial_mean, initial_stddev
        self.pseudo_inputs = self.add_weight(
            name="pseudo_inputs",
            shape=(num_components, *self.image_shape),
            initializer=keras.initializers.RandomNormal(initial_mean, initial_stddev),
        )
        self._encoder_of: Callable[[], keras.Model] | None = None

    @classmethod
    def from_images(cls, images: Tensor, latent_dim: int = 40, stddev: float = 0.01) -> Self:
        """Returns a prior whose pseudo-inputs start at given images, plus normal noise.

        Args:
            images: `(K, H, W, C)`: uint8, or floats in [-1, 1].
            latent_dim: Number of dimensions d.
            stddev: Standard deviation of the noise, for pixels in [0, 1].
        """
        images = as_images("images", images)
        prior = cls(images.shape[0], latent_dim, images.shape[1:], initial_mean=0.0, initial_stddev=stddev)
        prior.pseudo_inputs.assign(to_unit(images) + prior.pseudo_inputs)
        return prior

    def bind(self, encoder: keras.Model) -> None:
        if self._encoder_of is not None and self._encoder_of() is not encoder:
            raise ValueError(f"`{self.name}` has the encoder of another model. Give each model its own VampPrior.")
        if tuple(encoder.input_shape[1:]) != self.image_shape:
            raise ValueError(
                f"`{self.name}` has pseudo-inputs of shape {self.image_shape}, but the encoder takes images of shape "
                f"{tuple(encoder.input_shape[1:])}. Give this shape as the prior's `image_shape`."
            )
        outputs = encoder.output_shape
        if not isinstance(outputs, list) or [tuple(shape)[1:] for shape in outputs] != [(self.latent_dim,)] * 2:
            raise ValueError(
                f"The encoder gives {outputs}, but `{self.name}` needs means and log-variances, each "
                f"{(None, self.latent_dim)}. Give the prior the encoder's `latent_dim`, or pass another encoder."
            )
        # In a function, so that Keras does not track the encoder here: the model saves and trains it.
        self._encoder_of = lambda: encoder

    def means_and_logvars(self) -> tuple[Tensor, Tensor]:
        if self._encoder_of is None:
            raise ValueError(
                f"`{self.name}` has no encoder. A model binds its own; without a model, call `bind(encoder)`."
            )
        pixels = ops.clip(as_floatx(self.pseudo_inputs), 0.0, 1.0)
        means, logvars = map(as_floatx, self._encoder_of()(pixels, training=False))
        return means, logvars

    def get_config(self) -> dict[str, Any]:
        names = ("image_shape", "initial_mean", "initial_stddev")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
