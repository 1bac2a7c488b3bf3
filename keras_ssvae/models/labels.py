"""The labels of an image, and the methods of models that classify."""

import dataclasses
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import is_symbolic
from keras_ssvae.checks import is_integer, is_listed
from keras_ssvae.distributions import Tensor, blocks
from keras_ssvae.noise import Stream


@dataclasses.dataclass(frozen=True)
class Labels:
    """Describes the labels of an image: one label with K values, or several labels with their own values each.

    With several labels, the one-hot labels and the probabilities of all labels stand side by side.

    Args:
        num_classes: Number K of values of the label; for several labels a sequence of these numbers.
        allow_missing: Whether a label may be missing for an image: -1 as an integer, zeros as one-hot.

    Attributes:
        sizes: Number of values of each label.
        several: Whether `num_classes` is a sequence, even if it has only one entry.
        width: Number of columns of one-hot labels and probabilities: the sum of `sizes`.
        shape: Shape of the integer labels of one image: `()`, or `(n,)` for n labels.

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

    @classmethod
    def seen_in(cls, labels: ArrayLike) -> Self:
        """As many classes as the largest label needs; 1 where `check` will refuse the labels."""
        given = as_integers("labels", labels)
        return cls(max(int(given.max()) + 1, 1) if given.size and given.dtype.kind in "iu" else 1)

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
        """Splits one-hot labels or probabilities `(..., width)` by label, each `(..., size)`."""
        return blocks(values, self.sizes)

    def one_hot(self, labels: Tensor) -> Tensor:
        """One-hot labels `(B, width)`, float32, from integers `(B, *shape)`."""
        columns = ops.reshape(labels, (-1, len(self.sizes)))
        parts = [ops.one_hot(columns[:, i], size, dtype="float32") for i, size in enumerate(self.sizes)]
        return ops.concatenate(parts, axis=-1)

    def predicted(self, probs: Tensor) -> Tensor:
        """The most probable value of each label: integers `(B, *shape)` from probabilities `(B, width)`."""
        if not self.several:
            return ops.argmax(probs, axis=-1)
        return ops.stack([ops.argmax(each, axis=-1) for each in self.split(probs)], axis=-1)

    def check(self, name: str, labels: ArrayLike, num_examples: int | None = None) -> np.ndarray:
        """Checks labels and returns them as int64 of shape `(N, *shape)`.

        Args:
            name: Name of the argument, for error messages.
            labels: Integers of any type, one for each image, or a row for several labels: an array, a tensor, a list or
                a pandas Series. One label may also be a column `(N, 1)`, as from `keras.datasets`.
            num_examples: N, if it is known.

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
            if given.min() == -1 and not self.allow_missing:
                hint = (
                    " If -1 stands for a missing label: only batches for training may hold it, those of "
                    "`data.semi_supervised(..., allow_missing=True)`."
                )
            raise ValueError(
                f"`{name}` run from {given.min()} to {given.max()}; with {self.num_classes} classes they must be "
                f"{lowest} to {highest}.{hint}"
            )
        return given.astype("int64")

    def check_names(self, names: Sequence) -> tuple:
        """Checks names of the classes and returns them as a tuple; for several labels as a tuple of tuples.

        Raises:
            ValueError: Unless each class has a name and no two classes of a label have the same.
        """
        of_labels = tuple(names) if self.several and is_listed(names) else (names,)
        fits = len(of_labels) == len(self.sizes) and all(
            is_listed(each) and len(each) == len({*each}) == size and all(isinstance(n, str) for n in each)
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
        """Checks the probabilities of each label's values and returns them as float64; None gives uniform ones.

        Raises:
            ValueError: Unless those of each label are positive and have the sum 1.
        """
        try:
            given = (
                [np.full(k, 1 / k) for k in self.sizes] if probs is None else [np.asarray(p, "float64") for p in probs]
            )
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` is {probs!r}; it must be one list of probabilities for each label.") from error
        # The probabilities in PartedVAE's paper are rounded to two digits and add up to 0.99.
        fits = all((each > 0).all() and abs(each.sum() - 1) < 0.02 for each in given)
        if tuple(each.size for each in given) != self.sizes or not fits:
            raise ValueError(
                f"`{name}` is {[each.tolist() for each in given]}; it must be one list for each label, with positive "
                f"probabilities whose sum is 1. The labels have {self.sizes} values."
            )
        return given

    def _hint(self, name, given):
        """Advice on how to convert labels of another shape or dtype."""
        name = name if name.isidentifier() else "labels"
        is_rows = given.dtype.kind in "biuf" and given.ndim == 2 and given.shape[1] == self.width
        if self.several and is_rows and self._is_one_hot(given):
            return " They are one-hot, those of all labels side by side: `argmax(axis=-1)` of each label's gives it."
        return hint_of_form(name, given)

    def _is_one_hot(self, rows):
        """Whether each of the rows `(N, width)` is one-hot for each label."""
        ends = np.cumsum(self.sizes)[:-1]
        return all(
            np.isin(part, (0, 1)).all() and (part.sum(axis=-1) == 1).all() for part in np.split(rows, ends, axis=-1)
        )

    def check_rows(self, name: str, rows: Tensor) -> None:
        """Raises ValueError unless the rows `(N, width)` are one-hot labels or probabilities of labels."""
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
                    f"A row of zeros may come from a label out of range: labels are 0 to {part.shape[1] - 1}."
                )

    def check_targets(self, name: str, labels: ArrayLike, num_examples: int | None = None) -> np.ndarray:
        """Checks true labels for an evaluation: integers, as `check` takes them, or one-hot, as in training batches."""
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
    """Labels as an array. A column `(N, 1)` of integers becomes `(N,)`, unless `columns` is True."""
    try:
        given = np.asarray(ops.convert_to_numpy(labels)) if ops.is_tensor(labels) else np.asarray(labels)
    except ValueError as error:  # from NumPy, for rows of different lengths
        raise ValueError(
            f"`{name}` has rows of different lengths; it must be as many integers for each image."
        ) from error
    is_column = given.ndim == 2 and given.shape[1] == 1 and np.issubdtype(given.dtype, np.integer)
    return given[:, 0] if is_column and not columns else given


def hint_of_form(name: str, given: np.ndarray) -> str:
    """Advice on how to convert labels that are not integers, or an empty string."""
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
    """Mixin for a model whose images have labels.

    A subclass sets `labels` and then `class_names`, and keeps both in its configuration. It implements `classify` and
    `sample_latent(labels, seed, scale)`, which draws latent variables of images of these classes from the prior;
    `scale` multiplies its standard deviations. If the values of a label are not equally probable, it has
    `class_priors`: for each label the probabilities of its values.
    """

    labels: Labels
    decode: Callable[[Tensor], Tensor]
    """As `BaseVAE.decode`."""
    sample_latent: Callable[..., Tensor]
    """`sample_latent(labels, seed, scale)`: latent variables of images of these classes, from the prior."""
    latents: dict[str, int]

    @property
    def label_probs(self) -> list[np.ndarray] | None:
        """The probabilities `p(y)` of each label's values; None if they are uniform."""
        priors = getattr(self, "class_priors", None)
        return priors if priors is not None and any(np.ptp(probs) for probs in priors) else None

    @property
    def num_classes(self) -> int | tuple[int, ...]:
        """The number of classes; for several labels a tuple with the number of values of each."""
        return self.labels.num_classes

    @property
    def class_names(self) -> tuple | None:
        """The names of the classes, for several labels the names of each; None if the user gave none."""
        return self._class_names

    @class_names.setter
    def class_names(self, names: Sequence | None) -> None:
        self._class_names = None if names is None else self.labels.check_names(names)

    def classify(self, images: Tensor) -> Tensor:
        """Class probabilities `(B, K)` of images `(B, H, W, C)` in [-1, 1]; several labels side by side."""
        raise NotImplementedError

    def predicted_labels(self, probs: Tensor) -> Tensor:
        """The most probable classes, integers `(B,)` or, for n labels, `(B, n)`, from the output of `classify`."""
        return self.labels.predicted(probs)

    def error_percent(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Percentage of the labels of each image that are predicted wrongly, from 0 to 100: `(B,)`.

        Args:
            probs: Output of `classify`.
            labels: True classes: integers, in the shape of `predicted_labels`, or one-hot, in the shape of `probs`.
        """
        return 100.0 * ops.mean(ops.reshape(self._wrong(probs, labels), (ops.shape(probs)[0], -1)), axis=-1)

    def error_terms(self, probs: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """`error`, the `error_percent` of each image; for n labels also `error_per_label`, 0 or 100, `(B, n)`."""
        terms = {"error": self.error_percent(probs, labels)}
        return {**terms, "error_per_label": 100.0 * self._wrong(probs, labels)} if self.labels.several else terms

    def _wrong(self, probs, labels):
        """1.0 for each wrong label and 0.0 for each right one, in the shape of `predicted_labels`."""
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
        """Converts true labels of an evaluation, integers or one-hot, to one-hot rows `(B, width)`."""
        if not is_symbolic(labels):
            labels = ops.convert_to_tensor(self.labels.check_targets("labels", labels, num_images))
        if len(labels.shape) == 2 and labels.shape[-1] == self.labels.width and labels.shape[1:] != self.labels.shape:
            return ops.cast(labels, "float32")
        return self.labels.one_hot(ops.cast(labels, "int32"))

    def generate(self, labels: Tensor | int, seed: int | Tensor, scale: float = 1.0) -> Tensor:
        """Generates images from the prior, of given classes or of classes drawn from `p(y)`.

        Args:
            labels: Class of each image, integers `(B,)`, or `(B, n)` for n labels. A single integer is the number B of
                images of random classes.
            seed: An integer; the same seed gives the same images. For given classes also a tensor with one seed for
                each image. Each image then depends only on its label and its seed.
            scale: Factor of the standard deviations of the prior, given the class: 1 draws from the prior, 0 takes its
                mean.

        Returns:
            `(B, H, W, C)` in [-1, 1].

        Raises:
            ValueError: If a label is out of range, the labels have another shape, or `scale` is negative.
        """
        if not (isinstance(scale, numbers.Real) and 0 <= scale < math.inf):
            raise ValueError(f"`scale` is {scale!r}; it must be a finite number, 0 or more.")
        if is_integer(labels):
            if labels < 0:
                raise ValueError(f"`labels` is {labels}; as a number of images it must be 0 or more.")
            labels = self.sample_labels(int(labels), seed)
        elif not is_symbolic(labels):
            labels = self.labels.check("labels", labels)
        further = {} if scale == 1 else {"scale": scale}  # a subclass may draw at scale 1 alone
        return self.decode(self.sample_latent(ops.cast(ops.convert_to_tensor(labels), "int32"), seed, **further))

    def coordinates(self, part: str, label: int) -> list[int]:
        """Indices of the latent variables that belong to a part and affect the images of a class.

        Args:
            part: Name of the part, a key of `latents`.
            label: The class.

        Returns:
            Indices into all latent variables `(..., d)`.

        Raises:
            ValueError: If there is no such part.
        """
        if part not in self.latents:
            raise ValueError(f"`part` is {part!r}; it must be one of {list(self.latents)}.")
        names = list(self.latents)
        start = sum(self.latents[name] for name in names[: names.index(part)])
        return list(range(start, start + self.latents[part]))

    def sample_labels(self, n: int, seed: int | Tensor) -> Tensor:
        """Draws labels of n images from `p(y)`: int32 `(n,)`, or for several labels `(n, labels)`."""
        stream = Stream(seed, 0, "labels")
        if stream.rows() is not None:
            raise ValueError("`seed` holds a seed for each image; give the `labels` of these images, not their number.")
        if self.label_probs is None:
            drawn = [keras.random.randint((n,), 0, size, dtype="int32", seed=stream) for size in self.labels.sizes]
        else:
            logits = [np.log(probs)[None].astype("float32") for probs in self.label_probs]
            drawn = [keras.random.categorical(each, n, dtype="int32", seed=stream)[0] for each in logits]
        return ops.stack(drawn, axis=-1) if self.labels.several else drawn[0]
