"""One gradient step, and the fused kernels, on TensorFlow."""

from collections.abc import Callable

import keras
import tensorflow as tf


def gradient_step(model: keras.Model, losses: Callable[[], dict[str, tf.Tensor]]) -> dict[str, tf.Tensor]:
    """Applies one step of `model.optimizer` to `losses()["total"]`; returns all the named terms of `losses()`."""
    variables = model.trainable_variables
    with tf.GradientTape() as tape:
        terms = losses()
    model.optimizer.apply(tape.gradient(terms["total"], variables), variables)
    return terms


def batch_norm_max_pool(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, negative_slope: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation by the batch's statistics, 2x2 max pooling and LeakyReLU, in one.

    Normalisation is an increasing function where gamma > 0, and a decreasing one where gamma < 0: so pooling comes
    first (of -x where gamma < 0), and only a quarter of the pixels is normalised. The gradient needs one pass over
    the full image instead of five, for the pixels that were not selected enter only through the statistics.

    Args:
        x: Images `(B, H, W, C)`.
        gamma: Scale, `(C,)`.
        beta: Offset, `(C,)`.
        epsilon: Added to the variance.
        negative_slope: Of the LeakyReLU.

    Returns:
        The images `(B, H // 2, W // 2, C)`, and of the batch the mean `(C,)` and the *unbiased* variance `(C,)`.
    """

    @tf.custom_gradient
    def kernel(x, gamma, beta):
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], x.dtype)
        # In two stages: a plain running sum over so many float32 numbers loses two digits.
        mean = tf.reduce_mean(x, axis=(0, 1, 2))
        variance = tf.reduce_mean(_squared_difference(x, mean), axis=(0, 1, 2))
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        sign = tf.where(gamma < 0.0, -1.0, 1.0)
        signed = tf.cond(tf.reduce_all(gamma >= 0.0), lambda: x, lambda: sign * x)
        pooled = tf.nn.max_pool2d(signed, 2, 2, "VALID")
        centred = _centre(pooled, sign, mean)
        y = _affine_leaky_relu(centred, scale, beta, negative_slope)

        def gradient(dy, *_):
            dy = _leaky_relu_gradient(y, dy, negative_slope)
            sum_dy = tf.reduce_sum(tf.reduce_sum(dy, axis=(1, 2)), axis=0)
            dgamma = tf.reduce_sum(tf.reduce_sum(dy * centred, axis=(1, 2)), axis=0) * inverse
            dx = _unpool(x, signed, pooled, dy, scale, scale * inverse * dgamma / count, mean, scale * sum_dy / count)
            return dx, dgamma, sum_dy

        return (y, mean, variance * count / (count - 1.0)), gradient

    return kernel(x, tf.convert_to_tensor(gamma), tf.convert_to_tensor(beta))


# XLA makes one loop of each of these; the operations around them are faster as they are.


@tf.function(jit_compile=True, autograph=False)
def _squared_difference(x, mean):
    return tf.square(x - mean)


@tf.function(jit_compile=True, autograph=False)
def _centre(pooled, sign, mean):
    return sign * pooled - mean


@tf.function(jit_compile=True, autograph=False)
def _affine_leaky_relu(x, scale, offset, negative_slope):
    return tf.nn.leaky_relu(x * scale + offset, negative_slope)


@tf.function(jit_compile=True, autograph=False)
def _leaky_relu_gradient(y, dy, negative_slope):
    return tf.where(y > 0.0, dy, negative_slope * dy)


@tf.function(jit_compile=True, autograph=False)
def _unpool(x, signed, pooled, dy, scale, by_x, mean, constant):
    """`scale * dy` where `signed` was the (first) largest of its 2x2 window; less what the statistics take off."""
    height, width, channels = (x.shape[1] // 2, x.shape[2] // 2, x.shape[3])
    windows = tf.reshape(signed[:, : 2 * height, : 2 * width], (-1, height, 2, width, 2, channels))
    taken = tf.zeros(tf.shape(pooled), "bool")
    parts = []
    for i in range(2):
        for j in range(2):
            largest = windows[:, :, i, :, j] == pooled
            parts.append(tf.where(largest & ~taken, scale * dy, 0.0))
            taken |= largest
    selected = tf.stack([tf.stack(parts[:2], axis=3), tf.stack(parts[2:], axis=3)], axis=2)
    selected = tf.reshape(selected, (-1, 2 * height, 2 * width, channels))
    odd = [[0, 0], [0, x.shape[1] - 2 * height], [0, x.shape[2] - 2 * width], [0, 0]]
    return tf.pad(selected, odd) - (by_x * (x - mean) + constant)
