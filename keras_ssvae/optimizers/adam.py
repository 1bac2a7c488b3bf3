"""Adam to the last digit."""

from typing import Any

import keras
from keras import ops

from keras_ssvae.backend import apply_adam, private


@keras.saving.register_keras_serializable("keras_ssvae")
class Adam(keras.optimizers.Adam):
    """Adam by the backend's fused kernel, with decoupled weight decay where `weight_decay` is given.

    Keras computes `1 - beta_2^t` by subtraction and `1 - beta_2` exactly, so its first steps are 6e-6 too short:
    enough to leave the original codes' numbers behind. `amsgrad` is not supported.

    Args:
        *args: As those of `keras.optimizers.Adam`.
        corrected_epsilon: Adds epsilon to the root of the corrected second moment, as the paper and PyTorch do, and not
            to that of the moment itself, as TensorFlow and Keras do.
        **kwargs: As those of `keras.optimizers.Adam`.

    Raises:
        ValueError: For `amsgrad=True`.

    Example:
        >>> optimizer = Adam(3e-3, weight_decay=5e-4)

    Reference:
        Kingma, Ba: Adam. Loshchilov, Hutter: Decoupled weight decay regularization.
    """

    def __init__(self, *args, corrected_epsilon: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        self.corrected_epsilon = corrected_epsilon
        if self.amsgrad:
            raise ValueError("`amsgrad` is True; this Adam has no such variant. Use `keras.optimizers.Adam`.")

    def update_step(self, gradient, variable, learning_rate) -> None:
        momentum, velocity = private.adam_moments(self, variable)
        epsilon = self.epsilon
        if self.corrected_epsilon:
            power = ops.power(ops.cast(self.beta_2, "float32"), ops.cast(self.iterations + 1, "float32"))
            epsilon = epsilon * ops.sqrt(1.0 - power)
        apply_adam(
            variable,
            momentum,
            velocity,
            gradient,
            learning_rate,
            self.iterations + 1,
            self.beta_1,
            self.beta_2,
            epsilon,
        )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "corrected_epsilon": self.corrected_epsilon}
