import pytest
from golden.replay import GOLDEN


@pytest.fixture
def exon_mnist_golden_files():
    """The numbers of the original EXoN code; the test skips where they are not at hand."""
    files = sorted(GOLDEN.glob("exon_mnist_*.npz"))
    if not files:
        pytest.skip(f"no exon_mnist_*.npz in {GOLDEN}; set KERAS_SSVAE_GOLDEN to the folder of golden files")
    return files
