"""Built-in image sets: MNIST, Fashion-MNIST and CIFAR-10, and the digits embedded in scikit-learn."""

import contextlib
import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from keras_ssvae.checks import check_whole_number
from keras_ssvae.data import files
from keras_ssvae.data.download import download

_TFDS_VERSIONS = {"mnist": "3.0.1", "fashion_mnist": "3.0.1", "cifar10": "3.0.2"}
_TFDS_VERSIONS |= {"dsprites": "2.0.0", "celeb_a": "2.1.0"}
_TFDS_SIZES = {"mnist": (60_000, 10_000), "fashion_mnist": (60_000, 10_000), "cifar10": (50_000, 10_000)}
_IMAGE_SHAPES = {"mnist": (28, 28, 1), "fashion_mnist": (28, 28, 1), "cifar10": (32, 32, 3)}
_DIGITS = tuple("0123456789")
# Data set -> the names of its classes, in their order.
CLASS_NAMES = {
    "digits": _DIGITS,
    "mnist": _DIGITS,
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


class DataUnavailableError(RuntimeError):
    """A data set is neither prepared on this machine nor downloadable."""


class DataDamagedError(DataUnavailableError):
    """A data set is prepared on this machine, but its files cannot be read."""


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image set in memory.

    Attributes:
        name: Name of the set, as for `load`.
        train_images: `uint8` of shape `(N, H, W, C)`, pixels 0 to 255.
        train_labels: `int64` of shape `(N,)`, classes 0 to K - 1.
        test_images: `uint8` of shape `(M, H, W, C)`.
        test_labels: `int64` of shape `(M,)`.
        class_names: The K names of the classes.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train_images.shape[1:]))
        counts = f"{len(self.train_images)} training and {len(self.test_images)} test images"
        return f"<{type(self).__name__} {self.name}: {counts}, {shape}, {self.num_classes} classes>"

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def only(self, classes: Sequence[int]) -> Self:
        """The images of some classes, renumbered 0, 1, ... in the given order.

        Args:
            classes: At least one class, each only once.

        Returns:
            An `ImageData` of the same name.

        Raises:
            ValueError: If `classes` are not as described.

        Example:

        >>> zeros_and_ones = load("mnist").only([0, 1])
        """
        classes = list(classes)
        if not classes or len(set(classes)) < len(classes) or not {*classes} <= {*range(self.num_classes)}:
            raise ValueError(
                f"`classes` is {classes}; it must name classes of 0 to {self.num_classes - 1}, at least one, each once."
            )
        new = np.full(self.num_classes, -1)
        new[classes] = range(len(classes))
        train, test = np.isin(self.train_labels, classes), np.isin(self.test_labels, classes)
        return dataclasses.replace(
            self,
            train_images=self.train_images[train],
            train_labels=new[self.train_labels[train]],
            test_images=self.test_images[test],
            test_labels=new[self.test_labels[test]],
            class_names=tuple(self.class_names[k] for k in classes),
        )

    def resized(self, size: int) -> Self:
        """The same set with images of `(size, size)` pixels, resized with Pillow's bilinear filter.

        Example:

        >>> load("mnist").resized(32).train_images.shape
        (60000, 32, 32, 1)
        """
        check_whole_number("size", size, 1)
        train_images, test_images = (_resized(images, size) for images in (self.train_images, self.test_images))
        return dataclasses.replace(self, train_images=train_images, test_images=test_images)


def _resized(images, size):
    from PIL import Image

    shape = (size, size, images.shape[-1])
    planes = (image[..., 0] if shape[-1] == 1 else image for image in images)
    resized = (np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR)) for plane in planes)
    return np.stack([each.reshape(shape) for each in resized])


def load(name: str, data_dir: str | os.PathLike | None = None) -> ImageData:
    """Loads a built-in image set.

    * `"digits"`: the 1,797 handwritten digits that scikit-learn contains, scaled up smoothly from 8x8 to 20x20 pixels
      inside a black 28x28 square. The test set is 36 fixed, randomly drawn images of each class; the other 1,437 are
      for training. It needs no download.
    * `"mnist"`, `"fashion_mnist"`: 60,000 training and 10,000 test images of 28x28 pixels.
    * `"cifar10"`: 50,000 training and 10,000 test images of 32x32 pixels in colour.

    For the last three, `load` tries these sources in turn:

    1. On the TensorFlow backend of Keras: the files that tensorflow_datasets prepared, in their order.
    2. On every backend: the usual files, which are read without TensorFlow and may hold any number of images. They are
       `mnist.npz`; `fashion_mnist.npz` or the directory `fashion-mnist` with four idx files (`.gz`);
       `cifar-10-batches-bin`, `cifar-10-batches-py`, `cifar-10-binary.tar.gz` or `cifar-10-python.tar.gz`.
       `keras.datasets` downloads such files.
    3. On the TensorFlow backend: a download with tensorflow_datasets. It stops if no data arrive for 18 seconds.

    All sources give the same images, but in different orders: the same index is one image in tensorflow_datasets and
    another one in the files.

    Args:
        name: `"mnist"`, `"fashion_mnist"`, `"cifar10"` or `"digits"`.
        data_dir: Directory of tensorflow_datasets, or of the files. Default: `$TFDS_DATA_DIR` or
            `~/tensorflow_datasets` for the former, and `~/.keras/datasets` (`$KERAS_HOME/datasets`) for the latter.

    Returns:
        An `ImageData`.

    Raises:
        DataUnavailableError: If the set is missing and cannot be downloaded.
        DataDamagedError: If its files cannot be read.
        ValueError: If the name is unknown.

    Example:

    >>> data = load("digits")
    >>> data.train_images.shape, data.test_images.shape
    ((1437, 28, 28, 1), (360, 28, 28, 1))
    """
    if name == "digits":
        return _digits()
    if name not in _TFDS_SIZES:
        names = ", ".join(f'"{each}"' for each in (*_TFDS_SIZES, "digits"))
        raise ValueError(f"`name` is {name!r}. It must be one of {names}.")
    prepared, folder = tfds_directory(name, data_dir), files_directory(data_dir)
    is_prepared = (prepared / "dataset_info.json").is_file()
    use_tfds = keras.backend.backend() == "tensorflow"
    if not (use_tfds and is_prepared):
        found = files.find(name, folder)
        if found is not None:
            return _read(name, *found)
        if not use_tfds:
            raise DataUnavailableError(_not_found(name, folder, prepared if is_prepared else None))
        prepare(name, prepared, f", and {folder} holds no {' or '.join(files.paths(name))}")
    return _read(name, prepared, lambda path: _read_tfds(name, path))


def _digits():
    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    raw = load_digits()
    # The 16 grey levels become 256; grid_mode keeps the edges of the image in place.
    large = zoom(raw.images * (255 / 16), (1, 2.5, 2.5), order=3, mode="nearest", grid_mode=True)
    images = np.zeros((len(large), 28, 28, 1), np.uint8)
    images[:, 4:24, 4:24, 0] = np.clip(np.rint(large), 0, 255)
    labels = raw.target.astype(np.int64)
    order = np.random.Generator(np.random.PCG64(0)).permutation(len(labels))
    test = np.sort(np.concatenate([order[labels[order] == k][:36] for k in range(10)]))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return ImageData("digits", images[train], labels[train], images[test], labels[test], CLASS_NAMES["digits"])


def _read(name, path, read):
    """Reads a set with `read(path)` and checks it."""
    with damage_named(name, path):
        parts = read(path)
        for part, images, labels in (("training", *parts[:2]), ("test", *parts[2:])):
            _check_part(part, images, labels, _IMAGE_SHAPES[name])
    train_images, train_labels, test_images, test_labels = parts
    labels = train_labels.astype(np.int64), test_labels.astype(np.int64)
    return ImageData(name, train_images, labels[0], test_images, labels[1], CLASS_NAMES[name])


@contextlib.contextmanager
def damage_named(name: str, path: Path, ways: str | None = None) -> Iterator[None]:
    """Context that converts every error in reading a set into one message with the remedy.

    Args:
        name: Name of the set.
        path: File or directory that is read.
        ways: How the user can get the set again, as a part of a sentence. Default: its `remedy`.

    Raises:
        DataDamagedError: For all other errors than the following.
        DataUnavailableError: For an error of an import or an interface. It comes from the installed packages and not
            from the data, so the user must not delete the data because of it.
    """
    try:
        yield
    except (MemoryError, DataUnavailableError):
        raise
    except Exception as error:
        # TensorFlow wraps its message in the names of its own nodes and operations.
        detail = " ".join(re.sub(r"\{\{.*?\}\}|\[Op:.*?\]", "", str(error)).split()).rstrip(" .")[:300]
        if isinstance(error, (ImportError, AttributeError, TypeError)):
            raise DataUnavailableError(
                f"The data of {name} in {path} could not be read, because an installed package failed "
                f"({type(error).__name__}: {detail}). Leave the data as they are, and check the packages: `pip check`, "
                "and `pip install --upgrade tensorflow-datasets importlib_resources` where tensorflow_datasets is at "
                "fault."
            ) from error
        kind = "directory" if path.is_dir() else "file"
        raise DataDamagedError(
            f"The data of {name} in {path} cannot be read ({type(error).__name__}: {detail}). Delete that {kind} and "
            f"prepare it again: {ways or remedy(name)}."
        ) from None


def _check_part(part, images, labels, shape):
    if images.shape[1:] != shape or images.dtype != np.uint8 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"the {part} images are {images.dtype} {images.shape} and their labels {labels.shape}, not uint8 "
            f"{('N', *shape)} and ('N',)"
        )
    if not np.array_equal(np.unique(labels), np.arange(10)):
        raise ValueError(f"the {part} labels are {np.unique(labels)}, not 0 to 9")


def _read_tfds(name, path):
    parts = []
    for split, size in zip(("train", "test"), _TFDS_SIZES[name], strict=True):
        part, _ = open_tfds(path, split, batch_size=-1)
        parts += [part["image"].numpy(), part["label"].numpy()]
        if len(parts[-1]) != size:
            raise ValueError(f"there are {len(parts[-1])} {split} images, not {size}")
    return tuple(parts)


def open_tfds(path: Path, split: str, batch_size: int | None, encoded: Sequence[str] = ()) -> tuple[Any, int]:
    """Opens a set that tensorflow_datasets prepared.

    Args:
        path: Directory of one version of the set.
        split: Name of the split.
        batch_size: Number of examples in a batch; -1 for all of them, None for no batches.
        encoded: Names of the images that stay encoded as in the files, for example as JPEG.

    Returns:
        Tuple of a `tf.data.Dataset` of the batches in the order of the files (with -1, the one batch) and the number of
        examples in the split.
    """
    import tensorflow_datasets as tfds

    # The files contain their description; the dataset's own builder would access the network first.
    builder = tfds.builder_from_directory(path)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    decoders = {name: tfds.decode.SkipDecoding() for name in encoded}
    batches = builder.as_dataset(
        split=split, batch_size=batch_size, shuffle_files=False, read_config=config, decoders=decoders
    )
    return batches, builder.info.splits[split].num_examples


def remedy(name: str) -> str:
    """How to get a set with tensorflow_datasets or Keras, as a part of a sentence for error messages."""
    if keras.backend.backend() == "tensorflow":
        code = f"import tensorflow_datasets as tfds; tfds.builder('{name}').download_and_prepare()"
        command, result = f'python -c "{code}"', "~/tensorflow_datasets"
    else:
        # Without KERAS_BACKEND Keras would look for TensorFlow.
        code = f"import keras; keras.datasets.{name}.load_data()"
        command, result = f'KERAS_BACKEND=jax python -c "{code}"', "~/.keras/datasets"
    ways = [
        f"run `{command}` where there is a network and copy {result} here",
        "point `data_dir` (--data-dir) at a directory that holds it",
    ]
    if name in _TFDS_SIZES:  # a set with classes to learn, for which the digits are a substitute
        ways.append("use the built-in `digits` (--dataset digits)")
    return f"{', '.join(ways[:-1])}, or {ways[-1]}"


def _not_found(name, folder, prepared):
    missing = f"{name} is not there: {folder} holds no {' or '.join(files.paths(name))}"
    if prepared is not None:
        missing += f", and {prepared} can be read on the TensorFlow backend of Keras only"
    return f"{missing}. To get it, {remedy(name)}."


def files_directory(data_dir: str | os.PathLike | None) -> Path:
    """Directory in which `load` looks for the usual files of a set."""
    home = Path(os.environ.get("KERAS_HOME") or "~/.keras")
    return Path(data_dir or home / "datasets").expanduser().absolute()


def tfds_directory(name: str, data_dir: str | os.PathLike | None) -> Path:
    """Directory in which tensorflow_datasets keeps, or would keep, a prepared set."""
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser().absolute()
    return root / name / _TFDS_VERSIONS[name]


def directory_on_tensorflow(name: str, data_dir: str | os.PathLike | None) -> Path:
    """The `tfds_directory` of a set with no other source; raises DataUnavailableError on backends but TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise DataUnavailableError(
            f"{name} is read by tensorflow_datasets, on the TensorFlow backend of Keras only, and the backend is "
            f"{keras.backend.backend()}. Set KERAS_BACKEND=tensorflow."
        )
    return tfds_directory(name, data_dir)


def prepare(name: str, prepared: Path, besides: str = "") -> None:
    """Downloads a set into a temporary directory, and moves it to its place only when it is complete.

    Args:
        name: Name of the set in tensorflow_datasets.
        prepared: Its `tfds_directory`.
        besides: Addition to the error message.

    Raises:
        DataUnavailableError: If the download fails, or no data arrive for too long.
    """
    root = prepared.parents[1]
    created = not root.exists()
    work = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-download-", dir=root))
        reason = download(f"{name}:{_TFDS_VERSIONS[name]}", work)
        made = work / name / _TFDS_VERSIONS[name]
        if reason is None and (made / "dataset_info.json").is_file():
            prepared.parent.mkdir(exist_ok=True)
            made.rename(prepared)
            return
        reason = reason or "the download left no files"
    except OSError as error:
        reason = f"{type(error).__name__}: {error}"
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)
        if created:
            with contextlib.suppress(OSError):
                root.rmdir()
    raise DataUnavailableError(
        f"{name} is not prepared in {root} and could not be downloaded ({reason}){besides}: {remedy(name)}."
    )
