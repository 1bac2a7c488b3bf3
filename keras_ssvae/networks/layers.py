"""Layers that the papers' networks need and Keras does not have."""

import keras
from keras import ops

from keras_ssvae.training import batch_norm_max_pool


@keras.saving.register_keras_serializable("keras_ssvae")
class BatchNormMaxPool(keras.layers.BatchNormalization):
    """Batch normalisation, LeakyReLU and 2x2 max pooling of images `(B, H, W, C)`, as one layer.

    The numbers are those of the three layers in that order; the order of the work is another: all are monotone, so
    pooling can come first. It moves the *unbiased* variance, as the fused batch normalisation of the original codes.

    Args:
        negative_slope: Of the LeakyReLU.
        **kwargs: As `keras.layers.BatchNormalization`, but for `axis`, `center`, `scale` and `renorm`.
    """

    def __init__(self, negative_slope: float = 0.1, **kwargs):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs, training=None):
        if not (training and self.trainable):
            x = ops.max_pool(super().call(inputs, training=False), 2)
            return ops.leaky_relu(x, self.negative_slope)
        outputs, mean, variance = batch_norm_max_pool(inputs, self.gamma, self.beta, self.epsilon, self.negative_slope)
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return batch, height // 2, width // 2, channels

    def get_config(self):
        config = {**super().get_config(), "negative_slope": self.negative_slope}
        return {name: value for name, value in config.items() if not name.startswith("renorm")}


def mixture_heads(x, num_classes: int, latent_dim: int, name: str):
    """One linear head `Dense(latent_dim)` per mixture component, as a single product.

    Args:
        x: Features `(B, H)`, a Keras tensor.
        num_classes: Components K.
        latent_dim: Outputs d of each head.
        name: Layer name.

    Returns:
        `(B, K, d)`. Each head starts as a Dense layer of its own would (Glorot uniform of `H` inputs, `d` outputs).
    """
    limit = (6.0 / (x.shape[-1] + latent_dim)) ** 0.5
    return keras.layers.EinsumDense(
        "bh,hkd->bkd",
        output_shape=(num_classes, latent_dim),
        bias_axes="kd",
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        name=name,
    )(x)
