import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import data

LEVELS = np.arange(256, dtype=np.uint8)


def test_scale_maps_the_grey_levels_onto_minus_one_to_one():
    scaled = data.scale(LEVELS)
    assert isinstance(scaled, np.ndarray)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, np.linspace(-1, 1, 256), atol=1e-7)


def test_scale_of_tensors_of_the_backend_is_a_tensor():
    scaled = data.scale(ops.convert_to_tensor(LEVELS))
    assert ops.is_tensor(scaled)
    np.testing.assert_allclose(scaled, data.scale(LEVELS), atol=1e-7)


def test_scale_makes_arrays_of_other_tensors_and_lists():
    foreign = [LEVELS.tolist()]
    if (
        keras.backend.backend() == "tensorflow"
    ):  # TensorFlow is never imported beside JAX: it would take the GPU's memory
        foreign.append(pytest.importorskip("jax.numpy").asarray(LEVELS))
    for images in foreign:
        scaled = data.scale(images)
        assert isinstance(scaled, np.ndarray)
        np.testing.assert_allclose(scaled, data.scale(LEVELS), atol=1e-7)


@pytest.mark.parametrize(
    "images", [data.scale(LEVELS), LEVELS / 255, (LEVELS > 9).astype("uint8"), LEVELS - 300.0, np.full(3, np.nan)]
)
def test_scale_refuses_what_is_not_from_0_to_255(images):
    for given in (images, ops.convert_to_tensor(images)):
        with pytest.raises(ValueError, match="to be scaled it must be pixels from 0 to 255"):
            data.scale(given)
