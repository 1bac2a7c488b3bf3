"""Which training images are labelled, unlabelled and held out for validation."""

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
        labeled: The images whose labels are shown to the model.
        unlabeled: The images that are shown without their labels, in ascending order. The argument of that name says
            which they are: the labelled and the validation images may be among them.
        validation: The images that are held out with their labels, disjoint from `labeled`.
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
    """Draws the labelled and the validation images of a training set, the same number from every class, or its share.

    The set is shuffled once. Of every class, the first `num_validation / K` images of that order are validation
    images and the next `num_labeled / K` are labelled, so the validation set stays the same when the number of
    labelled images changes. Where `num_labeled` is no multiple of K, the classes that come first in the order have one
    image more. Both index arrays are in the shuffled order. The unlabelled images are the rest, or include the others.

    Args:
        labels: Integers of shape `(N,)` or `(N, 1)`, the classes 0 to K - 1 of the training images; every class occurs.
        num_labeled: How many images are labelled, at least K; 0 for none at all. With `labeled_indices` either
            `None` or their number.
        num_validation: How many images are held out for validation, a multiple of K; may be 0.
        seed: Seed of the shuffle, an integer of at least 0.
        labeled_indices: Optional indices of the labelled images, at least one of every class. Their order is kept,
            and the validation images are drawn from the rest.
        unlabeled: Which images are shown without their labels. `"all"`: every training image, the labelled and the
            validation ones included, as in EXoN's code. `"all_but_validation"`: the labelled ones included, so that no
            validation image is ever trained on. `"rest"`: those that are neither labelled nor held out, as in REVAE's.
        stratify: `"equal"`: as many labelled images of each class, and as many validation images. `"proportional"`: of
            each class its share of all images, rounded such that the numbers add up, and of the labelled ones at least
            one; then neither number needs to be a multiple of K.

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
        assert num_labeled is not None  # since it passed the check
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
    """`total` images divided among the classes as their sizes are, by the largest remainder, and `least` of each."""
    if total > sizes.sum():
        raise ValueError(f"`{name}` is {total}. There are {sizes.sum()} images.")
    exact = sizes * (total / sizes.sum())
    shares = np.maximum(np.floor(exact).astype(np.int64), least)
    while shares.sum() != total:
        step = 1 if shares.sum() < total else -1
        # A class that has no more than it must have gives none away.
        missing = np.where((step < 0) & (shares <= least), -np.inf, step * (exact - shares))
        shares[missing.argmax()] += step
    return shares


def class_frequencies(labels, num_classes: int) -> np.ndarray:
    """The shares of the classes among labelled images, for the prior of the classes of a model.

    Each class is counted once more than it occurs, so that none has the probability 0.

    Args:
        labels: Integers of shape `(N,)` or `(N, 1)`, from 0 to `num_classes - 1`.
        num_classes: The number of classes K.

    Returns:
        float64 of shape `(K,)`, with the sum 1.

    Raises:
        ValueError: If a label is no integer, or out of range.

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
