"""M1 and M2: their terms and objective, against definitions, enumeration and quadrature."""

import keras
import numpy as np
import pytest
from contract import asking, registry, small
from keras import layers, ops
from scipy import special, stats

from keras_ssvae import data, evaluation
from keras_ssvae.likelihoods import Gaussian
from keras_ssvae.models import M1, M2
from keras_ssvae.noise import Stream
from keras_ssvae.optimizers import Adam

SHAPE, K = (2, 2, 1), 3
RNG = np.random.default_rng(5)
EVERY = (2.0 * np.array(list(np.ndindex(2, 2, 2, 2))) - 1).reshape(16, *SHAPE).astype("float32")  # all binary images
WITHOUT = {"alpha": 0.0, "weight_prior": 0.0}


def dense(units, name, **kwargs):
    given = {"kernel_initializer": "zeros", "bias_initializer": "zeros", **kwargs}
    return layers.Dense(units, name=name, **given)


def networks(hidden=True):
    """M2's for binary images, K = 3 and one latent dimension; linear ones without a hidden layer."""
    x, y, z = keras.Input(SHAPE), keras.Input((K,)), keras.Input((1 + K,))
    flat = layers.Flatten()(x)
    h = layers.Add()([dense(4, "by_x")(flat), dense(4, "by_y", use_bias=False)(y)])
    h = layers.Activation("softplus" if hidden else "linear")(h)
    encoder = keras.Model([x, y], [dense(1, "mean")(h), dense(1, "logvar")(h)], name="encoder")
    h = dense(4, "hidden", activation="softplus")(z) if hidden else z
    decoder = keras.Model(z, layers.Reshape(SHAPE)(dense(4, "pixels")(h)), name="decoder")
    return encoder, decoder, keras.Model(x, dense(K, "logits")(flat), name="classifier")


def tiny(hidden=True, scale=0.8, **arguments):
    model = M2(*networks(hidden), num_classes=K, z_dim=1, **{**WITHOUT, **arguments})
    rng = np.random.default_rng(3)
    for weight in model.trainable_weights:
        weight.assign(rng.normal(scale=scale, size=weight.shape))
    return model


def nodes_of(number):
    """Nodes and weights of the expectation of a standard normal."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(number)
    return nodes.astype("float32"), weights / weights.sum()


def as_float64(terms):
    return {name: value.astype("float64") for name, value in asking.to_numpy(terms).items()}


def bounds(model, images, number=24):
    """L `(N, K)` and U `(N,)` of each image by quadrature: the model's own terms, at the nodes as its noise."""
    nodes, weights = nodes_of(number)
    n = len(images)

    def mean(terms):
        rows = terms["reconstruction"] + terms["kl_z"] + terms["kl_y"]
        return -rows.reshape(-1, number) @ weights

    noise = {"dropout": np.int32(0)}
    x = np.repeat(images, number, axis=0)
    uniform = np.full(x.shape, 0.5, "float32")
    labelled = []
    for k in range(K):
        batch = {"labeled": x, "labels": np.eye(K, dtype="float32")[np.full(len(x), k)]}
        given = {**noise, "epsilon_labeled": np.tile(nodes, n)[:, None], "uniform_labeled": uniform}
        labelled.append(mean(as_float64(model.step_losses(batch, given, 0))))
    epsilon = np.repeat(np.tile(nodes, n)[:, None, None], K, axis=1)
    given = {**noise, "epsilon_unlabeled": epsilon, "uniform_unlabeled": uniform}
    return np.stack(labelled, axis=1), mean(as_float64(model.step_losses({"unlabeled": x}, given, 0)))


def log_joint(model, images, number=60):
    """`ln p(x, y)`, `(N, K)`, of binary images by quadrature over the prior, in float64."""
    nodes, weights = nodes_of(number)
    result = []
    for k in range(K):
        z = np.concatenate([nodes[:, None], np.eye(K)[np.full(number, k)]], axis=1)
        p = special.expit(ops.convert_to_numpy(model.decoder(z)).astype("float64"))
        log_p = stats.bernoulli.logpmf(images[:, None] > 0, p).sum(axis=(2, 3, 4))
        prior = model.class_priors[0][k]
        result.append(special.logsumexp(log_p, b=weights, axis=1) + np.log(prior))
    return np.stack(result, axis=1)


# 1. Enumeration and quadrature


@pytest.mark.parametrize("class_priors", [None, [(0.5, 0.3, 0.2)]])
def test_the_bounds_are_below_the_probabilities_of_all_images(class_priors):
    model = tiny(class_priors=class_priors)
    joint = log_joint(model, EVERY)
    np.testing.assert_allclose(np.exp(joint).sum(), 1.0, rtol=1e-6)
    labelled, unlabelled = bounds(model, EVERY)
    below, below_all = joint - labelled, special.logsumexp(joint, axis=1) - unlabelled
    assert below.min() > -1e-5
    assert below_all.min() > -1e-5
    assert 0.01 < below.mean() < 5
    assert below_all.mean() > 0.01


# 2. The bound of an image without a label


def test_the_unlabelled_bound_is_that_of_the_best_classifier_less_a_divergence():
    model = tiny()
    labelled, unlabelled = bounds(model, EVERY)
    q = ops.convert_to_numpy(model.classify(EVERY)).astype("float64")
    divergence = np.sum(q * (np.log(q) - special.log_softmax(labelled, axis=1)), axis=1)
    np.testing.assert_allclose(unlabelled, special.logsumexp(labelled, axis=1) - divergence, rtol=1e-5)
    assert divergence.max() > 0.1


def test_its_gradient_by_the_logits_is_what_the_formula_says(differentiate):
    model = tiny()
    model.classifier.get_layer("logits").kernel.assign(np.zeros((4, K)))
    image = EVERY[5:6]
    labels, epsilon = np.eye(K, dtype="float32"), RNG.normal(size=(1, K, 1)).astype("float32")
    noise = {"dropout": np.int32(0), "uniform_unlabeled": np.full((1, *SHAPE), 0.5, "float32")}
    noise |= {"uniform_labeled": np.full((K, *SHAPE), 0.5, "float32")}
    noise |= {"epsilon_unlabeled": epsilon, "epsilon_labeled": epsilon[0]}
    terms = as_float64(model.step_losses({"labeled": np.repeat(image, K, axis=0), "labels": labels}, noise, 0))
    bound = -(terms["reconstruction"] + terms["kl_z"] + terms["kl_y"])
    q = ops.convert_to_numpy(model.classify(image))[0].astype("float64")
    u = np.sum(q * (bound - np.log(q)))
    bias = model.classifier.get_layer("logits").bias

    def minus_u():
        return model.step_losses({"unlabeled": image}, noise, 0)["total"]

    value, (gradient,) = differentiate(minus_u, [], [bias])
    np.testing.assert_allclose(value, -u, rtol=1e-5)
    np.testing.assert_allclose(-gradient, q * (bound - np.log(q) - u), rtol=1e-4, atol=1e-6)
    assert np.abs(gradient).max() > 0.01


@pytest.mark.parametrize("k", range(K))
def test_where_the_classifier_is_certain_it_is_the_labelled_bound(k):
    model = tiny()
    model.classifier.get_layer("logits").bias.assign(400.0 * np.eye(K)[k])
    labelled, unlabelled = bounds(model, EVERY)
    np.testing.assert_allclose(unlabelled, labelled[:, k], rtol=1e-6)


def test_without_label_kernels_it_is_m1():
    model = tiny()
    model.encoder.get_layer("by_y").kernel.assign(np.zeros((K, 4)))
    kernel = ops.convert_to_numpy(model.decoder.get_layer("hidden").kernel).copy()
    kernel[1:] = 0.0
    model.decoder.get_layer("hidden").kernel.assign(kernel)
    for weight in model.classifier.weights:
        weight.assign(np.zeros(weight.shape))  # the best there is: no image tells its label
    x, z = keras.Input(SHAPE), keras.Input((1,))
    h = dense(4, "by_x", activation="softplus")(layers.Flatten()(x))
    encoder = keras.Model(x, [dense(1, "mean")(h), dense(1, "logvar")(h)])
    decoder = keras.Model(z, layers.Reshape(SHAPE)(dense(4, "pixels")(dense(4, "hidden", activation="softplus")(z))))
    m1 = M1(encoder, decoder, z_dim=1, weight_prior=0.0)
    of_networks = [
        (m1.encoder, model.encoder, ("by_x", "mean", "logvar")),
        (m1.decoder, model.decoder, ("hidden", "pixels")),
    ]
    for ours, theirs, names in of_networks:
        for name in names:
            weights = theirs.get_layer(name).get_weights()
            ours.get_layer(name).set_weights([weights[0][:1], weights[1]] if name == "hidden" else weights)
    nodes, weights = nodes_of(24)
    x = np.repeat(EVERY, 24, axis=0)
    noise = {
        "dropout": np.int32(0),
        "epsilon": np.tile(nodes, 16)[:, None],
        "uniform": np.full(x.shape, 0.5, "float32"),
    }
    terms = as_float64(m1.step_losses({"unlabeled": x}, noise, 0))
    bound = -(terms["reconstruction"] + terms["kl"]).reshape(-1, 24) @ weights
    labelled, unlabelled = bounds(model, EVERY)
    np.testing.assert_allclose(labelled, np.repeat(bound[:, None] - np.log(K), K, axis=1), rtol=1e-5)
    np.testing.assert_allclose(unlabelled, bound, rtol=1e-5)


# 3. A linear Gaussian decoder, whose posterior is known


def test_with_the_exact_posterior_the_bounds_are_the_likelihoods():
    variance, prior = 0.3, np.array([0.5, 0.3, 0.2])
    model = tiny(hidden=False, likelihood=Gaussian(variance), binarize=False, class_priors=[prior])
    w, centres = RNG.normal(size=4), RNG.normal(size=(K, 4))
    model.decoder.get_layer("pixels").set_weights([np.vstack([w, centres]), np.zeros(4)])
    precision = 1 + w @ w / variance
    projection = w / variance / precision
    # Networks see 0.5 (x + 1). The first of four hidden units is the posterior's mean.
    kernel = np.zeros((4, 4))
    kernel[:, 0] = 2 * projection
    model.encoder.get_layer("by_x").set_weights([kernel, np.zeros(4)])
    by_label = np.zeros((K, 4))
    by_label[:, 0] = -(1 + centres) @ projection
    model.encoder.get_layer("by_y").set_weights([by_label])
    model.encoder.get_layer("mean").set_weights([np.eye(4)[:, :1], np.zeros(1)])
    model.encoder.get_layer("logvar").set_weights([np.zeros((4, 1)), np.array([-np.log(precision)])])
    inverse = np.linalg.inv(np.outer(w, w) + variance * np.eye(4))
    logits = -0.5 * np.einsum("ki,ij,kj->k", centres, inverse, centres) + np.log(prior)
    of_x = inverse @ centres.T
    model.classifier.get_layer("logits").set_weights([2 * of_x, logits - of_x.sum(axis=0)])
    images = RNG.uniform(-1, 1, (5, *SHAPE)).astype("float32")
    covariance = np.outer(w, w) + variance * np.eye(4)
    joint = np.stack(
        [
            stats.multivariate_normal.logpdf(images.reshape(5, 4), centre, covariance) + np.log(p)
            for centre, p in zip(centres, prior, strict=True)
        ],
        axis=1,
    )
    labelled, unlabelled = bounds(model, images, number=3)  # of a square three nodes are exact
    np.testing.assert_allclose(labelled, joint, rtol=1e-5)
    np.testing.assert_allclose(unlabelled, special.logsumexp(joint, axis=1), rtol=1e-5)


# The terms of a step


def one_by_one(model, batch, noise):
    """The terms of each image: a loop over images and labels, each by itself."""
    eye = np.eye(K, dtype="float32")

    def row(image, y, epsilon):
        mean, logvar = (ops.convert_to_numpy(v)[0] for v in model.encoder([0.5 * (image[None] + 1), y[None]]))
        z = mean + np.exp(0.5 * logvar) * epsilon
        p = special.expit(ops.convert_to_numpy(model.decoder(np.concatenate([z, y])[None])).astype("float64"))
        log_p = stats.bernoulli.logpmf(image[None] > 0, p).sum()
        return -log_p, 0.5 * np.sum(mean**2 + np.exp(logvar) - logvar - 1)

    (prior,) = model.class_priors
    terms = {name: [] for name in ("reconstruction", "kl_z", "kl_y", "cross_entropy")}

    def log_q(image):
        return special.log_softmax(ops.convert_to_numpy(model.classifier(0.5 * (image[None] + 1)))[0].astype("float64"))

    for image, y, epsilon in zip(batch["labeled"], batch["labels"], noise["epsilon_labeled"], strict=True):
        reconstruction, kl = row(image, y, epsilon)
        values = {"reconstruction": reconstruction, "kl_z": kl, "kl_y": -np.log(prior[y.argmax()])}
        for name, value in {**values, "cross_entropy": -log_q(image)[y.argmax()]}.items():
            terms[name].append(value)
    for image, epsilon in zip(batch["unlabeled"], noise["epsilon_unlabeled"], strict=True):
        q = np.exp(log_q(image))
        rows = [row(image, eye[k], epsilon[k]) for k in range(K)]
        terms["reconstruction"].append(sum(q[k] * rows[k][0] for k in range(K)))
        terms["kl_z"].append(sum(q[k] * rows[k][1] for k in range(K)))
        terms["kl_y"].append(np.sum(q * (np.log(q) - np.log(prior))))
    return {name: np.array(values) for name, values in terms.items()}


def small_batch():
    labels = np.eye(K, dtype="float32")[[2, 0]]
    return {"labeled": EVERY[[3, 9]], "labels": labels, "unlabeled": EVERY[[1, 5, 6, 12, 14, 15]]}


@pytest.mark.parametrize("class_priors", [None, [(0.5, 0.3, 0.2)]])
def test_one_pass_for_all_labels_gives_what_a_loop_over_them_gives(class_priors):
    model, batch = tiny(class_priors=class_priors, alpha=0.7, weight_prior=0.01), small_batch()
    noise = asking.to_numpy(model.draw_noise(batch, 3))
    terms, expected = as_float64(model.step_losses(batch, noise, 3)), one_by_one(model, batch, noise)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    weights = [weight for weight in model.trainable_weights if weight.name == "kernel" or "logits" in weight.path]
    assert len(weights) == 4 + 2 + 2
    log_prior = sum(stats.norm.logpdf(ops.convert_to_numpy(weight)).sum() for weight in weights)
    np.testing.assert_allclose(terms["weight_prior"], np.full(8, -log_prior), rtol=1e-5)
    bound = np.mean(expected["reconstruction"] + expected["kl_z"] + expected["kl_y"])
    total = bound + 0.7 * np.mean(expected["cross_entropy"]) - 0.01 * log_prior
    np.testing.assert_allclose(terms["total"], total, rtol=1e-5)


def test_the_mean_over_an_epoch_in_proportion_is_the_papers_objective_for_each_image():
    n_labelled, n, alpha = 2, 8, 0.1
    model, batch = tiny(alpha=alpha, weight_prior=1 / n), small_batch()
    noise = asking.to_numpy(model.draw_noise(batch, 0))
    terms = one_by_one(model, batch, noise)
    bound = terms["reconstruction"] + terms["kl_z"] + terms["kl_y"]
    a = alpha * n / n_labelled
    log_prior = -float(as_float64(model.step_losses(batch, noise, 0))["weight_prior"][0])
    objective = -np.sum(bound) - a * np.sum(terms["cross_entropy"]) + log_prior
    totals = []
    for labelled, unlabelled in ((slice(0, 1), slice(0, 3)), (slice(1, 2), slice(3, 6))):
        cut = {"labeled": labelled, "labels": labelled, "unlabeled": unlabelled}
        part = {name: values[cut[name]] for name, values in batch.items()}
        of_part = {name: values[cut[name.split("_")[-1]]] for name, values in noise.items() if name != "dropout"}
        totals.append(float(model.step_losses(part, {**of_part, "dropout": noise["dropout"]}, 0)["total"]))
    np.testing.assert_allclose(np.mean(totals), -objective / n, rtol=1e-5)


def test_the_prior_draws_the_weights_to_0_with_its_weight(differentiate):
    model, batch = tiny(weight_prior=0.25), small_batch()
    noise = model.draw_noise(batch, 0)
    variables = model.trainable_variables

    def gradients():
        return differentiate(lambda: model.step_losses(batch, noise, 0)["total"], [], variables)[1]

    with_prior = gradients()
    model.weight_prior = 0.0
    held = 0
    for variable, gradient, without in zip(variables, with_prior, gradients(), strict=True):
        has_prior = variable.name == "kernel" or "logits" in variable.path
        expected = 0.25 * ops.convert_to_numpy(variable) if has_prior else np.zeros(variable.shape)
        np.testing.assert_allclose(gradient - without, expected, atol=1e-5, err_msg=variable.path)
        held += has_prior
    assert held == 8
    model.classifier.trainable = False
    terms = as_float64(model.step_losses(batch, noise, 0))
    kernels = [weight for weight in model.trainable_weights if weight.name == "kernel"]
    log_prior = sum(stats.norm.logpdf(ops.convert_to_numpy(weight)).sum() for weight in kernels)
    np.testing.assert_allclose(terms["weight_prior"], -log_prior, rtol=1e-5)


def test_grey_pixels_are_drawn_and_each_step_has_its_own():
    model, plain = tiny(), tiny(binarize=False)
    grey = RNG.uniform(-1, 1, (6, *SHAPE)).astype("float32")
    batch = {"labeled": grey[:2], "labels": small_batch()["labels"], "unlabeled": grey[2:]}
    noise, other = (asking.to_numpy(model.draw_noise(batch, step)) for step in (0, 1))
    assert set(plain.draw_noise(batch, 0)) == {"dropout", "epsilon_labeled", "epsilon_unlabeled"}
    drawn = {
        part: np.where(noise[f"uniform_{part}"] < 0.5 * (batch[part] + 1), 1.0, -1.0).astype("float32")
        for part in ("labeled", "unlabeled")
    }
    terms = as_float64(model.step_losses(batch, noise, 0))
    expected = as_float64(plain.step_losses({**batch, **drawn}, noise, 0))
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-6, err_msg=name)
    for name in ("uniform_labeled", "uniform_unlabeled", "epsilon_unlabeled"):
        assert (noise[name] != other[name]).mean() > 0.9
    assert len(np.unique(noise["epsilon_unlabeled"])) == 4 * K  # each label has its own


@pytest.mark.parametrize("part", ["labeled", "unlabeled"])
def test_either_part_may_be_missing(part):
    model, batch = tiny(alpha=0.7, weight_prior=0.01), small_batch()
    noise = model.draw_noise(batch, 0)
    whole = as_float64(model.step_losses(batch, noise, 0))
    rows = slice(None, 2) if part == "labeled" else slice(2, None)
    alone = {part: batch[part]} | ({"labels": batch["labels"]} if part == "labeled" else {})
    terms = as_float64(model.step_losses(alone, noise, 0))
    for name in ("reconstruction", "kl_z", "kl_y"):
        np.testing.assert_allclose(terms[name], whole[name][rows], rtol=1e-5, err_msg=name)
    assert ("cross_entropy" in terms) == (part == "labeled")
    bound = np.mean(terms["reconstruction"] + terms["kl_z"] + terms["kl_y"]) + 0.01 * terms["weight_prior"][0]
    classifier = 0.7 * np.mean(terms["cross_entropy"]) if part == "labeled" else 0.0
    np.testing.assert_allclose(terms["total"], bound + classifier, rtol=1e-5)


def test_images_without_labels_know_nothing_of_the_labels_of_others():
    model, batch = tiny(), small_batch()
    noise = model.draw_noise(batch, 0)
    first, other = (
        as_float64(model.step_losses({**batch, "labels": labels}, noise, 0))
        for labels in (batch["labels"], batch["labels"][::-1].copy())
    )
    for name in ("reconstruction", "kl_z", "kl_y"):
        np.testing.assert_array_equal(first[name][2:], other[name][2:])
    assert np.abs(first["reconstruction"][:2] - other["reconstruction"][:2]).max() > 1e-3


def test_labelled_and_unlabelled_batches_may_alternate():
    model = tiny()
    model.compile(Adam(1e-2))
    labels = np.arange(6) % K
    batches = data.semi_supervised(
        (EVERY[:6], labels),
        EVERY[6:],
        num_classes=K,
        labeled_batch_size=3,
        unlabeled_batch_size=5,
        rhythm=(1, 2),
        steps_per_epoch=6,
        seed=1,
    )
    logs = model.fit(batches, epochs=3, verbose=0).history
    assert set(logs) == {"loss", *model.training_terms}
    assert np.isfinite(list(logs.values())).all()


# Use


def test_validation_is_the_unlabelled_bound_with_noise_of_each_images_own():
    model = tiny(alpha=5.0, weight_prior=1.0)
    model.compile(Adam(1e-2))
    images = RNG.uniform(-1, 1, (2000, *SHAPE)).astype("float32")
    terms = as_float64(model.evaluation_terms(images, None))
    backwards = as_float64(model.evaluation_terms(images[::-1].copy(), None))
    for name, value in terms.items():
        np.testing.assert_allclose(backwards[name][::-1], value, rtol=1e-5, err_msg=name)
    logs = model.evaluate(images, np.zeros(2000, int), batch_size=500, verbose=0, return_dict=True)
    sampled = np.mean(terms["reconstruction"] + terms["kl_z"] + terms["kl_y"])
    np.testing.assert_allclose(logs["loss"], sampled, rtol=1e-5)
    plain = tiny(binarize=False)
    _, unlabelled = bounds(plain, images)  # exact
    np.testing.assert_allclose(sampled, -unlabelled.mean(), atol=0.05)


def test_verbs_take_the_most_probable_label_and_decode_a_given_one():
    model = tiny()
    posterior = asking.to_numpy(model.posterior(EVERY))
    assert posterior["z_mean"].shape == posterior["z_logvar"].shape == (16, K, 1)
    latent = ops.convert_to_numpy(model.encode(EVERY))
    best = posterior["probs"].argmax(axis=1)
    assert len(np.unique(best)) > 1
    np.testing.assert_array_equal(latent[:, 1:], np.eye(K)[best])
    np.testing.assert_allclose(latent[:, :1], posterior["z_mean"][np.arange(16), best], rtol=1e-5)
    z = ops.convert_to_numpy(model.sample_latent(np.array([2, 0]), 3))
    np.testing.assert_array_equal(z[:, 1:], np.eye(K)[[2, 0]])
    many = ops.convert_to_numpy(model.sample_latent(np.zeros(4000, int), 3))[:, 0]
    np.testing.assert_allclose([many.mean(), many.std()], [0, 1], atol=0.06)


def test_a_draw_of_the_posterior_has_the_label_of_its_z():
    model = tiny()
    model.encoder.get_layer("logvar").set_weights([np.zeros((4, 1)), np.array([-40.0])])
    model.encoder.get_layer("mean").kernel.assign(np.ones((4, 1)))
    model.encoder.get_layer("by_y").kernel.assign(np.repeat([[9.0], [-1.0], [2.0]], 4, axis=1))
    image = np.repeat(EVERY[5:6], 3000, axis=0)
    drawn = evaluation.inputs.sample_posterior(model, image, seed=1)
    posterior = asking.to_numpy(model.posterior(EVERY[5:6]))
    label = drawn[:, 1:].argmax(axis=1)
    np.testing.assert_allclose(drawn[:, 0], posterior["z_mean"][0, label, 0], atol=1e-4)
    np.testing.assert_allclose(np.bincount(label, minlength=K) / 3000, posterior["probs"][0], atol=0.04)


def test_importance_weights_estimate_the_probability_and_their_logarithms_the_bound():
    model = tiny(scale=0.5, class_priors=[(0.5, 0.3, 0.2)])
    # Wider than the prior, so that no weight is too large.
    model.encoder.get_layer("logvar").set_weights([np.zeros((4, 1)), np.array([0.5])])
    samples = 8000
    noise = model.posterior_noise(16, samples, Stream(1, 0))
    log_weights = ops.convert_to_numpy(model.log_weights(EVERY, noise)).astype("float64")
    expected = special.logsumexp(log_joint(model, EVERY), axis=1)
    weights = np.exp(log_weights - expected[:, None])
    errors = weights.std(axis=1) / samples**0.5
    assert errors.max() < 0.03
    assert (np.abs(weights.mean(axis=1) - 1) < 5 * errors).all()
    _, unlabelled = bounds(model, EVERY)
    errors = log_weights.std(axis=1) / samples**0.5
    assert (np.abs(log_weights.mean(axis=1) - unlabelled) < 5 * errors).all()
    assert (expected - unlabelled).mean() > 3 * errors.max()


def test_rows_of_features_are_no_images():
    with pytest.raises(ValueError, match=r"`classifier` takes \(None, 5\); it must take images"):
        M2(classifier=small.label_classifier(shape=(5,)), num_classes=small.K)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_classes": 1}, "`num_classes` is 1. It must be an integer of at least 2"),
        ({"num_classes": (3, 2)}, r"`num_classes` is \(3, 2\). It must be an integer"),
        ({"z_dim": 0}, "`z_dim` is 0. It must be an integer of at least 1"),
        (
            {"class_priors": [[0.5, 0.5]]},
            "`class_priors` is .*; it must be one list for each label",
        ),
        (
            {"class_priors": [[0.5, 0.6, 0.0]]},
            "`class_priors` is .*; it must be one list for each label",
        ),
        ({"likelihood": Gaussian()}, "`binarize` is True with a Gaussian likelihood; binary images are"),
        ({"likelihood": "normal"}, "`likelihood` is 'normal'; it must be one of"),
    ],
)
def test_arguments_that_cannot_be_are_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        registry.m2(**arguments)


# M1


def test_m1_is_a_vae_with_a_prior_of_all_its_weights():
    model = registry.m1()
    batch = {"unlabeled": small.images(6)}
    noise = model.draw_noise(batch, 0)
    terms = as_float64(model.step_losses(batch, noise, 0))
    log_prior = sum(stats.norm.logpdf(ops.convert_to_numpy(weight)).sum() for weight in model.trainable_weights)
    assert len(model.trainable_weights) == 8
    np.testing.assert_allclose(terms["weight_prior"], np.full(6, -log_prior), rtol=1e-5)
    total = np.mean(terms["reconstruction"] + 0.7 * terms["kl"]) - 0.02 * log_prior
    np.testing.assert_allclose(terms["total"], total, rtol=1e-5)
    posterior = asking.to_numpy(model.posterior(np.where(noise["uniform"] < 0.5 * (batch["unlabeled"] + 1), 1.0, -1.0)))
    mean, logvar = posterior["mean"], posterior["logvar"]
    np.testing.assert_allclose(terms["kl"], 0.5 * np.sum(mean**2 + np.exp(logvar) - logvar - 1, axis=1), rtol=1e-4)


def test_active_dimensions_are_those_whose_means_differ_between_images():
    model = registry.m1()
    head = model.encoder.get_layer("mean")
    images = small.images(40)
    scale = ops.convert_to_numpy(model.encode(images)).std(axis=0)
    kernel = ops.convert_to_numpy(head.kernel) / scale
    for factors, expected in (((1.0, 1.0), (0, 1)), ((0.05, 0.2), (1,)), ((0.11, 0.0), (0,)), ((0.09, 0.09), ())):
        head.kernel.assign(kernel * factors)
        assert model.active_dimensions(images, batch_size=7) == expected
    head.kernel.assign(kernel * (0.05, 0.2))
    assert model.active_dimensions(images, threshold=0.04) == (0, 1)
