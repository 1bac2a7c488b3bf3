"""Adam on normalised gradients."""

import keras

from keras_ssvae.backend import norm
from keras_ssvae.optimizers.adam import Adam

_TINY = 1e-7


@keras.saving.register_keras_serializable("keras_ssvae")
class NormalizedAdam(Adam):
    """Adam on normalised gradients: the gradient of each variable is divided by its Euclidean norm plus 1e-7.

    The arguments are those of `Adam`.

    Example:
        >>> optimizer = NormalizedAdam(5e-4, epsilon=1e-8)

    Reference:
        Yu, Lin, Salakhutdinov, Carbonell: Normalized gradient with adaptive stepsize method for deep neural network
        training, 2017; the code of VampPrior trains with it.
    """

    def update_step(self, gradient, variable, learning_rate) -> None:
        super().update_step(gradient / (norm(gradient) + _TINY), variable, learning_rate)
