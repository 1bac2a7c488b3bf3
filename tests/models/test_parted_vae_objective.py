"""The objective of PartedVAE against plain numpy, and what of a batch reaches which variables."""

from types import SimpleNamespace

import numpy as np
import pytest
from keras import ops

ONE_AND_SEVERAL = pytest.mark.parametrize("several", [False, True], ids=["one label", "several labels"])


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def dense(layer, x):
    kernel, bias = (weight.astype("float64") for weight in layer.get_weights())
    return x @ kernel + bias


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def gaussian_kl(mean, logvar, prior_mean, prior_logvar):
    squared = (mean - prior_mean) ** 2 + np.exp(logvar)
    return 0.5 * np.sum(squared / np.exp(prior_logvar) + prior_logvar - logvar - 1, axis=-1)


def cut(values, sizes):
    return np.split(values, np.cumsum(sizes)[:-1], axis=-1)


class Reference:
    """The documented formulas, written down a second time and in float64: what a model computes of images."""

    def __init__(self, model, images):
        self.model = model
        self.pixels = (images.astype("float64") + 1) / 2
        self.sizes = np.atleast_1d(model.num_classes)
        flat = self.pixels.reshape(len(images), -1)
        self.h = np.tanh(dense(model.encoder.get_layer("hidden"), flat))
        self.probs = [softmax(logits) for logits in cut(dense(model.heads.c_logits, self.h), self.sizes)]
        self.z_mean, self.z_logvar = (dense(head, self.h) for head in (model.heads.z_mean, model.heads.z_logvar))

    def relaxed(self, uniform):
        """The Gumbel-softmax samples of c."""
        gumbel = -np.log(-np.log(uniform.astype("float64")))
        return [softmax((np.log(q) + g) / 0.67) for q, g in zip(self.probs, cut(gumbel, self.sizes), strict=True)]

    def u(self, c, slope):
        """Means and log-variances of each u_i."""
        heads = self.model.heads
        attended = [self.h * sigmoid(slope * dense(layer, c_i)) for layer, c_i in zip(heads.attention, c, strict=True)]
        return [
            [dense(head, x) for head, x in zip(each, attended, strict=True)] for each in (heads.u_mean, heads.u_logvar)
        ]

    def terms(self, u_mean, u_logvar, z, u):
        """Those of each image, for given posteriors of u_i and samples of z and u."""
        decoder = self.model.decoder.get_layer("pixels")
        logits = dense(decoder, np.concatenate([z, u], axis=-1)).reshape(self.pixels.shape)
        if self.model.pixel_loss == "cross_entropy":
            of_pixels = -(self.pixels * np.log(sigmoid(logits)) + (1 - self.pixels) * np.log(sigmoid(-logits)))
        else:
            of_pixels = np.abs(self.pixels - sigmoid(logits))
        kl_u = 0.0
        for prior, q, mean, logvar in zip(self.model.u_priors, self.probs, u_mean, u_logvar, strict=True):
            for k in range(q.shape[1]):
                kl_u = kl_u + q[:, k] * gaussian_kl(mean, logvar, *(values[k] for values in components(prior)))
        return {
            "reconstruction": of_pixels.sum(axis=(1, 2, 3)),
            "kl_z": gaussian_kl(self.z_mean, self.z_logvar, 0.0, 0.0),
            "kl_u": kl_u,
            "entropy_c": -sum(np.sum(q * np.log(q), axis=-1) for q in self.probs),
        }


def components(prior):
    """Means and log-variances of a learned mixture."""
    means, free = (weight.astype("float64") for weight in prior.get_weights())
    return means, 2 * np.tanh(free) - 1


def overlaps(prior):
    """The Bhattacharyya coefficient of each pair of components."""
    means, variances = components(prior)[0], np.exp(components(prior)[1])
    pairs = [(k, j) for k in range(len(means)) for j in range(k)]
    totals = [(variances[k] + variances[j]) / 2 for k, j in pairs]
    distances = [
        np.sum((means[k] - means[j]) ** 2 / total) / 8 + np.sum(np.log(total**2 / variances[k] / variances[j])) / 4
        for (k, j), total in zip(pairs, totals, strict=True)
    ]
    return np.exp(-np.array(distances))


def terms_in_numpy(model, batch, noise, step):
    """Of a main step, and the total."""
    reference = Reference(model, batch["unlabeled"])
    c = reference.relaxed(noise["uniform_c"])
    u_mean, u_logvar = reference.u(c, min(1 + 7 * (step + 1) / model.slope_steps, 8))
    z, u = (
        mean + np.exp(logvar / 2) * epsilon
        for mean, logvar, epsilon in (
            (reference.z_mean, reference.z_logvar, noise["epsilon_z"]),
            (np.concatenate(u_mean, axis=-1), np.concatenate(u_logvar, axis=-1), noise["epsilon_u"]),
        )
    )
    terms = reference.terms(u_mean, u_logvar, z, u)
    aggregates = [q.mean(axis=0) for q in reference.probs]
    kl_c = sum(np.sum(q * np.log(q / p)) for q, p in zip(aggregates, model.class_priors, strict=True))
    coefficients = np.concatenate([overlaps(prior) for prior in model.u_priors])
    overlap = np.maximum(coefficients - model.tolerance, 0).sum()
    terms |= {"kl_c": kl_c, "overlap": np.full(len(z), overlap)}
    return terms | {"total": total_of(model, terms, step)}


def total_of(model, terms, step):
    """The stated combination of the terms."""
    means = {name: np.mean(value) for name, value in terms.items()}
    weights = SimpleNamespace(**{name: float(getattr(model, name)) for name in model.objective_weights})
    share = min((step + 1) / model.capacity_steps, 1)
    return (
        means["reconstruction"]
        + weights.gamma_z * abs(weights.capacity_z * share - means["kl_z"])
        + weights.gamma_u * abs(weights.capacity_u * share - means["kl_u"])
        + weights.gamma_c * means["kl_c"]
        + weights.gamma_h * means["entropy_c"]
        + weights.gamma_bc * means["overlap"]
    )


def warm_up_in_numpy(model, batch):
    probs = np.concatenate(Reference(model, batch["labeled"]).probs, axis=-1)
    return -np.sum(batch["labels"] * np.log(probs), axis=-1)


@ONE_AND_SEVERAL
@pytest.mark.parametrize("step", [0, 2, 30])
def test_every_term_equals_its_definition(make_parted, parted_batch, several, step):
    model = make_parted(several)
    batch = parted_batch(model)
    noise = to_numpy(model.draw_noise(batch, step))
    expected = terms_in_numpy(model, batch, noise, step)
    terms = to_numpy(model.step_losses(batch, noise, step))
    assert set(terms) == set(expected) == {*model.training_terms, "total"} - {"warm_up"}
    for name, value in expected.items():
        assert np.shape(terms[name]) == np.shape(value), name
        np.testing.assert_allclose(terms[name], value, rtol=3e-5, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(terms["total"], total_of(model, terms, step), rtol=1e-5)


@ONE_AND_SEVERAL
def test_warm_up_is_the_cross_entropy_of_the_labelled_images(make_parted, parted_batch, several):
    model = make_parted(several)
    batch = parted_batch(model)
    terms = to_numpy(model.supervised_losses(batch, model.draw_noise(batch, 0)))
    assert set(terms) == {"warm_up", "total"}
    np.testing.assert_allclose(terms["warm_up"], warm_up_in_numpy(model, batch), rtol=1e-5)
    np.testing.assert_allclose(terms["total"], terms["warm_up"].mean(), rtol=1e-6)


def test_some_components_overlap_more_than_is_tolerated_and_some_less(make_parted):
    # So that the tests above see both.
    coefficients = np.concatenate([overlaps(prior) for prior in make_parted(several=True).u_priors])
    assert coefficients.min() < 0.3 < coefficients.max()


def test_a_probability_of_zero_leaves_every_term_finite(make_parted, parted_batch, differentiate):
    model = make_parted()
    batch = parted_batch(model)
    model.heads.c_logits.bias.assign([200.0, 0.0, -200.0])
    noise = to_numpy(model.draw_noise(batch, 0))
    noise["uniform_c"][0] = 0.0, 1.0, 0.5  # the ends of what can be drawn
    terms = to_numpy(model.step_losses(batch, noise, 0)) | to_numpy(model.supervised_losses(batch, noise))
    for name, value in terms.items():
        assert np.isfinite(value).all(), name
    variables = model.trainable_variables
    _, gradients = differentiate(lambda: model.step_losses(batch, noise, 0)["total"], [], variables)
    for variable, gradient in zip(variables, gradients, strict=True):
        assert np.isfinite(gradient).all(), variable.path


# The slope, the capacities, the samples


@pytest.fixture
def attended(monkeypatch):
    """What the attention of the given model is called with, where it is computed eagerly."""

    def watch(model):
        calls, u = [], model.heads.u

        def record(h, c, slope):
            calls.append(([ops.convert_to_numpy(c_i) for c_i in c], float(slope)))
            return u(h, c, slope)

        monkeypatch.setattr(model.heads, "u", record)
        return calls

    return watch


def test_the_slope_rises_from_one_step_to_the_next_until_it_is_that_of_use(make_parted, parted_batch, attended):
    model = make_parted()
    batch, calls = parted_batch(model), attended(model)
    for step in (0, 1, 3, 4, 1000):
        model.step_losses(batch, model.draw_noise(batch, step), ops.convert_to_tensor(step, "int32"))
    assert [slope for _, slope in calls] == [1 + 7 / 4, 1 + 14 / 4, 8.0, 8.0, 8.0]
    model.classify(batch["unlabeled"])
    assert calls[-1][1] == 8.0


@pytest.mark.parametrize("name", ["z", "u"])
def test_the_capacity_rises_until_its_end_and_is_what_the_divergence_is_drawn_to(make_parted, parted_batch, name):
    weights = dict.fromkeys(("gamma_z", "gamma_u", "gamma_c", "gamma_h", "gamma_bc"), 0.0)
    model = make_parted(**{**weights, f"gamma_{name}": 1.0, f"capacity_{name}": 1e4, "capacity_steps": 5})
    batch = parted_batch(model)
    noise = model.draw_noise(batch, 0)
    for step, capacity in ((0, 2e3), (1, 4e3), (4, 1e4), (5, 1e4), (1000, 1e4)):
        terms = to_numpy(model.step_losses(batch, noise, step))
        distance = terms["total"] - terms["reconstruction"].mean()
        np.testing.assert_allclose(distance + terms[f"kl_{name}"].mean(), capacity, rtol=1e-5)


@ONE_AND_SEVERAL
def test_the_sample_of_each_label_is_a_relaxed_choice_of_the_seed_and_the_step(
    make_parted, parted_batch, attended, several
):
    samples = []
    for seed, step in ((0, 3), (0, 3), (0, 4), (1, 3)):
        model = make_parted(several, seed=seed)
        batch, calls = parted_batch(model), attended(model)
        model.step_losses(batch, model.draw_noise(batch, step), 0)
        samples.append(calls[0][0])
    assert [c_i.shape for c_i in samples[0]] == ([(6, 3), (6, 2)] if several else [(6, 3)])
    for i, c_i in enumerate(samples[0]):
        np.testing.assert_allclose(c_i.sum(axis=-1), 1.0, rtol=1e-6)
        assert ((c_i > 0) & (c_i < 1)).any()
        np.testing.assert_array_equal(samples[1][i], c_i)
        assert np.abs(samples[2][i] - c_i).max() > 0.01
        assert np.abs(samples[3][i] - c_i).max() > 0.01


# Labels


def test_the_loss_of_unlabelled_images_does_not_depend_on_labels(make_parted, parted_batch):
    model = make_parted()
    batch = parted_batch(model)
    noise = model.draw_noise(batch, 0)
    permuted = {**batch, "labels": batch["labels"][[3, 0, 1, 2]], "labeled": batch["labeled"][::-1]}
    without = {"unlabeled": batch["unlabeled"], "labels": None}
    terms, *others = (to_numpy(model.step_losses(given, noise, 0)) for given in (batch, permuted, without))
    for other in others:
        for name, value in terms.items():
            np.testing.assert_array_equal(other[name], value, err_msg=name)
    warm_up, other = (to_numpy(model.supervised_losses(given, noise))["warm_up"] for given in (batch, permuted))
    assert np.abs(warm_up.mean() - other.mean()) > 1e-3


def changed_by(model, batch, train):
    """The variables that one step moves."""
    before = [ops.convert_to_numpy(variable) for variable in model.trainable_variables]
    train(model, batch, 1)
    pairs = zip(model.trainable_variables, before, strict=True)
    return {variable.path for variable, value in pairs if not np.array_equal(ops.convert_to_numpy(variable), value)}


@ONE_AND_SEVERAL
def test_labels_reach_the_encoder_and_the_logits_of_c_and_nothing_else(
    make_parted, compile_parted, parted_batch, train, several
):
    model = compile_parted(make_parted(several))
    batch = parted_batch(model)
    supervised = {variable.path for variable in (*model.encoder.weights, *model.heads.c_logits.weights)}
    assert len(supervised) == 4
    assert changed_by(model, {"labeled": batch["labeled"], "labels": batch["labels"]}, train) == supervised


@ONE_AND_SEVERAL
def test_unlabelled_images_reach_everything(make_parted, compile_parted, parted_batch, train, several):
    model = compile_parted(make_parted(several))
    everything = {variable.path for variable in model.trainable_variables}
    assert changed_by(model, {"unlabeled": parted_batch(model)["unlabeled"]}, train) == everything


def test_the_step_on_labels_comes_first_and_the_main_step_sees_what_it_left(
    make_parted, compile_parted, parted_batch, train
):
    model, after_labels = (compile_parted(make_parted()) for _ in range(2))
    batch = parted_batch(model)
    warm_up = warm_up_in_numpy(model, batch).mean()
    train(after_labels, {"labeled": batch["labeled"], "labels": batch["labels"]}, 1)
    noise = to_numpy(model.draw_noise(batch, 0))
    expected = terms_in_numpy(after_labels, batch, noise, step=0)
    of_the_start = terms_in_numpy(model, batch, noise, step=0)
    logs = train(model, batch, 1)
    assert set(logs) == {"loss", *model.training_terms}
    np.testing.assert_allclose(logs["warm_up"], warm_up, rtol=1e-5)
    np.testing.assert_allclose(logs["loss"], expected["total"], rtol=1e-5)
    for name in set(model.training_terms) - {"warm_up"}:
        np.testing.assert_allclose(logs[name], np.mean(expected[name]), rtol=1e-4, err_msg=name)
    assert abs(logs["loss"] / of_the_start["total"] - 1) > 1e-3


# Validation


@ONE_AND_SEVERAL
def test_evaluation_terms_equal_their_definitions(make_parted, images, several):
    model = make_parted(several)
    reference = Reference(model, images)
    predicted = np.stack([q.argmax(axis=-1) for q in reference.probs], axis=-1)
    c = [np.eye(q.shape[1])[choice] for q, choice in zip(reference.probs, predicted.T, strict=True)]
    u_mean, u_logvar = reference.u(c, slope=8.0)
    expected = reference.terms(u_mean, u_logvar, reference.z_mean, np.concatenate(u_mean, axis=-1))
    labels = predicted.copy()
    labels[:2, 0] = (labels[:2, 0] + 1) % 3  # the first two images: one label is wrong
    expected["error"] = np.array([1, 1, 0, 0, 0, 0, 0]) * (50.0 if several else 100.0)
    terms = to_numpy(model.evaluation_terms(images, labels if several else labels[:, 0]))
    per_label = terms.pop("error_per_label", None)
    assert set(terms) == set(expected) == set(model.test_terms)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-6, err_msg=name)
    if several:
        np.testing.assert_array_equal(per_label, [[100, 0]] * 2 + [[0, 0]] * 5)
