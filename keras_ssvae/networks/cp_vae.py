"""The networks of CP-VAE: those of VAE, except for the encoder's heads; the heads of z can see the category."""

import keras
from keras import layers, ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.networks.layers import he_normal_dense
from keras_ssvae.networks.vae import IMAGE_SHAPE, LATENT_DIM, clip_logvar, two_gated
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
        z_dim: Number of dimensions d of z.
        num_categories: Number of categories K.
        hidden: Outputs of each gated layer.
    """
    return vae_decoder(image_shape, z_dim + num_categories, hidden)


class Heads(layers.Layer):
    """Features h -> `q(c | x)` and `q(z | x, c)`, by linear layers, which are float32 under every policy.

    Args:
        features: Number of dimensions of h.
        num_categories: Number of categories K.
        z_dim: Number of dimensions d of z.
        z_sees_c: Whether the layers of z get c in addition to h.
        elu: Whether the logits pass through an ELU.
        **kwargs: The arguments of `keras.layers.Layer`.
    """

    def __init__(self, features: int, num_categories: int, z_dim: int, z_sees_c: bool, elu: bool, **kwargs):
        super().__init__(**kwargs)
        self.num_categories, self.z_sees_c, self.elu = num_categories, z_sees_c, elu

        def dense(name, units, inputs):
            layer = he_normal_dense(units, inputs, dtype=keras.config.floatx(), name=name)
            layer.build((None, inputs))
            return layer

        inputs = features + (num_categories if z_sees_c else 0)
        self.c_logits = dense("c_logits", num_categories, features)
        self.z_mean, self.z_logvar = dense("z_mean", z_dim, inputs), dense("z_logvar", z_dim, inputs)
        self.built = True

    def logits(self, h: Tensor) -> Tensor:
        """The logits of `q(c | x)`, `(B, K)`."""
        logits = self.c_logits(h)
        return ops.elu(logits) if self.elu else logits

    def z(self, h: Tensor, c: Tensor) -> list[Tensor]:
        """The means and log-variances `(B, d)` of `q(z | x, c)`, for soft or one-hot c `(B, K)`.

        The log-variances are clipped to [-6, 2].
        """
        inputs = ops.concatenate([h, c], axis=-1) if self.z_sees_c else h
        return [self.z_mean(inputs), clip_logvar(self.z_logvar(inputs))]

    def z_of_each(self, h: Tensor) -> list[Tensor]:
        """The same for each category, `(B, K, d)`. The layers are affine, so a category adds the same to all images."""
        mean, logvar = (self._of_each(head, h) for head in (self.z_mean, self.z_logvar))
        return [mean, clip_logvar(logvar)]

    def _of_each(self, head, h):
        if not self.z_sees_c:
            return ops.repeat(head(h)[:, None], self.num_categories, axis=1)
        k = self.num_categories
        none_and_each = ops.concatenate([ops.zeros((k + 1, h.shape[-1])), ops.eye(k + 1, k, k=-1)], axis=-1)
        of_none, of_each = ops.split(head(none_and_each), [1])
        without_c = ops.concatenate([h, ops.zeros((ops.shape(h)[0], k))], axis=-1)
        return head(without_c)[:, None] + (of_each - of_none)[None]
