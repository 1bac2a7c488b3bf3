"""Weights of an objective: numbers, variables or schedules of the step."""

import math
import numbers
from typing import TypeAlias

import keras
import numpy as np

from keras_ssvae.distributions import Tensor, as_floatx

ObjectiveWeight: TypeAlias = float | keras.Variable | keras.optimizers.schedules.LearningRateSchedule


def kind_of(name: str, value: ObjectiveWeight, positive: bool = False) -> str:
    """`"number"`, `"variable"` or `"schedule"`.

    Raises:
        ValueError: If it is none of these, a number is negative or not finite (or 0, where it must be positive), or a
            variable is trainable or no scalar.
    """
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return "schedule"
    if isinstance(value, keras.Variable):
        if value.trainable or tuple(value.shape) != ():
            raise ValueError(
                f"`{name}` is a variable of shape {tuple(value.shape)} with trainable={value.trainable}; it must be a "
                "scalar that the optimizer leaves alone: `keras.Variable(value, trainable=False)`."
            )
        _check_number(name, float(keras.ops.convert_to_numpy(value)), positive)
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
    """The value of a weight, as the model keeps it, at a step."""
    return as_floatx(weight(step) if callable(weight) else weight)


def to_config(weight: ObjectiveWeight) -> object:
    """What a model's configuration holds of a weight: a variable as the number that it has now."""
    if callable(weight):
        return keras.saving.serialize_keras_object(weight)
    # The shortest number with the same value in single precision: 0.3, not 0.30000001192092896.
    return float(str(np.float32(keras.ops.convert_to_numpy(weight))))
