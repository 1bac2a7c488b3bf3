"""Likelihoods: densities with all their constants, the papers' terms without, and the expected images."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import special, stats

from keras_ssvae.likelihoods import (
    Bernoulli,
    DiscretizedLogistic,
    Gaussian,
    HeteroscedasticGaussian,
    Laplace,
    from_unit,
    to_unit,
)

RNG = np.random.default_rng(4)
IMAGES = RNG.uniform(-1, 1, (3, 4, 5, 2)).astype("float32")
BINARY = np.sign(IMAGES)
OUTPUTS = RNG.normal(size=IMAGES.shape).astype("float32")
PIXELS = 0.5 * (IMAGES + 1.0)


@pytest.fixture(scope="module")
def tfd():
    return pytest.importorskip("tensorflow_probability").distributions


def summed(values):
    return np.sum(values, axis=(1, 2, 3))


def test_pixels_go_to_the_unit_interval_and_back():
    np.testing.assert_allclose(to_unit(np.float32([-1, 0, 1])), [0, 0.5, 1])
    np.testing.assert_allclose(from_unit(to_unit(IMAGES)), IMAGES, atol=1e-6)


def test_bernoulli_is_the_probability_of_binary_images():
    given = Bernoulli().log_prob(BINARY, OUTPUTS)
    expected = summed(stats.bernoulli.logpmf(BINARY > 0, special.expit(OUTPUTS.astype("float64"))))
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    np.testing.assert_allclose(Bernoulli().mean(OUTPUTS), 2 * special.expit(OUTPUTS) - 1, atol=1e-6)


def test_bernoulli_of_grey_pixels_is_the_expectation_over_their_binarisations():
    black, white = (Bernoulli().log_prob(np.full_like(IMAGES, value), OUTPUTS) for value in (-1.0, 1.0))
    grey = Bernoulli().log_prob(np.full_like(IMAGES, -0.4), OUTPUTS)  # 0.3 in [0, 1]
    np.testing.assert_allclose(grey, 0.7 * black + 0.3 * white, rtol=1e-5)


def test_a_floor_clips_the_probabilities_and_their_gradient(differentiate):
    outputs, images = np.float32([[20.0], [-20.0], [1.0]]), np.float32([[-1.0], [-1.0], [-1.0]])
    floored = Bernoulli(0.01)
    given, (gradient,) = differentiate(lambda x: floored.log_prob(images, x), [outputs])
    np.testing.assert_allclose(given, np.log([0.01, 0.99, 1 - special.expit(1.0)]), rtol=1e-4)
    np.testing.assert_allclose(gradient, [[0.0], [0.0], [-special.expit(1.0)]], atol=1e-6)
    assert floored.mean(outputs)[0, 0] > 0.999  # the mean is not clipped


@pytest.mark.parametrize("variance", [1.0, 0.3])
def test_gaussian_is_the_density_of_pixels_between_minus_1_and_1(variance):
    given = Gaussian(variance).log_prob(IMAGES, OUTPUTS)
    np.testing.assert_allclose(given, summed(stats.norm.logpdf(IMAGES, OUTPUTS, variance**0.5)), rtol=1e-5)
    np.testing.assert_array_equal(Gaussian(variance).mean(OUTPUTS), OUTPUTS)
    np.testing.assert_allclose(Gaussian(ops.convert_to_tensor(variance)).log_prob(IMAGES, OUTPUTS), given, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_laplace_is_the_density_of_pixels_between_0_and_1(scale):
    given = Laplace(scale).log_prob(IMAGES, OUTPUTS)
    expected = summed(stats.laplace.logpdf(PIXELS, special.expit(OUTPUTS), scale))
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    np.testing.assert_allclose(Laplace(scale).mean(OUTPUTS), 2 * special.expit(OUTPUTS) - 1, atol=1e-6)


def test_the_papers_terms_leave_the_constants_out_whatever_the_width_is():
    np.testing.assert_allclose(
        Gaussian(0.3).reconstruction(IMAGES, OUTPUTS), summed((IMAGES - OUTPUTS) ** 2) / 2, rtol=1e-5
    )
    np.testing.assert_allclose(
        Laplace(0.3).reconstruction(IMAGES, OUTPUTS), summed(np.abs(PIXELS - special.expit(OUTPUTS))), rtol=1e-5
    )
    for likelihood in (Bernoulli(), Bernoulli(1e-5)):
        np.testing.assert_array_equal(likelihood.reconstruction(IMAGES, OUTPUTS), -likelihood.log_prob(IMAGES, OUTPUTS))


def test_they_agree_with_tensorflow_probability(tfd):
    pairs = [
        (Bernoulli().log_prob(BINARY, OUTPUTS), tfd.Bernoulli(logits=OUTPUTS).log_prob(to_unit(BINARY))),
        (Gaussian(0.3).log_prob(IMAGES, OUTPUTS), tfd.Normal(OUTPUTS, 0.3**0.5).log_prob(IMAGES)),
        (Laplace(0.3).log_prob(IMAGES, OUTPUTS), tfd.Laplace(special.expit(OUTPUTS), 0.3).log_prob(PIXELS)),
    ]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, summed(np.asarray(theirs)), rtol=1e-5)


def of_all_grey_levels(logit, log_scale):
    """The masses of the 256 levels of one pixel."""
    images = np.linspace(-1, 1, 256, dtype="float32").reshape(256, 1, 1, 1)
    outputs = np.broadcast_to(np.float32([logit, log_scale]), (256, 1, 1, 2))
    return np.exp(ops.convert_to_numpy(DiscretizedLogistic().log_prob(images, outputs)).astype("float64"))


@pytest.mark.parametrize(("logit", "log_scale"), [(0.3, -2.0), (-2.0, -1.0), (4.0, -4.0), (0.0, 0.0)])
def test_the_bins_of_a_pixel_have_the_mass_of_the_unit_interval_and_256_times_1e_7(logit, log_scale):
    m, s = special.expit(logit), np.exp(log_scale)
    expected = special.expit((1 - m) / s) - special.expit(-m / s) + 256e-7
    np.testing.assert_allclose(of_all_grey_levels(logit, log_scale).sum(), expected, rtol=2e-5)


def test_each_grey_level_is_in_its_own_bin():
    m, s = special.expit(0.3), np.exp(-2.0)
    edges = stats.logistic.cdf(np.arange(257) / 256, m, s)
    np.testing.assert_allclose(of_all_grey_levels(0.3, -2.0), np.diff(edges) + 1e-7, rtol=1e-3)


def test_mean_and_scale_of_the_logistic_are_clipped():
    np.testing.assert_allclose(
        of_all_grey_levels(-50.0, 3.0), of_all_grey_levels(special.logit(1 / 512), 0.0), rtol=1e-4
    )
    np.testing.assert_allclose(of_all_grey_levels(0.0, -9.0), of_all_grey_levels(0.0, -4.5), rtol=1e-4)
    outputs = np.float32([[-50.0, 0.0], [0.0, 0.0], [50.0, 0.0]])
    np.testing.assert_allclose(DiscretizedLogistic().mean(outputs)[:, 0], [-255 / 256, 0.0, 255 / 256], atol=1e-6)


def test_means_come_before_scales_in_the_outputs_of_several_colours():
    outputs = np.concatenate([OUTPUTS, np.full_like(OUTPUTS, -2.0)], axis=-1)
    alone = [DiscretizedLogistic().log_prob(IMAGES[..., i : i + 1], outputs[..., [i, i + 2]]) for i in range(2)]
    np.testing.assert_allclose(DiscretizedLogistic().log_prob(IMAGES, outputs), sum(alone), rtol=1e-5)


@pytest.mark.parametrize("likelihood", [Bernoulli(1e-5), Gaussian(0.3), Laplace(0.2), DiscretizedLogistic()])
def test_the_configuration_restores_it(likelihood):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(likelihood))
    assert type(restored) is type(likelihood)
    assert vars(restored) == vars(likelihood)


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (lambda: Bernoulli(0.5), "`floor` is 0.5; it must be a probability"),
        (lambda: Bernoulli(-0.1), "`floor` is -0.1"),
        (lambda: Gaussian(0.0), "`variance` is 0.0; it must be a positive number"),
        (lambda: Laplace(np.inf), "`scale` is inf; it must be a positive number"),
    ],
)
def test_a_number_that_cannot_be_is_refused_by_name(build, sentence):
    with pytest.raises(ValueError, match=sentence):
        build()


def test_a_heteroscedastic_gaussian_has_a_mean_and_a_variance_for_each_number():
    logvar = RNG.normal(size=IMAGES.shape).astype("float32")
    outputs = np.concatenate([OUTPUTS, logvar], axis=-1)
    likelihood = HeteroscedasticGaussian()
    expected = stats.norm.logpdf(IMAGES, OUTPUTS, np.exp(0.5 * logvar))
    np.testing.assert_allclose(likelihood.log_prob(IMAGES, outputs), summed(expected), rtol=1e-5)
    np.testing.assert_array_equal(likelihood.mean(outputs), OUTPUTS)
    # Rows of features too; at the mean it is the normalising constant alone.
    rows, of_rows = IMAGES[:, 0, 0], np.concatenate([IMAGES[:, 0, 0], logvar[:, 0, 0]], axis=-1)
    constant = -0.5 * np.sum(np.log(2 * np.pi) + logvar[:, 0, 0], axis=-1)
    np.testing.assert_allclose(likelihood.log_prob(rows, of_rows), constant, rtol=1e-5)
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(likelihood))
    assert isinstance(restored, HeteroscedasticGaussian)
    assert restored.outputs_per_value == 2
