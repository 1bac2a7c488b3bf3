import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssvae.schedules import LateExponentialDecay, RampUp, exponential_ramp_up

STEPS = 468  # of the paper's MNIST epoch: 60,000 // 128


@pytest.mark.parametrize("ramp_epochs", [10, 50])  # MNIST, CIFAR-10
def test_ramp_up_goes_from_exp_minus_5_to_1_and_stays_there(ramp_epochs):
    epochs = np.array([0, ramp_epochs / 2, ramp_epochs, ramp_epochs + 1, 600])
    expected = [np.exp(-5), np.exp(-1.25), 1.0, 1.0, 1.0]
    np.testing.assert_allclose(exponential_ramp_up(epochs, ramp_epochs), expected, rtol=1e-6)


def test_lambda2_of_mnist_by_epoch():
    lambda2 = RampUp(6000.0, ramp_epochs=10, steps_per_epoch=STEPS)
    values = [lambda2(epoch * STEPS) for epoch in range(12)]
    expected = [6000 * np.exp(-5 * (1 - min(1, epoch / 10)) ** 2) for epoch in range(12)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)
    np.testing.assert_allclose(values[0], 40.427682, rtol=1e-6)


def test_learning_rate_of_mnist_by_epoch():
    rate = LateExponentialDecay(3e-3, start=10, epochs=100, steps_per_epoch=STEPS)
    values = np.array([rate(epoch * STEPS) for epoch in range(100)])
    np.testing.assert_allclose(values[:10], 3e-3, rtol=1e-6)
    np.testing.assert_allclose(values[10:], 3e-3 * np.exp(-5 * (np.arange(10, 100) / 100) ** 2), rtol=1e-6)
    # Known answers, so that the formula above is not the only witness.
    np.testing.assert_allclose(values[[10, 50]], [2.853688e-3, 8.595144e-4], rtol=1e-6)


@pytest.mark.parametrize(
    ("schedule", "boundary"),
    [(RampUp(6000.0, 10, STEPS), STEPS), (LateExponentialDecay(3e-3, 10, 100, STEPS), 10 * STEPS)],
)
def test_a_schedule_changes_with_the_first_step_of_an_epoch_only(schedule, boundary):
    last, first, end = (float(schedule(step)) for step in (boundary - 1, boundary, boundary + STEPS - 1))
    assert float(schedule(boundary - STEPS)) == last != first == end


def test_step_467_is_in_epoch_0_and_step_468_in_epoch_1():
    schedule = RampUp(1.0, 10, STEPS)
    assert [float(schedule.epoch(step)) for step in (0, 467, 468, 935, 936)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("schedule", [RampUp(6000.0, 10, STEPS), LateExponentialDecay(3e-3, 10, 100, STEPS)])
def test_a_step_may_be_a_tensor_in_a_graph(schedule, dtype):
    in_graph = tf.function(lambda step: schedule(step))
    for step in (0, 467, 468, 4680, 46_799):
        value = in_graph(tf.constant(step, dtype))
        assert value.dtype == "float32"
        np.testing.assert_allclose(value, schedule(step), rtol=1e-6)


def test_an_optimizer_follows_the_schedule_by_its_iterations():
    optimizer = keras.optimizers.SGD(LateExponentialDecay(1.0, start=1, epochs=1, steps_per_epoch=2))
    weight = keras.Variable(0.0)
    positions = []
    for _ in range(4):
        optimizer.apply([tf.constant(1.0)], [weight])
        positions.append(float(weight))
    np.testing.assert_allclose(np.diff(positions, prepend=0.0), [-1, -1, -np.exp(-5), -np.exp(-5)], rtol=1e-4)


@pytest.mark.parametrize("schedule", [RampUp(6000.0, 10, STEPS), LateExponentialDecay(3e-3, 10, 100, STEPS)])
def test_a_schedule_survives_serialisation(schedule):
    restored = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()
    for step in (0, 468, 3000, 4680, 20_000):
        assert float(restored(step)) == float(schedule(step))


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
@pytest.mark.parametrize("argument", ["value", "ramp_epochs", "steps_per_epoch"])
def test_ramp_up_refuses_what_is_not_positive(argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` is {bad}; it must be positive"):
        RampUp(**{"value": 1.0, "ramp_epochs": 10, "steps_per_epoch": STEPS, argument: bad})


@pytest.mark.parametrize("argument", ["learning_rate", "epochs", "steps_per_epoch"])
def test_late_exponential_decay_refuses_what_is_not_positive(argument):
    arguments = {"learning_rate": 1e-3, "start": 10, "epochs": 100, "steps_per_epoch": STEPS}
    with pytest.raises(ValueError, match=f"`{argument}` is 0; it must be positive"):
        LateExponentialDecay(**{**arguments, argument: 0})


def test_the_decay_may_start_with_the_first_epoch():
    assert float(LateExponentialDecay(1.0, start=0, epochs=10, steps_per_epoch=1)(5)) == pytest.approx(np.exp(-1.25))
