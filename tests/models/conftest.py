"""The small models of the contract tests, for tests of what is particular to a system."""

import pytest
from contract import asking, registry, small


@pytest.fixture
def assert_same_bits():
    """Of everything in two models."""
    return lambda model, expected: asking.assert_same_bits(asking.state(model), asking.state(expected))


@pytest.fixture
def networks():
    """The builders of EXoN's small networks, one by one, and of all three with convolutions."""
    builders = {"encoder": small.encoder, "decoder": small.decoder, "classifier": small.classifier}
    return {**builders, "convolutional": small.convolutional}


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    small.without_random_weights(monkeypatch)


@pytest.fixture
def make_model():
    """Builds a small EXoN; the same weights each time, biases included."""
    return registry.exon


@pytest.fixture
def compile_model():
    """Compiles a model with one optimizer for each group, and returns it."""

    def compile_model(model, rate=1e-2):
        model.compile(registry.two_adams(rate))
        return model

    return compile_model


@pytest.fixture
def make_parted():
    """Builds a small PartedVAE of one label or, with `several`, of two; the same weights each time."""
    return registry.parted


@pytest.fixture
def compile_parted():
    """Compiles a PartedVAE with two plateaus, and returns it."""

    def compile_parted(model, rate=1e-2):
        model.compile(registry.two_plateaus(rate))
        return model

    return compile_parted


@pytest.fixture
def parted_batch():
    """What `step_losses` of a PartedVAE takes, of as many labels as the model has."""

    def parted_batch(model):
        batch = small.batch(model.labels.sizes)
        return {name: batch[name] for name in ("labeled", "unlabeled", "labels")}

    return parted_batch


@pytest.fixture
def forever():
    """The batches of `fit`: a batch of `step_losses`, with labels or without, again and again."""
    return asking.forever


@pytest.fixture
def train():
    """`fit` on the same batch, `steps` times; returns the last logs."""
    return lambda model, batch, steps: {name: v[-1] for name, v in asking.fit(model, batch, steps).items()}


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def images():
    return small.images(7)


@pytest.fixture
def batch():
    """What `step_losses` of an EXoN takes: the four parts, and `labels` of the labelled one."""
    return small.batch()
