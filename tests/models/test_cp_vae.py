"""CP-VAE and its variants: terms by hand, what they are equal to, exact posteriors, clusters, temperature."""

import keras
import numpy as np
import pytest
from contract import registry, small
from contract.programs import program_of
from keras import ops
from scipy import special, stats

from keras_ssvae import evaluation
from keras_ssvae.models import CPVAE, VAE
from keras_ssvae.networks import cp_vae
from keras_ssvae.noise import Stream
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.priors import GaussianMixture, LearnedMixture, StandardNormal, VampPrior
from keras_ssvae.schedules import AnnealedTemperature

K, D = small.K, small.D
VARIANTS = {
    "CP": {},
    "INDq": {"factorised_posterior": True},
    "INDp": {"factorised_prior": True},
    "INDqp": {"factorised_posterior": True, "factorised_prior": True},
}
OPTIONS = {
    "own sample": {"z_heads": "own_sample"},
    "probs": {"z_heads": "probs"},
    "each": {"posteriors": "each"},
    "each of probs": {"z_heads": "probs", "posteriors": "each"},
    "no elu": {"elu": False},
}
BATCH = {"unlabeled": np.sign(small.images(6))}


def numpy(values):
    return ops.convert_to_numpy(values).astype("float64")


def gaussian_kl(mean, logvar, prior_mean, prior_logvar):
    squared = (np.exp(logvar) + (mean - prior_mean) ** 2) / np.exp(prior_logvar)
    return 0.5 * np.sum(prior_logvar - logvar + squared - 1, axis=-1)


def steps(model, noise=None):
    noise = model.draw_noise(BATCH, 0) if noise is None else noise
    return {name: numpy(values) for name, values in model.step_losses(BATCH, noise, 0).items()}


def assert_equal_terms(given, expected, **tolerance):
    for name in ("reconstruction", "kl_z", "kl_c", "total"):
        np.testing.assert_allclose(given[name], expected[name], err_msg=name, **tolerance)


@pytest.mark.parametrize("options", [*VARIANTS.values(), *OPTIONS.values()], ids=[*VARIANTS, *OPTIONS])
def test_the_terms_are_the_papers(options):
    model = registry.cp_vae(beta=0.3, temperature=0.8, **{"z_heads": "sample", "posteriors": "one", **options})
    noise = model.draw_noise(BATCH, 0)
    given = steps(model, noise)
    h = numpy(model.encoder(0.5 * (BATCH["unlabeled"] + 1)))

    def dense(layer, inputs):
        return inputs @ numpy(layer.kernel) + numpy(layer.bias)

    def q(c):
        inputs = h if model.factorised_posterior else np.concatenate([h, c], axis=-1)
        return dense(model.heads.z_mean, inputs), np.clip(dense(model.heads.z_logvar, inputs), -6, 2)

    logits = dense(model.heads.c_logits, h)
    logits = np.where(logits > 0, logits, np.expm1(logits)) if model.elu else logits
    pi = special.softmax(logits, axis=-1)

    def relaxed(name):
        return special.softmax((logits - np.log(-np.log(numpy(noise[name]) + 1e-10) + 1e-10)) / 0.8, axis=-1)

    c = relaxed("uniform_c")
    seen = {"sample": lambda: c, "probs": lambda: pi, "own_sample": lambda: relaxed("uniform_heads")}[model.z_heads]()
    mean, logvar = q(seen)
    z = mean + np.exp(0.5 * logvar) * numpy(noise["epsilon"])
    kl_z = np.zeros(6)
    means, _, logvars = map(numpy, model.prior.components())
    for k in range(K):
        each = model.posteriors == "each" and model.z_heads != "probs"
        of_k = q(np.tile(np.eye(K)[k], (6, 1))) if each else (mean, logvar)
        component = 0 if model.factorised_prior else k
        kl_z += pi[:, k] * gaussian_kl(*of_k, means[component], logvars[component])
    p = special.expit(numpy(model.decoder(np.concatenate([z, c], axis=-1).astype("float32"))))
    p = np.clip(p, 1e-5, 1 - 1e-5)
    reconstruction = -stats.bernoulli.logpmf(BATCH["unlabeled"] > 0, p).sum(axis=(1, 2, 3))
    kl_c = np.log(K) + np.sum(pi * np.log(pi + 1e-12), axis=-1)
    total = (reconstruction + 0.3 * (kl_z + kl_c)).mean()
    expected = {"reconstruction": reconstruction, "kl_z": kl_z, "kl_c": kl_c, "total": total}
    assert_equal_terms(given, expected, rtol=2e-5, atol=2e-6)


def without_c(model):
    """Takes the weights from c to the layers of z away."""
    for head in (model.heads.z_mean, model.heads.z_logvar):
        kernel = ops.convert_to_numpy(head.kernel).copy()
        kernel[-K:] = 0
        head.kernel.assign(kernel)
    return model


@pytest.mark.parametrize("factorised_prior", [False, True])
def test_without_weights_from_c_to_z_the_posterior_is_factorised(factorised_prior):
    prior = StandardNormal(D) if factorised_prior else registry.OTHER_PRIOR
    arguments = {"factorised_prior": factorised_prior, "prior": prior, "z_heads": "sample"}
    model = without_c(registry.cp_vae(**arguments))
    given = {"num_categories": K, "z_dim": D, "beta": 0.7, "temperature": 0.8}
    other = CPVAE(model.encoder, model.decoder, factorised_posterior=True, **given, **arguments)
    for name in ("c_logits", "z_mean", "z_logvar"):
        own, head = getattr(other.heads, name), getattr(model.heads, name)
        own.kernel.assign(ops.convert_to_numpy(head.kernel)[: own.kernel.shape[0]])
        own.bias.assign(head.bias)
    noise = model.draw_noise(BATCH, 0)
    assert_equal_terms(steps(other, noise), steps(model, noise), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("posteriors", ["one", "each"])
@pytest.mark.parametrize("factorised_posterior", [False, True])
def test_with_priors_that_are_all_the_standard_normal_the_prior_is_factorised(factorised_posterior, posteriors):
    arguments = {"factorised_posterior": factorised_posterior, "posteriors": posteriors}
    given = registry.cp_vae(prior=GaussianMixture(np.zeros((K, D)), 1.0), **arguments)
    expected = registry.cp_vae(factorised_prior=True, prior=StandardNormal(D), **arguments)
    assert_equal_terms(steps(given), steps(expected), rtol=1e-5, atol=1e-6)


def as_vae(model):
    """The VAE with the networks and the prior of a CPVAE whose category is 1 everywhere."""
    image, z = keras.Input(small.IMAGE_SHAPE), keras.Input((D,))
    h = model.encoder(image)
    c_of_h, c_of_z = (ops.ones_like(x[:, :1]) * np.ones(model.num_categories, "float32") for x in (h, z))
    encoder = keras.Model(image, model.heads.z(h, c_of_h))
    decoder = keras.Model(z, model.decoder(ops.concatenate([z, c_of_z], axis=-1)))
    return VAE(encoder, decoder, model.prior, beta=0.7, kl="closed_form")


def assert_is_a_vae(model):
    vae, noise = as_vae(model), model.draw_noise(BATCH, 0)
    given, expected = steps(model, noise), {n: numpy(v) for n, v in vae.step_losses(BATCH, noise, 0).items()}
    np.testing.assert_allclose(given["kl_c"], np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(given["kl_z"], expected["kl"], rtol=1e-5)
    np.testing.assert_allclose(given["reconstruction"], expected["reconstruction"], rtol=1e-6)
    np.testing.assert_allclose(given["total"], expected["total"], rtol=1e-6)


def test_without_categories_it_is_the_vae(differentiate):
    model = registry.cp_vae(**VARIANTS["INDqp"], prior=StandardNormal(D), beta=0.7)
    for weight in model.heads.c_logits.weights:
        weight.assign(ops.zeros(weight.shape))
    pixels = model.decoder.get_layer("pixels")
    kernel = ops.convert_to_numpy(pixels.kernel).copy()
    kernel[D:] = 0
    pixels.kernel.assign(kernel)
    assert_is_a_vae(model)
    noise = model.draw_noise(BATCH, 0)
    logits, others = model.heads.c_logits.weights, model.heads.z_mean.weights
    _, gradients = differentiate(lambda: model.step_losses(BATCH, noise, 0)["total"], [], [*logits, *others])
    sizes = [np.abs(gradient).max() for gradient in gradients]
    assert max(sizes[: len(logits)]) < 1e-5 < 1e-2 < min(sizes[len(logits) :])


@pytest.mark.parametrize("posteriors", ["one", "each"])
def test_with_one_category_it_is_the_vae_with_a_learned_gaussian_prior(posteriors):
    prior = LearnedMixture(1, D, bounded=False)
    assert_is_a_vae(registry.cp_vae(num_categories=1, prior=prior, posteriors=posteriors))


@pytest.mark.parametrize(("k", "colours"), [(1, 3), (150, 1)])
def test_any_number_of_categories_and_colours(k, colours):
    shape = (8, 8, colours)
    networks = cp_vae.encoder(shape, hidden=8), cp_vae.decoder(shape, D, k, hidden=8)
    model = CPVAE(*networks, num_categories=k, z_dim=D, sum_categories=True)
    model.compile(NormalizedAdam(1e-3))
    images = np.sign(np.random.default_rng(0).normal(size=(4, *shape))).astype("float32")
    assert all(np.isfinite(model.train_on_batch(images, return_dict=True)[name]) for name in model.training_terms)

    def answers(images):
        return {
            "clusters": model.clusters(images),
            "generate": model.generate(4, 1, categories=k - 1),
            "log_weights": model.log_weights(images, model.posterior_noise(4, 2, Stream(1, 0))),
            "discrete_loss": model.evaluation_terms(images, None)["discrete_loss"],
        }

    given = {name: numpy(values) for name, values in program_of(model, answers)(images).items()}
    assert {name: values.shape[1:] for name, values in given.items()} == {
        "clusters": (k,),
        "generate": shape,
        "log_weights": (2,),
        "discrete_loss": (),
    }
    assert all(np.isfinite(values).all() for values in given.values())


def test_relabelling_the_categories_changes_nothing():
    model = registry.cp_vae(z_heads="sample", posteriors="each")
    noise = model.draw_noise(BATCH, 0)
    before, order = steps(model, noise), [2, 0, 1]
    for head, axis in ((model.heads.c_logits, 1), (model.heads.z_mean, 0), (model.heads.z_logvar, 0)):
        kernel = ops.convert_to_numpy(head.kernel).copy()
        kernel = kernel[:, order] if axis else np.concatenate([kernel[:-K], kernel[-K:][order]])
        head.kernel.assign(kernel)
    model.heads.c_logits.bias.assign(ops.convert_to_numpy(model.heads.c_logits.bias)[order])
    pixels = model.decoder.get_layer("pixels")
    kernel = ops.convert_to_numpy(pixels.kernel)
    pixels.kernel.assign(np.concatenate([kernel[:D], kernel[D:][order]]))
    for weight in model.prior.weights:
        weight.assign(ops.convert_to_numpy(weight)[order])
    after = steps(model, {**noise, "uniform_c": ops.convert_to_numpy(noise["uniform_c"])[:, order]})
    assert_equal_terms(after, before, rtol=1e-5, atol=1e-6)


def test_b1_and_b2_of_known_gaussians():
    prior = GaussianMixture([[0.0], [-1.0]], [[1.0], [4.0]])
    mean, logvar = np.float32([[[1.0], [-2.0]]]), np.log(np.float32([[[0.25], [2.25]]]))
    np.testing.assert_allclose(prior.kl_per_component(mean, logvar), [[0.818147, 0.193932]], rtol=2e-6)
    np.testing.assert_allclose(prior.kl(np.float32([[0.25, 0.75]]), mean, logvar), [0.349985850], rtol=1e-6)
    model = registry.cp_vae(**VARIANTS["INDqp"], prior=StandardNormal(D), num_categories=2, elu=False)
    model.heads.c_logits.kernel.assign(ops.zeros(model.heads.c_logits.kernel.shape))
    for probs, expected in (([0.25, 0.75], 0.130812036), ([0.5, 0.5], 0.0), ([1.0, 1e-30], np.log(2))):
        model.heads.c_logits.bias.assign(np.log(np.float32(probs)))
        np.testing.assert_allclose(steps(model)["kl_c"], np.full(6, expected), rtol=2e-6, atol=2e-7)


def test_soft_samples_are_those_of_the_gumbel_softmax():
    model = registry.cp_vae(**VARIANTS["INDqp"], prior=StandardNormal(D), num_categories=2, temperature=0.7, elu=False)
    model.heads.c_logits.kernel.assign(ops.zeros(model.heads.c_logits.kernel.shape))
    model.heads.c_logits.bias.assign([0.9, 0.0])
    batch = {"unlabeled": np.repeat(BATCH["unlabeled"][:1], 20_000, axis=0)}
    seen = []

    def run(network, inputs):
        seen.append(inputs)
        return network(inputs)

    model.terms(run, ops.convert_to_tensor(batch["unlabeled"]), model.draw_noise(batch, 0), 0)
    first = numpy(seen[-1])[:, D]
    squared = first**2
    np.testing.assert_allclose(squared.mean(), 0.546733, atol=4 * squared.std() / 20_000**0.5)
    hard = first > 0.5
    np.testing.assert_allclose(hard.mean(), 0.710950, atol=4 * hard.std() / 20_000**0.5)


def test_every_number_of_a_learned_prior_moves_in_one_step_and_none_of_the_released():
    kept = LearnedMixture(K, D, bounded=False, above_one=True, trainable=False)
    for prior in (LearnedMixture(K, D, bounded=False), kept):
        model = registry.cp_vae(prior=prior)
        model.compile(NormalizedAdam(1e-2))
        before = [ops.convert_to_numpy(weight).copy() for weight in prior.weights]
        model.train_on_batch(BATCH)
        moved = [ops.convert_to_numpy(weight) != old for weight, old in zip(prior.weights, before, strict=True)]
        assert len(moved) == 2
        assert np.all(moved) if prior is not kept else not np.any(moved)
        assert ("prior" in model.variable_groups()) == (prior is not kept)


def test_the_released_prior_is_frozen_in_a_file_too(tmp_path):
    model = registry.cp_vae(prior=LearnedMixture(K, D, bounded=False, above_one=True, trainable=False))
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert not restored.prior.trainable_variables
    np.testing.assert_array_equal(restored.prior.logvars, model.prior.logvars)
    free = ops.convert_to_numpy(model.prior.free_logvars)
    np.testing.assert_allclose(model.prior.logvars, 2 * np.log1p(np.exp(free / 2)), rtol=1e-6)


@pytest.mark.parametrize("variant", ["INDq", "INDp", "INDqp"])  # CP is in the contract tests
def test_a_variant_trains_and_comes_back_from_a_file(variant, tmp_path):
    model = registry.cp_vae(**VARIANTS[variant], temperature=AnnealedTemperature(1, rate=0.1))
    model.compile(NormalizedAdam(1e-2))
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    model.train_on_batch(BATCH)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert np.abs(ops.convert_to_numpy(variable) - value).max() > 0, variable.path
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert ops.convert_to_numpy(restored.temperature_reached) == pytest.approx(np.exp(-0.1))

    def answers(model):
        terms = model.evaluation_terms(BATCH["unlabeled"], None)
        return {**model.call(BATCH["unlabeled"]), **terms, "generated": model.generate(2, 1)}

    given, expected = (program_of(each, lambda each=each: answers(each))() for each in (restored, model))
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_temperature_follows_the_step_and_evaluation_has_that_of_the_last_one():
    schedule = AnnealedTemperature(steps_per_epoch=2, rate=0.2, minimum=0.3)
    model = registry.cp_vae(temperature=schedule)
    model.compile(NormalizedAdam(1e-9))
    assert float(ops.convert_to_numpy(model.temperature_reached)) == pytest.approx(np.exp(-0.2))
    for _ in range(5):
        model.replay_step(BATCH, model.draw_noise(BATCH, 0))
    reached = np.exp(-0.2 * 3 * 4 / 2)  # in epoch 3
    assert float(ops.convert_to_numpy(model.temperature_reached)) == pytest.approx(max(0.3, reached))
    given = model.evaluation_terms(BATCH["unlabeled"], None)["loss"]
    model.temperature_reached.assign(1.0)
    assert np.abs(numpy(model.evaluation_terms(BATCH["unlabeled"], None)["loss"]) - numpy(given)).max() > 1e-3
    noise = model.draw_noise(BATCH, 0)
    one, other = (numpy(model.step_losses(BATCH, noise, step)["reconstruction"]) for step in (0, 4))
    assert np.abs(one - other).max() > 1e-3


def test_importance_weights_sum_over_what_the_others_draw():
    arguments = {"prior": registry.OTHER_PRIOR, "binarize": False}
    drawn, summed = (registry.cp_vae(sum_categories=each, **arguments) for each in (False, True))
    image = np.sign(small.images(1))
    log_pi = np.log(numpy(drawn.clusters(image)))[0]
    epsilon = np.random.default_rng(0).normal(size=(1, 4, D)).astype("float32")
    # With the same epsilon the sum has for each category the weight that is drawn with it, times its probability.
    each = []
    for k in range(K):
        gumbel = np.full((1, 4, K), -50.0, "float32")
        gumbel[..., k] = 50.0
        each.append(numpy(drawn.log_weights(image, {"epsilon": epsilon, "gumbel": gumbel}))[0] + log_pi[k])
    given = numpy(summed.log_weights(image, {"epsilon": epsilon}))[0]
    np.testing.assert_allclose(given, special.logsumexp(each, axis=0), rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weights_with_a_drawn_and_with_a_summed_category_estimate_one_likelihood(variant):
    images = np.sign(small.images(2))
    results = [
        evaluation.nll(registry.cp_vae(sum_categories=each, **VARIANTS[variant]), images, 2000, 500)
        for each in (False, True)
    ]
    drawn, summed = results
    errors = 4.5 * np.hypot(drawn.monte_carlo_errors, summed.monte_carlo_errors) + 1e-4
    assert (np.abs(drawn.per_image - summed.per_image) < errors).all()
    assert summed.bound <= drawn.bound + 0.1


def test_clusters_are_probabilities_and_the_latent_variables_hold_the_likeliest():
    model, images = registry.cp_vae(), small.images(7)
    clusters = numpy(model.clusters(images))
    np.testing.assert_allclose(clusters.sum(axis=1), 1.0, rtol=1e-5)
    parts = model.split_latent(numpy(model.encode(images)))
    np.testing.assert_array_equal(parts["c"], np.eye(K)[clusters.argmax(axis=1)])
    mean = numpy(model.posterior(images)["z_mean"])
    np.testing.assert_allclose(parts["z"], mean[range(7), clusters.argmax(axis=1)], rtol=1e-5, atol=1e-6)


def test_images_are_generated_of_given_categories_and_of_given_probabilities():
    model = registry.cp_vae(prior=registry.OTHER_PRIOR)
    z = model.split_latent(numpy(model.sample_latent(3000, 1, categories=2)))
    np.testing.assert_array_equal(z["c"], np.tile(np.eye(K)[2], (3000, 1)))
    means, variances = registry.OTHER_PRIOR.means, registry.OTHER_PRIOR.variances
    np.testing.assert_allclose(z["z"].mean(axis=0), means[2], atol=4 * np.sqrt(variances[2].max() / 3000))
    np.testing.assert_allclose(z["z"].var(axis=0), variances[2], rtol=4 * (2 / 3000) ** 0.5)
    for probs in (None, [0.7, 0.3, 0.0]):
        c = numpy(model.sample_latent(3000, 2, probs=probs))[:, D:]
        expected = np.full(K, 1 / K) if probs is None else np.array(probs)
        np.testing.assert_allclose(c.mean(axis=0), expected, atol=4 * 0.5 / 3000**0.5)
    each = numpy(model.sample_latent(3, 1, categories=[0, 2, 1]))[:, D:]
    np.testing.assert_array_equal(each, np.eye(K)[[0, 2, 1]])
    assert model.generate(3, 1, categories=[0, 2, 1]).shape == (3, *small.IMAGE_SHAPE)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"categories": 3}, "`categories` is 3; it must be an integer from 0 to 2"),
        ({"categories": -1}, "`categories` is -1; it must be an integer from 0 to 2"),
        ({"categories": [0, 1]}, "or one for each of the 3 images"),
        ({"categories": 0.5}, "`categories` is 0.5; it must be an integer"),
        ({"categories": "two"}, "`categories` is 'two'; it must be an integer"),
        ({"probs": "even"}, "`probs` is 'even'; it must be 3 probabilities"),
        ({"probs": [0.5, 0.5]}, "it must be 3 probabilities, whose sum is 1"),
        ({"probs": [0.5, 0.7, -0.2]}, "it must be 3 probabilities, whose sum is 1"),
        ({"probs": [1.0, 0.0, 0.0], "categories": 1}, "`categories` and `probs` are both given"),
    ],
)
def test_categories_that_are_none_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.cp_vae().generate(3, 1, **arguments)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prior": StandardNormal(D)}, "it must have 3 components of equal weight in 2 dimensions"),
        ({"prior": LearnedMixture(K, D + 1)}, "it must have 3 components of equal weight in 2 dimensions"),
        ({"factorised_prior": True, "prior": registry.OTHER_PRIOR}, "it must have one component in 2 dimensions"),
        ({"prior": GaussianMixture(np.zeros((K, D)), 1.0, [0.5, 0.25, 0.25])}, "of equal weight"),
        ({"prior": VampPrior(K, D, small.IMAGE_SHAPE)}, "the encoder of CPVAE gives features"),
        ({"cluster_names": ["one", "two"]}, "`cluster_names` is .* it must be a name for each category, 3 of them"),
        ({"cluster_names": "abc"}, "`cluster_names` is 'abc'; it must be a name for each category, 3 of them"),
        ({"cluster_names": 5}, "`cluster_names` is 5; it must be a name for each category, 3 of them"),
        ({"binarize": "no"}, "`binarize` is 'no'; it must be True or False"),
        ({"z_heads": "all"}, "`z_heads` is 'all'; it must be one of"),
        ({"posteriors": "all"}, "`posteriors` is 'all'; it must be one of"),
        ({"factorised_prior": "no"}, "`factorised_prior` is 'no'; it must be one of"),
        ({"num_categories": 0}, "`num_categories` is 0. It must be"),
        ({"temperature": 0.0}, "`temperature` is 0.0; it must be a finite number above 0"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.cp_vae(**arguments)


@pytest.mark.parametrize(("variant", "more"), [("CP", 981 + 80), ("INDq", 901 + 80), ("INDp", 981), ("INDqp", 901)])
def test_the_defaults_have_the_papers_parameters(variant, more):
    model = CPVAE(**VARIANTS[variant])
    assert (model.image_shape, model.latents) == ((28, 28, 1), {"z": 40, "c": 10})
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == 1_116_864 + 10 * more
