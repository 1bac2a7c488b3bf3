"""Omniglot: handwritten characters of 50 alphabets, in 28x28 pixels."""

import os
from pathlib import Path

import numpy as np

from keras_ssvae.data import sources
from keras_ssvae.data.sources import ImageData

_SIZE = 28
_FILES = {"omniglot": "chardata.mat", "omniglot_resized": "omniglot.npz"}
_FOLDERS = ("", "omniglot", "OMNIGLOT")
_REMEDY = (
    "copy the 28x28 images, `chardata.mat` of https://github.com/yburda/iwae (datasets/OMNIGLOT), or the 105x105 "
    "images, `omniglot.npz`, into {folder}, or point `data_dir` (--data-dir) at a directory that holds one of them"
)


def load_omniglot(data_dir: str | os.PathLike | None = None, resized: bool | None = None) -> ImageData:
    """Loads Omniglot with images of 28x28 pixels, white ink on black; the labels are the alphabets.

    There are two different sets of such images. Their results are not comparable:

    * `"omniglot"`, from the file `chardata.mat`: 24,345 training and 8,070 test images, which IWAE, VampPrior and
      CP-VAE use. Both parts contain all alphabets, which have numbers as names. Grey values are rounded to 256 levels.
    * `"omniglot_resized"`, from the file `omniglot.npz`: the 105x105 images, reduced with Pillow's bilinear filter, in
      their original split: 19,280 training images of 30 alphabets, and 13,180 test images of 20 others. The file holds
      `x_train`, `y_train`, `x_test`, `y_test` (ink 0, paper 255; labels are characters) and `alphabet_of_class`, the
      name of each character's alphabet.

    Args:
        data_dir: Directory with the file, or with the file in a folder `omniglot`. Default: `~/.keras/datasets`
            (`$KERAS_HOME/datasets`).
        resized: True for the second set, False for the first. Default: the first set if its file exists, otherwise the
            second.

    Returns:
        An `ImageData`. Its name tells which set it is.

    Raises:
        DataUnavailableError: If the set is missing.
        DataDamagedError: If its file cannot be read.

    Example:

    >>> load_omniglot("/data").name
    'omniglot_resized'

    Reference: [Lake, Salakhutdinov, Tenenbaum, 2015](https://github.com/brendenlake/omniglot);
    [Burda, Grosse, Salakhutdinov, 2016](https://arxiv.org/abs/1509.00519).
    """
    folder = sources.files_directory(data_dir)
    remedy = _REMEDY.format(folder=folder)
    readers = {"omniglot": _read_small, "omniglot_resized": _read_large}
    names = list(readers) if resized is None else [list(readers)[bool(resized)]]
    for name in names:
        for path in (folder / inner / _FILES[name] for inner in _FOLDERS):
            if path.is_file():
                with sources.damage_named(name, path, remedy):
                    return readers[name](name, path)
    wanted = " or ".join(_FILES[name] for name in names)
    raise sources.DataUnavailableError(f"omniglot is not there: {folder} holds no {wanted}. To get it, {remedy}.")


def _read_small(name, path: Path):
    from scipy.io import loadmat

    content = loadmat(path)
    parts: list[np.ndarray] = []
    for prefix in ("", "test"):
        pixels, alphabets = content[f"{prefix}data"].T, content[f"{prefix}target"].T
        if pixels.shape[1] != _SIZE**2 or len(pixels) != len(alphabets) or not 0 <= pixels.min() <= pixels.max() <= 1:
            raise ValueError(f"`{prefix}data` has shape {pixels.shape[::-1]}; it must be 784 pixels in [0, 1] of each")
        # Column by column, as MATLAB stores images.
        images = np.rint(255.0 * pixels).astype(np.uint8).reshape(-1, _SIZE, _SIZE).transpose(0, 2, 1)[..., None]
        parts += [np.ascontiguousarray(images), alphabets.argmax(axis=1).astype(np.int64)]
    names = tuple(f"alphabet {k}" for k in range(content["target"].shape[0]))
    train_images, train_labels, test_images, test_labels = parts
    return ImageData(name, train_images, train_labels, test_images, test_labels, names)


def _read_large(name, path: Path):
    with np.load(path, allow_pickle=False) as arrays:
        of_character = arrays["alphabet_of_class"].astype(str)
        names = tuple(dict.fromkeys(of_character.tolist()))  # the training alphabets come first
        number = np.array([names.index(alphabet) for alphabet in of_character])
        parts: list[np.ndarray] = []
        for part in ("train", "test"):
            images = arrays[f"x_{part}"]
            if images.ndim != 3 or images.dtype != np.uint8:
                raise ValueError(f"`x_{part}` is {images.dtype} {images.shape}; it must be uint8, (N, 105, 105)")
            parts += [255 - images[..., None], number[arrays[f"y_{part}"]]]
    train_images, train_labels, test_images, test_labels = parts
    return ImageData(name, train_images, train_labels, test_images, test_labels, names).resized(_SIZE)
