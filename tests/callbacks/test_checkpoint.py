"""A run continues from the checkpoint as if it had never stopped, and a bad file is never mistaken for a good one."""

import errno
import json
import os

import keras
import numpy as np
import pytest

from keras_ssvae.callbacks import Checkpoint, CheckpointError
from keras_ssvae.callbacks import checkpoint as module
from keras_ssvae.optimizers import Adam, GroupedOptimizer

X = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
Y = X[:, :2] * [1.0, -2.0]


def make_model(weights_seed=0, units=3):
    """Two groups of variables with an optimizer each, moving statistics and dropout: every kind of state."""
    keras.utils.set_random_seed(weights_seed)
    first = [keras.layers.Dense(units), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((5,)), *first, keras.layers.Dense(2)])
    body, head = model.trainable_variables[:-2], model.trainable_variables[-2:]
    optimizer = GroupedOptimizer({"body": Adam(1e-2), "head": Adam(3e-2, weight_decay=1e-2)})
    optimizer.bind({"body": body, "head": head})
    model.compile(optimizer, "mse", metrics=["mae"])
    return model


def fit(model, checkpoint, epochs, initial_epoch=0):
    history = model.fit(
        *(X, Y),
        batch_size=8,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[checkpoint],
    )
    return history.history


def state(model):
    return [v.numpy() for v in (*model.variables, *model.optimizer.variables)]


def assert_same_state(model, expected):
    actual = state(model)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def restored(path, model):
    checkpoint = Checkpoint(path)
    checkpoint.set_model(model)
    return checkpoint, checkpoint.restore()


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """The content of a checkpoint of two epochs, and the state of the model that wrote it."""
    path = tmp_path_factory.mktemp("original") / "checkpoint.npz"
    model = make_model()
    fit(model, Checkpoint(path), epochs=2)
    return path.read_bytes(), state(model)


@pytest.fixture
def expected(original):
    return original[1]


@pytest.fixture
def path(original, tmp_path):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(original[0])
    return path


def rewrite(path, change):
    """Writes the file's arrays anew, after `change` has edited their dictionary."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    change(arrays)
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def refused(path, match):
    """Restoring fails with one sentence, and leaves the model as it was."""
    model = make_model(weights_seed=7)
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    with pytest.raises(CheckpointError, match=match) as caught:
        restored(path, model)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert message.endswith(".")
    assert_same_state(model, before)
    return message


def test_restore_gives_back_weights_slots_and_iterations(path, expected):
    other = make_model(weights_seed=5)
    assert not np.array_equal(other.get_weights()[0], expected[0])
    _, done = restored(path, other)
    assert done == 2
    assert_same_state(other, expected)
    assert int(other.optimizer.iterations) == 6
    assert all(int(member.iterations) == 6 for member in other.optimizer.members.values())
    slots = [v for v in other.optimizer.variables if v.shape == (5, 3)]
    assert len(slots) == 2  # the two moments of the first kernel
    assert all(np.abs(slot.numpy()).min() > 0 for slot in slots)


def test_a_resumed_fit_ends_as_the_uninterrupted_one_bit_for_bit(tmp_path, path):
    model, checkpoint = make_model(), Checkpoint(tmp_path / "whole.npz")
    logs = fit(model, checkpoint, epochs=4)

    other = make_model(weights_seed=5)
    resumed, done = restored(path, other)
    fit(other, resumed, epochs=4, initial_epoch=done)
    assert_same_state(other, state(model))
    assert resumed.history == checkpoint.history
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3, 4]
    assert [row["loss"] for row in resumed.history] == logs["loss"]
    assert set(resumed.history[0]) == {"epoch", "loss", "mae"}
    with np.load(path) as a, np.load(tmp_path / "whole.npz") as b:
        assert a.files == b.files
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_each_epoch_replaces_the_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "new" / "folder" / "checkpoint.npz"
    checkpoint = Checkpoint(path)
    model = make_model()
    for epochs in (1, 2):
        fit(model, checkpoint, epochs=epochs, initial_epoch=epochs - 1)
        assert os.listdir(path.parent) == ["checkpoint.npz"]
        with np.load(path) as file:
            assert len(json.loads(str(file["history"]))) == epochs


@pytest.mark.parametrize("moment", ["while it is written", "before it is on the disk", "before it is renamed"])
def test_a_write_that_fails_leaves_the_old_file(path, expected, monkeypatch, moment):
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")

    def half(file, **arrays):
        file.write(before[: len(before) // 2])
        raise full

    def fail(*args):
        raise full

    if moment == "while it is written":
        monkeypatch.setattr(module.np, "savez", half)
    else:
        monkeypatch.setattr(module.os, "fsync" if moment == "before it is on the disk" else "replace", fail)
    again, done = restored(path, make_model())
    with pytest.raises(OSError, match="No space left"):
        fit(again.model, again, epochs=3, initial_epoch=done)
    assert path.read_bytes() == before
    monkeypatch.undo()
    other = make_model(weights_seed=5)
    assert restored(path, other)[1] == 2
    assert_same_state(other, expected)
    # What the failure left behind does not disturb the next write.
    fit(other, restored(path, other)[0], epochs=3, initial_epoch=2)
    assert restored(path, make_model())[1] == 3


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "delete it to start the run again" in refused(path, "truncated or damaged")


def test_files_of_other_kinds_are_refused(path):
    np.save(path.with_suffix(".npy"), np.zeros(3))
    garbage = np.random.default_rng(0).bytes(1000)
    for content in (garbage, b"epoch,loss\n1,2.0\n", b"PK\x03\x04" + garbage, path.with_suffix(".npy").read_bytes()):
        path.write_bytes(content)
        refused(path, "truncated or damaged")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    refused(tmp_path / "nothing.npz", "cannot be read")
    refused(tmp_path, "cannot be read")


def test_a_damaged_byte_is_never_loaded_as_another_number(path, expected):
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refusals = 0
    other = make_model(weights_seed=5)
    for position in rng.choice(len(content), 300, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            checkpoint, done = restored(path, other)
        except CheckpointError:
            refusals += 1
        else:  # a time stamp, say
            assert done == len(checkpoint.history) == 2
            assert_same_state(other, expected)
    assert refusals > 150


def test_another_model_is_refused(path):
    fit(make_model(units=4), Checkpoint(path), epochs=1)
    assert "settings that started the run" in refused(path, "other variables")


def test_another_optimizer_is_refused(path):
    model = make_model()
    model.compile("sgd", "mse")
    with pytest.raises(CheckpointError, match="other variables"):
        restored(path, model)


def test_a_missing_an_added_and_a_retyped_array_are_refused(path):
    content = path.read_bytes()
    with np.load(path) as file:
        name = next(name for name in file.files if file[name].shape == (5, 3))
    for change in (
        lambda arrays: arrays.pop(name),
        lambda arrays: arrays.update(more=np.zeros(2)),
        lambda arrays: arrays.update({name: arrays[name].astype("float16")}),
        lambda arrays: arrays.update({name: arrays[name].T}),
    ):
        path.write_bytes(content)
        rewrite(path, change)
        refused(path, "other variables")


def test_a_file_without_a_history_is_refused(path):
    rewrite(path, lambda arrays: arrays.pop("history"))
    refused(path, "truncated or damaged")
