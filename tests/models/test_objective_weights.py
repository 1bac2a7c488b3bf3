"""Weights of an objective are numbers, variables or schedules; set while the model trains, they take effect."""

import keras
import numpy as np
import pytest

from keras_ssvae.callbacks import LossWeightSchedule
from keras_ssvae.schedules import RampUp

NAMES = ("beta", "lambda1", "lambda2")


@pytest.fixture
def losses_of(make_model, compile_model, batch, forever):
    """The loss of each epoch of a fit that does not learn, with callbacks; `set_up` may prepare the model."""

    def losses_of(callbacks, set_up=lambda model: None, epochs=3, steps=2, **arguments):
        model = compile_model(make_model(**arguments), rate=0.0)
        # No decay either, and the same noise at each step: nothing but the weights of the objective moves the loss.
        for member in model.optimizer.members.values():
            member.weight_decay = None
        noise = model.draw_noise(batch, 0)
        model.draw_noise = lambda batch, step: noise
        set_up(model)
        fit = {"epochs": epochs, "steps_per_epoch": steps, "shuffle": False, "verbose": 0}
        return model, model.fit(forever(batch), callbacks=callbacks(model), **fit).history["loss"]

    return losses_of


def set_at_epochs(name, values):
    return lambda model: [
        keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: setattr(model, name, values[epoch]))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_that_a_callback_sets_takes_effect(losses_of, name):
    _, losses = losses_of(set_at_epochs(name, [1.0, 1000.0, 1.0]))
    assert losses[1] > 2 * losses[0]
    assert losses[2] == pytest.approx(losses[0], rel=1e-5)


def test_a_weight_that_is_set_between_two_steps_takes_effect_at_the_second(losses_of):
    def callback(model):
        def set_after_the_first(step, logs):
            if step == 0:
                model.beta = 1000.0

        def back(epoch, logs):
            model.beta = 1.0

        return [keras.callbacks.LambdaCallback(on_epoch_begin=back, on_train_batch_end=set_after_the_first)]

    _, losses = losses_of(callback, epochs=1)
    _, (low,) = losses_of(set_at_epochs("beta", [1.0]), epochs=1)
    _, (high,) = losses_of(set_at_epochs("beta", [1000.0]), epochs=1)
    assert losses[0] == pytest.approx((low + high) / 2, rel=1e-4)


def test_the_schedule_of_a_loss_weight_moves_a_number(losses_of):
    _, losses = losses_of(lambda model: [LossWeightSchedule("beta", lambda epoch: [1.0, 1000.0, 1.0][epoch])])
    assert losses[1] > 2 * losses[0]


def test_the_schedule_of_a_loss_weight_moves_a_variable_of_the_users(losses_of):
    variable = keras.Variable(1.0, trainable=False)

    def use_variable(model):
        model.beta = variable

    schedule = LossWeightSchedule("beta", lambda epoch: [1.0, 1000.0, 1.0][epoch])
    model, losses = losses_of(lambda model: [schedule], use_variable)
    assert model.beta is variable
    assert losses[1] > 2 * losses[0]


def test_a_schedule_of_the_step_takes_effect(losses_of):
    def use_schedule(model):
        model.lambda1 = RampUp(1000.0, ramp_epochs=2, steps_per_epoch=2)

    _, losses = losses_of(lambda model: [], use_schedule)
    assert losses[0] < losses[1] < losses[2]


def test_before_training_a_weight_of_one_kind_can_become_one_of_another(make_model, compile_model, batch, train):
    model = compile_model(make_model(lambda2=RampUp(7.0, 2, 2)))
    train(model, batch, 1)
    model.lambda2 = 3.0
    assert float(model.lambda2) == 3.0
    train(model, batch, 1)
    model.lambda2 = RampUp(5.0, 2, 2)
    train(model, batch, 1)
    assert model.get_config()["lambda2"]["config"]["value"] == 5.0


def test_during_training_a_number_cannot_become_a_schedule(losses_of):
    with pytest.raises(ValueError, match=r"`beta` is set to a schedule while the model trains.*set it before `fit`"):
        losses_of(set_at_epochs("beta", [RampUp(1.0, 2, 2)]), epochs=1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "much", None, True])
def test_what_is_no_weight_is_refused_and_leaves_the_old_one(make_model, name, value):
    model = make_model()
    before = float(getattr(model, name))
    with pytest.raises(ValueError, match=f"`{name}` is {value!r}; it must be a finite number"):
        setattr(model, name, value)
    assert float(getattr(model, name)) == before


def test_a_variable_must_be_a_scalar_that_is_not_trained(make_model):
    model = make_model()
    for variable in (keras.Variable(1.0), keras.Variable(np.ones(2), trainable=False)):
        with pytest.raises(ValueError, match=r"`beta` is a variable of shape .* with trainable="):
            model.beta = variable


def test_the_configuration_has_the_number_as_it_is_now(make_model):
    model = make_model()
    model.beta = 0.7
    assert model.get_config()["beta"] == 0.7
    assert float(type(model).from_config(model.get_config()).beta) == pytest.approx(0.7)


def test_a_weight_that_was_moved_is_saved_and_loaded(make_model, tmp_path):
    model = make_model()
    model.beta, model.lambda1 = 0.7, 11.0
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    loaded, other = keras.models.load_model(tmp_path / "model.keras"), make_model()
    other.load_weights(tmp_path / "model.weights.h5")
    for each in (loaded, other):
        assert [float(getattr(each, name)) for name in NAMES] == pytest.approx([0.7, 11.0, 7.0])
