"""The networks of CP-VAE: VAE's, but for the heads of the encoder, which belong to the model."""

import keras
from keras import layers

from keras_ssvae.networks.vae import IMAGE_SHAPE, LATENT_DIM, two_gated
from keras_ssvae.networks.vae import decoder as vae_decoder

NUM_CATEGORIES = 10


def encoder(image_shape: tuple[int, int, int] = IMAGE_SHAPE, hidden: int = 300) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> features `(B, hidden)`, by two gated layers.

    Args:
        image_shape: `(H, W, C)`.
        hidden: Outputs of each gated layer.
    """
    images = keras.Input(image_shape, name="image")
    return keras.Model(images, two_gated(layers.Flatten(name="flatten")(images), hidden), name="encoder")


def decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    z_dim: int = LATENT_DIM,
    num_categories: int = NUM_CATEGORIES,
    hidden: int = 300,
) -> keras.Model:
    """z and c side by side, `(B, d + K)` -> logits of the pixels `(B, H, W, C)`.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel.
        z_dim: d.
        num_categories: K.
        hidden: Outputs of each gated layer.
    """
    return vae_decoder(image_shape, z_dim + num_categories, hidden)
