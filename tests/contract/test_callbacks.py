"""Keras' own callbacks in `fit` of a model, with their defaults, and what `fit` does with the batches of this library.

Compiling the step takes long, so one model is fitted many times, each time from the same state.
"""

import warnings

import keras
import numpy as np
import pytest
from contract import asking, small
from keras import callbacks, ops

from keras_ssvae import data
from keras_ssvae.backend import private
from keras_ssvae.callbacks import Checkpoint
from keras_ssvae.optimizers import GroupedOptimizer

JAX = keras.backend.backend() == "jax"
STEPS = 3
# The code that runs here is that of Keras and of the base class.
VARIANTS_ARE_SLOW = True


@pytest.fixture(scope="module")
def start(entry):
    """A function that returns a compiled model in the same first state each time."""
    model = entry.compiled(dropout=0.2)
    state = asking.state(model)

    def put_back():
        for variable, (_, value) in zip(asking.variables(model), state, strict=True):
            variable.assign(value)
        return model

    return put_back


def batches(entry, **arguments):
    images, labeled = small.images(20, seed=4), None
    if entry.sizes:
        labels = np.stack([np.arange(10) % size for size in entry.sizes], axis=-1)
        labeled = images[:10], labels if len(entry.sizes) > 1 else labels[:, 0]
    sizes = {"labeled_batch_size": 5, "unlabeled_batch_size": 8, "steps_per_epoch": STEPS}
    classes = entry.sizes if len(entry.sizes) > 1 else sum(entry.sizes)
    keep = {"num_classes": classes or None, "seed": 1, "augment": lambda images, seed: images}
    unlabeled = images if "unlabeled" in entry.parts else None
    return data.semi_supervised(labeled, unlabeled, **sizes, **keep, **arguments)


def validation(entry):
    labels = asking.true_labels(entry)
    return (small.images(7), labels) if labels is not None else (small.images(7),)


def rates(model):
    members = model.optimizer.members.values() if isinstance(model.optimizer, GroupedOptimizer) else [model.optimizer]
    return [float(ops.convert_to_numpy(member.learning_rate)) for member in members]


# The data


@pytest.fixture(scope="module")
def four_epochs(entry, start):
    """The state after each of four epochs, and the logs."""
    model, states = start(), []
    note = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: states.append(asking.state(model)))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Keras would warn about `shuffle`, or that the data ran out
        logs = model.fit(batches(entry), epochs=4, verbose=0, callbacks=[note]).history
    return states, logs


def test_an_epoch_is_as_long_as_the_batches_say(start, four_epochs):
    states, logs = four_epochs
    assert {len(values) for values in logs.values()} == {4}
    assert int(dict(states[-1])[start().optimizer.variables[0].path]) == 4 * STEPS


@pytest.mark.parametrize("arguments", [{"epochs": 2}, {"epochs": 4, "initial_epoch": 2}])
def test_two_times_two_epochs_are_four(entry, start, four_epochs, arguments):
    model, its_batches = start(), batches(entry)
    model.fit(its_batches, epochs=2, verbose=0)
    asking.assert_same_bits(asking.state(model), four_epochs[0][1])
    model.fit(its_batches, verbose=0, **arguments)
    asking.assert_same_bits(asking.state(model), four_epochs[0][3])


def test_a_start_step_begins_there_in_another_process(entry, start, four_epochs):
    model = start()
    model.fit(batches(entry), epochs=1, verbose=0)
    model.fit(batches(entry, start_step=STEPS), initial_epoch=1, epochs=2, verbose=0)
    asking.assert_same_bits(asking.state(model), four_epochs[0][1])


def test_keras_own_backup_goes_on_in_the_data(entry, start, four_epochs, tmp_path):
    class Killed(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def fit(*others):
        backup = callbacks.BackupAndRestore(tmp_path / "backup")
        model.fit(batches(entry), epochs=4, verbose=0, callbacks=[backup, *others])

    model = start()
    with pytest.raises(KeyboardInterrupt):
        fit(Killed())
    start()
    fit()
    asking.assert_same_bits(asking.state(model), four_epochs[0][3])


def test_data_without_an_end_needs_a_length(entry, start):
    if JAX:

        class Endless(keras.utils.PyDataset):
            num_batches = None

            def __getitem__(self, index):
                return next(asking.forever(entry.batch()))

        endless = Endless()
    else:
        endless = batches(entry).prefetch(1)
    with pytest.raises(ValueError, match=r"`x` has no end.*`steps_per_epoch`"):
        start().fit(endless, verbose=0)


# Callbacks that watch the logs


@pytest.fixture(scope="module")
def watched(entry, start, tmp_path_factory):
    """A fit with many of Keras' callbacks, at a learning rate at which the validation loss rises and falls."""
    folder, model = tmp_path_factory.mktemp("watched"), start()
    model.optimizer.learning_rate = 0.2
    term = "val_error" if entry.sizes else f"val_{model.test_terms[-1]}"
    seen = {"folder": folder, "term": term, "rates": [rates(model)]}
    others = [callbacks.TensorBoard(folder / "board")] if not JAX else []
    logs = model.fit(
        batches(entry),
        epochs=8,
        verbose=1,
        validation_data=validation(entry),
        callbacks=[
            callbacks.ModelCheckpoint(folder / "loss_{epoch}.weights.h5", save_best_only=True, save_weights_only=True),
            callbacks.ModelCheckpoint(folder / "term_{epoch}.keras", monitor=term, save_best_only=True),
            callbacks.ReduceLROnPlateau(patience=1, factor=0.5),
            callbacks.EarlyStopping(patience=3, restore_best_weights=True),
            callbacks.CSVLogger(folder / "log.csv"),
            callbacks.TerminateOnNaN(),
            callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen["rates"].append(rates(model))),
            *others,
        ],
    ).history
    return seen | {"logs": logs, "answer": ops.convert_to_numpy(model.encode(small.images(3)))}


def epochs_of_a_record(values):
    """The epochs, counted from 1, whose value is below those of all epochs before."""
    return [i + 1 for i, value in enumerate(values) if value < min(values[:i], default=np.inf)]


@pytest.mark.parametrize("kind", ["loss", "term"])
def test_the_best_epochs_alone_are_saved(watched, kind):
    monitored = watched["logs"]["val_loss" if kind == "loss" else watched["term"]]
    saved = sorted(int(file.name.split("_")[1].split(".")[0]) for file in watched["folder"].glob(f"{kind}_*"))
    assert saved == epochs_of_a_record(monitored)


def test_early_stopping_stops_and_puts_the_best_weights_back(entry, start, watched):
    losses = watched["logs"]["val_loss"]
    best = epochs_of_a_record(losses)[-1]
    assert len(losses) == min(8, best + 3)
    model = start()
    model.load_weights(watched["folder"] / f"loss_{best}.weights.h5")
    answer = ops.convert_to_numpy(model.encode(small.images(3)))
    if len(losses) < 8:
        np.testing.assert_array_equal(watched["answer"], answer)


def test_a_plateau_lowers_the_rates_of_all_groups_in_proportion(watched):
    losses, best, wait = watched["logs"]["val_loss"], np.inf, 0
    for epoch, loss in enumerate(losses):
        before, after = watched["rates"][epoch], watched["rates"][epoch + 1]
        wait = 0 if loss < best - 1e-4 else wait + 1  # Keras' defaults
        best = min(best, loss) if wait == 0 else best
        shares = np.array(after) / before
        np.testing.assert_allclose(shares, shares[0], rtol=1e-5)
        # `PlateauAdam` may also halve the rate.
        assert shares[0] <= (0.5001 if wait >= 1 else 1.0001)
        wait = 0 if wait >= 1 else wait


def test_the_logs_of_a_file_are_those_of_the_history(watched):
    lines = (watched["folder"] / "log.csv").read_text().splitlines()
    assert len(lines) == 1 + len(watched["logs"]["loss"])
    assert {"loss", "val_loss", watched["term"]} <= set(lines[0].split(","))


def test_a_schedule_of_the_epoch_keeps_the_rates_proportion(entry, start):
    model = start()
    before, seen = rates(model), []
    model.fit(
        batches(entry),
        epochs=3,
        verbose=0,
        callbacks=[
            callbacks.LearningRateScheduler(lambda epoch, rate: 1e-3 * epoch),  # a warm-up begins with 0
            callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(rates(model))),
        ],
    )
    assert seen[0] == [0.0] * len(before)
    np.testing.assert_allclose(seen[2], 2e-3 * np.array(before) / before[0], rtol=1e-5)


# A term that is not finite


def broken(start):
    model = start()
    weight = model.decoder.trainable_variables[0]
    weight.assign(weight * np.nan)
    return model


def test_a_term_that_is_not_finite_ends_the_training_by_name_before_anything_is_saved(entry, start, tmp_path):
    path = tmp_path / "checkpoint.npz"
    with pytest.raises(FloatingPointError, match="The term `reconstruction` is NaN at step 1, so the training ends"):
        broken(start).fit(batches(entry), epochs=2, verbose=0, callbacks=[Checkpoint(path)])
    assert not path.exists()


def test_it_ends_gracefully_with_keras_own_callback_for_it(entry, start):
    with pytest.warns(UserWarning, match="The term `reconstruction` is NaN at step 1"):
        logs = broken(start).fit(batches(entry), epochs=2, verbose=0, callbacks=[callbacks.TerminateOnNaN()]).history
    assert len(logs["loss"]) == 1


# Other arguments of `fit` and `compile`


@pytest.mark.parametrize("name", ["class_weight", "sample_weight"])
def test_weights_of_images_and_classes_are_refused_by_name(entry, start, name):
    with pytest.raises(ValueError, match=f"`{name}` is given; the objective has no weights"):
        start().fit(batches(entry), verbose=0, **{name: {0: 1.0, 1: 2.0}})


def test_what_was_frozen_after_compile_is_noticed(entry, start):
    model = start()
    model.decoder.trainable = False
    try:
        with pytest.raises(ValueError, match="`trainable` of a network has changed since `compile`"):
            model.fit(batches(entry), verbose=0)
    finally:
        model.decoder.trainable = True


def test_an_optimizer_serves_again_where_it_knows_the_variables(entry):
    model, optimizer = entry.build(), entry.optimizer()
    model.decoder.trainable = False
    model.compile(optimizer)
    model.decoder.trainable = True
    with pytest.raises(ValueError, match=r"`optimizer` was built for .* Give `compile` a new optimizer"):
        model.compile(optimizer)
    complete = entry.optimizer()
    for frozen in (False, True, False):
        model.decoder.trainable = not frozen
        model.compile(complete)


def test_the_moving_average_of_a_group_is_what_training_ends_with(entry):
    model, optimizer = entry.build(), entry.optimizer()
    averaging = list(optimizer.members.values())[-1] if isinstance(optimizer, GroupedOptimizer) else optimizer
    averaging.use_ema, averaging.ema_momentum = True, 0.9
    model.compile(optimizer)
    ends = []

    def note(epoch, logs):
        ends.append([ops.convert_to_numpy(variable) for variable in model.trainable_variables])

    together = [callbacks.LambdaCallback(on_epoch_end=note), callbacks.SwapEMAWeights()]
    asking.fit(model, entry.batch(), epochs=2, callbacks=together)
    for variable, average in private.moving_averages(averaging):
        (i,) = (i for i, each in enumerate(model.trainable_variables) if each is variable)
        average = ops.convert_to_numpy(average)
        np.testing.assert_allclose(ops.convert_to_numpy(variable), average, rtol=1e-6)
        assert not np.allclose(ends[-1][i], average, rtol=1e-6, atol=0)
