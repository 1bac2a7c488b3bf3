"""EXoN in use: its verbs, its Keras life (fit, evaluate, predict, save, load), and its errors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam
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


def test_verbs_are_deterministic_and_move_nothing(make_model, images):
    model = make_model(dropout=0.5)
    before = [weight.numpy() for weight in model.weights]
    for verb in (model.classify, model.encode, model.reconstruct, lambda x: model.generate([0, 1, 2], seed=3)):
        np.testing.assert_array_equal(verb(images), verb(images))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


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


def test_generate_is_a_function_of_the_seed(model, batch):
    labels = [0, 1, 2, 2]
    first = np.asarray(model.generate(labels, seed=1))
    model.draw_noise(batch, 5)
    np.testing.assert_array_equal(model.generate(labels, seed=1), first)
    np.testing.assert_array_equal(model.generate(np.array(labels), seed=ops.convert_to_tensor(1)), first)
    assert not np.allclose(model.generate(labels, seed=2), first, atol=1e-2)
    assert not np.allclose(first[2], first[3], atol=1e-2)  # two images of one class


def test_verbs_compile_with_the_same_outputs(model, images, compiled):
    for verb, arguments in [
        (model.classify, (images,)),
        (model.encode, (images,)),
        (model.reconstruct, (images,)),
        (model.interpolate, (images[:2], images[2:4])),
        (model.generate, (np.array([0, 2]), 3)),
    ]:
        of_program = compiled(verb)(*map(ops.convert_to_tensor, arguments))
        np.testing.assert_allclose(of_program, verb(*arguments), atol=1e-5)


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


@pytest.mark.parametrize(
    "form",
    [
        lambda labels: labels.astype("int32"),
        lambda labels: labels.astype("uint8"),
        lambda labels: labels[:, None],
        lambda labels: np.eye(3, dtype="float32")[labels],
    ],
    ids=["int32", "uint8", "column", "one-hot"],
)
def test_evaluation_takes_integer_and_one_hot_labels(model, images, form):
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    expected = model.evaluation_terms(images, labels)["error"]
    assert 0 < np.mean(expected) < 100
    np.testing.assert_array_equal(model.evaluation_terms(images, form(labels))["error"], expected)


def test_evaluate_gives_the_means_over_all_images(model, images):
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    model.compile(Adam())
    logs = model.evaluate(images, labels, batch_size=4, verbose=0, return_dict=True)
    terms = model.evaluation_terms(images, labels)
    assert set(logs) == set(terms)
    for name, value in terms.items():
        np.testing.assert_allclose(logs[name], np.mean(value), rtol=1e-5, err_msg=name)


def test_predict_gives_what_calling_gives_batch_by_batch(model, images):
    outputs = model.predict(images, batch_size=3, verbose=0)
    for name, value in model(images).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5, err_msg=name)


def test_fit_validates_on_images_and_labels(model, batch, forever, images):
    model.compile(Adam())  # one optimizer for everything will do
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    validation = {"validation_data": (images, labels), "validation_batch_size": 7}
    logs = model.fit(forever(batch), steps_per_epoch=1, shuffle=False, verbose=0, **validation).history
    assert set(logs) == {"loss", *model.training_terms, *(f"val_{name}" for name in model.test_terms)}
    assert logs["val_error"] == [pytest.approx(np.mean(model.evaluation_terms(images, labels)["error"]))]


# Groups, configuration, files


def test_each_trainable_variable_is_in_one_group(model):
    groups = model.variable_groups()
    assert {id(v) for v in groups["classifier"]} == {id(v) for v in model.classifier.trainable_variables}
    grouped = [id(v) for group in groups.values() for v in group]
    assert sorted(grouped) == sorted(map(id, model.trainable_variables))


@pytest.mark.parametrize("lambda2", [7.5, RampUp(7.5, 10, 468)])
def test_config_round_trip_keeps_every_argument(make_model, lambda2):
    model = make_model(lambda2=lambda2, seed=9, name="mine")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert type(restored) is EXoN
    np.testing.assert_array_equal(restored.prior.means, model.prior.means)
    np.testing.assert_array_equal(restored.prior.variances, model.prior.variances)
    assert (restored.beta, restored.lambda1, restored.seed, restored.name) == (0.3, 5.0, 9, "mine")
    assert restored.get_config() == model.get_config()
