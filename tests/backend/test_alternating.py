"""Where labelled and unlabelled batches alternate, a model is shown the part whose turn it is, and nothing else."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae import data
from keras_ssvae.backend.parts import due_parts
from keras_ssvae.models.base import BaseVAE

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
LABELED = IMAGES[:10], np.arange(10) % 4


def make_batches():
    """Three labelled batches, of 4, 4 and 2 images, and seven unlabelled ones, the last of 2."""
    settings = {"num_classes": 4, "labeled_batch_size": 4, "unlabeled_batch_size": 8, "seed": 1}
    return data.semi_supervised(LABELED, IMAGES, steps_per_epoch=10, rhythm=(3, 7), **settings)


class Small(BaseVAE):
    """Convolution, pooling and statistics of the batch: what cannot be computed of no images."""

    training_terms = ("reconstruction", "squares")

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(1)
        first = [layers.Conv2D(3, 3, activation="relu"), layers.MaxPooling2D(), layers.BatchNormalization()]
        self.network = keras.Sequential([keras.Input((8, 8, 1)), *first, layers.Flatten(), layers.Dense(4)])
        self.built, self.seen = True, []

    def check_batch(self, images, labels):
        self.seen.append((sorted(images), labels is not None))

    def draw_noise(self, batch, step):
        return {}

    def step_losses(self, batch, noise, step):
        if "labeled" in batch:
            terms = {"squares": ops.square(self.network(batch["labeled"], training=True) - batch["labels"])}
        else:
            terms = {"reconstruction": ops.square(self.network(batch["unlabeled"], training=True))}
        terms = {name: ops.sum(term, axis=-1) for name, term in terms.items()}
        return {**terms, "total": ops.sum(next(iter(terms.values())))}


def compiled(**arguments):
    model = Small()
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), **arguments)
    return model


@pytest.mark.parametrize("steps_per_execution", [1, 5])
def test_fit_trains_as_if_the_other_part_were_not_there(steps_per_execution):
    model, expected = compiled(steps_per_execution=steps_per_execution), compiled()
    model.fit(make_batches(), steps_per_epoch=10, epochs=2, shuffle=False, verbose=0)
    for batch in itertools.islice(make_batches(), 20):
        images, *labels = due_parts(batch)
        expected.train_on_batch(images, *labels)
    for variable, other in zip(model.network.variables, expected.network.variables, strict=True):
        assert np.isfinite(variable.numpy()).all()
        np.testing.assert_allclose(variable, other, rtol=1e-4, atol=1e-6)
    kinds = {(*images, labels) for images, labels in model.seen}
    assert kinds == {("labeled", "labeled_augmented", True), ("unlabeled", "unlabeled_augmented", False)}


@pytest.mark.parametrize("steps_per_execution", [1, 5])
def test_the_logs_of_an_epoch_are_means_over_the_steps_that_have_the_term(steps_per_execution):
    model = Small()
    model.compile(keras.optimizers.SGD(0.0), steps_per_execution=steps_per_execution)
    logs = model.fit(make_batches(), verbose=0).history
    expected = {name: [] for name in model.training_terms}
    for batch in itertools.islice(make_batches(), 10):
        images, *labels = due_parts(batch)
        terms = model.step_losses(images | ({"labels": labels[0]} if labels else {}), {}, 0)
        for name in set(terms) - {"total"}:
            expected[name].append(ops.convert_to_numpy(terms[name]))
    assert len(expected["squares"]) == 3
    for name, values in expected.items():
        assert logs[name][0] == pytest.approx(np.concatenate(values).mean(), rel=1e-4), name


def test_a_batch_of_both_parts_or_of_something_else_stays_as_it_is():
    images = np.zeros((2, 8, 8, 1))
    for batch in (
        ({"labeled": images, "unlabeled": images}, np.eye(2)),
        (images[:0], np.eye(2)[:0]),
        images[:0],
        (),
    ):
        assert due_parts(batch) is batch
