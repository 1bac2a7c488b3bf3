"""The networks of HVAE, which has two layers of latent variables: a gated layer for each input, then one for both."""

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import Gated
from keras_ssvae.networks.vae import IMAGE_SHAPE, LATENT_DIM, gaussian_heads, pixel_logits, two_gated


def encoder_z1(
    image_shape: tuple[int, ...] = IMAGE_SHAPE,
    z1_dim: int = LATENT_DIM,
    z2_dim: int = LATENT_DIM,
    hidden: int = 300,
) -> keras.Model:
    """`[x, z2]` -> means and log-variances of z1, each `(B, d1)`.

    The inputs are images x `(B, H, W, C)` with pixels in [0, 1], and z2 `(B, d2)`.

    Args:
        image_shape: `(H, W, C)`.
        z1_dim: Number of dimensions d1 of z1.
        z2_dim: Number of dimensions d2 of z2.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`, whose log-variances are clipped to [-6, 2].
    """
    images, z2 = keras.Input(image_shape, name="image"), keras.Input((z2_dim,), name="z2")
    x = _joint({"x": layers.Flatten(name="flatten")(images), "z2": z2}, hidden)
    return keras.Model([images, z2], gaussian_heads(x, z1_dim, hidden), name="encoder_z1")


def prior_z1(z1_dim: int = LATENT_DIM, z2_dim: int = LATENT_DIM, hidden: int = 300) -> keras.Model:
    """z2 `(B, d2)` -> means and log-variances of z1, each `(B, d1)`.

    Args:
        z1_dim: Number of dimensions d1 of z1.
        z2_dim: Number of dimensions d2 of z2.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`, whose log-variances are clipped to [-6, 2].
    """
    z2 = keras.Input((z2_dim,), name="z2")
    return keras.Model(z2, gaussian_heads(two_gated(z2, hidden), z1_dim, hidden), name="prior_z1")


def decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    z1_dim: int = LATENT_DIM,
    z2_dim: int = LATENT_DIM,
    hidden: int = 300,
) -> keras.Model:
    """z1 and z2 side by side, `(B, d1 + d2)` -> logits of the pixels `(B, H, W, C)`.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel.
        z1_dim: Number of dimensions d1 of z1.
        z2_dim: Number of dimensions d2 of z2.
        hidden: Outputs of each gated layer.

    Returns:
        A `keras.Model`. The likelihood applies the sigmoid that turns logits into pixels in [0, 1].
    """
    z = keras.Input((z1_dim + z2_dim,), name="z")
    z1, z2 = ops.split(z, [z1_dim], axis=-1)
    logits = pixel_logits(_joint({"z1": z1, "z2": z2}, hidden), image_shape, hidden)
    return keras.Model(z, logits, name="decoder")


def _joint(inputs: dict[str, Tensor], hidden: int) -> Tensor:
    """Applies a gated layer to each of the named inputs, and another one to all their outputs together."""
    each = [Gated(hidden, name=f"gated_{name}")(x) for name, x in inputs.items()]
    return Gated(hidden, name="gated_joint")(layers.Concatenate(name="joint")(each))
