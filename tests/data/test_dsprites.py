import shutil

import keras
import numpy as np
import pytest

from keras_ssvae import data
from keras_ssvae.data import sources

on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tensorflow_datasets belongs to the TensorFlow backend"
)


@pytest.fixture(scope="module")
def dsprites(dsprites_directory):
    return data.load_dsprites(dsprites_directory)


def test_the_labels_are_the_shapes_and_all_images_are_for_training(dsprites):
    assert (dsprites.name, dsprites.class_names) == ("dsprites", ("square", "ellipse", "heart"))
    assert dsprites.train_images.shape == (432, 64, 64, 1)
    assert dsprites.factor_names == ("color", "shape", "scale", "orientation", "x", "y")
    assert dsprites.train_factors.shape == (432, 6)
    np.testing.assert_array_equal(dsprites.train_labels, dsprites.train_factors[:, 1])
    assert [len(np.unique(column)) for column in dsprites.train_factors.T] == [1, 3, 3, 3, 4, 4]
    assert len(np.unique(dsprites.train_factors, axis=0)) == 432
    assert all(array.dtype == np.int64 for array in (dsprites.train_labels, dsprites.train_factors))


def test_pixels_are_black_and_white_whatever_is_in_the_files(dsprites):
    assert dsprites.train_images.dtype == np.uint8
    np.testing.assert_array_equal(np.unique(dsprites.train_images), [0, 255])


def test_each_image_has_its_own_factors(dsprites):
    weights = dsprites.train_images[..., 0] / dsprites.train_images.sum(axis=(1, 2))[:, None]
    rows, columns = np.indices((64, 64))
    x, y = ((weights * places).sum(axis=(1, 2)) for places in (columns, rows))
    np.testing.assert_array_equal(np.rint((x - 17) / 10), dsprites.train_factors[:, 4])
    np.testing.assert_array_equal(np.rint((y - 17) / 10), dsprites.train_factors[:, 5])
    area = (dsprites.train_images > 0).sum(axis=(1, 2, 3))
    for shape in range(3):
        of_shape = dsprites.train_labels == shape
        assert np.corrcoef(area[of_shape], dsprites.train_factors[of_shape, 2])[0, 1] > 0.95


def test_the_test_images_are_a_part_drawn_once(dsprites_directory, dsprites, monkeypatch):
    monkeypatch.setattr("keras_ssvae.data.dsprites._TEST_IMAGES", 50)
    first, again = data.load_dsprites(dsprites_directory), data.load_dsprites(dsprites_directory)
    assert (len(first.train_images), len(first.test_images)) == (432, 50)
    np.testing.assert_array_equal(first.test_factors, again.test_factors)
    np.testing.assert_array_equal(first.train_images, dsprites.train_images)
    places = [np.flatnonzero((first.train_factors == row).all(axis=1)).item() for row in first.test_factors]
    assert len(set(places)) == 50
    np.testing.assert_array_equal(first.train_images[places], first.test_images)
    np.testing.assert_array_equal(first.test_labels, first.test_factors[:, 1])
    assert len(dsprites.test_images) == 432  # of fewer than there are in a test set, all


def test_the_images_are_read_batch_by_batch_into_one_array(dsprites_directory, dsprites, monkeypatch):
    monkeypatch.setattr("keras_ssvae.data.dsprites._BATCH", 100)
    np.testing.assert_array_equal(data.load_dsprites(dsprites_directory).train_images, dsprites.train_images)


def test_some_classes_keep_their_factors(dsprites):
    part = dsprites.only([2, 0])
    assert part.class_names == ("heart", "square")
    np.testing.assert_array_equal(part.train_factors[:, 1], np.where(part.train_labels == 0, 2, 0))
    np.testing.assert_array_equal(part.test_factors[:, 1], np.where(part.test_labels == 0, 2, 0))


def test_other_sizes_keep_the_factors(dsprites):
    small = dsprites.resized(32)
    assert small.train_images.shape == (432, 32, 32, 1)
    np.testing.assert_array_equal(small.train_factors, dsprites.train_factors)


def test_on_jax_it_says_that_it_needs_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(data.DataUnavailableError, match=r"on the TensorFlow backend .* is jax\. Set KERAS_BACKEND"):
        data.load_dsprites()


@on_tensorflow
def test_a_download_that_fails_ends_in_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "download", lambda builder, work: f"no progress with {builder}")
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load_dsprites(tmp_path / "new")
    message = str(caught.value)
    assert message.startswith(f"dsprites is not prepared in {tmp_path}/new and could not be downloaded (no progress")
    assert "tfds.builder('dsprites').download_and_prepare()" in message
    assert message.endswith("here, or point `data_dir` (--data-dir) at a directory that holds it.")
    assert list(tmp_path.iterdir()) == []


def test_a_complete_download_is_moved_into_place(dsprites_directory, tmp_path, monkeypatch):
    def link(builder, work):
        name, version = builder.split(":")
        (work / name).mkdir()
        (work / name / version).symlink_to(dsprites_directory / name / version)

    monkeypatch.setattr(sources, "download", link)
    assert len(data.load_dsprites(tmp_path).train_images) == 432
    assert [path.name for path in tmp_path.iterdir()] == ["dsprites"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("truncated record", "cannot be read"),
        ("missing record", "expected to contain 432 elements"),
        ("other pixels", "the pixels go up to 255, not 1"),
    ],
)
def test_damaged_files_are_named_in_a_sentence(dsprites_directory, tmp_path, monkeypatch, damage, reason):
    folder = shutil.copytree(dsprites_directory / "dsprites/2.0.0", tmp_path / "dsprites/2.0.0")
    (records,) = folder.glob("*.tfrecord*")
    content = records.read_bytes()
    if damage == "truncated record":
        records.write_bytes(content[:1000])
    elif damage == "missing record":
        records.write_bytes(content[int.from_bytes(content[:8], "little") + 16 :])
    else:
        read = sources.open_tfds
        bright = lambda part: {**part, "image": 255 * part["image"]}  # noqa: E731
        monkeypatch.setattr(sources, "open_tfds", lambda *args: (read(*args)[0].map(bright), 432))
    with pytest.raises(data.DataDamagedError) as caught:
        data.load_dsprites(tmp_path)
    message = str(caught.value)
    assert message.startswith(f"The data of dsprites in {folder} cannot be read")
    assert reason in message
    assert "Delete that directory and prepare it again" in message
