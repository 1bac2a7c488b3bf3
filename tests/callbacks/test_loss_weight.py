import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.callbacks import LossWeightSchedule
from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import GroupedOptimizer


class AutoEncoder(keras.Model):
    """A plain Keras model, which knows nothing of this package."""

    def __init__(self):
        super().__init__()
        self.to_z = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(2)])
        self.to_x = keras.Sequential([keras.layers.Dense(64), keras.layers.Reshape((8, 8, 1))])
        self.weight = keras.Variable(7.0, trainable=False)

    def call(self, x):
        z = self.to_z(x)
        self.add_loss(self.weight * ops.mean(ops.square(z)))
        return self.to_x(z)


class Weighted(AutoEncoder):
    """A model with the interface of this library: `beta` is set as a number."""

    objective_weights = ("beta",)

    @property
    def beta(self):
        return self.weight

    @beta.setter
    def beta(self, value):
        assert isinstance(value, float)
        self.weight.assign(value)


@pytest.fixture
def data():
    x = np.random.default_rng(0).uniform(0, 1, (24, 8, 8, 1)).astype("float32")
    return x, np.arange(24) % 3


def fit(callbacks, data, epochs=2, model=None, **kwargs):
    model = model or AutoEncoder()
    model.compile("sgd", "mse")
    return model.fit(data[0], data[0], epochs=epochs, batch_size=8, verbose=0, callbacks=callbacks, **kwargs)


@pytest.mark.parametrize(("build", "weight"), [(AutoEncoder, "weight"), (Weighted, "beta")])
def test_the_weight_follows_the_schedule_and_is_logged(data, build, weight):
    model = build()
    seen = []
    spy = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(float(model.weight.value)))
    history = fit(
        [LossWeightSchedule(weight, lambda epoch: epoch / 4), spy], data, epochs=4, model=model, initial_epoch=1
    )
    assert seen == [0.25, 0.5, 0.75]
    assert history.history[weight] == [0.25, 0.5, 0.75]


def test_the_compiled_step_uses_the_new_weight(data):
    zero, large = (
        fit(
            [LossWeightSchedule("weight", lambda epoch, w=w: 0.0 if epoch == 0 else w)],
            data,
            model=with_a_frozen_encoder(),
        ).history["loss"]
        for w in (0.0, 100.0)
    )
    assert large[0] == pytest.approx(zero[0], rel=1e-5)
    assert large[1] > 2 * zero[1]


def with_a_frozen_encoder():
    keras.utils.set_random_seed(0)
    model = AutoEncoder()
    model.to_z.trainable = False
    return model


def test_a_weight_of_this_librarys_models_takes_effect_in_the_next_step():
    flat = keras.layers.Flatten()
    encoder = keras.Sequential([keras.Input((6, 6, 1)), flat, keras.layers.Dense(4, activation="tanh")])
    decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(36), keras.layers.Reshape((6, 6, 1))])
    model = PartedVAE(encoder, decoder, num_classes=3, u_dims=2, z_dim=2, capacity_z=1e3, capacity_steps=1)
    still = {name: keras.optimizers.SGD(0.0) for name in ("supervised", "main")}
    model.compile(GroupedOptimizer(still))
    images = np.zeros((8, 6, 6, 1), "float32")
    schedule = LossWeightSchedule("gamma_z", lambda epoch: 10.0 * epoch)
    history = model.fit(images, epochs=3, verbose=0, callbacks=[schedule]).history
    assert history["gamma_z"] == [0.0, 10.0, 20.0]
    np.testing.assert_allclose(np.diff(history["loss"]), 10.0 * (1e3 - np.array(history["kl_z"][1:])), rtol=0.05)
    model.gamma_z = keras.optimizers.schedules.PolynomialDecay(0.0, 100, 1.0)
    with pytest.raises(ValueError, match="`gamma_z` of the model is a PolynomialDecay"):
        model.fit(images, verbose=0, callbacks=[schedule])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            AutoEncoder,
            "weight `gamma`, or a model whose attribute `gamma` is a `keras.Variable`, but AutoEncoder has neither",
        ),
        (Weighted, r"Weighted, whose `objective_weights` are \('beta',\) has neither"),
    ],
)
def test_a_model_without_the_weight_is_refused_before_training(data, build, message):
    with pytest.raises(ValueError, match=message):
        fit([LossWeightSchedule("gamma", float)], data, model=build())


def test_a_weight_that_is_a_schedule_of_the_step_is_refused(data):
    model = AutoEncoder()
    model.beta = keras.optimizers.schedules.PolynomialDecay(0.0, 100, 1.0)
    with pytest.raises(ValueError, match="`beta` of the model is a PolynomialDecay, a schedule of the step"):
        fit([LossWeightSchedule("beta", float)], data, model=model)


def test_a_schedule_that_gives_no_finite_number_is_refused(data):
    with pytest.raises(ValueError, match="`schedule` gave nan at epoch 0"):
        fit([LossWeightSchedule("weight", lambda epoch: float("nan"))], data)
