import gc
import weakref

import keras
import numpy as np

from keras_ssvae.backend import inference


class Counting(keras.Model):
    """Counts how often it is traced."""

    calls = 0

    def call(self, x, training=False):
        self.calls += 1
        return 2.0 * x if training else 3.0 * x


def test_a_model_is_compiled_once_and_infers():
    model, x = Counting(), np.ones((2, 3), "float32")
    np.testing.assert_array_equal(inference(model)(x), 3.0 * x)
    traced = model.calls
    for _ in range(3):
        np.testing.assert_array_equal(inference(model)(x), 3.0 * x)
    assert model.calls == traced


def test_inference_does_not_keep_the_model():
    model = Counting()
    inference(model)(np.ones((2, 3), "float32"))
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None


def test_a_model_whose_variables_were_replaced_is_compiled_again():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, kernel_initializer="ones")])
    x = np.ones((2, 4), "float32")
    np.testing.assert_array_equal(inference(model)(x), np.full((2, 3), 4.0))
    model.layers[0].quantize("int8")
    model.layers[0].kernel.assign(np.zeros((4, 3), "int8"))
    np.testing.assert_array_equal(inference(model)(x), np.zeros((2, 3)))
