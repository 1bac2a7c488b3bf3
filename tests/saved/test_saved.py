"""Models saved by older releases load with their outputs and their optimizer's state, and train on.

`write.py` beside this file writes the files of a release, once: `python tests/saved/write.py VERSION`, and then again
with KERAS_BACKEND=jax. Each model has a `.keras` file, trained for three steps with a `GroupedOptimizer`, and for each
backend a file `.npz` with what the release gave there: the verbs on fixed inputs, the state of the optimizer, and the
weights after one more step.
"""

import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import small
from contract.programs import program_of
from keras import ops

import keras_ssvae.models  # noqa: F401 (registers what the files refer to)

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*/*.keras"))
VERBS = ("classify", "encode", "decode", "reconstruct", "interpolate", "generate")


@pytest.fixture(scope="module", params=FILES, ids=[f"{file.stem} of {file.parent.name}" for file in FILES])
def file(request):
    return request.param


@pytest.fixture(scope="module")
def expected(file):
    with np.load(file.with_suffix(f".{keras.backend.backend()}.npz")) as values:
        return dict(values)


@pytest.fixture(scope="module")
def model(file):
    """Each test but the last leaves it as it was."""
    with pytest.MonkeyPatch.context() as patch:
        small.without_random_weights(patch)  # the file gives them
        return keras.saving.load_model(file)


@pytest.fixture(scope="module")
def answers(model):
    """What the verbs give, by name, as one program."""

    def answers(images, z, labels):
        arguments = {"decode": (z,), "interpolate": (images[:2], images[2:4], 3), "generate": (labels, 4)}
        return {verb: getattr(model, verb)(*arguments.get(verb, (images,))) for verb in VERBS}

    return program_of(model, answers)


def starting_with(kind, expected):
    return {name.removeprefix(kind): value for name, value in expected.items() if name.startswith(kind)}


def assert_expected(answers, expected):
    for verb, answer in answers(expected["batch/unlabeled"], expected["z"], expected["labels"]).items():
        np.testing.assert_allclose(answer, expected[verb], rtol=1e-5, atol=1e-5, err_msg=verb)


def test_each_release_left_its_files():
    assert {file.parent.name for file in FILES} >= {"0.1"}
    assert len(FILES) >= 4


def test_a_saved_model_answers_as_it_did(answers, expected):
    assert_expected(answers, expected)


def test_the_weights_in_a_file_load_into_a_model_of_its_architecture(file, model, answers, expected, tmp_path):
    for layer in model.layers:
        for weight in layer.weights:
            weight.assign(np.zeros(weight.shape, weight.dtype))
    with zipfile.ZipFile(file) as archive:  # what `save_weights` writes
        weights = archive.extract("model.weights.h5", tmp_path)
    model.load_weights(weights)
    assert_expected(answers, expected)


# Last of all: it trains on.
def test_a_saved_model_has_the_state_of_its_optimizer_and_goes_on_with_the_same_step(model, expected):
    state = starting_with("optimizer/", expected)
    assert len(model.optimizer.variables) == len(state) > 20
    for variable, value in zip(model.optimizer.variables, state.values(), strict=True):
        np.testing.assert_array_equal(ops.convert_to_numpy(variable), value, err_msg=variable.path)
    assert int(model.optimizer.iterations) == 3
    batch = starting_with("batch/", expected)
    labels = batch.pop("labels")
    model.fit(((batch, labels) for _ in range(1)), steps_per_epoch=1, shuffle=False, verbose=0)
    assert int(model.optimizer.iterations) == 4
    after = starting_with("after/", expected)
    for variable, value in zip(model.trainable_weights, after.values(), strict=True):
        # The gradient of a bias before a normalisation is rounding, which Adam turns into steps of the full rate.
        if not ("conv_block" in variable.path and variable.path.endswith("bias")):
            value_now = ops.convert_to_numpy(variable)
            np.testing.assert_allclose(value_now, value, rtol=1e-4, atol=1e-5, err_msg=variable.path)
