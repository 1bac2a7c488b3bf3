"""Checks the data of `fit`, `evaluate` and `predict`: arrays at once, other data batch by batch."""

import dataclasses
import functools
import inspect
import re
from collections.abc import Callable, Iterator
from types import GeneratorType
from typing import Any

import keras
import numpy as np

from keras_ssvae.backend import WHOLE_BATCH, keeps_values
from keras_ssvae.backend.parts import due_parts
from keras_ssvae.checks import warn_caller
from keras_ssvae.distributions import Tensor
from keras_ssvae.models.checks import check_has_labels, check_not_of_training
from keras_ssvae.models.labels import ClassifierMixin
from keras_ssvae.pixels import as_array, check_augmented, check_values, dtype_name, to_float

# Attribute of batches whose images and labels were already checked by their source; see `data.semi_supervised`.
CHECKED = "checked_by_keras_ssvae"
# Attribute of batches in which a label may be missing.
MISSES_LABELS = "misses_labels"

Check = Callable[..., Any]  # `(batch, whether it is the first)` -> images and labels in the form that the model takes


class ChecksData(keras.Model):
    """A model that checks the values of its data outside the training step; a traced step cannot check values.

    Pixels follow the rules of `pixels`, labels those of `labels.Labels`. Doubtful data in range, such as images without
    any pixel below 0, is an error in arrays and in the first batch.
    """

    image_shape: tuple[int, ...]
    must_have_labels = False  # whether validation data needs labels
    takes_missing_labels = False  # whether rows of `y` may be 0 in training
    check_batch: Callable[[dict[str, Tensor], Tensor | None], None]
    check_images: Callable[[str, Tensor], None]

    # Keras' methods

    def fit(self, *args, **kwargs) -> keras.callbacks.History:
        """As `keras.Model.fit`, with a ValueError for unsuitable data.

        Arrays and `validation_data` are checked completely before the first epoch, other data batch by batch. Only a
        generator as `validation_data` is checked when it is used.
        """
        fit = super().fit
        given = inspect.signature(fit).bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        if given.get("validation_split") and isinstance(given.get("x"), dict):
            raise ValueError(
                f"`validation_split` is {given['validation_split']}, but `x` is a dictionary of training images; leave "
                "it out, and give `validation_data=(images, labels)`."
            )
        if given.get("x") is None:
            raise ValueError("`x` is None; it must be training data: batches of `data.semi_supervised`, or images.")
        given |= self._checked(self._check_training, given.get("x"), given.get("y"))
        if given.get("validation_data") is not None:
            given["validation_data"] = self._checked_validation(given["validation_data"], given.get("validation_steps"))
        return self._in_sentences(fit, **given)

    def evaluate(self, *args, **kwargs) -> Any:
        """As `keras.Model.evaluate`, with a ValueError for unsuitable images or labels."""
        evaluate = super().evaluate
        if kwargs.get("_use_cached_eval_dataset"):  # `fit` has checked it
            return evaluate(*args, **kwargs)
        given = inspect.signature(evaluate).bind(*args, **kwargs).arguments
        given |= given.pop("kwargs", {})
        if given.get("sample_weight") is not None and given.get("y") is None:
            raise ValueError("`sample_weight` is given; here each image counts once. Leave it out.")
        check = functools.partial(self._check_evaluation, "x", "y")
        given |= self._checked(check, given.get("x"), given.get("y"))
        return self._in_sentences(evaluate, **given)

    def predict(self, x, *args, **kwargs) -> Any:
        """As `keras.Model.predict`, with a ValueError for unsuitable images."""
        x = self._checked(self._check_images_alone, x, None)["x"]
        return self._in_sentences(functools.partial(super().predict, x), *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs) -> Any:
        """As `keras.Model.train_on_batch`, with a check of the batch."""
        given = self._checked(self._check_training, x, y)
        return super().train_on_batch(given["x"], given["y"], *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs) -> Any:
        """As `keras.Model.test_on_batch`, with a check of the batch."""
        given = self._checked(functools.partial(self._check_evaluation, "x", "y"), x, y)
        return super().test_on_batch(given["x"], given["y"], *args, **kwargs)

    def predict_on_batch(self, x) -> Any:
        """As `keras.Model.predict_on_batch`, with a check of the images."""
        return super().predict_on_batch(self._checked(self._check_images_alone, x, None)["x"])

    # What a batch must be

    def _check_training(self, batch, first):
        images, labels = _images_and_labels(batch)
        if first:
            self.check_batch(*_images_and_labels(due_parts(batch)))
        parts = images if isinstance(images, dict) else {"unlabeled": images}
        for name, part in parts.items():
            given = f"x[{name!r}]" if isinstance(images, dict) else "x"
            if name.endswith("_augmented") and dtype_name(part) != "uint8":
                check_augmented(given, part, parts.get(name.removesuffix("_augmented"), part), first)
            elif name != WHOLE_BATCH and len(part.shape) == 4:
                check_values(given, part, "refuse" if first else "ignore")
        if labels is not None and isinstance(self, ClassifierMixin):
            dataclasses.replace(self.labels, allow_missing=self.takes_missing_labels).check_rows("y", labels)
        return images, labels

    def _check_evaluation(self, x, y, batch, first):
        images, labels = _images_and_labels(batch)
        self._check_pixels(x, images, "refuse" if first else "ignore")
        if labels is None and self.must_have_labels:
            check_has_labels(labels)
        if labels is not None and isinstance(self, ClassifierMixin):
            labels = self.labels.check_targets(y, labels, len(images))
        return to_float(images), labels

    def _check_images_alone(self, batch, first):
        images, labels = _images_and_labels(batch)
        self._check_pixels("x", images, "warn" if first else "ignore")
        return images, labels

    def _check_pixels(self, name, images, in_doubt):
        check_not_of_training(name, images)
        self.check_images(name, images)
        check_values(name, images, in_doubt)

    # The sources of batches

    def _checked(self, check, x, y):
        """The arguments `x` and `y` for Keras' methods: checked, or wrapped so that each batch is checked."""
        if isinstance(x, GeneratorType):
            return {"x": _checked_batches(x, check), "y": y}
        if hasattr(x, MISSES_LABELS) and not self.takes_missing_labels:
            raise ValueError(
                f"`x` holds batches in which a label may be missing, which {type(self).__name__} does not take; "
                "`REVAE` does. Pass those images as unlabelled ones, without `allow_missing`."
            )
        if isinstance(x, keras.utils.PyDataset):
            return {"x": _CheckedBatches(x, check), "y": y}
        if hasattr(x, "element_spec"):
            return {"x": x if hasattr(x, CHECKED) else checked_dataset(x, check), "y": y}
        if x is None or not (isinstance(x, dict | list | tuple) or hasattr(x, "shape")):
            return {"x": x, "y": y}  # a loader of another library, or something that Keras rejects itself
        if isinstance(x, dict):
            x = {name: as_array(f"x[{name!r}]", part) for name, part in x.items()}
        elif isinstance(x, list | tuple) and len(x) and np.ndim(x[0]) == 4:
            raise ValueError(
                f"`x` is a {type(x).__name__} of {len(x)} arrays; it must be the images alone. Labels are the next "
                "argument, `y`."
            )
        else:
            x = as_array("x", x)
            if tuple(x.shape[:1]) == (0,):
                raise ValueError("`x` has no image; it must be at least one.")
        y = None if y is None else as_array("y", y)
        return dict(zip(("x", "y"), check((x, y), True), strict=True))

    def _checked_validation(self, data, steps):
        """Checks `validation_data` now; that of a generator when it is used."""
        x, y = "validation_data[0]", "validation_data[1]"
        check = functools.partial(self._check_evaluation, x, y)
        if isinstance(data, tuple | list):
            images, labels, *weights = data if len(data) > 1 else (data[0], None)
            labels = None if labels is None else as_array(y, labels)
            images, labels = check((as_array(x, images), labels), True)
            self._warn_of_missing_classes(y, labels)
            return (images, labels, *weights)
        if isinstance(data, GeneratorType):
            return _checked_batches(data, check)
        for number, batch in enumerate(_in_numbers(data, steps)):
            check(batch, number == 0)
        return data

    def _warn_of_missing_classes(self, name, labels):
        if labels is None or not isinstance(self, ClassifierMixin) or self.labels.several or labels.ndim > 1:
            return
        missing = np.setdiff1d(np.arange(self.num_classes), labels)
        if len(missing):
            warn_caller(f"`{name}` holds no image of the classes {missing.tolist()}: the error says nothing of them.")

    def _in_sentences(self, method, *args, **kwargs):
        """Calls a method of Keras. The error about a batch replaces TensorFlow's error about its pipeline."""
        try:
            with keeps_values(self):
                return method(*args, **kwargs)
        except Exception as error:
            sentence = refusal(error)
            if sentence is None:
                raise
            raise ValueError(sentence) from None


class _Refusal(ValueError):
    """Error of a check of a batch, raised inside a method of Keras."""


def in_flight(check: Check) -> Check:
    """Wraps a check for use inside a method of Keras, so that `refusal` finds its message in any resulting error."""

    def checked(*args):
        try:
            check(*args)
        except ValueError as error:
            raise _Refusal(str(error)) from None

    return checked


def refusal(error: BaseException) -> str | None:
    """The message of a check, if a check caused this error of a method of Keras; else None."""
    if isinstance(error, _Refusal):
        return str(error)
    # TensorFlow's error includes the text of the Python error that ended a pipeline.
    found = re.search(r"_Refusal: (.*?)\n(?:Traceback|\n)", str(error), re.DOTALL)
    return found and found.group(1)


def _images_and_labels(batch):
    images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)  # the model rejects the weights
    return images, labels


def _checked_batches(batches, check) -> Iterator:
    check = in_flight(check)
    for number, batch in enumerate(batches):
        check(batch, number == 0)
        yield batch


class _CheckedBatches(keras.utils.PyDataset):
    """The batches of another PyDataset, checked. If their source checks them, only the first one is checked here."""

    def __init__(self, batches, check):
        super().__init__(batches.workers, batches.use_multiprocessing, batches.max_queue_size)
        self._batches, self._check, self._first = batches, in_flight(check), True

    @property
    def num_batches(self):
        return self._batches.num_batches

    def __getitem__(self, index):
        batch = self._batches[index]
        if self._first or not hasattr(self._batches, CHECKED):
            self._check(batch, self._first)
        self._first = False
        return batch

    def on_epoch_begin(self):
        self._batches.on_epoch_begin()

    def on_epoch_end(self):
        self._batches.on_epoch_end()


def checked_dataset(dataset: Any, check: Check) -> Any:
    """A `tf.data.Dataset` with a check of each element. Other data sets of TensorFlow are returned unchanged."""
    import tensorflow as tf

    specs = tf.nest.flatten(getattr(dataset, "element_spec", None))
    if not isinstance(dataset, tf.data.Dataset) or not all(isinstance(spec, tf.TensorSpec) for spec in specs):
        return dataset
    if specs[0].shape.rank == 3:
        raise ValueError(
            f"`x` is a Dataset of single images of shape {tuple(specs[0].shape)}; it must be one of batches: use "
            "`.batch(32)`."
        )
    check = in_flight(check)

    @tf.autograph.experimental.do_not_convert
    def look(number, batch):
        def of_numbers(number, *parts):
            check(tf.nest.pack_sequence_as(batch, parts), number == 0)
            return np.int64(0)

        done = tf.numpy_function(of_numbers, [number, *tf.nest.flatten(batch)], tf.int64)
        with tf.control_dependencies([done]):
            return tf.nest.map_structure(tf.identity, batch)

    return dataset.enumerate().map(look)


def _in_numbers(data, steps) -> Iterator:
    """The batches of validation, once; of endless data the first `steps`, or the first one."""
    if isinstance(data, keras.utils.PyDataset):
        count = steps or data.num_batches or 1
        yield from (data[i] for i in range(count))
    elif hasattr(data, "as_numpy_iterator"):
        endless = int(data.cardinality()) == -1
        yield from data.take(steps or (1 if endless else -1)).as_numpy_iterator()
