"""The prior of PartedVAE's u: components that are learned."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import priors
from keras_ssvae.distributions import gaussian_kl
from keras_ssvae.priors import LearnedMixture

K, D = 3, 2


@pytest.fixture
def prior():
    prior = LearnedMixture(K, D)
    prior.free_means.assign([[0.0, 0.0], [1.0, -0.5], [6.0, 2.0]])
    prior.free_logvars.assign([[0.0, 0.3], [-1.0, 2.0], [0.7, -0.2]])
    return prior


def test_it_begins_with_components_of_its_own_each():
    keras.utils.set_random_seed(0)
    large = LearnedMixture(20, 30)
    assert large.means.shape == large.logvars.shape == (20, 30)
    for values in (large.free_means.numpy(), large.free_logvars.numpy()):
        np.testing.assert_allclose([values.mean(), values.std()], [0.0, 1.0], atol=0.15)  # 4 standard errors
    assert abs(np.corrcoef(large.free_means.numpy().ravel(), large.free_logvars.numpy().ravel())[0, 1]) < 0.15


def test_means_are_free_and_log_variances_between_minus_3_and_1(prior):
    np.testing.assert_array_equal(prior.means, prior.free_means.numpy())
    np.testing.assert_allclose(prior.logvars, 2 * np.tanh(prior.free_logvars.numpy()) - 1, rtol=1e-6)
    prior.free_logvars.assign([[-1e6, 1e6]] * K)
    np.testing.assert_array_equal(prior.logvars, [[-3.0, 1.0]] * K)


def test_the_released_code_of_cp_vae_has_other_variances_and_the_mean_of_logarithms(prior):
    options = {"bounded": False, "above_one": True, "mean_of_logs": True}
    released, mixture = LearnedMixture(K, D, **options), LearnedMixture(K, D, **options | {"mean_of_logs": False})
    for given in (released, mixture):
        given.set_weights(prior.get_weights())
    free = ops.convert_to_numpy(prior.free_logvars)
    np.testing.assert_allclose(released.variances, (1 + np.exp(free / 2)) ** 2, rtol=1e-5)
    z = np.random.default_rng(0).normal(size=(5, D)).astype("float32")
    each = ops.convert_to_numpy(mixture.component_log_probs(z))
    np.testing.assert_allclose(released.log_prob(z), each.mean(axis=-1), rtol=1e-6)
    assert (ops.convert_to_numpy(mixture.log_prob(z)) > each.mean(axis=-1)).all()
    assert options.items() <= LearnedMixture.from_config(released.get_config()).get_config().items()
    with pytest.raises(ValueError, match="`bounded` and `above_one` are both True"):
        LearnedMixture(K, D, above_one=True)


def test_kl_is_weighted_over_the_components_of_each_example(prior):
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(size=(2, 4, D)).astype("float32")
    each = np.stack([gaussian_kl(mean, logvar, prior.means[k], ops.exp(prior.logvars[k])) for k in range(K)], axis=-1)
    np.testing.assert_allclose(
        prior.kl(np.eye(K, dtype="float32")[[2, 0, 1, 1]], mean, logvar), each[range(4), [2, 0, 1, 1]], rtol=1e-6
    )
    probs = rng.dirichlet(np.ones(K), 4).astype("float32")
    np.testing.assert_allclose(prior.kl(probs, mean, logvar), np.sum(probs * each, axis=-1), rtol=1e-6)


def test_kl_of_a_component_from_itself_is_zero(prior):
    value = prior.kl(np.eye(K, dtype="float32"), prior.means, prior.logvars)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)


def test_overlap_sums_what_each_pair_has_above_the_tolerance(prior):
    coefficients = priors.bhattacharyya_coefficients(prior.now())
    pairs = coefficients[[1, 2, 2], [0, 0, 1]]
    largest, *others = sorted(pairs, reverse=True)
    tolerance = (largest + others[0]) / 2
    np.testing.assert_allclose(prior.overlap(tolerance), largest - tolerance, rtol=1e-5)
    np.testing.assert_allclose(prior.overlap(0.0), pairs.sum(), rtol=1e-6)
    assert float(prior.overlap(1.0)) == 0.0


def test_its_gradient_drives_components_apart_that_overlap_too_much_and_no_others(prior, differentiate):
    _, (gradient, _) = differentiate(lambda: prior.overlap(0.15), [], [prior.free_means, prior.free_logvars])
    away = prior.free_means.numpy()[1] - prior.free_means.numpy()[0]
    assert gradient[1] @ away < 0 < gradient[0] @ away
    np.testing.assert_array_equal(gradient[2], 0.0)


def test_now_is_the_mixture_of_the_moment(prior):
    now = prior.now()
    assert (now.num_classes, now.latent_dim) == (K, D)
    np.testing.assert_array_equal(now.means, prior.free_means.numpy())
    np.testing.assert_allclose(now.variances, np.exp(2 * np.tanh(prior.free_logvars.numpy()) - 1), rtol=1e-6)
    prior.free_means.assign(np.zeros((K, D)))
    assert now.means.any()  # a copy, which does not follow


def test_config_and_weights_restore_it(prior):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    assert type(restored) is LearnedMixture
    assert (restored.num_components, restored.latent_dim) == (K, D)
    restored.set_weights(prior.get_weights())
    np.testing.assert_array_equal(restored.means, prior.means)
    np.testing.assert_array_equal(restored.logvars, prior.logvars)


def test_under_mixed_precision_it_stays_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    prior = LearnedMixture(K, D)
    assert keras.backend.standardize_dtype(prior.means.dtype) == "float32"
    assert keras.backend.standardize_dtype(prior.overlap(0.1).dtype) == "float32"
