"""A loss weight that changes from epoch to epoch."""

from collections.abc import Callable

import keras
import numpy as np

from keras_ssvae.models.capabilities import HasObjectiveWeights


class LossWeightSchedule(keras.callbacks.Callback):
    """Sets the weight of a loss term at the beginning of each epoch, and logs it.

    For a model of this library the weight is one of its `objective_weights`, such as `beta`. For another Keras model
    it is an attribute that holds a `keras.Variable`, by which the model's loss multiplies a term. The value depends on
    the epoch only, so a run that is resumed with `initial_epoch` continues the schedule.

    Args:
        weight: Name of the attribute. The logs and the history hold the value under this name.
        schedule: Maps the epoch, counted from 0, to the weight.

    Raises:
        ValueError: When `fit` starts, if the model has no such weight, or if the weight is a schedule of the step;
            during training, if `schedule` does not return a finite number.

    Example:

    ```python
    warm_up = LossWeightSchedule("beta", lambda epoch: min(1.0, (epoch + 1) / 10))
    model.fit(batches, epochs=20, callbacks=[warm_up])
    ```
    """

    def __init__(self, weight: str, schedule: Callable[[int], float]):
        super().__init__()
        self.weight, self.schedule = weight, schedule
        self._value: float | None = None

    def set_model(self, model: keras.Model) -> None:
        current = getattr(model, self.weight, None)
        if isinstance(current, keras.optimizers.schedules.LearningRateSchedule):
            raise ValueError(
                f"`{self.weight}` of the model is a {type(current).__name__}, a schedule of the step, which "
                "`LossWeightSchedule` would overwrite. Give the model a number, or leave the callback out."
            )
        if not _is_objective_weight(model, self.weight) and not isinstance(current, keras.Variable):
            names = f", whose `objective_weights` are {model.objective_weights}" if _has_weights(model) else ""
            raise ValueError(
                f"`LossWeightSchedule` needs a model of this library with the objective weight `{self.weight}`, or a "
                f"model whose attribute `{self.weight}` is a `keras.Variable`, but {type(model).__name__}{names} has "
                "neither."
            )
        super().set_model(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        value = float(self.schedule(epoch))
        if not np.isfinite(value):
            raise ValueError(f"`schedule` gave {value} at epoch {epoch}; `{self.weight}` must be a finite number.")
        if _is_objective_weight(self.model, self.weight):
            setattr(self.model, self.weight, value)
        else:
            getattr(self.model, self.weight).assign(value)
        self._value = value

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs[self.weight] = self._value


def _has_weights(model):
    return isinstance(model, HasObjectiveWeights)


def _is_objective_weight(model, name):
    return _has_weights(model) and name in model.objective_weights
