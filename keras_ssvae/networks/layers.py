"""Layers that the papers' networks need and Keras does not have."""

import keras
from keras import ops

from keras_ssvae.training import add_bias, normalize_pool_activate


@keras.saving.register_keras_serializable("keras_ssvae")
class ConvBlock(keras.layers.Layer):
    """Conv2D ('same'), batch normalisation, LeakyReLU, 2x2 max pooling and spatial dropout: a block of Table 5.

    As one layer it does the same with less work: normalisation and LeakyReLU are monotone, so pooling comes first. It
    moves the *unbiased* variance, as the fused batch normalisation of the original codes. float32 only.

    Args:
        filters: Channels C of the output.
        kernel_size: Width of the square kernel.
        dropout: Rate of the spatial dropout: whole channels of an image.
        negative_slope: Of the LeakyReLU.
        momentum: Of the moving statistics.
        epsilon: Added to the variance.
        seed: Of the dropout. A model of this library sets the dropout's state at each step.
        **kwargs: As `keras.layers.Layer`.

    Call arguments:
        inputs: `(B, H, W, channels)`.
        training: Whether to normalise by the batch, and drop out.

    Returns:
        `(B, H // 2, W // 2, C)`.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        dropout: float = 0.0,
        negative_slope: float = 0.1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters, self.kernel_size, self.dropout = filters, kernel_size, dropout
        self.negative_slope, self.momentum, self.epsilon, self.seed = negative_slope, momentum, epsilon, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if dropout else None

    def build(self, input_shape):
        def per_channel(name, initializer, trainable=True):
            return self.add_weight(shape=(self.filters,), initializer=initializer, trainable=trainable, name=name)

        kernel_shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        self.kernel = self.add_weight(shape=kernel_shape, initializer="glorot_uniform", name="kernel")
        self.bias = per_channel("bias", "zeros")
        self.gamma = per_channel("gamma", "ones")
        self.beta = per_channel("beta", "zeros")
        self.moving_mean = per_channel("moving_mean", "zeros", trainable=False)
        self.moving_variance = per_channel("moving_variance", "ones", trainable=False)

    def call(self, inputs, training=False):
        x = add_bias(ops.conv(inputs, self.kernel, padding="same"), self.bias)
        keep = ops.ones((ops.shape(inputs)[0], 1, 1, self.filters), x.dtype)
        if self.dropout and training:
            keep = keras.random.dropout(keep, self.dropout, seed=self.seed_generator)
        if not (training and self.trainable):
            x = ops.batch_normalization(
                x, self.moving_mean, self.moving_variance, -1, self.beta, self.gamma, self.epsilon
            )
            return ops.leaky_relu(ops.max_pool(x, 2), self.negative_slope) * keep
        outputs, mean, variance = normalize_pool_activate(
            x, self.gamma, self.beta, keep, self.epsilon, self.negative_slope
        )
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, height // 2, width // 2, self.filters

    def get_config(self):
        names = ("filters", "kernel_size", "dropout", "negative_slope", "momentum", "epsilon", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


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
