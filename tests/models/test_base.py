"""What all models do alike."""

import numpy as np
import pytest
from keras import ops


@pytest.fixture(params=["EXoN", "PartedVAE, one label", "PartedVAE, several labels"])
def model(request, make_model, make_parted):
    return make_model() if request.param == "EXoN" else make_parted(several=request.param.endswith("several labels"))


def test_interpolate_goes_straight_from_one_image_to_the_other(model, images):
    a, b = images[:3], images[3:6]
    path = ops.convert_to_numpy(model.interpolate(a, b, n=5))
    assert path.shape == (3, 5, 8, 8, 3)
    np.testing.assert_allclose(path[:, 0], model.reconstruct(a), atol=1e-6)
    np.testing.assert_allclose(path[:, 4], model.reconstruct(b), atol=1e-6)
    z = 0.75 * ops.convert_to_numpy(model.encode(a)) + 0.25 * ops.convert_to_numpy(model.encode(b))
    np.testing.assert_allclose(path[:, 1], model.decode(z), atol=1e-5)
