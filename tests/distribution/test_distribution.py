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

SCRIPT = Path(__file__).with_name("train.py")
JAX = keras.backend.backend() == "jax"


def start(how, file, *args, **environment):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend(), **environment}
    return subprocess.Popen(
        [sys.executable, SCRIPT, how, file, *args], env=environment, stderr=subprocess.PIPE, text=True
    )


def finish(process, file, devices):
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages[-3000:]
    with np.load(file) as arrays:
        arrays = dict(arrays)
    assert arrays.pop("devices") == devices
    return json.loads(str(arrays.pop("logs"))), arrays


def trained(how, folder, *args):
    file = folder / f"{how}{'_'.join(args)}.npz"
    return finish(start(how, file, *args), file, devices={"one": 1, "two": 2}[how])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distribution")


@pytest.fixture(scope="module")
def one(folder):
    return trained("one", folder)


def assert_same(run, expected, atol=1e-6):
    (logs, weights), (expected_logs, expected_weights) = run, expected
    for name, value in expected_weights.items():
        # The gradient of a bias before a normalisation is rounding, which Adam turns into steps of the full rate.
        if not ("conv_block" in name and name.endswith("bias")):
            np.testing.assert_allclose(weights[name], value, atol=atol, err_msg=name)
    for name, value in logs.items():
        np.testing.assert_allclose(value, expected_logs[name], rtol=1e-4, err_msg=name)


def test_two_devices_end_with_the_weights_and_logs_of_one(folder, one):
    assert_same(trained("two", folder), one)


@pytest.mark.slow
@pytest.mark.skipif(not JAX, reason="on TensorFlow each replica normalises by its own rows")
def test_on_jax_batch_normalisation_takes_its_statistics_of_all_devices(folder):
    assert_same(trained("two", folder, "norm"), trained("one", folder, "norm"), atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason="on JAX the statistics are those of all devices")
def test_on_tensorflow_each_replica_normalises_by_its_own_rows(folder):
    logs, weights = trained("two", folder, "norm")
    expected_logs, expected_weights = trained("one", folder, "norm")
    assert all(np.isfinite(value).all() for value in weights.values())
    assert max(np.abs(weights[name] - value).max() for name, value in expected_weights.items()) > 1e-4
    np.testing.assert_allclose(logs["exon loss"], expected_logs["exon loss"], rtol=0.1)


@pytest.mark.slow
@pytest.mark.skipif(JAX, reason="tf.distribute is of TensorFlow")
def test_two_workers_end_with_the_weights_and_logs_of_one(folder, one):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    files = [folder / f"worker_{i}.npz" for i in range(2)]
    processes = [
        start(str(i), files[i], TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}))
        for i in range(2)
    ]
    try:
        logs, weights = one
        training_logs = {name: value for name, value in logs.items() if " val_" not in name}
        for process, file in zip(processes, files, strict=True):
            assert_same(finish(process, file, devices=2), (training_logs, weights))
    finally:
        for process in processes:
            process.kill()
