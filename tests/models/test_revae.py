"""REVAE: its bounds by quadrature where everything can be summed, its parts by closed forms, and its own verbs."""

import keras
import numpy as np
import pytest
from contract import registry
from keras import layers, ops
from scipy import special, stats

from keras_ssvae.data import semi_supervised
from keras_ssvae.models import REVAE
from keras_ssvae.models.revae import UNLABELED, _drawn
from keras_ssvae.networks import revae as networks

SHAPE, K, NODES = (2, 2, 1), 3, 200
PRIOR = np.array([0.5, 0.3, 0.2])
# Equal weights and these nodes integrate over a standard normal.
EPSILON = stats.norm.ppf((np.arange(NODES) + 0.5) / NODES).astype("float32")[:, None]


def encoder(dims=1):
    x = keras.Input(SHAPE)
    heads = [layers.Dense(dims, name=name)(layers.Flatten()(x)) for name in ("mean", "logvar")]
    return keras.Model(x, heads, name="encoder")


def decoder(dims=1):
    z = keras.Input((dims,))
    return keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(4, activation=None)(z)), name="decoder")


def model_of(seed=3, dims=1, **arguments):
    given = {"num_classes": K, "c_dims": dims, "rest_dim": 0, "class_priors": [PRIOR], "classifier_samples": NODES}
    given["bounded_weight"] = False  # the nodes stand for the expectation
    given |= {"encoder": encoder(dims), "decoder": decoder(dims)}
    given |= arguments
    if given["num_classes"] == K:
        given = {"classifier": networks.classifier(K, dims, hidden=4), **given}
    model = REVAE(**given)
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        scale = 0.3 if "c_prior" in weight.path else 0.7
        weight.assign(rng.normal(scale=scale, size=weight.shape))
    return model


def images():
    """All 16 binary images, pixels -1 or 1."""
    bits = (np.arange(16)[:, None] >> np.arange(4)) & 1
    return (2.0 * bits - 1.0).astype("float32").reshape(16, *SHAPE)


def one_hot(k, rows=NODES):
    return np.eye(K, dtype="float32")[np.full(rows, k)]


def terms_at_nodes(model, image, k=None):
    """The terms of one image at every node, with its label or without; `q(y | x)` is the mean over the nodes too."""
    part = "unlabeled" if k is None else "labeled"
    batch = {part: np.repeat(image[None], NODES, axis=0)}
    noise = {f"epsilon_{part}": EPSILON, "dropout": np.int32(0)}
    if model.unlabeled_term == "sampled":
        noise[f"uniform_{part}"] = np.full((NODES, 1), 0.5, "float32")
    if k is not None:
        batch["labels"] = one_hot(k)
        noise["epsilon_classifier"] = np.repeat(EPSILON[None], NODES, axis=0)
    terms = model.step_losses(batch, noise, 0)
    return {name: ops.convert_to_numpy(value) for name, value in terms.items()}


@pytest.fixture(scope="module")
def model():
    return model_of()


@pytest.fixture(scope="module")
def log_joint(model):
    """`ln p(x, y)` of all images and classes, `(16, K)`, by quadrature over z."""
    means, _, logvars = map(ops.convert_to_numpy, model.c_priors[0].components())
    nodes = stats.norm.ppf((np.arange(4000) + 0.5) / 4000)
    result = np.zeros((16, K))
    pixels = (images().reshape(16, 4) + 1.0) / 2.0
    for k in range(K):
        z = means[k] + np.exp(0.5 * logvars[k]) * nodes
        logits = ops.convert_to_numpy(model.decoder(z[:, None])).reshape(-1, 4)
        log_p = pixels @ special.log_expit(logits).T + (1 - pixels) @ special.log_expit(-logits).T
        result[:, k] = special.logsumexp(log_p, axis=1) - np.log(len(nodes)) + np.log(PRIOR[k])
    assert np.exp(result).sum() == pytest.approx(1.0, abs=1e-3)
    return result


# The bounds


def test_the_labelled_bound_is_below_the_likelihood_of_image_and_label(log_joint):
    gaps, model = [], model_of(kl="sampled")
    for image, row in zip(images(), log_joint, strict=True):
        gaps += [row[k] + terms_at_nodes(model, image, k)["total"] for k in range(K)]
    assert min(gaps) > -1e-3
    assert max(gaps) > 0.05


@pytest.mark.parametrize("term", UNLABELED[:2])
def test_the_unlabelled_bound_is_below_the_likelihood_of_the_image(log_joint, term):
    model = model_of(unlabeled_term=term)
    log_p = special.logsumexp(log_joint, axis=1)
    gaps = [row + terms_at_nodes(model, image)["total"] for image, row in zip(images(), log_p, strict=True)]
    assert min(gaps) > -1e-3
    assert max(gaps) > 0.05


def test_the_importance_weight_is_one_on_average(model):
    image = images()[5]
    alone = terms_at_nodes(model, image)
    weighted = [terms_at_nodes(model, image, k)["reconstruction"] / alone["reconstruction"] for k in range(K)]
    for w in weighted:
        assert w.mean() == pytest.approx(1.0, abs=1e-4)
        assert w.std() > 0.01


def test_enumerated_is_marginal_less_the_divergence_from_the_true_posterior_of_the_label():
    image, model = images()[6], model_of(unlabeled_term="enumerated")
    marginal, enumerated = terms_at_nodes(model_of(unlabeled_term="marginal"), image), terms_at_nodes(model, image)
    z = model.encode(image[None]) + np.exp(0.5 * ops.convert_to_numpy(model.infer(image[None])[1])) * EPSILON
    log_q = ops.convert_to_numpy(model.log_q_y(model.classifier(z)))
    log_joint = ops.convert_to_numpy(model.c_priors[0].component_log_probs(z)) + np.log(PRIOR)
    log_posterior = log_joint - special.logsumexp(log_joint, axis=1, keepdims=True)
    divergence = np.sum(np.exp(log_q) * (log_q - log_posterior), axis=1)
    bounds = [given["kl_c"] + given["kl_y"] for given in (enumerated, marginal)]
    np.testing.assert_allclose(bounds[0] - bounds[1], divergence, rtol=1e-4, atol=1e-5)
    assert divergence.max() > 0.05


def test_a_sampled_label_has_the_terms_of_the_enumerated_ones_on_average():
    image, rows = images()[9], 60
    models = [model_of(unlabeled_term=term, kl="sampled") for term in ("sampled", "enumerated")]
    batch = {"unlabeled": np.repeat(image[None], NODES * rows, axis=0)}
    noise = {"epsilon_unlabeled": np.repeat(EPSILON, rows, axis=0), "dropout": np.int32(0)}
    uniform = np.tile((np.arange(rows, dtype="float32")[:, None] + 0.5) / rows, (NODES, 1))  # each at each node
    sampled = models[0].step_losses(batch, {**noise, "uniform_unlabeled": uniform}, 0)
    enumerated = models[1].step_losses(batch, noise, 0)
    for name in ("kl_c", "kl_y"):
        value, expected = (float(ops.mean(terms[name])) for terms in (sampled, enumerated))
        assert value == pytest.approx(expected, rel=2e-3), name


def test_where_z_c_decides_nothing_the_weight_is_one_and_the_bound_a_vaes(model):
    indifferent = model_of()
    indifferent.classifier.get_layer("logits").kernel.assign(np.zeros((4, K)))
    indifferent.classifier.get_layer("logits").bias.assign(np.zeros(K))
    image, k = images()[3], 1
    labelled, alone = terms_at_nodes(indifferent, image, k), terms_at_nodes(indifferent, image)
    np.testing.assert_allclose(labelled["reconstruction"], alone["reconstruction"], rtol=1e-5)
    np.testing.assert_allclose(labelled["cross_entropy"], np.log(K), rtol=1e-5)
    # log q(y | z_c) and log q(y | x) take each other away.
    np.testing.assert_allclose(labelled["kl_y"], -np.log(PRIOR[k]), rtol=1e-4)
    mean, logvar = map(ops.convert_to_numpy, indifferent.infer(image[None]))
    means, variances, _ = map(ops.convert_to_numpy, indifferent.c_priors[0].components())
    ratio = np.exp(logvar[0, 0]) / variances[k, 0]
    closed = 0.5 * (ratio - 1.0 - np.log(ratio) + (mean[0, 0] - means[k, 0]) ** 2 / variances[k, 0])
    np.testing.assert_allclose(labelled["kl_c"], closed, rtol=1e-4)


# Labels


def several(**arguments):
    given = {"num_classes": (K, 2), "c_dims": (1, 1), "class_priors": [PRIOR, (0.6, 0.4)], "dims": 2}
    return model_of(**{**given, **arguments})


@pytest.mark.parametrize("term", UNLABELED)
def test_an_image_all_of_whose_labels_are_missing_is_as_an_unlabelled_one(term):
    model = several(unlabeled_term=term)
    rng, x = np.random.default_rng(0), images()
    epsilon, uniform = rng.normal(size=(16, 2)).astype("float32"), rng.uniform(size=(16, 2)).astype("float32")
    terms = {}
    for part in ("labeled", "unlabeled"):
        noise = {f"epsilon_{part}": epsilon, f"uniform_{part}": uniform, "dropout": np.int32(0)}
        batch = {part: x}
        if part == "labeled":
            noise["epsilon_classifier"] = rng.normal(size=(16, NODES, 2)).astype("float32")
            batch["labels"] = np.zeros((16, K + 2), "float32")
        terms[part] = model.step_losses(batch, noise, 0)
    for name in ("reconstruction", "kl_c", "kl_rest", "kl_y", "total"):
        np.testing.assert_allclose(terms["labeled"][name], terms["unlabeled"][name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_missing_label_is_summed_out_and_the_known_one_kept():
    """The likelihood of the image and the known label is the sum over the other; the bound is below it."""
    model, x, nodes = several(kl="sampled"), images()[11], 60
    grid = stats.norm.ppf((np.arange(nodes) + 0.5) / nodes)
    epsilon = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2).astype("float32")
    rows, (y, known) = len(epsilon), (np.zeros((nodes**2, K + 2), "float32"), 2)
    y[:, known] = 1.0
    batch = {"labeled": np.repeat(x[None], rows, axis=0), "labels": y}
    samples = np.repeat(np.stack([EPSILON[:, 0]] * 2, axis=-1)[None], rows, axis=0)
    noise = {"epsilon_labeled": epsilon, "epsilon_classifier": samples, "dropout": np.int32(0)}
    bound = -float(model.step_losses(batch, noise, 0)["total"])
    log_p = []
    for other in range(2):
        z = np.stack(
            [
                ops.convert_to_numpy(p.means)[k, 0] + ops.convert_to_numpy(p.variances)[k, 0] ** 0.5 * epsilon[:, i]
                for i, (p, k) in enumerate(zip(model.c_priors, (known, other), strict=True))
            ],
            axis=-1,
        )
        logits = ops.convert_to_numpy(model.decoder(z.astype("float32"))).reshape(-1, 4)
        pixels = (x.ravel() + 1.0) / 2.0
        each = special.log_expit(logits) @ pixels + special.log_expit(-logits) @ (1 - pixels)
        log_p.append(special.logsumexp(each) - np.log(rows) + np.log(PRIOR[known] * (0.6, 0.4)[other]))
    likelihood = special.logsumexp(log_p)
    assert likelihood - 3.0 < bound < likelihood + 1e-3


def test_drawn_values_have_their_probabilities_and_the_last_is_drawn_below_its_own():
    uniform = ((np.arange(1000) + 0.5) / 1000).astype("float32")
    drawn = ops.convert_to_numpy(_drawn(np.tile(PRIOR.astype("float32"), (1000, 1)), uniform))
    np.testing.assert_allclose(drawn.mean(axis=0), PRIOR, atol=2e-3)
    assert drawn[:199, 2].all()


def test_learned_class_priors_follow_the_labels():
    model = model_of(class_priors="learned")
    np.testing.assert_allclose(sum(model.class_priors[0]), 1.0, rtol=1e-6)
    model.compile(keras.optimizers.SGD(1.0))
    batch = {"labeled": images(), "labels": one_hot(2, 16)}
    before = model.class_priors[0][2]
    model.replay_step(batch, model.draw_noise(batch, 0))
    assert model.class_priors[0][2] > before
    assert model.label_probs is not None


def test_the_probabilities_are_the_mean_of_the_classifiers_over_z(model):
    x = images()[:4]
    mean, logvar = map(ops.convert_to_numpy, model.infer(x))
    z = mean[:, None] + np.exp(0.5 * logvar)[:, None] * EPSILON
    logits = ops.convert_to_numpy(model.classifier(z.reshape(-1, 1)))
    expected = special.softmax(logits, axis=-1).reshape(4, NODES, K).mean(axis=1)
    np.testing.assert_allclose(model.classify(x), expected, atol=0.03)  # other samples, of which there are 200


@pytest.mark.parametrize("bounded", [True, False])
def test_the_weight_of_two_samples_has_the_mean_1_where_it_is_bounded(bounded):
    model, epsilon = model_of(classifier_samples=1, bounded_weight=bounded), np.float32([[-2.0], [0.5], [4.0]])
    batch, weights = {"labeled": images()[:3], "labels": np.eye(K, dtype="float32")[[0, 1, 2]]}, []
    mean, logvar = map(ops.convert_to_numpy, model.infer(batch["labeled"]))
    for own, other in ((epsilon, -epsilon), (-epsilon, epsilon)):
        noise = {"epsilon_labeled": own, "epsilon_classifier": other[:, None], "dropout": np.int32(0)}
        weighted = ops.convert_to_numpy(model.step_losses(batch, noise, 0)["reconstruction"])
        outputs = model.decoder(mean + np.exp(0.5 * logvar) * own)
        weights.append(weighted / -ops.convert_to_numpy(model.likelihood.log_prob(batch["labeled"], outputs)))
    if bounded:
        np.testing.assert_allclose(np.mean(weights, axis=0), 1.0, rtol=1e-5)
        assert np.max(weights) <= 2.0
    else:
        np.testing.assert_allclose(weights[0] * weights[1], 1.0, rtol=1e-5)
        assert np.max(np.mean(weights, axis=0)) > 1.05


@pytest.mark.parametrize("constant", ["numerator", "z_c"])
def test_what_is_constant_in_the_weight_decides_how_the_classifier_learns(constant, differentiate):
    model, labels = model_of(weight_constant=constant), np.array([0, 2, 1, 2])
    batch = {"labeled": images()[:4], "labels": np.eye(K, dtype="float32")[labels]}
    noise = model.draw_noise(batch, 0)
    bias = model.classifier.layers[-1].bias
    _, (gradient,) = differentiate(lambda: model.step_losses(batch, noise, 0)["total"], [], [bias])

    y, epsilon = batch["labels"], ops.convert_to_numpy(noise["epsilon_classifier"])
    mean, logvar = map(ops.convert_to_numpy, model.infer(images()[:4]))
    deviation, z = np.exp(0.5 * logvar), mean + np.exp(0.5 * logvar) * ops.convert_to_numpy(noise["epsilon_labeled"])
    q = special.softmax(ops.convert_to_numpy(model.classifier(z)), axis=-1)
    samples = mean[:, None] + deviation[:, None] * epsilon
    q_of_samples = special.softmax(ops.convert_to_numpy(model.classifier(samples.reshape(-1, 1))), axis=-1)
    q_of_samples = q_of_samples.reshape(4, NODES, K)
    of_y = np.sum(y[:, None] * q_of_samples, axis=-1)
    w = np.sum(y * q, axis=-1) / of_y.mean(axis=1)
    terms = {name: ops.convert_to_numpy(value) for name, value in model.step_losses(batch, noise, 0).items()}
    # -w A, without what does not depend on the weight.
    log_q_y, log_p_y = np.log(of_y.mean(axis=1)), np.log(PRIOR)[labels]
    weighted = terms["reconstruction"] + terms["kl_c"] + terms["kl_y"] + log_q_y + log_p_y
    # The derivative of ln q(y | z) by the bias is y - q(. | z).
    of_log_q_y = np.sum((of_y / of_y.sum(axis=1, keepdims=True))[..., None] * (y[:, None] - q_of_samples), axis=1)
    expected = w[:, None] * (y - q) - (1.0 + weighted[:, None]) * of_log_q_y
    if constant == "z_c":
        expected += weighted[:, None] * (y - q)
    np.testing.assert_allclose(gradient, expected.mean(axis=0), rtol=2e-4, atol=1e-5)


# A single labelled image of each class


def test_anchors_are_the_posteriors_of_the_last_labelled_images():
    model = model_of(mu=5.0)
    model.compile(keras.optimizers.SGD(0.0))
    labels = np.eye(K, dtype="float32")[[0, 2]]
    batch = {"labeled": images()[:2], "labels": labels, "unlabeled": images()}
    terms = model.replay_step(batch, model.draw_noise(batch, 0))
    mean, _ = map(ops.convert_to_numpy, model.infer(images()[:2]))
    np.testing.assert_allclose(ops.convert_to_numpy(model.anchor_means)[[0, 2]], mean, rtol=1e-5)
    np.testing.assert_array_equal(model.anchors_seen, [1, 0, 1])
    anchors = ops.convert_to_numpy(terms["anchors"])
    assert anchors.shape == (18,)
    bound = sum(float(ops.mean(terms[name])) for name in ("reconstruction", "kl_c", "kl_rest", "kl_y"))
    assert float(terms["total"]) == pytest.approx(bound + 5.0 * anchors.mean(), rel=1e-5)


def test_the_term_of_the_anchors_is_the_cross_entropy_of_the_nearest_one():
    model = model_of(mu=1.0)
    model.anchor_means.assign([[-2.0], [0.0], [2.0]])
    model.anchors_seen.assign([1.0, 0.0, 1.0])
    epsilon = np.linspace(-2, 2, 16).astype("float32")[:, None]
    noise = {"epsilon_unlabeled": np.zeros((16, 1), "float32"), "dropout": np.int32(0)}
    noise |= {"uniform_anchors_unlabeled": np.full((16, 1), 0.1, "float32"), "epsilon_anchors_unlabeled": epsilon}
    anchors = ops.convert_to_numpy(model.step_losses({"unlabeled": images()}, noise, 0)["anchors"])
    means, variances, _ = map(ops.convert_to_numpy, model.c_priors[0].components())
    z = means[2] + variances[2] ** 0.5 * epsilon  # 0.1 draws the last class
    nearest = np.where(z[:, 0] < 0, 0, 2)
    log_q = ops.convert_to_numpy(model.log_q_y(model.classifier(z)))
    np.testing.assert_allclose(anchors, -log_q[np.arange(16), nearest], rtol=1e-4)


def test_before_the_first_labelled_batch_there_are_no_anchors():
    model, batch = model_of(mu=1.0), {"unlabeled": images()}
    np.testing.assert_array_equal(model.step_losses(batch, model.draw_noise(batch, 0), 0)["anchors"], np.zeros(16))


# Verbs of its own


def test_an_intervention_changes_the_characteristics_of_one_label_alone():
    model, x = several(), images()[:3]
    z = ops.convert_to_numpy(model.encode(x))
    expected = z.copy()
    expected[:, 0] = ops.convert_to_numpy(model.c_priors[0].means)[2, 0]
    np.testing.assert_allclose(model.intervene(x, 0, 2), model.decode(expected), atol=1e-6)
    expected[:, 0] = ops.convert_to_numpy(model.c_priors[0].means)[[2, 0, 1], 0]
    np.testing.assert_allclose(model.intervene(x, 0, [2, 0, 1]), model.decode(expected), atol=1e-6)
    first, again, other = (ops.convert_to_numpy(model.intervene(x, 1, 1, seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-3


def test_of_several_labels_each_image_has_values_and_a_seed_of_its_own():
    model, x = several(), images()[:4]
    values, seeds = np.array([[2, -1], [-1, 1], [-1, -1], [1, 0]]), np.array([5, 2**40 + 5, -1, -1])
    answers = ops.convert_to_numpy(model.intervene(x, [0, 1], values, seeds))
    np.testing.assert_allclose(answers[:1], model.intervene(x[:1], 0, 2, seed=5), atol=1e-6)
    np.testing.assert_allclose(answers[1:2], model.intervene(x[1:2], 1, 1, seed=5), atol=1e-6)
    np.testing.assert_allclose(answers[2:3], model.reconstruct(x[2:3]), atol=1e-6)
    np.testing.assert_allclose(answers[3:], model.intervene(x[3:], [1, 0], [0, 1]), atol=1e-6)
    drawn = ops.convert_to_numpy(model.intervene(x[:1], 0, 2, seed=6))
    mean = ops.convert_to_numpy(model.intervene(x[:1], 0, 2))
    assert min(np.abs(answers[:1] - other).max() for other in (drawn, mean)) > 1e-3


def test_a_swap_takes_the_characteristics_of_the_donors():
    model, (a, b) = several(), (images()[:3], images()[7:10])
    z, of_donors = (ops.convert_to_numpy(model.encode(x)) for x in (a, b))
    np.testing.assert_allclose(model.swap(a, a), model.reconstruct(a), atol=1e-6)
    one = np.stack([z[:, 0], of_donors[:, 1]], axis=-1)
    np.testing.assert_allclose(model.swap(a, b, labels=[1]), model.decode(one), atol=1e-6)
    np.testing.assert_allclose(model.swap(a, b), model.decode(of_donors), atol=1e-6)


def test_a_traversal_goes_from_below_the_one_value_to_beyond_the_other():
    model, x = several(), images()[:2]
    z = ops.convert_to_numpy(model.encode(x))
    ends = []
    for prior in model.c_priors:
        means, variances, _ = map(ops.convert_to_numpy, prior.components())
        sign = np.sign(means[1, 0] - means[0, 0])
        ends.append((means[0, 0] - 2 * sign * variances[0, 0] ** 0.5, means[1, 0] + 2 * sign * variances[1, 0] ** 0.5))
    grid = ops.convert_to_numpy(model.traverse(x, [0, 1], n=3, reach=2.0))
    assert grid.shape == (2, 3, 3, *SHAPE)
    for i in range(3):
        for j in range(3):
            moved = z.copy()
            moved[:, 0] = np.linspace(*ends[0], 3)[i]
            moved[:, 1] = np.linspace(*ends[1], 3)[j]
            np.testing.assert_allclose(grid[:, i, j], model.decode(moved), atol=1e-5)
    line = ops.convert_to_numpy(model.traverse(x, 0, n=3, values=(2, 0)))
    assert line.shape == (2, 3, *SHAPE)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m, x: m.intervene(x, 2, 0), r"`label` is 2; it must be numbers of labels, from 0 to 1"),
        (lambda m, x: m.intervene(x, [1, 1], [0, 0]), r"`label` is \[1, 1\]; .* each once"),
        (lambda m, x: m.intervene(x, 0, 3), r"`value` run from 3 to 3; with 3 classes"),
        (lambda m, x: m.intervene(x, 0, -2), r"`value` run from -2 to -2; with 3 classes they must be -1 to 2"),
        (lambda m, x: m.intervene(x, 0, [0, 1]), r"`value` has 2 values for 3 images"),
        (lambda m, x: m.intervene(x, [0, 1], 1), r"`value` has shape \(\) .* must be a row of 2 integers"),
        (lambda m, x: m.intervene(x, [1, 0], [[2, 0]]), r"with \(2, 3\) classes they must be -1 to \[1, 2\]"),
        (lambda m, x: m.intervene(x, 0, 1, seed=np.arange(2)), r"`seed` holds 2 seeds for 3 images"),
        (lambda m, x: m.swap(x, x[:2]), r"`images` has 3 images and `donors` 2"),
        (lambda m, x: m.swap(x, x, labels=[0, 0]), r"each once"),
        (lambda m, x: m.traverse(x, [0], n=1), r"`n` is 1; a line has two ends"),
        (lambda m, x: m.traverse(x, 0, values=(0, 5)), r"`values` run from 0 to 5"),
    ],
)
def test_a_verb_that_cannot_be_answered_is_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(several(), images()[:3])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"unlabeled_term": "exact"}, r"`unlabeled_term` is 'exact'; it must be one of"),
        ({"kl": "none"}, r"`kl` is 'none'; it must be"),
        ({"class_priors": "given"}, r"`class_priors` is 'given'; it must be \"learned\""),
        ({"class_priors": [(0.5, 0.5)]}, r"`class_priors` is .* The labels have \(3,\) values"),
        ({"c_dims": (1, 1)}, r"`c_dims` is \(1, 1\) and `num_classes` 3; each label must have"),
        ({"rest_dim": -1}, r"`rest_dim` is -1"),
        ({"bounded_weight": 1}, r"`bounded_weight` is 1; it must be True or False"),
        ({"classifier_samples": 0}, r"`classifier_samples` is 0"),
        ({"likelihood": "bernoulli"}, r"`likelihood` is 'bernoulli'; it must be one of"),
        ({"mu": -1.0}, r"`mu` is -1\.0"),
    ],
)
def test_an_argument_that_does_not_fit_is_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        model_of(**arguments)


def test_a_single_image_per_class_is_for_one_label():
    with pytest.raises(ValueError, match="0 unless there is one label"):
        several(mu=1.0)


def partly_labelled(**arguments):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (12, 8, 8, 3)).astype("float32")
    labels = np.stack([np.arange(12) % 3, np.arange(12) % 2], axis=1)
    labels[::4, 0] = labels[1::5, 1] = -1
    given = {"num_classes": (3, 2), "labeled_batch_size": 4, "unlabeled_batch_size": 4, "steps_per_epoch": 4, "seed": 1}
    return semi_supervised((images, labels), images, **{**given, **arguments})


def test_images_with_some_of_their_labels_are_trained_on():
    batches = partly_labelled(allow_missing=True, rhythm=(1, 1))
    model = registry.revae(several=True)
    model.compile(keras.optimizers.Adam(1e-3))
    logs = model.fit(batches, epochs=1, verbose=0).history
    assert np.isfinite(list(logs.values())).all()
    assert logs["cross_entropy"][0] > 0


def test_labels_may_be_missing_only_where_that_is_said():
    with pytest.raises(ValueError, match=r"run from -1 to 2; with \(3, 2\) classes they must be 0 to \[2, 1\]"):
        partly_labelled()
    with pytest.raises(ValueError, match=r"`allow_missing` is 1\. It must be True or False"):
        partly_labelled(allow_missing=1)


def test_a_model_that_does_not_sum_missing_labels_out_refuses_them():
    model = registry.parted(several=True)
    model.compile(registry.two_plateaus())
    with pytest.raises(ValueError, match="in which a label may be missing, which PartedVAE does not take"):
        model.fit(partly_labelled(allow_missing=True), verbose=0)
