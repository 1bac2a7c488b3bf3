"""A training step runs the networks that `forward_passes` of its model names, as often as it says."""

import keras
import numpy as np
import pytest

from keras_ssvae.models.passes import passes


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (None, "runs `mine`, which `forward_passes` of the model does not name. Add the attribute's name there"),
        (1, "runs `mine` more often than its `forward_passes` says"),
    ],
)
def test_a_pass_that_is_not_named_is_refused(number, sentence):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="mine")
    run = passes({} if number is None else {network: number}, seed=0, dropout=np.int32(0))
    for _ in range(number or 0):
        run(network, np.zeros((3, 2), "float32"))
    with pytest.raises(ValueError, match=sentence):
        run(network, np.zeros((3, 2), "float32"))
