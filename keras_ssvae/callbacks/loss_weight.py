"""The ramp-up of a loss weight."""

from collections.abc import Callable

import keras
import numpy as np


class LossWeightSchedule(keras.callbacks.Callback):
    """Sets the weight of a loss term at the beginning of each epoch, and logs it.

    The model needs an attribute that is a `keras.Variable`, which its loss multiplies a term with. The value depends
    on the epoch alone, so a run resumed with `initial_epoch` goes on where it was.

    Args:
        weight: The attribute's name; the logs and the history carry the value under it.
        schedule: Maps the epoch, counted from 0, to the weight.

    Raises:
        ValueError: When `fit` starts, if the model has no such variable; later, if the schedule does not give a
            finite number.

    Example:

    ```python
    model.beta = keras.Variable(0.0, trainable=False)
    model.fit(batches, epochs=20, callbacks=[LossWeightSchedule("beta", lambda epoch: min(1.0, epoch / 10))])
    ```
    """

    def __init__(self, weight: str, schedule: Callable[[int], float]):
        super().__init__()
        self.weight, self.schedule = weight, schedule
        self._value = None

    def set_model(self, model: keras.Model) -> None:
        if not isinstance(getattr(model, self.weight, None), keras.Variable):
            raise ValueError(
                f"`LossWeightSchedule` needs a model whose attribute `{self.weight}` is a `keras.Variable`, but "
                f"{type(model).__name__} has none."
            )
        super().set_model(model)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        value = float(self.schedule(epoch))
        if not np.isfinite(value):
            raise ValueError(f"`schedule` gave {value} at epoch {epoch}; `{self.weight}` must be a finite number.")
        getattr(self.model, self.weight).assign(value)
        self._value = value

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs[self.weight] = self._value
