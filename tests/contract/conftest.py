"""Fixtures of the contract tests, each of which runs once for each model of the registry."""

import os

import pytest
from contract import small
from contract.lives import lives_in
from contract.registry import ENTRIES


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: entry.name)
def entry(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)  # not for other tests, which need random weights
def no_random_weights():
    with pytest.MonkeyPatch.context() as patch:
        small.without_random_weights(patch)
        yield


@pytest.fixture(scope="module")
def model(entry):
    """A model that is not compiled and has dropout. A test must leave it as it was."""
    return entry.build(dropout=0.5)


@pytest.fixture(scope="session")
def on_jax():
    """Environment of a process on JAX. It runs each program once, so XLA compiles quickly instead of optimising."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    return {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}


@pytest.fixture(scope="session")
def images():
    return small.images(7)


@pytest.fixture(scope="session")
def life_of(tmp_path_factory):
    """`entry -> Life`: the model trained without interruption, once for all tests of a process."""
    return lives_in(tmp_path_factory.mktemp("lives"))
