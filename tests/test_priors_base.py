"""What every prior derives from its components: densities, divergences and samples."""

import copy
import math
import re

import keras
import numpy as np
import pytest
from keras import ops
from scipy import integrate, stats

from keras_ssvae import priors
from keras_ssvae.distributions import categorical_kl_from_uniform
from keras_ssvae.priors import GaussianMixture, LearnedMixture, Prior, StandardNormal

K, D = 3, 2
MEANS = np.float32([[-3.0, 0.0], [2.0, 1.0], [0.5, 4.0]])
VARIANCES = np.float32([[1.0, 2.0], [0.5, 1.5], [3.0, 0.7]])
WEIGHTS = np.float32([0.2, 0.7, 0.1])


class Weighted(Prior):
    """Components of different weights, with log-variances of its own."""

    means, logvars, log_weights = MEANS, np.log(VARIANCES), np.log(WEIGHTS)


def learned():
    keras.utils.set_random_seed(0)
    return LearnedMixture(K, D)


def test_a_prior_is_shown_in_one_line():
    shown = repr(GaussianMixture(MEANS, VARIANCES))
    assert re.fullmatch(r"<GaussianMixture gaussian_mixture\w*: 3 components in 2 dimensions>", shown)
    assert re.fullmatch(r"<StandardNormal \w+: 1 component in 1 dimension>", repr(StandardNormal(1)))


ALL = {
    "mixture": lambda: GaussianMixture(MEANS, VARIANCES),
    "learned": learned,
    "normal": lambda: StandardNormal(D),
    "weighted": lambda: Weighted(K, D),
}


@pytest.fixture(params=ALL)
def prior(request):
    return ALL[request.param]()


def in_numpy(prior):
    """Means, variances and weights, float64."""
    values = (prior.means, prior.variances, ops.exp(prior.log_weights))
    return [ops.convert_to_numpy(value).astype("float64") for value in values]


def points(*shape):
    return np.random.default_rng(0).normal(scale=3.0, size=(*shape, D)).astype("float32")


def test_a_prior_has_components_of_one_shape_and_weights_of_sum_one(prior):
    means, variances, weights = in_numpy(prior)
    assert means.shape == variances.shape == (prior.num_components, prior.latent_dim)
    np.testing.assert_allclose(prior.logvars, np.log(variances), rtol=1e-6, atol=1e-6)
    assert weights.shape == (prior.num_components,)
    assert weights.sum() == pytest.approx(1.0, rel=1e-6)


def test_the_log_density_is_that_of_scipy_with_all_constants(prior):
    z, (means, variances, weights) = points(6), in_numpy(prior)
    each = [stats.multivariate_normal(m, np.diag(v)).logpdf(z) for m, v in zip(means, variances, strict=True)]
    np.testing.assert_allclose(prior.component_log_probs(z), np.stack(each, axis=-1), rtol=1e-5)
    components = np.arange(6) % prior.num_components
    np.testing.assert_allclose(prior.log_prob_given(z, components), np.stack(each)[components, range(6)], rtol=1e-5)
    np.testing.assert_allclose(prior.log_prob(z), np.log(np.exp(each).T @ weights), rtol=1e-5)


def test_the_density_adds_up_to_one(prior):
    axis = np.linspace(-20, 20, 401, dtype="float32")
    z = np.stack(np.meshgrid(axis, axis), axis=-1)
    density = np.exp(ops.convert_to_numpy(prior.log_prob(z)))
    assert density.shape == (401, 401)
    assert integrate.simpson(integrate.simpson(density, x=axis), x=axis) == pytest.approx(1.0, rel=1e-4)


def test_far_from_every_component_the_log_density_is_finite(prior):
    value = ops.convert_to_numpy(prior.log_prob(np.full((1, D), 1e4, "float32")))
    assert np.isfinite(value).all()
    assert value < -1e6


def test_leading_dimensions_are_computed_one_by_one(prior):
    z = points(4, 5)
    assert prior.component_log_probs(z).shape == (4, 5, prior.num_components)
    one_by_one = [prior.log_prob(z[:, s]) for s in range(5)]
    np.testing.assert_allclose(prior.log_prob(z), np.stack(one_by_one, axis=1), rtol=1e-6)


def test_the_densitys_gradient_points_to_the_component_that_explains_the_point(prior, differentiate):
    z, (means, variances, weights) = points(6), in_numpy(prior)
    _, (gradient,) = differentiate(prior.log_prob, [z])
    each = np.exp([stats.multivariate_normal(m, np.diag(v)).logpdf(z) for m, v in zip(means, variances, strict=True)])
    shares = (each.T * weights) / (each.T @ weights)[:, None]
    expected = np.sum(shares[..., None] * (means - z[:, None]) / variances, axis=1)
    np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def test_one_posterior_is_compared_with_every_component(prior):
    mean, logvar = points(4), points(4) / 3
    means, variances, _ = in_numpy(prior)
    ratio = np.exp(np.float64(logvar))[:, None] / variances
    expected = 0.5 * np.sum(ratio - 1 - np.log(ratio) + (mean[:, None] - means) ** 2 / variances, axis=-1)
    np.testing.assert_allclose(prior.kl_per_component(mean, logvar), expected, rtol=1e-5)


def test_of_a_posterior_for_each_component_the_k_th_is_compared_with_the_k_th(prior):
    mean, logvar = points(4, prior.num_components), points(4, prior.num_components) / 3
    value = ops.convert_to_numpy(prior.kl_per_component(mean, logvar))
    assert value.shape == (4, prior.num_components)
    for k in range(prior.num_components):
        of_k = prior.kl_per_component(mean[:, k], logvar[:, k])
        np.testing.assert_allclose(value[:, k], ops.convert_to_numpy(of_k)[:, k], rtol=1e-6)


def test_kl_is_the_mean_over_the_posteriors_weights(prior):
    probs = np.random.default_rng(1).dirichlet(np.ones(prior.num_components), 4).astype("float32")
    for shape in ((4,), (4, prior.num_components)):
        mean, logvar = points(*shape), points(*shape) / 3
        expected = np.sum(probs * ops.convert_to_numpy(prior.kl_per_component(mean, logvar)), axis=-1)
        np.testing.assert_allclose(prior.kl(probs, mean, logvar), expected, rtol=1e-6)


def test_a_drawn_point_is_its_components_centre_and_the_noise_in_its_deviations(prior):
    components = np.arange(6).reshape(2, 3) % prior.num_components
    means, variances, _ = in_numpy(prior)
    epsilon = points(2, 3)
    expected = means[components] + np.sqrt(variances[components]) * epsilon
    np.testing.assert_allclose(prior.draw(components, epsilon), expected, rtol=1e-5, atol=1e-6)


def test_samples_have_the_weights_and_the_moments_of_the_components(prior):
    z, labels = prior.sample(40_000, seed=3)
    assert (z.shape, z.dtype, labels.dtype) == ((40_000, D), np.float32, np.int64)
    means, variances, weights = in_numpy(prior)
    np.testing.assert_allclose(np.bincount(labels) / len(labels), weights, atol=0.01)
    for k in range(prior.num_components):
        np.testing.assert_allclose(z[labels == k].mean(axis=0), means[k], atol=0.1)
        np.testing.assert_allclose(z[labels == k].var(axis=0), variances[k], rtol=0.06)


def test_samples_of_a_seed_are_always_those_that_they_were():
    z, labels = priors.circle(3).sample(3, seed=5)
    np.testing.assert_array_equal(labels, [2, 2, 0])
    np.testing.assert_allclose(z, [[0.8982985, -5.899519], [3.4314003, -2.1496601], [1.4472519, 9.158399]], rtol=1e-6)


def test_a_learned_prior_draws_what_its_mixture_of_the_moment_does():
    prior = learned()
    for given, expected in zip(prior.sample(20, seed=1), prior.now().sample(20, seed=1), strict=True):
        np.testing.assert_array_equal(given, expected)


def test_now_is_the_mixture_in_numpy():
    mixture = GaussianMixture(MEANS, VARIANCES)
    assert mixture.now() is mixture
    normal = StandardNormal(D).now()
    np.testing.assert_array_equal(normal.means, np.zeros((1, D)))
    np.testing.assert_array_equal(normal.variances, np.ones((1, D)))
    weighted = Weighted(K, D)
    np.testing.assert_allclose(weighted.now().probs, np.exp(ops.convert_to_numpy(weighted.log_weights)), rtol=1e-6)


def test_all_of_it_compiles(prior):
    """In a graph of TensorFlow, or jitted by JAX."""
    z, probs = points(4), np.full((4, prior.num_components), 1 / prior.num_components, "float32")

    def everything(z, probs):
        return prior.log_prob(z), prior.kl(probs, z, z), prior.draw(ops.zeros((4,), "int32"), z)

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(everything, jit_compile=True)
    else:
        import jax

        compiled = jax.jit(everything)
    for value, expected in zip(compiled(z, probs), everything(z, probs), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [ALL["mixture"], ALL["normal"], learned])
def test_a_prior_is_restored_from_its_config_and_can_be_copied(build):
    prior = build()
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    restored.set_weights(prior.get_weights())
    for again in (restored, copy.deepcopy(prior)):
        assert type(again) is type(prior)
        np.testing.assert_array_equal(again.means, prior.means)
        np.testing.assert_array_equal(again.variances, prior.variances)


def test_only_a_learned_prior_has_variables():
    assert [len(build().variables) for build in ALL.values()] == [0, 2, 0, 0]


def test_a_mixture_is_written_as_by_the_releases_in_which_it_was_no_layer():
    """So that each reads the other's files."""
    assert keras.saving.serialize_keras_object(GaussianMixture([[1.0, 2.0]], 4.0)) == {
        "module": "keras_ssvae.priors.mixture",
        "class_name": "GaussianMixture",
        "config": {"means": [[1.0, 2.0]], "variances": [[4.0, 4.0]]},
        "registered_name": "keras_ssvae>GaussianMixture",
    }


def test_a_learned_prior_loads_under_the_names_that_its_arguments_had_at_first():
    prior = LearnedMixture.from_config({"name": "u", "num_classes": 4, "dim": 5})
    assert (prior.name, prior.num_components, prior.latent_dim) == ("u", 4, 5)


def test_the_standard_normal_is_the_textbooks():
    prior, zero = StandardNormal(D), np.zeros((1, D), "float32")
    np.testing.assert_allclose(prior.log_prob(zero), [-math.log(2 * math.pi)], rtol=1e-6)
    np.testing.assert_array_equal(prior.kl_per_component(zero, zero), [[0.0]])
    np.testing.assert_allclose(prior.kl_per_component(zero + 3.0, zero), [[9.0]])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_under_any_dtype_policy_the_sums_are_float32(policy):
    keras.config.set_dtype_policy(policy)
    for build in ALL.values():
        prior, z = build(), points(4)
        probs = np.ones((4, prior.num_components), "float32")
        for value in (prior.log_prob(z), prior.kl(probs, z, z), prior.draw(np.zeros(4, int), z)):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LearnedMixture(0, 2), "`num_components` is 0; it must be an integer of at least 1."),
        (lambda: LearnedMixture(3, 2.5), "`latent_dim` is 2.5; it must be"),
        (lambda: StandardNormal("two"), "`latent_dim` is 'two'; it must be"),
    ],
)
def test_a_wrong_size_is_a_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()


WEIGHTS = np.array([0.1, 0.2, 0.7])


def test_weights_of_a_mixture_are_in_its_densities_divergences_samples_and_file():
    prior, uniform = GaussianMixture(MEANS, VARIANCES, WEIGHTS), GaussianMixture(MEANS, VARIANCES)
    z, probs = points(4), np.random.default_rng(1).dirichlet(np.ones(K), 4).astype("float32")
    density = np.exp(ops.convert_to_numpy(prior.component_log_probs(z))) @ WEIGHTS
    np.testing.assert_allclose(prior.log_prob(z), np.log(density), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        prior.categorical_kl(probs), (probs * np.log(probs / WEIGHTS)).sum(axis=-1), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(prior.categorical_kl(WEIGHTS[None].astype("float32")), 0, atol=1e-6)
    np.testing.assert_array_equal(uniform.categorical_kl(probs), categorical_kl_from_uniform(probs))
    _, labels = prior.sample(20_000, seed=1)
    np.testing.assert_allclose(np.bincount(labels) / 20_000, WEIGHTS, atol=0.02)
    restored = GaussianMixture.from_config(prior.get_config())
    np.testing.assert_array_equal(restored.probs, prior.probs)
    assert "weights" not in uniform.get_config()
    np.testing.assert_array_equal(uniform.probs, np.full(K, 1 / K))


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.2, 0.2], [0.0, 0.3, 0.7], [float("nan"), 0.5, 0.5]])
def test_weights_that_are_no_probabilities_are_refused(weights):
    with pytest.raises(ValueError, match=r"`weights` is .*; it must be 3 positive probabilities, whose sum is 1"):
        GaussianMixture(MEANS, VARIANCES, weights)


def test_points_of_other_dimensions_are_refused_where_broadcasting_would_hide_them(prior):
    z, mean = np.zeros((5, 1), "float32"), np.zeros((5, D), "float32")
    wrong = r"has shape \(5, 1\); its last axis must have 2 entries, the dimensions of"
    for given in (
        lambda: prior.log_prob(z),
        lambda: prior.component_log_probs(z),
        lambda: prior.log_prob_given(z, np.zeros(5, "int32")),
        lambda: prior.draw(np.zeros(5, "int32"), z),
        lambda: prior.kl_per_component(z, mean),
        lambda: prior.kl(np.full((5, prior.num_components), 1 / prior.num_components, "float32"), mean, z),
    ):
        with pytest.raises(ValueError, match=wrong):
            given()
    if prior.num_components > 1:
        with pytest.raises(ValueError, match=r"`probs` has shape \(5, 1\); it must hold the probabilities of the"):
            prior.kl(np.ones((5, 1), "float32"), mean, mean)


def test_points_of_any_precision_and_lists_are_points(prior):
    z = np.float32([[0.5, -1.0], [2.0, 1.0]])
    expected = ops.convert_to_numpy(prior.log_prob(z))
    for given in (z.astype("float64"), z.tolist(), ops.convert_to_tensor(z)):
        np.testing.assert_allclose(ops.convert_to_numpy(prior.log_prob(given)), expected, rtol=1e-6)
