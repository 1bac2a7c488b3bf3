"""Counts by hand, from Tables 4 and 5 of the EXoN paper."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.networks import exon

IMAGES = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 1)).astype("float32")


def parameters(network):
    """Trainable parameters, layer by layer."""
    counts = {}
    for layer in network.layers:
        if layer.weights:
            counts[layer.name] = sum(int(np.prod(w.shape)) for w in layer.trainable_weights)
    return counts


def test_encoder_has_the_parameters_of_table_4(quick_weights):
    with quick_weights():
        encoder = exon.mnist_encoder()
    assert parameters(encoder) == {
        "dense_0": 784 * 256 + 256,
        "dense_1": 256 * 128 + 128,
        "mean": 10 * (128 * 2 + 2),
        "logvar": 10 * (128 * 2 + 2),
    }
    assert encoder.count_params() == 239_016


def test_decoder_has_the_parameters_of_table_4(quick_weights):
    with quick_weights():
        decoder = exon.mnist_decoder()
    assert parameters(decoder) == {
        "dense_0": 2 * 128 + 128,
        "dense_1": 128 * 256 + 256,
        "dense_2": 256 * 784 + 784,
    }
    assert decoder.count_params() == 234_896


@pytest.fixture
def classifier(quick_weights):
    with quick_weights():
        return exon.mnist_classifier()


def test_classifier_has_the_parameters_of_table_5(classifier):
    assert parameters(classifier) == {
        "block_0": 5 * 5 * 1 * 32 + 32 + 2 * 32,  # convolution with bias, gamma and beta
        "block_1": 3 * 3 * 32 * 64 + 64 + 2 * 64,
        "block_2": 3 * 3 * 64 * 128 + 128 + 2 * 128,
        "dense_0": 128 * 64 + 64,
        "bn": 2 * 64,
        "dense_1": 64 * 10 + 10,
    }
    moving = [w for w in classifier.non_trainable_weights if "moving" in w.path]
    assert sum(int(np.prod(w.shape)) for w in moving) == 2 * (32 + 64 + 128 + 64)


def test_table_5s_hyperparameters_of_the_classifier(classifier):
    blocks = [classifier.get_layer(f"block_{i}") for i in range(3)]
    assert [(block.pool, block.rate, block.negative_slope) for block in blocks] == [(True, 0.5, 0.1)] * 3
    for layer in (*blocks, classifier.get_layer("bn")):
        assert (layer.momentum, layer.epsilon) == (0.99, 1e-3)


def test_shapes_follow_the_classes_and_the_dimensions(quick_weights):
    with quick_weights():
        encoder, decoder = exon.mnist_encoder(num_classes=4, latent_dim=3), exon.mnist_decoder(latent_dim=3)
        classifier = exon.mnist_classifier(num_classes=4)
    mean, logvar = encoder(IMAGES)
    assert mean.shape == logvar.shape == (3, 4, 3)
    assert decoder(np.zeros((2, 3), "float32")).shape == (2, 28, 28, 1)
    assert classifier(IMAGES).shape == (3, 4)


def test_decoder_gives_pixels_between_minus_1_and_1_and_reaches_both():
    images = exon.mnist_decoder()(1000 * np.random.default_rng(0).normal(size=(8, 2)).astype("float32"))
    images = ops.convert_to_numpy(images)
    np.testing.assert_allclose([images.min(), images.max()], [-1.0, 1.0], atol=1e-3)


def test_classifier_gives_logits_not_probabilities(classifier):
    logits = ops.convert_to_numpy(classifier(IMAGES))
    assert (logits < 0).any()
    assert not np.allclose(logits.sum(axis=-1), 1.0)


@pytest.mark.parametrize("latent_dim", [2, 64])
def test_each_head_starts_as_a_dense_layer_of_its_own(latent_dim):
    keras.utils.set_random_seed(0)
    network = exon.mnist_encoder(num_classes=10, latent_dim=latent_dim)
    limit = np.sqrt(6 / (128 + latent_dim))  # Glorot uniform of 128 inputs and d outputs
    kernels = [network.get_layer(name).kernel.numpy() for name in ("mean", "logvar")]
    for kernel in kernels:
        assert kernel.shape == (128, 10, latent_dim)
        assert np.abs(kernel).max() == pytest.approx(limit, rel=0.01)
        assert np.abs(kernel).max() <= limit
        np.testing.assert_allclose(kernel.std(axis=(0, 2)), limit / np.sqrt(3), rtol=0.15)
    assert not np.array_equal(*kernels)
    assert not any(network.get_layer(name).bias.numpy().any() for name in ("mean", "logvar"))


def test_a_head_is_a_dense_layer_of_its_own(quick_weights):
    with quick_weights():
        network = exon.mnist_encoder(num_classes=3, latent_dim=2)
    head = network.get_layer("mean")
    rng = np.random.default_rng(0)
    head.bias.assign(rng.normal(size=(3, 2)))
    features = rng.normal(size=(5, 128)).astype("float32")
    for k in range(3):
        expected = features @ head.kernel.numpy()[:, k] + head.bias.numpy()[k]
        np.testing.assert_allclose(head(features)[:, k], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("build", [exon.mnist_encoder, exon.mnist_classifier])
def test_networks_keep_their_outputs_through_a_file(build, tmp_path, quick_weights):
    rng = np.random.default_rng(0)
    with quick_weights():
        network = build()
        for statistic in network.non_trainable_weights:
            statistic.assign(rng.uniform(0.5, 1.5, statistic.shape))
        network.save(tmp_path / "network.keras")
        restored = keras.saving.load_model(tmp_path / "network.keras")
    assert restored.output_shape == network.output_shape
    np.testing.assert_array_equal(*(np.array(each.predict_on_batch(IMAGES)) for each in (restored, network)))
