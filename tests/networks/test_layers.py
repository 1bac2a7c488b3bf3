"""`ConvBlock` against the separate layers of Keras, which compute in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssvae.networks.layers import ConvBlock
from keras_ssvae.training import normalize_pool_activate

FILTERS = 6
GAMMAS = {
    "positive": [0.5, 1.0, 1.5, 2.0, 0.1, 0.7],
    "negative": [-0.5, -1.0, -1.5, -2.0, -0.1, -0.7],
    "mixed": [0.5, -1.0, 1.5, -2.0, -0.1, 0.7],
}
SHAPES = [(4, 8, 8, 3), (4, 7, 7, 3), (2, 6, 5, 1)]


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_block(shape, gamma, kernel_size=3, **kwargs):
    """A block whose weights and statistics are all different from their initial values."""
    block = ConvBlock(FILTERS, kernel_size, **kwargs)
    block.build(shape)
    for i, variable in enumerate((block.kernel, block.bias, block.beta, block.moving_mean)):
        variable.assign(0.5 * random(variable.shape, seed=i + 1))
    block.gamma.assign(GAMMAS[gamma])
    block.moving_variance.assign(np.linspace(0.5, 2.0, FILTERS))
    return block


class Separate:
    """Conv2D, BatchNormalization, LeakyReLU and MaxPooling2D with the weights of a block."""

    def __init__(self, block):
        def make(layer, **kwargs):
            return layer(**kwargs, dtype="float64")

        self.convolution = make(keras.layers.Conv2D, filters=FILTERS, kernel_size=block.kernel_size, padding="same")
        self.normalisation = make(keras.layers.BatchNormalization)
        self.activation = make(keras.layers.LeakyReLU, negative_slope=0.1)
        self.pooling = make(keras.layers.MaxPooling2D)
        self.convolution.build((None, None, None, block.kernel.shape[2]))
        self.normalisation.build((None, None, None, FILTERS))
        self.convolution.set_weights([block.kernel, block.bias])
        self.normalisation.set_weights([block.gamma, block.beta, block.moving_mean, block.moving_variance])

    @property
    def variables(self):
        return [self.convolution.kernel, self.normalisation.gamma, self.normalisation.beta]

    def __call__(self, x, training):
        x = self.normalisation(self.convolution(x), training=training)
        return self.pooling(self.activation(x))


def outputs_and_gradients(function, x, variables, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = function(x)
        total = tf.reduce_sum(outputs * tf.cast(upstream, outputs.dtype))
    return outputs, tape.gradient(total, [x, *variables], unconnected_gradients="zero")


def assert_close(value, expected, tolerance):
    """Relative to the largest: a sum over many pixels may well cancel to almost nothing."""
    value, expected = np.asarray(value), np.asarray(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 0.1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_block_in_training_equals_the_separate_layers(gamma, shape):
    block = make_block(shape, gamma)
    separate = Separate(block)
    x = random(shape)
    upstream = random((shape[0], shape[1] // 2, shape[2] // 2, FILTERS), seed=9)
    variables = [block.kernel, block.gamma, block.beta, block.bias]
    outputs, (*gradients, of_bias) = outputs_and_gradients(
        lambda x: block(x, training=True), tf.constant(x), [v.value for v in variables], upstream
    )
    expected, expected_gradients = outputs_and_gradients(
        lambda x: separate(x, True), tf.constant(x, "float64"), [v.value for v in separate.variables], upstream
    )
    assert outputs.shape == block.compute_output_shape(shape) == expected.shape
    assert_close(outputs, expected, 1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, expected_gradient, 1e-5)
    np.testing.assert_allclose(of_bias, 0.0, atol=1e-4)  # the normalisation takes a bias off again


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", GAMMAS)
def test_block_in_inference_equals_the_separate_layers(gamma, shape):
    block = make_block(shape, gamma, dropout=0.5)
    separate = Separate(block)
    x = random(shape)
    before = [w.numpy() for w in block.weights]
    assert_close(block(x, training=False), separate(x.astype("float64"), False), 1e-5)
    for weight, value in zip(block.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_gradient_in_inference_equals_that_of_the_separate_layers():
    block = make_block(SHAPES[0], "mixed")
    separate = Separate(block)
    upstream = random((4, 4, 4, FILTERS), seed=9)
    _, (gradient,) = outputs_and_gradients(lambda x: block(x), tf.constant(random(SHAPES[0])), [], upstream)
    _, (expected,) = outputs_and_gradients(
        lambda x: separate(x, False), tf.constant(random(SHAPES[0]), "float64"), [], upstream
    )
    assert_close(gradient, expected, 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_moving_statistics_take_the_batchs_mean_and_its_unbiased_variance(shape):
    block = make_block(shape, "mixed", momentum=0.9)
    mean, variance = block.moving_mean.numpy(), block.moving_variance.numpy()
    convolved = Separate(block).convolution(random(shape).astype("float64")).numpy()
    block(random(shape), training=True)
    axes = (0, 1, 2)
    assert_close(block.moving_mean, 0.9 * mean + 0.1 * convolved.mean(axes), 1e-6)
    assert_close(block.moving_variance, 0.9 * variance + 0.1 * convolved.var(axes, ddof=1), 1e-6)
    # On so few pixels the biased variance is plainly another number.
    biased = 0.9 * variance + 0.1 * convolved.var(axes)
    assert np.abs(block.moving_variance.numpy() / biased - 1).max() > 1e-4


def test_dropout_takes_whole_channels_of_an_image_and_scales_the_others():
    shape = (16, 8, 8, 3)
    block, without = make_block(shape, "mixed", dropout=0.5, seed=3), make_block(shape, "mixed")
    ratio = block(random(shape), training=True).numpy() / without(random(shape), training=True).numpy()
    factors = ratio[:, :1, :1]
    np.testing.assert_allclose(ratio, np.broadcast_to(factors, ratio.shape), rtol=1e-5)
    np.testing.assert_allclose(np.unique(np.rint(factors)), [0.0, 2.0])
    assert 0.3 < np.mean(factors == 0) < 0.7
    assert len(np.unique(factors.reshape(16, -1) > 1, axis=0)) > 8  # each image has channels of its own


def test_gradient_goes_through_the_channels_that_dropout_keeps():
    shape = (4, 7, 7, 3)
    block, without = make_block(shape, "mixed", dropout=0.5, seed=3), make_block(shape, "mixed")
    x, upstream = tf.constant(random(shape)), random((4, 3, 3, FILTERS), seed=9)
    names = ("kernel", "gamma", "beta")
    outputs, gradients = outputs_and_gradients(
        lambda x: block(x, training=True), x, [getattr(block, n).value for n in names], upstream
    )
    reference = without(x, training=True)
    keep = np.rint(outputs / reference)  # 0 or 2
    _, expected = outputs_and_gradients(
        lambda x: without(x, training=True), x, [getattr(without, n).value for n in names], upstream * keep
    )
    assert {*np.unique(keep)} == {0.0, 2.0}
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        assert_close(gradient, expected_gradient, 1e-5)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_equal_pixels_share_no_gradient_the_first_of_them_takes_it(gamma):
    # Whole numbers, so that windows hold ties in any precision, as the background of a digit does.
    x = np.random.default_rng(0).integers(0, 3, (4, 6, 6, FILTERS)).astype("float32")
    beta, keep = random((FILTERS,), seed=2), np.ones((4, 1, 1, FILTERS), "float32")
    upstream = random((4, 3, 3, FILTERS), seed=9)
    gamma = tf.constant(GAMMAS[gamma])
    _, (gradient,) = outputs_and_gradients(
        lambda x: normalize_pool_activate(x, gamma, beta, keep, 1e-3, 0.1)[0], tf.constant(x), [], upstream
    )

    def separate(x):
        mean, variance = tf.nn.moments(x, (0, 1, 2))
        y = tf.nn.batch_normalization(x, mean, variance, tf.cast(beta, x.dtype), tf.cast(gamma, x.dtype), 1e-3)
        return tf.nn.max_pool2d(tf.nn.leaky_relu(y, 0.1), 2, 2, "VALID")

    _, (expected,) = outputs_and_gradients(separate, tf.constant(x, "float64"), [], upstream)
    assert_close(gradient, expected, 1e-5)


def test_config_round_trip_keeps_every_argument():
    arguments = {
        "filters": 4,
        "kernel_size": 5,
        "dropout": 0.25,
        "negative_slope": 0.3,
        "momentum": 0.8,
        "epsilon": 1e-5,
        "seed": 7,
        "name": "block",
    }
    config = keras.saving.serialize_keras_object(ConvBlock(**arguments))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is ConvBlock
    assert {name: getattr(restored, name) for name in arguments} == arguments


def test_block_takes_part_in_a_functional_model_of_any_batch_size():
    inputs = keras.Input((9, 7, 2))
    model = keras.Model(inputs, ConvBlock(FILTERS, 3, dropout=0.5)(inputs))
    assert model.output_shape == (None, 4, 3, FILTERS)
    assert model.predict(random((5, 9, 7, 2)), batch_size=2, verbose=0).shape == (5, 4, 3, FILTERS)
