"""`evaluation.nll` against likelihoods in closed form and by quadrature."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import special, stats

from keras_ssvae import evaluation
from keras_ssvae.likelihoods import Gaussian
from keras_ssvae.models import VAE, EXoN, PartedVAE
from keras_ssvae.noise import Stream
from keras_ssvae.priors import GaussianMixture, StandardNormal

SHAPE = (2, 2, 1)
IMAGES = np.random.default_rng(3).uniform(-1, 1, (5, *SHAPE)).astype("float32")


def affine(inputs, units, kernel, bias, activation=None):
    layer = layers.Dense(units, activation=activation)
    outputs = layer(inputs)
    layer.set_weights([np.broadcast_to(kernel, layer.kernel.shape), np.broadcast_to(bias, layer.bias.shape)])
    return outputs


def decoder(latent_dim, kernel, bias, activation=None):
    z = keras.Input((latent_dim,))
    return keras.Model(z, layers.Reshape(SHAPE)(affine(z, 4, kernel, bias, activation)))


# Its rows are orthogonal, so that the posterior's covariance is diagonal.
A = np.float32([[0.5, -0.3, 0.2, 0.4], [0.4, 0.4, 0.6, -0.5]])
OFFSET = np.float32([0.1, -0.2, 0.0, 0.3])
NOISE = 0.3  # the variance of a pixel


def linear_gaussian(spread=1.0, shift=0.0):
    """x | z ~ N(A z + b, r I) with z ~ N(0, I); with spread 1 and no shift q(z | x) is the exact posterior."""
    images = keras.Input(SHAPE)
    pixels = layers.Flatten()(images)  # in [0, 1]
    precision = 1.0 + (A**2).sum(axis=1) / NOISE
    to_mean = A.T / NOISE / precision
    mean = affine(pixels, 2, 2.0 * to_mean, shift - (1.0 + OFFSET) @ to_mean)
    logvar = affine(pixels, 2, 0.0, np.log(spread / precision))
    return VAE(
        keras.Model(images, [mean, logvar]),
        decoder(2, A, OFFSET),
        StandardNormal(2),
        Gaussian(NOISE),
        binarize=False,
    )


def exact(images):
    flat = images.reshape(len(images), -1)
    return stats.multivariate_normal(OFFSET, A.T @ A + NOISE * np.eye(4)).logpdf(flat)


def test_with_the_exact_posterior_every_weight_is_the_likelihood():
    model = linear_gaussian()
    noise = model.posterior_noise(len(IMAGES), 20, Stream(1, 0))
    log_weights = ops.convert_to_numpy(model.log_weights(ops.convert_to_tensor(IMAGES), noise))
    np.testing.assert_allclose(log_weights, np.repeat(exact(IMAGES)[:, None], 20, axis=1), rtol=1e-5)
    result = evaluation.nll(model, IMAGES, samples=20)
    np.testing.assert_allclose(result.per_image, -exact(IMAGES), rtol=1e-5)
    np.testing.assert_allclose([result.mean, result.bound], -exact(IMAGES).mean(), rtol=1e-5)
    assert result.monte_carlo_error < 1e-5
    np.testing.assert_allclose(result.standard_error, stats.sem(exact(IMAGES)), rtol=1e-5)


def test_another_q_costs_the_bound_its_divergence_and_the_estimate_nothing():
    model = linear_gaussian(spread=1.5, shift=0.1)
    result = evaluation.nll(model, IMAGES, samples=4000, samples_per_batch=1000)
    assert np.abs(result.per_image + exact(IMAGES)).max() < 3.5 * result.monte_carlo_errors.max()
    precision = 1.0 + (A**2).sum(axis=1) / NOISE
    divergence = 0.5 * np.sum(1.5 + 0.01 * precision - np.log(1.5) - 1.0)
    np.testing.assert_allclose(result.bound, divergence - exact(IMAGES).mean(), atol=0.05)
    assert result.bound > result.mean


class Given(keras.Model):
    """Whose logarithms of weights are the noise that it draws."""

    def posterior_noise(self, num_images, num_samples, stream):
        return {"epsilon": keras.random.normal((num_images, num_samples), seed=stream)}

    def log_weights(self, images, noise):
        return noise["epsilon"] + 0.0 * images[:, 0, 0]


class Counted(Given):
    """The weights of each image are 1, 2, 3, ... times its first pixel in each minibatch."""

    def posterior_noise(self, num_images, num_samples, stream):
        return {"epsilon": ops.log(ops.ones((num_images, 1)) * ops.arange(1.0, num_samples + 1.0))}

    def log_weights(self, images, noise):
        return noise["epsilon"] + ops.log(images[:, 0, 0])


def test_the_monte_carlo_error_is_that_of_repeated_estimates():
    images = np.zeros((300, *SHAPE), "float32")  # the same image again and again, each time with samples of its own
    result = evaluation.nll(Given(), images, samples=200)
    bias = 0.5 * (math.e - 1) / 200  # to first order: weights exp(N(0, 1)) have the relative variance e - 1
    np.testing.assert_allclose(result.mean, bias - 0.5, atol=3 * result.monte_carlo_error)
    np.testing.assert_allclose(result.monte_carlo_error, np.sqrt((math.e - 1) / 200 / 300), rtol=0.1)
    np.testing.assert_allclose(result.monte_carlo_error, result.standard_error, rtol=0.15)
    assert abs(result.bound) < 4 / np.sqrt(200 * 300)


@pytest.mark.parametrize("samples", [250, 300, 7])
def test_the_last_minibatch_counts_as_many_samples_as_are_left(samples):
    images = np.float32([[0.3, -1.0], [0.5, -1.0], [1.0, -1.0]]).reshape(3, 2, 1, 1)
    result = evaluation.nll(Counted(), images, samples=samples, samples_per_batch=100, batch_size=2)
    weights = np.arange(samples) % 100 + 1
    np.testing.assert_allclose(result.per_image, -np.log(weights.mean() * images[:, 0, 0, 0]), rtol=1e-5)
    errors = weights.std(ddof=1) / weights.mean() / math.sqrt(samples)
    np.testing.assert_allclose(result.monte_carlo_errors, errors, rtol=1e-5)
    np.testing.assert_allclose(result.bound, -np.mean(np.log(weights[:, None] * images[:, 0, 0, 0])), rtol=1e-5)


def test_weights_of_any_size_are_summed():
    class Huge(Given):
        def log_weights(self, images, noise):
            return super().log_weights(images, noise) - 1e4 * images[:, 0, 0]

    images = np.float32([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    per_image = evaluation.nll(Huge(), images, samples=200).per_image
    np.testing.assert_allclose(per_image, 1e4 * images[:, 0, 0, 0] - 0.5, atol=0.5)


def test_samples_belong_to_the_seed_and_to_the_images_place():
    images = np.zeros((5, *SHAPE), "float32")
    first = evaluation.nll(Given(), images, samples=np.uint8(200))
    for other in (evaluation.nll(Given(), images, samples=200, batch_size=size) for size in (2, 5, 5000)):
        np.testing.assert_array_equal(other.per_image, first.per_image)
    np.testing.assert_array_equal(evaluation.nll(Given(), images[:2], samples=200).per_image, first.per_image[:2])
    seeds = [evaluation.nll(Given(), images, samples=200, seed=seed).per_image for seed in (0, 1)]
    np.testing.assert_array_equal(seeds[0], first.per_image)
    assert len(set(np.concatenate(seeds))) == 10  # no image has the samples of another


def test_one_sample_gives_the_bound():
    model = linear_gaussian(spread=1.5)
    result = evaluation.nll(model, IMAGES, samples=1)
    assert result.mean == result.bound
    assert math.isnan(result.monte_carlo_error)
    assert math.isnan(evaluation.nll(model, IMAGES[:1], samples=2).standard_error)


def test_it_sees_the_weights_that_the_model_has_now():
    model = linear_gaussian()
    before = evaluation.nll(model, IMAGES, samples=2).mean
    model.decoder.set_weights([2.0 * A, OFFSET])
    assert evaluation.nll(model, IMAGES, samples=2).mean > before + 0.1


# Quadrature


def grid(dims, extent, step):
    axis = np.arange(-extent, extent + step / 2, step)
    return np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), axis=-1).reshape(-1, dims), step**dims


def log_mixture(z, probs, means, variances):
    each = stats.norm.logpdf(z[:, None], means, np.sqrt(variances)).sum(axis=-1)
    return special.logsumexp(np.log(probs) + each, axis=1)


def check(model, log_likelihood_at, log_prior, cell, images):
    """That the estimate is the integral over the grid within its error, and that this is small."""
    integrals = special.logsumexp(log_likelihood_at + log_prior, axis=1) + math.log(cell)
    result = evaluation.nll(model, images, samples=200_000, samples_per_batch=10_000)
    assert result.monte_carlo_errors.max() < 5e-4
    np.testing.assert_allclose(result.per_image, -integrals, rtol=0, atol=1e-3)
    assert (np.abs(result.per_image + integrals) < 3 * result.monte_carlo_errors + 1e-5).all()
    assert result.bound > -integrals.mean() + 2e-4  # q is not the exact posterior
    return integrals


@pytest.mark.parametrize("latent_dim", [1, 2])
def test_exons_likelihood_is_the_integral_over_its_latent_space(latent_dim):
    means, variances = np.float32([[-1.5, 0.5], [1.0, -1.0], [0.0, 1.5]])[:, :latent_dim], 0.5
    beta, kernel = 0.5, 0.4 * A[:latent_dim]
    images = keras.Input(SHAPE)
    pixels = layers.Flatten()(images)
    # The posterior of a linear decoder, of which that with tanh is not far, somewhat wider.
    precision = 1 / variances + (kernel**2).sum(axis=1) / beta
    to_mean = kernel.T / beta / precision
    heads = affine(
        pixels, 3 * latent_dim, np.tile(to_mean, 3), ((means / variances) / precision - OFFSET @ to_mean).ravel()
    )
    logvar = affine(pixels, 3 * latent_dim, 0.0, np.tile(np.log(1.05 / precision), 3))
    shaped = layers.Reshape((3, latent_dim))
    covariance = variances * kernel.T @ kernel + beta * np.eye(4)
    to_logits = np.linalg.solve(covariance, kernel.T @ means.T)
    centres = means @ kernel
    offsets = -0.5 * np.sum(centres * np.linalg.solve(covariance, centres.T).T, axis=1) - OFFSET @ to_logits
    model = EXoN(
        keras.Model(images, [shaped(heads), shaped(logvar)]),
        decoder(latent_dim, kernel, OFFSET, "tanh"),
        keras.Model(images, affine(pixels, 3, to_logits, offsets)),
        GaussianMixture(means, variances),
        beta=beta,
    )
    z, cell = grid(latent_dim, 7.0, 0.05)
    decoded = np.tanh(z @ kernel + OFFSET)
    flat = IMAGES.reshape(5, 1, 4)
    log_likelihood = stats.norm.logpdf(flat, decoded, beta**0.5).sum(axis=-1)
    check(model, log_likelihood, log_mixture(z, np.full(3, 1 / 3), means, variances), cell, IMAGES)


@pytest.mark.parametrize("num_classes", [2, (3, 2)])
def test_parted_vaes_likelihood_is_the_integral_over_z_and_each_u(num_classes):
    sizes = (num_classes,) if isinstance(num_classes, int) else num_classes
    probs = [np.array(each) for each in ([0.7, 0.29], [0.5, 0.5])] if len(sizes) == 1 else [[0.5, 0.3, 0.2], [0.6, 0.4]]
    probs = [np.array(each) for each in probs[: len(sizes)]]
    images = keras.Input(SHAPE)
    flat = layers.Flatten()(images)
    # The features are about ones, of which the attention takes that of the class: q(u | c, x) is about p(u | c).
    encoder = keras.Model(images, affine(flat, 3, 0.02, 0.98))
    kernel = np.float32([[0.4, 0.8, -0.4, 0.6], [0.8, -0.6, 0.4, 0.4], [-0.4, 0.4, 0.8, 0.4]])[: 1 + len(sizes)] / 10
    model = PartedVAE(
        encoder,
        decoder(1 + len(sizes), kernel, OFFSET),
        num_classes,
        u_dims=(1,) * len(sizes),
        z_dim=1,
        class_priors=probs,
    )
    heads, means, logvars = model.heads, [], []
    heads.c_logits.set_weights([np.zeros((3, sum(sizes))), np.log(np.concatenate(probs))])
    for layer, logvar in ((heads.z_mean, 0.02), (heads.z_logvar, 0.05)):
        layer.set_weights([np.full((3, 1), logvar), np.zeros(1)])
    for i, (size, prior) in enumerate(zip(sizes, model.u_priors, strict=True)):
        prior.free_means.assign(np.linspace(-1.0, 1.2, size)[:, None])
        prior.free_logvars.assign(np.linspace(0.3, 0.6, size)[:, None])
        mean, logvar = (ops.convert_to_numpy(values) for values in (prior.means, prior.logvars))
        heads.attention[i].set_weights([2.0 * np.eye(size, 3), -np.ones(3)])
        for layer, values in ((heads.u_mean[i], mean), (heads.u_logvar[i], logvar + 0.03)):
            layer.set_weights([np.pad(values, ((0, 3 - size), (0, 0))), np.zeros(1)])
        means.append(mean)
        logvars.append(logvar)
    binary = np.sign(IMAGES)
    latent, cell = grid(1 + len(sizes), 9.0, 0.1 if len(sizes) == 1 else 0.3)
    log_prior = stats.norm.logpdf(latent[:, 0])
    for i, (p, mean, logvar) in enumerate(zip(probs, means, logvars, strict=True)):
        log_prior += log_mixture(latent[:, i + 1 : i + 2], p / p.sum(), mean, np.exp(logvar))
    logits = latent @ kernel + OFFSET
    white = binary.reshape(5, 1, 4) > 0
    log_likelihood = np.where(white, special.log_expit(logits), special.log_expit(-logits)).sum(axis=-1)
    integrals = check(model, log_likelihood, log_prior, cell, binary)
    assert np.ptp(integrals) > 0.1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": keras.Sequential()}, "`nll` needs a model with `log_weights`"),
        ({"samples": 0}, "`samples` is 0"),
        ({"samples_per_batch": 2.5}, "`samples_per_batch` is 2.5"),
        ({"batch_size": 0}, "`batch_size` is 0"),
        ({"seed": -1}, "`seed` is -1"),
        ({"images": 2 * IMAGES + 1}, "it must be floats in"),
        ({"images": np.full((2, 1, 1, 1), -1.0)}, "not finite: has training diverged"),
    ],
)
def test_what_cannot_be_estimated_is_refused_in_a_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        evaluation.nll(**{"model": Counted(), "images": IMAGES, "samples": 3, **changes})
