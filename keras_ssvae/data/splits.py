"""Splits of a training set into labelled, unlabelled and validation images."""

import math
from dataclasses import dataclass

import numpy as np

from keras_ssvae.checks import check_whole_number
from keras_ssvae.data.checks import check_indices, warn_if_uneven
from keras_ssvae.models.labels import Labels, as_integers, hint_of_form

_UNLABELED = ("all", "all_but_validation", "rest")


@dataclass(frozen=True, eq=False)
class Split:
    """Index arrays (int64) into a training set.

    Attributes:
        labeled: Images whose labels the model sees.
        unlabeled: Images that the model sees without labels, in ascending order. They may include the labelled and the
            validation images; see the argument `unlabeled` of `split`.
        validation: Labelled images held out for validation, disjoint from `labeled`.
    """

    labeled: np.ndarray
    unlabeled: np.ndarray
    validation: np.ndarray

    def __repr__(self) -> str:
        labeled, unlabeled, validation = map(len, (self.labeled, self.unlabeled, self.validation))
        return f"<Split: {labeled} labeled, {unlabeled} unlabeled and {validation} validation images>"


def split(
    labels,
    num_labeled: int | None,
    num_validation: int,
    seed: int,
    labeled_indices=None,
    unlabeled: str = "all",
    stratify: str = "equal",
) -> Split:
    """Draws the labelled and the validation images of a training set, equally or proportionally from all classes.

    The set is shuffled once. In this order the first `num_validation / K` images of each class are validation images,
    and the next `num_labeled / K` are labelled. So the validation set stays the same if the number of labelled images
    changes. If `num_labeled` is not a multiple of K, the classes that come first in the order get one image more. Both
    index arrays are in the shuffled order. The argument `unlabeled` defines the unlabelled images.

    Args:
        labels: Integers of shape `(N,)` or `(N, 1)`, the classes 0 to K - 1 of the training images; every class occurs.
        num_labeled: Number of labelled images, at least K; 0 for none. With `labeled_indices` either `None` or their
            number.
        num_validation: Number of images held out for validation, a multiple of K; may be 0.
        seed: Seed of the shuffle, an integer of at least 0.
        labeled_indices: Optional indices of the labelled images, at least one of every class. Their order is kept,
            and the validation images are drawn from the rest.
        unlabeled: Which images the model sees without labels. `"all"`: every training image, including the labelled and
            the validation ones, as in EXoN's code. `"all_but_validation"`: including the labelled ones, so that the
            model never trains on a validation image. `"rest"`: those that are neither labelled nor held out, as in
            REVAE's code.
        stratify: `"equal"`: each class has the same number of labelled images, and of validation images.
            `"proportional"`: each class has its share of all images, rounded so that the numbers add up, with at least
            one labelled image. Neither number then needs to be a multiple of K.

    Returns:
        A `Split`.

    Raises:
        ValueError: If the numbers do not fit the data, or an index is wrong.

    Example:

    >>> labels = np.repeat(np.arange(10), 100)
    >>> parts = split(labels, num_labeled=100, num_validation=50, seed=1)
    >>> len(parts.labeled), len(parts.unlabeled), len(parts.validation)
    (100, 1000, 50)

    Reference: [An, Choi, Jeon, 2022](https://arxiv.org/abs/2105.10867), Section 4.
    """
    labels = _check_labels(labels)
    if unlabeled not in _UNLABELED:
        raise ValueError(f"`unlabeled` is {unlabeled!r}. It must be one of {', '.join(map(repr, _UNLABELED))}.")
    if stratify not in ("equal", "proportional"):
        raise ValueError(f'`stratify` is {stratify!r}. It must be "equal" or "proportional".')
    num_classes = int(labels.max()) + 1
    sizes = np.bincount(labels)
    if stratify == "equal":
        warn_if_uneven("labels", sizes, '`stratify="proportional"` draws of each class its share.')
        validation_each = np.full(num_classes, _per_class("num_validation", num_validation, num_classes, minimum=0))
    else:
        check_whole_number("num_validation", num_validation, 0)
        validation_each = _shares("num_validation", num_validation, sizes, least=0)
    check_whole_number("seed", seed, 0)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    if labeled_indices is None:
        check_whole_number("num_labeled", num_labeled, num_classes if num_labeled else 0)
        assert num_labeled is not None  # it passed the check
        if stratify == "equal":
            labeled_each = np.full(num_classes, math.ceil(num_labeled / num_classes))
        else:
            labeled_each = _shares("num_labeled", num_labeled, sizes, least=1 if num_labeled else 0)
        given = np.empty(0, np.int64)
    else:
        labeled_each = np.zeros(num_classes, np.int64)
        given = _check_labeled_indices(labeled_indices, labels, num_classes)
        if num_labeled is not None and num_labeled != len(given):
            raise ValueError(
                f"`num_labeled` is {num_labeled}, but `labeled_indices` holds {len(given)} indices. Make the two "
                "agree, or pass `num_labeled=None`."
            )
        order = order[~np.isin(order, given)]
    counts = np.bincount(labels[order], minlength=num_classes)
    smallest = int((counts - validation_each - labeled_each).argmin())
    if validation_each[smallest] + labeled_each[smallest] > counts[smallest]:
        of_class, hint = f"class {smallest}", "."
        if stratify == "equal":
            of_class, hint = "every class", ', or set `stratify="proportional"`.'
        raise ValueError(
            f"`num_validation` = {num_validation} and `num_labeled` = {num_labeled} take {validation_each[smallest]} "
            f"and {labeled_each[smallest]} images of {of_class}, but only {counts[smallest]} images of class "
            f"{smallest} are available. Ask for fewer{hint}"
        )
    rank = np.empty(len(order), np.int64)
    for k in range(num_classes):
        rank[labels[order] == k] = np.arange(counts[k])
    classes = labels[order]
    held_out = rank < validation_each[classes]
    validation = order[held_out]
    if labeled_indices is not None:
        labeled = given
    elif stratify == "equal":
        by_rank = np.argsort(np.where(held_out, len(order), rank), kind="stable")
        labeled = order[np.sort(by_rank[: num_labeled or 0])]
    else:
        labeled = order[~held_out & (rank < (validation_each + labeled_each)[classes])]
    left_out = {"all": [], "all_but_validation": [validation], "rest": [labeled, validation]}[unlabeled]
    shown = np.ones(len(labels), bool)
    for indices in left_out:
        shown[indices] = False
    return Split(labeled=labeled, unlabeled=np.flatnonzero(shown).astype(np.int64), validation=validation)


def _per_class(name, total, num_classes, minimum):
    check_whole_number(name, total, minimum)
    if total % num_classes:
        raise ValueError(
            f"`{name}` is {total}. It must be a multiple of the number of classes, {num_classes}, because every class "
            "gets the same share."
        )
    return total // num_classes


def _shares(name, total, sizes, least):
    """Divides `total` images among the classes in proportion to their sizes, with at least `least` for each.

    Rounding uses the largest remainder method.
    """
    if total > sizes.sum():
        raise ValueError(f"`{name}` is {total}. There are {sizes.sum()} images.")
    exact = sizes * (total / sizes.sum())
    shares = np.maximum(np.floor(exact).astype(np.int64), least)
    while shares.sum() != total:
        step = 1 if shares.sum() < total else -1
        # A class that has only its least number gives none away.
        missing = np.where((step < 0) & (shares <= least), -np.inf, step * (exact - shares))
        shares[missing.argmax()] += step
    return shares


def class_frequencies(labels, num_classes: int) -> np.ndarray:
    """Computes the shares of the classes among labelled images, for the class prior of a model.

    One is added to the count of each class, so that no class has the probability 0.

    Args:
        labels: Integers of shape `(N,)` or `(N, 1)`, from 0 to `num_classes - 1`.
        num_classes: Number of classes K.

    Returns:
        float64 of shape `(K,)`, with the sum 1.

    Raises:
        ValueError: If a label is not an integer, or out of range.

    Example:

    >>> shares = class_frequencies(data.train_labels[parts.labeled], 10)
    >>> circle = priors.circle()
    >>> EXoN(prior=priors.GaussianMixture(circle.means, circle.variances, weights=shares))
    >>> PartedVAE(class_priors=[shares])
    """
    counts = np.bincount(Labels(num_classes).check("labels", labels), minlength=num_classes) + 1
    return counts / counts.sum()


def _check_labels(labels):
    labels = as_integers("labels", labels)
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"`labels` has shape {labels.shape} and dtype {labels.dtype}. It must be a one-dimensional array of "
            "integers, one class for each training image."
            f"{hint_of_form('labels', labels)}"
        )
    if labels.min() < 0:
        raise ValueError(f"`labels` holds {labels.min()}. Classes are counted from 0.")
    missing = np.setdiff1d(np.arange(int(labels.max()) + 1), labels)
    if len(missing):
        raise ValueError(
            f"`labels` goes up to {labels.max()}, but no image has the class {missing[0]}. Every class from 0 to the "
            "largest must occur."
        )
    return labels.astype(np.int64)


def _check_labeled_indices(indices, labels, num_classes):
    indices = check_indices("labeled_indices", indices, len(labels))
    missing = np.setdiff1d(np.arange(num_classes), labels[indices])
    if len(missing):
        raise ValueError(
            f"`labeled_indices` names no image of class {missing[0]}. Every one of the {num_classes} classes needs at "
            "least one labelled image."
        )
    return indices
