"""Training on several devices ends with the weights of one device: two virtual CPU devices, and two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from contract.registry import ENTRIES

SCRIPT = Path(__file__).with_name("train.py")
JAX = keras.backend.backend() == "jax"
# Two that have little in common. The others are slow tests.
DEFAULT = ("EXoN", "VampPrior")
MODELS = [pytest.param(each, marks=[] if each.name in DEFAULT else pytest.mark.slow) for each in ENTRIES]


def start(how, file, *args, **environment):
    paths = os.pathsep.join(str(SCRIPT.parents[i]) for i in (1, 2))
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": paths, **environment}
    return subprocess.Popen(
        [sys.executable, SCRIPT, how, file, *args], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process, file):
    """(place, model) -> its logs and its variables; the place is "one", "two" or "workers"."""
    _, messages = process.communicate(timeout=600)
    assert process.returncode == 0, messages[-3000:]
    with np.load(file) as arrays:
        arrays = dict(arrays)
    runs = {tuple(key.split("/")): (logs, {}) for key, logs in json.loads(str(arrays.pop("logs"))).items()}
    for key, value in arrays.items():
        place, model, name = key.split("/", 2)
        runs[place, model][1][name] = value
    return runs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distribution")


@pytest.fixture(scope="module")
def on_devices(folder, asked_for):
    """One process trains the models on one device and on two."""
    file = folder / "devices.npz"
    return finish(start("devices", file, *(entry.name for entry in asked_for)), file)


@pytest.fixture(scope="module")
def with_norm(folder):
    file = folder / "norm.npz"
    return finish(start("devices", file, "norm"), file)


def assert_same(run, expected, atol=1e-6):
    (logs, weights), (expected_logs, expected_weights) = run, expected
    assert len(weights) == len(expected_weights) > 3
    for name, value in expected_weights.items():
        # The gradient of a bias before a normalisation is rounding, which Adam turns into steps of the full rate.
        if not ("conv_block" in name and name.endswith("bias")):
            np.testing.assert_allclose(weights[name], value, atol=atol, err_msg=name)
    for name, value in logs.items():
        np.testing.assert_allclose(value, expected_logs[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("entry", MODELS, ids=lambda entry: entry.name)
def test_two_devices_end_with_the_weights_and_logs_of_one(on_devices, entry):
    assert_same(on_devices["two", entry.name], on_devices["one", entry.name])


@pytest.mark.slow
@pytest.mark.skipif(not JAX, reason="on TensorFlow each replica normalises by its own rows")
def test_on_jax_batch_normalisation_takes_its_statistics_of_all_devices(with_norm):
    assert_same(with_norm["two", "EXoN"], with_norm["one", "EXoN"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason="on JAX the statistics are those of all devices")
def test_on_tensorflow_each_replica_normalises_by_its_own_rows(with_norm):
    logs, weights = with_norm["two", "EXoN"]
    expected_logs, expected_weights = with_norm["one", "EXoN"]
    assert all(np.isfinite(value).all() for value in weights.values())
    assert max(np.abs(weights[name] - value).max() for name, value in expected_weights.items()) > 1e-4
    np.testing.assert_allclose(logs["loss"], expected_logs["loss"], rtol=0.1)


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason="tf.distribute is of TensorFlow")
def test_two_workers_end_with_the_weights_and_logs_of_one(folder, on_devices):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    files = [folder / f"worker_{i}.npz" for i in range(2)]
    names = [name for place, name in on_devices if place == "one"]
    tasks = [json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}) for i in range(2)]
    processes = [start(str(i), files[i], *names, TF_CONFIG=tasks[i]) for i in range(2)]
    try:
        for process, file in zip(processes, files, strict=True):
            for (_, name), run in finish(process, file).items():
                assert_same(run, on_devices["one", name])
    finally:
        for process in processes:
            process.kill()
