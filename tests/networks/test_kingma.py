"""The networks of M1, M2 and M1+M2."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.networks import kingma


def softplus(x):
    return np.log1p(np.exp(x))


def dense(layer, x, bias=True):
    weights = [weight.astype("float64") for weight in layer.get_weights()]
    return x @ weights[0] + (weights[1] if bias else 0.0)


def with_large_weights(network):
    rng = np.random.default_rng(0)
    for weight in network.weights:
        weight.assign(rng.normal(scale=0.5, size=weight.shape))
    return network


def number_of(network):
    return sum(int(np.prod(weight.shape)) for weight in network.weights)


def test_they_have_the_papers_sizes():
    assert number_of(kingma.m1_encoder()) == 784 * 600 + 600 + 600 * 600 + 600 + 2 * (600 * 50 + 50)
    assert number_of(kingma.m1_decoder()) == 50 * 600 + 600 + 600 * 600 + 600 + 600 * 784 + 784
    assert number_of(kingma.m2_encoder()) == (784 + 10) * 500 + 500 + 2 * (500 * 50 + 50)
    assert number_of(kingma.m2_decoder()) == (50 + 10) * 500 + 500 + 500 * 784 + 784
    assert number_of(kingma.m2_classifier()) == 784 * 500 + 500 + 500 * 10 + 10
    assert number_of(kingma.m2_decoder((38,), hidden=(300,))) == 60 * 300 + 300 + 300 * 38 + 38


def test_the_labels_kernel_is_added_before_the_activation():
    encoder = with_large_weights(kingma.m2_encoder((4, 4, 1), 3, 2, hidden=(5, 6)))
    rng = np.random.default_rng(1)
    x, y = rng.uniform(size=(7, 4, 4, 1)), np.eye(3)[[0, 1, 2, 0, 1, 2, 0]]
    h = softplus(
        dense(encoder.get_layer("encoder_0"), x.reshape(7, -1))
        + dense(encoder.get_layer("encoder_label"), y, bias=False)
    )
    h = softplus(dense(encoder.get_layer("encoder_1"), h))
    for output, name in zip(encoder([x, y]), ("mean", "logvar"), strict=True):
        np.testing.assert_allclose(output, dense(encoder.get_layer(name), h), rtol=1e-4, atol=1e-5)
    decoder = with_large_weights(kingma.m2_decoder((4, 4, 2), 3, 2, hidden=(5,)))
    z = rng.normal(size=(7, 2))
    kernel, bias = (weight.astype("float64") for weight in decoder.get_layer("decoder_0").get_weights())
    h = softplus(z @ kernel[:2] + y @ kernel[2:] + bias)
    expected = dense(decoder.get_layer("outputs"), h).reshape(7, 4, 4, 2)
    np.testing.assert_allclose(decoder(np.concatenate([z, y], axis=1)), expected, rtol=1e-4, atol=1e-5)


def test_m1_and_the_classifier_are_softplus_layers_and_linear_heads():
    encoder = with_large_weights(kingma.m1_encoder((4, 4, 1), 2, hidden=(5, 6)))
    x = np.random.default_rng(1).uniform(size=(7, 4, 4, 1))
    h = softplus(
        dense(encoder.get_layer("m1_encoder_1"), softplus(dense(encoder.get_layer("m1_encoder_0"), x.reshape(7, -1))))
    )
    for output, name in zip(encoder(x), ("m1_mean", "m1_logvar"), strict=True):
        np.testing.assert_allclose(output, dense(encoder.get_layer(name), h), rtol=1e-4, atol=1e-5)
    classifier = with_large_weights(kingma.m2_classifier((5,), 3, hidden=(4,)))
    x = np.random.default_rng(2).normal(size=(7, 5))
    expected = dense(classifier.get_layer("class_logits"), softplus(dense(classifier.get_layer("classifier_0"), x)))
    np.testing.assert_allclose(classifier(x), expected, rtol=1e-4, atol=1e-5)


def test_weights_start_as_in_the_released_code():
    keras.utils.set_random_seed(1)
    for network in (kingma.m2_encoder(), kingma.m2_decoder(), kingma.m2_classifier()):
        for weight in network.weights:
            values, layer = ops.convert_to_numpy(weight), weight.path.split("/")[0]
            is_zero = layer == "logvar" or (weight.name == "bias" and layer.startswith(("outputs", "class")))
            assert np.std(values) == pytest.approx(0.0 if is_zero else 0.001, rel=0.25), weight.path
    for network in (kingma.m1_encoder(), kingma.m1_decoder()):
        for weight in network.weights:
            values = ops.convert_to_numpy(weight)
            expected = weight.shape[0] ** -0.5 if weight.name == "kernel" else 0.0
            assert np.std(values) == pytest.approx(expected, rel=0.02), weight.path


@pytest.mark.parametrize("shape", [(6, 5, 3), (7,)])
def test_heads_are_float32_where_the_rest_is_not(shape):
    keras.config.set_dtype_policy("mixed_bfloat16")
    x, y, z_y = np.zeros((2, *shape)), np.eye(3)[:2], np.zeros((2, 5))
    outputs = [
        *kingma.m2_encoder(shape, 3, 2)([x, y]),
        kingma.m2_decoder(shape, 3, 2)(z_y),
        kingma.m2_classifier(shape, 3)(x),
    ]
    assert [tuple(output.shape) for output in outputs] == [(2, 2), (2, 2), (2, *shape), (2, 3)]
    assert {keras.backend.standardize_dtype(output.dtype) for output in outputs} == {"float32"}
    assert kingma.m2_classifier(shape, 3).get_layer("classifier_0").compute_dtype == "bfloat16"
