"""The only code that knows a backend: one gradient step, and kernels that `keras.ops` does not have."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"keras_ssvae runs on the TensorFlow backend of Keras; the backend is {keras.backend.backend()!r}. "
        "Set the environment variable KERAS_BACKEND=tensorflow."
    )

from keras_ssvae.training.tensorflow import add_bias, apply_adam, gradient_step, normalize_pool_activate

__all__ = ["add_bias", "apply_adam", "gradient_step", "normalize_pool_activate"]
