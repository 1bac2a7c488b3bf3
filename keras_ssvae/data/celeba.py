"""CelebA: photographs of faces with 40 attributes, and the labels that PartedVAE and REVAE take from them."""

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

if TYPE_CHECKING:  # TensorFlow may be missing
    import tensorflow as tf

# Label -> value -> the attribute that stands for it; None for the value of images with no such attribute.
Labels = Mapping[str, Mapping[str, str | None]]
CELEBA_LABELS: Labels = {
    "hair colour": {"black": "Black_Hair", "brown": "Brown_Hair", "blond": "Blond_Hair", "grey": "Gray_Hair"},
    "beard": {"no beard": "No_Beard", "beard": None},
    "hairline": {"neither": None, "bangs": "Bangs", "receding": "Receding_Hairline"},
    "eyeglasses": {"no eyeglasses": None, "eyeglasses": "Eyeglasses"},
    "smile": {"no smile": None, "smile": "Smiling"},
    "hat": {"no hat": None, "hat": "Wearing_Hat"},
    "gender": {"female": None, "male": "Male"},
}
# The priors of the original code, in which those of hair colour add up to 0.99.
CELEBA_PRIORS = (
    (0.42, 0.33, 0.18, 0.06),
    (0.85, 0.15),
    (0.74, 0.15, 0.11),
    (0.93, 0.07),
    (0.47, 0.53),
    (0.95, 0.05),
    (0.57, 0.43),
)
_OF_REVAE = (
    *("Arched_Eyebrows", "Bags_Under_Eyes", "Bangs", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows"),
    *("Chubby", "Eyeglasses", "Heavy_Makeup", "Male", "No_Beard", "Pale_Skin", "Receding_Hairline", "Smiling"),
    *("Wavy_Hair", "Wearing_Necktie", "Young"),
)
# The 18 labels of REVAE, Appendix C.1: attributes as they are, on or off, in alphabetical order.
CELEBA_ATTRIBUTES: Labels = {name.lower().replace("_", " "): {"off": None, "on": name} for name in _OF_REVAE}
_IMAGE_SHAPE = (218, 178, 3)
_SPLITS = ("train", "validation", "test")
_BATCH = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class CelebAPart:
    """A part of CelebA. Its labels are in memory; each pass through a dataset reads the images from disk.

    Attributes:
        directory: Directory in which tensorflow_datasets prepared it.
        split: `"train"`, `"validation"` or `"test"`.
        labels: `int64` of shape `(N, n)`, the n labels of each image; -1 for a label without a value.
        label_values: Definition of the labels, as the argument `labels` of `load_celeba`.
        image_size: `(H, W)` to which the images are resized, or None.
        places: For a part made by `only`: indices of its images among those of the files. None for all images.
    """

    directory: Path
    split: str
    labels: np.ndarray
    label_values: Labels
    image_size: tuple[int, int] | None = None
    places: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.split}: {len(self.labels)} images in {self.directory}>"

    @property
    def complete(self) -> np.ndarray:
        """Indices of the images that have a value for each label."""
        return np.flatnonzero((self.labels >= 0).all(axis=1))

    def images(self) -> "tf.data.Dataset":
        """All images, `uint8` of shape `(218, 178, 3)` or `(*image_size, 3)`, in the order of the files."""
        import tensorflow as tf

        return self._encoded().map(self._decode, num_parallel_calls=tf.data.AUTOTUNE)

    def only(self, indices: Sequence[int] | np.ndarray) -> "CelebAPart":
        """The part with only these images, in the order of the files.

        Raises:
            ValueError: Unless `indices` are at least one index of an image, each only once.
        """
        chosen = np.sort(check_indices("indices", indices, len(self.labels)))
        places = chosen if self.places is None else self.places[chosen]
        return dataclasses.replace(self, labels=self.labels[chosen], places=places)

    def labeled(self) -> "tf.data.Dataset":
        """The images that have a value for each label, as pairs of an image and its labels `(n,)`."""
        return self._pairs(self.complete)

    def read(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Reads some images into memory: images `(B, H, W, 3)`, 0.1 MB each unless resized, and labels, in file order.

        Raises:
            ValueError: Unless `indices` are at least one index of an image, each only once.
        """
        checked = check_indices("indices", indices, len(self.labels))
        with sources.damage_named("celeb_a", self.directory):
            images, labels = zip(*self._pairs(checked).as_numpy_iterator(), strict=True)
        return np.stack(images), np.stack(labels)

    def draw(self, num_labeled: int, seed: int) -> np.ndarray:
        """Draws images that have a value for each label, all with the same probability.

        Args:
            num_labeled: Number of images, at least 1.
            seed: Seed of the draw, an integer of at least 0.

        Returns:
            Their indices, in the drawn order.

        Raises:
            ValueError: If there are too few such images, or if the drawn ones lack a value of a label.
        """
        check_whole_number("num_labeled", num_labeled, 1)
        check_whole_number("seed", seed, 0)
        if num_labeled > len(self.complete):
            raise ValueError(
                f"`num_labeled` is {num_labeled}, but only {len(self.complete)} images have a value of each label. Ask "
                "for fewer."
            )
        drawn = np.random.Generator(np.random.PCG64(seed)).permutation(self.complete)[:num_labeled]
        for (label, values), column in zip(self.label_values.items(), self.labels[drawn].T, strict=True):
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
        # Only the selected images are decoded.
        pairs = tf.data.Dataset.zip(self._encoded(), rows).filter(lambda encoded, row: row[0])
        pairs = pairs.map(lambda encoded, row: (self._decode(encoded), row[1]), num_parallel_calls=tf.data.AUTOTUNE)
        return pairs.apply(tf.data.experimental.assert_cardinality(int(chosen.sum())))

    def _encoded(self):
        import tensorflow as tf

        examples, _ = sources.open_tfds(self.directory, self.split, None, encoded=("image",))
        encoded = examples.map(lambda example: example["image"])
        if self.places is None:
            return encoded
        # The dataset ends with the last selected image.
        chosen = tf.data.Dataset.from_tensor_slices(np.isin(np.arange(self.places.max() + 1), self.places))
        encoded = tf.data.Dataset.zip(encoded, chosen).filter(lambda image, is_chosen: is_chosen)
        encoded = encoded.map(lambda image, is_chosen: image)
        return encoded.apply(tf.data.experimental.assert_cardinality(len(self.places)))

    def _decode(self, encoded):
        import tensorflow as tf

        image = tf.ensure_shape(tf.io.decode_jpeg(encoded, channels=3), _IMAGE_SHAPE)
        if self.image_size is None:
            return image
        return tf.cast(tf.round(tf.image.resize(image, self.image_size, antialias=True)), tf.uint8)


@dataclasses.dataclass(frozen=True, eq=False)
class CelebA:
    """CelebA's three parts: 162,770 training, 19,867 validation and 19,962 test images. No person is in two parts."""

    train: CelebAPart
    validation: CelebAPart
    test: CelebAPart

    name: ClassVar[str] = "celeba"

    @property
    def num_classes(self) -> tuple[int, ...]:
        """The number of values of each label."""
        return tuple(map(len, self.train.label_values.values()))


def load_celeba(
    data_dir: str | os.PathLike | None = None,
    labels: Labels = CELEBA_LABELS,
    image_size: tuple[int, int] | None = None,
) -> CelebA:
    """Opens CelebA and reads its labels.

    It needs the files that tensorflow_datasets prepares (`celeb_a` 2.1.0) and the TensorFlow backend of Keras. The
    images would fill 23 GB of memory, so each epoch reads them from disk, where they take 1.4 GB. This function does
    not download the set: Google Drive, which hosts it, often rejects downloads, and its terms allow only non-commercial
    research.

    The labels are computed from the 40 attributes, by default as for PartedVAE:

    | label       | values, counted from 0, and their attributes                                 | prior p(c)         |
    |-------------|------------------------------------------------------------------------------|--------------------|
    | hair colour | black, brown, blond, grey: `Black_Hair`, `Brown_Hair`, `Blond_Hair`, `Gray_Hair` | .42 .33 .18 .06 |
    | beard       | no beard: `No_Beard`; beard: none                                            | .85 .15            |
    | hairline    | neither: none; bangs: `Bangs`; receding: `Receding_Hairline`                 | .74 .15 .11        |
    | eyeglasses  | no eyeglasses: none; eyeglasses: `Eyeglasses`                                | .93 .07            |
    | smile       | no smile: none; smile: `Smiling`                                             | .47 .53            |
    | hat         | no hat: none; hat: `Wearing_Hat`                                             | .95 .05            |
    | gender      | female: none; male: `Male`                                                   | .57 .43            |

    If exactly one attribute of a label is set, the image has the value of this attribute. If none is set, it has the
    value without an attribute. Otherwise it has no value, which makes it an unlabelled image. Examples are an image
    with no hair colour, such as of a bald head or a hat, and one with both bangs and a receding hairline.

    Labels, values, order and priors are those of PartedVAE's code: of its priors and its figures. That code has an
    eighth label, skin tone, with the values white, brown and black. It is left out here, because the authors labelled
    it by hand and did not publish it. (Table 6 of the paper lists the sizes of seven labels, sorted. The hat is not in
    the paper's list, but in its Figures 6 and 8.) The rule from attributes to values is our choice: the original code
    read the labels of its 800 labelled images from a file that is not public either.

    With `labels=CELEBA_ATTRIBUTES` the labels are the 18 of REVAE. Each is an attribute, "off" or "on", so every image
    has a value for each.

    Args:
        data_dir: Directory of tensorflow_datasets. Default: `$TFDS_DATA_DIR` or `~/tensorflow_datasets`.
        labels: Label -> value -> the attribute of this value, or None: `CELEBA_LABELS`, `CELEBA_ATTRIBUTES` or your
            own.
        image_size: `(H, W)` to which the images are resized, without cropping, by antialiased bilinear interpolation.
            Default: the original size, 218 x 178.

    Returns:
        A `CelebA`.

    Raises:
        DataUnavailableError: If the set is missing, or Keras runs on another backend.
        DataDamagedError: If its files cannot be read.
        ValueError: If an attribute does not exist, or `image_size` is not two whole numbers.

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
    if image_size is not None:
        if np.shape(image_size) != (2,):
            raise ValueError(f"`image_size` is {image_size!r}; it must be (height, width).")
        for size in image_size:
            check_whole_number("image_size", size, 1)
    directory = sources.directory_on_tensorflow("celeb_a", data_dir)
    if not (directory / "dataset_info.json").is_file():
        raise DataUnavailableError(f"celeb_a is not prepared in {directory}: {sources.remedy('celeb_a')}.")
    with sources.damage_named("celeb_a", directory):
        attributes = [_read_attributes(directory, split) for split in _SPLITS]
    parts = (
        CelebAPart(directory, split, labels_of_attributes(each, labels), labels, image_size)
        for split, each in zip(_SPLITS, attributes, strict=True)
    )
    return CelebA(*parts)


def labels_of_attributes(attributes: Mapping[str, np.ndarray], labels: Labels = CELEBA_LABELS) -> np.ndarray:
    """Converts attributes, booleans of shape (N,), to the labels of `load_celeba`: integers (N, n), -1 for none."""
    unknown = [name for values in labels.values() for name in values.values() if name not in (None, *attributes)]
    if unknown:
        raise ValueError(f"`labels` names the attribute {unknown[0]!r}. CelebA has {', '.join(sorted(attributes))}.")
    columns = []
    for values in labels.values():
        none = ~np.any([attributes[name] for name in values.values() if name is not None], axis=0)
        fits = np.stack([none if name is None else attributes[name] for name in values.values()], axis=1)
        columns.append(np.where(fits.sum(axis=1) == 1, fits.argmax(axis=1), -1))
    return np.stack(columns, axis=1)


def _read_attributes(directory, split):
    batches, _ = sources.open_tfds(directory, split, _BATCH, encoded=("image",))
    attributes = list(batches.map(lambda batch: batch["attributes"]).as_numpy_iterator())
    return {name: np.concatenate([batch[name] for batch in attributes]) for name in attributes[0]}
