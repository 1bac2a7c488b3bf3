"""Omniglot in both of its forms, from small generated files."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from keras_ssvae import data

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (9, 28, 28)) / 255
ALPHABETS = np.array([2, 0, 1, 2, 1, 0, 2, 1, 0])
LARGE = (255 * (RNG.random((8, 105, 105)) > 0.1)).astype("uint8")


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))


def write_small(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    # A column for each image, which itself is kept column by column.
    pixels, one_hot = GREY.transpose(0, 2, 1).reshape(9, 784).T, np.eye(3)[ALPHABETS].T
    parts = {"data": pixels[:, :6], "target": one_hot[:, :6], "testdata": pixels[:, 6:], "testtarget": one_hot[:, 6:]}
    savemat(folder / "chardata.mat", parts | changed)


def write_large(folder, **changed):
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"x_train": LARGE[:5], "y_train": [0, 1, 1, 2, 2], "x_test": LARGE[5:], "y_test": [3, 4, 4]}
    np.savez(folder / "omniglot.npz", **(parts | {"alphabet_of_class": ["B", "B", "A", "D", "C"]} | changed))


@pytest.mark.parametrize("inner", ["", "omniglot", "OMNIGLOT"])
def test_the_small_images_are_upright_with_their_alphabets(tmp_path, inner):
    write_small(tmp_path / inner)
    images = data.load_omniglot(tmp_path)
    assert (images.name, images.class_names) == ("omniglot", ("alphabet 0", "alphabet 1", "alphabet 2"))
    for part, expected in (("train", slice(6)), ("test", slice(6, 9))):
        given = getattr(images, f"{part}_images")
        assert given.dtype == np.uint8
        np.testing.assert_array_equal(given[..., 0], np.rint(255 * GREY[expected]))
        np.testing.assert_array_equal(getattr(images, f"{part}_labels"), ALPHABETS[expected])


def test_the_large_images_are_made_small_with_white_ink_and_say_so(tmp_path):
    write_large(tmp_path)
    images = data.load_omniglot(tmp_path)
    assert (images.name, images.class_names) == ("omniglot_resized", ("B", "A", "D", "C"))
    assert (images.train_images.shape, images.test_images.shape) == ((5, 28, 28, 1), (3, 28, 28, 1))
    np.testing.assert_array_equal(images.train_labels, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(images.test_labels, [2, 3, 3])
    expected = Image.fromarray(255 - LARGE[6]).resize((28, 28), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(images.test_images[1, :, :, 0], expected)
    assert images.train_images.mean() == pytest.approx((255 - LARGE[:5].astype(float)).mean(), rel=0.05)


def test_the_small_ones_come_first_and_either_can_be_asked_for(tmp_path):
    write_small(tmp_path)
    write_large(tmp_path)
    names = [data.load_omniglot(tmp_path, resized).name for resized in (None, False, True)]
    assert names == ["omniglot", "omniglot", "omniglot_resized"]


def test_they_are_looked_for_where_keras_keeps_its_files(tmp_path):
    write_large(tmp_path / "keras/datasets")
    assert data.load_omniglot().name == "omniglot_resized"
    with pytest.raises(data.DataUnavailableError, match=r"holds no chardata\.mat\. To get it, copy the 28x28 images"):
        data.load_omniglot(resized=False)
    with pytest.raises(data.DataUnavailableError, match=r"holds no chardata\.mat or omniglot\.npz\. "):
        data.load_omniglot(tmp_path)


@pytest.mark.parametrize(
    ("write", "match"),
    [
        (lambda folder: (folder / "chardata.mat").write_text("no"), r"chardata\.mat cannot be read"),
        (lambda folder: write_small(folder, data=np.zeros((783, 6))), r"`data` has shape \(783, 6\)"),
        (lambda folder: write_small(folder, testdata=np.full((784, 3), 255.0)), r"`testdata` .*in \[0, 1\]"),
        (lambda folder: write_large(folder, x_test=LARGE[5:, :, :, None]), r"`x_test` is uint8 \(3, 105, 105, 1\)"),
    ],
)
def test_damaged_files_are_named_in_a_sentence(tmp_path, write, match):
    write(tmp_path)
    with pytest.raises(data.DataDamagedError, match=match) as caught:
        data.load_omniglot(tmp_path)
    assert "Delete that file and prepare it again: copy the 28x28 images" in str(caught.value)
