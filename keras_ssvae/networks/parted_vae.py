"""The networks of PartedVAE: Tables 3 to 5. Encoders compute features h, and `Heads` the posteriors of c, u and z."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor, as_floatx, blocks

FEATURES = 256  # dimensions of h, and of a layer of the decoder
_SLOPE = 0.1  # of the LeakyReLU after the last convolution and after the features


def mnist_encoder() -> keras.Model:
    """Images `(B, 32, 32, 1)` -> features h `(B, 256)` (Table 3, left)."""
    return encoder((32, 32, 1), [32, 64, 64])


def mnist_decoder(latent_dim: int = 16) -> keras.Model:
    """Latent variables (z, u) `(B, d)` -> logits of the pixels `(B, 32, 32, 1)` (Table 3, right)."""
    return decoder(latent_dim, (4, 4, 64), [32, 32, 1])


def dsprites_encoder() -> keras.Model:
    """Images `(B, 64, 64, 1)` -> features h `(B, 256)` (Table 4, left, which gives the size as 32x32)."""
    return encoder((64, 64, 1), [32, 32, 64, 64])


def dsprites_decoder(latent_dim: int = 6) -> keras.Model:
    """Latent variables (z, u) `(B, d)` -> logits of the pixels `(B, 64, 64, 1)` (Table 4, right)."""
    return decoder(latent_dim, (4, 4, 64), [64, 32, 32, 1])


# Paddings (rows, columns) around the images and features of 218x178, 108x88, 54x44, 26x22 and 12x10 pixels. With them
# the encoder ends with 5x5 pixels, and the decoder, which crops them again, with 218x178.
_CELEBA_PADDINGS = [(0, 0), (1, 1), (0, 1), (0, 0), (0, 1)]


def celeba_encoder() -> keras.Model:
    """Images `(B, 218, 178, 3)` -> features h `(B, 256)` (Table 5, left)."""
    return encoder((218, 178, 3), [32, 32, 64, 64, 64], _CELEBA_PADDINGS)


def celeba_decoder(latent_dim: int = 18) -> keras.Model:
    """Latent variables (z, u) `(B, d)` -> logits of the pixels `(B, 218, 178, 3)` (Table 5, right)."""
    return decoder(latent_dim, (5, 5, 64), [64, 64, 32, 32, 3], _CELEBA_PADDINGS[::-1])


def encoder(
    image_shape: tuple[int, int, int], filters: Sequence[int], paddings: Sequence[tuple[int, int]] | None = None
) -> keras.Model:
    """Images -> features h `(B, 256)`, by convolutions with 4x4 kernels and strides of 2, and a dense layer.

    Args:
        image_shape: `(H, W, C)`.
        filters: Number of filters of each convolution.
        paddings: Padding of each convolution: rows above and below, columns left and right. By default 1 and 1, which
            halves an even size.

    Returns:
        A `keras.Model`.
    """
    images = keras.Input(image_shape, name="image")
    x = images
    for i, (number, padding) in enumerate(zip(filters, paddings or [(1, 1)] * len(filters), strict=True)):
        # For an even size, "same" is a padding of 1.
        same = padding == (1, 1) and x.shape[1] % 2 == x.shape[2] % 2 == 0
        x = x if same else layers.ZeroPadding2D(padding, name=f"padding_{i}")(x)
        x = layers.Conv2D(number, 4, strides=2, padding="same" if same else "valid", name=f"conv_{i}")(x)
        last = i == len(filters) - 1
        x = layers.LeakyReLU(_SLOPE, name=f"relu_{i}")(x) if last else layers.ReLU(name=f"relu_{i}")(x)
    x = layers.Dense(FEATURES, name="features")(layers.Flatten(name="flatten")(x))
    return keras.Model(images, layers.LeakyReLU(_SLOPE, name="leaky_relu")(x), name="encoder")


def decoder(
    latent_dim: int,
    smallest: tuple[int, int, int],
    filters: Sequence[int],
    paddings: Sequence[tuple[int, int]] | None = None,
) -> keras.Model:
    """(z, u) `(B, d)` -> logits of pixels, by two dense layers and transposed convolutions (4x4 kernels, strides of 2).

    Args:
        latent_dim: Number of dimensions d of z and u together.
        smallest: Shape `(H, W, C)` before the first transposed convolution.
        filters: Number of filters of each transposed convolution; for the last one the channels of the images.
        paddings: Rows and columns that are cropped on every side after each transposed convolution. By default 1 and 1,
            which doubles the size.

    Returns:
        A `keras.Model`. PartedVAE applies the sigmoid that turns logits into pixels in [0, 1].
    """
    latent = keras.Input((latent_dim,), name="z_u")
    x = layers.Dense(FEATURES, activation="relu", name="dense_0")(latent)
    x = layers.Dense(smallest[0] * smallest[1] * smallest[2], activation="relu", name="dense_1")(x)
    x = layers.Reshape(smallest, name="reshape")(x)
    for i, (number, padding) in enumerate(zip(filters, paddings or [(1, 1)] * len(filters), strict=True)):
        last, same = i == len(filters) - 1, padding == (1, 1)
        dtype = keras.config.floatx() if last else None
        padded = "same" if same else "valid"
        x = layers.Conv2DTranspose(number, 4, strides=2, padding=padded, dtype=dtype, name=f"conv_{i}")(x)
        x = x if same else layers.Cropping2D(padding, dtype=dtype, name=f"cropping_{i}")(x)
        x = x if last else layers.ReLU(name=f"relu_{i}")(x)
    return keras.Model(latent, x, name="decoder")


@keras.saving.register_keras_serializable("keras_ssvae")
class Heads(layers.Layer):
    """Features h -> the posteriors of each label c_i, of the variables u_i that belong to it, and of z.

    `u_i` sees h through an attention that depends on c_i: `h * sigmoid(slope (W c_i + b))`.

    Args:
        features: Number of dimensions of h.
        num_values: Number of values of each c_i.
        u_dims: Number of dimensions of each u_i.
        z_dim: Number of dimensions of z.
        **kwargs: The arguments of `keras.layers.Layer`.
    """

    def __init__(self, features: int, num_values: Sequence[int], u_dims: Sequence[int], z_dim: int, **kwargs):
        super().__init__(**kwargs)
        self.features, self.num_values, self.u_dims, self.z_dim = features, tuple(num_values), tuple(u_dims), z_dim

        def dense(name, units, inputs=features):
            layer = layers.Dense(units, name=name)
            layer.build((None, inputs))
            return layer

        self.z_mean, self.z_logvar = dense("z_mean", z_dim), dense("z_logvar", z_dim)
        self.c_logits = dense("c_logits", sum(num_values))
        self.attention = [dense(f"attention_{i}", features, inputs=k) for i, k in enumerate(num_values)]
        self.u_mean = [dense(f"u_mean_{i}", dim) for i, dim in enumerate(u_dims)]
        self.u_logvar = [dense(f"u_logvar_{i}", dim) for i, dim in enumerate(u_dims)]
        self.built = True

    def log_c(self, h: Tensor) -> list[Tensor]:
        """`log q(c_i | x)`, one `(B, K_i)` for each label."""
        return [ops.log_softmax(logits) for logits in blocks(as_floatx(self.c_logits(h)), self.num_values)]

    def z(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances `(B, z_dim)` of `q(z | x)`."""
        return as_floatx(self.z_mean(h)), as_floatx(self.z_logvar(h))

    def u(self, h: Tensor, c: Sequence[Tensor], slope: float | Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances `(B, sum(u_dims))` of `q(u | c, x)`, for (soft) one-hot c_i `(B, K_i)`."""
        maps = [ops.sigmoid(slope * as_floatx(layer(c_i))) for layer, c_i in zip(self.attention, c, strict=True)]
        h = ops.cast(h, self.compute_dtype)
        attended = [h * ops.cast(each, h.dtype) for each in maps]
        return tuple(
            as_floatx(ops.concatenate([head(x) for head, x in zip(heads, attended, strict=True)], axis=-1))
            for heads in (self.u_mean, self.u_logvar)
        )

    def get_config(self) -> dict[str, Any]:
        names = ("features", "num_values", "u_dims", "z_dim")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
