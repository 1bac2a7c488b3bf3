"""TensorFlow and JAX take the same step from the same weights, batch and noise."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

BACKENDS = ("tensorflow", "jax")
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="done with the tests on TensorFlow"),
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("backends")


@pytest.fixture
def results(make_model, networks, batch, folder):
    """What the step gives on each backend, each in a process of its own; computed once."""
    if not (folder / "given.npz").exists():
        model = make_model(**networks["convolutional"](rate=0.5))
        noise = model.draw_noise(batch, 1) | {"mix_weight_labeled": np.float32(0.3)}
        given = {f"weight/{i}": variable for i, variable in enumerate(model.trainable_weights)}
        given |= {f"batch/{name}": value for name, value in batch.items()}
        given |= {f"noise/{name}": value for name, value in noise.items()}
        np.savez(folder / "given.npz", **{name: ops.convert_to_numpy(value) for name, value in given.items()})
        script, root = Path(__file__).with_name("terms.py"), str(Path(__file__).parents[2])
        processes = [
            subprocess.Popen(
                [sys.executable, script, folder / "given.npz", folder / f"{backend}.npz"],
                env={**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": root},
                stderr=subprocess.PIPE,
                text=True,
            )
            for backend in BACKENDS
        ]
        for process in processes:
            _, messages = process.communicate(timeout=300)
            assert process.returncode == 0, messages[-3000:]
    return [dict(np.load(folder / f"{backend}.npz")) for backend in BACKENDS]


def before_normalisation(name):
    """Whether it belongs to a bias that a normalisation takes off again: its gradient is nothing but rounding."""
    return re.search("conv_block.*bias", name) is not None


def of_kind(kind, results):
    tensorflow, jax = ({name: part for name, part in result.items() if name.startswith(kind)} for result in results)
    assert set(tensorflow) == set(jax) != set()
    return [(name, value, jax[name]) for name, value in tensorflow.items()]


def test_every_term_of_every_image_and_the_total_agree_to_1e_5(results, model):
    pairs = of_kind("term/", results)
    assert {name for name, *_ in pairs} == {f"term/{name}" for name in (*model.training_terms, "total")}
    for name, value, expected in pairs:
        np.testing.assert_allclose(value, expected, rtol=1e-5, err_msg=name)
    # Two blocks drop out: one of the classifier, in five passes, and one of the decoder.
    assert [result["num_masks"] for result in results] == [6, 6]


def test_gradients_moving_statistics_and_the_optimizers_state_agree(results):
    for name, value, expected in of_kind("gradient/", results) + of_kind("state/", results):
        if before_normalisation(name):
            np.testing.assert_allclose((value, expected), 0.0, atol=1e-3, err_msg=name)
        else:
            scale = np.abs(expected).max()
            np.testing.assert_allclose(value, expected, rtol=0, atol=2e-5 * scale, err_msg=name)


def test_weights_after_the_step_agree(results):
    compared = 0
    for name, value, expected in of_kind("after/", results):
        if not before_normalisation(name):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)
            compared += 1
    assert compared > 15
