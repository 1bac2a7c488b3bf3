"""Extended Yale B, from small generated files with the names of the original ones."""

import numpy as np
import pytest
from PIL import Image

from keras_ssvae import data

DIRECTIONS = ["A+000E+00", "A-005E+10", "A+095E+00", "A+000E+90", "A+110E+15", "A-130E+20", "A-100E+00"]
KEPT = 4  # with less than 100 degrees
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def write(folder, persons, directions=DIRECTIONS):
    """Images of 168x192 pixels with the same grey value everywhere, that of their place in the order of writing."""
    for person in persons:
        inner = folder / f"yaleB{person:02d}"
        inner.mkdir(parents=True)
        for i, direction in enumerate(directions):
            Image.new("L", (168, 192), 10 * person % 200 + i).save(inner / f"{inner.name}_P00{direction}.pgm")
        Image.new("L", (168, 192), 255).save(inner / f"{inner.name}_P00_Ambient.pgm")
        (inner / f"{inner.name}_P00A+010E+00.pgm.bad").write_bytes(b"")


@pytest.mark.parametrize("inner", ["", "CroppedYale", "yale"])
def test_images_of_the_extension_that_are_lit_from_less_than_100_degrees_are_kept(tmp_path, inner):
    write(tmp_path / inner, [1, 10, 11, 15, 39])
    images = data.load_yale(tmp_path)
    assert (images.name, images.class_names) == ("yale", ("person 11", "person 15", "person 39"))
    assert (images.train_images.shape, images.train_images.dtype) == ((3 * KEPT, 64, 64, 1), "uint8")
    assert images.train_labels.tolist() == np.repeat(range(3), KEPT).tolist()
    assert sorted(images.train_images[:KEPT, 0, 0, 0]) == [110, 111, 112, 113]


def test_every_tenth_image_of_a_person_is_for_test(tmp_path):
    write(tmp_path, [11, 12], [f"A+{angle:03d}E+00" for angle in range(25)])
    images = data.load_yale(tmp_path)
    assert images.test_labels.tolist() == [0, 0, 1, 1]
    assert images.test_images[:2, 0, 0, 0].tolist() == [119, 129]
    assert (len(images.train_images), images.train_labels.dtype) == (46, "int64")


def test_images_are_resized_as_by_pillow(tmp_path):
    write(tmp_path, [11], DIRECTIONS[:1])
    pixels = RNG.integers(0, 256, (192, 168), "uint8")
    Image.fromarray(pixels).save(tmp_path / "yaleB11/yaleB11_P00A+000E+00.pgm")
    expected = Image.fromarray(pixels).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(data.load_yale(tmp_path).train_images[0, :, :, 0], expected)


def test_what_is_missing_or_damaged_is_said_with_the_remedy(tmp_path):
    with pytest.raises(data.DataUnavailableError, match=r"yale is not there: .*To get it, unpack the folder"):
        data.load_yale(tmp_path)
    write(tmp_path, [11])
    (tmp_path / "yaleB11/yaleB11_P00A+000E+00.pgm").write_bytes(b"P5 168 192")
    with pytest.raises(data.DataDamagedError, match="yaleB11_P00A"):
        data.load_yale(tmp_path)
