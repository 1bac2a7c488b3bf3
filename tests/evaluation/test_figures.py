import re

import numpy as np
import pytest

from keras_ssvae.evaluation import classification_error, kl_divergence
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


def test_the_originals_figure_is_met(exon_mnist_golden_files):
    for file in exon_mnist_golden_files:
        with np.load(file) as golden:
            means = golden["prior_means"].reshape(golden["eval/mean"].shape[1:])
            prior = GaussianMixture(means, golden["prior_variance"])
            kl = kl_divergence(golden["eval/mean"], golden["eval/logvar"], golden["eval/prob"], prior)
            assert kl == pytest.approx(float(golden["eval/kl"]), rel=1e-6)


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
