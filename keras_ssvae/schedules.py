"""Schedules of loss weights, temperatures and learning rates, as subclasses of Keras' schedule class.

A schedule maps a step (an integer or a tensor) to a value. Epochs count from 0 and have `steps_per_epoch` steps.
Schedules have no state, so a resumed run continues them.
"""

import numbers
from collections.abc import Sequence
from typing import Any

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
    """Base class of the schedules: computes the epoch of a step, and keeps the configuration."""

    def __init__(self, *, start: int | None = None, **config):
        for name, value in config.items():
            if not value > 0:
                raise ValueError(f"`{name}` is {value!r}; it must be positive.")
        if start is not None and start < 0:
            raise ValueError(f"`start` is {start!r}; it must be 0 or a later epoch.")
        self._config = config if start is None else {**config, "start": start}
        self._steps_per_epoch = config["steps_per_epoch"]

    def epoch(self, step: Tensor) -> Tensor:
        """The epoch (float32, whole) that a step belongs to."""
        return ops.cast(ops.floor_divide(ops.cast(step, "int32"), self._steps_per_epoch), "float32")

    def get_config(self):
        return dict(self._config)


@keras.saving.register_keras_serializable("keras_ssvae")
class RampUp(_EpochSchedule):
    """A weight that rises exponentially: `value * exponential_ramp_up(epoch, ramp_epochs)`.

    Args:
        value: The final weight.
        ramp_epochs: Number of epochs until it is reached.
        steps_per_epoch: Number of steps of an epoch.

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
class LinearWarmUp(_EpochSchedule):
    """A weight that rises linearly: `value * min(1, (epoch + 1) / epochs)`. It is above 0 from the first epoch on.

    Args:
        value: The final weight.
        epochs: Number of epochs until it is reached.
        steps_per_epoch: Number of steps of an epoch.

    Example:
        >>> beta = LinearWarmUp(1.0, epochs=100, steps_per_epoch=500)

    Reference:
        The released code of VampPrior and of CP-VAE, where epochs count from 1.
    """

    def __init__(self, value: float, epochs: int, steps_per_epoch: int):
        super().__init__(value=value, epochs=epochs, steps_per_epoch=steps_per_epoch)
        self.value, self.epochs = value, epochs

    def __call__(self, step):
        return self.value * ops.minimum(1.0, (self.epoch(step) + 1.0) / self.epochs)


@keras.saving.register_keras_serializable("keras_ssvae")
class AnnealedTemperature(_EpochSchedule):
    """A temperature that falls from 1: in epoch e = 1, 2, ... it is `max(minimum, exp(-rate e (e + 1) / 2))`.

    So each epoch e multiplies it by `exp(-rate e)`, until it reaches `minimum`.

    Args:
        steps_per_epoch: Number of steps of an epoch.
        rate: The rate in the formula above.
        minimum: The smallest temperature. With the default rate, 0.5 is reached in epoch 215.

    Example:
        >>> temperature = AnnealedTemperature(steps_per_epoch=500)

    Reference:
        The Gumbel-softmax in the released code of CP-VAE.
    """

    def __init__(self, steps_per_epoch: int, rate: float = 3e-5, minimum: float = 0.5):
        super().__init__(steps_per_epoch=steps_per_epoch, rate=rate, minimum=minimum)
        self.rate, self.minimum = rate, minimum

    def __call__(self, step):
        epoch = self.epoch(step) + 1.0
        return ops.maximum(self.minimum, ops.exp(-0.5 * self.rate * epoch * (epoch + 1.0)))


@keras.saving.register_keras_serializable("keras_ssvae")
class LateExponentialDecay(_EpochSchedule):
    """A learning rate that is constant, and from epoch `start` on multiplied by `exp(-5 (epoch / epochs)^2)`.

    Args:
        learning_rate: The constant rate.
        start: The first epoch with the factor, counted from 0.
        epochs: Number of epochs of the whole run.
        steps_per_epoch: Number of steps of an epoch.

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


@keras.saving.register_keras_serializable("keras_ssvae")
class WarmUpStepDecay(_EpochSchedule):
    """A learning rate that is lower in the first epoch, falls in steps, and exponentially at the end.

    * epoch 0: `warm_up * learning_rate`;
    * then `learning_rate`, multiplied by `factor` at each of `boundaries`;
    * from epoch `start` on also multiplied by `exp(-5 ((epoch - start) / (epochs - start))^2)`.

    Args:
        learning_rate: The rate after the warm-up.
        steps_per_epoch: Number of steps of an epoch.
        warm_up: Factor of the first epoch.
        boundaries: Epochs at which the rate falls, counted from 0.
        factor: Factor of the rate at each boundary.
        start: The first epoch with the exponential factor. None for no such factor.
        epochs: Number of epochs of the whole run. Required with `start`.

    Example:
        >>> WarmUpStepDecay(1e-3, 390, warm_up=0.2, boundaries=(250, 350, 450, 550), factor=0.5, start=550, epochs=600)

    Reference:
        EXoN, Appendix A.4 (CIFAR-10). The paper has a factor of 0.1, the released code 0.5.
    """

    def __init__(
        self,
        learning_rate: float,
        steps_per_epoch: int,
        warm_up: float = 1.0,
        boundaries: Sequence[int] = (),
        factor: float = 0.5,
        start: int | None = None,
        epochs: int | None = None,
    ):
        ends = {} if epochs is None else {"epochs": epochs}
        super().__init__(
            learning_rate=learning_rate, steps_per_epoch=steps_per_epoch, warm_up=warm_up, factor=factor, start=start,
            **ends,
        )  # fmt: skip
        if start is not None and not (epochs is not None and start < epochs):
            raise ValueError(f"`start` is {start} and `epochs` is {epochs}; the decay must start before the run ends.")
        if not all(isinstance(epoch, numbers.Real) and epoch > 0 for epoch in boundaries):
            raise ValueError(f"`boundaries` is {boundaries!r}; it must be a sequence of epochs, numbers above 0.")
        self.learning_rate, self.warm_up, self.boundaries, self.factor = learning_rate, warm_up, boundaries, factor
        self.start, self.epochs = start, epochs

    def __call__(self, step):
        epoch = self.epoch(step)
        rate = self.learning_rate * ops.where(epoch < 1, self.warm_up, 1.0)
        for boundary in self.boundaries:
            rate = rate * ops.where(epoch >= boundary, self.factor, 1.0)
        if self.start is None or self.epochs is None:
            return rate
        late = ops.exp(-5.0 * ops.square((epoch - self.start) / (self.epochs - self.start)))
        return rate * ops.where(epoch >= self.start, late, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "boundaries": list(self.boundaries)}
