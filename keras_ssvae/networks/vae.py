"""The networks of VAE and VampPrior: encoder and decoder have two gated layers each."""

import math

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import Gated, he_normal_dense

IMAGE_SHAPE = (28, 28, 1)
LATENT_DIM = 40
_LOGVARS = (-6.0, 2.0)  # range of the log-variances, as in VampPrior's code


def encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = LATENT_DIM, hidden: int = 300
) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> means and log-variances, each `(B, d)`.

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: Number of dimensions d.
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
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel, which is that of its colours, or more if the
            likelihood needs more.
        latent_dim: Number of dimensions d.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`. The likelihood applies the sigmoid that turns logits into pixels in [0, 1].
    """
    z = keras.Input((latent_dim,), name="z")
    return keras.Model(z, pixel_logits(two_gated(z, hidden), image_shape, hidden), name="decoder")


def two_gated(x: Tensor, hidden: int) -> Tensor:
    """Applies two gated layers to a Keras tensor `(B, inputs)`."""
    return Gated(hidden, name="gated_1")(Gated(hidden, name="gated_0")(x))


def pixel_logits(x: Tensor, image_shape: tuple[int, int, int], inputs: int) -> Tensor:
    """Applies a linear layer to a Keras tensor `(B, inputs)`; returns `(B, H, W, C)`."""
    dtype = keras.config.floatx()
    x = he_normal_dense(math.prod(image_shape), inputs, dtype=dtype, name="logits")(x)
    return layers.Reshape(image_shape, dtype=dtype, name="image")(x)


def gaussian_heads(x: Tensor, latent_dim: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Linear layers from a Keras tensor `(B, inputs)` to means and log-variances, clipped to [-6, 2], `(B, d)` each."""
    heads = {"units": latent_dim, "inputs": inputs, "dtype": keras.config.floatx()}
    mean = he_normal_dense(**heads, name="mean")(x)
    return mean, he_normal_dense(**heads, activation=clip_logvar, name="logvar")(x)


@keras.saving.register_keras_serializable("keras_ssvae")
def clip_logvar(logvar: Tensor) -> Tensor:
    """Clips log-variances to [-6, 2]. The gradient is 0 where they are clipped."""
    return ops.clip(logvar, *_LOGVARS)
