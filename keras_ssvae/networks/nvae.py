"""The networks of N-VAE, beta-VAE and CVAE: two convolutions and a dense layer each way, or dense layers alone.

N-VAE's paper says nothing of its networks. These are those of its first author's earlier experiments with beta-VAE on
MNIST, initialisers of PyTorch's included. Without `filters`, and with `hidden=(300, 300)`, they are two dense layers.
"""

import math
from collections.abc import Sequence

import keras
from keras import layers

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import torch_start

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES, CLASS_DIMS, SHARED_DIMS = 10, 1, 2
LATENT_DIM = 20  # of beta-VAE, as in those experiments
FILTERS, HIDDEN = (64, 128), (1024,)
_KERNEL = 4
_SLOPE = 0.01


def encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE,
    latent_dim: int = LATENT_DIM,
    filters: Sequence[int] = FILTERS,
    hidden: Sequence[int] = HIDDEN,
) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> means and log-variances, each `(B, d)`: that of beta-VAE.

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: d.
        filters: Of each convolution, which halves height and width; (64, 128, 128) for 64x64.
        hidden: Units of each dense layer.

    Returns:
        A `keras.Model`.

    Raises:
        ValueError: If height or width cannot be halved so often.
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
    """`encoder` with a third head, logits of the classes `(B, L)`: that of N-VAE.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: L.
        latent_dim: Those of all classes and the shared ones together, `L d_c + d_s`.
        filters: As for `encoder`.
        hidden: As for `encoder`.

    Returns:
        A `keras.Model`: means, log-variances, logits.
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
    """`[x, y]`, images and one-hot labels -> means and log-variances, each `(B, d)`: that of CVAE.

    The label has a kernel of its own in the first dense layer, beside that of the convolutions.

    Args:
        image_shape: `(H, W, C)`.
        num_classes: L.
        latent_dim: d.
        filters: As for `encoder`.
        hidden: As for `encoder`, at least one.

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
    """What the decoder takes, `(B, inputs)` -> logits of the pixels `(B, H, W, C)`; the encoder's layers backwards.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel.
        inputs: The numbers of one image: d of beta-VAE, `d + L` of CVAE, `L (1 + d_c) + d_s` of N-VAE.
        filters: As for `encoder`, in the same order.
        hidden: As for `encoder`, in the same order.

    Returns:
        A `keras.Model`. The sigmoid that makes pixels in [0, 1] of its logits is left to the likelihood.

    Raises:
        ValueError: If height or width cannot be halved so often.
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
    """Features of images and their number."""
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
    """Dense layers, numbered from `first`, and the number of what they give."""
    for i, units in enumerate(hidden, start=first):
        x = layers.Dense(units, **torch_start(inputs), name=f"hidden_{i}")(x)
        x = layers.LeakyReLU(_SLOPE, name=f"hidden_{i}_leaky")(x)
        inputs = units
    return x, inputs


def _heads(x: Tensor, inputs: int, **units: int) -> list[Tensor]:
    """Linear heads by name."""
    options = {"dtype": keras.config.floatx(), **torch_start(inputs)}
    return [layers.Dense(number, **options, name=name)(x) for name, number in units.items()]
