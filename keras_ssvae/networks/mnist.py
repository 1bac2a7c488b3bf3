"""The MNIST networks of EXoN: Tables 4 and 5."""

import keras
from keras import layers

from keras_ssvae.networks.layers import ConvBlock, mixture_heads

IMAGE_SHAPE = (28, 28, 1)


def encoder(num_classes: int = 10, latent_dim: int = 2) -> keras.Model:
    """Images `(B, 28, 28, 1)` -> means and log-variances of the K components, each `(B, K, d)` (Table 4, left)."""
    images = keras.Input(IMAGE_SHAPE, name="image")
    x = layers.Flatten(name="flatten")(images)
    x = layers.Dense(256, activation="relu", name="dense_0")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    mean = mixture_heads(x, num_classes, latent_dim, name="mean")
    logvar = mixture_heads(x, num_classes, latent_dim, name="logvar")
    return keras.Model(images, (mean, logvar), name="encoder")


def decoder(latent_dim: int = 2) -> keras.Model:
    """Latent variables `(B, d)` -> images `(B, 28, 28, 1)` in [-1, 1] (Table 4, right).

    It ends in tanh, as the original code; the paper's table says ReLU, which cannot reach the dark pixels.
    """
    z = keras.Input((latent_dim,), name="z")
    x = layers.Dense(128, activation="relu", name="dense_0")(z)
    x = layers.Dense(256, activation="relu", name="dense_1")(x)
    x = layers.Dense(784, activation="tanh", dtype="float32", name="dense_2")(x)
    return keras.Model(z, layers.Reshape(IMAGE_SHAPE, dtype="float32", name="image")(x), name="decoder")


def classifier(num_classes: int = 10, dropout: float = 0.5) -> keras.Model:
    """Images `(B, 28, 28, 1)` -> class logits `(B, K)` (Table 5; the softmax is left to the model).

    Args:
        num_classes: Classes K.
        dropout: Rate of the spatial dropout after each block.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(IMAGE_SHAPE, name="image")
    x = images
    for i, (filters, kernel_size) in enumerate([(32, 5), (64, 3), (128, 3)]):
        x = ConvBlock(filters, kernel_size, pool=True, rate=dropout, name=f"block_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dense(64, name="dense_0")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="dense_1")(x), name="classifier")
