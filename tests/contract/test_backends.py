"""TensorFlow and JAX take the same step from the same weights, batch, noise and dropout masks."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract import asking, step
from contract.registry import ENTRIES

HERE = Path(__file__).parent
VARIANTS_ARE_SLOW = True
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="done with the tests on TensorFlow"),
    pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed"),
]


@pytest.fixture(scope="module")
def step_on_jax(tmp_path_factory, on_jax, asked_for):
    """Name of a model -> the file with its step on JAX. One process makes the steps of all models."""
    folder = tmp_path_factory.mktemp("backends")
    numbers = {entry.name: ENTRIES.index(entry) for entry in asked_for}
    for entry in asked_for:
        model, batch = entry.build(dropout=0.5, **entry.as_published()), entry.batch()
        noise = asking.to_numpy(model.draw_noise(batch, step.STEP))
        # Beta(0.1, 0.1) often gives nearly 0 or 1, which would mix nothing.
        noise |= {name: np.float32(0.3) for name in noise if name.startswith("mix_weight")}
        given = {f"weight/{i}": value for i, value in enumerate(model.trainable_weights)}
        given |= {f"batch/{name}": value for name, value in batch.items()}
        given |= {f"noise/{name}": value for name, value in noise.items()}
        np.savez(folder / f"{numbers[entry.name]}_given.npz", **asking.to_numpy(given))
    finished = subprocess.run(
        [sys.executable, HERE / "step.py", folder],
        env={**on_jax, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE.parents[1]}"},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return {name: folder / f"{number}_result.npz" for name, number in numbers.items()}


@pytest.fixture(scope="module")
def results(entry, step_on_jax):
    """The results of the step on TensorFlow and on JAX."""
    given = Path(str(step_on_jax[entry.name]).replace("result", "given"))
    return step.take(entry, *step.load(given)), dict(np.load(step_on_jax[entry.name]))


def pairs(kind, results):
    tensorflow, jax = ({name: part for name, part in result.items() if name.startswith(kind)} for result in results)
    assert set(tensorflow) == set(jax) != set()
    return [(name, value, jax[name]) for name, value in tensorflow.items()]


def before_normalisation(name):
    """Whether a name is that of a bias before a normalisation, which removes it: its gradient is only rounding."""
    return re.search("conv_block.*bias", name) is not None


def test_every_term_of_every_image_and_the_total_agree(results, model):
    given = pairs("term/", results)
    assert {name for name, *_ in given} == {f"term/{name}" for name in (*model.training_terms, "total")}
    for name, value, expected in given:
        np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    masks = [int(result["masks"]) for result in results]
    assert masks[0] == masks[1]


def test_gradients_moving_statistics_and_the_optimizers_state_agree(entry, results):
    for name, value, expected in pairs("gradient/", results) + pairs("state/", results):
        if before_normalisation(name):
            np.testing.assert_allclose((value, expected), 0.0, atol=1e-3, err_msg=name)
        else:
            scale = np.abs(expected[np.isfinite(expected)]).max(initial=0.0)
            np.testing.assert_allclose(value, expected, rtol=0, atol=entry.gradient_tolerance * scale, err_msg=name)


def test_weights_after_the_step_agree(results):
    # Adam divides a gradient by its size, so the rounding of a small gradient, which depends on the number of threads,
    # is visible in the weight. A step is 1e-2.
    for name, value, expected in pairs("after/", results):
        if not before_normalisation(name):
            np.testing.assert_allclose(value, expected, rtol=1e-5, atol=2e-5, err_msg=name)
