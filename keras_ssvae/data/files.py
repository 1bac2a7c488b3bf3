"""Reads the usual files of image sets without TensorFlow."""

import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np

# Training images and labels, test images and labels.
Parts = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_RECONSTRUCT = np.empty(0).__reduce__()[0]


def find(name: str, folder: Path) -> tuple[Path, Callable[[Path], Parts]] | None:
    """Looks for a set's files in a folder.

    Args:
        name: `"mnist"`, `"fashion_mnist"` or `"cifar10"`.
        folder: Where to look.

    Returns:
        Tuple `(path, read)`, or `None` if the folder has no such file. `read(path)` returns the four arrays without
        checks; it may raise any error.
    """
    return next(((folder / path, read) for path, read in _READERS[name].items() if (folder / path).exists()), None)


def paths(name: str) -> tuple[str, ...]:
    """The names of the files and directories that `find` looks for, in order of preference."""
    return tuple(_READERS[name])


def _npz(path):
    with np.load(path, allow_pickle=False) as arrays:
        x_train, y_train, x_test, y_test = (arrays[key] for key in ("x_train", "y_train", "x_test", "y_test"))
    return x_train[..., None], y_train, x_test[..., None], y_test


def _idx_folder(folder):
    names = (f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))
    x_train, y_train, x_test, y_test = (_idx(gzip.decompress((folder / name).read_bytes())) for name in names)
    return x_train[..., None], y_train, x_test[..., None], y_test


def _idx(content):
    """Decodes the idx format: 0, 0, the type (8: uint8), the rank, the sizes as big-endian int32, the content."""
    zeros, kind, rank = struct.unpack(">HBB", content[:4])
    if zeros or kind != 8:
        raise ValueError("it does not begin like an idx file of bytes")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _cifar10_binary(read):
    def batch(name):
        rows = np.frombuffer(read(f"{name}.bin"), np.uint8).reshape(-1, 1 + 3072)
        return rows[:, 1:], rows[:, 0]

    return _cifar10(batch)


def _cifar10_python(read):
    def batch(name):
        content = _Unpickler(io.BytesIO(read(name)), encoding="bytes").load()
        return np.asarray(content[b"data"]), np.asarray(content[b"labels"])

    return _cifar10(batch)


def _cifar10(batch):
    train = [batch(f"data_batch_{number}") for number in range(1, 6)]
    pixels, labels = (np.concatenate(each) for each in zip(*train, strict=True))
    test_pixels, test_labels = batch("test_batch")
    return _channels_last(pixels), labels, _channels_last(test_pixels), test_labels


def _channels_last(pixels):
    return np.ascontiguousarray(pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


class _Unpickler(pickle.Unpickler):
    """Loads only NumPy arrays and Python's own numbers, strings and containers: other pickles can run any code."""

    allowed: ClassVar = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
        ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    }

    def find_class(self, module, name):
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image set needs")
        return self.allowed[module, name]


def _in_folder(read_parts):
    return lambda folder: read_parts(lambda name: (folder / name).read_bytes())


def _in_archive(read_parts):
    def read(path):
        with tarfile.open(path) as archive:
            files = ((member.name, archive.extractfile(member)) for member in archive)
            contents = {Path(name).name: file.read() for name, file in files if file is not None}
        return read_parts(contents.__getitem__)

    return read


_READERS = {
    "mnist": {"mnist.npz": _npz},
    "fashion_mnist": {"fashion_mnist.npz": _npz, "fashion-mnist": _idx_folder},
    "cifar10": {
        "cifar-10-batches-bin": _in_folder(_cifar10_binary),
        "cifar-10-batches-py": _in_folder(_cifar10_python),
        # The place in which `keras.datasets.cifar10.load_data` unpacks it.
        "cifar-10-batches-py-target/cifar-10-batches-py": _in_folder(_cifar10_python),
        "cifar-10-binary.tar.gz": _in_archive(_cifar10_binary),
        "cifar-10-python.tar.gz": _in_archive(_cifar10_python),
    },
}
