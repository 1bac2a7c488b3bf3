"""All private names of Keras and TensorFlow that this package uses, each behind a function.

A new release may remove or change a private name. `tests/backend/test_private.py` checks that each one still exists
and still means the same, so that an upgrade fails in this test and not in a training.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

# The releases in which all names below were last seen.
LAST_SEEN = {"keras": "3.15.1", "tensorflow": "2.21.0"}

# Methods of `keras.Model` that the base class of the models overrides (the first exists on TensorFlow only), and an
# attribute that it replaces. Keras does not document those without an underscore either.
OVERRIDDEN = ("_maybe_symbolic_build", "_get_metrics_result_or_logs", "make_train_function", "train_function")

_SEED_STATE = "seed_generator_state"


def flatten_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layer or model itself, and all layers in it, at any depth."""
    return list(_read(layer, "_flatten_layers")())


def seed_states(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The states of the random number generators in a layer or model, which only their names identify."""
    return [variable for variable in layer.variables if variable.path.endswith(_SEED_STATE)]


def own_variables(layer: keras.layers.Layer) -> list[keras.Variable]:
    """The variables of a layer or model itself, without those of the layers in it."""
    return [*_read(layer, "_trainable_variables"), *_read(layer, "_non_trainable_variables")]


@contextlib.contextmanager
def unlocked(layer: keras.layers.Layer) -> Iterator[None]:
    """A context in which a built layer or model accepts new variables."""
    tracker = _read(layer, "_tracker")
    was_locked = tracker.locked
    if was_locked:
        tracker.unlock()
    try:
        yield
    finally:
        if was_locked:
            tracker.lock()


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Makes `fit` begin at an epoch. A callback sets it in `on_train_begin`, as Keras' `BackupAndRestore` does.

    None resets it.
    """
    _read(model, "_initial_epoch")  # checks that it exists
    model._initial_epoch = epoch


def adam_moments(optimizer: keras.optimizers.Adam, variable: keras.Variable) -> tuple[keras.Variable, keras.Variable]:
    """The first and the second moment of a variable in a built Adam."""
    index = _read(optimizer, "_get_variable_index")(variable)
    return _read(optimizer, "_momentums")[index], _read(optimizer, "_velocities")[index]


def learning_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """The learning rate that the optimizer was given: a schedule itself, or the variable that holds a number."""
    return _read(optimizer, "_learning_rate")


def optimized_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The variables that a built optimizer was built for."""
    return _read(optimizer, "_trainable_variables")


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """The variables of a built optimizer with `use_ema`, each with its moving average."""
    pairs = zip(optimized_variables(optimizer), _read(optimizer, "_model_variables_moving_average"), strict=True)
    return [(variable, average) for variable, average in pairs if average is not None]


def steps_taken(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The number of times that the optimizer was applied. With accumulated gradients `iterations` is smaller."""
    return _read(optimizer, "_iterations")


# Layers that change the shape only, or do nothing in inference.
_PASSING = ("Reshape", "Flatten", "Permute", "Dropout", "Identity", "Cropping2D", "ActivityRegularization")


def last_activation(network: keras.Model, output: int = 0) -> str | None:
    """The name of the last activation before an output, such as "softmax"; None if there is none.

    Layers that only change the shape are skipped, and nested models are searched.
    """
    tensor = network.outputs[output]
    while True:
        history = _read(tensor, "_keras_history")
        operation, name = history.operation, type(history.operation).__name__
        activation = getattr(operation, "activation", None)
        if name == "Activation" and getattr(activation, "__name__", "") == "linear":
            activation = None
        elif activation is not None:
            name = getattr(activation, "__name__", type(activation).__name__).lower()
            return None if name == "linear" else name
        if isinstance(operation, keras.Model) and getattr(operation, "outputs", None):
            return last_activation(operation, history.tensor_index)
        if name not in (*_PASSING, "Activation"):
            # A layer such as `Softmax` or an operation such as `keras.ops.sigmoid`. Other names match no activation.
            return name.lower()
        tensor = _read(operation, "_inbound_nodes")[history.node_index].input_tensors[0]


def is_purged(variable: keras.Variable) -> bool:
    """Whether Keras has removed a variable's value: on JAX its loops pass the values from step to step."""
    return _read(variable, "_value") is None


def in_multi_worker_mode(strategy: Any) -> bool:
    """Whether a `tf.distribute.MultiWorkerMirroredStrategy` runs on more than one worker."""
    return bool(_read(strategy.extended, "_in_multi_worker_mode", "tensorflow")())


def _read(owner, name, package="keras"):
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise RuntimeError(
            f"{type(owner).__name__} has no `{name}`, a private name of {package} that keras_ssvae uses. It was last "
            f"seen in {package} {LAST_SEEN[package]}: install that release, or a newer one of keras_ssvae."
        ) from error
