"""Shared by the contract tests: each runs once for each model of the registry."""

import os

import pytest
from contract import small
from contract.lives import lives_in
from contract.registry import ENTRIES


@pytest.fixture(scope="module", params=ENTRIES, ids=lambda entry: entry.name)
def entry(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)  # not beyond these tests: others want weights
def no_random_weights():
    with pytest.MonkeyPatch.context() as patch:
        small.without_random_weights(patch)
        yield


@pytest.fixture(scope="module")
def model(entry):
    """Not compiled, with dropout; a test leaves it as it was."""
    return entry.build(dropout=0.5)


@pytest.fixture(scope="session")
def on_jax():
    """Environment of a process on JAX that runs each program once: they are compiled quickly, not well."""
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    return {**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags}


@pytest.fixture(scope="session")
def images():
    return small.images(7)


@pytest.fixture(scope="session")
def life_of(tmp_path_factory):
    """`entry -> Life`: the model trained without a pause, once for all tests of a process."""
    return lives_in(tmp_path_factory.mktemp("lives"))
