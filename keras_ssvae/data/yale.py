"""Extended Yale B: photographs of faces, each lit from many directions."""

import os
import re
from pathlib import Path

import numpy as np

from keras_ssvae.data import sources
from keras_ssvae.data.sources import ImageData

_SIZE = 64
_LARGEST_ANGLE = 100  # degrees
_FIRST_PERSON = 11  # persons 1 to 10 are Yale B, the others its extension
_TEST = 10  # of so many images of a person one is for test
_FOLDERS = ("", "CroppedYale", "yale")
_FILE = re.compile(r"yaleB(\d+)_P00A([+-]\d+)E([+-]\d+)\.pgm")
_REMEDY = (
    "unpack the folder `CroppedYale` of http://vision.ucsd.edu/~leekc/ExtYaleDatabase into {folder}, "
    "or point `data_dir` (--data-dir) at its directory"
)


def load_yale(data_dir: str | os.PathLike | None = None) -> ImageData:
    """Loads the cropped Extended Yale B as N-VAE has it: grey images of 64x64 pixels; the labels are the persons.

    It keeps the 28 persons of the extension (numbers 11 and above) and the images whose light comes from less than 100
    degrees to the side and above, about 55 of each person. N-VAE's paper publishes no division into training and test
    images; here every tenth image of each person, in the order of the file names, is for test.

    Args:
        data_dir: Directory with the folder `CroppedYale`, which has a folder `yaleB11`, ... for each person, with files
            such as `yaleB11_P00A+005E-10.pgm` (azimuth +5, elevation -10 degrees). Default: `~/.keras/datasets`
            (`$KERAS_HOME/datasets`).

    Returns:
        An `ImageData` with the name `"yale"`. The images are resized with Pillow's bilinear filter.

    Raises:
        DataUnavailableError: If there are no such files.
        DataDamagedError: If a file cannot be read.

    Example:

    >>> load_yale("/data").num_classes
    28

    Reference: [Lee, Ho, Kriegman, 2005](http://vision.ucsd.edu/~leekc/ExtYaleDatabase); N-VAE, Figure 8.
    """
    folder = sources.files_directory(data_dir)
    remedy = _REMEDY.format(folder=folder)
    found = next(filter(None, (_persons(folder / inner) for inner in _FOLDERS)), None)
    if found is None:
        raise sources.DataUnavailableError(
            f"yale is not there: {folder} holds no files yaleB11/yaleB11_P00A+000E+00.pgm, .... To get it, {remedy}."
        )
    parts: dict[str, tuple[list, list]] = {"train": ([], []), "test": ([], [])}
    for label, files in enumerate(found.values()):
        for i, path in enumerate(files):
            images, labels = parts["test" if i % _TEST == _TEST - 1 else "train"]
            with sources.damage_named("yale", path, remedy):
                images.append(_read(path))
            labels.append(label)
    arrays: list[np.ndarray] = []
    for images, labels in parts.values():
        arrays += [np.array(images, "uint8").reshape(-1, _SIZE, _SIZE, 1), np.array(labels, "int64")]
    train_images, train_labels, test_images, test_labels = arrays
    return ImageData("yale", train_images, train_labels, test_images, test_labels, tuple(found))


def _persons(folder: Path) -> dict[str, list[Path]]:
    """Name of each person -> the files of its images, in order."""
    persons: dict[str, list[Path]] = {}
    for path in sorted(folder.glob("yaleB*/*.pgm")):
        match = _FILE.fullmatch(path.name)
        if match is None:  # the image of the room's light alone
            continue
        person, azimuth, elevation = map(int, match.groups())
        if person >= _FIRST_PERSON and max(abs(azimuth), abs(elevation)) < _LARGEST_ANGLE:
            persons.setdefault(f"person {person}", []).append(path)
    return persons


def _read(path):
    from PIL import Image

    with Image.open(path) as image:
        grey = image.convert("L").resize((_SIZE, _SIZE), Image.Resampling.BILINEAR)
    return np.asarray(grey)[..., None]
