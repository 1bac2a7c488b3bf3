"""A model of a file is the same in another process, and its SavedModel in one without Keras. One process for all."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import asking, small
from contract.registry import ENTRIES
from keras import ops

HERE = Path(__file__).parent
JAX = keras.backend.backend() == "jax"
pytestmark = pytest.mark.xdist_group("lives")
SIGNATURES = {"encode", "decode", "reconstruct", "generate", "interpolate", "serving_default"}


def run(script, folders, **environment):
    # Nothing of the checkout is found but what the script needs.
    finished = subprocess.run(
        [sys.executable, HERE / script, *folders],
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend(), **environment},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.fixture(scope="session")
def saved(life_of):
    """All models, saved after an epoch; one process has used the files of all and left `result.npz` in each folder."""
    lives = {entry.name: life_of(entry) for entry in ENTRIES}
    paths = os.pathsep.join(str(path) for path in (HERE.parent, HERE.parents[1]))
    run("in_a_fresh_process.py", [life.folder for life in lives.values()], PYTHONPATH=paths)
    return lives


def test_a_file_gives_the_same_model_in_another_process(entry, saved):
    life = saved[entry.name]
    result = np.load(life.folder / "result.npz")
    assert {name for name in result.files if name.startswith(("verb/", "predict/"))} == set(life.answers)
    for name, value in life.answers.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("moment", "epochs"), [("before", 1), ("after", 2)])
def test_training_goes_on_there_as_if_never_interrupted(entry, saved, moment, epochs):
    life = saved[entry.name]
    with np.load(life.folder / "result.npz") as result:
        values = [result[f"{moment}/{i}"] for i in range(len(life.states[epochs]))]
    asking.assert_same_bits([("", value) for value in values], life.states[epochs])


# Served


def batched(entry, images):
    """The requests to each signature."""
    requests = {signature: {"image": images} for signature in ("encode", "reconstruct", "serving_default")}
    requests["interpolate"] = {"a": images[:2], "b": images[2:4], "n": np.full(2, 3)}
    requests["generate"] = {"seed": np.array([7, 7, 11])}
    if entry.sizes:
        requests["generate"]["label"] = asking.to_generate(entry)
    return requests


@pytest.fixture(scope="session")
def served(saved, images):
    """Each model's answers to `batched`, from a process that has TensorFlow alone."""
    for entry in ENTRIES:
        folder, expected = saved[entry.name].folder, saved[entry.name].answers
        requests = batched(entry, images)
        latent_dim = expected["verb/encode"].shape[1]
        requests["decode"] = {"z": np.linspace(-1, 1, 2 * latent_dim, dtype="float32").reshape(2, -1)}
        if "verb/classify" in expected:
            requests["classify"] = {"image": images}
        flat = {f"{signature}/{name}": value for signature, named in requests.items() for name, value in named.items()}
        np.savez(folder / "requests.npz", **flat)
    run("with_tensorflow_alone.py", [life.folder for life in saved.values()], PYTHONPATH="")
    return saved


@pytest.mark.skipif(JAX, reason="a SavedModel is exported on the TensorFlow backend")
def test_tensorflow_alone_gives_the_models_own_answers(entry, served, images):
    folder, expected = served[entry.name].folder, served[entry.name].answers
    answers = dict(np.load(folder / "answers.npz"))
    classified = "verb/classify" in expected
    assert set(answers.pop("signatures")) == SIGNATURES | ({"classify"} if classified else set())
    model = keras.saving.load_model(folder / "model.keras")
    wanted, seeds = asking.to_generate(entry), (7, 7, 11)
    rows = [(wanted[i : i + 1] if entry.sizes else 1, seed) for i, seed in enumerate(seeds)]
    right = {
        "encode/z": expected["verb/encode"],
        "decode/image": expected["verb/decode"],
        "reconstruct/image": expected["verb/reconstruct"],
        "interpolate/images": model.interpolate(images[:2], images[2:4], 3),
        "generate/image": np.concatenate([model.generate(*row) for row in rows]),
    }
    if classified:
        probs = expected["verb/classify"]
        of_classes = {"probs": probs, "label": ops.convert_to_numpy(model.predicted_labels(probs))}
        right |= {f"{name}/{key}": of_classes[key] for name in ("classify", "serving_default") for key in of_classes}
    else:
        right["serving_default/z"] = expected["verb/encode"]
    assert set(answers) == set(right)
    for name, value in right.items():
        np.testing.assert_allclose(answers[name], value, atol=1e-5, err_msg=name)
        assert answers[name].dtype == ("int64" if name.endswith("label") else "float32"), name
    assert answers["interpolate/images"].shape == (2, 3, *small.IMAGE_SHAPE)
