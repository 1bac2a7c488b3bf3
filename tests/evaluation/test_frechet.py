import keras
import numpy as np
import pytest
import scipy.linalg
from keras import layers

from keras_ssvae.evaluation import FrechetDistance, frechet, frechet_distance


@pytest.fixture
def network():
    """Three features of an image: linear maps of its pixels."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((6, 4, 3))
    return keras.Model(pixels, layers.Dense(3)(layers.Flatten()(pixels)), name="linear")


def drawn(number, shift=0.0, size=(6, 4, 3), seed=0):
    random = np.random.default_rng(seed)
    return np.clip(random.normal(shift, 0.2, (number, *size)), -1, 1).astype("float32")


def test_it_is_the_formula_of_means_and_covariances(network):
    one, other = drawn(40), drawn(30, 0.3, seed=1)
    (m, s), (n, t) = ((x.mean(axis=0), np.cov(x.T)) for x in map(network.predict, (one, other)))
    expected = ((m - n) ** 2).sum() + np.trace(s + t - 2 * scipy.linalg.sqrtm(s @ t).real)
    found = frechet_distance(one, other, network)
    assert found == FrechetDistance(pytest.approx(expected, rel=1e-4), (40, 30), "linear")
    assert found.distance > 0.1


def test_the_same_images_are_at_no_distance_and_batches_make_no_difference(network):
    images, other = drawn(20), drawn(20, seed=1)
    assert frechet_distance(images, images[::-1], network).distance == pytest.approx(0.0, abs=1e-6)
    expected = frechet_distance(images, other, network)
    in_batches = frechet_distance([images[:7], images[7:]], [(other, np.zeros(20))], network)
    assert in_batches.images == expected.images
    assert in_batches.distance == pytest.approx(expected.distance, rel=1e-5)
    assert frechet_distance(images, other, network, batch_size=3).distance == pytest.approx(expected.distance, rel=1e-5)


def test_features_that_do_not_vary_are_at_the_distance_of_their_means(network):
    black, white = np.full((5, 6, 4, 3), -1.0, "float32"), np.full((4, 6, 4, 3), 1.0, "float32")
    apart = ((network.predict(black)[0] - network.predict(white)[0]) ** 2).sum()
    assert frechet_distance(black, white, network).distance == pytest.approx(apart, rel=1e-5)


def test_grey_images_of_another_size_are_repeated_and_resized(network):
    small = drawn(9, size=(3, 2, 1))
    large = np.asarray(keras.ops.image.resize(small, (6, 4), "bilinear")).repeat(3, axis=3)
    found, expected = (frechet_distance(x, drawn(9, seed=2), network) for x in (small, large))
    assert found.distance == pytest.approx(expected.distance, rel=1e-5)


def test_by_default_the_features_are_what_the_last_layer_of_inception_takes(network, monkeypatch):
    logits = layers.Dense(5, activation="softmax")(network.output)
    monkeypatch.setattr(frechet, "load_classifier", lambda: keras.Model(network.inputs, logits))
    one, other = drawn(9), drawn(8, seed=1)
    found = frechet_distance(one, other)
    assert found.network == "InceptionV3 (ImageNet)"
    assert found.distance == pytest.approx(frechet._distance(*map(network.predict, (one, other))), rel=1e-4)


def test_what_does_not_fit_is_a_sentence(network):
    images = drawn(4)
    with pytest.raises(ValueError, match="`others` has a single image, which has no covariance"):
        frechet_distance(images, images[:1], network)
    maps = keras.Model(network.inputs, layers.Conv2D(2, 1)(network.inputs[0]), name="maps")
    with pytest.raises(ValueError, match=r"`network` maps gives \(4, 6, 4, 2\) for a batch of 4"):
        frechet_distance(images, images, maps)
    with pytest.raises(ValueError, match=r"`others` is float32 of shape \(6, 4, 3\)"):
        frechet_distance(images, images[0], network)
    with pytest.raises(ValueError, match="`network` maps takes images of 3 channels, but `images` have 2"):
        frechet_distance(images[..., :2], images, maps)
