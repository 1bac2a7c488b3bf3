"""Layers that the papers' networks need and Keras does not have."""

from typing import Any

import keras
from keras import ops

from keras_ssvae.backend import batch_normalize, normalize_pool_activate
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor


@keras.saving.register_keras_serializable("keras_ssvae")
class ConvBlock(keras.layers.Layer):
    """One row of EXoN's tables: convolution ('same'), batch normalisation, LeakyReLU, 2x2 max pooling, spatial dropout.

    One layer for all of them needs less work for the same result: normalisation and LeakyReLU are monotone, so pooling
    can come first. The moving variance is the *unbiased* one, as in the fused batch normalisation of EXoN's code.
    Statistics are float32 under every dtype policy.

    Args:
        filters: Channels C of the output.
        kernel_size: Width of the square kernel.
        strides: Strides of the convolution.
        transpose: Whether the convolution is transposed, which enlarges the image by the factor `strides`.
        pool: Whether to pool.
        rate: Rate of the spatial dropout, which sets whole channels of an image to 0.
        negative_slope: Slope of the LeakyReLU below 0; 0 is a ReLU.
        momentum: Momentum of the moving statistics.
        epsilon: Added to the variance.
        seed: Seed of the dropout. A model of this library sets the state of the dropout at each step.
        **kwargs: The arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If an argument is out of its range.

    Call arguments:
        inputs: `(B, H, W, channels)`.
        training: Whether to normalise by the statistics of the batch, and to drop out.

    Returns:
        `(B, H', W', C)`. H' is H / strides rounded up, or H * strides if transposed. Pooling halves it, rounded down.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        transpose: bool = False,
        pool: bool = False,
        rate: float = 0.0,
        negative_slope: float = 0.1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        seed: int | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, value in (("filters", filters), ("kernel_size", kernel_size), ("strides", strides)):
            if not is_integer(value) or value < 1:
                raise ValueError(f"`{name}` is {value!r}; it must be a positive integer.")
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` is {rate!r}; it must be a share of the channels, 0 or more and less than 1.")
        if negative_slope < 0:
            # Pooling comes before the activation, which must not change the order of two pixels.
            raise ValueError(f"`negative_slope` is {negative_slope!r}; it must be 0 (ReLU) or more.")
        self.filters, self.kernel_size, self.strides = int(filters), int(kernel_size), int(strides)
        self.transpose, self.pool, self.rate, self.negative_slope = transpose, pool, rate, negative_slope
        self.momentum, self.epsilon, self.seed = momentum, epsilon, seed
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None

    def build(self, input_shape) -> None:
        def per_channel(name, initializer, trainable=True):
            return self.add_weight(
                shape=(self.filters,),
                initializer=initializer,
                trainable=trainable,
                autocast=name == "bias",
                aggregation="none" if trainable else "mean",
                name=name,
            )

        channels = (self.filters, input_shape[-1]) if self.transpose else (input_shape[-1], self.filters)
        kernel_shape = (self.kernel_size, self.kernel_size, *channels)
        self.kernel = self.add_weight(shape=kernel_shape, initializer="glorot_uniform", name="kernel")
        self.bias = per_channel("bias", "zeros")
        self.gamma = per_channel("gamma", "ones")
        self.beta = per_channel("beta", "zeros")
        self.moving_mean = per_channel("moving_mean", "zeros", trainable=False)
        self.moving_variance = per_channel("moving_variance", "ones", trainable=False)

    def call(self, inputs, training=False) -> Tensor:
        convolve = ops.conv_transpose if self.transpose else ops.conv
        # `ops.add` is TensorFlow's BiasAdd here, as in EXoN's code. The gradient of a bias before a normalisation
        # consists of rounding errors only; those of `+` change the losses of the second step by 1e-5.
        x = ops.add(convolve(inputs, self.kernel, self.strides, "same"), self.bias)
        if not (training and self.trainable):
            statistics = self.moving_mean, self.moving_variance
            x = ops.batch_normalization(ops.cast(x, "float32"), *statistics, -1, self.beta, self.gamma, self.epsilon)
            x = ops.leaky_relu(ops.cast(x, self.compute_dtype), self.negative_slope)
            return ops.max_pool(x, (2, 2), (2, 2)) if self.pool else x
        # In float32: in bfloat16 TensorFlow would round the rate to 1/128.
        keep = ops.ones((ops.shape(inputs)[0], 1, 1, self.filters), "float32")
        if self.rate:
            keep = keras.random.dropout(keep, self.rate, seed=self.seed_generator)
        if self.pool:
            outputs, mean, variance = normalize_pool_activate(
                x, self.gamma, self.beta, keep, self.epsilon, self.negative_slope
            )
        else:
            outputs, mean, variance = batch_normalize(x, self.gamma, self.beta, self.epsilon)
            outputs = ops.leaky_relu(outputs, self.negative_slope)
            outputs = outputs * ops.cast(keep, outputs.dtype) if self.rate else outputs
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + value * (1.0 - self.momentum))
        return outputs

    def compute_output_shape(self, input_shape) -> tuple[int | None, ...]:
        def output_size(n):
            n = n * self.strides if self.transpose else -(-n // self.strides)
            return n // 2 if self.pool else n

        batch, *sizes, _ = input_shape
        return batch, *(None if n is None else output_size(n) for n in sizes), self.filters

    def get_config(self) -> dict[str, Any]:
        names = ("filters", "kernel_size", "strides", "transpose", "pool", "rate", "negative_slope", "momentum")
        return {**super().get_config(), **{name: getattr(self, name) for name in (*names, "epsilon", "seed")}}


def he_normal_dense(units: int, inputs: int, **kwargs) -> keras.layers.Dense:
    """Returns a dense layer with the initialisation of VampPrior's code.

    The kernel starts at `N(0, 2 / inputs)`, the biases at `U(-r, r)` with `r = 1 / sqrt(inputs)`.

    Args:
        units: Number of outputs.
        inputs: Number of inputs, which the initialiser of the biases does not see.
        **kwargs: The arguments of `keras.layers.Dense`.

    Returns:
        The layer, not built.
    """
    limit = inputs**-0.5
    return keras.layers.Dense(
        units,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal"),
        bias_initializer=keras.initializers.RandomUniform(-limit, limit),
        **kwargs,
    )


def torch_start(fan_in: int) -> dict[str, keras.initializers.Initializer]:
    """The initialisers of PyTorch's dense layers and convolutions: `U(-r, r)` with `r = 1 / sqrt(fan_in)`.

    Args:
        fan_in: Number of inputs of a dense layer; kernel area times input channels of a convolution; kernel area times
            *output* channels of a transposed convolution, as in PyTorch.

    Returns:
        The arguments `kernel_initializer` and `bias_initializer` of Keras' layers, as a dictionary.
    """
    limit = fan_in**-0.5
    names = ("kernel_initializer", "bias_initializer")
    return {name: keras.initializers.RandomUniform(-limit, limit) for name in names}


@keras.saving.register_keras_serializable("keras_ssvae")
class Gated(keras.layers.Layer):
    """A linear layer with a gate for each output: `(W x + b) * sigmoid(V x + c)`.

    The networks of VampPrior and CP-VAE consist of such layers.

    Args:
        units: Number of outputs.
        **kwargs: The arguments of `keras.layers.Layer`.

    Reference:
        Dauphin, Fan, Auli, Grangier: Language modeling with gated convolutional networks, 2017.
    """

    def __init__(self, units: int, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, input_shape) -> None:
        inputs = input_shape[-1]
        self.linear = he_normal_dense(self.units, inputs, dtype=self.dtype_policy, name="linear")
        self.gate = he_normal_dense(self.units, inputs, activation="sigmoid", dtype=self.dtype_policy, name="gate")
        self.linear.build(input_shape)
        self.gate.build(input_shape)

    def call(self, inputs) -> Tensor:
        return self.linear(inputs) * self.gate(inputs)

    def compute_output_shape(self, input_shape) -> tuple[int | None, ...]:
        return *input_shape[:-1], self.units

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units}


def mixture_heads(x, num_classes: int, latent_dim: int, name: str) -> Tensor:
    """One linear head `Dense(latent_dim)` for each component of a mixture, computed as a single product.

    Args:
        x: Features `(B, H)`, a Keras tensor.
        num_classes: Number of components K.
        latent_dim: Number of outputs d of each head.
        name: Name of the layer.

    Returns:
        `(B, K, d)`. Each head is initialised as its own `Dense` layer (Glorot uniform with `H` inputs, `d` outputs).
    """
    limit = (6.0 / (x.shape[-1] + latent_dim)) ** 0.5
    return keras.layers.EinsumDense(
        "bh,hkd->bkd",
        output_shape=(num_classes, latent_dim),
        bias_axes="kd",
        kernel_initializer=keras.initializers.RandomUniform(-limit, limit),
        dtype="float32",  # under every policy, since the losses take logarithms and exponentials of the outputs
        name=name,
    )(x)
