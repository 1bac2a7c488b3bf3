import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from keras_ssvae.evaluation import kl_decomposition, kl_divergence, kl_gaussian_bounds
from keras_ssvae.priors import GaussianMixture, circle


def one_class(mean, variance, prior_variance=1.0):
    """Posteriors of images that are all of one class, and its prior."""
    mean, variance = (np.asarray(array, "float64")[:, None] for array in np.broadcast_arrays(mean, variance))
    prior = GaussianMixture(np.zeros((1, mean.shape[-1])), prior_variance)
    return mean, np.log(variance), np.ones((len(mean), 1)), prior


def aggregated_to_the_prior(seed, images=20):
    """Posteriors of which those of each class have together the mean and the variance of their prior."""
    rng = np.random.default_rng(seed)
    prior = GaussianMixture(rng.normal(size=(3, 2)) * 5, rng.uniform(0.5, 4.0, (3, 2)))
    mean = rng.normal(size=(3 * images, 3, 2))
    share = rng.uniform(0.05, 0.95, (3, 2))  # of the prior's variance that is within the posteriors
    variance = rng.uniform(0.2, 1.0, mean.shape)
    labels = np.repeat(np.arange(3), images)
    for k in range(3):
        own = labels == k
        around = mean[own, k] - mean[own, k].mean(axis=0)
        spread = np.sqrt((1 - share[k]) * prior.variances[k]) / around.std(axis=0)
        mean[own, k] = prior.means[k] + around * spread
        variance[own, k] *= share[k] * prior.variances[k] / variance[own, k].mean(axis=0)
    return mean, np.log(variance), np.eye(3)[labels], labels, prior


@given(seed=st.integers(0, 10_000))
def test_the_bounds_hold_where_the_posteriors_together_are_as_wide_as_the_prior(seed):
    mean, logvar, probs, labels, prior = aggregated_to_the_prior(seed)
    lower, upper = kl_gaussian_bounds(logvar, labels, prior)
    kl_gaussian = kl_divergence(mean, logvar, probs, prior) - np.log(3)
    assert 0 <= lower <= kl_gaussian <= upper


def test_the_bounds_are_those_of_the_theorem():
    prior = GaussianMixture([[0.0, 0.0], [5.0, 0.0]], [[4.0, 1.0], [0.5, 3.0]])
    variance = np.full((3, 2, 2), 99.0)
    variance[0, 0], variance[2, 0] = [1.0, 1.0], [0.25, 2.0]  # class 0
    variance[1, 1] = [0.1, 3.0]  # class 1
    ratios = {0: [(1 / 4 + 0.25 / 4) / 2, (1 + 2) / 2], 1: [0.1 / 0.5, 1]}
    inverses = {0: [(4 + 16) / 2, (1 + 1 / 2) / 2], 1: [5, 1]}
    lower, upper = kl_gaussian_bounds(np.log(variance), [0, 1, 0], prior)
    assert lower == pytest.approx(1 - sum(map(sum, ratios.values())) / 4, rel=1e-6)
    assert upper == pytest.approx(sum(map(sum, inverses.values())) / 4 - 1, rel=1e-6)


def test_the_bounds_of_the_prior_itself_are_zero():
    prior = circle()
    logvar = np.log(np.repeat(prior.variances[None], 10, axis=0))
    np.testing.assert_allclose(kl_gaussian_bounds(logvar, np.arange(10), prior), 0.0, atol=1e-6)


def test_bounds_need_every_class():
    with pytest.raises(ValueError, match=re.escape("hold no image of the classes [0, 2]")):
        kl_gaussian_bounds(np.zeros((1, 3, 2)), [1], circle(3))


def test_equal_posteriors_tell_nothing_and_all_is_distance_from_the_prior():
    mean, logvar, probs, prior = one_class(np.full((50, 2), [1.0, -2.0]), 0.5)
    parts = kl_decomposition(mean, logvar, probs, prior)
    assert parts.information_xy == parts.kl_y == 0.0
    assert parts.information_xz == pytest.approx(0.0, abs=1e-12)
    assert parts.information_xz_standard_error == pytest.approx(0.0, abs=1e-12)
    assert parts.kl_z == pytest.approx((1 + 4 + 2 * 0.5 - 2 - 2 * np.log(0.5)) / 2, rel=1e-6)


def test_posteriors_that_are_far_apart_tell_which_image_it_is():
    mean, logvar, probs, prior = one_class(np.arange(40.0)[:, None] * 10, 0.01)
    parts = kl_decomposition(mean, logvar, probs, prior)
    assert parts.information_xz == pytest.approx(np.log(40), rel=1e-9)


def test_the_standard_error_is_the_deviation_of_the_estimates():
    mean, logvar, probs, prior = one_class([[-1.0], [1.0]], [[0.5], [2.0]])
    parts = [kl_decomposition(mean, logvar, probs, prior, draws=400, seed=seed) for seed in range(100)]
    deviation = np.std([each.information_xz for each in parts], ddof=1)
    errors = [each.information_xz_standard_error for each in parts]
    assert np.mean(errors) == pytest.approx(deviation, rel=0.25)


def test_the_ceiling_is_the_entropy_of_an_image_of_known_class():
    mean, logvar, probs, prior = one_class(np.arange(40.0)[:, None] * 10, 0.01)
    assert kl_decomposition(mean, logvar, probs, prior).information_xz_ceiling == pytest.approx(np.log(40))
    prior, probs = GaussianMixture(np.zeros((2, 1)), 1.0), np.repeat(np.eye(2), 20, axis=0)
    parts = kl_decomposition(np.repeat(mean, 2, axis=1), np.repeat(logvar, 2, axis=1), probs, prior)
    assert parts.information_xz_ceiling == pytest.approx(np.log(20))
    assert parts.information_xz == pytest.approx(np.log(20))


def test_narrow_posteriors_far_from_the_origin_keep_their_digits():
    """Against squares that are not multiplied out."""
    rng = np.random.default_rng(1)
    d, sigma = 64, np.exp(-6.0)
    mean = (1e3 + 0.2 * sigma * rng.normal(size=(30, d))).astype("float32").astype("float64")
    arguments = one_class(mean, np.full(mean.shape, sigma**2))
    (parts, draws) = kl_decomposition(*arguments, draws=500, seed=2), np.random.default_rng(2)
    images = draws.integers(30, size=500)
    draws.random((500, 1))
    noise = draws.standard_normal((500, d))
    z = mean[images] + sigma * noise
    squares = np.square((z[:, None] - mean) / sigma).sum(axis=-1)
    mixture = logsumexp(-0.5 * squares, axis=1) - np.log(30)
    expected = (-0.5 * np.square(noise).sum(axis=1) - mixture).mean()
    assert parts.information_xz == pytest.approx(expected, abs=1e-3)
    assert 1.0 < expected < 3.3


def test_two_overlapping_posteriors_give_the_integral():
    mean, logvar, probs, prior = one_class([[-1.0], [1.0]], [[0.5], [2.0]])

    def information(z):
        densities = norm.pdf(z, [-1.0, 1.0], np.sqrt([0.5, 2.0]))
        return (densities * np.log(densities / densities.mean())).mean()

    expected = quad(information, -15, 15)[0]
    parts = kl_decomposition(mean, logvar, probs, prior, draws=200_000)
    assert parts.information_xz_standard_error < 2e-3
    assert parts.information_xz == pytest.approx(expected, abs=4 * parts.information_xz_standard_error)


def test_a_gaussian_channel_has_its_capacity():
    # Means drawn as if z were x plus noise: I = log(variance of z / variance of the noise) / 2 in each dimension.
    quantiles = norm.ppf((np.arange(2000) + 0.5) / 2000)
    mean, logvar, probs, prior = one_class(np.sqrt(0.75) * quantiles[:, None], 0.25)
    parts = kl_decomposition(mean, logvar, probs, prior)
    assert parts.information_xz == pytest.approx(np.log(4) / 2, abs=4 * parts.information_xz_standard_error + 1e-3)
    assert parts.kl_z == pytest.approx(0.0, abs=4 * parts.information_xz_standard_error + 1e-3)


def test_the_classes_are_weighted_by_the_probabilities_of_their_images():
    """Two classes: the first with one posterior, the second with two that are far apart."""
    prior = GaussianMixture([[0.0], [0.0]], 1.0)
    mean = np.array([[[3.0], [-50.0]], [[3.0], [50.0]]])
    probs = np.array([[0.9, 0.1], [0.3, 0.7]])
    parts = kl_decomposition(mean, np.full((2, 2, 1), -8.0), probs, prior, draws=50_000)
    joint = probs / 2
    marginal = joint.sum(axis=0)
    entropy = -(joint[:, 1] / marginal[1] * np.log(joint[:, 1] / marginal[1])).sum()
    assert parts.information_xz == pytest.approx(marginal[1] * entropy, abs=4 * parts.information_xz_standard_error)
    assert parts.information_xy == pytest.approx((joint * np.log(probs / marginal)).sum(), rel=1e-6)
    assert parts.kl_y == pytest.approx((marginal * np.log(2 * marginal)).sum(), rel=1e-6)


@given(seed=st.integers(0, 10_000))
def test_the_parts_add_up_to_the_divergence_and_none_is_negative(seed):
    rng = np.random.default_rng(seed)
    prior = GaussianMixture(rng.normal(size=(3, 4)), rng.uniform(0.5, 2.0, (3, 4)))
    mean, logvar = rng.normal(size=(15, 3, 4)), rng.normal(size=(15, 3, 4)) - 1.0
    probs = rng.dirichlet(np.full(3, 0.3), size=15)
    parts = kl_decomposition(mean, logvar, probs, prior, draws=2000, seed=seed)
    assert sum(parts[:4]) == pytest.approx(kl_divergence(mean, logvar, probs, prior), rel=1e-6)
    assert min(parts[:2]) >= 0
    assert min(parts[2:4]) >= -4 * parts.information_xz_standard_error


def test_the_estimate_is_that_of_mixtures_of_gaussians(tfd):
    rng = np.random.default_rng(1)
    mean, logvar = rng.normal(size=(30, 2, 3)), rng.normal(size=(30, 2, 3)) - 1.0
    probs = rng.dirichlet(np.ones(2), size=30)
    prior = GaussianMixture(rng.normal(size=(2, 3)), rng.uniform(0.5, 2.0, (2, 3)))
    of_classes = []
    for k in range(2):
        posteriors = tfd.MultivariateNormalDiag(mean[:, k], np.exp(logvar[:, k] / 2))
        mixture = tfd.MixtureSameFamily(tfd.Categorical(probs=probs[:, k] / probs[:, k].sum()), posteriors)
        z = mixture.sample(100_000, seed=k)
        own = tfd.MultivariateNormalDiag(prior.means[k].astype("float64"), np.sqrt(prior.variances[k], dtype="float64"))
        of_classes.append(np.mean(mixture.log_prob(z) - own.log_prob(z)))
    parts = kl_decomposition(mean, logvar, probs, prior, draws=100_000)
    assert parts.kl_z == pytest.approx(probs.mean(axis=0) @ of_classes, abs=6 * parts.information_xz_standard_error)


def test_the_same_seed_gives_the_same_numbers_and_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    mean, logvar = rng.normal(size=(30, 2, 3)), rng.normal(size=(30, 2, 3))
    probs = rng.dirichlet(np.ones(2), size=30)
    prior = GaussianMixture(np.zeros((2, 3)), 1.0)
    first = kl_decomposition(mean, logvar, probs, prior, draws=500, seed=3)
    monkeypatch.setattr("keras_ssvae.evaluation.information._BLOCK", 100)
    np.testing.assert_allclose(kl_decomposition(mean, logvar, probs, prior, draws=500, seed=3), first, rtol=1e-12)
    assert kl_decomposition(mean, logvar, probs, prior, draws=500, seed=4).information_xz != first.information_xz


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"probs": np.ones((5, 2)) / 2}, "`probs` have shapes (5, 3, 2), (5, 3, 2) and (5, 2)"),
        (dict.fromkeys(("mean", "logvar", "probs"), np.ones((0, 3, 2))), "have shapes (0, 3, 2)"),
        ({"draws": 1}, "`draws` is 1. It must be an integer of at least 2"),
        ({"probs": np.ones((5, 3))}, "`probs` holds numbers from 1 to 1 that sum to 3 to 3"),
        (
            {"mean": np.full((5, 3, 2), np.nan)},
            "`mean` and `logvar` must hold finite numbers only",
        ),
        ({"probs": np.full((5, 3), np.nan)}, "`probs` holds numbers from nan to nan"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(changed, message):
    arguments = {"mean": np.ones((5, 3, 2)), "logvar": np.ones((5, 3, 2)), "probs": np.ones((5, 3)) / 3}
    with pytest.raises(ValueError, match=re.escape(message)):
        kl_decomposition(**{**arguments, "prior": circle(3), **changed})


def mixture_on_a_line(mean, variance, weights):
    """The density of a mixture of Gaussians, and its integral with a function's logarithm."""
    x = np.linspace(-25, 25, 20_001)
    density = sum(w * norm.pdf(x, m, np.sqrt(v)) for m, v, w in zip(mean, variance, weights, strict=True))
    return x, density


def test_with_a_single_prior_the_parts_are_those_of_image_and_class_together():
    """INDp of CP-VAE's Table 1: I(z, (c, x)) and KL(q(z) || p(z)), by quadrature."""
    mean = np.array([[-2.0, 0.5], [1.0, 3.0], [0.0, 0.3]])
    variance = np.array([[0.3, 1.2], [0.7, 0.1], [2.0, 0.4]])
    probs = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    prior = GaussianMixture([[0.2]], 1.5)
    parts = kl_decomposition(mean[..., None], np.log(variance)[..., None], probs, prior, draws=200_000)
    weights = probs.ravel() / 3
    x, density = mixture_on_a_line(mean.ravel(), variance.ravel(), weights)
    entropy = -np.trapezoid(density * np.log(density), x)
    information = entropy - weights @ (0.5 * np.log(2 * np.pi * np.e * variance.ravel()))
    distance = -entropy - np.trapezoid(density * norm.logpdf(x, 0.2, np.sqrt(1.5)), x)
    assert parts.information_xz == pytest.approx(information, abs=5 * parts.information_xz_standard_error)
    assert parts.information_xz_standard_error < 0.005
    assert parts.kl_z == pytest.approx(distance, abs=0.02)
    marginal = probs.mean(axis=0)
    assert parts.kl_y == pytest.approx((marginal * np.log(2 * marginal)).sum(), rel=1e-5)
    divergence = 0.5 * (np.log(1.5) - np.log(variance) + (variance + (mean - 0.2) ** 2) / 1.5 - 1)
    total = (probs * (divergence + np.log(2 * probs))).sum(axis=1).mean()
    np.testing.assert_allclose(sum(parts[:4]), total, rtol=1e-5)
    entropy_of_classes = -(probs * np.log(probs)).sum(axis=1).mean()
    np.testing.assert_allclose(parts.information_xz_ceiling, np.log(3) + entropy_of_classes, rtol=1e-5)


def test_where_z_depends_on_no_class_at_all_it_is_the_information_about_the_image():
    """INDqp: the same numbers as of a single class, whatever the classes are."""
    mean, logvar = np.array([[-3.0], [0.0], [4.0]]), np.log([[0.5], [0.2], [1.0]])
    probs, prior = np.array([[0.2, 0.8], [0.7, 0.3], [0.5, 0.5]]), GaussianMixture([[0.0]], 1.0)
    repeated = [np.repeat(each[:, None], 2, axis=1) for each in (mean, logvar)]
    parts = kl_decomposition(*repeated, probs, prior)
    alone = kl_decomposition(mean[:, None], logvar[:, None], np.ones((3, 1)), prior)
    # The same images and the same noise.
    assert parts.information_xz == pytest.approx(alone.information_xz, rel=1e-9)
    assert parts.kl_z == pytest.approx(alone.kl_z, rel=1e-5)
    assert parts.information_xz_ceiling == pytest.approx(np.log(3))
    assert (alone.information_xy, alone.kl_y) == (0.0, 0.0)
