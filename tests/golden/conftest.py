"""A module of golden tests names its files in `FILES`; its tests run for each of them."""

import numpy as np
import pytest
from golden.replay import GOLDEN


def pytest_generate_tests(metafunc):
    if "golden_file" in metafunc.fixturenames:
        pattern = metafunc.module.FILES
        files = sorted(GOLDEN.glob(pattern))
        missing = pytest.param(
            None, id="none", marks=pytest.mark.skip(reason=f"no {pattern} in {GOLDEN} (set KERAS_SSVAE_GOLDEN)")
        )
        metafunc.parametrize(
            "golden_file", [pytest.param(f, id=f.stem) for f in files] or [missing], scope="module", indirect=True
        )


@pytest.fixture(scope="module")
def golden_file(request):
    with np.load(request.param) as file:
        return dict(file)
