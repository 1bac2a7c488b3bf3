"""A model in `fit`: what it logs, and that training depends only on the seed, also after an interruption.

Compiling the step takes long, so the tests share two models: `straight` is trained without interruption; `interrupted`
is stopped, restored and trained further. `test_elsewhere.py` does the same by a file, in another process.
"""

import keras
import numpy as np
import pytest
from contract import asking
from keras import ops

from keras_ssvae.callbacks import Checkpoint

JAX = keras.backend.backend() == "jax"


@pytest.fixture(scope="module")
def straight(entry, life_of):
    return life_of(entry)


@pytest.fixture(scope="module")
def interrupted(entry, tmp_path_factory):
    """A model after the first epoch, its state, and a function that restores it from a checkpoint."""
    folder = tmp_path_factory.mktemp("interrupted")
    model, checkpoint = entry.compiled(dropout=0.2), Checkpoint(folder / "checkpoint.npz")
    asking.fit(model, entry.batch(), epochs=1, callbacks=[checkpoint])
    state = asking.state(model)
    content = checkpoint.path.read_bytes()

    def put_back():
        """Changes all variables of the model and then restores it from the checkpoint."""
        for variable in (*model.weights, *model.optimizer.variables):
            if np.issubdtype(asking.dtype_of(variable), np.floating):
                variable.assign(variable + 1.0)
        checkpoint.path.write_bytes(content)
        checkpoint.set_model(model)
        assert checkpoint.restore() == 1
        return model

    return {"model": model, "state": state, "put_back": put_back}


def test_fit_logs_the_named_terms_and_those_of_validation(entry, straight):
    model, logs = straight.model, straight.logs
    assert set(logs) == {"loss", *model.training_terms, "val_loss", *(f"val_{name}" for name in model.test_terms)}
    assert np.isfinite(list(logs.values())).all()


def test_validation_has_the_means_of_the_evaluation_terms(entry, straight, images):
    for name, mean in asking.evaluation_means(entry, straight.model, images, 4).items():
        assert straight.logs[f"val_{name}"][-1] == pytest.approx(mean, rel=1e-4), name


def test_every_trainable_variable_is_trained(straight):
    start, _, end = (dict(state) for state in straight.states)
    for variable in straight.model.trainable_variables:
        assert (start[variable.path] != end[variable.path]).any(), variable.path


# Bit for bit


def test_the_same_seed_gives_the_same_weights(straight, interrupted):
    asking.assert_same_bits(interrupted["state"], straight.states[1])


def test_a_second_fit_goes_on_where_the_first_ended(entry, straight, interrupted):
    asking.fit(interrupted["put_back"](), entry.batch(), initial_epoch=1, epochs=2)
    asking.assert_same_bits(asking.state(interrupted["model"]), straight.states[2])


def test_a_checkpoint_puts_everything_back(interrupted):
    asking.assert_same_bits(asking.state(interrupted["put_back"]()), interrupted["state"])


# Other ways to train


@pytest.mark.skipif(JAX, reason="one operation after the other, the first step takes JAX half a minute")
def test_the_program_of_fit_takes_the_steps_that_replay_takes_eagerly(entry, straight):
    eager = entry.compiled(dropout=0.2)
    batch = entry.batch()
    for step in range(4):
        assert int(eager.optimizer.iterations) == step
        terms = eager.replay_step(batch, eager.draw_noise(batch, step))
    assert set(terms) == {*eager.training_terms, "total"}
    for (path, value), (_, expected) in zip(asking.state(eager), straight.states[2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-3, atol=1e-4, err_msg=path)


def test_several_steps_in_one_program_are_those_of_one_at_a_time(entry, straight):
    model = entry.build(dropout=0.2)
    model.compile(entry.optimizer(), steps_per_execution=2)
    logs = asking.fit(model, entry.batch(), epochs=2)
    for name, values in logs.items():
        assert values == pytest.approx(straight.logs[name], rel=1e-4), name
    for (path, value), (_, expected) in zip(asking.state(model), straight.states[2], strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5, err_msg=path)


def test_a_frozen_network_stays_as_it_is(entry):
    model, batch = entry.build(), entry.batch()
    frozen = getattr(model, next(iter(entry.networks)))
    frozen.trainable = False
    model.compile(entry.optimizer())
    before = {id(weight): ops.convert_to_numpy(weight) for weight in model.weights}
    if JAX:
        asking.fit(model, batch, steps=1)
    else:  # without `fit`, whose compilation takes longer
        model.replay_step(batch, model.draw_noise(batch, 0))
    for weight in frozen.weights:
        np.testing.assert_array_equal(weight, before[id(weight)], err_msg=weight.path)
    for weight in model.trainable_weights:
        assert (ops.convert_to_numpy(weight) != before[id(weight)]).any(), weight.path


# The last test, since it trains `straight` further.
def test_training_lowers_the_objective_and_makes_its_program_once(entry, straight):
    logs = asking.fit(straight.model, entry.batch(), steps=1, epochs=60)
    for name, share in entry.falling.items():
        assert np.mean(logs[name][-20:]) < share * straight.logs[name][0], name
    assert len(straight.traced) == 1
