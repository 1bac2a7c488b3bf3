"""Each private name of Keras and TensorFlow that the package uses still exists, and still means the same."""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import keras_ssvae
from keras_ssvae.backend import private


def test_the_layers_of_a_nested_model_are_found_at_any_depth():
    inner = keras.Sequential([keras.Input((2,)), keras.layers.Dropout(0.5, name="deep")])
    outer = keras.Sequential([keras.Input((2,)), inner, keras.layers.Dense(1, name="shallow")])
    found = private.flatten_layers(outer)
    assert found[0] is outer
    assert {"deep", "shallow"} <= {layer.name for layer in found}


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_fit_begins_at_the_epoch_that_a_callback_sets():
    model = keras.Sequential([keras.layers.Flatten()])
    model.compile(loss="mse")
    seen = []

    class Skip(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            private.set_initial_epoch(self.model, 3)

        def on_epoch_begin(self, epoch, logs=None):
            seen.append(epoch)

    images = np.zeros((2, 3), "float32")
    model.fit(images, images, epochs=5, verbose=0, callbacks=[Skip()])
    assert seen == [3, 4]


def test_the_states_of_random_number_generators_are_found_by_their_name():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1), keras.layers.Dropout(0.5)])
    (state,) = private.seed_states(model)
    before = ops.convert_to_numpy(state).copy()
    model(np.ones((4, 2), "float32"), training=True)
    assert (ops.convert_to_numpy(state) != before).any()


def test_a_built_model_takes_new_variables_while_it_is_unlocked_and_knows_them_as_its_own():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    model.fit(np.zeros((2, 2), "float32"), np.zeros((2, 1), "float32"), verbose=0)
    assert private.own_variables(model) == []
    with private.unlocked(model):
        added = model.add_weight(name="added", shape=(), trainable=False)
    (found,) = private.own_variables(model)
    assert found is added
    assert len(model.variables) == 2 + 1


def test_the_moments_of_adam_are_those_of_the_variable():
    first, second = (keras.Variable(np.zeros(3, "float32")) for _ in range(2))
    optimizer = keras.optimizers.Adam(0.1, beta_1=0.9, beta_2=0.99)
    optimizer.build([first, second])
    optimizer.apply([ops.zeros(3), ops.ones(3)], [first, second])
    mean, square = private.adam_moments(optimizer, second)
    np.testing.assert_allclose(ops.convert_to_numpy(mean), 0.1, rtol=1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(square), 0.01, rtol=1e-4)


def test_the_learning_rate_is_the_schedule_or_the_variable_that_was_given():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert private.learning_rate(keras.optimizers.SGD(schedule)) is schedule
    optimizer = keras.optimizers.SGD(0.25)
    rate = private.learning_rate(optimizer)
    rate.assign(0.125)
    assert float(ops.convert_to_numpy(optimizer.learning_rate)) == 0.125


def test_an_optimizer_knows_the_variables_that_it_was_built_for():
    variable, optimizer = keras.Variable(1.0), keras.optimizers.SGD()
    optimizer.build([variable])
    (found,) = private.optimized_variables(optimizer)
    assert found is variable


def test_the_steps_of_an_optimizer_count_each_accumulated_gradient():
    variable, optimizer = keras.Variable([1.0]), keras.optimizers.SGD(0.5, gradient_accumulation_steps=2)
    optimizer.build([variable])
    for _ in range(3):
        optimizer.apply([ops.ones((1,))], [variable])
    assert int(optimizer.iterations) == 1
    assert int(private.steps_taken(optimizer)) == 3


def test_a_variable_comes_with_its_moving_average():
    variable, optimizer = keras.Variable([1.0]), keras.optimizers.SGD(0.5, use_ema=True, ema_momentum=0.75)
    optimizer.build([variable])
    for _ in range(2):
        optimizer.apply([ops.ones((1,))], [variable])
    ((found, average),) = private.moving_averages(optimizer)
    assert found is variable
    assert float(ops.convert_to_numpy(average)[0]) == 0.75 * 0.5 + 0.25 * 0.0


def test_the_last_activation_is_found_behind_shapes_and_in_nested_models():
    layers = keras.layers

    def last(*following):
        return private.last_activation(keras.Sequential([keras.Input((4,)), *following]))

    assert last(layers.Dense(4, activation="softmax"), layers.Reshape((2, 2)), layers.Dropout(0.5)) == "softmax"
    assert last(layers.Dense(4, activation="softmax"), layers.Dense(2)) is None
    assert last(layers.Dense(4, activation="tanh"), layers.Activation("linear")) == "tanh"
    assert last(layers.Dense(4), layers.Softmax()) == "softmax"
    assert last(keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="sigmoid")])) == "sigmoid"
    assert last(layers.Rescaling(2.0)) == "rescaling"  # no activation's name
    start = keras.Input((4,))
    assert private.last_activation(keras.Model(start, [start + 1.0, ops.sigmoid(start)]), 1) == "sigmoid"


def test_a_strategy_knows_whether_it_has_several_workers():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a strategy of TensorFlow")
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert private.in_multi_worker_mode(strategy) is False


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_what_the_models_override_is_what_fit_calls(monkeypatch):
    called = []
    # Keras has `_maybe_symbolic_build` on TensorFlow alone.
    overridden = [name for name in private.OVERRIDDEN if hasattr(keras.Model, name) or name == "train_function"]
    assert "make_train_function" in overridden
    assert "_maybe_symbolic_build" in overridden or keras.backend.backend() != "tensorflow"
    for name in overridden[:-1]:
        method = getattr(keras.Model, name)

        def spy(self, *args, name=name, method=method, **kwargs):
            called.append(name)
            return method(self, *args, **kwargs)

        monkeypatch.setattr(keras.Model, name, spy)
    model = keras.Sequential([keras.layers.Flatten()])
    assert model.train_function is None
    model.compile(loss="mse")
    model.fit(np.zeros((2, 3), "float32"), np.zeros((2, 3), "float32"), verbose=0)
    assert set(called) == set(overridden[:-1])
    assert callable(model.train_function)


def test_a_name_that_is_gone_is_a_sentence():
    sentence = rf"object has no `_learning_rate`, a private name of keras .* seen in keras {private.LAST_SEEN['keras']}"
    with pytest.raises(RuntimeError, match=sentence):
        private.learning_rate(object())


def test_no_other_file_uses_a_private_name_of_another_package():
    """That is a private attribute which no file of the package defines."""
    defined, used = {"_asdict", "_fields", "_exit"}, {}  # documented by Python
    for path in Path(keras_ssvae.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                defined.add(node.id)
            elif isinstance(node, ast.Attribute) and re.match("_[a-z]", node.attr):
                own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
                if isinstance(node.ctx, ast.Store) and own:
                    defined.add(node.attr)
                elif path.name != "private.py":
                    used.setdefault(node.attr, f"{path.name}, line {node.lineno}")
    assert {name: where for name, where in used.items() if name not in defined} == {}
