"""PartedVAE in use: its verbs, evaluation, prediction, and its configuration."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import GroupedOptimizer

SEVERAL = [False, True]


@pytest.fixture(params=SEVERAL, ids=["one label", "several labels"])
def model(request, make_parted):
    return make_parted(several=request.param)


def to_numpy(tensors):
    return {name: ops.convert_to_numpy(value) for name, value in tensors.items()}


def sizes(model):
    return (model.num_classes,) if isinstance(model.num_classes, int) else model.num_classes


def given_labels(model):
    """Of three images to generate."""
    return [0, 2, 1] if isinstance(model.num_classes, int) else [[0, 1], [2, 0], [1, 1]]


def test_classify_gives_the_probabilities_of_each_label_side_by_side(model, images):
    probs = ops.convert_to_numpy(model.classify(images))
    assert probs.shape == (7, sum(sizes(model)))
    ends = np.cumsum(sizes(model))
    for size, end in zip(sizes(model), ends, strict=True):
        np.testing.assert_allclose(probs[:, end - size : end].sum(axis=-1), 1.0, rtol=1e-6)
    predicted = ops.convert_to_numpy(model.predicted_labels(probs))
    assert predicted.shape == ((7,) if len(sizes(model)) == 1 else (7, 2))
    assert len(np.unique(predicted.reshape(7, -1)[:, 0])) > 1


def test_encode_is_the_means_of_z_and_of_u_at_the_most_probable_class(model, images):
    outputs = to_numpy(model.posterior(images))
    u_dims = sum(prior.latent_dim for prior in model.u_priors)
    assert {name: value.shape for name, value in outputs.items()} == {
        "probs": (7, sum(sizes(model))),
        "z_mean": (7, 2),
        "z_logvar": (7, 2),
        "u_mean": (7, u_dims),
        "u_logvar": (7, u_dims),
    }
    z = ops.convert_to_numpy(model.encode(images))
    np.testing.assert_array_equal(z, np.concatenate([outputs["z_mean"], outputs["u_mean"]], axis=-1))
    assert z.shape == (7, model.latent_dim)


def test_reconstruct_decodes_what_encode_gives_to_pixels_between_minus_1_and_1(model, images):
    z = model.encode(images)
    decoded = ops.convert_to_numpy(model.decode(z))
    np.testing.assert_allclose(decoded, np.tanh(ops.convert_to_numpy(model.decoder(z)) / 2), atol=1e-6)
    np.testing.assert_array_equal(model.reconstruct(images), decoded)


def test_calling_the_model_gives_all_of_it_and_predict_the_same_batch_by_batch(model, images):
    outputs = to_numpy(model(images))
    expected = {**model.posterior(images), "latent": model.encode(images), "reconstruction": model.reconstruct(images)}
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)
    for name, value in model.predict(images, batch_size=3, verbose=0).items():
        np.testing.assert_allclose(value, outputs[name], atol=1e-5, err_msg=name)


def test_transfer_keeps_the_class_related_part_and_takes_the_rest_of_the_other_image(model, images):
    a, b = images[:3], images[3:6]
    u, z = model.posterior(a)["u_mean"], model.posterior(b)["z_mean"]
    swapped = ops.convert_to_numpy(model.transfer(a, b))
    np.testing.assert_array_equal(swapped, model.decode(ops.concatenate([z, u], axis=-1)))
    np.testing.assert_array_equal(model.transfer(a, a), model.reconstruct(a))
    for other in (a, b):
        assert np.abs(swapped - ops.convert_to_numpy(model.reconstruct(other))).max() > 1e-2


def test_generate_draws_z_of_the_normal_prior_and_u_of_the_labels_components(make_parted, monkeypatch):
    model = make_parted(several=True)
    monkeypatch.setattr(model, "decode", ops.convert_to_numpy)
    labels = np.repeat([[0, 1], [2, 0]], 3000, axis=0)
    latent = model.generate(labels, seed=1)
    assert latent.shape == (6000, 5)
    components = [(np.zeros((2, 2)), np.ones((2, 2)))]  # of z, for both labels
    for prior, classes in zip(model.u_priors, labels[::3000].T, strict=True):
        components.append((prior.now().means[classes], prior.now().variances[classes]))
    means, variances = (np.concatenate(parts, axis=-1) for parts in zip(*components, strict=True))
    for drawn, mean, variance in zip(np.split(latent, 2), means, variances, strict=True):
        np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=4 * np.sqrt(variance / 3000).max())
        np.testing.assert_allclose(drawn.var(axis=0), variance, rtol=0.12)  # 4 standard errors
        assert np.abs(np.corrcoef(drawn.T) - np.eye(5)).max() < 0.08


def test_generate_is_a_function_of_the_seed(model):
    labels = given_labels(model)
    first = ops.convert_to_numpy(model.generate(labels, seed=1))
    assert first.shape == (3, 8, 8, 3)
    np.testing.assert_array_equal(model.generate(np.array(labels), seed=ops.convert_to_tensor(1)), first)
    assert np.abs(ops.convert_to_numpy(model.generate(labels, seed=2)) - first).max() > 1e-2


def test_verbs_are_deterministic_and_move_nothing(make_parted, images):
    model = make_parted(dropout=0.5)
    before = [weight.numpy() for weight in model.weights]
    verbs = (model.classify, model.encode, model.reconstruct, lambda x: model.transfer(x, x[::-1]))
    for verb in (*verbs, lambda x: model.generate([0, 1, 2], seed=3)):
        np.testing.assert_array_equal(verb(images), verb(images))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)


def test_verbs_compile_with_the_same_outputs(model, images, compiled):
    for verb, arguments in [
        (model.classify, (images,)),
        (model.encode, (images,)),
        (model.reconstruct, (images,)),
        (model.interpolate, (images[:2], images[2:4])),
        (model.transfer, (images[:2], images[2:4])),
        (model.generate, (np.array(given_labels(model)), 3)),
    ]:
        of_program = compiled(verb)(*map(ops.convert_to_tensor, arguments))
        np.testing.assert_allclose(of_program, verb(*arguments), atol=1e-5)


# Evaluation


@pytest.mark.parametrize("form", ["int32", "uint8", "column", "one-hot"])
def test_evaluation_takes_integer_and_one_hot_labels(make_parted, images, form):
    model, labels = make_parted(), np.array([0, 1, 2, 0, 1, 2, 0])
    forms = {"column": labels[:, None], "one-hot": np.eye(3, dtype="float32")[labels]}
    expected = ops.convert_to_numpy(model.evaluation_terms(images, labels)["error"])
    assert 0 < expected.mean() < 100
    given = forms[form] if form in forms else labels.astype(form)
    np.testing.assert_array_equal(model.evaluation_terms(images, given)["error"], expected)


def test_of_several_labels_the_error_counts_each_and_they_may_be_one_hot(make_parted, images):
    model = make_parted(several=True)
    labels = ops.convert_to_numpy(model.predicted_labels(model.classify(images)))
    labels[0] = (labels[0] + 1) % [3, 2]
    labels[1, 0] = (labels[1, 0] + 1) % 3
    one_hot = np.concatenate([np.eye(k, dtype="float32")[labels[:, i]] for i, k in enumerate((3, 2))], axis=-1)
    for given in (labels, one_hot):
        np.testing.assert_allclose(model.evaluation_terms(images, given)["error"], [100, 50, 0, 0, 0, 0, 0])


def test_evaluate_gives_the_means_over_all_images(make_parted, compile_parted, images):
    model, labels = compile_parted(make_parted()), np.array([0, 1, 2, 0, 1, 2, 0])
    logs = model.evaluate(images, labels, batch_size=4, verbose=0, return_dict=True)
    terms = model.evaluation_terms(images, labels)
    assert set(logs) == set(terms) == set(model.test_terms)
    for name, value in terms.items():
        np.testing.assert_allclose(logs[name], np.mean(value), rtol=1e-5, err_msg=name)


# Groups, configuration, files


def test_the_main_group_is_everything_and_the_supervised_one_leads_to_the_logits_of_c(model):
    groups = {name: {id(v) for v in group} for name, group in model.variable_groups().items()}
    assert groups["main"] == {id(v) for v in model.trainable_variables}
    expected = (*model.encoder.trainable_variables, *model.heads.c_logits.trainable_variables)
    assert groups["supervised"] == {id(v) for v in expected}
    # The components that are learned belong to the model.
    assert {id(prior.free_means) for prior in model.u_priors} <= groups["main"]


@pytest.mark.parametrize("several", SEVERAL)
def test_config_round_trip_keeps_every_argument(make_parted, several):
    model = make_parted(several, seed=9, name="mine")
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert type(restored) is PartedVAE
    assert (restored.num_classes, restored.seed, restored.name) == (model.num_classes, 9, "mine")
    config, again = model.get_config(), restored.get_config()
    assert again == config
    assert config["gamma_bc"] == 1.1
    assert config["class_priors"] == ([[0.5, 0.3, 0.2], [0.6, 0.4]] if several else [[1 / 3] * 3])


@pytest.mark.parametrize("several", SEVERAL)
def test_a_file_gives_back_the_model_with_its_outputs_and_its_optimizer(
    make_parted, compile_parted, parted_batch, train, images, several, tmp_path
):
    model = compile_parted(make_parted(several, dropout=0.5))
    train(model, parted_batch(model), 2)
    model.save(tmp_path / "model.keras")
    restored = keras.saving.load_model(tmp_path / "model.keras")
    expected = to_numpy(model(images)) | {"generated": model.generate(given_labels(model), seed=4)}
    outputs = to_numpy(restored(images)) | {"generated": restored.generate(given_labels(model), seed=4)}
    for name, value in expected.items():
        np.testing.assert_array_equal(outputs[name], value, err_msg=name)
    assert isinstance(restored.optimizer, GroupedOptimizer)
    variables = zip(restored.optimizer.variables, model.optimizer.variables, strict=True)
    assert len(model.optimizer.variables) > 50
    for value, expected_value in variables:
        np.testing.assert_array_equal(value.numpy(), expected_value.numpy(), err_msg=value.path)
