"""`--data-parallel`: a run on two virtual devices."""

import os
import subprocess
import sys

import pytest

# Only TensorFlow's own functions make its virtual devices, and its strategy uses one CPU unless devices are named.
TWO_CPUS = """
import runpy, sys
import tensorflow as tf
strategy, cpu = tf.distribute.MirroredStrategy, tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tf.distribute.MirroredStrategy = lambda: strategy(["CPU:0", "CPU:1"])
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_a_run_on_two_devices_succeeds(request, small, tmp_path, backend):
    if backend == "jax":
        pytest.importorskip("jax")
    else:
        request.getfixturevalue("tensorflow")
    start = ["-c", TWO_CPUS] if backend == "tensorflow" else []
    command = [sys.executable, *start, small.script, *small.args, "--epochs", "1", "--data-parallel"]
    # On JAX a flag makes virtual devices.
    environment = {"KERAS_BACKEND": backend, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-3000:]
    metrics = small.metrics(tmp_path)
    assert (metrics["settings"]["data_parallel"], metrics["settings"]["replicas"]) == (True, 2)
    (row,) = small.history(tmp_path)
    # On TensorFlow each device updates the statistics of Keras' batch normalisation by itself.
    close = 1e-4 if backend == "jax" else 0.02
    assert metrics["test_error_percent"] == pytest.approx(row["test_error"], rel=close)
    assert metrics["kl_divergence"] == pytest.approx(row["test_kl_categorical"] + row["test_kl_gaussian"], rel=close)
    # The time of a single epoch is mostly compilation.
    assert metrics["step_milliseconds"] is None
    assert "ms a step" not in done.stdout
