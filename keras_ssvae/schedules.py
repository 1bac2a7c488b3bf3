"""Ramp-ups and learning rates as functions of the step, in Keras' own schedule classes.

A schedule is called with a step (an integer or a tensor); epochs are counted from 0 and are `steps_per_epoch` long.
They are stateless: a resumed run continues where it was.
"""

import keras
from keras import ops

from keras_ssvae.distributions import Tensor


def exponential_ramp_up(epoch: Tensor, ramp_epochs: float) -> Tensor:
    """`exp(-5 (1 - min(1, epoch / ramp_epochs))^2)`: from 0.0067 at epoch 0 to 1 at `ramp_epochs` (EXoN, Table 7).

    Example:
        >>> float(exponential_ramp_up(10, 10))
        1.0
    """
    missing = 1.0 - ops.minimum(1.0, ops.cast(epoch, "float32") / ramp_epochs)
    return ops.exp(-5.0 * ops.square(missing))


class _EpochSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """What the schedules share: the step's epoch, and a complete configuration."""

    def __init__(self, **config):
        for name, value in config.items():
            if not (value > 0 or (name == "start" and value == 0)):
                raise ValueError(f"`{name}` is {value!r}; it must be positive.")
        self._config = config
        self._steps_per_epoch = config["steps_per_epoch"]

    def epoch(self, step: Tensor) -> Tensor:
        """The epoch (float32, whole) that a step belongs to."""
        return ops.cast(ops.floor_divide(ops.cast(step, "int32"), self._steps_per_epoch), "float32")

    def get_config(self):
        return dict(self._config)


@keras.saving.register_keras_serializable("keras_ssvae")
class RampUp(_EpochSchedule):
    """The weight of a loss term: `value * exponential_ramp_up(epoch, ramp_epochs)`.

    Args:
        value: The weight that is reached.
        ramp_epochs: Epochs until then.
        steps_per_epoch: Steps of an epoch.

    Example:
        >>> lambda2 = RampUp(6000.0, ramp_epochs=10, steps_per_epoch=468)

    Reference:
        EXoN, Table 7, `lambda_2(e)`.
    """

    def __init__(self, value: float, ramp_epochs: int, steps_per_epoch: int):
        super().__init__(value=value, ramp_epochs=ramp_epochs, steps_per_epoch=steps_per_epoch)
        self.value, self.ramp_epochs = value, ramp_epochs

    def __call__(self, step):
        return self.value * exponential_ramp_up(self.epoch(step), self.ramp_epochs)


@keras.saving.register_keras_serializable("keras_ssvae")
class LateExponentialDecay(_EpochSchedule):
    """A constant learning rate that from epoch `start` on is multiplied by `exp(-5 (epoch / epochs)^2)`.

    Args:
        learning_rate: The rate at the start.
        start: First epoch with the factor.
        epochs: Epochs of the whole run.
        steps_per_epoch: Steps of an epoch.

    Example:
        >>> keras.optimizers.AdamW(LateExponentialDecay(3e-3, start=10, epochs=100, steps_per_epoch=468))

    Reference:
        EXoN, Appendix A.4 (MNIST).
    """

    def __init__(self, learning_rate: float, start: int, epochs: int, steps_per_epoch: int):
        super().__init__(learning_rate=learning_rate, start=start, epochs=epochs, steps_per_epoch=steps_per_epoch)
        self.learning_rate, self.start, self.epochs = learning_rate, start, epochs

    def __call__(self, step):
        epoch = self.epoch(step)
        decay = ops.exp(-5.0 * ops.square(epoch / self.epochs))
        return self.learning_rate * ops.where(epoch >= self.start, decay, 1.0)
