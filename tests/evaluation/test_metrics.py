import re

import numpy as np
import pytest

from keras_ssvae.evaluation import activated, changes, classification_error, kl_divergence, v_nat
from keras_ssvae.priors import GaussianMixture, circle


def test_classification_error_is_the_share_of_wrong_labels_in_percent():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4], [0.5, 0.4, 0.1]])
    assert classification_error(probs, [0, 1, 2, 0]) == 0.0
    assert classification_error(probs, [0, 1, 2, 1]) == 25.0
    assert classification_error(probs, [1, 2, 0, 2]) == 100.0


def test_the_prior_itself_with_uniform_classes_has_no_divergence():
    prior = circle()
    mean = np.repeat(prior.means[None], 3, axis=0)
    logvar = np.log(np.repeat(prior.variances[None], 3, axis=0))
    assert kl_divergence(mean, logvar, np.full((3, 10), 0.1), prior) == pytest.approx(0.0, abs=1e-5)


def test_a_sure_class_costs_log_k_and_only_its_own_gaussian():
    prior = GaussianMixture([[0.0, 0.0], [5.0, 0.0]], 4.0)
    mean = np.array([[[2.0, 0.0], [99.0, 99.0]]])
    logvar = np.log(np.array([[[1.0, 4.0], [1.0, 1.0]]]))
    gaussian = 0.5 * (2.0**2 / 4 + 1 / 4 - 1 + np.log(4.0))  # the second dimension is the prior's
    assert kl_divergence(mean, logvar, [[1.0, 0.0]], prior) == pytest.approx(np.log(2) + gaussian, rel=1e-6)


def test_the_classes_gaussians_are_weighted_by_their_probabilities():
    prior = GaussianMixture([[0.0], [0.0]], 1.0)
    probs = np.array([0.25, 0.75])
    entropy_part = (probs * np.log(2 * probs)).sum()
    kl = kl_divergence([[[2.0], [4.0]]], np.zeros((1, 2, 1)), probs[None], prior)
    assert kl == pytest.approx(entropy_part + 0.25 * 2.0 + 0.75 * 8.0, rel=1e-6)


def test_the_originals_kl_divergence_is_met(exon_mnist_golden_files):
    for file in exon_mnist_golden_files:
        with np.load(file) as golden:
            means = golden["prior_means"].reshape(golden["eval/mean"].shape[1:])
            prior = GaussianMixture(means, golden["prior_variance"])
            kl = kl_divergence(golden["eval/mean"], golden["eval/logvar"], golden["eval/prob"], prior)
            assert kl == pytest.approx(float(golden["eval/kl"]), rel=1e-6)


def test_v_nat_is_the_log_of_the_mean_variance_ratio_of_the_classes_own_component():
    prior = GaussianMixture([[0.0, 0.0], [5.0, 0.0]], [[4.0, 1.0], [0.5, 3.0]])
    variance = np.full((3, 2, 2), 99.0)
    variance[0, 0], variance[2, 0] = [1.0, 1.0], [0.25, 2.0]  # class 0
    variance[1, 1] = [0.1, 3.0]  # class 1
    values = v_nat(np.log(variance), [0, 1, 0], prior)
    assert values.dtype == np.float64
    expected = [[np.log((4 / 1 + 4 / 0.25) / 2), np.log((1 / 1 + 1 / 2) / 2)], [np.log(0.5 / 0.1), 0.0]]
    np.testing.assert_allclose(values, expected, rtol=1e-6, atol=1e-6)  # the prior is float32


def test_v_nat_of_the_prior_itself_is_zero():
    prior = circle()
    logvar = np.log(np.repeat(prior.variances[None], 20, axis=0))
    np.testing.assert_allclose(v_nat(logvar, np.arange(20) % 10, prior), 0.0, atol=1e-6)


def test_v_nat_of_variances_beyond_all_floats_is_finite():
    prior = GaussianMixture([[0.0]], 1.0)
    np.testing.assert_allclose(v_nat([[[-2000.0]], [[2000.0]]], [0, 0], prior), [[2000.0 - np.log(2)]])


def test_a_class_without_images_has_no_v_nat_and_nothing_activated():
    values = v_nat(np.full((2, 10, 2), -5.0), [3, 3], circle())
    assert np.isnan(np.delete(values, 3, axis=0)).all()
    np.testing.assert_allclose(values[3], 5.0 + np.log(4.0))
    assert activated(values).sum(axis=1).tolist() == [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]


def test_activated_means_above_delta():
    values = [[0.5, 1.0, 1.1], [2.0, -3.0, 1.0]]
    assert activated(values).tolist() == [[False, False, True], [True, False, False]]
    assert activated(values, delta=0.4).tolist() == [[True, True, True], [True, False, True]]


def test_the_originals_v_nat_is_met(exon_mnist_golden_files):
    for file in exon_mnist_golden_files:
        with np.load(file) as golden:
            means = golden["prior_means"].reshape(golden["eval/mean"].shape[1:])
            prior = GaussianMixture(means, golden["prior_variance"])
            values = v_nat(golden["eval/logvar"], golden["eval/y"], prior)
            np.testing.assert_allclose(values, golden["eval/v_nat"], atol=1e-4)
            np.testing.assert_array_equal(activated(values).sum(axis=1), golden["eval/activated_at_1"])


@pytest.mark.parametrize(
    ("logvar", "labels", "message"),
    [
        (np.zeros((4, 9, 2)), [0] * 4, "`logvar` has shape (4, 9, 2); with this prior it must be (examples, 10, 2)"),
        (np.zeros((0, 10, 2)), [], "`logvar` has shape (0, 10, 2)"),
        (np.zeros((4, 10, 2)), [0, 0, 0, 10], "`labels` run from 0 to 10"),
        (np.zeros((4, 10, 2)), [0, 0, 0], "one integer for each of the 4 examples"),
    ],
)
def test_what_does_not_fit_v_nat_is_refused_in_a_sentence(logvar, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        v_nat(logvar, labels, circle())


@pytest.mark.parametrize(
    ("probs", "labels", "message"),
    [
        (np.ones(3), [0, 0, 0], "`probs` has shape (3,)"),
        (np.ones((0, 3)), [], "`probs` has shape (0, 3)"),
        (np.ones((2, 3)), [0], "`labels` has shape (1,)"),
        (np.ones((2, 3)), [0.0, 1.0], "dtype float64; it must be one integer for each of the 2 examples"),
        (np.ones((2, 3)), [0, 3], "`labels` run from 0 to 3; with 3 classes they must be 0 to 2"),
        (np.ones((2, 3)), [-1, 0], "`labels` run from -1 to 0"),
    ],
)
def test_wrong_probabilities_or_labels_are_refused_in_a_sentence(probs, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        classification_error(probs, labels)


@pytest.mark.parametrize("shapes", [((4, 10), (4, 10, 2), (4, 10)), ((4, 9, 2), (4, 9, 2), (4, 9))])
def test_shapes_that_do_not_fit_the_prior_are_refused(shapes):
    with pytest.raises(ValueError, match=re.escape("with this prior they must be (examples, 10, 2) twice")):
        kl_divergence(*(np.ones(shape) for shape in shapes), circle())


def test_changes_are_root_mean_squares_of_neighbours_differences():
    images = np.zeros((3, 2, 2, 1))
    images[1, 0, 0] = 2.0  # one of four pixels: root mean square 1
    images[2] = images[1] + 0.5
    np.testing.assert_allclose(changes(images), [1.0, 0.5])


def test_a_jump_and_an_even_way_have_the_same_mean_but_not_the_same_square():
    jump, even = (
        np.broadcast_to(np.reshape(way, (11, 1, 1, 1)), (11, 2, 2, 1))
        for way in ([0] * 5 + [1] * 6, np.linspace(0, 1, 11))
    )
    assert changes(jump).mean() == pytest.approx(changes(even).mean())
    assert np.square(changes(jump)).mean() == pytest.approx(10 * np.square(changes(even)).mean())


@pytest.mark.parametrize("shape", [(1, 4, 4, 1), (3, 4, 4), (3, 0, 4, 1)])
def test_a_change_needs_two_images(shape):
    with pytest.raises(ValueError, match=re.escape(f"`images` has shape {shape}; it must be at least 2 images")):
        changes(np.zeros(shape))
