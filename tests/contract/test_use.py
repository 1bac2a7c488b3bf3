"""The verbs, the configuration, the copies, the noise and the terms of a model without training."""

import copy
import inspect
import json
import pickle

import keras
import numpy as np
import pytest
from contract import asking, small
from contract.programs import program_of
from keras import ops

from keras_ssvae import evaluation, plots
from keras_ssvae.models.capabilities import HasNormalParts
from keras_ssvae.noise import Stream


@pytest.fixture(scope="module")
def answers(entry, model, images):
    """The results of the verbs."""
    return asking.to_numpy(asking.answers(entry, model, images))


def assert_same(given, expected, atol=0.0):
    assert set(given) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(given[name], value, rtol=0, atol=atol, err_msg=name)


# Verbs


def test_every_verb_gives_what_it_promises(entry, model, images, answers):
    for name, (_, _, shape) in asking.verbs(entry, model, images).items():
        assert answers[name].shape == shape, name
    for name, value in answers.items():
        assert value.dtype == "float32", name
        assert np.isfinite(value).all(), name
        assert len(value) == 7 or "/" not in name, name
    for name in ("decode", "reconstruct", "interpolate", "generate"):
        assert (np.abs(answers[name]) <= 1).all(), name
    latent = "call/z" if "call/z" in answers else "call/latent"  # for a latent of one part or of several
    assert answers[latent] == pytest.approx(answers["encode"], abs=1e-6)
    assert answers["call/reconstruction"] == pytest.approx(answers["reconstruct"], abs=1e-6)


def test_verbs_are_deterministic_and_move_no_variable(entry, model, images, answers):
    before = [ops.convert_to_numpy(weight) for weight in model.weights]
    assert_same(asking.to_numpy(asking.answers(entry, model, images)), answers)
    model.evaluation_terms(images, asking.true_labels(entry))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, err_msg=variable.path)


def test_verbs_compile_to_the_same_outputs(entry, model, images, answers):
    program = program_of(model, lambda images: asking.answers(entry, model, images))
    assert_same(asking.to_numpy(program(images)), answers, atol=1e-5)


def test_an_image_is_answered_for_by_itself(entry, model, images, answers):
    last = asking.to_numpy({"encode": model.encode(images[6:]), "reconstruct": model.reconstruct(images[6:])})
    for name, value in last.items():
        np.testing.assert_allclose(value[0], answers[name][6], atol=1e-5, err_msg=name)


def test_reconstruct_decodes_what_encode_gives(model, images, answers):
    np.testing.assert_allclose(answers["reconstruct"], model.decode(answers["encode"]), atol=1e-6)
    assert np.abs(np.diff(answers["encode"], axis=0)).max(axis=1).min() > 1e-3  # every image has another latent
    assert np.abs(np.diff(answers["decode"], axis=0)).max() > 1e-3


def test_interpolate_goes_straight_from_one_image_to_the_other(model, images, answers):
    a, b = images[:3], images[3:6]
    path = ops.convert_to_numpy(model.interpolate(a, b, n=5))
    assert path.shape == (3, 5, *small.IMAGE_SHAPE)
    np.testing.assert_allclose(path[:, 0], answers["reconstruct"][:3], atol=1e-5)
    np.testing.assert_allclose(path[:, 4], answers["reconstruct"][3:6], atol=1e-5)
    z = 0.75 * answers["encode"][:3] + 0.25 * answers["encode"][3:6]
    np.testing.assert_allclose(path[:, 1], model.decode(z), atol=1e-5)


def test_generate_is_a_function_of_the_seed(entry, model):
    wanted = asking.to_generate(entry)
    first = ops.convert_to_numpy(model.generate(wanted, seed=1))
    model.draw_noise(entry.batch(), 5)  # must not change the result
    np.testing.assert_array_equal(model.generate(wanted, seed=ops.convert_to_tensor(1)), first)
    if entry.sizes:
        np.testing.assert_array_equal(model.generate(wanted.tolist(), seed=1), first)
        wanted = wanted[[0, 0, 0]]
    other = ops.convert_to_numpy(model.generate(wanted, seed=2))
    assert np.abs(other - first).max() > 1e-2
    assert np.abs(other[0] - other[1]).max() > 1e-2  # images of the same class differ too


def test_with_a_seed_for_each_image_it_depends_on_nothing_else(entry, model):
    wanted, seeds = asking.to_generate(entry), (7, 7, 11)
    together = ops.convert_to_numpy(model.generate(wanted, seed=ops.convert_to_tensor(seeds)))
    rows = [(wanted[i : i + 1] if entry.sizes else 1, seed) for i, seed in enumerate(seeds)]
    np.testing.assert_allclose(together, np.concatenate([model.generate(*row) for row in rows]), atol=1e-6)
    assert np.abs(together[2] - together[0]).max() > 1e-2
    with pytest.raises(ValueError, match=r"`seed` holds 2 seeds for 3 images; it must be one integer, or one for each"):
        model.generate(wanted, seed=ops.convert_to_tensor(seeds[:2]))


def test_classify_gives_probabilities_of_each_label_side_by_side(entry, model, images, answers):
    if not asking.classifies(model):
        pytest.skip("it has no classifier")
    ends = np.cumsum(entry.sizes)
    for size, end in zip(entry.sizes, ends, strict=True):
        np.testing.assert_allclose(answers["classify"][:, end - size : end].sum(axis=-1), 1.0, rtol=1e-5)
    predicted = ops.convert_to_numpy(model.predicted_labels(answers["classify"]))
    assert predicted.shape == ((7,) if len(entry.sizes) == 1 else (7, len(entry.sizes)))
    np.testing.assert_array_equal(predicted.reshape(7, -1)[:, 0], answers["classify"][:, : ends[0]].argmax(axis=-1))
    assert len(np.unique(predicted.reshape(7, -1)[:, 0])) > 1


def test_log_weights_are_a_function_of_images_and_noise(model, images):
    noise = model.posterior_noise(7, 4, Stream(1, 0))
    assert {value.shape[:2] for value in noise.values()} == {(7, 4)}
    program = program_of(model, lambda images, noise: model.log_weights(images, noise))
    first = ops.convert_to_numpy(program(images, noise))
    assert first.shape == (7, 4)
    assert np.isfinite(first).all()
    assert first.dtype == "float32"
    assert first.std(axis=1).min() > 1e-3  # the samples differ
    reverse = program(images[::-1], {name: value[::-1] for name, value in asking.to_numpy(noise).items()})
    np.testing.assert_allclose(ops.convert_to_numpy(reverse)[::-1], first, rtol=1e-5)


def test_predict_gives_what_calling_gives_batch_by_batch(entry, images, answers):
    outputs = entry.build(dropout=0.5).predict(images, batch_size=4, verbose=0)
    assert_same(outputs, {name[5:]: value for name, value in answers.items() if name.startswith("call/")}, atol=1e-5)


# Evaluation


def test_evaluate_gives_the_means_of_the_evaluation_terms(entry, model, images):
    labels = asking.true_labels(entry)
    terms = asking.to_numpy(model.evaluation_terms(images, labels))
    assert set(terms) >= set(model.test_terms)
    assert {len(value) for value in terms.values()} == {7}
    compiled = entry.compiled(dropout=0.5)
    for size in (4, 7):  # the size of the batches makes no difference
        logs = compiled.evaluate(images, labels, batch_size=size, verbose=0, return_dict=True)
        assert logs == pytest.approx(asking.evaluation_means(entry, model, images, 4), rel=1e-4)


@pytest.mark.parametrize("form", ["int32", "uint8", "column", "one-hot"])
def test_evaluation_takes_integer_and_one_hot_labels(entry, model, images, form):
    if not asking.classifies(model):
        pytest.skip("it has no classifier")
    if form == "column" and len(entry.sizes) > 1:
        pytest.skip("several labels are columns already")
    labels = asking.true_labels(entry)
    expected = ops.convert_to_numpy(model.evaluation_terms(images, labels)["error"])
    assert 0 < expected.mean() < 100
    if form == "one-hot":
        columns = zip(entry.sizes, labels.reshape(7, -1).T, strict=True)
        given = np.concatenate([np.eye(size, dtype="float32")[column] for size, column in columns], axis=-1)
    else:
        given = labels[:, None] if form == "column" else labels.astype(form)
    np.testing.assert_array_equal(model.evaluation_terms(images, given)["error"], expected)


def test_the_error_is_the_share_of_labels_that_are_missed(entry, model, images):
    if not asking.classifies(model):
        pytest.skip("it has no classifier")
    labels = ops.convert_to_numpy(model.predicted_labels(model.classify(images)))
    wrong = labels.reshape(7, -1).copy()
    wrong[0] = (wrong[0] + 1) % entry.sizes
    wrong[1, 0] = (wrong[1, 0] + 1) % entry.sizes[0]
    error = model.evaluation_terms(images, wrong.reshape(labels.shape))["error"]
    np.testing.assert_allclose(error, [100, 100 / len(entry.sizes), 0, 0, 0, 0, 0], rtol=1e-6)


# Configuration and copies


def as_in_a_file(value):
    value = keras.saving.serialize_keras_object(value) if hasattr(value, "get_config") else value
    return json.loads(json.dumps(value))


def test_the_configuration_keeps_every_argument_in_a_round_trip(entry):
    parameters = dict(inspect.signature(type(entry.build()).__init__).parameters)
    del parameters["self"]
    assert set(parameters) == {*entry.arguments, *entry.networks}  # the entry names all of them
    model = entry.build(**entry.arguments)
    config = as_in_a_file(model.get_config())
    assert set(config) == set(parameters)
    for name, value in entry.arguments.items():
        assert config[name] == as_in_a_file(value), name
        assert value != parameters[name].default or name in entry.fixed, name
    serialized = as_in_a_file(keras.saving.serialize_keras_object(model))
    restored = keras.saving.deserialize_keras_object(serialized)
    assert type(restored) is type(model)
    assert as_in_a_file(restored.get_config()) == config
    assert (restored.name, restored.seed) == (model.name, model.seed)


def test_a_clone_is_a_model_of_the_same_configuration(entry, model):
    clone = keras.models.clone_model(model)
    assert type(clone) is type(model)
    assert as_in_a_file(clone.get_config()) == as_in_a_file(model.get_config())
    assert not {id(weight) for weight in clone.weights} & {id(weight) for weight in model.weights}


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))], ids=["deep copy", "pickle"]
)
def test_a_copy_answers_as_the_model_and_has_its_optimizer(entry, images, duplicate):
    model = entry.compiled(dropout=0.5)
    model.optimizer.iterations.assign(3)
    twin = duplicate(model)
    assert_same(asking.answers(entry, twin, images), asking.answers(entry, model, images))
    assert int(twin.optimizer.iterations) == 3
    twin.weights[0].assign(twin.weights[0] + 1.0)
    assert np.abs(twin.weights[0] - model.weights[0]).min() > 0.5


# Variables


def test_each_trainable_variable_is_in_a_group(entry, model):
    groups = [{id(variable) for variable in group} for group in model.variable_groups().values()]
    assert set.union(*groups) == {id(variable) for variable in model.trainable_variables}


def test_latent_variables_and_images_have_the_stated_shapes(model):
    assert model.image_shape == small.IMAGE_SHAPE
    assert sum(model.latents.values()) == model.latent_dim
    assert len({*model.training_terms}) == len(model.training_terms) > 0


def test_the_parts_have_the_divergences_of_their_posteriors(entry, model):
    images, labels = small.images(7), np.array([0, 1, 2, 0, 1, 2, 0])
    if not entry.normal_parts:
        with pytest.raises(ValueError, match="without latent variables whose prior is the standard normal"):
            evaluation.kl_per_dimension(model, images)
        return
    assert isinstance(model, HasNormalParts)
    given = evaluation.kl_per_dimension(model, images, batch_size=3)
    assert set(given) == {*entry.normal_parts}
    posterior = asking.to_numpy(model.posterior(images))
    of_classes = evaluation.kl_per_dimension(model, images, labels)
    for part, values in given.items():
        prefix = "" if "mean" in posterior else f"{part}_"
        mean, logvar = posterior[f"{prefix}mean"], posterior[f"{prefix}logvar"]
        kl = 0.5 * (mean**2 + np.exp(logvar) - logvar - 1)
        kl = (posterior["probs"][:, :, None] * kl).sum(axis=1) if kl.ndim == 3 else kl
        assert values.shape == (model.latents[part],)
        np.testing.assert_allclose(values, kl.mean(axis=0), rtol=1e-4, atol=1e-6)
        expected = [kl[k == labels].mean(axis=0) for k in range(3)]
        np.testing.assert_allclose(of_classes[part], expected, rtol=1e-4, atol=1e-6)
    figures = plots.kl_per_dimension(given), plots.kl_per_dimension(of_classes, class_names="abc")
    for figure in figures:
        assert [ax.get_title("left") for ax in figure.axes if ax.get_title("left")] == list(given)


# Noise


def test_noise_is_a_function_of_the_seed_and_the_step_alone(entry, model):
    batch = entry.batch()
    first = asking.to_numpy(model.draw_noise(batch, 2))
    other = entry.build(weights_seed=1)
    program = program_of(other, lambda step: other.draw_noise(batch, step))
    for step in (7, 2):  # earlier draws must not change the result
        again = asking.to_numpy(program(ops.convert_to_tensor(step, "int32")))
    # A compiled program may round floating-point numbers differently.
    assert set(again) == set(first)
    for name, value in first.items():
        np.testing.assert_allclose(again[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
    for part in batch:
        batch[part] = batch[part][::-1]
    assert_same(asking.to_numpy(other.draw_noise(batch, ops.convert_to_tensor(2, "int32"))), first)


def test_noise_of_other_steps_and_seeds_shares_no_number(entry):
    batch, draws = entry.batch(), []
    for seed in (0, 1):
        model = entry.build(seed=seed)
        draws += [asking.to_numpy(model.draw_noise(batch, step)) for step in (0, 1, 2)]
    assert set(entry.draws) <= set(draws[0])
    for name in entry.draws:
        numbers = np.concatenate([np.ravel(noise[name]) for noise in draws])
        # Among thousands of float32 numbers a few pairs are equal by chance.
        assert len(np.unique(numbers)) > 0.99 * len(numbers), name
    assert len({int(noise["dropout"]) for noise in draws}) == 3


# Terms of a step


def test_a_step_gives_the_named_terms_in_float32(entry, model):
    batch = entry.batch()
    terms = asking.to_numpy(model.step_losses(batch, model.draw_noise(batch, 1), 1))
    assert set(terms) <= {*model.training_terms, "total"}
    assert terms["total"].shape == ()
    for name, value in terms.items():
        assert value.dtype == "float32", name
        assert np.isfinite(value).all(), name


def test_the_terms_of_unlabelled_images_do_not_depend_on_labels(entry, model):
    if not entry.sizes:
        pytest.skip("it has no labels")
    batch = entry.batch()
    noise = model.draw_noise(batch, 1)
    state = [ops.convert_to_numpy(weight) for weight in model.weights]

    def terms(labels):
        for weight, value in zip(model.weights, state, strict=True):  # resets the moving statistics
            weight.assign(value)
        return asking.to_numpy(model.step_losses({**batch, "labels": labels}, noise, 1))

    given, permuted = terms(batch["labels"]), terms(batch["labels"][[3, 0, 1, 2]])
    changed = {name for name, value in given.items() if not np.array_equal(value, permuted[name])}
    assert changed == set(entry.labelled_terms) & set(given)
