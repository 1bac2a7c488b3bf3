"""VampPrior: a prior that is the mean of the posteriors of its pseudo-inputs."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import special, stats

from keras_ssvae.priors import VampPrior

SHAPE, D = (3, 3, 1), 2
RNG = np.random.default_rng(6)
KERNEL = RNG.normal(size=(9, 2 * D)).astype("float32")
Z = RNG.normal(scale=2.0, size=(50, D)).astype("float32")


@pytest.fixture
def encoder():
    images = keras.Input(SHAPE)
    both = layers.Dense(2 * D)(layers.Flatten()(images))
    model = keras.Model(images, [both[:, :D], both[:, D:]])
    model.set_weights([KERNEL, np.zeros(2 * D)])
    return model


def prior_of(encoder, inputs):
    """With pseudo-inputs in [0, 1]."""
    prior = VampPrior(len(inputs), D, SHAPE)
    prior.pseudo_inputs.assign(inputs)
    prior.bind(encoder)
    return prior


def posterior(encoder, inputs):
    """Means and variances in NumPy."""
    mean, logvar = (ops.convert_to_numpy(values) for values in encoder(inputs))
    return mean, np.exp(logvar)


def pseudo_inputs(n):
    return np.random.default_rng(n).uniform(0, 1, (n, *SHAPE)).astype("float32")


def test_one_pseudo_input_makes_its_posterior_the_prior(encoder):
    u = pseudo_inputs(1)
    mean, variance = posterior(encoder, u)
    expected = stats.norm.logpdf(Z, mean, np.sqrt(variance)).sum(axis=-1)
    np.testing.assert_allclose(prior_of(encoder, u).log_prob(Z), expected, rtol=1e-5)


def test_equal_pseudo_inputs_count_as_one(encoder):
    u = pseudo_inputs(1)
    several = prior_of(encoder, np.repeat(u, 7, axis=0))
    np.testing.assert_allclose(several.log_prob(Z), prior_of(encoder, u).log_prob(Z), rtol=1e-5)


def test_it_is_the_mean_of_the_posteriors(encoder):
    u = pseudo_inputs(5)
    mean, variance = posterior(encoder, u)
    each = stats.norm.logpdf(Z[:, None], mean, np.sqrt(variance)).sum(axis=-1)
    prior = prior_of(encoder, u)
    np.testing.assert_allclose(prior.log_prob(Z), special.logsumexp(each, axis=1) - np.log(5), rtol=1e-5)
    np.testing.assert_allclose(prior.means, mean, rtol=1e-5)
    np.testing.assert_allclose(prior.variances, variance, rtol=1e-5)
    np.testing.assert_allclose(prior.logvars, np.log(variance), rtol=1e-4, atol=1e-6)


def test_with_the_data_as_pseudo_inputs_the_mean_divergence_is_the_information_and_at_most_log_n(encoder):
    x = pseudo_inputs(6)
    mean, variance = posterior(encoder, x)
    axis = np.arange(-9.0, 9.0, 0.05)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, D).astype("float32")
    q = np.exp(stats.norm.logpdf(z[:, None], mean, np.sqrt(variance)).sum(axis=-1))  # q(z | x_n), (z, n)
    mixture = q.mean(axis=1)
    # I(z, index) = H(z) - H(z | index), both by sums over the grid.
    entropies = [-np.sum(special.xlogy(p, p)) * 0.05**2 for p in (mixture, *q.T)]
    information = entropies[0] - np.mean(entropies[1:])
    log_prior = ops.convert_to_numpy(prior_of(encoder, x).log_prob(z))
    divergence = np.mean([np.sum(special.xlogy(p, p) - p * log_prior) * 0.05**2 for p in q.T])
    np.testing.assert_allclose(divergence, information, rtol=1e-4)
    assert 0.1 < divergence < np.log(6)


def test_pseudo_inputs_are_clipped_to_pixels(encoder):
    u = np.random.default_rng(1).normal(0.5, 1.0, (4, *SHAPE)).astype("float32")
    assert u.min() < 0 < 1 < u.max()
    clipped = prior_of(encoder, np.clip(u, 0, 1))
    np.testing.assert_allclose(prior_of(encoder, u).log_prob(Z), clipped.log_prob(Z), rtol=1e-6)


def test_the_gradient_reaches_the_pseudo_inputs_and_the_encoder_but_not_what_is_clipped(encoder, differentiate):
    prior = prior_of(encoder, pseudo_inputs(2))
    inputs = ops.convert_to_numpy(prior.pseudo_inputs).copy()
    inputs[0, 0, 0, 0] = 1.5
    prior.pseudo_inputs.assign(inputs)
    variables = [prior.pseudo_inputs, encoder.trainable_variables[0]]
    _, (_, of_inputs, of_kernel) = differentiate(prior.log_prob, [Z[:3]], variables)
    assert of_inputs[0, 0, 0, 0] == 0
    assert np.count_nonzero(of_inputs) == of_inputs.size - 1
    assert np.abs(of_kernel).min() > 0


def test_it_starts_at_noise_or_at_images():
    inputs = ops.convert_to_numpy(VampPrior(500, D, (8, 8, 1)).pseudo_inputs)
    np.testing.assert_allclose([inputs.mean(), inputs.std()], [0.05, 0.01], rtol=0.02)
    images = RNG.uniform(-1, 1, (30, 8, 8, 1)).astype("float32")
    prior = VampPrior.from_images(images, latent_dim=D)
    difference = ops.convert_to_numpy(prior.pseudo_inputs) - 0.5 * (images + 1)
    np.testing.assert_allclose(difference.std(), 0.01, rtol=0.1)
    assert (prior.num_components, prior.latent_dim, prior.image_shape) == (30, D, (8, 8, 1))


def test_the_encoder_belongs_to_the_model_and_to_one_only(encoder):
    prior = prior_of(encoder, pseudo_inputs(2))
    assert [variable.name for variable in prior.variables] == ["pseudo_inputs"]
    prior.bind(encoder)
    with pytest.raises(ValueError, match="has the encoder of another model"):
        prior.bind(keras.Sequential())
    with pytest.raises(ValueError, match=r"has no encoder.*call `bind\(encoder\)`"):
        VampPrior(2, D, SHAPE).log_prob(Z)


@pytest.mark.parametrize("gives", [lambda h: h, lambda h: [h], lambda h: [h, layers.Dense(3)(h)]])
@pytest.mark.parametrize("components", [2, 7])
def test_an_encoder_with_other_outputs_is_refused(gives, components):
    images = keras.Input((4, 4, 1))
    encoder = keras.Model(images, gives(layers.Dense(2)(layers.Flatten()(images))))
    with pytest.raises(ValueError, match=r"The encoder gives .* needs means and log-variances, each \(None, 2\)"):
        VampPrior(components, 2, (4, 4, 1)).bind(encoder)


def test_the_configuration_restores_it(encoder):
    prior = VampPrior(4, D, SHAPE, initial_mean=0.3, initial_stddev=0.2, name="vamp")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(prior))
    assert restored.get_config() == prior.get_config()
    assert restored.pseudo_inputs.shape == (4, *SHAPE)
