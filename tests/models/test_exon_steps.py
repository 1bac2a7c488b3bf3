"""Whole training steps of EXoN: the same numbers each time, also after an interruption, and compiled once."""

import keras
import numpy as np
import pytest
from keras import ops


@pytest.fixture
def make_compiled(make_model, compile_model):
    return lambda **kwargs: compile_model(make_model(dropout=0.5, **kwargs))


def test_the_same_seed_gives_the_same_weights_bit_for_bit(make_compiled, batch, train, assert_same_bits):
    models = [make_compiled() for _ in range(2)]
    start = [ops.convert_to_numpy(weight) for weight in models[0].trainable_weights]
    for model in models:
        train(model, batch, 5)
    assert_same_bits(*models)
    for weight, value in zip(models[0].trainable_weights, start, strict=True):
        assert (ops.convert_to_numpy(weight) != value).any(), weight.path


@pytest.mark.skipif(
    keras.backend.backend() == "jax",
    reason="one operation after the other, the first step takes JAX half a minute; tests/golden replays its steps",
)
def test_the_program_of_fit_takes_the_steps_that_replay_takes_eagerly(make_compiled, batch, train, everything):
    in_program, eager = make_compiled(), make_compiled()
    train(in_program, batch, 3)
    for step in range(3):
        assert int(eager.optimizer.iterations) == step
        eager.replay_step(batch, eager.draw_noise(batch, step))
    for (path, value), (_, expected) in zip(everything(in_program), everything(eager), strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4, err_msg=path)


def test_training_lowers_the_objective_and_compiles_its_step_once(make_compiled, batch, train, monkeypatch):
    model = make_compiled()
    traced, step_losses = [], model.step_losses

    def traced_losses(*args):
        traced.append(args)
        return step_losses(*args)

    monkeypatch.setattr(model, "step_losses", traced_losses)
    first = train(model, batch, 1)["loss"]
    train(model, batch, 60)
    assert train(model, batch, 1)["loss"] < 0.8 * first
    assert len(traced) == 1


@pytest.mark.parametrize("bfloat16", [False, True], ids=["float32", "convolutions in bfloat16"])
def test_a_run_that_is_saved_and_loaded_goes_on_as_if_never_interrupted(
    make_compiled, networks, batch, forever, bfloat16, tmp_path, assert_same_bits
):
    def fit(model, **epochs):
        model.fit(forever(batch), steps_per_epoch=2, shuffle=False, verbose=0, **epochs)

    if bfloat16:
        keras.config.set_dtype_policy("mixed_bfloat16")
    straight, interrupted = (
        make_compiled(**(networks["convolutional"](rate=0.5) if bfloat16 else {})) for _ in range(2)
    )
    fit(straight, epochs=2)
    fit(interrupted, epochs=1)
    interrupted.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")  # the file says which policy the networks have
    resumed = keras.saving.load_model(tmp_path / "model.keras")
    assert int(resumed.optimizer.iterations) == 2
    fit(resumed, initial_epoch=1, epochs=2)
    assert int(resumed.optimizer.iterations) == 4
    assert_same_bits(resumed, straight)
