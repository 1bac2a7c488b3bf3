"""The functions of this package that differ between the backends of Keras."""

import keras

if keras.backend.backend() == "jax":
    from keras_ssvae.data.jax import check_dataset, distribute, gather, is_dataset, make_batches, precise_matmul
else:  # `keras_ssvae.backend` rejects all other backends
    from keras_ssvae.data.tensorflow import check_dataset, distribute, gather, is_dataset, make_batches, precise_matmul

__all__ = ["check_dataset", "distribute", "gather", "is_dataset", "make_batches", "precise_matmul"]
