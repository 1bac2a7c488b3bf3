"""What the batches are on JAX alone; test_pipeline.py has what they are everywhere."""

import os
import subprocess
import sys
import threading
import types

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_ssvae import data
from keras_ssvae.data import augment

if keras.backend.backend() != "jax":
    pytest.skip("these are the batches on the JAX backend", allow_module_level=True)

import jax

from keras_ssvae.data import jax as backend

LABELS = np.arange(100) % 10
UNLABELED = np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 1), np.uint8)
LABELED = UNLABELED[:100], LABELS


def make(labeled=LABELED, unlabeled=UNLABELED, **arguments):
    settings = {"num_classes": 10, "steps_per_epoch": 8, "seed": 1, "augment": augment.random_crop}
    return data.semi_supervised(labeled, unlabeled, **(settings | arguments))


def assert_same(batch, other):
    tree.map_structure(np.testing.assert_array_equal, batch, other)


def test_item_i_is_the_batch_of_step_start_plus_i_in_whatever_order_they_are_asked_for():
    batches, later = make(), make(start_step=5)
    in_turn = [batches[i] for i in range(20)]
    for i in (14, 0, 7, 8, 3):
        assert_same(later[i], in_turn[i + 5])


def test_batches_are_shown_in_one_line():
    shown = repr(make(start_step=5, labeled_batch_size=10))
    assert shown == ("<batches of 10 labeled of 100, 96 unlabeled of 1000 images, 8 steps an epoch, from step 5>")


def test_batches_are_arrays_on_the_device():
    batch = make()[0]
    assert all(isinstance(array, jax.Array) for array in jax.tree.leaves(batch))
    assert all(array.devices() == {jax.devices()[0]} for array in jax.tree.leaves(batch))


def test_nothing_but_counters_goes_to_the_device_and_nothing_comes_back():
    batches = make()
    batches[0]
    for index in range(8):  # the batches of two lengths, compiled
        batches[index]
    with jax.transfer_guard_device_to_host("disallow"):
        for index in range(8, 20):
            batches[index]


@pytest.mark.parametrize(("limit", "on_device"), [(10**9, True), (4 * 10**4, False)])
def test_images_that_do_not_fit_stay_on_the_host_and_give_the_same_batches(monkeypatch, limit, on_device):
    expected = make()
    device = types.SimpleNamespace(memory_stats=lambda: {"bytes_limit": limit})
    monkeypatch.setattr(backend.jax, "local_devices", lambda: [device])
    batches = make()
    kept = jax.tree.leaves(batches._sources)
    assert all(isinstance(array, jax.Array) == on_device for array in kept)
    for index in range(12):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-6), batches[index], expected[index])


@pytest.mark.parametrize("steps_per_execution", [1, 4])
def test_fit_walks_through_the_steps_across_epochs_without_threads(steps_per_execution):
    seen = []

    class Spy(type(make())):
        def __getitem__(self, index):
            seen.append((index, threading.current_thread()))
            return super().__getitem__(index)

    class First(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(1)

        def call(self, x):
            assert all(isinstance(each, jax.Array) for each in x.values())
            return self.dense(ops.reshape(x["labeled"], (-1, 64)))

    batches = make()
    batches.__class__ = Spy
    model = First()
    model.compile("sgd", loss=lambda y, out: ops.mean(out**2), steps_per_execution=steps_per_execution)
    model.fit(batches, steps_per_epoch=4, epochs=4, initial_epoch=1, shuffle=False, verbose=0)
    # Keras looks at the first batch to build the model, before 3.13 at two, and may fetch one ahead on an accelerator.
    indices = [index for index, _ in seen]
    assert [*range(12)] in (indices[1:13], indices[2:14])
    assert {thread for _, thread in seen} == {threading.main_thread()}


def test_augment_on_makes_no_difference():
    assert_same(make(augment_on="host")[3], make(augment_on="device")[3])


@pytest.mark.parametrize("name", ["labeled", "unlabeled"])
def test_a_dataset_of_tensorflow_is_refused_in_a_sentence(name):
    dataset = types.SimpleNamespace(element_spec=None)
    with pytest.raises(ValueError, match=f"`{name}` is a .*On the JAX backend of Keras it must be arrays"):
        make(**{name: dataset})


def test_tensorflow_is_not_imported():
    code = (
        "import sys, numpy as np; from keras_ssvae import data; images = np.zeros((8, 28, 28, 1), np.uint8); "
        "batches = data.semi_supervised((images, np.arange(8)), images, num_classes=8, steps_per_epoch=1, seed=1, "
        "augment=data.augment.mnist, labeled_batch_size=2, unlabeled_batch_size=2); batches[0]; "
        "assert not {'tensorflow', 'tensorflow_datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "KERAS_BACKEND": "jax"})
