"""The training, validation and test images of a run, in memory or on disk."""

import functools
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_ssvae import data, evaluation
from keras_ssvae.runs import devices
from keras_ssvae.runs.errors import UserError

_TITLES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}


@functools.cache  # several runs of one script share it
def load_data(name: str, data_dir: str | None, first: str = "mnist") -> data.ImageData:
    """Loads a data set. `auto` loads `first` or, if it is not available, the embedded digits with a warning."""
    if name != "auto":
        return data.load(name, data_dir)
    try:
        return data.load(first, data_dir)
    except data.DataDamagedError:
        raise
    except data.DataUnavailableError as error:
        instead = f"training on the embedded digits instead of {_TITLES[first]}."
        print(f"WARNING: {error}\nWARNING: {instead}\n", file=sys.stderr)
        return data.load("digits")


class InMemory:
    """Images in memory, split into labelled, unlabelled, validation and test images.

    Args:
        images: The data set.
        settings: The settings of the run.
        indices: Indices of the labelled images; by default they are drawn by the seed.
        augment: The augmentation, one of `data.augment`.

    Attributes:
        unlabeled: Which images the model trains on without their labels; see `unlabeled` of `data.split`.
        stratify: How many labelled and validation images each class gets; see `stratify` of `data.split`.
        num_images: Number of images that the model trains on without their labels.
        num_labeled: Number of images that the model sees with their labels.
        num_test_images: Number of test images.
        num_evaluated: Number of test images that are evaluated after each epoch.

    Raises:
        ValueError: When the data set has too few images for the settings.
    """

    unlabeled, stratify = "all", "equal"

    def __init__(
        self,
        images: data.ImageData,
        settings: Mapping[str, Any],
        indices: np.ndarray | None = None,
        augment: Callable | None = None,
    ):
        self.images, self.settings, self.augment = images, settings, augment
        labels, validation, seed = settings.get("labels", 0), settings["validation"], settings["seed"]
        how = {"unlabeled": self.unlabeled, "stratify": self.stratify}
        self.split = data.split(images.train_labels, labels, validation, seed, indices, **how)
        self.num_images, self.num_labeled = len(self.split.unlabeled), len(self.split.labeled)
        self.num_test_images = self.num_evaluated = len(images.test_images)

    @functools.cached_property  # figures and evaluation share one array
    def test_images(self) -> np.ndarray:
        return data.scale(self.images.test_images)

    @property
    def validation_images(self) -> np.ndarray:
        return data.scale(self.images.train_images[self.split.validation])

    def batches(self, start_step: int) -> Any:
        """The training batches from `start_step` on; steps count from 0 over all epochs."""
        images, labeled = self.images, self.split.labeled
        return data.semi_supervised(
            (images.train_images[labeled], images.train_labels[labeled]) if len(labeled) else None,
            # Indexing would copy all images.
            images.train_images if self.unlabeled == "all" else images.train_images[self.split.unlabeled],
            num_classes=images.num_classes,
            start_step=start_step,
            augment=self.augment,
            augment_on=self.settings["augment_on"],
            **_sizes(self.settings),
        )

    def validation(self) -> dict[str, Any]:
        """The arguments of `keras.Model.fit` for the validation."""
        held_out = self.split.validation
        if not len(held_out):
            return {}
        return {
            "validation_data": (self.validation_images, self.images.train_labels[held_out]),
            "validation_batch_size": devices.evaluation_batch(self.settings, len(held_out)),
        }

    def evaluate(self, model: keras.Model) -> dict[str, float]:
        """The model's own terms on the test images, for the logs of an epoch."""
        batch = devices.evaluation_batch(self.settings, self.num_test_images)
        labels = self.images.test_labels
        return model.evaluate(self.test_images, labels, batch_size=batch, verbose=0, return_dict=True)

    def report(self, model: keras.Model) -> dict[str, Any]:
        """All metrics of the trained model on the test images."""
        return evaluation.report(model, self.test_images, self.images.test_labels, ssim=True)


class Rest(InMemory):
    """Images in memory. The unlabelled images are all except the labelled and the validation images."""

    unlabeled = "rest"


class AllLabeled(InMemory):
    """Images in memory for a model that trains on labelled images alone: all images but those of validation.

    Arguments and attributes are those of `InMemory`; `num_images` counts these labelled images.
    """

    unlabeled = "all_but_validation"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_labeled = self.num_images

    def batches(self, start_step: int) -> Any:
        images, chosen = self.images, self.split.unlabeled
        sizes = {name: self.settings[name] for name in ("steps_per_epoch", "seed", "augment_on")}
        return data.semi_supervised(
            (images.train_images[chosen], images.train_labels[chosen]),
            None,
            num_classes=images.num_classes,
            labeled_batch_size=self.settings["batch_size"],
            start_step=start_step,
            augment=self.augment,
            **sizes,
        )


class WithoutLabels(InMemory):
    """Images in memory for a model without labels. It trains on all images except those of the validation.

    The test images are evaluated only after the training. Arguments and attributes are those of `InMemory`.
    """

    unlabeled = "all_but_validation"

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.num_evaluated = 0

    def evaluate(self, model: keras.Model) -> dict[str, float]:
        return {}

    def report(self, model: keras.Model) -> dict[str, Any]:
        """As `InMemory.report`, but with the loss under the name `bound`: it is the negative ELBO, in nats."""
        return {"bound" if name == "loss" else name: value for name, value in super().report(model).items()}


class Binary(WithoutLabels):
    """`WithoutLabels` with validation and test images that are made black and white once, as in VampPrior's code.

    The training images stay grey: the model draws binary images from them anew at each step.
    """

    @functools.cached_property
    def _binary(self):
        """The validation and the test images, drawn in this order from one random generator."""
        random = np.random.RandomState(777)
        grey = self.images.train_images[self.split.validation], self.images.test_images
        return [data.scale(data.binarize(images, random)) for images in grey]

    @property
    def validation_images(self) -> np.ndarray:
        return self._binary[0]

    @property
    def test_images(self) -> np.ndarray:
        return self._binary[1]


class UnevenBinary(Binary):
    """`Binary` for classes of unequal sizes: each class holds out validation images in proportion to its size."""

    stratify = "proportional"


class OnDisk:
    """Images that are read from disk during the training, such as `data.CelebA`; the labelled images are in memory.

    The attributes are those of `InMemory`, but `split` holds the indices of the labelled images.

    Args:
        images: The data set, whose `train`, `validation` and `test` are parts such as `data.CelebAPart`.
        settings: The settings of the run.
        indices: Must be None: the labelled images are drawn by the seed.
        augment: Must be None.
        label_names: Names of the labels of an image.
        shuffle_buffer: Images in the buffer that shuffles the order of the files.

    Raises:
        ValueError: When the data set has too few images for the settings, or `indices` or `augment` is given.
    """

    num_evaluated = 0  # the test images are evaluated only after the training

    def __init__(
        self,
        images: data.CelebA,
        settings: Mapping[str, Any],
        indices: None = None,
        augment: None = None,
        *,
        label_names: Sequence[str],
        shuffle_buffer: int,
    ):
        if indices is not None or augment is not None:
            raise ValueError(
                "`indices` and `augment` must be None for images on disk: the seed draws the labelled images, and "
                "images on disk are not augmented."
            )
        self.images, self.settings = images, settings
        self.label_names, self.shuffle_buffer = label_names, shuffle_buffer
        self.train, self.held_out = self._parts(settings["validation"])
        self.split = self.train.draw(settings["labels"], settings["seed"])
        self.unlabeled = self._unlabeled()
        self.num_images, self.num_labeled = len(self.unlabeled.labels), len(self.split)
        self.num_test_images = len(images.test.complete)

    def _parts(self, validation):
        """The part that the labelled images are drawn from, and the part of the validation images."""
        held_out = len(self.images.validation.complete)
        if validation > held_out:
            raise UserError(f"--validation is {validation}; the validation part has {held_out} labelled images.")
        return self.images.train, self.images.validation

    def _unlabeled(self):
        return self.train

    def batches(self, start_step: int) -> Any:
        return data.semi_supervised(
            self.train.read(self.split.tolist()),
            self.unlabeled.images(),
            num_classes=self.images.num_classes,
            start_step=start_step,
            shuffle_buffer=self.shuffle_buffer,
            **_sizes(self.settings),
        )

    def validation(self) -> dict[str, Any]:
        held_out = self.settings["validation"]
        if not held_out:
            return {}
        batches = self.held_out.labeled().take(held_out).batch(self.settings["labeled_batch_size"])
        return {"validation_data": batches.map(lambda images, labels: (data.scale(images), labels))}

    def evaluate(self, model: keras.Model) -> dict[str, float]:
        return {}

    def report(self, model: keras.Model) -> dict[str, Any]:
        result = evaluation.report(model, self.images.test.labeled().batch(self.settings["labeled_batch_size"]))
        named = dict(zip(self.label_names, result["error_percent_per_label"], strict=True))
        return {**result, "error_percent_per_label": named}


class OnDiskRest(OnDisk):
    """Images on disk. The unlabelled images are all except the labelled and the validation images.

    The validation images are the last of the training part, in the order of the files. Arguments and attributes are
    those of `OnDisk`.
    """

    def _parts(self, validation):
        train = self.images.train
        size = len(train.labels) - validation
        if size < 1:
            raise UserError(f"--validation is {validation}; there are {len(train.labels)} training images in all.")
        indices = np.arange(len(train.labels))
        return train.only(indices[:size]), train.only(indices[size:]) if validation else None

    def _unlabeled(self):
        rest = np.setdiff1d(np.arange(len(self.train.labels)), self.split)
        if not len(rest):
            raise UserError(
                "No unlabelled images are left: all training images are labelled or held out. Give a smaller --labels "
                "or --validation."
            )
        return self.train.only(rest)


def _sizes(settings):
    """The arguments of `data.semi_supervised` that the settings give."""
    labeled = settings.get("labeled_batch_size")
    return {
        **({} if labeled is None else {"labeled_batch_size": labeled}),
        "unlabeled_batch_size": settings["batch_size"] - (labeled or 0),
        **({"rhythm": tuple(settings["rhythm"])} if "rhythm" in settings else {}),
        **{name: settings[name] for name in ("steps_per_epoch", "seed")},
    }
