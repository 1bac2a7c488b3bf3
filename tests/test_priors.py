import json
import re

import keras
import numpy as np
import pytest

from keras_ssvae import priors
from keras_ssvae.priors import GaussianMixture


def test_circle_is_the_papers_mnist_prior():
    prior = priors.circle()
    k = np.arange(1, 11)
    radius = 4 / np.sin(np.pi / 10)
    expected = radius * np.stack([np.cos(np.pi / 10 * (2 * k - 1)), np.sin(np.pi / 10 * (2 * k - 1))], axis=1)
    np.testing.assert_allclose(prior.means, expected, atol=1e-5)
    np.testing.assert_array_equal(prior.variances, np.full((10, 2), 4.0))
    # Known answers, so that the formula above is not the only witness.
    np.testing.assert_allclose(prior.means[0], [12.310734, 4.0], rtol=1e-6)
    np.testing.assert_allclose(prior.means[7], [0.0, -12.944272], atol=1e-5)
    assert prior.means.dtype == prior.variances.dtype == np.float32
    assert (prior.num_classes, prior.latent_dim) == (10, 2)


@pytest.mark.parametrize("num_classes", [2, 3, 7, 10, 25])
def test_neighbours_on_the_circle_are_eight_apart(num_classes):
    means = priors.circle(num_classes).means
    distances = np.linalg.norm(means - np.roll(means, 1, axis=0), axis=1)
    np.testing.assert_allclose(distances, 8.0, rtol=1e-5)


def test_circle_takes_a_radius_and_one_variance_for_each_axis():
    prior = priors.circle(4, variance=[1.0, 2.0], radius=3.0)
    np.testing.assert_allclose(np.linalg.norm(prior.means, axis=1), 3.0, rtol=1e-6)
    np.testing.assert_array_equal(prior.variances, [[1.0, 2.0]] * 4)


def test_line_puts_two_classes_symmetrically_on_the_first_axis():
    np.testing.assert_array_equal(priors.line(2, distance=16.0).means, [[-8.0, 0.0], [8.0, 0.0]])
    np.testing.assert_array_equal(priors.line(3, distance=2.0, latent_dim=1).means, [[-2.0], [0.0], [2.0]])


def test_one_hot_is_the_papers_cifar10_prior():
    prior = priors.one_hot()
    assert prior.means.shape == (10, 256)
    np.testing.assert_array_equal(prior.means[:, :10], np.eye(10))
    np.testing.assert_array_equal(prior.means[:, 10:], 0.0)
    np.testing.assert_array_equal(prior.variances[:, :10], np.float32(0.1))
    np.testing.assert_array_equal(prior.variances[:, 10:], 1.0)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        (2.0, [[2.0, 2.0]] * 3),
        ([1.0, 2.0], [[1.0, 2.0]] * 3),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    ],
)
def test_variances_are_broadcast_to_every_class(variances, expected):
    np.testing.assert_array_equal(GaussianMixture(np.zeros((3, 2)), variances).variances, expected)


def test_the_arrays_are_copies_that_cannot_be_changed():
    means = np.zeros((2, 2), "float32")
    prior = GaussianMixture(means, 1.0)
    means[0, 0] = 7.0
    assert prior.means[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        prior.variances[0, 0] = 7.0


def test_samples_have_the_moments_of_the_mixture():
    prior = GaussianMixture([[0.0, 10.0], [-5.0, 0.0]], [[1.0, 4.0], [0.25, 9.0]])
    z, labels = prior.sample(40_000, seed=3)
    assert z.shape == (40_000, 2)
    assert z.dtype == np.float32
    assert labels.shape == (40_000,)
    np.testing.assert_allclose(np.bincount(labels) / len(labels), 0.5, atol=0.01)
    for k in range(2):
        np.testing.assert_allclose(z[labels == k].mean(axis=0), prior.means[k], atol=0.1)
        np.testing.assert_allclose(z[labels == k].var(axis=0), prior.variances[k], rtol=0.04)


def test_the_seed_decides_the_samples():
    prior = priors.circle()
    z, labels = prior.sample(50, seed=1)
    again_z, again_labels = prior.sample(50, seed=1)
    np.testing.assert_array_equal(z, again_z)
    np.testing.assert_array_equal(labels, again_labels)
    assert not np.array_equal(z, prior.sample(50, seed=2)[0])


@pytest.mark.parametrize("prior", [priors.circle(), priors.line(3), priors.one_hot(3, 5)])
def test_the_prior_survives_keras_serialisation_exactly(prior):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(prior)))
    assert config["registered_name"] == "keras_ssvae>GaussianMixture"
    restored = keras.saving.deserialize_keras_object(config)
    assert isinstance(restored, GaussianMixture)
    np.testing.assert_array_equal(restored.means, prior.means)
    np.testing.assert_array_equal(restored.variances, prior.variances)


@pytest.mark.parametrize(
    ("means", "variances", "message"),
    [
        (np.zeros(3), 1.0, r"`means` has shape (3,)"),
        (np.zeros((0, 2)), 1.0, r"`means` has shape (0, 2)"),
        ([[0.0, np.nan]], 1.0, "`means` must hold finite numbers"),
        ([[0.0], [0.0, 1.0]], 1.0, "`means` is [[0.0], [0.0, 1.0]]; it must be an array of numbers"),
        (np.zeros((3, 2)), np.ones(3), "`variances` has shape (3,); with means of shape (3, 2) it must be"),
        (np.zeros((3, 2)), np.ones((2, 2)), "`variances` has shape (2, 2)"),
        (np.zeros((3, 2)), [1.0, 0.0], "`variances` must all be positive, but the smallest is 0.0"),
        (np.zeros((3, 2)), -1.0, "`variances` must all be positive, but the smallest is -1.0"),
        (np.zeros((3, 2)), np.nan, "`variances` must hold finite numbers"),
        (np.zeros((3, 2)), "wide", "`variances` is 'wide'; it must be an array of numbers"),
    ],
)
def test_a_wrong_mixture_is_refused_in_a_sentence(means, variances, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianMixture(means, variances)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: priors.circle(1), "`num_classes` is 1; a circle needs at least 2"),
        (lambda: priors.circle(radius=0.0), "`radius` is 0.0; it must be positive"),
        (lambda: priors.circle(radius=np.nan), "`radius` is nan; it must be positive"),
        (lambda: priors.line(0), "`num_classes` is 0"),
        (lambda: priors.line(2, distance=-1.0), "`distance` is -1.0; it must be positive"),
        (lambda: priors.one_hot(10, latent_dim=9), "`num_classes` is 10 and `latent_dim` is 9"),
    ],
)
def test_a_wrong_layout_is_refused_in_a_sentence(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()
