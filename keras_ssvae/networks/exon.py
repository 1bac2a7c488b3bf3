"""The networks of EXoN: Tables 4 and 5 (MNIST), 8 and 9 (CIFAR-10)."""

import math

import keras
from keras import layers

from keras_ssvae.networks.layers import ConvBlock, mixture_heads

MNIST_SHAPE = (28, 28, 1)
CIFAR10_SHAPE = (32, 32, 3)


def mnist_encoder(
    num_classes: int = 10, latent_dim: int = 2, image_shape: tuple[int, int, int] = MNIST_SHAPE
) -> keras.Model:
    """Images `(B, H, W, C)` -> means and log-variances of the K components, each `(B, K, d)` (Table 4, left)."""
    images = keras.Input(image_shape, name="image")
    x = layers.Flatten(name="flatten")(images)
    x = layers.Dense(256, activation="relu", name="dense_0")(x)
    x = layers.Dense(128, activation="relu", name="dense_1")(x)
    mean = mixture_heads(x, num_classes, latent_dim, name="mean")
    logvar = mixture_heads(x, num_classes, latent_dim, name="logvar")
    return keras.Model(images, (mean, logvar), name="encoder")


def mnist_decoder(latent_dim: int = 2, image_shape: tuple[int, int, int] = MNIST_SHAPE) -> keras.Model:
    """Latent variables `(B, d)` -> images `(B, H, W, C)` in [-1, 1] (Table 4, right).

    The last activation is tanh, as in EXoN's code. The table says ReLU, which cannot give the negative values of dark
    pixels.
    """
    z = keras.Input((latent_dim,), name="z")
    x = layers.Dense(128, activation="relu", name="dense_0")(z)
    x = layers.Dense(256, activation="relu", name="dense_1")(x)
    x = layers.Dense(math.prod(image_shape), activation="tanh", dtype="float32", name="dense_2")(x)
    return keras.Model(z, layers.Reshape(image_shape, dtype="float32", name="image")(x), name="decoder")


def mnist_classifier(
    num_classes: int = 10, dropout: float = 0.5, image_shape: tuple[int, int, int] = MNIST_SHAPE
) -> keras.Model:
    """Images `(B, H, W, C)` -> class logits `(B, K)` (Table 5; the model applies the softmax).

    Args:
        num_classes: Number of classes K.
        dropout: Rate of the spatial dropout after each block.
        image_shape: `(H, W, C)`, with at least 8 x 8 pixels.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(image_shape, name="image")
    x = images
    for i, (filters, kernel_size) in enumerate([(32, 5), (64, 3), (128, 3)]):
        x = ConvBlock(filters, kernel_size, pool=True, rate=dropout, name=f"block_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    x = layers.Dense(64, name="dense_0")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.ReLU(name="relu")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="dense_1")(x), name="classifier")


def cifar10_encoder(num_classes: int = 10, latent_dim: int = 256) -> keras.Model:
    """Images `(B, 32, 32, 3)` -> means and log-variances of the K components, each `(B, K, d)` (Table 8, left)."""
    images = keras.Input(CIFAR10_SHAPE, name="image")
    x = images
    for i, (filters, kernel_size, strides) in enumerate([(32, 5, 2), (64, 4, 2), (128, 4, 2), (256, 4, 1)]):
        x = ConvBlock(filters, kernel_size, strides, negative_slope=0.0, name=f"block_{i}")(x)
    x = layers.Dense(1024, name="dense_0")(layers.Flatten(name="flatten")(x))
    x = layers.BatchNormalization(name="bn_4")(x)
    mean = mixture_heads(x, num_classes, latent_dim, name="mean")
    logvar = mixture_heads(x, num_classes, latent_dim, name="logvar")
    return keras.Model(images, (mean, logvar), name="encoder")


def cifar10_decoder(latent_dim: int = 256) -> keras.Model:
    """Latent variables `(B, d)` -> images `(B, 32, 32, 3)` in [-1, 1] (Table 8, right)."""
    z = keras.Input((latent_dim,), name="z")
    x = layers.Dense(4 * 4 * 512, name="dense_0")(z)
    x = layers.ReLU(name="relu")(layers.BatchNormalization(name="bn_0")(x))
    x = layers.Reshape((4, 4, 512), name="reshape")(x)
    for i, (filters, strides) in enumerate([(256, 2), (128, 2), (64, 2), (32, 1)]):
        x = ConvBlock(filters, 5, strides, transpose=True, negative_slope=0.0, name=f"block_{i}")(x)
    image = layers.Conv2D(3, 4, padding="same", activation="tanh", dtype="float32", name="image")(x)
    return keras.Model(z, image, name="decoder")


def cifar10_classifier(num_classes: int = 10, dropout: float = 0.1) -> keras.Model:
    """Images `(B, 32, 32, 3)` -> class logits `(B, K)` (Table 9; the model applies the softmax).

    Args:
        num_classes: Number of classes K.
        dropout: Rate of the spatial dropout after each pooling.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(CIFAR10_SHAPE, name="image")
    x = images
    for i, filters in enumerate([128, 128, 128, 256, 256, 256, 512, 256, 128]):
        pool = i in (2, 5)
        x = ConvBlock(filters, 3, pool=pool, rate=dropout if pool else 0.0, name=f"block_{i}")(x)
    x = layers.GlobalAveragePooling2D(name="average")(x)
    return keras.Model(images, layers.Dense(num_classes, dtype="float32", name="dense_0")(x), name="classifier")
