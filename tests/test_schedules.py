import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.schedules import (
    AnnealedTemperature,
    LateExponentialDecay,
    LinearWarmUp,
    RampUp,
    WarmUpStepDecay,
    exponential_ramp_up,
)

STEPS = 468  # of the paper's MNIST epoch: 60,000 // 128
CIFAR10_STEPS = 390


def cifar10_classifier_rate(**changes):
    arguments = {"warm_up": 0.2, "boundaries": (250, 350, 450, 550), "factor": 0.5, "start": 550, "epochs": 600}
    return WarmUpStepDecay(**{"learning_rate": 1e-3, "steps_per_epoch": CIFAR10_STEPS, **arguments, **changes})


SCHEDULES = {
    "ramp-up": RampUp(6000.0, 10, STEPS),
    "late decay": LateExponentialDecay(3e-3, 10, 100, STEPS),
    "warm-up and steps": WarmUpStepDecay(1e-3, STEPS, 0.2, (10, 15), 0.5, 20, 60),
    "warm-up alone": WarmUpStepDecay(1e-3, STEPS, 0.1),
    "linear warm-up": LinearWarmUp(0.5, 4, STEPS),
    "temperature": AnnealedTemperature(STEPS, 1e-4, 0.3),
}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


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


def test_the_weight_of_vampprior_s_divergence_by_epoch():
    beta = LinearWarmUp(1.0, epochs=100, steps_per_epoch=500)
    values = [float(beta(step)) for step in (0, 499, 500, 49_499, 49_500, 1_000_000)]
    np.testing.assert_allclose(values, [0.01, 0.01, 0.02, 0.99, 1.0, 1.0], rtol=1e-6)  # epochs counted from 1


def test_the_temperature_of_cp_vae_by_epoch():
    temperature, expected = AnnealedTemperature(steps_per_epoch=500), [1.0]
    for epoch in range(1, 300):  # as the released code has it
        expected.append(max(0.5, expected[-1] * np.exp(-3e-5 * epoch)))
    values = np.array([temperature(500 * (epoch - 1)) for epoch in range(1, 300)])
    np.testing.assert_allclose(values, expected[1:], rtol=1e-5)
    assert np.flatnonzero(values == 0.5)[0] + 1 == 215


def test_learning_rate_of_mnist_by_epoch():
    rate = LateExponentialDecay(3e-3, start=10, epochs=100, steps_per_epoch=STEPS)
    values = np.array([rate(epoch * STEPS) for epoch in range(100)])
    np.testing.assert_allclose(values[:10], 3e-3, rtol=1e-6)
    np.testing.assert_allclose(values[10:], 3e-3 * np.exp(-5 * (np.arange(10, 100) / 100) ** 2), rtol=1e-6)
    # Known answers, so that the formula above is not the only witness.
    np.testing.assert_allclose(values[[10, 50]], [2.853688e-3, 8.595144e-4], rtol=1e-6)


def test_learning_rate_of_cifar10s_classifier_by_epoch():
    rate = cifar10_classifier_rate()
    halvings = {0: 0.2, 1: 1, 249: 1, 250: 1 / 2, 349: 1 / 2, 350: 1 / 4, 449: 1 / 4, 450: 1 / 8, 549: 1 / 8}
    late = {epoch: np.exp(-5 * ((epoch - 550) / 50) ** 2) / 16 for epoch in (550, 551, 575, 599)}
    for epoch, factor in {**halvings, **late}.items():
        for step in (0, CIFAR10_STEPS - 1):  # of the epoch
            np.testing.assert_allclose(rate(epoch * CIFAR10_STEPS + step), 1e-3 * factor, rtol=1e-6)
    # Known answers, so that the formula above is not the only witness.
    values = [rate(epoch * CIFAR10_STEPS) for epoch in (550, 575, 599)]
    np.testing.assert_allclose(values, [6.25e-5, 1.7906549e-5, 5.133315e-7], rtol=1e-6)


def test_learning_rate_of_cifar10s_autoencoder_warms_up_and_stays():
    rate = WarmUpStepDecay(1e-3, CIFAR10_STEPS, warm_up=0.1)
    values = [rate(epoch * CIFAR10_STEPS) for epoch in (0, 1, 250, 550, 599)]
    np.testing.assert_allclose(values, [1e-4, 1e-3, 1e-3, 1e-3, 1e-3], rtol=1e-6)


def test_a_rate_falls_at_each_boundary_by_its_factor_and_at_no_other_epoch():
    rate = WarmUpStepDecay(1.0, 2, boundaries=(2, 5), factor=0.1)
    np.testing.assert_allclose([rate(2 * epoch) for epoch in range(7)], [1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "boundary"),
    [
        ("ramp-up", 1),
        ("late decay", 10),
        ("warm-up and steps", 1),
        ("warm-up and steps", 10),
        ("warm-up alone", 1),
        ("linear warm-up", 3),
    ],
)
def test_a_schedule_changes_with_the_first_step_of_an_epoch_only(name, boundary):
    schedule, boundary = SCHEDULES[name], boundary * STEPS
    last, first, end = (float(schedule(step)) for step in (boundary - 1, boundary, boundary + STEPS - 1))
    assert float(schedule(boundary - STEPS)) == last != first == end


def test_step_467_is_in_epoch_0_and_step_468_in_epoch_1():
    schedule = RampUp(1.0, 10, STEPS)
    assert [float(schedule.epoch(step)) for step in (0, 467, 468, 935, 936)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize("dtype", ["int32", "int"])  # the latter is that of an optimizer's iterations
@schedules
def test_a_step_may_be_a_tensor_in_a_graph(schedule, dtype, compiled):
    in_graph = compiled(lambda step: schedule(step))
    for step in (0, 467, 468, 4680, 12_000):
        value = in_graph(ops.convert_to_tensor(step, dtype))
        assert keras.backend.standardize_dtype(value.dtype) == "float32"
        np.testing.assert_allclose(value, schedule(step), rtol=1e-6)


def test_an_optimizer_follows_the_schedule_by_its_iterations():
    optimizer = keras.optimizers.SGD(LateExponentialDecay(1.0, start=1, epochs=1, steps_per_epoch=2))
    weight = keras.Variable(0.0)
    positions = []
    for _ in range(4):
        optimizer.apply([ops.ones(())], [weight])
        positions.append(float(weight))
    np.testing.assert_allclose(np.diff(positions, prepend=0.0), [-1, -1, -np.exp(-5), -np.exp(-5)], rtol=1e-4)


@schedules
def test_a_schedule_survives_serialisation(schedule):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    restored = keras.saving.deserialize_keras_object(config)
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()
    for step in (0, 468, 3000, 4680, 12_000):
        assert float(restored(step)) == float(schedule(step))


@pytest.mark.parametrize("bad", [0, -1, float("nan")])
@pytest.mark.parametrize("argument", ["value", "ramp_epochs", "steps_per_epoch"])
def test_ramp_up_refuses_what_is_not_positive(argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` is {bad}; it must be positive"):
        RampUp(**{"value": 1.0, "ramp_epochs": 10, "steps_per_epoch": STEPS, argument: bad})


@pytest.mark.parametrize("argument", ["value", "epochs", "steps_per_epoch"])
def test_linear_warm_up_refuses_what_is_not_positive(argument):
    with pytest.raises(ValueError, match=f"`{argument}` is 0; it must be positive"):
        LinearWarmUp(**{"value": 1.0, "epochs": 10, "steps_per_epoch": STEPS, argument: 0})


@pytest.mark.parametrize("argument", ["learning_rate", "epochs", "steps_per_epoch"])
def test_late_exponential_decay_refuses_what_is_not_positive(argument):
    arguments = {"learning_rate": 1e-3, "start": 10, "epochs": 100, "steps_per_epoch": STEPS}
    with pytest.raises(ValueError, match=f"`{argument}` is 0; it must be positive"):
        LateExponentialDecay(**{**arguments, argument: 0})


def test_the_decay_may_start_with_the_first_epoch():
    assert float(LateExponentialDecay(1.0, start=0, epochs=10, steps_per_epoch=1)(5)) == pytest.approx(np.exp(-1.25))


@pytest.mark.parametrize("bad", [0, -1.0, float("nan")])
@pytest.mark.parametrize("argument", ["learning_rate", "steps_per_epoch", "warm_up", "factor", "epochs"])
def test_warm_up_step_decay_refuses_what_is_not_positive(argument, bad):
    with pytest.raises(ValueError, match=f"`{argument}` is {bad}; it must be positive"):
        cifar10_classifier_rate(**{argument: bad})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": -1}, "`start` is -1; it must be 0 or a later epoch"),
        ({"epochs": None}, "`start` is 550 and `epochs` is None; the decay must start before the run ends"),
        ({"epochs": 550}, "`start` is 550 and `epochs` is 550; the decay must start before the run ends"),
    ],
)
def test_a_decay_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        cifar10_classifier_rate(**changes)


def test_late_exponential_decay_refuses_a_negative_start():
    with pytest.raises(ValueError, match="`start` is -1; it must be 0 or a later epoch"):
        LateExponentialDecay(1e-3, start=-1, epochs=100, steps_per_epoch=STEPS)
