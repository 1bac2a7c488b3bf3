"""The networks of VAE and VampPrior: two gated layers each way."""

import math

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import Gated, he_normal_dense

IMAGE_SHAPE = (28, 28, 1)
LATENT_DIM = 40
_LOGVARS = (-6.0, 2.0)  # as in VampPrior's code


def encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = LATENT_DIM, hidden: int = 300
) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> means and log-variances, each `(B, d)`.

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: d.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`, whose log-variances are clipped to [-6, 2].
    """
    images = keras.Input(image_shape, name="image")
    x = two_gated(layers.Flatten(name="flatten")(images), hidden)
    return keras.Model(images, gaussian_heads(x, latent_dim, hidden), name="encoder")


def decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = LATENT_DIM, hidden: int = 300
) -> keras.Model:
    """Latent variables `(B, d)` -> logits of the pixels `(B, H, W, C)`.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel, more than that of its colours for a
            likelihood that needs more.
        latent_dim: d.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`. The sigmoid that makes pixels in [0, 1] of its logits is left to the likelihood.
    """
    z = keras.Input((latent_dim,), name="z")
    return keras.Model(z, pixel_logits(two_gated(z, hidden), image_shape, hidden), name="decoder")


def two_gated(x: Tensor, hidden: int) -> Tensor:
    """Two gated layers, of a Keras tensor `(B, inputs)`."""
    return Gated(hidden, name="gated_1")(Gated(hidden, name="gated_0")(x))


def pixel_logits(x: Tensor, image_shape: tuple[int, int, int], inputs: int) -> Tensor:
    """Linear outputs `(B, H, W, C)`, of a Keras tensor `(B, inputs)`."""
    dtype = keras.config.floatx()
    x = he_normal_dense(math.prod(image_shape), inputs, dtype=dtype, name="logits")(x)
    return layers.Reshape(image_shape, dtype=dtype, name="image")(x)


def gaussian_heads(x: Tensor, latent_dim: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Linear means and log-variances, clipped to [-6, 2], each `(B, d)`, of a Keras tensor `(B, inputs)`."""
    heads = {"units": latent_dim, "inputs": inputs, "dtype": keras.config.floatx()}
    mean = he_normal_dense(**heads, name="mean")(x)
    return mean, he_normal_dense(**heads, activation=clip_logvar, name="logvar")(x)


@keras.saving.register_keras_serializable("keras_ssvae")
def clip_logvar(logvar: Tensor) -> Tensor:
    """Log-variances clipped to [-6, 2]; the gradient is 0 where one was."""
    return ops.clip(logvar, *_LOGVARS)
