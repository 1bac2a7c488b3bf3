"""The networks of N-VAE, beta-VAE and CVAE.

N-VAE's paper does not describe its networks. These are those of earlier experiments by its first author with beta-VAE
on MNIST, with the initialisers of PyTorch: two convolutions and a dense layer in the encoder, and the reverse in the
decoder. With `filters=()` and `hidden=(300, 300)` they are two dense layers.
"""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import torch_start

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES, CLASS_DIMS, SHARED_DIMS = 10, 1, 2
LATENT_DIM = 20  # of beta-VAE, as in these experiments
FILTERS, HIDDEN = (64, 128), (1024,)
_KERNEL = 4
_SLOPE = 0.01


def encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    latent_dim: int = LATENT_DIM,
    filters: Sequence[int] = FILTERS,
    hidden: Sequence[int] = HIDDEN,
) -> keras.Model:
    """Makes the encoder of beta-VAE: images `(B, H, W, C)` with pixels in [0, 1] -> `(mean, logvar)`, each `(B, d)`.

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: d.
        filters: Number of filters of each convolution. Each one halves height and width. For images of 64x64 pixels use
            (64, 128, 128).
        hidden: Number of units of each dense layer.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If height or width cannot be halved by each convolution.
    """
    images = keras.Input(image_shape, name="image")
    x, width = _convolved(images, image_shape, filters)
    x, width = _dense(x, width, hidden)
    return keras.Model(images, _heads(x, width, mean=latent_dim, logvar=latent_dim), name="encoder")


def class_encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    latent_dim: int = NUM_CLASSES * CLASS_DIMS + SHARED_DIMS,
    filters: Sequence[int] = FILTERS,
    hidden: Sequence[int] = HIDDEN,
) -> keras.Model:
    """Makes the encoder of N-VAE: `encoder` with a third head, the logits of the classes `(B, L)`.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: L.
        latent_dim: Dimensions of all classes and the shared ones together, `L d_c + d_s`.
        filters: As for `encoder`.
        hidden: As for `encoder`.

    Returns:
        A `keras.Model` with the outputs `(mean, logvar, logits)`.
    """
    images = keras.Input(image_shape, name="image")
    x, width = _convolved(images, image_shape, filters)
    x, width = _dense(x, width, hidden)
    heads = _heads(x, width, mean=latent_dim, logvar=latent_dim, logits=num_classes)
    return keras.Model(images, heads, name="encoder")


def label_encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    latent_dim: int = CLASS_DIMS + SHARED_DIMS,
    filters: Sequence[int] = FILTERS,
    hidden: Sequence[int] = HIDDEN,
) -> keras.Model:
    """Makes the encoder of CVAE: `[x, y]`, images and one-hot labels `(B, L)` -> `(mean, logvar)`, each `(B, d)`.

    The label has its own kernel in the first dense layer, beside the kernel of the convolutions.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: L.
        latent_dim: d.
        filters: As for `encoder`.
        hidden: As for `encoder`, at least one layer.

    Returns:
        A `keras.Model`.
    """
    images, label = keras.Input(image_shape, name="image"), keras.Input((num_classes,), name="label")
    x, width = _convolved(images, image_shape, filters)
    start = torch_start(width + num_classes)
    by_x = layers.Dense(hidden[0], **start, name="hidden_0")(x)
    by_label = layers.Dense(
        hidden[0], use_bias=False, kernel_initializer=start["kernel_initializer"], name="hidden_label"
    )(label)
    x = layers.LeakyReLU(_SLOPE, name="hidden_sum_leaky")(layers.Add(name="hidden_sum")([by_x, by_label]))
    x, width = _dense(x, hidden[0], hidden[1:], first=1)
    return keras.Model([images, label], _heads(x, width, mean=latent_dim, logvar=latent_dim), name="encoder")


def decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    inputs: int = LATENT_DIM,
    filters: Sequence[int] = FILTERS,
    hidden: Sequence[int] = HIDDEN,
) -> keras.Model:
    """Makes the decoder: `(B, inputs)` -> logits of the pixels `(B, H, W, C)`, with the encoder's layers in reverse.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel.
        inputs: Number of inputs: d for beta-VAE, `d + L` for CVAE, `L (1 + d_c) + d_s` for N-VAE.
        filters: As for `encoder`, in the same order.
        hidden: As for `encoder`, in the same order.

    Returns:
        A `keras.Model`. Its outputs are logits: the likelihood applies the sigmoid.

    Raises:
        ValueError: If height or width cannot be halved by each convolution.
    """
    z, dtype = keras.Input((inputs,), name="z"), keras.config.floatx()
    height, width, channels = image_shape
    x, size = _dense(z, inputs, hidden[::-1])
    if not filters:
        x = layers.Dense(math.prod(image_shape), dtype=dtype, **torch_start(size), name="logits")(x)
        return keras.Model(z, layers.Reshape(image_shape, dtype=dtype, name="pixels")(x), name="decoder")
    _check_halves(image_shape, filters)
    smallest = (height >> len(filters), width >> len(filters), filters[-1])
    x, _ = _dense(x, size, [math.prod(smallest)], first=len(hidden))
    x = layers.Reshape(smallest, name="maps")(x)
    for i, outputs in enumerate([*filters[-2::-1], channels]):
        last = i == len(filters) - 1
        name, options = ("logits", {"dtype": dtype}) if last else (f"conv_{i}", {})
        start = torch_start(_KERNEL * _KERNEL * outputs)
        x = layers.Conv2DTranspose(outputs, _KERNEL, 2, "same", **start, **options, name=name)(x)
        x = x if last else layers.LeakyReLU(_SLOPE, name=f"{name}_leaky")(x)
    return keras.Model(z, x, name="decoder")


def _convolved(images: Tensor, image_shape, filters) -> tuple[Tensor, int]:
    """The convolutional features of images, and their number."""
    _check_halves(image_shape, filters)
    x, (height, width, channels) = images, image_shape
    for i, outputs in enumerate(filters):
        start = torch_start(_KERNEL * _KERNEL * channels)
        x = layers.Conv2D(outputs, _KERNEL, 2, "same", **start, name=f"conv_{i}")(x)
        x = layers.LeakyReLU(_SLOPE, name=f"conv_{i}_leaky")(x)
        channels = outputs
    return layers.Flatten(name="flatten")(x), (height >> len(filters)) * (width >> len(filters)) * channels


def _check_halves(image_shape, filters):
    if any(size % 2 ** len(filters) for size in image_shape[:2]):
        raise ValueError(
            f"`image_shape` is {image_shape} and `filters` {tuple(filters)}; each convolution halves height and "
            f"width, so they must be multiples of {2 ** len(filters)}. Give fewer `filters`, or none."
        )


def _dense(x: Tensor, inputs: int, hidden: Sequence[int], first: int = 0) -> tuple[Tensor, int]:
    """Applies dense layers, numbered from `first`; returns their output and its number of units."""
    for i, units in enumerate(hidden, start=first):
        x = layers.Dense(units, **torch_start(inputs), name=f"hidden_{i}")(x)
        x = layers.LeakyReLU(_SLOPE, name=f"hidden_{i}_leaky")(x)
        inputs = units
    return x, inputs


def _heads(x: Tensor, inputs: int, **units: int) -> list[Tensor]:
    """Applies linear heads, by name."""
    options = {"dtype": keras.config.floatx(), **torch_start(inputs)}
    return [layers.Dense(number, **options, name=name)(x) for name, number in units.items()]
