"""M3: its objective by closed forms, and images of given labels by rejection."""

import itertools

import numpy as np
import pytest
from contract import registry, small
from keras import ops
from scipy import special

from keras_ssvae.models import M3
from keras_ssvae.noise import Stream


def step(model, seed=0):
    batch = registry.M3_ENTRY.batch()
    noise = model.draw_noise(batch, seed)
    terms = {name: ops.convert_to_numpy(value) for name, value in model.step_losses(batch, noise, 0).items()}
    return batch, noise, terms


def test_the_objective_is_the_bound_and_alpha_times_the_cross_entropy_of_labelled_images():
    model = registry.m3(alpha=3.0)
    batch, noise, terms = step(model)
    x = np.concatenate([batch["labeled"], batch["unlabeled"]])
    mean, logvar = map(ops.convert_to_numpy, model.infer(x))
    kl = 0.5 * np.sum(mean**2 + np.exp(logvar) - logvar - 1.0, axis=1)
    np.testing.assert_allclose(terms["kl"], kl, rtol=1e-4)
    epsilon = np.concatenate([noise["epsilon_labeled"], noise["epsilon_unlabeled"]])
    z = mean + np.exp(0.5 * logvar) * epsilon
    logits = ops.convert_to_numpy(model.classifier(z[:, :2]))
    log_q = special.log_softmax(logits, axis=1)
    cross_entropy = -np.sum(batch["labels"] * log_q[:4], axis=1)
    np.testing.assert_allclose(terms["cross_entropy"], [*cross_entropy, *np.zeros(6)], rtol=1e-4, atol=1e-6)
    pixels = ops.convert_to_numpy(model.decoder(z)).reshape(10, -1)
    targets = (x.reshape(10, -1) + 1.0) / 2.0
    log_p = np.sum(targets * special.log_expit(pixels) + (1 - targets) * special.log_expit(-pixels), axis=1)
    np.testing.assert_allclose(terms["reconstruction"], -log_p, rtol=1e-4)
    assert terms["total"] == pytest.approx(np.mean(kl - log_p) + 3.0 * cross_entropy.sum() / 10, rel=1e-5)


def test_a_missing_label_has_no_cross_entropy():
    model, batch = registry.m3(), registry.M3_ENTRY.batch()
    batch["labels"][1] = 0.0
    terms = model.step_losses(batch, model.draw_noise(batch, 0), 0)
    assert (ops.convert_to_numpy(terms["cross_entropy"])[:4] == 0).tolist() == [False, True, False, False]


def test_without_labelled_images_it_is_a_vae():
    model = registry.m3()
    batch = {"unlabeled": small.images(5)}
    terms = model.step_losses(batch, model.draw_noise(batch, 0), 0)
    assert set(terms) == {"reconstruction", "kl", "total"}
    assert float(terms["total"]) == pytest.approx(float(ops.mean(terms["reconstruction"] + terms["kl"])), rel=1e-6)


def test_generated_images_have_characteristics_that_the_classifier_is_sure_of():
    # A classifier that tells the sign of the first variable, steeply.
    model = registry.m3(confidence=0.9, attempts=64)
    hidden, logits = (model.classifier.get_layer(name) for name in ("hidden", "logits"))
    hidden.set_weights([np.array([[10.0, -10.0, 0, 0], [0, 0, 0, 0]]), np.zeros(4)])
    logits.set_weights([np.array([[1.0, 0, -9], [0, 1.0, -9], [0, 0, 0], [0, 0, 0]]), np.zeros(3)])
    z = ops.convert_to_numpy(model.sample_latent(ops.convert_to_tensor([0, 1] * 50), seed=1))
    probs = ops.convert_to_numpy(ops.softmax(model.classifier(z[:, :2])))
    assert (probs[np.arange(100), [0, 1] * 50] > 0.9).all()
    # What else is drawn is of the prior.
    assert np.abs(z[:, 1:].mean(axis=0)).max() < 0.4
    assert z[::2, 0].mean() == pytest.approx(np.sqrt(2 / np.pi), abs=0.25)  # of the positive half
    # The last class, which has no place, gets what is least unlikely, and no error.
    assert np.isfinite(ops.convert_to_numpy(model.generate([2], seed=1))).all()


def test_an_intervention_keeps_the_rest():
    model, x = registry.m3(), small.images(3)
    z = ops.convert_to_numpy(model.encode(x))
    decoded = ops.convert_to_numpy(model.intervene(x, 0, [0, 1, 2], seed=4))
    assert decoded.shape == x.shape
    np.testing.assert_array_equal(decoded, ops.convert_to_numpy(model.intervene(x, 0, [0, 1, 2], seed=4)))
    accepted = model._accepted({0: ops.convert_to_tensor([0, 1, 2])}, Stream(4, 0))[0]
    expected = np.concatenate([ops.convert_to_numpy(accepted), z[:, 2:]], axis=1)
    np.testing.assert_allclose(decoded, model.decode(expected), atol=1e-6)
    seeds = np.array([4, -1, 7])
    of_rows = [model.intervene(x[i : i + 1], 0, 1, int(seed)) for i, seed in enumerate(seeds)]
    np.testing.assert_allclose(model.intervene(x, 0, 1, seeds), np.concatenate(of_rows), atol=1e-6)


@pytest.mark.parametrize(("name", "value"), [("confidence", 1.0), ("confidence", -0.1), ("attempts", 0)])
def test_an_argument_that_does_not_fit_is_a_sentence(name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value}"):
        M3(**{name: value})


def test_a_step_without_labels_moves_the_classifier_by_its_momentum_alone():
    """On both backends: a gradient that is not there is 0."""
    model = registry.M3_ENTRY.compiled()
    labelled = {name: value for name, value in registry.M3_ENTRY.batch().items() if name != "unlabeled"}
    unlabelled = {"unlabeled": small.images(5)}
    kernel = model.classifier.get_layer("logits").kernel
    values = [ops.convert_to_numpy(kernel)]
    for batch in (labelled, unlabelled):
        model.replay_step(batch, model.draw_noise(batch, 0))
        values.append(ops.convert_to_numpy(kernel))
    first, second = (b - a for a, b in itertools.pairwise(values))
    moved = np.abs(first) > 1e-6
    # Adam: m / sqrt(v), corrected, after one gradient and none: 0.9 * 0.1 / 0.19 over sqrt(0.999 * 0.001 / 0.001999).
    expected = (0.09 / 0.19) / np.sqrt(0.999e-3 / 1.999e-3)
    np.testing.assert_allclose(second[moved] / first[moved], expected, rtol=2e-2)
