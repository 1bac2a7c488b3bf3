"""What a user reads who asks Keras for a backend on which the library does not run, or which is not installed."""

import os
import subprocess
import sys

import pytest

MISSING = "import sys; sys.modules.update(dict.fromkeys({names!r})); import keras_ssvae"


def error_of(backend, *missing):
    """The last line of the error that importing the package ends in, with these packages not installed."""
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    code = MISSING.format(names=missing)
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    return ended.stderr.strip().splitlines()[-1]


def test_another_backend_is_named_where_tensorflow_is_not_installed():
    error = error_of("numpy", "tensorflow")
    # Before Keras 3.11, Keras' NumPy backend needs JAX.
    assert "keras_ssvae runs on the TensorFlow and JAX backends of Keras" in error
    assert "numpy" in error


@pytest.mark.parametrize(("backend", "package"), [("tensorflow", "tensorflow"), ("jax", "jax"), ("torch", "torch")])
def test_a_backend_that_is_not_installed_is_named(backend, package):
    error = error_of(backend, package)
    assert error.startswith(f"ImportError: Keras could not be imported, since its backend needs '{package}'")
    assert f"KERAS_BACKEND is {backend}" in error
    assert error.endswith("set KERAS_BACKEND to tensorflow or jax.")
