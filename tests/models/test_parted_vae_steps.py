"""Whole training steps of PartedVAE: the same numbers each time, also after an interruption, with labels or without."""

import keras
import numpy as np
import pytest

from keras_ssvae.callbacks import Checkpoint


@pytest.fixture
def make_compiled(make_parted, compile_parted):
    return lambda **kwargs: compile_parted(make_parted(dropout=0.5, **kwargs))


def rates(model):
    return [float(model.optimizer.members[name].learning_rate) for name in ("supervised", "main")]


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_one_others(
    make_compiled, parted_batch, train, everything, assert_same_bits
):
    models = [make_compiled(seed=seed) for seed in (0, 0, 1)]
    for model in models:
        train(model, parted_batch(model), 5)
    assert_same_bits(*models[:2])
    distances = [np.abs(a - b).max() for (_, a), (_, b) in zip(*map(everything, models[1:]), strict=True)]
    assert max(distances) > 1e-3


def test_a_run_that_was_stopped_goes_on_as_if_it_never_had_been(
    make_compiled, parted_batch, forever, tmp_path, assert_same_bits
):
    """An epoch of `fit` has three steps and that of a plateau two: it is stopped in the middle of one."""

    def fit(model, callbacks=(), **epochs):
        batches = forever(parted_batch(model))
        model.fit(batches, steps_per_epoch=3, shuffle=False, verbose=0, callbacks=list(callbacks), **epochs)

    straight, interrupted, by_checkpoint = (make_compiled(weights_seed=seed) for seed in (5, 5, 1))
    checkpoint = Checkpoint(tmp_path / "checkpoint.npz")
    fit(interrupted, [checkpoint], epochs=1)
    interrupted.save(tmp_path / "model.keras")
    memory = {v.name: float(v) for v in interrupted.optimizer.members["main"].variables if v.shape == ()}
    assert 0 < memory["mean"] < memory["best"] < np.inf
    assert rates(interrupted) == pytest.approx([1e-2, 1e-2])

    checkpoint.set_model(by_checkpoint)
    assert checkpoint.restore() == 1
    by_file = keras.saving.load_model(tmp_path / "model.keras")
    assert_same_bits(by_checkpoint, interrupted)
    fit(straight, epochs=2)
    for resumed in (by_checkpoint, by_file):
        assert int(resumed.optimizer.iterations) == 3
        fit(resumed, initial_epoch=1, epochs=2)
        assert int(resumed.optimizer.iterations) == 6
        assert rates(resumed) == pytest.approx([5e-3, 5e-3])  # the plateau came after the stop
        assert_same_bits(resumed, straight)


def test_training_lowers_the_objective_and_compiles_its_steps_once(make_parted, compile_parted, parted_batch, train):
    model = compile_parted(make_parted())
    batch, traced = parted_batch(model), []

    def traced_losses(losses):
        return lambda *args: traced.append(losses) or losses(*args)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("supervised_losses", "step_losses"):
            patch.setattr(model, name, traced_losses(getattr(model, name)))
        first = train(model, batch, 1)
        train(model, batch, 60)
        last = train(model, batch, 1)
    assert last["warm_up"] < 0.8 * first["warm_up"]
    assert last["reconstruction"] < first["reconstruction"]
    assert len(traced) == 2


def test_several_steps_in_one_program_are_those_of_one_at_a_time(
    make_parted, compile_parted, parted_batch, train, everything
):
    models = [compile_parted(make_parted()) for _ in range(2)]
    models[1].steps_per_execution = 3
    logs = [train(model, parted_batch(model), 6) for model in models]
    assert logs[1] == pytest.approx(logs[0], rel=1e-4)
    for (path, value), (_, expected) in zip(*map(everything, models), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=path)


# Without labels, or without anything else


def test_images_alone_train_as_a_dictionary_of_them_does(make_parted, compile_parted, images, assert_same_bits):
    models = [compile_parted(make_parted()) for _ in range(2)]
    fits = [
        model.fit(x, batch_size=7, epochs=2, shuffle=False, verbose=0).history
        for model, x in zip(models, (images, {"unlabeled": images}), strict=True)
    ]
    assert fits[0] == fits[1]
    assert set(fits[0]) == {"loss", *models[0].training_terms} - {"warm_up"}
    assert_same_bits(*models)
    assert int(models[0].optimizer.members["main"].iterations) == 2
    assert int(models[0].optimizer.members["supervised"].iterations) == 0
    validation = models[0].evaluate(images, verbose=0, return_dict=True)
    assert set(validation) == set(models[0].test_terms) - {"error"}
    for name, value in models[0].evaluation_terms(images, None).items():
        np.testing.assert_allclose(validation[name], np.mean(value), rtol=1e-4, err_msg=name)


def test_labelled_images_alone_train_the_classifier(make_parted, compile_parted, parted_batch, train):
    model = compile_parted(make_parted())
    batch = {name: part for name, part in parted_batch(model).items() if name != "unlabeled"}
    first = train(model, batch, 1)
    assert set(first) == {"loss", "warm_up"}
    assert first["loss"] == pytest.approx(first["warm_up"], rel=1e-6)
    train(model, batch, 30)
    assert train(model, batch, 1)["loss"] < 0.5 * first["loss"]
    assert int(model.optimizer.members["main"].iterations) == 0


def test_fit_validates_on_images_and_labels(make_parted, compile_parted, parted_batch, forever, images):
    model = compile_parted(make_parted(several=True))
    labels = np.array([[0, 1], [1, 1], [2, 0], [0, 0], [1, 0], [2, 1], [0, 1]])
    validation = {"validation_data": (images, labels), "validation_batch_size": 4}
    batches = forever(parted_batch(model))
    logs = model.fit(batches, steps_per_epoch=1, shuffle=False, verbose=0, **validation).history
    assert set(logs) == {"loss", *model.training_terms, *(f"val_{name}" for name in model.test_terms)}
    error = float(np.mean(model.evaluation_terms(images, labels)["error"]))
    assert 0 < error < 100
    assert logs["val_error"] == [pytest.approx(error, rel=1e-6)]
