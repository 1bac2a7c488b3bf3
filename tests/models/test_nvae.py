"""N-VAE: masks, gradients, special cases, batches; beta-VAE and CVAE beside it."""

import keras
import numpy as np
import pytest
from contract import small
from keras import layers, ops
from scipy import special

from keras_ssvae import data
from keras_ssvae.models import CVAE, NVAE, VAE, BetaVAE
from keras_ssvae.networks import nvae as networks
from keras_ssvae.optimizers import Adam
from keras_ssvae.priors import StandardNormal

N, L, D_C, D_S = 5, 3, 2, 2
Z = L * D_C + D_S
SHAPE = (1, N, 1)
# Image i has pixel i alone, so that row i of the kernel of a linear head is what it gives of image i.
IMAGES = (2 * np.eye(N) - 1).astype("float32").reshape(N, *SHAPE)
LABELS = np.array([0, 1, 2, 1, 1])
ONE_HOT = np.eye(L, dtype="float32")[LABELS]
RNG = np.random.default_rng(4)


def rows_of(network):
    """The weights of a network at random."""
    for weights in network.weights:
        weights.assign(RNG.normal(scale=0.5, size=weights.shape))
    return network


def linear_encoder(inputs=1, **heads):
    """Heads of the pixels, without biases."""
    images = keras.Input(SHAPE)
    given = [images, keras.Input((L,))][:inputs]
    flat = layers.Flatten()(images)
    outputs = [layers.Dense(units, use_bias=False, name=name)(flat) for name, units in heads.items()]
    return keras.Model(given if inputs > 1 else images, outputs, name="encoder")


def linear_decoder(inputs):
    z = keras.Input((inputs,))
    return keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(N, name="first")(z)), name="decoder")


def make(num_classes=L, class_dims=D_C, shared_dims=D_S, **arguments):
    z_dim = num_classes * class_dims + shared_dims
    encoder = rows_of(linear_encoder(mean=z_dim, logvar=z_dim, logits=num_classes))
    decoder = rows_of(linear_decoder(z_dim + num_classes * arguments.get("class_bias", True)))
    return NVAE(encoder, decoder, num_classes, class_dims, shared_dims, **arguments)


def head(model, name):
    return model.encoder.get_layer(name).kernel


def batch(labels=ONE_HOT):
    return {"labeled": IMAGES, "labels": labels}


def noise_of(epsilon):
    return {"epsilon_labeled": epsilon, "dropout": np.int32(0)}


EPSILON = RNG.normal(size=(N, Z)).astype("float32")


def terms_of(model, labels=ONE_HOT, epsilon=EPSILON):
    given = model.step_losses(batch(labels), noise_of(epsilon), 0)
    return {name: ops.convert_to_numpy(values).astype("float64") for name, values in given.items()}


# Masks and gradients


def test_the_terms_are_those_of_equation_7():
    model = make(beta_c=1.7)
    given = terms_of(model)
    mean, logvar, logits = (
        ops.convert_to_numpy(head(model, n)).astype("float64") for n in ("mean", "logvar", "logits")
    )
    z = mean + np.exp(0.5 * logvar) * EPSILON
    of_class = z[:, : L * D_C].reshape(N, L, D_C) * ONE_HOT[:, :, None]
    seen = np.concatenate([ONE_HOT, of_class.reshape(N, -1), z[:, L * D_C :]], axis=1)
    kernel, bias = (ops.convert_to_numpy(each) for each in model.decoder.weights)
    x, p = np.eye(N), special.expit(seen @ kernel + bias)
    expected = {"reconstruction": -(special.xlogy(x, p) + special.xlogy(1 - x, 1 - p)).sum(axis=1)}
    kl = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1)
    expected |= {"kl_c": kl[:, : L * D_C].sum(axis=1), "kl_s": kl[:, L * D_C :].sum(axis=1)}
    expected["cross_entropy"] = -np.log(special.softmax(logits, axis=1)[np.arange(N), LABELS])
    for name, values in expected.items():
        np.testing.assert_allclose(given[name], values, rtol=2e-5, err_msg=name)
    weights = {"reconstruction": 1.0, "kl_s": 1.0, "kl_c": 1.7, "cross_entropy": 1.0}
    total = sum(weight * expected[name].mean() for name, weight in weights.items())
    np.testing.assert_allclose(given["total"], total, rtol=1e-5)


def of_other_classes():
    """Where the variables of other classes than that of each image are, `(N, Z)`."""
    others = np.repeat(1 - ONE_HOT, D_C, axis=1)
    return np.concatenate([others, np.zeros((N, D_S))], axis=1).astype(bool)


def test_the_noise_of_other_classes_does_not_reach_the_reconstruction():
    model, masked = make(), of_other_classes()
    changed = np.where(masked, EPSILON + 3.0, EPSILON).astype("float32")
    own = np.where(masked, EPSILON, EPSILON + 3.0).astype("float32")
    expected = terms_of(model)["reconstruction"]
    np.testing.assert_array_equal(terms_of(model, epsilon=changed)["reconstruction"], expected)
    assert np.abs(terms_of(model, epsilon=own)["reconstruction"] - expected).min() > 1e-3


def test_the_gradients_of_other_classes_are_those_of_the_divergence_alone(differentiate):
    model, masked = make(beta_c=1.7), of_other_classes()
    variables = [head(model, "mean"), head(model, "logvar")]
    mean, logvar = map(ops.convert_to_numpy, variables)

    def total(epsilon):
        return model.step_losses(batch(), noise_of(epsilon), 0)["total"]

    _, (_, by_mean, by_logvar) = differentiate(total, [EPSILON], variables)
    np.testing.assert_allclose(by_mean[masked], 1.7 * mean[masked] / N, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(by_logvar[masked], 1.7 * (np.exp(logvar) - 1)[masked] / (2 * N), rtol=1e-5, atol=1e-7)
    assert np.abs(by_mean[~masked] - 1.7 * mean[~masked] / N).min() > 1e-5


def test_the_classifier_has_the_gradient_of_the_cross_entropy_alone(differentiate):
    model = make()
    logits = head(model, "logits")

    def total(epsilon):
        return model.step_losses(batch(), noise_of(epsilon), 0)["total"]

    _, (_, gradient) = differentiate(total, [EPSILON], [logits])
    expected = (special.softmax(ops.convert_to_numpy(logits), axis=1) - ONE_HOT) / N
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("bias", [True, False])
def test_the_first_layer_has_a_row_and_a_block_of_each_class(bias):
    model = make(class_bias=bias)
    z = RNG.normal(size=(N, Z)).astype("float32")
    kernel, offset = (ops.convert_to_numpy(each) for each in model.decoder.weights)
    rows, blocks, shared = np.split(kernel, [L * bias, L * bias + L * D_C])
    expected = np.stack([
        offset + (rows[y] if bias else 0) + z[i, y * D_C : (y + 1) * D_C] @ blocks[y * D_C : (y + 1) * D_C]
        + z[i, L * D_C :] @ shared
        for i, y in enumerate(LABELS)
    ])  # fmt: skip
    latent = np.concatenate([ONE_HOT, z], axis=1)
    given = special.logit((ops.convert_to_numpy(model.decode(latent)).reshape(N, -1).astype("float64") + 1) / 2)
    np.testing.assert_allclose(given, expected, atol=1e-4)


# Special cases


def test_of_one_class_it_is_a_vae_with_two_weights():
    model = make(num_classes=1, beta_c=1.7)
    kernel, bias = model.decoder.weights
    decoder = linear_decoder(D_C + D_S)
    decoder.set_weights([kernel[1:], kernel[0] + bias])  # the label is always 1
    encoder = keras.Model(model.encoder.input, model.encoder.outputs[:2])
    vae = BetaVAE(encoder, decoder, StandardNormal(D_C + D_S), beta=1.0)
    epsilon = EPSILON[:, : D_C + D_S]
    given = terms_of(model, np.ones((N, 1), "float32"), epsilon)
    expected = vae.step_losses({"unlabeled": IMAGES}, {"epsilon": epsilon, "dropout": np.int32(0)}, 0)
    np.testing.assert_allclose(given["reconstruction"], expected["reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(given["kl_c"] + given["kl_s"], expected["kl"], rtol=1e-5)
    np.testing.assert_array_equal(given["cross_entropy"], 0.0)
    np.testing.assert_allclose(given["total"], float(expected["total"]) + 0.7 * given["kl_c"].mean(), rtol=1e-5)


def test_without_variables_of_classes_it_is_a_cvae_whose_encoder_does_not_see_the_label():
    model = make(class_dims=0)
    label = keras.Input((L,))
    image = keras.Input(SHAPE)
    encoder = keras.Model([image, label], model.encoder(image)[:2])
    z = keras.Input((D_S + L,))  # CVAE's decoder takes z first
    decoder = keras.Model(z, model.decoder(layers.Concatenate()([z[:, D_S:], z[:, :D_S]])))
    cvae = CVAE(encoder, decoder, L, D_S)
    epsilon = EPSILON[:, :D_S]
    given, expected = terms_of(model, epsilon=epsilon), terms_of(cvae, epsilon=epsilon)
    np.testing.assert_allclose(given["reconstruction"], expected["reconstruction"], rtol=1e-5)
    np.testing.assert_array_equal(given["kl_c"], 0.0)
    np.testing.assert_allclose(given["total"], expected["total"] + given["cross_entropy"].mean(), rtol=1e-5)


def test_other_names_of_the_classes_make_the_same_loss():
    model, names = make(), np.array([2, 0, 1])  # class k is called names[k]
    before = terms_of(model)
    old = np.argsort(names)  # the class that name k stands for
    variables = np.concatenate([(old[:, None] * D_C + np.arange(D_C)).ravel(), np.arange(L * D_C, Z)])
    for name, order in (("mean", variables), ("logvar", variables), ("logits", old)):
        head(model, name).assign(ops.convert_to_numpy(head(model, name))[:, order])
    kernel = model.decoder.weights[0]
    kernel.assign(ops.convert_to_numpy(kernel)[np.concatenate([old, L + variables])])
    renamed = terms_of(model, ONE_HOT[:, old], EPSILON[:, variables])
    for name, values in before.items():
        np.testing.assert_allclose(renamed[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert abs(terms_of(model)["total"] - before["total"]) > 1e-3


# What it learns


def trained(class_bias):
    """On images of two classes that differ in nothing but their class and a brightness that both have."""
    rng, labels = np.random.default_rng(0), np.arange(64) % 2
    patterns = np.array([[1, 1, -1, -1], [-1, -1, 1, 1]]).reshape(2, 2, 2, 1)
    images = (patterns[labels] * rng.uniform(0.5, 1, (64, 1, 1, 1))).astype("float32")
    networks_of = {"filters": (), "hidden": (16,)}
    encoder = networks.class_encoder((2, 2, 1), 2, 3, **networks_of)
    decoder = networks.decoder((2, 2, 1), 3 + 2 * class_bias, **networks_of)
    model = small.with_weights(NVAE(encoder, decoder, 2, 1, 1, class_bias=class_bias), 3)
    model.compile(Adam(2e-2))
    batches = data.semi_supervised(
        (images, labels), None, num_classes=2, labeled_batch_size=64, steps_per_epoch=150, seed=1
    )
    model.fit(batches, epochs=1, verbose=0)
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["error"] == 0
    posterior = {name: ops.convert_to_numpy(values) for name, values in model.posterior(images).items()}
    mean, logvar = posterior["z_c_mean"], posterior["z_c_logvar"]
    kl = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1)
    own = np.eye(2, dtype=bool)[labels]
    return kl[own].mean(), kl[~own].mean()


def test_the_bias_of_the_class_spares_its_variables_from_telling_it():
    (own, other), (own_without, other_without) = trained(True), trained(False)
    assert own < 0.1
    assert own_without > 3 * max(own, other_without)
    assert max(other, other_without) < 0.1


# Batches


def test_without_the_term_of_unlabelled_images_they_are_refused():
    for model in (make(), CVAE(num_classes=L)):
        model.compile(Adam(1e-3))
        images = np.zeros((4, *model.image_shape), "float32") - 1
        both = {"labeled": images, "unlabeled": images}
        for x, y in ((both, ONE_HOT[:4]), (images, None), ({"unlabeled": images}, None)):
            with pytest.raises(
                ValueError, match=r"holds images without labels, on which \w*VAE does not train; it must"
            ):
                model.train_on_batch(x, y)
    with pytest.raises(ValueError, match="Or set `unlabeled_term=True`"):
        make().check_batch({"unlabeled": IMAGES}, None)


def test_the_term_of_unlabelled_images_sums_over_labels_at_one_z():
    model = make(unlabeled_term=True)
    noise = {"epsilon_unlabeled": EPSILON, "dropout": np.int32(0)}
    given = {k: ops.convert_to_numpy(v) for k, v in model.step_losses({"unlabeled": IMAGES}, noise, 0).items()}
    q = special.softmax(ops.convert_to_numpy(head(model, "logits")), axis=1)
    of_labels = np.stack([
        terms_of(model, np.tile(np.eye(L, dtype="float32")[y], (N, 1)))["reconstruction"] for y in range(L)
    ], axis=1)  # fmt: skip
    np.testing.assert_allclose(given["reconstruction"], (q * of_labels).sum(axis=1), rtol=1e-5)
    np.testing.assert_allclose(given["kl_y"], (q * np.log(L * q)).sum(axis=1), rtol=1e-4, atol=1e-6)
    assert "cross_entropy" not in given
    labelled = terms_of(model)
    np.testing.assert_allclose(labelled["kl_y"], np.log(L), rtol=1e-6)
    # In a batch of both, each image has the terms that it has alone.
    noise |= noise_of(EPSILON[::-1])
    both = model.step_losses({**batch(), "unlabeled": IMAGES}, noise, 0)
    alone = terms_of(model, epsilon=EPSILON[::-1])
    for name in ("reconstruction", "kl_s", "kl_c", "kl_y"):
        np.testing.assert_allclose(both[name], np.concatenate([alone[name], given[name]]), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(both["cross_entropy"], alone["cross_entropy"], rtol=1e-5)


# Mistakes


def test_dimensions_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="`class_dims` and `shared_dims` are both 0"):
        NVAE(class_dims=0, shared_dims=0)
    with pytest.raises(ValueError, match="`class_dims` is 0 and `class_bias` False, so the decoder would know nothing"):
        make(class_dims=0, class_bias=False)
    for name in ("class_bias", "unlabeled_term"):
        with pytest.raises(ValueError, match=f"`{name}` is 1; it must be True or False"):
            make(**{name: 1})


# beta-VAE and CVAE


def test_beta_vae_has_the_networks_and_the_objective_of_its_experiments():
    model = BetaVAE()
    assert model.encoder.count_params() + model.decoder.count_params() == 13_179_305
    assert isinstance(model, VAE)
    images = RNG.uniform(-1, 1, (2, 28, 28, 1)).astype("float32")
    noise = model.draw_noise({"unlabeled": images}, 0)
    assert "uniform" not in noise  # grey pixels, as they are
    terms = {name: ops.convert_to_numpy(v) for name, v in model.step_losses({"unlabeled": images}, noise, 0).items()}
    mean, logvar = (ops.convert_to_numpy(values) for values in model.posterior(images).values())
    np.testing.assert_allclose(terms["kl"], 0.5 * (mean**2 + np.exp(logvar) - logvar - 1).sum(axis=1), rtol=1e-3)
    np.testing.assert_allclose(terms["total"], (terms["reconstruction"] + 5 * terms["kl"]).mean(), rtol=1e-6)


def test_networks_for_64x64_have_one_more_layer_each():
    filters = (64, 128, 128)
    encoder, decoder = (make_network((64, 64, 1), 5, filters) for make_network in (networks.encoder, networks.decoder))
    assert encoder.output_shape == [(None, 5), (None, 5)]
    assert decoder.output_shape == (None, 64, 64, 1)
    with pytest.raises(ValueError, match=r"`image_shape` is \(28, 28, 1\) .*must be multiples of 8"):
        networks.encoder((28, 28, 1), 5, filters)


def test_cvae_classifies_by_its_bounds_and_trains_on_labels_alone():
    encoder = rows_of(linear_encoder(2, mean=D_S, logvar=D_S))
    model = CVAE(encoder, rows_of(linear_decoder(D_S + L)), L, D_S, class_priors=[(0.5, 0.3, 0.2)], beta=0.5)
    zero, bounds = np.zeros((N, D_S), "float32"), []
    for y in range(L):
        terms = terms_of(model, np.tile(np.eye(L, dtype="float32")[y], (N, 1)), zero)
        bounds.append(-terms["reconstruction"] - terms["kl_z"])
        np.testing.assert_allclose(terms["total"], (terms["reconstruction"] + 0.5 * terms["kl_z"]).mean(), rtol=1e-6)
    expected = special.softmax(np.log([0.5, 0.3, 0.2]) + np.stack(bounds, axis=1), axis=1)
    np.testing.assert_allclose(model.classify(IMAGES), expected, rtol=1e-4, atol=1e-6)
