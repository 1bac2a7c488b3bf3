"""The networks of REVAE: Table 3 (MNIST, Fashion-MNIST) and Table 4 (CelebA)."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import Tensor, as_floatx, blocks
from keras_ssvae.networks.layers import torch_start

IMAGE_SHAPE = (28, 28, 1)
C_DIM, REST_DIM = 4, 10  # dimensions of z_c and of the rest of z, for Fashion-MNIST
_SMALLEST_DEVIATION = 1e-3


@keras.saving.register_keras_serializable("keras_ssvae")
def softplus_logvar(raw: Tensor) -> Tensor:
    """The log-variance of a standard deviation `max(softplus(raw), 1e-3)`, as in REVAE's released code."""
    return 2.0 * ops.log(ops.maximum(ops.softplus(as_floatx(raw)), _SMALLEST_DEVIATION))


def encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = C_DIM + REST_DIM, hidden: int = 600
) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> means and log-variances of z, each `(B, d)` (Table 3).

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: Number of dimensions d of z_c and the rest together.
        hidden: Units of each of the two hidden layers.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(image_shape, name="image")
    x = _two_hidden(layers.Flatten(name="flatten")(images), math.prod(image_shape), hidden)
    return keras.Model(images, _heads(x, hidden, latent_dim), name="encoder")


def decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = C_DIM + REST_DIM, hidden: int = 600
) -> keras.Model:
    """Latent variables `(B, d)` -> logits of the pixels `(B, H, W, C)` (Table 3).

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: Number of dimensions d of z_c and the rest together.
        hidden: Units of each of the two hidden layers.

    Returns:
        A `keras.Model`. The likelihood applies the sigmoid that turns logits into pixels in [0, 1].
    """
    z, dtype = keras.Input((latent_dim,), name="z"), keras.config.floatx()
    x = _two_hidden(z, latent_dim, hidden)
    x = layers.Dense(math.prod(image_shape), dtype=dtype, **torch_start(hidden), name="logits")(x)
    return keras.Model(z, layers.Reshape(image_shape, dtype=dtype, name="image")(x), name="decoder")


def classifier(num_classes: int = 10, c_dim: int = C_DIM, hidden: int = 50) -> keras.Model:
    """Characteristic variables z_c `(B, m_c)` -> logits `(B, K)` of one label: `q(y | z_c)` (Table 3).

    Args:
        num_classes: Number of classes K.
        c_dim: Number of dimensions m_c.
        hidden: Units of the hidden layer.

    Returns:
        A `keras.Model`.
    """
    z_c = keras.Input((c_dim,), name="z_c")
    x = layers.Dense(hidden, activation="relu", **torch_start(c_dim), name="hidden")(z_c)
    logits = layers.Dense(num_classes, dtype=keras.config.floatx(), **torch_start(hidden), name="logits")
    return keras.Model(z_c, logits(x), name="classifier")


def factorized_classifier(num_classes: Sequence[int], c_dims: Sequence[int]) -> keras.Model:
    """Characteristic variables z_c -> logits of several labels; each label sees only its own part of z_c (Table 4).

    Args:
        num_classes: Number of values of each label.
        c_dims: Number of dimensions of each label's characteristic variables.

    Returns:
        A `keras.Model`, `(B, sum(c_dims))` -> `(B, sum(num_classes))`: the logits of all labels side by side.
    """
    z_c = keras.Input((sum(c_dims),), name="z_c")
    return keras.Model(z_c, LabelLogits(num_classes, c_dims, dtype="float32", name="labels")(z_c), name="classifier")


def celeba_encoder(latent_dim: int = 45, image_shape: tuple[int, int, int] = (64, 64, 3)) -> keras.Model:
    """Images `(B, 64, 64, 3)`, pixels in [0, 1] -> means and log-variances of z, each `(B, d)` (Table 4).

    Args:
        latent_dim: Number of dimensions d of z_c and the rest together.
        image_shape: `(64, 64, C)`.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(image_shape, name="image")
    x, channels = images, image_shape[-1]
    for i, filters in enumerate((32, 32, 64, 128, 256)):
        last = i == 4
        start = torch_start(4 * 4 * channels)
        strides, padding = (1, "valid") if last else (2, "same")
        x = layers.Conv2D(filters, 4, strides, padding, activation="relu", **start, name=f"conv_{i}")(x)
        channels = filters
    return keras.Model(images, _heads(layers.Flatten(name="flatten")(x), 256, latent_dim), name="encoder")


def celeba_decoder(latent_dim: int = 45, channels: int = 3) -> keras.Model:
    """Latent variables `(B, d)` -> logits of the pixels `(B, 64, 64, C)` (Table 4).

    Args:
        latent_dim: Number of dimensions d of z_c and the rest together.
        channels: Number of channels C.

    Returns:
        A `keras.Model`. The likelihood applies the sigmoid that turns logits into pixels in [0, 1].
    """
    z = keras.Input((latent_dim,), name="z")
    x = layers.Dense(256, activation="relu", **torch_start(latent_dim), name="dense")(z)
    x = layers.Reshape((1, 1, 256), name="reshape")(x)
    for i, filters in enumerate((128, 64, 32, 32, channels)):
        last = i == 4
        strides, padding = (1, "valid") if i == 0 else (2, "same")
        options = {"dtype": keras.config.floatx()} if last else {"activation": "relu"}
        start = torch_start(4 * 4 * filters)
        x = layers.Conv2DTranspose(filters, 4, strides, padding, **start, **options, name=f"conv_{i}")(x)
    return keras.Model(z, x, name="decoder")


def _two_hidden(x, inputs, hidden):
    x = layers.Dense(hidden, activation="relu", **torch_start(inputs), name="hidden_0")(x)
    return layers.Dense(hidden, activation="relu", **torch_start(hidden), name="hidden_1")(x)


def _heads(x, inputs, latent_dim):
    options = {"dtype": keras.config.floatx(), **torch_start(inputs)}
    mean = layers.Dense(latent_dim, **options, name="mean")(x)
    return mean, layers.Dense(latent_dim, activation=softplus_logvar, **options, name="logvar")(x)


@keras.saving.register_keras_serializable("keras_ssvae")
class LabelLogits(layers.Layer):
    """Linear maps from each label's own variables to its logits; returns the logits of all labels side by side.

    A label with two values has one logit `a z + b`, for its second value; that of the first value is 0. It starts with
    a = 1 and b = 0, as the sum of the label's variables. If each label has one dimension, this is the diagonal layer of
    REVAE's Table 4.

    Args:
        num_classes: Number of values of each label.
        c_dims: Number of dimensions of each label's variables.
        **kwargs: The arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `num_classes` and `c_dims` have different lengths.
    """

    def __init__(self, num_classes: Sequence[int], c_dims: Sequence[int], **kwargs):
        super().__init__(**kwargs)
        self.num_classes = [check_whole_number("num_classes", each, 2) for each in num_classes]
        self.c_dims = [check_whole_number("c_dims", each, 1) for each in c_dims]
        if len(self.num_classes) != len(self.c_dims):
            raise ValueError(
                f"`c_dims` is {c_dims}; it must hold one number for each of {len(self.num_classes)} labels."
            )

    def build(self, input_shape) -> None:
        self.kernels, self.biases = [], []
        for i, (values, inputs) in enumerate(zip(self.num_classes, self.c_dims, strict=True)):
            outputs = 1 if values == 2 else values
            start = {"kernel": "ones", "bias": "zeros"}
            if outputs > 1:
                start = dict(zip(start, torch_start(inputs).values(), strict=True))
            kernel = self.add_weight(shape=(inputs, outputs), initializer=start["kernel"], name=f"kernel_{i}")
            self.kernels.append(kernel)
            self.biases.append(self.add_weight(shape=(outputs,), initializer=start["bias"], name=f"bias_{i}"))

    def call(self, inputs) -> Tensor:
        parts = []
        for z, kernel, bias in zip(blocks(inputs, self.c_dims), self.kernels, self.biases, strict=True):
            logits = ops.matmul(z, kernel) + bias
            parts += [logits] if logits.shape[-1] > 1 else [ops.zeros_like(logits), logits]
        return ops.concatenate(parts, axis=-1)

    def compute_output_shape(self, input_shape) -> tuple[int | None, ...]:
        return *input_shape[:-1], sum(self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes, "c_dims": self.c_dims}
