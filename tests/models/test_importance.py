"""Importance weights: what each model's are made of."""

import numpy as np
import pytest
from contract import small
from keras import ops
from scipy import special, stats

from keras_ssvae.models import VAE
from keras_ssvae.noise import Stream
from keras_ssvae.priors import LearnedMixture

S = 4


@pytest.fixture(params=["exon", "parted_vae", "parted_vae of two labels", "vae"])
def any_model(request, make_model, make_parted):
    match request.param:
        case "exon":
            return make_model()
        case "vae":
            prior = LearnedMixture(3, 2, bounded=False)
            prior.free_means.assign([[0.5, 1.0], [-1.0, 0.3], [0.2, 0.1]])
            return small.with_weights(VAE(small.gaussian_encoder(), small.decoder(activation=None), prior), 7)
        case name:
            return make_parted(several="two" in name)


def log_normal(z, mean, logvar):
    return stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=-1)


def log_mixture(z, log_weights, mean, logvar):
    """Of points (S, d) for one mixture of weights (K,)."""
    return special.logsumexp(log_weights + log_normal(z[:, None], mean, logvar), axis=-1)


def test_each_image_has_its_samples_and_is_encoded_once(any_model, images, monkeypatch):
    rows = []
    encode = type(any_model.encoder).call

    def call(self, inputs, *args, **kwargs):
        if self is any_model.encoder:
            rows.append(len(inputs))
        return encode(self, inputs, *args, **kwargs)

    monkeypatch.setattr(type(any_model.encoder), "call", call)
    noise = any_model.posterior_noise(len(images), S, Stream(1, 0))
    assert {values.shape[:2] for values in noise.values()} == {(len(images), S)}
    log_weights = any_model.log_weights(ops.convert_to_tensor(images), noise)
    assert log_weights.shape == (len(images), S)
    assert np.isfinite(ops.convert_to_numpy(log_weights)).all()
    assert rows == [len(images)]


def test_an_images_weights_do_not_depend_on_the_other_images_and_samples(any_model, images):
    noise = any_model.posterior_noise(len(images), S, Stream(1, 0))
    together = ops.convert_to_numpy(any_model.log_weights(ops.convert_to_tensor(images), noise))
    alone = {name: values[2:3, 1:3] for name, values in noise.items()}
    given = any_model.log_weights(ops.convert_to_tensor(images[2:3]), alone)
    np.testing.assert_allclose(given, together[2:3, 1:3], rtol=1e-5)


def test_exons_weights_are_those_of_its_two_mixtures_and_a_normal_likelihood(model, images):
    noise = {k: ops.convert_to_numpy(v) for k, v in model.posterior_noise(len(images), S, Stream(1, 0)).items()}
    given = ops.convert_to_numpy(model.log_weights(ops.convert_to_tensor(images), noise))
    posterior = {name: ops.convert_to_numpy(values) for name, values in model.posterior(images).items()}
    prior = np.full(3, -np.log(3.0)), model.prior.means, np.log(model.prior.variances)
    for i, (probs, mean, logvar) in enumerate(zip(*(posterior[n] for n in ("probs", "mean", "logvar")), strict=True)):
        q = np.log(probs), mean, logvar
        k = np.argmax(q[0] + noise["gumbel"][i], axis=-1)
        z = mean[k] + np.exp(0.5 * logvar[k]) * noise["epsilon"][i]
        decoded = ops.convert_to_numpy(model.decode(z))
        likelihood = stats.norm.logpdf(images[i], decoded, 0.3**0.5).sum(axis=(1, 2, 3))
        np.testing.assert_allclose(given[i], likelihood + log_mixture(z, *prior) - log_mixture(z, *q), rtol=2e-5)


@pytest.mark.parametrize("several", [False, True])
def test_parted_vaes_weights_are_those_of_z_and_of_the_mixture_of_each_label(make_parted, images, several):
    model = make_parted(several)
    noise = {k: ops.convert_to_numpy(v) for k, v in model.posterior_noise(len(images), S, Stream(1, 0)).items()}
    given = ops.convert_to_numpy(model.log_weights(ops.convert_to_tensor(images), noise))
    h = model.encoder(0.5 * (images + 1.0))
    log_c = [ops.convert_to_numpy(each) for each in model.heads.log_c(h)]
    mean, logvar = map(ops.convert_to_numpy, model.heads.z(h))
    z = mean[:, None] + np.exp(0.5 * logvar[:, None]) * noise["epsilon_z"]
    expected = log_normal(z, 0.0, np.zeros(2)) - log_normal(z, mean[:, None], logvar[:, None])
    latent, gumbel_at, u_at = [z], 0, 0
    for i, prior in enumerate(model.u_priors):
        size, dim = prior.num_components, prior.latent_dim
        # The means and log-variances of u_i, one value of the label after the other.
        components = []
        for k in range(size):
            chosen = [k if j == i else 0 for j in range(len(model.u_priors))]
            c = [
                np.tile(np.eye(n)[value], (len(images), 1)) for n, value in zip(model.labels.sizes, chosen, strict=True)
            ]
            u = (ops.convert_to_numpy(values)[:, u_at : u_at + dim] for values in model.heads.u(h, c, 8.0))
            components.append(list(u))
        means, logvars = (np.stack([each[j] for each in components], axis=1) for j in range(2))
        p = model.class_priors[i] / model.class_priors[i].sum()
        of_prior = np.log(p), *map(ops.convert_to_numpy, (prior.means, prior.logvars))
        drawn = []
        for b in range(len(images)):
            q = log_c[i][b], means[b], logvars[b]
            k = np.argmax(q[0] + noise["gumbel"][b, :, gumbel_at : gumbel_at + size], axis=-1)
            u = q[1][k] + np.exp(0.5 * q[2][k]) * noise["epsilon_u"][b, :, u_at : u_at + dim]
            expected[b] += log_mixture(u, *of_prior) - log_mixture(u, *q)
            drawn.append(u)
        latent.append(np.stack(drawn))
        gumbel_at, u_at = gumbel_at + size, u_at + dim
    latent = np.concatenate(latent, axis=-1)
    outputs = ops.convert_to_numpy(model.decoder(latent.reshape(-1, latent.shape[-1])))
    log_likelihood = ops.convert_to_numpy(model.likelihood.log_prob(np.repeat(images, S, axis=0), outputs))
    np.testing.assert_allclose(given, expected + log_likelihood.reshape(-1, S), rtol=2e-5)
