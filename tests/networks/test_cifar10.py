"""Counts by hand, from Tables 8 and 9 of the EXoN paper; the totals are those of the original's networks."""

import types

import keras
import numpy as np
import pytest

from keras_ssvae.networks import exon
from keras_ssvae.networks.layers import ConvBlock

BUILDERS = {"encoder": exon.cifar10_encoder, "decoder": exon.cifar10_decoder, "classifier": exon.cifar10_classifier}
IMAGES = np.random.default_rng(0).uniform(-1, 1, (2, 32, 32, 3)).astype("float32")


@pytest.fixture(scope="module")
def networks(quick_weights):
    with quick_weights():
        return types.SimpleNamespace(**{name: build() for name, build in BUILDERS.items()})


def parameters(network):
    """Trainable parameters, layer by layer."""
    counts = {}
    for layer in network.layers:
        if layer.weights:
            counts[layer.name] = sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    return counts


def block(kernel_size, channels, filters):
    return kernel_size**2 * channels * filters + filters + 2 * filters  # convolution with bias, gamma and beta


def blocks(network):
    return [layer for layer in network.layers if isinstance(layer, ConvBlock)]


def attributes(network, *names):
    return [tuple(getattr(layer, name) for name in names) for layer in blocks(network)]


def test_encoder_has_the_parameters_of_table_8(networks):
    assert parameters(networks.encoder) == {
        "block_0": block(5, 3, 32),
        "block_1": block(4, 32, 64),
        "block_2": block(4, 64, 128),
        "block_3": block(4, 128, 256),
        "dense_0": 4 * 4 * 256 * 1024 + 1024,
        "bn_4": 2 * 1024,
        "mean": 10 * (1024 * 256 + 256),
        "logvar": 10 * (1024 * 256 + 256),
    }
    assert networks.encoder.count_params() == 10_140_352


def test_decoder_has_the_parameters_of_table_8(networks):
    assert parameters(networks.decoder) == {
        "dense_0": 256 * 4 * 4 * 512 + 4 * 4 * 512,
        "bn_0": 2 * 4 * 4 * 512,
        "block_0": block(5, 512, 256),
        "block_1": block(5, 256, 128),
        "block_2": block(5, 128, 64),
        "block_3": block(5, 64, 32),
        "image": 4 * 4 * 32 * 3 + 3,
    }
    assert networks.decoder.count_params() == 6_494_051


def test_classifier_has_the_parameters_of_table_9(networks):
    channels = [3, 128, 128, 128, 256, 256, 256, 512, 256, 128]
    convolutions = {f"block_{i}": block(3, *channels[i : i + 2]) for i in range(9)}
    assert parameters(networks.classifier) == {**convolutions, "dense_0": 128 * 10 + 10}
    assert networks.classifier.count_params() == 4_438_666


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("encoder", [16, 8, 4, 4]),
        ("decoder", [8, 16, 32, 32]),
        ("classifier", [32, 32, 16, 16, 16, 8, 8, 8, 8]),
    ],
)
def test_sizes_of_the_images_between_the_blocks(networks, name, sizes):
    assert [layer.output.shape[1:3] for layer in blocks(getattr(networks, name))] == [(size, size) for size in sizes]


def test_activations_and_normalisation_of_the_tables(networks):
    for network, slope in ((networks.encoder, 0.0), (networks.decoder, 0.0), (networks.classifier, 0.1)):
        assert {*attributes(network, "negative_slope", "momentum", "epsilon")} == {(slope, 0.99, 1e-3)}
    for layer in (networks.encoder.get_layer("bn_4"), networks.decoder.get_layer("bn_0")):
        assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)


def test_the_heads_take_the_normalised_features_without_an_activation(networks):
    features = networks.encoder.get_layer("bn_4").output
    assert networks.encoder.get_layer("mean").input is networks.encoder.get_layer("logvar").input is features


def test_dropout_follows_each_pooling_of_the_classifier_and_nothing_else(networks):
    dropping = (True, 0.1)
    assert attributes(networks.classifier, "pool", "rate") == [
        dropping if i in (2, 5) else (False, 0.0) for i in range(9)
    ]
    for network in (networks.encoder, networks.decoder):
        assert {*attributes(network, "pool", "rate")} == {(False, 0.0)}


def test_classes_dimensions_and_dropout_are_arguments(quick_weights):
    with quick_weights():
        encoder, decoder = exon.cifar10_encoder(num_classes=4, latent_dim=3), exon.cifar10_decoder(latent_dim=3)
        classifier = exon.cifar10_classifier(num_classes=4, dropout=0.3)
    assert encoder.output_shape == [(None, 4, 3), (None, 4, 3)]
    assert (decoder.input_shape, decoder.output_shape) == ((None, 3), (None, 32, 32, 3))
    assert classifier.output_shape == (None, 4)
    assert [rate for (rate,) in attributes(classifier, "rate") if rate] == [0.3, 0.3]


def test_networks_give_what_their_shapes_say(networks):
    mean, logvar = networks.encoder.predict_on_batch(IMAGES)
    assert mean.shape == logvar.shape == (2, 10, 256)
    assert not np.allclose(mean, logvar)
    logits = networks.classifier.predict_on_batch(IMAGES)
    assert logits.shape == (2, 10)
    assert (logits < 0).any()  # no probabilities


def test_decoder_gives_pixels_between_minus_1_and_1_and_reaches_both(networks):
    images = networks.decoder.predict_on_batch(1e4 * np.random.default_rng(0).normal(size=(2, 256)).astype("float32"))
    assert images.shape == (2, 32, 32, 3)
    np.testing.assert_allclose([images.min(), images.max()], [-1.0, 1.0], atol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_under_bfloat16_the_blocks_compute_in_it_and_the_outputs_are_float32(name, quick_weights):
    keras.config.set_dtype_policy("mixed_bfloat16")
    with quick_weights():
        network = BUILDERS[name]()
    assert {layer.compute_dtype for layer in blocks(network)} == {"bfloat16"}
    assert {output.dtype for output in network.outputs} == {"float32"}
    assert {keras.backend.standardize_dtype(weight.dtype) for weight in network.weights} == {"float32"}
