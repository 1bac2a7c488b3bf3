"""What the verbs and the validation of EXoN give, and its groups of variables."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.schedules import RampUp


def softmax(logits):
    return ops.convert_to_numpy(ops.softmax(logits))


# Verbs


def test_classify_is_the_softmax_of_the_classifier_in_inference(model, images):
    probs = model.classify(images)
    np.testing.assert_allclose(probs, softmax(model.classifier(images, training=False)), rtol=1e-6)
    np.testing.assert_allclose(np.sum(probs, axis=-1), 1.0, rtol=1e-6)


def test_posterior_is_what_encoder_and_classifier_say(model, images):
    mean, logvar, probs = model.posterior(images).values()
    expected_mean, expected_logvar = model.encoder(images)
    np.testing.assert_array_equal(mean, expected_mean)
    np.testing.assert_array_equal(logvar, expected_logvar)
    np.testing.assert_array_equal(probs, model.classify(images))


def test_encode_is_the_mean_of_the_most_probable_component(model, images):
    mean, _, probs = (np.asarray(x) for x in model.posterior(images).values())
    most_probable = probs.argmax(axis=-1)
    assert len(set(most_probable)) > 1
    np.testing.assert_array_equal(model.encode(images), [mean[i, k] for i, k in enumerate(most_probable)])


def test_reconstruct_decodes_what_encode_gives(model, images):
    z = model.encode(images)
    np.testing.assert_array_equal(model.decode(z), model.decoder(z))
    np.testing.assert_array_equal(model.reconstruct(images), model.decode(z))


def test_calling_the_model_gives_all_of_it(model, images):
    outputs = model(images)
    expected = {
        **model.posterior(images),
        "z": model.encode(images),
        "reconstruction": model.reconstruct(images),
    }
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)


def test_generate_decodes_draws_from_the_labels_component(make_model, monkeypatch):
    model = make_model()
    seen = {}
    monkeypatch.setattr(model, "decode", lambda z: seen.setdefault("z", np.asarray(z)))
    labels = np.repeat([0, 1, 2], 3000)
    model.generate(labels, seed=1)
    for k in range(3):
        z, variance = seen["z"][labels == k], model.prior.variances[k]
        np.testing.assert_allclose(z.mean(axis=0), model.prior.means[k], atol=4 * np.sqrt(variance.max() / 3000))
        np.testing.assert_allclose(z.var(axis=0), variance, rtol=0.12)  # 4 standard errors
    assert np.abs(np.corrcoef(seen["z"][labels == 0].T)[0, 1]) < 0.08


# Evaluation


def test_evaluation_terms_equal_their_definitions(model, images):
    probs, mean, logvar = (np.asarray(model(images)[name], "float64") for name in ("probs", "mean", "logvar"))
    labels = probs.argmax(axis=-1)
    labels[:2] = (labels[:2] + 1) % 3
    terms = model.evaluation_terms(images, labels)
    m, s2 = model.prior.means, model.prior.variances
    kl = 0.5 * np.sum(((mean - m) ** 2 + np.exp(logvar)) / s2 + np.log(s2) - logvar - 1, axis=-1)
    expected = {
        "error": [100, 100, 0, 0, 0, 0, 0],  # per cent
        "reconstruction": np.sum((images - np.asarray(model.reconstruct(images))) ** 2, axis=(1, 2, 3)) / 2,
        "kl_categorical": np.sum(probs * (np.log(probs) + np.log(3)), axis=-1),
        "kl_gaussian": np.sum(probs * kl, axis=-1),
    }
    assert set(terms) == set(expected) == set(model.test_terms)
    for name, value in expected.items():
        np.testing.assert_allclose(terms[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_the_loss_of_validation_is_the_objective_without_augmented_images(make_model, images):
    schedule = RampUp(0.5, ramp_epochs=3, steps_per_epoch=5)
    model = make_model(beta=schedule)
    model.compile(keras.optimizers.SGD(0.0))
    for step in (0, 20):
        model.optimizer.iterations.assign(step)
        logs = model.evaluate(images, np.zeros(len(images), int), batch_size=3, verbose=0, return_dict=True)
        beta = float(schedule(step))
        expected = logs["reconstruction"] + beta * (logs["kl_categorical"] + logs["kl_gaussian"])
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)


# Groups


def test_each_trainable_variable_is_in_one_group(model):
    groups = model.variable_groups()
    assert {id(v) for v in groups["classifier"]} == {id(v) for v in model.classifier.trainable_variables}
    grouped = [id(v) for group in groups.values() for v in group]
    assert sorted(grouped) == sorted(map(id, model.trainable_variables))
