import numpy as np
import pytest

from keras_ssvae import data

IMAGES = np.random.RandomState(0).randint(0, 256, (40, 8, 8, 1)).astype(np.uint8)


def test_pixels_become_black_or_white_with_their_brightness_as_probability():
    levels = np.repeat(np.array([0, 51, 128, 204, 255], np.uint8), 10000)
    drawn = data.binarize(levels, seed=3).reshape(5, 10000)
    assert drawn.dtype == np.uint8
    assert set(np.unique(drawn)) == {0, 255}
    probs = np.array([0, 51, 128, 204, 255]) / 255
    np.testing.assert_allclose(drawn.mean(axis=1) / 255, probs, rtol=0, atol=4 * 0.5 / 100)
    assert drawn[0].max() == 0
    assert drawn[-1].min() == 255


def test_sets_of_one_random_state_are_those_of_the_original_code():
    np.random.seed(777)  # noqa: NPY002 (as the original has it)
    # It holds images as rows of float32 pixels in [0, 1], and draws validation first.
    rows = [part.reshape(-1, 64).astype("float32") / 255 for part in (IMAGES[:15], IMAGES[15:])]
    expected = [np.random.binomial(1, part) for part in rows]  # noqa: NPY002
    random = np.random.RandomState(777)
    drawn = [data.binarize(part, random) for part in (IMAGES[:15], IMAGES[15:])]
    for part, other in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(data.scale(part).reshape(-1, 64), 2 * other - 1)
    np.testing.assert_array_equal(drawn[0], data.binarize(IMAGES[:15], 777))


def test_the_seed_alone_decides():
    np.testing.assert_array_equal(data.binarize(IMAGES, 1), data.binarize(IMAGES, 1))
    assert not np.array_equal(data.binarize(IMAGES, 1), data.binarize(IMAGES, 2))


def test_scaled_images_are_drawn_like_grey_levels():
    np.testing.assert_array_equal(data.binarize(data.scale(IMAGES), 1), data.binarize(IMAGES, 1))


@pytest.mark.parametrize(
    ("images", "seed", "sentence"),
    [
        (IMAGES.astype(int), 1, "`images` is int64; it must be uint8"),
        (IMAGES.astype(float), 1, "`images` has pixels from 0 to 255"),
        (np.full((2, 2), np.nan), 1, "`images` holds NaN"),
        (IMAGES, -1, "`seed` is -1. It must be an integer of at least 0"),
        (IMAGES, None, "`seed` is None"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence(images, seed, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.binarize(images, seed)
