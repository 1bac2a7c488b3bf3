"""`steps_per_execution` launches several steps at once; what they compute stays the same."""

import types

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae.backend import several_steps
from keras_ssvae.models.base import BaseVAE

JAX = keras.backend.backend() == "jax"
SIZES = [4, 4, 2, 4, 4, 2, 4, 4, 2, 4]  # labelled rows, the last of each pass few


class Small(BaseVAE):
    """Its statistics, dropout and noise would show it if a step saw another's."""

    training_terms = ("reconstruction", "squares")
    forward_passes = {"network": 1}  # noqa: RUF012

    def __init__(self, network):
        super().__init__(seed=3)
        self.network = network
        self.built = True

    def check_batch(self, images, labels):
        pass

    def draw_noise(self, batch, step):
        epsilon = keras.random.normal(ops.shape(batch["unlabeled"]), seed=self.noise_stream(step))
        return {"epsilon": epsilon, "dropout": self.dropout_counter(step)}

    def step_losses(self, batch, noise, step):
        images = ops.concatenate([batch["labeled"], batch["unlabeled"] + noise["epsilon"]])
        outputs = self.passes(noise["dropout"])(self.network, images)
        squares = ops.sum(ops.square(outputs[: ops.shape(batch["labels"])[0]] - batch["labels"]), axis=1)
        reconstruction = ops.sum(ops.square(outputs - images), axis=1)
        return {
            "reconstruction": reconstruction,
            "squares": squares,
            "total": ops.sum(squares) + ops.sum(reconstruction),
        }


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return len(SIZES)

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        draw = [rng.normal(size=(rows, 3)).astype("float32") for rows in (SIZES[index], 6, SIZES[index])]
        return {"labeled": draw[0], "unlabeled": draw[1]}, draw[2]


def train(steps_per_execution):
    """Two epochs of 10 steps: four at a time, these are launches of 4, 4 and 2."""
    network = keras.Sequential(
        [
            layers.Dense(4, use_bias=False, kernel_initializer="zeros"),
            layers.BatchNormalization(momentum=0.5),
            layers.Dropout(0.5),
            layers.Dense(3, kernel_initializer="zeros"),
        ]
    )
    network.build((None, 3))
    rng = np.random.default_rng(0)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(size=weight.shape))
    model = Small(network)
    model.compile(keras.optimizers.SGD(1e-3, momentum=0.9), steps_per_execution=steps_per_execution)
    history = model.fit(Batches(), epochs=2, shuffle=False, verbose=0).history
    return model, history


def test_four_steps_at_a_time_give_the_weights_and_the_logs_of_one_at_a_time():
    (model, history), (expected, expected_history) = train(4), train(1)
    assert int(model.optimizer.iterations) == 2 * len(SIZES)
    pairs = list(zip(model.variables, expected.variables, strict=True))
    assert {part for v, _ in pairs for part in v.path.split("/")} >= {"kernel", "moving_mean", "seed_generator_state"}
    for variable, one in (*pairs, *zip(model.optimizer.variables, expected.optimizer.variables, strict=True)):
        np.testing.assert_allclose(ops.convert_to_numpy(variable), ops.convert_to_numpy(one), rtol=0, atol=1e-6)
    assert history.keys() == expected_history.keys() == {"loss", "reconstruction", "squares"}
    assert np.isfinite(history["loss"]).all()  # nan would equal nan
    for name, values in history.items():
        np.testing.assert_allclose(values, expected_history[name], rtol=1e-6)


# The programs


class Counter:
    """As much of a model as is needed; its state depends on the order of the batches."""

    steps_per_execution, jit_compile, run_eagerly = 4, JAX, False

    def __init__(self, **attributes):
        self.__dict__.update(attributes)
        self.traces, self.state = 0, keras.Variable(0.0)

    def train_step(self, *args):
        self.traces += 1
        *before, batch = args
        state = 2.0 * (before[0] if before else self.state) + ops.sum(batch["x"])
        logs = {"state": state, "sum": ops.sum(batch["x"])}
        if before:
            return logs, state
        self.state.assign(state)
        return logs


def batches(sizes):
    items = [{"x": np.full(size, i + 1, "float32")} for i, size in enumerate(sizes)]
    if JAX:
        return iter(items)
    import tensorflow as tf

    return iter(tf.data.Dataset.from_generator(lambda: items, output_signature={"x": tf.TensorSpec((None,))}))


def run(model, sizes):
    """The logs of each launch, and the state after it."""
    launch, iterator, state, history = several_steps(model, None), batches(sizes), ops.zeros(()), []
    for _ in range(0, len(sizes), model.steps_per_execution):
        logs, state = launch(state, iterator) if JAX else (launch(iterator), model.state)
        history.append(types.SimpleNamespace(sum=float(logs["sum"]), state=float(logs["state"]), kept=float(state)))
    with pytest.raises(StopIteration):
        launch(*([state] if JAX else []), iterator)
    return history


@pytest.mark.parametrize("at_once", [4, 7, 20])
@pytest.mark.parametrize("sizes", [[2] * 10, [2, 2, 3, 2, 2, 3, 2, 2, 3, 2], [1, 2, 3, 4, 5, 6], [3] * 8])
def test_a_launch_takes_the_steps_in_order_and_gives_the_last_ones_logs(sizes, at_once):
    states = [0.0]
    for i, size in enumerate(sizes):
        states.append(2.0 * states[-1] + size * (i + 1))
    ends = [min(end, len(sizes)) for end in range(at_once, len(sizes) + at_once, at_once)]
    history = run(Counter(steps_per_execution=at_once), sizes)
    assert [launch.kept for launch in history] == [launch.state for launch in history] == [states[end] for end in ends]
    assert [launch.sum for launch in history] == [sizes[end - 1] * end for end in ends]


@pytest.mark.parametrize("at_once", [4, 12])
def test_equal_batches_share_one_program(at_once):
    """On TensorFlow it holds the steps one after the other, at most 5 of them."""
    model = Counter(steps_per_execution=at_once)
    run(model, [2] * 48)
    assert model.traces == (1 if JAX else 4)


def given(*args):
    raise LookupError("Keras' own function")


@pytest.mark.skipif(not JAX, reason="On TensorFlow the iterator decides")
@pytest.mark.parametrize("setting", [{"steps_per_execution": 1}, {"jit_compile": False}, {"run_eagerly": True}])
def test_keras_own_function_stays_where_there_is_nothing_to_join(setting):
    assert several_steps(Counter(**setting), given) is given
    assert several_steps(Counter(), given) is not given


@pytest.mark.skipif(JAX, reason="On JAX Keras has no strategies")
@pytest.mark.parametrize("setting", [{"steps_per_execution": 1}, {"jit_compile": True}, {"run_eagerly": True}])
def test_keras_own_function_takes_the_batches_where_there_is_nothing_to_join(setting):
    with pytest.raises(LookupError):
        several_steps(Counter(**setting), given)(batches([2] * 4))


@pytest.mark.skipif(JAX, reason="On JAX Keras has no strategies")
def test_keras_own_function_takes_the_batches_of_a_strategy():
    import tensorflow as tf

    strategy = tf.distribute.OneDeviceStrategy("cpu:0")
    model = Counter(distribute_strategy=strategy)
    dataset = tf.data.Dataset.from_tensors({"x": np.ones(4, "float32")}).repeat(8)
    with pytest.raises(LookupError):
        several_steps(model, given)(iter(strategy.experimental_distribute_dataset(dataset)))
