import gzip
import io
import pickle
import struct
import tarfile
from typing import ClassVar

import keras
import numpy as np
import pytest

from keras_ssvae import data
from keras_ssvae.data import files

LABELS = (np.arange(50) % 10).astype(np.uint8)
GREY = np.random.default_rng(0).integers(0, 256, (70, 28, 28), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (60, 32, 32, 3), np.uint8)
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


@pytest.fixture(autouse=True)
def nothing_elsewhere(monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr("keras_ssvae.data.sources.download", lambda builder, work: "the network is closed")


def write_npz(folder, name="mnist.npz", **changed):
    parts = {"x_train": GREY[:50], "y_train": LABELS, "x_test": GREY[50:], "y_test": LABELS[:20]}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, **(parts | changed))


def write_idx(folder):
    folder.mkdir(parents=True)
    for part, images, labels in (("train", GREY[:50], LABELS), ("t10k", GREY[50:], LABELS[:20])):
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))


def cifar10_batches():
    """The rows of the six files, a pixel's colours one after the other as there, and the labels."""
    rows = COLOUR.transpose(0, 3, 1, 2).reshape(60, 3072)
    labels = np.concatenate([LABELS, LABELS[:10]])
    return {name: (rows[10 * i : 10 * i + 10], labels[10 * i : 10 * i + 10]) for i, name in enumerate(BATCHES)}


def write_binary(folder):
    folder.mkdir(parents=True)
    for name, (rows, labels) in cifar10_batches().items():
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], rows], axis=1).tobytes())
    (folder / "readme.html").write_text("")


class Python2Pickler(pickle._Pickler):
    """Writes texts as Python 2 did, in which the official files were written."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_text(self, text):
        content = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_text


def pickled(content):
    stream = io.BytesIO()
    Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def write_python(folder):
    folder.mkdir(parents=True)
    for name, (rows, labels) in cifar10_batches().items():
        content = {"batch_label": name, "labels": labels.tolist(), "data": rows, "filenames": ["a.png"] * 10}
        (folder / name).write_bytes(pickled(content))
    (folder / "batches.meta").write_bytes(pickled({"num_vis": 3072}))


def write_archive(path, write):
    folder = path.parent / "unpacked" / path.name
    write(folder)
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname="cifar-10-batches")


CIFAR10 = {
    "cifar-10-batches-bin": write_binary,
    "cifar-10-batches-py": write_python,
    "cifar-10-batches-py-target/cifar-10-batches-py": write_python,
    "cifar-10-binary.tar.gz": lambda path: write_archive(path, write_binary),
    "cifar-10-python.tar.gz": lambda path: write_archive(path, write_python),
}


def assert_is(loaded, images, size):
    np.testing.assert_array_equal(loaded.train_images, images[:50])
    np.testing.assert_array_equal(loaded.test_images, images[50:])
    np.testing.assert_array_equal(loaded.train_labels, LABELS)
    np.testing.assert_array_equal(loaded.test_labels, LABELS[:size])
    assert loaded.train_labels.dtype == loaded.test_labels.dtype == np.int64


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_npz_files_are_read(tmp_path, name):
    write_npz(tmp_path, f"{name}.npz")
    assert_is(data.load(name, tmp_path), GREY[..., None], 20)


def test_idx_files_are_read(tmp_path):
    write_idx(tmp_path / "fashion-mnist")
    assert_is(data.load("fashion_mnist", tmp_path), GREY[..., None], 20)


@pytest.mark.parametrize("path", CIFAR10)
def test_every_form_of_cifar10_is_read(tmp_path, path):
    CIFAR10[path](tmp_path / path)
    cifar10 = data.load("cifar10", tmp_path)
    assert_is(cifar10, COLOUR, 10)
    assert (cifar10.class_names[0], cifar10.class_names[9]) == ("airplane", "truck")


def test_every_known_path_is_tested():
    assert set(CIFAR10) == set(files.paths("cifar10"))


def test_the_directory_of_keras_is_the_default(tmp_path):
    write_npz(tmp_path / "keras" / "datasets")
    assert_is(data.load("mnist"), GREY[..., None], 20)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_what_is_nowhere_is_an_error_that_says_which_files_where_and_how(tmp_path, name):
    with pytest.raises(data.DataUnavailableError) as caught:
        data.load(name, tmp_path)
    message = str(caught.value)
    for part in (*files.paths(name), str(tmp_path), "where there is a network", "--data-dir", "--dataset digits"):
        assert part in message
    if keras.backend.backend() != "tensorflow":
        assert f"keras.datasets.{name}.load_data()" in message


def test_without_tensorflow_its_own_files_are_named_as_of_no_use(tmp_path):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow is there")
    folder = tmp_path / "mnist" / "3.0.1"
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text("{}")
    with pytest.raises(data.DataUnavailableError, match=r"mnist/3\.0\.1 can be read on the TensorFlow backend"):
        data.load("mnist", tmp_path)


def assert_damaged(name, folder, path, sentence):
    with pytest.raises(data.DataDamagedError, match=sentence) as caught:
        data.load(name, folder)
    assert str(folder / path) in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"x_train": GREY[:49]}, r"training images are uint8 \(49, 28, 28, 1\) and their labels \(50,\)"),
        ({"x_test": GREY[50:].astype(float)}, "test images are float64"),
        ({"x_train": GREY[:50, 1:]}, r"training images are uint8 \(50, 27, 28, 1\).*not uint8 \('N', 28, 28, 1\)"),
        ({"y_train": LABELS % 9}, "training labels are .*not 0 to 9"),
        ({"y_test": np.array([{}] * 20)}, "Object arrays cannot be loaded"),
    ],
)
def test_wrong_arrays_are_named_in_a_sentence(tmp_path, changed, sentence):
    write_npz(tmp_path, **changed)
    assert_damaged("mnist", tmp_path, "mnist.npz", sentence)


def test_a_truncated_file_is_named_in_a_sentence(tmp_path):
    write_npz(tmp_path)
    content = (tmp_path / "mnist.npz").read_bytes()
    (tmp_path / "mnist.npz").write_bytes(content[: len(content) // 2])
    assert_damaged("mnist", tmp_path, "mnist.npz", "Delete that file")


@pytest.mark.parametrize("path", CIFAR10)
def test_a_truncated_cifar10_is_named_in_a_sentence(tmp_path, path):
    CIFAR10[path](tmp_path / path)
    file = tmp_path / path
    if file.is_dir():
        file = next(each for each in sorted(file.iterdir()) if "data_batch" in each.name)
    file.write_bytes(file.read_bytes()[:-1000])
    assert_damaged("cifar10", tmp_path, path, "Delete that")


@pytest.mark.parametrize("path", ["cifar-10-batches-bin", "cifar-10-batches-py"])
def test_a_missing_file_is_named_in_a_sentence(tmp_path, path):
    CIFAR10[path](tmp_path / path)
    next((tmp_path / path).glob("data_batch_3*")).unlink()
    assert_damaged("cifar10", tmp_path, path, "data_batch_3")


def test_what_is_no_idx_file_is_named_in_a_sentence(tmp_path):
    write_idx(tmp_path / "fashion-mnist")
    file = tmp_path / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    file.write_bytes(gzip.compress(b"<html>"))
    assert_damaged("fashion_mnist", tmp_path, "fashion-mnist", "does not begin like an idx file")


class Harmful:
    def __reduce__(self):
        return print, ("run by the pickle",)


def test_a_pickle_runs_no_code(tmp_path, capsys):
    write_python(tmp_path / "cifar-10-batches-py")
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(pickle.dumps(Harmful()))
    assert_damaged("cifar10", tmp_path, "cifar-10-batches-py", r"it asks for builtins\.print")
    assert capsys.readouterr().out == ""
