"""What labels an image has, and the verbs of models that classify."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import is_symbolic
from keras_ssvae.checks import is_integer
from keras_ssvae.distributions import Tensor, blocks
from keras_ssvae.noise import Stream


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels of an image: one of K values, or several, each with values of its own.

    Where a model has several labels, one-hot labels and probabilities have those of all labels side by side.

    Args:
        num_classes: The number of values K of the one label, or a sequence with that of each of several labels.
        allow_missing: Whether a label may be missing for an image: -1 as an integer, a row of zeros one-hot.

    Attributes:
        sizes: The number of values of each label.
        several: Whether `num_classes` is a sequence; it may have a single entry.
        width: The columns of one-hot labels and of probabilities, the sum of `sizes`.
        shape: The shape of one image's labels as integers: `()`, or `(n,)` of n labels.

    Example:
        >>> Labels(10).shape, Labels((4, 3, 2)).width
        ((), 9)
    """

    num_classes: int | tuple[int, ...]
    allow_missing: bool = False

    def __post_init__(self) -> None:
        classes: Any = self.num_classes  # any sequence, till it is a tuple below
        several = isinstance(classes, Sequence) or np.ndim(classes) == 1
        given = tuple(classes) if several else (classes,)
        if not given or not all(is_integer(size) and size >= 1 for size in given):
            raise ValueError(
                f"`num_classes` is {self.num_classes!r}; it must be an integer of at least 1, or a sequence of such."
            )
        sizes = tuple(int(size) for size in given)
        object.__setattr__(self, "num_classes", sizes if several else sizes[0])

    @property
    def sizes(self) -> tuple[int, ...]:
        return self.num_classes if isinstance(self.num_classes, tuple) else (self.num_classes,)

    @property
    def several(self) -> bool:
        return isinstance(self.num_classes, tuple)

    @property
    def width(self) -> int:
        return sum(self.sizes)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.sizes),) if self.several else ()

    def split(self, values: Tensor) -> list[Tensor]:
        """Cuts one-hot labels or probabilities `(..., width)` into those of each label, `(..., size)`."""
        return blocks(values, self.sizes)

    def one_hot(self, labels: Tensor) -> Tensor:
        """One-hot labels `(B, width)`, float32, of integers `(B, *shape)`."""
        columns = ops.reshape(labels, (-1, len(self.sizes)))
        parts = [ops.one_hot(columns[:, i], size, dtype="float32") for i, size in enumerate(self.sizes)]
        return ops.concatenate(parts, axis=-1)

    def predicted(self, probs: Tensor) -> Tensor:
        """The most probable value of each label: integers `(B, *shape)` of probabilities `(B, width)`."""
        if not self.several:
            return ops.argmax(probs, axis=-1)
        return ops.stack([ops.argmax(each, axis=-1) for each in self.split(probs)], axis=-1)

    def check(self, name: str, labels: ArrayLike, num_examples: int | None = None) -> np.ndarray:
        """Returns labels as int64 of shape `(N, *shape)`.

        Args:
            name: What the error calls them.
            labels: Integers of any size, one for each image, or a row of several: an array, a tensor, a list or a
                pandas Series. Of one label also a column `(N, 1)`, as `keras.datasets` gives it.
            num_examples: N, where it is known.

        Raises:
            ValueError: If they have another shape or dtype, or a label is out of range.
        """
        given = as_integers(name, labels, columns=self.several)
        examples = given.shape[0] if given.ndim and num_examples is None else num_examples
        what = f"a row of {len(self.sizes)} integers" if self.several else "one integer"
        if given.shape != (examples, *self.shape) or not np.issubdtype(given.dtype, np.integer):
            of = "example" if num_examples is None else f"of the {num_examples} examples"
            raise ValueError(
                f"`{name}` has shape {given.shape} and dtype {given.dtype}; it must be {what} for each {of}."
                f"{self._hint(name, given)}"
            )
        lowest = -1 if self.allow_missing else 0
        if given.size and not ((given >= lowest) & (given < np.asarray(self.num_classes))).all():
            highest = [size - 1 for size in self.sizes] if self.several else self.sizes[0] - 1
            from_one = given.min() >= 1 and (given <= np.asarray(self.num_classes)).all()
            hint = " They look counted from 1: subtract 1." if from_one else ""
            raise ValueError(
                f"`{name}` run from {given.min()} to {given.max()}; with {self.num_classes} classes they must be "
                f"{lowest} to {highest}.{hint}"
            )
        return given.astype("int64")

    def check_names(self, names: Sequence) -> tuple:
        """Returns names of the classes as a tuple, of several labels as a tuple of tuples.

        Raises:
            ValueError: If they are not a different name for each class.
        """
        of_labels = tuple(names) if self.several and not isinstance(names, str) else (names,)
        fits = len(of_labels) == len(self.sizes) and all(
            not isinstance(each, str) and len(each) == len({*each}) == size and all(isinstance(n, str) for n in each)
            for each, size in zip(of_labels, self.sizes, strict=True)
        )
        if not fits:
            what = "for each label " if self.several else ""
            raise ValueError(
                f"`class_names` is {names!r}; it must be {what}a different name for each class, {self.num_classes} of "
                "them."
            )
        result = tuple(tuple(each) for each in of_labels)
        return result if self.several else result[0]

    def check_probs(self, name: str, probs: Sequence[Sequence[float]] | None) -> list[np.ndarray]:
        """Returns the probabilities of each label's values, float64; of None uniform ones.

        Raises:
            ValueError: If they are not positive numbers for each label, whose sum is 1.
        """
        given = [np.full(k, 1 / k) for k in self.sizes] if probs is None else [np.asarray(p, "float64") for p in probs]
        # Rounded to two digits, those of PartedVAE's paper add up to 0.99.
        fits = all((each > 0).all() and abs(each.sum() - 1) < 0.02 for each in given)
        if tuple(each.size for each in given) != self.sizes or not fits:
            raise ValueError(
                f"`{name}` is {[each.tolist() for each in given]}; it must be for each label a list of its positive "
                f"probabilities, whose sum is 1: of {self.sizes} values."
            )
        return given

    def _hint(self, name, given):
        """What to write in the place of labels of another shape or dtype."""
        name = name if name.isidentifier() else "labels"
        is_rows = given.dtype.kind in "biuf" and given.ndim == 2 and given.shape[1] == self.width
        if self.several and is_rows and self._is_one_hot(given):
            return " They are one-hot, those of all labels side by side: `argmax(axis=-1)` of each label's gives it."
        return hint_of_form(name, given)

    def _is_one_hot(self, rows):
        """Whether each row `(N, width)` is one-hot, that of each label."""
        ends = np.cumsum(self.sizes)[:-1]
        return all(
            np.isin(part, (0, 1)).all() and (part.sum(axis=-1) == 1).all() for part in np.split(rows, ends, axis=-1)
        )

    def check_rows(self, name: str, rows: Tensor) -> None:
        """Raises a `ValueError` unless the rows `(N, width)` are one-hot labels, or probabilities of labels."""
        rows = np.asarray(ops.convert_to_numpy(rows), "float32")
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise ValueError(
                f"`{name}` has shape {rows.shape}; it must be one-hot labels of shape {(None, self.width)}."
            )
        for part in np.split(rows, np.cumsum(self.sizes)[:-1], axis=-1):
            is_right = (part >= 0).all(axis=-1) & (np.abs(part.sum(axis=-1) - 1) <= 1e-3)
            wrong = np.flatnonzero(~(is_right | (self.allow_missing & (part == 0).all(axis=-1))))
            if len(wrong):
                raise ValueError(
                    f"Row {wrong[0]} of `{name}` holds {part[wrong[0]].tolist()}; it must be one-hot, with the sum 1. "
                    f"Of a label out of range nothing but zeros are made: labels are 0 to {part.shape[1] - 1}."
                )

    def check_targets(self, name: str, labels: ArrayLike, num_examples: int | None = None) -> np.ndarray:
        """True labels of an evaluation: integers as `check` takes them, or one-hot as in a batch of training."""
        given = as_integers(name, labels, columns=True)
        if given.ndim != 2 or given.shape[1] != self.width or given.shape[1:] == self.shape:
            return self.check(name, given, num_examples)
        if given.shape[1] == 1 and not self._is_one_hot(given):  # one class, as a column
            return self.check(name, given, num_examples)
        if num_examples not in (None, len(given)):
            raise ValueError(f"`{name}` has {len(given)} rows for {num_examples} images; there must be one for each.")
        self.check_rows(name, given)
        return given


def as_integers(name: str, labels: ArrayLike, columns: bool = False) -> np.ndarray:
    """Labels as an array; a column `(N, 1)` of integers as `(N,)`, unless `columns` are what is asked for."""
    try:
        given = np.asarray(ops.convert_to_numpy(labels)) if ops.is_tensor(labels) else np.asarray(labels)
    except ValueError as error:  # NumPy's, of rows of different lengths
        raise ValueError(
            f"`{name}` has rows of different lengths; it must be as many integers for each image."
        ) from error
    is_column = given.ndim == 2 and given.shape[1] == 1 and np.issubdtype(given.dtype, np.integer)
    return given[:, 0] if is_column and not columns else given


def hint_of_form(name: str, given: np.ndarray) -> str:
    """What to write in the place of labels that are no integers, where that can be told."""
    if given.ndim == 2 and given.shape[1] > 1 and np.isin(given, (0, 1)).all() and (given.sum(axis=-1) == 1).all():
        return f" They are one-hot: `{name}.argmax(axis=-1)` gives the classes."
    if given.dtype == bool:
        return f" `{name}.astype('int64')` makes 0 and 1 of booleans."
    if given.dtype.kind == "f" and given.size and np.isfinite(given).all() and (given == np.floor(given)).all():
        column = ".ravel()" if given.ndim == 2 and given.shape[1] == 1 else ""
        return f" They are whole numbers: `{name}{column}.astype('int64')`."
    if given.dtype.kind in "OUS":
        return f" `np.unique({name}, return_inverse=True)[1]` numbers names."
    return ""


class ClassifierMixin:
    """The verbs of a model whose images have labels.

    A subclass sets `labels` and then `class_names`, which its configuration keeps, and gives `classify`, and
    `sample_latent(labels, seed, scale)`: latent variables of images of these classes, from the prior, of which `scale`
    multiplies the standard deviations. Unless all values of a
    label are equally probable it has `class_priors`, for each label the probabilities of its values.
    """

    labels: Labels
    decode: Callable[[Tensor], Tensor]
    sample_latent: Callable[..., Tensor]
    latents: dict[str, int]

    @property
    def label_probs(self) -> list[np.ndarray] | None:
        """The probabilities `p(y)` of each label's values; None where they are uniform."""
        priors = getattr(self, "class_priors", None)
        return priors if priors is not None and any(np.ptp(probs) for probs in priors) else None

    @property
    def num_classes(self) -> int | tuple[int, ...]:
        """The number of classes, or the numbers of values of several labels."""
        return self.labels.num_classes

    @property
    def class_names(self) -> tuple | None:
        """The names of the classes, of several labels those of each; None where nobody gave them."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence | None) -> None:
        self._class_names = None if names is None else self.labels.check_names(names)

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `(B, K)` of images `(B, H, W, C)` in [-1, 1]; of several labels side by side."""
        raise NotImplementedError

    def predicted_labels(self, probs: Tensor) -> Tensor:
        """The most probable classes, integers `(B,)` or, of n labels, `(B, n)`, of what `classify` gives."""
        return self.labels.predicted(probs)

    def error_percent(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Of each image the share of its labels that `probs` of `classify` miss, 0 to 100: `(B,)`.

        `labels` are true classes, integers as `predicted_labels` gives them, or one-hot as `probs`.
        """
        return 100.0 * ops.mean(ops.reshape(self._wrong(probs, labels), (ops.shape(probs)[0], -1)), axis=-1)

    def error_terms(self, probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`error`, `error_percent` of each image; with several labels also `error_per_label`, 0 or 100, `(B, n)`."""
        terms = {"error": self.error_percent(probs, labels)}
        return {**terms, "error_per_label": 100.0 * self._wrong(probs, labels)} if self.labels.several else terms

    def _wrong(self, probs, labels):
        """0.0 or 1.0 for each label, in the shape of `predicted_labels`."""
        if not is_symbolic(labels):
            labels = ops.convert_to_tensor(self.labels.check_targets("labels", labels, probs.shape[0]))
        if len(labels.shape) == 2 and labels.shape[-1] == probs.shape[-1] and labels.shape[1:] != self.labels.shape:
            labels = self.predicted_labels(labels)
        elif "float" in (dtype := keras.backend.standardize_dtype(labels.dtype)):
            raise ValueError(
                f"`labels` is {dtype} of shape {tuple(labels.shape)}; it must be integers, or one-hot of shape "
                f"{(None, self.labels.width)}. Cast whole numbers to int64."
            )
        predicted = self.predicted_labels(probs)
        wrong = ops.not_equal(predicted, ops.cast(ops.reshape(labels, ops.shape(predicted)), predicted.dtype))
        return ops.cast(wrong, "float32")

    def one_hot_targets(self, labels: Tensor, num_images: int | None = None) -> Tensor:
        """True labels of an evaluation, integers or one-hot, as one-hot rows `(B, width)`."""
        if not is_symbolic(labels):
            labels = ops.convert_to_tensor(self.labels.check_targets("labels", labels, num_images))
        if len(labels.shape) == 2 and labels.shape[-1] == self.labels.width and labels.shape[1:] != self.labels.shape:
            return ops.cast(labels, "float32")
        return self.labels.one_hot(ops.cast(labels, "int32"))

    def generate(self, labels: Tensor | int, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Images from the prior, of given classes or of classes drawn from `p(y)`.

        Args:
            labels: Class of each image, integers `(B,)`, or `(B, n)` of n labels; or the number of images B.
            seed: An integer; the same seed gives the same images. Or of given classes a tensor of one seed for each
                image, which then depends on nothing else: it is the one image of its label and this seed.
            scale: By how much the latent variables are further from the mean of their prior, given the class, than
                those of the prior: 1 draws from it, 0 takes the mean. It multiplies standard deviations.

        Returns:
            `(B, H, W, C)` in [-1, 1].

        Raises:
            ValueError: If a label is out of range, or the labels have another shape, or `scale` is negative.
        """
        if not (isinstance(scale, numbers.Real) and 0 <= scale < math.inf):
            raise ValueError(f"`scale` is {scale!r}; it must be a finite number, 0 or more.")
        if is_integer(labels):
            if labels < 0:
                raise ValueError(f"`labels` is {labels}; as a number of images it must be 0 or more.")
            labels = self.sample_labels(int(labels), seed)
        elif not is_symbolic(labels):
            labels = self.labels.check("labels", labels)
        return self.decode(self.sample_latent(ops.cast(ops.convert_to_tensor(labels), "int32"), seed, scale))

    def coordinates(self, part: str, label: int) -> list[int]:
        """Where the latent variables of a part stand that decide an image of a class, among all of them.

        Raises:
            ValueError: If there is no such part.
        """
        if part not in self.latents:
            raise ValueError(f"`part` is {part!r}; it must be one of {list(self.latents)}.")
        names = list(self.latents)
        start = sum(self.latents[name] for name in names[: names.index(part)])
        return list(range(start, start + self.latents[part]))

    def sample_labels(self, n: int, seed: int | Tensor) -> Tensor:
        """Labels of n images, int32 `(n,)` or, of several, `(n, labels)`, drawn from `p(y)`."""
        stream = Stream(seed, 0, "labels")
        if stream.rows() is not None:
            raise ValueError("`seed` holds a seed for each image; give the `labels` of these images, not their number.")
        if self.label_probs is None:
            drawn = [keras.random.randint((n,), 0, size, dtype="int32", seed=stream) for size in self.labels.sizes]
        else:
            logits = [np.log(probs)[None].astype("float32") for probs in self.label_probs]
            drawn = [keras.random.categorical(each, n, dtype="int32", seed=stream)[0] for each in logits]
        return ops.stack(drawn, axis=-1) if self.labels.several else drawn[0]
