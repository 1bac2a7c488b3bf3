"""VAE: its terms, its noise, its verbs, whatever the prior is."""

import keras
import numpy as np
import pytest
from keras import layers, ops
from scipy import special, stats

from keras_ssvae.likelihoods import Bernoulli, DiscretizedLogistic, Gaussian
from keras_ssvae.models import VAE
from keras_ssvae.optimizers import NormalizedAdam
from keras_ssvae.priors import GaussianMixture, LearnedMixture, StandardNormal, VampPrior
from keras_ssvae.schedules import LinearWarmUp

SHAPE, D = (4, 4, 1), 2
RNG = np.random.default_rng(8)
BINARY = np.sign(RNG.normal(size=(6, *SHAPE))).astype("float32")
GREY = RNG.uniform(-1, 1, (6, *SHAPE)).astype("float32")
PRIORS = {
    "normal": lambda: StandardNormal(D),
    "mixture": lambda: LearnedMixture(3, D, bounded=False),
    "placed": lambda: GaussianMixture([[-1.0, 0.0], [1.0, 0.5]], 0.5),
    "vampprior": lambda: VampPrior(3, D, SHAPE),
}


def networks(outputs=SHAPE, dropout=0.0):
    images, z = keras.Input(SHAPE), keras.Input((D,))
    x = layers.Dense(8, activation="tanh")(layers.Flatten()(images))
    x = layers.Dropout(dropout)(x) if dropout else x
    encoder = keras.Model(images, [layers.Dense(D)(x), layers.Dense(D)(x)], name="encoder")
    decoder = keras.Model(z, layers.Reshape(outputs)(layers.Dense(int(np.prod(outputs)))(z)), name="decoder")
    for weights in (*encoder.weights, *decoder.weights):
        if len(weights.shape):
            weights.assign(np.random.default_rng(len(weights.shape)).normal(scale=0.4, size=weights.shape))
    return encoder, decoder


def make(prior="normal", dropout=0.0, **arguments):
    prior = PRIORS[prior]()
    for i, weights in enumerate(prior.weights):  # which are zeros in these tests
        weights.assign(np.random.default_rng(i).uniform(0, 1, weights.shape))
    return VAE(*networks(dropout=dropout), prior=prior, **arguments)


def compiled(model):
    model.compile(NormalizedAdam(1e-2, epsilon=1e-8))
    return model


def sums(values):
    return np.sum(values, axis=(1, 2, 3))


@pytest.mark.parametrize("prior", list(PRIORS))
def test_the_terms_are_those_of_one_sample_and_the_objective_weighs_the_divergence(prior):
    model = make(prior, beta=0.3)
    noise = {"epsilon": RNG.normal(size=(6, D)).astype("float32"), "uniform": np.zeros_like(BINARY) + 0.5}
    terms = model.step_losses({"unlabeled": BINARY}, {**noise, "dropout": np.int32(0)}, 0)
    terms = {name: ops.convert_to_numpy(values) for name, values in terms.items()}
    mean, logvar = (ops.convert_to_numpy(values) for values in model.posterior(BINARY).values())
    z = mean + np.exp(0.5 * logvar) * noise["epsilon"]
    p = np.clip(special.expit(ops.convert_to_numpy(model.decoder(z)).astype("float64")), 1e-5, 1 - 1e-5)
    np.testing.assert_allclose(terms["reconstruction"], -sums(stats.bernoulli.logpmf(BINARY > 0, p)), rtol=1e-5)
    q = stats.norm.logpdf(z, mean, np.exp(0.5 * logvar)).sum(axis=-1)
    np.testing.assert_allclose(terms["kl"], q - ops.convert_to_numpy(model.prior.log_prob(z)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(terms["total"], (terms["reconstruction"] + 0.3 * terms["kl"]).mean(), rtol=1e-5)


def test_a_divergence_in_closed_form_is_the_mean_of_the_sampled_one():
    sampled, closed = make(), make(kl="closed_form")
    batch = {"unlabeled": np.repeat(BINARY[:1], 20_000, axis=0)}
    noise = sampled.draw_noise(batch, 0)
    one, other = (ops.convert_to_numpy(model.step_losses(batch, noise, 0)["kl"]) for model in (sampled, closed))
    np.testing.assert_allclose(one.mean(), other[0], atol=4 * one.std() / 20_000**0.5)
    mean, logvar = (ops.convert_to_numpy(values)[0] for values in closed.posterior(BINARY[:1]).values())
    np.testing.assert_allclose(other[0], 0.5 * np.sum(np.exp(logvar) + mean**2 - 1 - logvar), rtol=1e-5)


def test_training_images_are_drawn_anew_at_each_step_with_their_pixels_as_probabilities(monkeypatch):
    model, seen = make(), []
    run = keras.Model.__call__

    def call(self, inputs, *args, **kwargs):
        if self is model.encoder:
            seen.append(ops.convert_to_numpy(inputs))
        return run(self, inputs, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "__call__", call)
    batch = {"unlabeled": np.repeat(GREY[:1], 2000, axis=0)}
    for step in (0, 1):
        model.step_losses(batch, model.draw_noise(batch, step), step)
    first, second = seen
    assert set(np.unique(first)) == {0.0, 1.0}
    assert (first != second).any()
    probability = 0.5 * (GREY[0] + 1)
    np.testing.assert_allclose(first.mean(axis=0), probability, atol=4.5 * 0.5 / 2000**0.5)
    # Binary images stay as they are.
    batch = {"unlabeled": BINARY}
    model.step_losses(batch, model.draw_noise(batch, 0), 0)
    np.testing.assert_array_equal(seen[-1], 0.5 * (BINARY + 1))


def test_grey_images_train_other_likelihoods_as_they_are():
    outputs = (*SHAPE[:2], 2)
    model = VAE(*networks(outputs), StandardNormal(D), DiscretizedLogistic(), binarize=False)
    noise = model.draw_noise({"unlabeled": GREY}, 0)
    assert set(noise) == {"epsilon", "dropout"}
    terms = model.step_losses({"unlabeled": GREY}, noise, 0)
    z = model.posterior(GREY)["mean"] + ops.exp(0.5 * model.posterior(GREY)["logvar"]) * noise["epsilon"]
    expected = -model.likelihood.log_prob(GREY, model.decoder(z))
    np.testing.assert_allclose(terms["reconstruction"], expected, rtol=1e-5)
    assert model.reconstruct(GREY).shape == GREY.shape


def test_all_parts_of_a_batch_are_trained_on_and_labels_are_not_looked_at():
    model = make()
    labels = np.eye(3, dtype="float32")[[0, 1]]
    batch = {"labeled": BINARY[:2], "unlabeled": BINARY[2:]}
    noise = model.draw_noise(batch, 0)
    given = model.step_losses({**batch, "labels": labels}, noise, 0)
    together = model.step_losses({"unlabeled": BINARY}, noise, 0)
    others = model.step_losses({**batch, "labels": 1 - labels}, noise, 0)
    for name in ("reconstruction", "kl", "total"):
        np.testing.assert_allclose(given[name], together[name], rtol=1e-6)
        np.testing.assert_array_equal(given[name], others[name])


def test_the_weight_of_the_divergence_warms_up_with_the_epochs():
    model = make(beta=LinearWarmUp(1.0, epochs=4, steps_per_epoch=3))
    batch = {"unlabeled": BINARY}
    noise = model.draw_noise(batch, 0)
    for step, beta in ((0, 0.25), (2, 0.25), (3, 0.5), (11, 1.0), (100, 1.0)):
        terms = {name: ops.convert_to_numpy(value) for name, value in model.step_losses(batch, noise, step).items()}
        np.testing.assert_allclose(terms["total"], (terms["reconstruction"] + beta * terms["kl"]).mean(), rtol=1e-5)


@pytest.mark.parametrize("prior", list(PRIORS))
def test_validation_is_the_negative_bound_and_the_same_for_the_same_batches(prior):
    model = compiled(make(prior, beta=0.1))
    first, second = (model.evaluate(BINARY, batch_size=3, verbose=0, return_dict=True) for _ in range(2))
    assert first == second
    np.testing.assert_allclose(first["loss"], first["reconstruction"] + first["kl"], rtol=1e-5)  # beta is 1
    terms = [model.evaluation_terms(ops.convert_to_tensor(part), None) for part in (BINARY[:3], BINARY[3:])]
    loss = np.mean([ops.convert_to_numpy(each["loss"]) for each in terms])
    np.testing.assert_allclose(first["loss"], loss, rtol=1e-5)
    with_labels = model.evaluate(BINARY, np.zeros(6), batch_size=3, verbose=0, return_dict=True)
    assert with_labels == first


def test_the_noise_of_validation_is_each_images_own():
    model = make()
    moved = BINARY.copy()
    moved[0] = np.roll(moved[0], 1)
    together, others, backwards = (
        ops.convert_to_numpy(model.evaluation_terms(ops.convert_to_tensor(x), None)["kl"])
        for x in (BINARY, moved, BINARY[::-1].copy())
    )
    np.testing.assert_allclose(together, backwards[::-1], rtol=1e-5)
    np.testing.assert_allclose(together[1:], others[1:], rtol=1e-5)
    assert abs(together[0] - others[0]) > 1e-3


def test_each_step_has_noise_of_its_own_where_gradients_accumulate():
    model = make()
    model.compile(keras.optimizers.SGD(0.0, gradient_accumulation_steps=4))
    losses = model.fit(BINARY, batch_size=6, epochs=4, shuffle=False, verbose=0).history["loss"]
    assert len(set(losses)) == 4


@pytest.mark.parametrize("prior", list(PRIORS))
def test_training_lowers_the_objective_and_moves_all_that_is_learned(prior):
    model = compiled(make(prior))
    before = [ops.convert_to_numpy(variable).copy() for variable in model.trainable_variables]
    history = model.fit(BINARY, batch_size=6, epochs=25, shuffle=False, verbose=0).history
    assert np.mean(history["loss"][-5:]) < np.mean(history["loss"][:5])
    assert set(history) == {"loss", "reconstruction", "kl"}
    for variable, old in zip(model.trainable_variables, before, strict=True):
        assert (ops.convert_to_numpy(variable) != old).any(), variable.path
    groups = model.variable_groups()
    assert ("prior" in groups) == (prior in ("mixture", "vampprior"))
    assert sum(len(group) for group in groups.values()) == len(model.trainable_variables)


def test_verbs_are_means_and_draws_from_the_prior():
    model = make("mixture")
    posterior = model.posterior(BINARY)
    np.testing.assert_array_equal(model.encode(BINARY), posterior["mean"])
    decoded = 2 * special.expit(ops.convert_to_numpy(model.decoder(posterior["mean"]))) - 1
    np.testing.assert_allclose(model.reconstruct(BINARY), decoded, atol=1e-6)
    outputs = model(BINARY)
    np.testing.assert_allclose(outputs["reconstruction"], decoded, atol=1e-6)
    z = ops.convert_to_numpy(model.sample_latent(4000, seed=1))
    means, variances = (ops.convert_to_numpy(values) for values in (model.prior.means, model.prior.variances))
    np.testing.assert_allclose(z.mean(axis=0), means.mean(axis=0), atol=0.1)
    np.testing.assert_allclose(z.var(axis=0), variances.mean(axis=0) + means.var(axis=0), rtol=0.15)
    new = model.generate(5, seed=3)
    np.testing.assert_array_equal(new, model.generate(5, seed=3))
    assert new.shape == (5, *SHAPE)
    assert model.interpolate(BINARY[:2], BINARY[2:4], n=4).shape == (2, 4, *SHAPE)


@pytest.mark.parametrize("prior", list(PRIORS))
def test_a_file_gives_back_the_model_and_it_trains_on_alike(prior, tmp_path, assert_same_bits):
    model = compiled(make(prior, beta=LinearWarmUp(1.0, epochs=4, steps_per_epoch=3)))
    train = {"batch_size": 6, "epochs": 2, "shuffle": False, "verbose": 0}
    model.fit(BINARY, **train)
    model.save(tmp_path / "model.keras")
    restored = keras.models.load_model(tmp_path / "model.keras")
    assert_same_bits(restored, model)
    np.testing.assert_array_equal(restored.generate(3, seed=1), model.generate(3, seed=1))
    for each in (model, restored):
        each.fit(BINARY, **train)
    assert_same_bits(restored, model)


def test_dropout_is_for_training_and_follows_the_step():
    model = make(dropout=0.5)
    batch = {"unlabeled": BINARY}
    noise = model.draw_noise(batch, 0)
    first, again = (ops.convert_to_numpy(model.step_losses(batch, noise, 0)["kl"]) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    other = ops.convert_to_numpy(model.step_losses(batch, {**noise, "dropout": model.dropout_counter(1)}, 0)["kl"])
    assert (first != other).any()
    np.testing.assert_array_equal(model.encode(BINARY), model.encode(BINARY))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"prior": "normal"}, "`prior` is 'normal'; it must be a `priors.Prior`"),
        ({"likelihood": "bernoulli"}, "`likelihood` is 'bernoulli'; it must be one of"),
        ({"likelihood": Gaussian()}, "`binarize` is True with a Gaussian likelihood"),
        ({"kl": "exact"}, "`kl` is 'exact'; it must be"),
        ({"kl": "closed_form", "prior": GaussianMixture([[0.0, 0.0], [1.0, 1.0]], 1.0)}, "has no closed form"),
        ({"prior": StandardNormal(3)}, "`encoder`"),
        ({"likelihood": DiscretizedLogistic(), "binarize": False}, "`decoder`"),
        ({"beta": -1.0}, "`beta` is -1.0"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(arguments, sentence):
    encoder, decoder = networks()
    with pytest.raises(ValueError, match=sentence):
        VAE(encoder, decoder, **{"prior": StandardNormal(D), **arguments})


@pytest.mark.parametrize(
    ("batch", "sentence"),
    [
        ({"image": BINARY}, r"`x` of a training batch has \['image'\]"),
        (BINARY.astype("int64"), "is int64; it must be uint8"),
        (BINARY[:, :3], "it must be images of shape"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_in_a_sentence(batch, sentence):
    with pytest.raises(ValueError, match=sentence):
        make().check_batch(batch, None)


def test_the_defaults_are_vampprior_s():
    model = VAE()
    assert (model.image_shape, model.latents) == ((28, 28, 1), {"z": 40})
    assert isinstance(model.prior, StandardNormal)
    assert isinstance(model.likelihood, Bernoulli)
    assert model.likelihood.floor == 1e-5
    assert sum(np.prod(variable.shape) for variable in model.trainable_variables) == 1_116_864
