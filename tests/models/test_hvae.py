"""HVAE: its terms by hand, what it is equal to, its verbs and its likelihood."""

import keras
import numpy as np
import pytest
from contract import registry, small
from keras import layers, ops
from scipy import special, stats

from keras_ssvae import evaluation
from keras_ssvae.models import HVAE, VAE
from keras_ssvae.priors import StandardNormal, VampPrior

D1, D2 = 3, small.D
PRIORS = {
    "normal": lambda: StandardNormal(D2),
    "vampprior": lambda: VampPrior(4, D2, small.IMAGE_SHAPE),
}


def numpy(values):
    return ops.convert_to_numpy(values).astype("float64")


def log_normal(z, mean, logvar):
    return stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=-1)


@pytest.mark.parametrize("prior", PRIORS)
def test_the_terms_are_those_of_one_sample_of_both_layers(prior):
    model = registry.hvae(prior=PRIORS[prior](), beta=0.3)
    batch = {"unlabeled": np.sign(small.images(6))}
    noise = model.draw_noise(batch, 0)
    terms = {name: numpy(values) for name, values in model.step_losses(batch, noise, 0).items()}
    epsilon1, epsilon2 = np.split(numpy(noise["epsilon"]), [D1], axis=1)
    x = 0.5 * (batch["unlabeled"] + 1)
    mean2, logvar2 = map(numpy, model.encoder(x))
    z2 = mean2 + np.exp(0.5 * logvar2) * epsilon2
    mean1, logvar1 = map(numpy, model.encoder_z1([x, z2.astype("float32")]))
    z1 = mean1 + np.exp(0.5 * logvar1) * epsilon1
    kl_z1 = log_normal(z1, mean1, logvar1) - log_normal(z1, *map(numpy, model.prior_z1(z2.astype("float32"))))
    if prior == "normal":
        log_prior = log_normal(z2, 0.0, np.zeros(D2))
    else:
        inputs = np.clip(ops.convert_to_numpy(model.prior.pseudo_inputs), 0, 1)
        components = log_normal(z2[:, None], *map(numpy, model.encoder(inputs)))
        log_prior = special.logsumexp(components, axis=1) - np.log(4)
    logits = numpy(model.decoder(np.concatenate([z1, z2], axis=1).astype("float32")))
    p = np.clip(special.expit(logits), 1e-5, 1 - 1e-5)
    expected = {"kl_z1": kl_z1, "kl_z2": log_normal(z2, mean2, logvar2) - log_prior}
    expected["reconstruction"] = -stats.bernoulli.logpmf(x > 0.5, p).sum(axis=(1, 2, 3))
    for name, values in expected.items():
        np.testing.assert_allclose(terms[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    total = (expected["reconstruction"] + 0.3 * (expected["kl_z1"] + expected["kl_z2"])).mean()
    np.testing.assert_allclose(terms["total"], total, rtol=1e-5)


def zero(network, names):
    for name in names:
        for weight in network.get_layer(name).weights:
            weight.assign(ops.zeros(weight.shape))


@pytest.fixture
def collapsed():
    """`(prior) -> HVAE` whose z2 is N(0, I) whatever the image is, and has no weight anywhere; so has `p(z1 | z2)`."""

    def collapsed(prior):
        model = registry.hvae(prior=prior)
        zero(model.encoder, ("mean", "logvar"))
        zero(model.prior_z1, ("p_z1_mean", "p_z1_logvar"))
        zero(model.encoder_z1, ("z1_by_z2",))
        pixels = model.decoder.get_layer("pixels")
        pixels.kernel.assign(ops.concatenate([pixels.kernel[:D1], ops.zeros_like(pixels.kernel[D1:])]))
        return model

    return collapsed


def test_without_a_second_layer_it_is_the_vae(collapsed):
    model = collapsed(StandardNormal(D2))
    of_z1 = model.encoder_z1
    image = keras.Input(small.IMAGE_SHAPE)
    h = layers.Activation("tanh")(of_z1.get_layer("z1_by_x")(layers.Flatten()(image)))
    encoder = keras.Model(image, [of_z1.get_layer(f"z1_{name}")(h) for name in ("mean", "logvar")])
    z = keras.Input((D1,))
    pixels = layers.Dense(int(np.prod(small.IMAGE_SHAPE)))
    decoder = keras.Model(z, layers.Reshape(small.IMAGE_SHAPE)(pixels(z)))
    pixels.kernel.assign(model.decoder.get_layer("pixels").kernel[:D1])
    pixels.bias.assign(model.decoder.get_layer("pixels").bias)
    vae = VAE(encoder, decoder, StandardNormal(D1), beta=0.7)
    batch = {"unlabeled": small.images(6)}
    noise = model.draw_noise(batch, 0)
    given = model.step_losses(batch, noise, 0)
    expected = vae.step_losses(batch, {**noise, "epsilon": noise["epsilon"][:, :D1]}, 0)
    np.testing.assert_allclose(given["kl_z2"], np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(given["kl_z1"], expected["kl"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given["reconstruction"], expected["reconstruction"], rtol=1e-6)
    np.testing.assert_allclose(given["total"], expected["total"], rtol=1e-6)


def test_a_vampprior_of_posteriors_that_are_the_standard_normal_is_the_standard_normal(collapsed):
    batch = {"unlabeled": small.images(6)}
    one = collapsed(PRIORS["normal"]())
    networks = one.encoder, one.encoder_z1, one.prior_z1, one.decoder
    other = HVAE(*networks, prior=PRIORS["vampprior"](), z1_dim=D1, beta=0.7)
    noise = one.draw_noise(batch, 0)
    given, expected = (model.step_losses(batch, noise, 0) for model in (other, one))
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_it_generates_z2_of_the_prior_and_z1_given_it():
    model = registry.hvae(prior=StandardNormal(D2))
    z = model.split_latent(numpy(model.sample_latent(20_000, seed=1)))
    np.testing.assert_allclose(z["z2"].mean(axis=0), 0.0, atol=4 / 20_000**0.5)
    np.testing.assert_allclose(z["z2"].var(axis=0), 1.0, rtol=4 * (2 / 20_000) ** 0.5)
    mean, logvar = map(numpy, model.prior_z1(z["z2"].astype("float32")))
    noise = (z["z1"] - mean) / np.exp(0.5 * logvar)
    np.testing.assert_allclose(np.cov(noise.T), np.eye(D1), atol=4.5 * (2 / 20_000) ** 0.5)
    np.testing.assert_allclose(noise.T @ z["z2"] / 20_000, 0.0, atol=4.5 / 20_000**0.5)


def test_z1_is_encoded_at_the_mean_of_z2():
    model, images = registry.hvae(), small.images(3)
    posterior = model.posterior(images)
    x = ops.convert_to_tensor(0.5 * (images + 1))
    mean, _ = model.encoder(x)
    np.testing.assert_allclose(posterior["z2_mean"], mean, rtol=1e-5, atol=1e-6)
    of_z1 = model.encoder_z1([x, mean])
    for name, expected in zip(("z1_mean", "z1_logvar"), of_z1, strict=True):
        np.testing.assert_allclose(posterior[name], expected, rtol=1e-5, atol=1e-6)
    parts = model.split_latent(model.encode(images))
    np.testing.assert_array_equal(parts["z1"], posterior["z1_mean"])
    np.testing.assert_array_equal(parts["z2"], posterior["z2_mean"])


@pytest.mark.parametrize("prior", PRIORS)
def test_importance_weights_are_the_terms_of_their_samples(prior):
    model, images = registry.hvae(prior=PRIORS[prior](), binarize=False), small.images(3)
    epsilon = np.random.default_rng(0).normal(size=(3, 5, D1 + D2)).astype("float32")
    given = model.log_weights(images, {"epsilon": epsilon})
    assert given.shape == (3, 5)
    for s in range(5):
        noise = {"epsilon": epsilon[:, s], "dropout": np.int32(0)}
        terms = model.step_losses({"unlabeled": images}, noise, 0)
        expected = -(terms["reconstruction"] + terms["kl_z1"] + terms["kl_z2"])
        np.testing.assert_allclose(given[:, s], expected, rtol=1e-5)


def test_the_likelihood_is_above_the_bound_of_the_same_samples():
    model = registry.hvae()
    result = evaluation.nll(model, np.sign(small.images(4)), samples=50, samples_per_batch=25)
    assert result.mean < result.bound


def test_the_defaults_are_vampprior_s():
    model = HVAE()
    assert (model.image_shape, model.latents) == ((28, 28, 1), {"z1": 40, "z2": 40})
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == 2_431_024


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prior": "normal"}, "`prior` is 'normal'; it must be a `priors.Prior`"),
        ({"z1_dim": 0}, "`z1_dim` is 0. It must be an integer of at least 1"),
        ({"z1_dim": 4}, "`encoder_z1` maps .* 4 of z1 and 2 of z2"),
        (
            {"prior": VampPrior(4, D2, (9, 8, 3))},
            r"pseudo-inputs of shape \(9, 8, 3\), but the encoder takes images",
        ),
        ({"prior": StandardNormal(3)}, "`encoder` maps .* 3 of z2"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.hvae(**arguments)
