import re

import numpy as np
import pytest

from keras_ssvae.evaluation import negative_ssim


def images(n, size=16, channels=1, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, size, size, channels)).astype("float32")


def ssim_by_scikit_image(a, b):
    """SSIM of two images (H, W, C): a Gaussian window of 11 pixels, and its positions inside the image."""
    metrics = pytest.importorskip("skimage.metrics")
    a, b = a.astype("float64"), b.astype("float64")
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    return metrics.structural_similarity(a, b, channel_axis=-1, **settings)


@pytest.mark.parametrize(("size", "channels"), [(13, 1), (11, 1), (28, 1), (16, 3)])
def test_it_is_scikit_images_ssim_of_all_ordered_pairs_self_pairs_included(size, channels):
    x = images(5, size, channels)
    pairs = [[ssim_by_scikit_image(a, b) for a in x] for b in x]
    assert negative_ssim(x) == pytest.approx((1 - np.mean(pairs)) / 2, abs=1e-6)


def test_equal_images_have_no_diversity():
    assert negative_ssim(np.repeat(images(1), 7, axis=0)) == pytest.approx(0.0, abs=1e-6)


def test_two_constant_images_of_opposite_sign_have_the_closed_form():
    # Without variance SSIM is the luminance term: 1 for the self pairs, (-2 + c1) / (2 + c1) for the others.
    x = np.stack([np.ones((12, 12, 1)), -np.ones((12, 12, 1))])
    assert negative_ssim(x) == pytest.approx((1 - (1 + (-2 + 1e-4) / (2 + 1e-4)) / 2) / 2, abs=1e-6)


def test_the_blocks_of_the_pair_matrix_add_up(monkeypatch):
    x = images(10)
    whole = negative_ssim(x)
    monkeypatch.setattr("keras_ssvae.evaluation.ssim.BAND", 4)
    assert negative_ssim(x) == pytest.approx(whole, abs=1e-6)


def test_pixels_from_0_to_255_are_scaled():
    pixels = np.random.default_rng(1).integers(0, 256, (4, 16, 16, 1), "uint8")
    assert negative_ssim(pixels) == pytest.approx(negative_ssim(pixels / 127.5 - 1), abs=1e-6)


def test_the_originals_figure_is_met(exon_mnist_golden_files):
    for file in exon_mnist_golden_files:
        with np.load(file) as golden:
            assert negative_ssim(golden["eval/decoded"]) == pytest.approx(float(golden["eval/negative_ssim"]), abs=1e-4)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((3, 16, 16)), "`images` has shape (3, 16, 16)"),
        (np.zeros((0, 16, 16, 1)), "`images` has shape (0, 16, 16, 1)"),
        (np.zeros((3, 10, 16, 1)), "at least 11, the size of the SSIM window"),
        (np.full((2, 16, 16, 1), np.nan), "holds NaN or infinite pixels"),
        (np.full((2, 16, 16, 1), 200.0), "`images` has pixels from 200 to 200; it must be floats in [-1, 1]"),
    ],
)
def test_wrong_images_are_refused_in_a_sentence(x, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        negative_ssim(x)
