"""The kernels by themselves; tests/networks/test_layers.py has what a block makes of them."""

import runpy

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import backend
from keras_ssvae.backend import batch_normalize, normalize_pool_activate

JAX = keras.backend.backend() == "jax"
GAMMA, BETA = np.float32([1.5, -0.5]), np.float32([0.25, -1.0])


def normalize(x):
    return batch_normalize(*map(ops.convert_to_tensor, (x, GAMMA, BETA)), 1e-3)


def normalize_and_pool(x):
    keep = np.ones((len(x), 1, 1, 2), "float32")
    return normalize_pool_activate(*map(ops.convert_to_tensor, (x, GAMMA, BETA, keep)), 1e-3, 0.1)


both = pytest.mark.parametrize("kernel", [normalize, normalize_and_pool])


@both
def test_variance_of_images_far_from_0_keeps_its_digits(kernel):
    # The mean of the squares less the square of the mean would be 2 % away.
    x = (1000 + np.random.default_rng(0).normal(size=(8, 6, 6, 2))).astype("float32")
    exact = x.astype("float64")
    _, mean, variance = map(ops.convert_to_numpy, kernel(x))
    np.testing.assert_allclose(mean, exact.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(variance, exact.var((0, 1, 2), ddof=1), rtol=1e-3)


def test_constant_images_become_beta():
    x = np.full((2, 4, 4, 2), 7.0, "float32")
    np.testing.assert_allclose(normalize(x)[0], np.broadcast_to(BETA, x.shape), rtol=1e-6)
    activated = np.where(BETA > 0, BETA, 0.1 * BETA)
    np.testing.assert_allclose(normalize_and_pool(x)[0], np.broadcast_to(activated, (2, 2, 2, 2)), rtol=1e-6)


def test_a_single_pixel_has_no_variance_and_gives_no_nan():
    y, mean, variance = map(ops.convert_to_numpy, normalize(np.float32([3.0, -2.0]).reshape(1, 1, 1, 2)))
    np.testing.assert_allclose(y.ravel(), BETA, rtol=1e-6)
    np.testing.assert_allclose(mean, [3.0, -2.0])
    np.testing.assert_array_equal(variance, [0.0, 0.0])


def first_of_the_largest(x, upstream):
    """The gradient of 2x2 pooling, window by window: to the first pixel, row by row, that none exceeds."""
    gradient = np.zeros_like(x)
    for b, i, j, c in np.ndindex(*upstream.shape):
        window = x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]
        row, column = np.unravel_index(np.argmax(window), (2, 2))
        gradient[b, 2 * i + row, 2 * j + column, c] = upstream[b, i, j, c]
    return gradient


@pytest.mark.skipif(not JAX, reason="TensorFlow has this in `_unpool`, with the normalisation's gradient")
@pytest.mark.parametrize("size", [(4, 6), (5, 4), (4, 7), (3, 3)])
def test_max_pool_gives_the_gradient_to_the_first_of_equal_pixels(size, differentiate):
    from keras_ssvae.backend.jax import _max_pool

    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (3, *size, 2)).astype("float32")  # ties in most windows
    upstream = rng.normal(size=(3, size[0] // 2, size[1] // 2, 2)).astype("float32")
    pooled, (gradient,) = differentiate(_max_pool, [x], upstream=upstream)
    np.testing.assert_array_equal(pooled, ops.convert_to_numpy(ops.max_pool(x, 2, 2)))
    np.testing.assert_array_equal(gradient, first_of_the_largest(x, upstream))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_of_the_selected_pixels_alone_where_the_statistics_do_not_move(dtype, differentiate):
    """Pixels and upstream whose sums vanish: the statistics' part of the gradient is 0, the rest has a closed form."""
    x = np.zeros((1, 4, 4, 2), "float32")
    # Each window holds 1, 1, -1, -1: mean 0 and variance 1. Where gamma < 0 the largest output is at -1.
    x[0, 0::2], x[0, 1::2] = 1.0, -1.0
    upstream = np.float32([[1.0, -1.0], [-1.0, 1.0]])[None, :, :, None] * np.ones(2, "float32")

    def pooled(x):
        keep = ops.ones((1, 1, 1, 2))
        gamma, beta = ops.convert_to_tensor(np.float32([2.0, -3.0])), ops.zeros(2)
        y, *_ = normalize_pool_activate(ops.cast(x, dtype), gamma, beta, keep, 0.0, 0.1)
        return ops.cast(y, "float32")

    outputs, (gradient,) = differentiate(pooled, [x], upstream=upstream)
    np.testing.assert_array_equal(outputs, np.broadcast_to(np.float32([2.0, 3.0]), (1, 2, 2, 2)))
    expected = np.zeros_like(x)
    expected[0, 0::2, 0::2, 0], expected[0, 1::2, 0::2, 1] = 2.0 * upstream[0, :, :, 0], -3.0 * upstream[0, :, :, 1]
    np.testing.assert_array_equal(gradient, expected)


def test_another_backend_is_refused_by_its_name(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "torch")
    with pytest.raises(ImportError, match="TensorFlow and JAX backends of Keras; the backend is 'torch'"):
        runpy.run_path(backend.__file__)
