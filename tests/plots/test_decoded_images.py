"""The figures of images beside what the decoder makes of them."""

import re

import numpy as np
import pytest
from keras import ops

from keras_ssvae import plots

# Colour images 2x3; the model sees the mean over an image, and its decoder gives back half of it.
LEVELS = np.array([-1.0, -0.5, 0.0, 0.5, 1.0], "float32")
IMAGES = np.broadcast_to(LEVELS[:, None, None, None], (5, 2, 3, 3)).copy()


class Half:
    def encode(self, x):
        return ops.mean(x, axis=(1, 2))

    def decode(self, z):
        return ops.broadcast_to(z[:, None, None, :] / 2, (len(z), 2, 3, 3))


def levels_of(ax, rows, columns, height):
    """The level of each row of pixels of each tile (rows, columns, height), gaps of 2 pixels left out."""
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (rows * (height + 2) - 2, columns * 5 - 2, 3)
    sheet = np.pad(sheet, ((0, 2), (0, 2), (0, 0)))
    return sheet.reshape(rows, height + 2, columns, 5, 3)[:, :height, :, 0, 0].transpose(0, 2, 1) * 2 - 1


def test_images_stand_in_rows_and_the_last_one_is_filled_up():
    figure = plots.images(IMAGES, columns=3, title="Some")
    (ax,) = figure.axes
    (sheet,) = (np.asarray(image.get_array()) for image in ax.images)
    rows, (height, width) = -(-len(IMAGES) // 3), IMAGES.shape[1:3]
    assert sheet.shape[:2] == (rows * (height + 2) - 2, 3 * (width + 2) - 2)
    np.testing.assert_allclose(sheet[:height, :width].reshape(IMAGES[0].shape), 0.5 * (IMAGES[0] + 1), atol=1e-6)
    assert ax.get_title(loc="left") == "Some"


def test_reconstructions_stand_below_their_images():
    (ax,) = plots.reconstructions(Half(), IMAGES, columns=3).axes
    pairs = levels_of(ax, 2, 3, 4).reshape(6, 4)
    for pair, level in zip(pairs, LEVELS, strict=False):
        np.testing.assert_allclose(pair, [level, level, level / 2, level / 2], atol=1e-6)
    np.testing.assert_array_equal(pairs[5], 1.0)  # the empty place is white


def test_few_images_make_one_short_row():
    (ax,) = plots.reconstructions(Half(), IMAGES[:2]).axes
    np.testing.assert_allclose(levels_of(ax, 1, 2, 4)[0, :, 0], LEVELS[:2], atol=1e-6)


def test_the_path_between_two_images_is_framed_by_the_images_themselves():
    (ax,) = plots.image_interpolation(Half(), IMAGES[[0, 4]], IMAGES[[4, 1]], n=5).axes
    rows = levels_of(ax, 2, 7, 2)[..., 0]
    np.testing.assert_allclose(rows[0], [-1.0, *np.linspace(-0.5, 0.5, 5), 1.0], atol=1e-6)
    np.testing.assert_allclose(rows[1], [1.0, *np.linspace(0.5, -0.25, 5), -0.5], atol=1e-6)
    assert len(ax.patches) == 4


def test_one_pair_of_byte_images_is_interpolated_like_scaled_ones():
    a, b = (np.full((2, 3, 3), pixel, "uint8") for pixel in (0, 255))
    (ax,) = plots.image_interpolation(Half(), a, b, n=3).axes
    np.testing.assert_allclose(levels_of(ax, 1, 5, 2)[0, :, 0], [-1.0, -0.5, 0.0, 0.5, 1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.image_interpolation(Half(), IMAGES[:2], IMAGES[:3]), "`a` and `b` have shapes (2, 2, 3, 3) and"),
        (
            lambda: plots.image_interpolation(Half(), IMAGES[0], IMAGES[1], n=1),
            "`n` is 1. It must be an integer of at least",
        ),
        (lambda: plots.image_interpolation(Half(), 200 * IMAGES[:1], IMAGES[:1]), "it must be floats in [-1, 1]"),
        (lambda: plots.reconstructions(Half(), IMAGES[0]), "`images` is float32 of shape (2, 3, 3)"),
        (lambda: plots.reconstructions(Half(), IMAGES, columns=0), "`columns` is 0. It must be an integer"),
        (lambda: plots.images(IMAGES, columns=0), "`columns` is 0. It must be an integer"),
        (lambda: plots.images(IMAGES, columns=2.0), "`columns` is 2.0. It must be an integer"),
        (lambda: plots.reconstructions(Half(), IMAGES, columns=True), "`columns` is True. It must be an integer"),
        (lambda: plots.image_interpolation(Half(), IMAGES[0], IMAGES[1], n=4.0), "`n` is 4.0. It must be an integer"),
        (lambda: plots.path(Half(), [0, 0], [1, 1], n=True), "`n` is True. It must be an integer"),
        (lambda: plots.grid(Half(), n=np.float32(3)), "It must be an integer of at least 2"),
        (lambda: plots.images(IMAGES[:0]), "`images` holds no image"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(draw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()


def test_a_number_of_numpy_is_as_good_as_pythons():
    (ax,) = plots.images(np.repeat(IMAGES, 40, axis=0), columns=np.uint8(40)).axes  # wider than 255 pixels
    assert ax.images[0].get_extent()[1] == 40 * (IMAGES.shape[2] + 2) - 2
