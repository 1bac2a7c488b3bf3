"""A prior with your own positions of the classes, from a dictionary or a JSON file."""

import difflib
import json
import os
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.priors.mixture import GaussianMixture, bhattacharyya_coefficients
from keras_ssvae.priors.paper import PAPER_VARIANCE

MAX_OVERLAP = 0.14  # neighbours on EXoN's circle have a Bhattacharyya coefficient of exp(-2) = 0.135
_NAMED = 5  # labels or pairs that a message names


def from_layout(
    layout: Mapping[Any, Any] | str | PathLike | IO[bytes],
    variance: ArrayLike = PAPER_VARIANCE,
    class_names: Sequence[str] | None = None,
    max_overlap: float = MAX_OVERLAP,
) -> GaussianMixture:
    """Places the classes at positions of your own, given by a dictionary or a JSON file.

    `plots.prior` draws the result, if it has at least two dimensions.

    Args:
        layout: A dictionary with an entry for each of K labels. An entry is a position, which is a list of d numbers,
            or `{"mean": position, "variance": number or list of d numbers}`. Or a JSON file that holds such an object:
            its path, or the open file.
        variance: The variance of labels without a variance of their own: a scalar or (d,).
        class_names: The K labels in the order of their classes, such as `data.load(...).class_names`. By default,
            labels 0 to K - 1 are the numbers of the classes, and other labels are numbered in the order of the layout.
        max_overlap: The largest Bhattacharyya coefficient of two classes that gives no warning, from 0 to 1.

    Returns:
        A `GaussianMixture` with K components in d dimensions.

    Raises:
        ValueError: If the file cannot be read, the labels are not those of `class_names`, a position is not a list of
            d numbers, or a variance is not positive.

    Warns:
        UserWarning: If classes overlap more than `max_overlap`; it names the pairs.

    Example:

    ```python
    layout = {"cat": [-6, 0], "dog": [6, 0], "truck": {"mean": [0, 20], "variance": 9}}
    prior = from_layout(layout, class_names=["truck", "cat", "dog"])
    ```
    """
    if not 0 <= max_overlap <= 1:
        raise ValueError(f"`max_overlap` is {max_overlap}; it must be from 0 to 1.")
    source, entries = _read_layout(layout)
    labels = _in_order(source, list(entries), class_names)
    means: list[np.ndarray] = []
    variances: list[np.ndarray] = []
    for label in labels:
        mean, own_variance = _parse_entry(source, label, entries[label], variance)
        if means and len(mean) != len(means[0]):
            raise ValueError(
                f"{source} gives {labels[0]!r} {len(means[0])} coordinates and {label!r} {len(mean)}; all positions "
                "must have the same number."
            )
        means.append(mean)
        variances.append(np.broadcast_to(own_variance, mean.shape))
    prior = GaussianMixture(means, variances)
    _warn_of_overlap(source, labels, prior, max_overlap)
    return prior


def _read_layout(layout):
    """The name of the layout for messages, and a dictionary label -> entry. All labels become texts, as in JSON."""
    source = "`layout`"
    is_path = isinstance(layout, str | PathLike)
    if is_path or hasattr(layout, "read"):
        source = os.fspath(layout) if is_path else getattr(layout, "name", source)
        try:
            content = Path(layout).read_bytes() if is_path else layout.read()
            layout = json.loads(content, object_pairs_hook=_without_duplicates)
        except OSError as error:
            raise ValueError(f"{source} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{source} is not a layout in JSON: {error}.") from error
    if not isinstance(layout, Mapping):
        path = ", or the path of a JSON file that holds one" if source == "`layout`" else ""
        raise ValueError(f"{source} is {reprlib.repr(layout)}; it must be a dictionary, label to position{path}.")
    if not layout:
        raise ValueError(f"{source} is empty; it must give at least one label a position.")
    entries = {str(label): entry for label, entry in layout.items()}
    if len(entries) < len(layout):
        raise ValueError(f"{source} has two labels with the same text, such as 0 and '0'; all texts must differ.")
    return source, entries


def _without_duplicates(pairs):
    result = dict(pairs)
    if len(result) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it has {next(name for name in names if names.count(name) > 1)!r} twice")
    return result


def _in_order(source, labels, class_names):
    if class_names is None:
        numbers = [str(k) for k in range(len(labels))]
        return numbers if set(labels) == set(numbers) else labels
    names = [str(name) for name in class_names]
    if len(set(names)) < len(names):
        raise ValueError(f"`class_names` is {reprlib.repr(names)}; no name may appear twice.")
    missing = [name for name in names if name not in labels]
    unknown = [repr(label) + _nearest(label, missing) for label in labels if label not in names]
    wrong = [f"lacks {_some([repr(name) for name in missing])}"] if missing else []
    wrong += [f"names the unknown {_some(unknown)}"] if unknown else []
    if wrong:
        raise ValueError(
            f"{source} {' and '.join(wrong)}; it must have one entry for each of the {len(names)} classes, by its name."
        )
    return names


def _nearest(label, names):
    by_lower = {name.lower(): name for name in names}
    nearest = difflib.get_close_matches(label.lower(), by_lower, n=1)
    return f" (for {by_lower[nearest[0]]!r}?)" if nearest else ""


def _some(texts):
    more = [f"{len(texts) - _NAMED} more"] if len(texts) > _NAMED else []
    *first, last = texts[:_NAMED] + more
    return f"{', '.join(first)} and {last}" if first else last


def _parse_entry(source, label, entry, variance):
    """The position (d,) and the variance, () or (d,), of a label."""
    of_variance = "`variance`"
    if isinstance(entry, Mapping):
        if "mean" not in entry or set(entry) - {"mean", "variance"}:
            raise ValueError(
                f"{source} gives {label!r} the entries {_some([repr(name) for name in entry]) if entry else 'none'}; "
                "it must have 'mean', may have 'variance', and must have nothing else."
            )
        if "variance" in entry:
            of_variance, variance = f"{source}: the variance of {label!r}", entry["variance"]
        entry = entry["mean"]
    mean = _finite(entry)
    if mean is None or mean.ndim != 1 or mean.size == 0:
        raise ValueError(
            f"{source}: the position of {label!r} is {reprlib.repr(entry)}; it must be a list of finite numbers."
        )
    given = _finite(variance)
    if given is None or given.shape not in ((), mean.shape) or not (given > 0).all():
        raise ValueError(
            f"{of_variance} is {reprlib.repr(variance)}; it must be a positive number, or a list of {len(mean)}, "
            "one for each dimension."
        )
    return mean, given


def _finite(value):
    """The value as an array of finite float32 numbers. None if it is anything else, also a text of digits."""
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        return None
    if array.dtype.kind not in "iuf":
        return None
    with np.errstate(over="ignore"):
        array = array.astype("float32")
    return array if np.isfinite(array).all() else None


def _warn_of_overlap(source, labels, prior, max_overlap):
    overlap = np.triu(bhattacharyya_coefficients(prior), 1)
    pairs = sorted(np.argwhere(overlap > max_overlap).tolist(), key=lambda pair: -overlap[*pair])
    if pairs:
        named = [f"{labels[k]!r} with {labels[m]!r} ({overlap[k, m]:.3g})" for k, m in pairs]
        warnings.warn(
            f"{source} has classes that overlap: {_some(named)}. The number is the Bhattacharyya coefficient; it "
            f"should be at most {max_overlap:g}. Move the positions apart, or make the variances smaller.",
            stacklevel=3,
        )
