"""CelebA: photographs of faces with 40 attributes, and the labels that PartedVAE takes from them."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from keras_ssvae.checks import check_whole_number
from keras_ssvae.data import sources
from keras_ssvae.data.checks import check_indices
from keras_ssvae.data.sources import DataUnavailableError

if TYPE_CHECKING:  # TensorFlow may not be there
    import tensorflow as tf

# Label -> value -> the attribute that stands for it; None for the value of images with no such attribute.
CELEBA_LABELS: dict[str, dict[str, str | None]] = {
    "hair colour": {"black": "Black_Hair", "brown": "Brown_Hair", "blond": "Blond_Hair", "grey": "Gray_Hair"},
    "beard": {"no beard": "No_Beard", "beard": None},
    "hairline": {"neither": None, "bangs": "Bangs", "receding": "Receding_Hairline"},
    "eyeglasses": {"no eyeglasses": None, "eyeglasses": "Eyeglasses"},
    "smile": {"no smile": None, "smile": "Smiling"},
    "hat": {"no hat": None, "hat": "Wearing_Hat"},
    "gender": {"female": None, "male": "Male"},
}
# Those of the original's code, in which hair colour adds up to 0.99.
CELEBA_PRIORS = (
    (0.42, 0.33, 0.18, 0.06),
    (0.85, 0.15),
    (0.74, 0.15, 0.11),
    (0.93, 0.07),
    (0.47, 0.53),
    (0.95, 0.05),
    (0.57, 0.43),
)
_IMAGE_SHAPE = (218, 178, 3)
_SPLITS = ("train", "validation", "test")
_BATCH = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class CelebAPart:
    """A part of CelebA: its labels are in memory, its images are read whenever a dataset is gone through.

    Attributes:
        directory: Where tensorflow_datasets has it prepared.
        split: `"train"`, `"validation"` or `"test"`.
        labels: `int64` of shape `(N, 7)`, the labels of `CELEBA_LABELS`; -1 where an image has no value of one.
    """

    directory: Path
    split: str
    labels: np.ndarray

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.split}: {len(self.labels)} images in {self.directory}>"

    @property
    def complete(self) -> np.ndarray:
        """Indices of the images that have a value of each label."""
        return np.flatnonzero((self.labels >= 0).all(axis=1))

    def images(self) -> "tf.data.Dataset":
        """All images, `uint8` of shape `(218, 178, 3)`, in the order of the files."""
        import tensorflow as tf

        return self._encoded().map(_decode, num_parallel_calls=tf.data.AUTOTUNE)

    def labeled(self) -> "tf.data.Dataset":
        """Those images that have a value of each label, as pairs of an image and its labels `(7,)`."""
        return self._pairs(self.complete)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads some images into memory, 0.1 MB each: images `(n, 218, 178, 3)` and labels `(n, 7)`, in file order.

        Raises:
            ValueError: If `indices` are not integers of images, at least one, each once.
        """
        checked = check_indices("indices", indices, len(self.labels))
        with sources.damage_named("celeb_a", self.directory):
            images, labels = zip(*self._pairs(checked).as_numpy_iterator(), strict=True)
        return np.stack(images), np.stack(labels)

    def draw(self, num_labeled: int, seed: int) -> np.ndarray:
        """Draws images that have a value of each label, each with the same probability.

        Args:
            num_labeled: How many, at least 1.
            seed: Of the draw, an integer of at least 0.

        Returns:
            Their indices, in the drawn order.

        Raises:
            ValueError: If there are not so many, or a value of a label is not among them.
        """
        check_whole_number("num_labeled", num_labeled, 1)
        check_whole_number("seed", seed, 0)
        if num_labeled > len(self.complete):
            raise ValueError(
                f"`num_labeled` is {num_labeled}, but only {len(self.complete)} images have a value of each label. Ask "
                "for fewer."
            )
        drawn = np.random.Generator(np.random.PCG64(seed)).permutation(self.complete)[:num_labeled]
        for (label, values), column in zip(CELEBA_LABELS.items(), self.labels[drawn].T, strict=True):
            missing = [value for k, value in enumerate(values) if k not in column]
            if missing:
                raise ValueError(
                    f"`num_labeled` is {num_labeled}, and with `seed` = {seed} none of these images has the {label} "
                    f'"{missing[0]}". Ask for more, or take another seed.'
                )
        return drawn

    def _pairs(self, indices):
        import tensorflow as tf

        chosen = np.isin(np.arange(len(self.labels)), indices)
        rows = tf.data.Dataset.from_tensor_slices((chosen, self.labels))
        # Only what is chosen is decoded.
        pairs = tf.data.Dataset.zip(self._encoded(), rows).filter(lambda encoded, row: row[0])
        pairs = pairs.map(lambda encoded, row: (_decode(encoded), row[1]), num_parallel_calls=tf.data.AUTOTUNE)
        return pairs.apply(tf.data.experimental.assert_cardinality(int(chosen.sum())))

    def _encoded(self):
        examples, _ = sources.open_tfds(self.directory, self.split, None, encoded=("image",))
        return examples.map(lambda example: example["image"])


@dataclasses.dataclass(frozen=True, eq=False)
class CelebA:
    """CelebA's three parts: 162,770 training, 19,867 validation and 19,962 test images, without a common person."""

    train: CelebAPart
    validation: CelebAPart
    test: CelebAPart

    name: ClassVar[str] = "celeba"
    num_classes: ClassVar[tuple[int, ...]] = tuple(map(len, CELEBA_LABELS.values()))


def load_celeba(data_dir: str | os.PathLike | None = None) -> CelebA:
    """Opens CelebA, and reads its labels.

    It is read as tensorflow_datasets prepares it (`celeb_a` 2.1.0), which takes the TensorFlow backend of Keras. Its
    images would fill 23 GB of memory, so they are read from the disk, where they take 1.4 GB, again in each epoch. It
    is not downloaded: Google Drive, where it lies, often refuses, and its terms allow non-commercial research only.

    The labels are made of the 40 attributes:

    | label       | values, counted from 0, and their attributes                                 | prior p(c)         |
    |-------------|------------------------------------------------------------------------------|--------------------|
    | hair colour | black, brown, blond, grey: `Black_Hair`, `Brown_Hair`, `Blond_Hair`, `Gray_Hair` | .42 .33 .18 .06 |
    | beard       | no beard: `No_Beard`; beard: none                                            | .85 .15            |
    | hairline    | neither: none; bangs: `Bangs`; receding: `Receding_Hairline`                 | .74 .15 .11        |
    | eyeglasses  | no eyeglasses: none; eyeglasses: `Eyeglasses`                                | .93 .07            |
    | smile       | no smile: none; smile: `Smiling`                                             | .47 .53            |
    | hat         | no hat: none; hat: `Wearing_Hat`                                             | .95 .05            |
    | gender      | female: none; male: `Male`                                                   | .57 .43            |

    An image has the value whose attribute alone is set among the label's; where none is set, the value without an
    attribute. Where neither is so (no hair colour, as on bald heads and under hats; bangs that recede), it has none,
    which makes it an unlabelled image.

    The labels, their values, order and priors are the original's, from its priors and from the code of its figures:
    eight with skin tone, which has the values white, brown and black and is left out here, for the authors labelled it
    by hand and did not publish it. (Table 6 lists the sizes of seven, sorted; a hat is not in the paper's list, but in
    its Figures 6 and 8.) How attributes become values is ours: the original read the labels of its 800 labelled images
    from a file that is not public either.

    Args:
        data_dir: The directory of tensorflow_datasets. Defaults to `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Returns:
        A `CelebA`.

    Raises:
        DataUnavailableError: If the set is not there, or Keras runs on another backend.
        DataDamagedError: If its files cannot be read.

    Example:

    >>> celeba = load_celeba()
    >>> batches = semi_supervised(
    ...     celeba.train.read(celeba.train.draw(800, seed=1)),
    ...     celeba.train.images(),
    ...     num_classes=celeba.num_classes, steps_per_epoch=2544, seed=1, shuffle_buffer=4096,
    ... )

    Reference: [Liu, Luo, Wang, Tang, 2015](https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html); PartedVAE, Section 5.2
    and Appendix B.
    """
    directory = sources.directory_on_tensorflow("celeb_a", data_dir)
    if not (directory / "dataset_info.json").is_file():
        raise DataUnavailableError(f"celeb_a is not prepared in {directory}: {sources.remedy('celeb_a')}.")
    with sources.damage_named("celeb_a", directory):
        return CelebA(*(CelebAPart(directory, split, _read_labels(directory, split)) for split in _SPLITS))


def labels_of_attributes(attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """The labels of `load_celeba`: attributes, booleans of shape (N,) each -> integers (N, 7), -1 for no value."""
    columns = []
    for values in CELEBA_LABELS.values():
        none = ~np.any([attributes[name] for name in values.values() if name is not None], axis=0)
        fits = np.stack([none if name is None else attributes[name] for name in values.values()], axis=1)
        columns.append(np.where(fits.sum(axis=1) == 1, fits.argmax(axis=1), -1))
    return np.stack(columns, axis=1)


def _read_labels(directory, split):
    batches, _ = sources.open_tfds(directory, split, _BATCH, encoded=("image",))
    attributes = batches.map(lambda batch: batch["attributes"]).as_numpy_iterator()
    return np.concatenate([labels_of_attributes(batch) for batch in attributes])


def _decode(encoded):
    import tensorflow as tf

    return tf.ensure_shape(tf.io.decode_jpeg(encoded, channels=3), _IMAGE_SHAPE)
