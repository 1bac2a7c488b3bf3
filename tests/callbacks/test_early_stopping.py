"""It stops by its rule, puts the best weights back, and a killed run stops as if it had never been killed."""

import json
import math

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_ssvae.callbacks import Checkpoint, CheckpointError, EarlyStopping

X = np.random.default_rng(0).normal(size=(24, 5)).astype("float32")
Y = X[:, :2] * [1.0, -2.0]
# The best is at epoch 2, and after epoch 4 two in a row were not better.
VALUES = [5.0, 2.0, 2.5, 2.0, 1.0, 1.0]
STOP, BEST, LAST = 4, 2, 5


class Values(keras.callbacks.Callback):
    """Gives the logs a value that depends on the epoch alone; keeps the weights of each epoch."""

    def __init__(self, values=VALUES):
        super().__init__()
        self.values, self.weights = values, []

    def on_epoch_end(self, epoch, logs=None):
        logs["val_error"] = self.values[epoch]
        self.weights.append(self.model.get_weights())


class Killed(Exception):
    pass


class Killer(keras.callbacks.Callback):
    """Ends the process, so to speak, in a method at an epoch, counted from 1."""

    def __init__(self, moment, epoch):
        super().__init__()
        self.epoch = 0

        def kill(*args, logs=None):
            if self.epoch == epoch:
                raise Killed

        setattr(self, moment, kill)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch + 1


def make_model(weights_seed=0):
    keras.utils.set_random_seed(weights_seed)
    layers = [keras.layers.Dense(3), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
    model = keras.Sequential([keras.Input((5,)), *layers, keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(1e-2), "mse", run_eagerly=True)
    return model


def make_stopping(**arguments):
    return EarlyStopping(**({"monitor": "val_error", "patience": 2} | arguments))


def fit(model, *callbacks, epochs=6, initial_epoch=0):
    settings = {"epochs": epochs, "initial_epoch": initial_epoch, "batch_size": 12, "shuffle": False, "verbose": 0}
    return model.fit(X, Y, callbacks=list(callbacks), **settings)


def run(path, stopping=None, before=(), between=(), after=(), **arguments):
    """What a script does, from the beginning or from the file that a killed one left."""
    model = make_model(weights_seed=0 if not path.exists() else 5)
    stopping = stopping or make_stopping()
    checkpoint = Checkpoint(path, callbacks=[stopping])
    checkpoint.set_model(model)
    done = checkpoint.restore() if path.exists() else 0
    values = Values()
    fit(model, values, *before, stopping, *between, checkpoint, *after, initial_epoch=done, **arguments)
    return model, stopping, checkpoint, values


def assert_same(weights, others):
    assert len(weights) == len(others) > 0
    for a, b in zip(weights, others, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody interrupts."""
    path = tmp_path_factory.mktemp("whole") / "checkpoint.npz"
    return *run(path), path.read_bytes()


def test_it_stops_after_so_many_epochs_and_puts_the_best_weights_back(whole):
    model, stopping, checkpoint, values, _ = whole
    assert len(values.weights) == len(checkpoint.history) == STOP
    assert (stopping.best, stopping.best_epoch, stopping.wait) == (2.0, BEST, 2)
    assert_same(model.get_weights(), values.weights[BEST - 1])


def test_the_best_weights_are_put_back_where_the_epochs_run_out():
    model, values = make_model(), Values()
    fit(model, values, make_stopping(), epochs=3)
    assert len(values.weights) == 3
    assert_same(model.get_weights(), values.weights[BEST - 1])


@pytest.mark.parametrize(
    ("place", "moment", "epoch"),
    [
        ("before", "on_train_batch_end", 1),  # there is no file yet
        ("before", "on_train_batch_end", 2),
        ("between", "on_epoch_end", BEST),
        ("after", "on_epoch_end", BEST),
        ("after", "on_epoch_end", BEST + 1),
        ("between", "on_epoch_end", STOP),
        ("after", "on_epoch_end", STOP),
        ("before", "on_train_end", STOP),
        ("after", "on_train_end", STOP),
    ],
)
def test_a_run_that_is_killed_at_any_moment_ends_as_one_that_is_not(tmp_path, whole, place, moment, epoch):
    model, stopping, checkpoint, values, content = whole
    path, expected = tmp_path / "checkpoint.npz", tmp_path / "whole.npz"
    expected.write_bytes(content)
    with pytest.raises(Killed):
        run(path, **{place: [Killer(moment, epoch)]})
    again, resumed, its_checkpoint, rest = run(path)
    assert_same(again.get_weights(), model.get_weights())
    assert_same(resumed.best_weights, stopping.best_weights)
    assert (resumed.best, resumed.best_epoch, resumed.wait) == (stopping.best, stopping.best_epoch, stopping.wait)
    assert its_checkpoint.history == checkpoint.history
    if rest.weights:
        assert_same(rest.weights[-1], values.weights[-1])
    with np.load(path) as file, np.load(expected) as other:
        assert file.files == other.files
        for name in file.files:
            np.testing.assert_array_equal(file[name], other[name], err_msg=name)


def test_a_run_that_had_stopped_trains_no_step_more_and_leaves_the_file(tmp_path, whole):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(whole[-1])
    for _ in range(2):
        model, _, checkpoint, values = run(path, epochs=100)
        assert not values.weights
        assert_same(model.get_weights(), whole[0].get_weights())
        assert len(checkpoint.history) == STOP
        assert path.read_bytes() == whole[-1]
    # The next `fit` begins where it is told.
    fit(model, values, epochs=2)
    assert len(values.weights) == 2


def test_a_run_whose_epochs_ran_out_goes_on_from_its_last_weights(tmp_path, whole):
    path = tmp_path / "checkpoint.npz"
    run(path, epochs=3)
    model, stopping, _, values = run(path)
    assert len(values.weights) == STOP - 3
    assert stopping.best_epoch == BEST
    assert_same(model.get_weights(), whole[0].get_weights())


def test_more_patience_lets_a_stopped_run_go_on(tmp_path, whole):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(whole[-1])
    _, stopping, checkpoint, _ = run(path, stopping=make_stopping(patience=3))
    assert len(checkpoint.history) == len(VALUES)
    assert (stopping.best_epoch, stopping.wait) == (LAST, 1)


def test_the_same_object_begins_anew_in_every_fit():
    stopping = make_stopping()
    for _ in range(2):
        model, values = make_model(), Values()
        fit(model, values, stopping)
        assert (len(values.weights), stopping.best_epoch) == (STOP, BEST)


def follow(stopping, values):
    """The epoch after which it stops, counted from 1, or None."""
    model = Weightless()
    stopping.set_model(model)
    stopping.on_train_begin()
    for epoch, value in enumerate(values):
        stopping.on_epoch_begin(epoch)
        stopping.on_epoch_end(epoch, {stopping.monitor: value})
        if model.stop_training:
            return epoch + 1
    return None


class Weightless:
    stop_training = False

    def get_weights(self):
        return []


@given(
    st.lists(st.integers(0, 5), max_size=30),
    st.integers(1, 5),
    st.integers(0, 12),
)
def test_it_is_the_rule_of_the_vampprior_code(values, more_than, warmup):
    # As its loop has it, whose epochs count from 1.
    best, best_epoch, count, stopped = math.inf, None, 0, None
    for epoch, value in enumerate(values, start=1):
        if value < best:
            best, best_epoch, count = value, epoch, 0
        else:
            count += 1
            if epoch < warmup:
                count = 0
            if count > more_than:
                stopped = epoch
                break
    stopping = EarlyStopping(patience=more_than + 1, start_from_epoch=max(warmup - 1, 0))
    assert follow(stopping, values) == stopped
    assert (stopping.best, stopping.best_epoch) == (best, best_epoch)


@pytest.mark.parametrize(
    ("arguments", "values", "stop", "best_epoch"),
    [
        ({"mode": "max", "patience": 2}, [1, 3, 2, 2], 4, 2),
        ({"min_delta": 0.5, "patience": 2}, [3, 2.6, 2.5, 2.4], 3, 1),
        ({"min_delta": 0.5, "patience": 2}, [3, 2.6, 2.4, 2], None, 3),
        ({"patience": 0}, [3, 2, 2], 3, 2),
        ({"patience": 1}, [3, 2, 2], 3, 2),
        ({"patience": 2}, [math.nan, 2, math.nan, math.nan], 4, 2),
        ({"patience": 2}, [math.nan, math.nan], 2, None),
    ],
)
def test_what_counts_as_better(arguments, values, stop, best_epoch):
    stopping = EarlyStopping(**arguments)
    assert follow(stopping, values) == stop
    assert stopping.best_epoch == best_epoch


@pytest.mark.parametrize("monitor", ["val_loss", "val_eror"])
def test_a_name_that_the_logs_do_not_have_is_a_sentence_with_those_that_they_have(monitor):
    sentence = f"`monitor` is '{monitor}', which is not in the logs of epoch 1\\. They have loss, val_error\\. "
    with pytest.raises(ValueError, match=sentence):
        fit(make_model(), Values(), EarlyStopping(monitor))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"patience": -1}, "`patience` is -1"),
        ({"start_from_epoch": 1.5}, "`start_from_epoch` is 1.5"),
        ({"min_delta": -0.1}, "`min_delta` is -0.1; it must be a finite number, 0 or more"),
        ({"min_delta": math.nan}, "`min_delta` is nan"),
        ({"mode": "auto"}, '`mode` is \'auto\'; it must be "min" or "max"'),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        EarlyStopping(**arguments)


@pytest.mark.parametrize("order", ["after", "not at all"])
def test_a_checkpoint_that_would_keep_the_state_of_the_epoch_before_is_refused(tmp_path, order):
    stopping = make_stopping()
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz", callbacks=[stopping])
    model = make_model()
    before = model.get_weights()
    with pytest.raises(ValueError, match="Give both to `fit`, the `EarlyStopping` first"):
        fit(model, Values(), checkpoint, *([stopping] if order == "after" else []))
    assert_same(model.get_weights(), before)


def test_a_callback_without_a_state_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`callbacks` holds .*CSVLogger.*; it must hold callbacks with a state"):
        Checkpoint(tmp_path / "checkpoint.npz", callbacks=[keras.callbacks.CSVLogger("log.csv")])


def test_a_file_without_a_state_restores_and_the_count_begins_anew(tmp_path):
    path = tmp_path / "checkpoint.npz"
    model = make_model()
    fit(model, Values(), Checkpoint(path), epochs=3)
    again, stopping, checkpoint, _ = run(path)
    assert len(checkpoint.history) == len(VALUES)
    assert stopping.best_epoch == LAST
    assert_same(again.get_weights(), stopping.best_weights)


def test_a_file_of_before_there_were_states_has_the_same_arrays(tmp_path, whole):
    path, other = tmp_path / "without.npz", tmp_path / "with.npz"
    fit(make_model(), Values(), Checkpoint(path), epochs=1)
    other.write_bytes(whole[-1])
    with np.load(path) as plain, np.load(other) as more:
        assert set(more.files) - set(plain.files) == {"callbacks/0/record"} | {
            f"callbacks/0/best_weights/{i}" for i in range(len(whole[0].weights))
        }
        assert set(plain.files) <= set(more.files)


@pytest.mark.parametrize(
    ("stoppings", "change", "sentence"),
    [
        ([], None, "has the state of 1 callbacks, but `callbacks` holds 0"),
        ([{"monitor": "val_loss"}], None, "has monitored the min of 'val_error', not the min of 'val_loss'"),
        ([{"mode": "max"}], None, "not the max of 'val_error'"),
        ([{}], lambda arrays: arrays.pop("callbacks/0/record"), "does not fit"),
        ([{}], lambda arrays: arrays.pop("callbacks/0/best_weights/2"), "does not fit"),
        ([{}], lambda arrays: arrays.update({"callbacks/0/best_weights/0": np.zeros(2)}), "those of another model"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_nothing_is_changed(tmp_path, whole, stoppings, change, sentence):
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(whole[-1])
    if change is not None:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        change(arrays)
        np.savez(path, **arrays)
    model = make_model(weights_seed=5)
    before = model.get_weights()
    checkpoint = Checkpoint(path, callbacks=[make_stopping(**each) for each in stoppings])
    checkpoint.set_model(model)
    with pytest.raises(CheckpointError, match=sentence) as caught:
        checkpoint.restore()
    assert str(path) in str(caught.value)
    assert_same(model.get_weights(), before)
    assert checkpoint.history == []


def test_the_state_is_exact(whole):
    stopping = make_stopping()
    stopping.set_model(make_model())
    stopping.set_state(whole[1].get_state())
    assert json.loads(str(stopping.get_state()["record"])) == json.loads(str(whole[1].get_state()["record"]))
    assert_same(stopping.best_weights, whole[1].best_weights)
