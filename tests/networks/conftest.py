import contextlib

import keras
import numpy as np
import pytest
from keras import ops


@pytest.fixture(scope="session")
def quick_weights():
    """Opens a context in which kernels begin as NumPy's random numbers: JAX compiles its own for each shape, in 1 s."""
    return _quick_weights


@contextlib.contextmanager
def _quick_weights():
    rng = np.random.default_rng(0)

    def initialize(self, shape, dtype=None):
        spread = np.prod(shape[:-1]) ** -0.5  # of sums over all inputs: 1
        return ops.convert_to_tensor(spread * rng.normal(size=shape).astype("float32"), dtype)

    with pytest.MonkeyPatch.context() as patch:
        for initializer in (keras.initializers.GlorotUniform, keras.initializers.RandomUniform):
            patch.setattr(initializer, "__call__", initialize)
        yield
