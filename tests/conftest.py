"""Shared by all tests; read before any of them imports TensorFlow."""

import contextlib
import functools
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pytest
from hypothesis import settings
from keras import ops

# The same examples in every run, whatever failed before, and no time limit: the machine may be busy.
settings.register_profile("reproducible", derandomize=True, database=None, deadline=None, max_examples=50)
settings.load_profile("reproducible")


@pytest.fixture
def differentiate():
    """`(outputs, gradients)` of `sum(upstream * function(*arrays))` by the arrays, and by Keras variables."""
    return _differentiate


def _differentiate(function, arrays, variables=(), upstream=1.0):
    def total(*arrays):
        outputs = function(*arrays)
        return ops.sum(outputs * ops.cast(upstream, outputs.dtype)), outputs

    arrays = [ops.convert_to_tensor(array) for array in arrays]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        sources = [*arrays, *(variable.value for variable in variables)]
        with tf.GradientTape() as tape:
            tape.watch(arrays)
            value, outputs = total(*arrays)
        gradients = tape.gradient(value, sources, unconnected_gradients="zero")
    else:
        import jax

        def with_values(arrays, values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
                return total(*arrays)

        values = [variable.value for variable in variables]
        gradients, outputs = jax.jit(jax.grad(with_values, argnums=(0, 1), has_aux=True))(arrays, values)
        gradients = [*gradients[0], *gradients[1]]
    return ops.convert_to_numpy(outputs), [ops.convert_to_numpy(gradient) for gradient in gradients]


@pytest.fixture
def in_float64():
    """Opens a context in which the backend computes in float64; JAX has it elsewhere turned off."""
    if keras.backend.backend() == "tensorflow":
        return contextlib.nullcontext
    import jax

    return functools.partial(jax.enable_x64, True)


@pytest.fixture
def compiled():
    """Makes a graph or program of a function of tensors."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return tf.function
    import jax

    return jax.jit


@pytest.fixture(autouse=True)
def dtype_policy():
    """Puts back the global dtype policy, which a test may set."""
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)


@pytest.fixture(scope="session")
def tfd():
    """TensorFlow Probability, as a witness; it computes on TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("the witness computes on TensorFlow")
    return pytest.importorskip("tensorflow_probability").distributions
