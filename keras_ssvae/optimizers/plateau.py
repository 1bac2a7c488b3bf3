"""Adam whose learning rate falls when the loss stops falling."""

import math
from typing import Any

import keras
from keras import ops

from keras_ssvae.backend import private
from keras_ssvae.distributions import Tensor
from keras_ssvae.optimizers.adam import Adam


@keras.saving.register_keras_serializable("keras_ssvae")
class PlateauAdam(Adam):
    """Adam whose learning rate falls when the mean loss of an epoch stops improving, as by PyTorch's scheduler.

    The rule is that of `ReduceLROnPlateau`: an epoch improves if its mean loss is below `1 - threshold` times the best
    so far. After more than `patience` epochs in a row without improvement the rate is multiplied by `factor`. The next
    `cooldown` epochs do not count. The rule is part of the optimizer, not a callback, so its state is saved and
    restored with the optimizer.

    The training step must call `observe(loss)` after `apply`. The models of this library do.

    Args:
        learning_rate: The initial learning rate, a number.
        steps_per_epoch: Training steps in an epoch.
        factor: Factor of the rate at a fall, between 0 and 1.
        patience: Epochs without improvement before the rate falls.
        threshold: The relative decrease of the mean loss that counts as an improvement.
        cooldown: Epochs after a fall of the rate that do not count.
        **kwargs: The other arguments of `Adam`.

    Raises:
        ValueError: If `learning_rate` is a schedule, or `steps_per_epoch` is below 1.

    Example:
        >>> optimizer = PlateauAdam(1.5e-3, steps_per_epoch=938, patience=2, threshold=0.01, cooldown=4)
    """

    # The state, made by `build`: the best mean loss, the mean loss of this epoch so far, the number of epochs without
    # improvement, and the remaining epochs of the cooldown.
    _best: keras.Variable
    _mean: keras.Variable
    _stalled: keras.Variable
    _cooling: keras.Variable

    def __init__(
        self,
        learning_rate: float = 1e-3,
        *,
        steps_per_epoch: int,
        factor: float = 0.5,
        patience: int = 10,
        threshold: float = 1e-4,
        cooldown: int = 0,
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        if isinstance(private.learning_rate(self), keras.optimizers.schedules.LearningRateSchedule):
            raise ValueError("`learning_rate` is a schedule; it must be a number, which this optimizer decreases.")
        if steps_per_epoch < 1:
            raise ValueError(f"`steps_per_epoch` is {steps_per_epoch}; it must be at least 1.")
        self.steps_per_epoch, self.factor = steps_per_epoch, factor
        self.patience, self.threshold, self.cooldown = patience, threshold, cooldown

    def build(self, variables) -> None:
        if self.built:
            return
        super().build(variables)
        for name, value in (("best", math.inf), ("mean", 0.0), ("stalled", 0.0), ("cooling", 0.0)):
            variable = self.add_variable(
                (), keras.initializers.Constant(value), "float32", aggregation="only_first_replica", name=name
            )
            setattr(self, f"_{name}", variable)

    def observe(self, loss: Tensor) -> None:
        """Records the loss of the step just applied. At the end of an epoch the learning rate may fall."""
        mean = self._mean + ops.cast(loss, "float32") / self.steps_per_epoch
        ended = ops.equal(private.steps_taken(self) % self.steps_per_epoch, 0)
        better = mean < self._best * (1.0 - self.threshold)
        stalled = ops.where(ops.logical_or(better, self._cooling > 0.0), 0.0, self._stalled + 1.0)
        falls = stalled > self.patience
        rate = private.learning_rate(self)
        at_the_end = [
            (rate, ops.where(falls, self.factor, 1.0) * rate),
            (self._best, ops.where(better, mean, self._best.value)),
            (self._stalled, ops.where(falls, 0.0, stalled)),
            (self._cooling, ops.where(falls, float(self.cooldown), ops.maximum(self._cooling - 1.0, 0.0))),
        ]
        for variable, value in at_the_end:
            variable.assign(ops.where(ended, value, variable.value))
        self._mean.assign(ops.where(ended, 0.0, mean))

    def get_config(self) -> dict[str, Any]:
        names = ("steps_per_epoch", "factor", "patience", "threshold", "cooldown")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
