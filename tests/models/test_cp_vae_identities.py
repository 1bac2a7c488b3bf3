"""CP-VAE's divergences and bounds against sums over categories and integrals over z, in one dimension."""

import keras
import numpy as np
import pytest
from contract import small
from keras import layers, ops
from scipy import special, stats

from keras_ssvae.distributions import categorical_kl_from_uniform
from keras_ssvae.likelihoods import Gaussian
from keras_ssvae.models import CPVAE
from keras_ssvae.noise import Stream
from keras_ssvae.priors import GaussianMixture, LearnedMixture, StandardNormal

K = small.K
STEP = 1 / 400
GRID = np.arange(-25, 25 + STEP, STEP)
RNG = np.random.default_rng(5)


def numpy(values):
    return ops.convert_to_numpy(values).astype("float64")


def integral(values):
    return STEP * values.sum(axis=-1)


def density(mean, variance):
    return stats.norm.pdf(GRID, np.asarray(mean)[..., None], np.sqrt(variance)[..., None])


def numbers(*shape):
    """Such as float32 holds exactly, as float64."""
    return np.round(RNG.normal(size=shape), 2).astype("float32").astype("float64")


def logvars(*shape):
    """So that no density is 0 in the range of the integrals."""
    return np.log(RNG.uniform(0.6, 2.0, shape)).astype("float32").astype("float64")


def single(values):
    return np.float32(values)


@pytest.mark.parametrize("factorised_prior", [False, True], ids=["p(z given c)", "p(z)"])
@pytest.mark.parametrize("factorised_posterior", [False, True], ids=["q(z given x and c)", "q(z given x)"])
def test_the_divergences_are_those_of_z_and_c_together_and_table_1_divides_their_mean(
    factorised_posterior, factorised_prior
):
    pi = special.softmax(numbers(5, K), axis=1)
    size = (5, 1) if factorised_posterior else (5, K)
    mean, logvar = (np.broadcast_to(given(*size), (5, K)) for given in (numbers, logvars))
    prior = StandardNormal(1) if factorised_prior else GaussianMixture(numbers(K, 1), np.exp(logvars(K, 1)))
    kl_z = numpy(prior.kl(single(pi), single(mean[..., None]), single(logvar[..., None])))
    kl_c = numpy(categorical_kl_from_uniform(single(pi)))

    q_given = density(mean, np.exp(logvar))
    q = pi[..., None] * q_given
    p_given = density(prior.means[:, 0], prior.variances[:, 0])
    joint = integral(special.rel_entr(q, p_given / K)).sum(axis=1)
    np.testing.assert_allclose(kl_z + kl_c, joint, rtol=2e-6)

    q_c, q_zc = pi.mean(axis=0), q.mean(axis=0)  # over the data
    kl_of_q_c = np.log(K) - special.entr(q_c).sum()
    assert 0 <= kl_of_q_c <= kl_c.mean() <= np.log(K)
    if factorised_prior:
        q_z = q_zc.sum(axis=0)
        expected = np.sum(pi * integral(special.rel_entr(q_given, q_z)), axis=1).mean()  # I(z, (c, x)), or I(z, x)
        expected += special.rel_entr(pi, q_c).sum(axis=1).mean()
        expected += integral(special.rel_entr(q_z, p_given[0]))
    else:
        expected = integral(special.rel_entr(q, q_zc)).sum(axis=1).mean()
        expected += q_c @ integral(special.rel_entr(q_zc / q_c[:, None], p_given))
    np.testing.assert_allclose((kl_z + kl_c).mean(), expected + kl_of_q_c, rtol=2e-6)


def test_where_the_decoder_ignores_c_the_best_categories_make_the_bound_of_a_mixture(differentiate):
    prior = GaussianMixture(numbers(K, 1), np.exp(logvars(K, 1)))
    mean, logvar = numbers(1, 1), logvars(1, 1)
    each = numpy(prior.kl_per_component(single(mean), single(logvar)))

    def divergences(logits):
        probs = ops.softmax(logits)
        return prior.kl(probs, single(mean), single(logvar)) + categorical_kl_from_uniform(probs)

    smallest, (gradient,) = differentiate(divergences, [single(-each)])
    np.testing.assert_allclose(smallest, -special.logsumexp(-each, axis=1) + np.log(K), rtol=1e-5)
    np.testing.assert_allclose(gradient, np.zeros((1, K)), atol=1e-6)

    # Of other categories it is above the divergence from the mixture, by how far they are from those of each z.
    pi, z = special.softmax(numbers(1, K)), single(GRID[:, None])
    q = density(mean, np.exp(logvar))[0, 0]
    of_mixture = integral(q * (np.log(q) - numpy(prior.log_prob(z))))
    log_p_c = special.log_softmax(numpy(prior.component_log_probs(z)), axis=1)
    apart = integral(q * np.sum(pi * (np.log(pi) - log_p_c), axis=1))
    np.testing.assert_allclose(divergences(single(np.log(pi)))[0], of_mixture + apart, rtol=1e-5)


def test_gradients_of_the_divergences_and_the_best_prior(differentiate):
    n, d = 5, 2
    logits, mu, logvar = (single(given) for given in (numbers(n, K), numbers(n, d), logvars(n, d)))
    prior = LearnedMixture(K, d, bounded=False)
    free = [prior.free_means, prior.free_logvars]
    means, variances = numbers(K, d), np.exp(logvars(K, d))
    pi, squared = special.softmax(logits.astype("float64"), axis=1), np.exp(logvar)[:, None] + 0.0

    def gradients(means, variances):
        for variable, value in zip(free, (means, np.log(variances)), strict=True):
            variable.assign(value)
        of_kl_z = differentiate(lambda logits: prior.kl(ops.softmax(logits), mu, logvar), [logits], free)[1]
        (of_kl_c,) = differentiate(lambda logits: categorical_kl_from_uniform(ops.softmax(logits)), [logits])[1]
        return *of_kl_z, of_kl_c

    by_logits, by_means, by_logvars, of_kl_c = gradients(means, variances)
    of_k, away = pi[..., None], means - mu[:, None]
    squared = squared + away**2
    np.testing.assert_allclose(by_means, np.sum(of_k * away / variances, axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_logvars, np.sum(of_k / 2 * (1 - squared / variances), axis=0), rtol=1e-4, atol=1e-5)
    each = numpy(prior.kl_per_component(mu, logvar))
    np.testing.assert_allclose(by_logits, pi * (each - np.sum(pi * each, axis=1, keepdims=True)), rtol=1e-4, atol=1e-5)
    entropy = special.entr(pi).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(of_kl_c, pi * (np.log(pi) + entropy), rtol=1e-4, atol=1e-6)

    share = of_k / of_k.sum(axis=0)
    best = np.sum(share * mu[:, None], axis=0)
    spread = np.sum(share * (np.exp(logvar)[:, None] + (mu[:, None] - best) ** 2), axis=0)
    _, by_means, by_logvars, _ = gradients(best, spread)
    np.testing.assert_allclose([by_means, by_logvars], np.zeros((2, K, d)), atol=3e-6)


# p(x | z, c_k) = N(a z + b_k, r2) of an image of one pixel, p(z | c_k) = N(m_k, s2): with one variance of all
# categories the layers of [h, c] can give the exact posterior, N(V (m_k / s2 + a (x - b_k) / r2), V).
A, R2, S2 = 1.5, 0.3, 0.5
B, M = np.array([0.1, -0.4, 0.6]), np.array([0.2, -0.5, 0.8])
V, TOTAL = 1 / (1 / S2 + A**2 / R2), A**2 * S2 + R2
X = np.float32([-0.9, -0.2, 0.3, 1.0])
LOG_P = stats.norm.logpdf(X[:, None], A * M + B, TOTAL**0.5) - np.log(K)  # with each category


def of_one_pixel(**arguments):
    """The model, with the exact posterior."""
    image, latent = keras.Input((1, 1, 1)), keras.Input((1 + K,))
    encoder = keras.Model(image, layers.Flatten()(image))  # u = (x + 1) / 2
    mixed = layers.Dense(1)
    decoder = keras.Model(latent, layers.Reshape((1, 1, 1))(mixed(latent)))
    mixed.kernel.assign(np.concatenate([[A], B])[:, None])
    arguments |= {"num_categories": K, "z_dim": 1, "binarize": False, "elu": False, "likelihood": Gaussian(R2)}
    model = CPVAE(encoder, decoder, GaussianMixture(M[:, None], S2), **arguments)
    slope, centre, heads = V * A / R2, A * M + B, model.heads
    heads.z_mean.kernel.assign(np.concatenate([[2 * slope], V * M / S2 - slope * B])[:, None])
    heads.z_mean.bias.assign([-slope])
    heads.z_logvar.kernel.assign(np.zeros((1 + K, 1)))
    heads.z_logvar.bias.assign([np.log(V)])
    heads.c_logits.kernel.assign(2 * centre[None] / TOTAL)
    heads.c_logits.bias.assign(-centre / TOTAL - centre**2 / (2 * TOTAL))
    return model


@pytest.mark.parametrize("sum_categories", [False, True])
def test_with_the_exact_posterior_every_importance_weight_is_the_likelihood(sum_categories):
    model = of_one_pixel(sum_categories=sum_categories)
    given = model.log_weights(X.reshape(4, 1, 1, 1), model.posterior_noise(4, 50, Stream(1, 0)))
    log_p = special.logsumexp(LOG_P, axis=1)
    np.testing.assert_allclose(numpy(given), np.repeat(log_p[:, None], 50, axis=1), atol=2e-5)


def test_the_bound_with_a_drawn_category_is_the_sum_over_them_and_below_the_likelihood_by_the_divergence():
    model, images = of_one_pixel(), X.reshape(4, 1, 1, 1)
    for weight in model.heads.trainable_variables:
        weight.assign(weight + np.float32(0.3 * np.cos(np.arange(np.prod(weight.shape))).reshape(weight.shape)))
    posterior = {name: numpy(values) for name, values in model.posterior(images).items()}
    pi, mean, variance = posterior["probs"], posterior["z_mean"][..., 0], np.exp(posterior["z_logvar"][..., 0])
    exact = special.softmax(LOG_P, axis=1)
    centre = V * (M / S2 + A * (X[:, None] - B) / R2)
    of_each = 0.5 * (np.log(V / variance) + (variance + (mean - centre) ** 2) / V - 1)
    gap = np.sum(pi * (np.log(pi / exact) + of_each), axis=1)
    assert gap.min() > 0.01

    epsilon = np.arange(-8, 8, 0.02)
    bound = np.zeros(4)
    for k in range(K):
        gumbel = np.tile(single(100 * np.eye(K)[k]), (4, 800, 1))
        noise = {"epsilon": np.tile(single(epsilon[:, None]), (4, 1, 1)), "gumbel": gumbel}
        bound += pi[:, k] * (numpy(model.log_weights(images, noise)) @ stats.norm.pdf(epsilon)) * 0.02
    np.testing.assert_allclose(bound, special.logsumexp(LOG_P, axis=1) - gap, atol=1e-4)

    drawn = numpy(model.log_weights(images, model.posterior_noise(4, 4000, Stream(1, 0))))
    assert (np.abs(drawn.mean(axis=1) - bound) < 4 * drawn.std(axis=1) / 4000**0.5).all()

    # `discrete_loss` of validation is a sample of its negative, and `loss`, with a soft category, is none.
    shapes = {"epsilon": (4000, 1), "uniform_c": (4000, K)}
    noise = {"epsilon": RNG.normal(size=shapes["epsilon"]), "uniform_c": RNG.uniform(size=shapes["uniform_c"])}
    model.evaluation_noise = lambda images: {name: single(values) for name, values in noise.items()}
    terms = model.evaluation_terms(np.repeat(images[2:3], 4000, axis=0), None)
    given = {name: numpy(terms[name]) for name in ("loss", "discrete_loss")}
    errors = {name: abs(values.mean() + bound[2]) / (values.std() / 4000**0.5) for name, values in given.items()}
    assert errors["discrete_loss"] < 4 < errors["loss"]
