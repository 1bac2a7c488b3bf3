"""`ConvBlock` against the separate layers of Keras, which compute in float64."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.backend import normalize_pool_activate
from keras_ssvae.networks.layers import ConvBlock

FILTERS = 6
GAMMA = np.float32([0.5, -1.0, 1.5, -2.0, -0.1, 0.7])  # normalisation increases with x, or decreases
SHAPE = (4, 8, 8, 3)
# The rows of the papers' tables, and what else the arguments allow; (arguments, size of a 7x6 image afterwards).
LAYOUTS = {
    "plain": ({"kernel_size": 3}, (7, 6)),
    "relu": ({"kernel_size": 5, "negative_slope": 0.0}, (7, 6)),
    "strides": ({"kernel_size": 4, "strides": 2, "negative_slope": 0.0}, (4, 3)),
    "transpose": ({"kernel_size": 5, "strides": 2, "transpose": True, "negative_slope": 0.0}, (14, 12)),
    "transpose without strides": ({"kernel_size": 5, "transpose": True}, (7, 6)),
    "pool": ({"kernel_size": 3, "pool": True}, (3, 3)),
    "pool and relu": ({"kernel_size": 3, "pool": True, "negative_slope": 0.0}, (3, 3)),
    "strides and pool": ({"kernel_size": 3, "strides": 2, "pool": True}, (2, 1)),
    "transpose and pool": ({"kernel_size": 3, "strides": 2, "transpose": True, "pool": True}, (7, 6)),
}
LAYOUT_SHAPE = (3, 7, 6, 2)
layouts = pytest.mark.parametrize(("arguments", "size"), LAYOUTS.values(), ids=LAYOUTS)


@pytest.fixture(autouse=True)
def quick_start(quick_weights):
    with quick_weights():
        yield


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make_block(shape, kernel_size=3, **kwargs):
    """A block whose weights and statistics are all different from their initial values."""
    block = ConvBlock(FILTERS, kernel_size, **kwargs)
    block.build(shape)
    for i, variable in enumerate((block.kernel, block.bias, block.beta, block.moving_mean)):
        variable.assign(0.5 * random(variable.shape, seed=i + 1))
    block.gamma.assign(GAMMA)
    block.moving_variance.assign(np.linspace(0.5, 2.0, FILTERS))
    return block


class Separate:
    """Conv2D or Conv2DTranspose, BatchNormalization, LeakyReLU and MaxPooling2D with the weights of a block."""

    def __init__(self, block, channels):
        def make(layer, **kwargs):
            return layer(**kwargs, dtype="float64")

        self.convolution = make(
            keras.layers.Conv2DTranspose if block.transpose else keras.layers.Conv2D,
            filters=FILTERS,
            kernel_size=block.kernel_size,
            strides=block.strides,
            padding="same",
        )
        self.normalisation = make(keras.layers.BatchNormalization)
        self.activation = make(keras.layers.LeakyReLU, negative_slope=block.negative_slope)
        self.pooling = make(keras.layers.MaxPooling2D) if block.pool else lambda x: x
        self.convolution.build((None, 8, 8, channels))
        self.normalisation.build((None, None, None, FILTERS))
        self.convolution.set_weights(list(map(ops.convert_to_numpy, (block.kernel, block.bias))))
        statistics = block.gamma, block.beta, block.moving_mean, block.moving_variance
        self.normalisation.set_weights(list(map(ops.convert_to_numpy, statistics)))

    @property
    def variables(self):
        return [self.convolution.kernel, self.normalisation.gamma, self.normalisation.beta]

    def __call__(self, x, training):
        x = self.normalisation(self.convolution(x), training=training)
        return self.pooling(self.activation(x))


def assert_close(value, expected, tolerance):
    """Relative to the largest: a sum over many pixels may well cancel to almost nothing."""
    value, expected = ops.convert_to_numpy(value), ops.convert_to_numpy(expected)
    assert value.shape == expected.shape
    np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * max(np.abs(expected).max(), 0.1))


@layouts
def test_block_of_every_layout_in_training_equals_the_separate_layers(arguments, size, differentiate, in_float64):
    block = make_block(LAYOUT_SHAPE, **arguments)
    upstream = random((3, *size, FILTERS), seed=9)
    variables = [block.kernel, block.gamma, block.beta, block.bias]
    outputs, (*gradients, of_bias) = differentiate(
        lambda x: block(x, training=True), [random(LAYOUT_SHAPE)], variables, upstream
    )
    with in_float64():
        separate = Separate(block, LAYOUT_SHAPE[-1])
        expected, expected_gradients = differentiate(
            lambda x: separate(x, True), [random(LAYOUT_SHAPE).astype("float64")], separate.variables, upstream
        )
    assert expected.dtype == "float64"
    assert_close(outputs, expected, 1e-5)
    for gradient, expected_gradient in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, expected_gradient, 2e-5)
    np.testing.assert_allclose(of_bias, 0.0, atol=1e-4)  # the normalisation takes a bias off again


@layouts
def test_block_of_every_layout_in_inference_equals_the_separate_layers(arguments, size, differentiate, in_float64):
    block = make_block(LAYOUT_SHAPE, rate=0.5, **arguments)
    upstream = random((3, *size, FILTERS), seed=9)
    outputs, (gradient,) = differentiate(lambda x: block(x, training=False), [random(LAYOUT_SHAPE)], (), upstream)
    with in_float64():
        separate = Separate(block, LAYOUT_SHAPE[-1])
        expected, (expected_gradient,) = differentiate(
            lambda x: separate(x, False), [random(LAYOUT_SHAPE).astype("float64")], (), upstream
        )
    assert_close(outputs, expected, 1e-5)
    assert_close(gradient, expected_gradient, 1e-5)


@layouts
def test_output_shape_of_every_layout(arguments, size):
    assert ConvBlock(FILTERS, **arguments).compute_output_shape((None, *LAYOUT_SHAPE[1:])) == (None, *size, FILTERS)


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [({"pool": True}, (2, 7, 5, 1)), ({}, SHAPE), ({"strides": 2, "transpose": True}, (2, 3, 4, 2))],
    ids=["pool", "plain", "transpose"],
)
def test_moving_statistics_take_the_batchs_mean_and_its_unbiased_variance(arguments, shape, in_float64):
    block = make_block(shape, momentum=0.9, **arguments)
    mean, variance = ops.convert_to_numpy(block.moving_mean), ops.convert_to_numpy(block.moving_variance)
    with in_float64():
        convolved = ops.convert_to_numpy(Separate(block, shape[-1]).convolution(random(shape).astype("float64")))
    block(random(shape), training=True)
    axes = (0, 1, 2)
    moved = ops.convert_to_numpy(block.moving_variance)
    assert_close(block.moving_mean, 0.9 * mean + 0.1 * convolved.mean(axes), 1e-6)
    assert_close(moved, 0.9 * variance + 0.1 * convolved.var(axes, ddof=1), 1e-6)
    # On so few pixels the biased variance is plainly another number.
    assert np.abs(moved / (0.9 * variance + 0.1 * convolved.var(axes)) - 1).max() > 5e-5


@pytest.mark.parametrize("pool", [True, False])
def test_inference_is_the_default_drops_nothing_and_moves_nothing(pool):
    block = make_block(SHAPE, pool=pool, rate=0.5)
    before = list(map(ops.convert_to_numpy, block.variables))  # the dropout's state among them
    np.testing.assert_array_equal(*(ops.convert_to_numpy(block(random(SHAPE), **k)) for k in ({}, {"training": False})))
    for variable, value in zip(block.variables, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value)


def test_a_frozen_block_normalises_by_the_moving_statistics():
    block = make_block(SHAPE)
    expected = ops.convert_to_numpy(block(random(SHAPE), training=False))
    block.trainable = False
    np.testing.assert_array_equal(ops.convert_to_numpy(block(random(SHAPE), training=True)), expected)


# Dropout


@pytest.mark.parametrize("pool", [True, False])
def test_dropout_takes_whole_channels_of_an_image_and_scales_the_others(pool):
    shape = (16, 8, 8, 3)
    dropping, without = make_block(shape, rate=0.2, seed=3, pool=pool), make_block(shape, pool=pool)
    outputs, full = (ops.convert_to_numpy(block(random(shape), training=True)) for block in (dropping, without))
    ratio = outputs / full
    factors = ratio[:, :1, :1]
    np.testing.assert_allclose(ratio, np.broadcast_to(factors, ratio.shape), rtol=1e-5)
    np.testing.assert_allclose(factors[factors != 0], 1 / 0.8, rtol=1e-5)
    assert 0.05 < np.mean(factors == 0) < 0.4
    assert len(np.unique(factors.reshape(16, -1) > 0, axis=0)) > 6  # each image has channels of its own


@pytest.mark.parametrize("pool", [True, False])
def test_gradient_goes_through_the_channels_that_dropout_keeps(pool, differentiate):
    shape = (4, 7, 7, 3)
    dropping, without = make_block(shape, rate=0.5, seed=3, pool=pool), make_block(shape, pool=pool)
    upstream = random(without.compute_output_shape(shape), seed=9)

    def run(block, upstream):
        variables = [block.kernel, block.gamma, block.beta]
        return differentiate(lambda x: block(x, training=True), [random(shape)], variables, upstream)

    outputs, gradients = run(dropping, upstream)
    keep = np.rint(outputs / run(without, upstream)[0])  # 0 or 2
    _, expected = run(without, upstream * keep)
    assert {*np.unique(keep)} == {0.0, 2.0}
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        assert_close(gradient, expected_gradient, 1e-5)


# Ties


def test_equal_pixels_share_no_gradient_the_first_of_them_takes_it(differentiate, in_float64):
    # Whole numbers, so that windows hold ties in any precision, as the background of a digit does.
    x = np.random.default_rng(0).integers(0, 3, (4, 6, 7, FILTERS)).astype("float32")
    beta, keep = random((FILTERS,), seed=2), np.ones((4, 1, 1, FILTERS), "float32")
    upstream = random((4, 3, 3, FILTERS), seed=9)
    _, (gradient,) = differentiate(
        lambda x: normalize_pool_activate(x, *map(ops.convert_to_tensor, (GAMMA, beta, keep)), 1e-3, 0.1)[0],
        [x],
        upstream=upstream,
    )

    def separate(x):
        mean, variance = ops.moments(x, (0, 1, 2))
        y = ops.batch_normalization(x, mean, variance, -1, beta.astype("float64"), GAMMA.astype("float64"), 1e-3)
        return ops.max_pool(ops.leaky_relu(y, 0.1), 2, 2)

    with in_float64():
        _, (expected,) = differentiate(separate, [x.astype("float64")], upstream=upstream)
    assert_close(gradient, expected, 1e-5)


# bfloat16


@pytest.mark.parametrize("layout", ["plain", "transpose", "pool"])
def test_block_in_bfloat16_is_the_float64_one_within_its_rounding(layout, in_float64):
    shape, (arguments, size) = (8, 7, 6, 2), LAYOUTS[layout]
    block = make_block(shape, dtype="mixed_bfloat16", **arguments)
    with in_float64():
        separate = Separate(block, shape[-1])
        expected = [ops.convert_to_numpy(separate(random(shape).astype("float64"), training)) for training in (0, 1)]
    for training in (False, True):
        outputs = block(random(shape), training=training)
        assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
        assert outputs.shape == (8, *size, FILTERS)
        # Half a last place is 2^-9 in relation to each number; kernel, images, product and result are rounded.
        assert_close(ops.cast(outputs, "float32"), expected[training], 4 * 2**-8)


@pytest.mark.parametrize("pool", [True, False])
def test_statistics_of_bfloat16_images_are_float32(pool):
    shape = (8, 16, 16, 3)
    block = make_block(shape, pool=pool, momentum=0.0, dtype="mixed_bfloat16")
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in block.weights} == {"float32"}
    rounded = [ops.cast(value, "bfloat16") for value in (random(shape), block.kernel, block.bias)]
    convolved = ops.add(ops.conv(*rounded[:2], 1, "same"), rounded[2])
    convolved = ops.convert_to_numpy(ops.cast(convolved, "float32")).astype("float64")
    block(random(shape), training=True)
    # bfloat16 has three digits, and a sum of 2048 numbers in it not even these.
    assert_close(block.moving_mean, convolved.mean((0, 1, 2)), 1e-5)
    assert_close(block.moving_variance, convolved.var((0, 1, 2), ddof=1), 1e-5)


@pytest.mark.parametrize("pool", [True, False])
def test_gradients_in_bfloat16_are_float32_and_near(pool, differentiate):
    shape = (8, 8, 8, 3)
    blocks = [make_block(shape, rate=0.5, seed=1, pool=pool, dtype=dtype) for dtype in ("mixed_bfloat16", "float32")]
    upstream = random(blocks[0].compute_output_shape(shape), seed=9)
    both = [
        differentiate(lambda x, b=block: b(x, training=True), [random(shape)], b_variables, upstream)[1][1:]
        for block in blocks
        for b_variables in [[block.kernel, block.gamma, block.beta]]
    ]
    for gradient, expected in zip(*both, strict=True):
        assert gradient.dtype == "float32"
        # Where rounding decides which pixel is the largest, another one takes the gradient.
        assert np.linalg.norm(gradient - expected) < 0.1 * np.linalg.norm(expected)


# As a layer


def test_config_round_trip_keeps_every_argument():
    arguments = {
        "filters": 4,
        "kernel_size": 5,
        "strides": 2,
        "transpose": True,
        "pool": True,
        "rate": 0.25,
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


@pytest.mark.parametrize(
    ("arguments", "size"), [({"pool": True}, (4, 3)), ({"strides": 2, "transpose": True}, (18, 14))]
)
def test_block_takes_part_in_a_functional_model_of_any_batch_size(arguments, size):
    inputs = keras.Input((9, 7, 2))
    model = keras.Model(inputs, ConvBlock(FILTERS, 3, rate=0.5, **arguments)(inputs))
    assert model.output_shape == (None, *size, FILTERS)
    assert model.predict(random((5, 9, 7, 2)), batch_size=2, verbose=0).shape == (5, *size, FILTERS)
