import csv
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae import data
from keras_ssvae.data import download, sources

REPOSITORY = Path(__file__).parents[2]
LABELLED = REPOSITORY.parent / "shared" / "reference" / "official_mnist_labelled.csv"
PREPARED = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="tensorflow_datasets belongs to the TensorFlow backend"
)


def prepared(name):
    folder = PREPARED / name / sources._TFDS_VERSIONS[name]
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tensorflow_datasets belongs to the TensorFlow backend")
    if not (folder / "dataset_info.json").is_file():
        pytest.skip(f"{name} is not prepared in {PREPARED}")
    return folder


@pytest.fixture(scope="module")
def mnist():
    prepared("mnist")
    return data.load("mnist")


def test_digits_are_the_embedded_ones_split_by_class_without_overlap():
    digits = data.load("digits")
    assert (digits.name, digits.num_classes) == ("digits", 10)
    assert digits.train_images.shape == (1437, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(digits.test_labels), [36] * 10)
    together = np.concatenate([digits.train_images, digits.test_images])
    assert together.dtype == np.uint8
    assert len(np.unique(together.reshape(1797, -1), axis=0)) == 1797


def test_digits_are_enlarged_inside_a_black_border():
    from sklearn.datasets import load_digits

    digits = data.load("digits")
    images = np.concatenate([digits.train_images, digits.test_images])[..., 0].astype(float)
    assert images[:, :4].max() == images[:, -4:].max() == images[:, :, :4].max() == images[:, :, -4:].max() == 0
    assert images[:, 4:24, 4:24].max() == 255
    # Averaged over areas, what was enlarged is what it was: blocks of 10 x 10 pixels come from 4 x 4 pixels.
    blocks = images[:, 4:24, 4:24].reshape(-1, 2, 10, 2, 10).mean(axis=(2, 4))
    original = load_digits().images.reshape(-1, 2, 4, 2, 4).mean(axis=(2, 4)) * 255 / 16
    assert abs(blocks.mean() - original.mean()) < 2
    np.testing.assert_allclose(np.sort(blocks.ravel()), np.sort(original.ravel()), atol=25)


def test_digits_are_the_same_every_time():
    first, again = data.load("digits"), data.load("digits")
    np.testing.assert_array_equal(first.train_images, again.train_images)
    np.testing.assert_array_equal(first.test_labels, again.test_labels)


def test_mnist_is_in_the_order_of_its_files(mnist):
    if not LABELLED.is_file():
        pytest.skip(f"{LABELLED} is not there")
    with LABELLED.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 100
    for row in rows:
        index = int(row["tfds_index"])
        assert mnist.train_labels[index] == int(row["label"])
        assert hashlib.sha1(mnist.train_images[index].tobytes()).hexdigest() == row["sha1"]


def test_mnist_has_its_known_class_counts(mnist):
    assert mnist.train_images.shape == (60000, 28, 28, 1)
    assert mnist.test_images.shape == (10000, 28, 28, 1)
    assert mnist.train_images.dtype == np.uint8
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(mnist.train_labels), counts)
    np.testing.assert_array_equal(
        np.bincount(mnist.test_labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    )


def test_fashion_mnist_is_balanced_and_has_names():
    prepared("fashion_mnist")
    fashion = data.load("fashion_mnist")
    np.testing.assert_array_equal(np.bincount(fashion.train_labels), [6000] * 10)
    assert fashion.class_names[9] == "ankle boot"


def test_cifar10_is_balanced_and_has_names():
    prepared("cifar10")
    cifar10 = data.load("cifar10")
    assert (cifar10.train_images.shape, cifar10.test_images.shape) == ((50000, 32, 32, 3), (10000, 32, 32, 3))
    np.testing.assert_array_equal(np.bincount(cifar10.train_labels), [5000] * 10)
    np.testing.assert_array_equal(np.bincount(cifar10.test_labels), [1000] * 10)
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    assert " ".join(cifar10.class_names) == names
    # The sky is blue, and frogs are not.
    mean = cifar10.train_images.mean(axis=(1, 2))
    blueness = mean[:, 2] - mean[:, 0]
    by_class = [blueness[cifar10.train_labels == k].mean() for k in range(10)]
    assert np.argmax(by_class) in (0, 8)
    assert by_class[6] < 0


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(
        ValueError, match=r'`name` is \'cifar\'. It must be one of "mnist", "fashion_mnist", "cifar10", "digits"'
    ):
        data.load("cifar")


def test_on_jax_the_command_that_fetches_the_files_says_so_to_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(data.DataUnavailableError, match="run `KERAS_BACKEND=jax python -c"):
        data.load("cifar10", data_dir=tmp_path)


@on_tensorflow
def test_a_download_that_makes_no_progress_ends_in_a_sentence_and_leaves_nothing(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(download, "_PATIENCE_SECONDS", 0.5)
    # A proxy that answers nothing: the test must not depend on the network, nor load it.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load("mnist", data_dir=tmp_path / "new")
    assert time.monotonic() - began < 10
    message = str(caught.value)
    assert "mnist is not prepared in" in message
    assert str(tmp_path / "new") in message
    assert "download_and_prepare" in message
    assert "--dataset digits" in message
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in "".join(capfd.readouterr())


def test_patience_is_below_the_promised_20_seconds():
    assert download._PATIENCE_SECONDS < 20


@on_tensorflow
def test_a_directory_that_cannot_be_written_is_data_that_is_not_available(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(data.DataUnavailableError, match=r"mnist is not prepared in .*file"):
        data.load("mnist", data_dir=tmp_path / "file")


def test_a_complete_download_is_moved_into_place(tmp_path, monkeypatch):
    folder = prepared("mnist")

    def copy(builder, work):
        assert builder == "mnist:3.0.1"
        shutil.copytree(folder, work / "mnist" / "3.0.1", copy_function=os.symlink)

    monkeypatch.setattr(sources, "download", copy)
    assert len(data.load("mnist", data_dir=tmp_path).train_images) == 60000
    assert [path.name for path in tmp_path.iterdir()] == ["mnist"]


@pytest.mark.parametrize("damage", ["truncated record", "missing records", "missing file", "broken description"])
def test_damaged_files_are_named_in_a_sentence(tmp_path, damage):
    folder = shutil.copytree(prepared("mnist"), tmp_path / "mnist" / "3.0.1", copy_function=shutil.copyfile)
    folder.chmod(0o755)
    records = folder / "mnist-train.tfrecord-00000-of-00001"
    if damage == "truncated record":
        records.write_bytes(records.read_bytes()[:100_000])
    elif damage == "missing records":
        content = records.read_bytes()
        length = int.from_bytes(content[:8], "little") + 16
        records.write_bytes(content[:length])
    elif damage == "missing file":
        records.unlink()
    else:
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(data.DataDamagedError) as caught:
        data.load("mnist", data_dir=tmp_path)
    message = str(caught.value)
    assert str(folder) in message
    assert "Delete that directory" in message
    assert "{{" not in message
    assert caught.value.__suppress_context__


@pytest.mark.parametrize("kind", [ImportError, ModuleNotFoundError, AttributeError, TypeError])
def test_a_package_that_fails_never_has_the_data_deleted(tmp_path, monkeypatch, kind):
    def fails(path):
        raise kind("module 'numpy' has no attribute 'bool8'")

    with pytest.raises(data.DataUnavailableError) as caught, sources.damage_named("mnist", tmp_path):
        fails(tmp_path)
    assert not isinstance(caught.value, data.DataDamagedError)
    message = str(caught.value)
    assert "has no attribute 'bool8'" in message
    assert "Delete" not in message
    assert "Leave the data as they are" in message


def test_a_broken_tensorflow_datasets_is_named_and_not_the_data(monkeypatch):
    prepared("mnist")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("tensorflow_datasets is read on TensorFlow alone")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(data.DataUnavailableError, match=r"an installed package failed \(ModuleNotFoundError.*Leave"):
        data.load("mnist")


def test_a_download_that_hangs_is_ended_with_its_children(tmp_path):
    marker = tmp_path / "lives"
    grandchild = f"import time, pathlib\nwhile True: pathlib.Path({str(marker)!r}).touch(); time.sleep(0.05)"
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {grandchild!r}]); time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not marker.exists():
        time.sleep(0.05)
    download._end_tree(child)
    assert child.returncode is not None
    marker.unlink(missing_ok=True)
    time.sleep(0.5)
    assert not marker.exists()


def test_without_process_groups_windows_way_is_taken(monkeypatch):
    monkeypatch.delattr(os, "killpg", raising=False)
    monkeypatch.delattr(download.signal, "SIGKILL", raising=False)
    commands = []
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def run(command, **options):
        commands.append(command)
        os.kill(child.pid, 9)

    monkeypatch.setattr(download.subprocess, "run", run)
    download._end_tree(child)
    assert commands == [["taskkill", "/F", "/T", "/PID", str(child.pid)]]


def test_data_are_shown_in_one_line_without_their_pixels():
    digits = data.load("digits")
    assert repr(digits) == "<ImageData digits: 1437 training and 360 test images, 28x28x1, 10 classes>"
    parts = data.split(digits.train_labels, 100, 200, seed=1)
    assert repr(parts) == "<Split: 100 labeled, 1437 unlabeled and 200 validation images>"


def test_some_classes_become_the_first_ones_in_the_given_order():
    digits = data.load("digits")
    part = digits.only([7, 1])
    assert (part.class_names, part.num_classes, part.name) == (("7", "1"), 2, "digits")
    for images, labels, of in (
        (part.train_images, part.train_labels, (digits.train_images, digits.train_labels)),
        (part.test_images, part.test_labels, (digits.test_images, digits.test_labels)),
    ):
        for new, old in enumerate([7, 1]):
            np.testing.assert_array_equal(images[labels == new], of[0][of[1] == old])
        assert len(images) == np.isin(of[1], [1, 7]).sum()


@pytest.mark.parametrize("classes", [[], [1, 1], [0, 10], [-1]])
def test_classes_that_are_not_there_are_refused(classes):
    with pytest.raises(ValueError, match="it must name classes of 0 to 9, at least one, each once"):
        data.load("digits").only(classes)


def test_resized_images_are_those_of_pillows_bilinear_filter():
    digits = data.load("digits").only([3, 8])
    large = digits.resized(32)
    assert (large.train_images.shape[1:], large.train_images.dtype) == ((32, 32, 1), np.uint8)
    np.testing.assert_array_equal(large.train_labels, digits.train_labels)
    assert large.class_names == digits.class_names
    # Each pixel of 32 falls between two of 28, and is their mean weighted by the distance, in both directions.
    at = (np.arange(32) + 0.5) * 28 / 32 - 0.5
    low = np.clip(np.floor(at).astype(int), 0, 27)
    high, share = np.clip(np.floor(at).astype(int) + 1, 0, 27), at - np.floor(at)
    image = digits.test_images[0, :, :, 0].astype(float)
    rows = image[low] * (1 - share)[:, None] + image[high] * share[:, None]
    expected = rows[:, low] * (1 - share) + rows[:, high] * share
    np.testing.assert_allclose(large.test_images[0, :, :, 0], expected, atol=1.01)  # rounded once in each direction


def test_images_in_colour_are_resized_channel_by_channel():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8)
    labels = np.arange(4)

    def resized(images):
        return data.ImageData("x", images, labels, images[:1], labels[:1], tuple("abcd")).resized(9).train_images

    np.testing.assert_array_equal(resized(images)[..., 1:2], resized(images[..., 1:2]))
