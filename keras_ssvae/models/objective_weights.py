"""Weights of an objective: numbers, variables or schedules of the step."""

import math
import numbers
from types import SimpleNamespace
from typing import TypeAlias

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import private, sync_state
from keras_ssvae.distributions import Tensor, as_floatx

ObjectiveWeight: TypeAlias = float | keras.Variable | keras.optimizers.schedules.LearningRateSchedule


def kind_of(name: str, value: ObjectiveWeight, positive: bool = False) -> str:
    """The kind of a weight: `"number"`, `"variable"` or `"schedule"`.

    Raises:
        ValueError: If it is none of these; if a number is negative or not finite, or 0 although it must be positive; if
            a variable is trainable or not a scalar.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return "schedule"
    if isinstance(value, keras.Variable):
        if value.trainable or tuple(value.shape) != ():
            raise ValueError(
                f"`{name}` is a variable of shape {tuple(value.shape)} with trainable={value.trainable}; it must be a "
                "scalar that the optimizer leaves alone: `keras.Variable(value, trainable=False)`."
            )
        _check_number(name, float(ops.convert_to_numpy(value)), positive)
        return "variable"
    _check_number(name, value, positive)
    return "number"


def _check_number(name, value, positive):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool) and 0 <= float(value) < math.inf
    if not is_number or (positive and value == 0):
        raise ValueError(
            f"`{name}` is {value!r}; it must be a finite number{' above 0' if positive else ', 0 or more'}."
        )


def value_at(weight: ObjectiveWeight, step: Tensor) -> Tensor:
    """The value, at a step, of a weight in the form that the model stores."""
    return as_floatx(weight(step) if callable(weight) else weight)


def to_config(weight: ObjectiveWeight) -> object:
    """A weight for a model's configuration: a variable becomes its current number."""
    if callable(weight):
        return keras.saving.serialize_keras_object(weight)
    # The shortest number with the same value in single precision: 0.3, not 0.30000001192092896.
    return float(str(np.float32(ops.convert_to_numpy(weight))))


class WeightedObjective(keras.Model):
    """A Keras model with weights of its objective as attributes, which can be set at any time.

    A number is stored in a variable that the training step reads, so a new number takes effect at once. Files hold the
    variables by name; the configuration holds their current numbers.
    """

    objective_weights: tuple[str, ...] = ()  # attributes that are weights of the objective
    positive_weights: tuple[str, ...] = ()  # those of them that must not be 0

    def __setattr__(self, name, value):
        if name in self.objective_weights:
            self._set_objective_weight(name, value)
        else:
            super().__setattr__(name, value)

    def _set_objective_weight(self, name: str, value: ObjectiveWeight) -> None:
        """Stores a number in a variable that the step reads, so that it also takes effect during training."""
        kind = kind_of(name, value, positive=name in self.positive_weights)
        current = self.__dict__.get(name)
        if kind == "number" and isinstance(current, keras.Variable):
            sync_state(self)
            current.assign(value)
            return
        if self.__dict__.get("_is_fitting"):
            raise ValueError(
                f"`{name}` is set to a {kind} while the model trains, and was a {type(current).__name__}. During "
                "training a weight that is a number can be set to another number only; set it before `fit`."
            )
        with private.unlocked(self):
            if kind == "number":
                constant, dtype = keras.initializers.Constant(value), keras.config.floatx()
                value = self.add_weight(name=name, shape=(), initializer=constant, dtype=dtype, trainable=False)
            super().__setattr__(name, value)
        # These functions were compiled with the previous weight.
        self.train_function = self.test_function = None

    def weights_at(self, step: Tensor) -> SimpleNamespace:
        """The weights of the objective at a step, as attributes."""
        return SimpleNamespace(**{name: value_at(getattr(self, name), step) for name in self.objective_weights})

    def weights_config(self) -> dict[str, object]:
        """The weights of the objective for the configuration."""
        return {name: to_config(getattr(self, name)) for name in self.objective_weights}

    def fit(self, *args, **kwargs) -> keras.callbacks.History:
        """As `keras.Model.fit`."""
        self._is_fitting = True
        try:
            return super().fit(*args, **kwargs)
        finally:
            self._is_fitting = False

    def _own_variables(self):
        """The model's own variables by their names in files: weights of the objective, and variables of a subclass."""
        weights = {name: getattr(self, name) for name in self.objective_weights}
        named = {name: weight for name, weight in weights.items() if isinstance(weight, keras.Variable)}
        known = {id(variable) for variable in named.values()}
        # Leaves out a variable that another kind of weight has replaced.
        known |= {id(v) for v in private.own_variables(self) if v.name in self.objective_weights}
        others = [variable for variable in private.own_variables(self) if id(variable) not in known]
        return named, {str(i): variable for i, variable in enumerate(others)}

    def save_own_variables(self, store) -> None:
        # By name, so that a weight may be a number in the saved model and a schedule in the model that loads the file.
        named, others = self._own_variables()
        for name, variable in (named | others).items():
            store[name] = ops.convert_to_numpy(variable)

    def load_own_variables(self, store) -> None:
        named, others = self._own_variables()
        for name, variable in others.items():
            variable.assign(store[name])
        for name in set(named) & set(store.keys()):
            named[name].assign(store[name])
