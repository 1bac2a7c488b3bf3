"""The categories that a model finds without labels: how many it uses, and which labels they stand for."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import check_probabilities, image_batches
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.capabilities import require_clusters
from keras_ssvae.pixels import trusted


def clusters(model: keras.Model, images: ArrayLike, batch_size: int = 500) -> np.ndarray:
    """The probabilities of the categories for many images, `q(c | x)`, computed batch by batch.

    Args:
        model: A model that finds categories, such as `CPVAE`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        batch_size: Number of images in a batch.

    Returns:
        A float32 array of shape (N, K).

    Raises:
        ValueError: If the model finds no categories, or the images are not as described.

    Example:

    ```python
    probs = clusters(model, data.train_images)
    print(category_use(probs).perplexity)
    ```
    """
    require_clusters(model, "evaluation.clusters")
    with trusted():
        return np.concatenate(
            [as_float32(model.clusters(ops.convert_to_tensor(x))) for x in image_batches(images, batch_size)]
        )


class CategoryUse(NamedTuple):
    """The number of categories that a model uses, measured by `q(c)`, the mean of `q(c | x)` over the images.

    Attributes:
        in_use: Number of categories with `q(c) > 1/K`. It is 0 if all K categories are equally probable.
        perplexity: `exp(H(q(c)))`, from 1 (one category only) to K (all equally probable).
    """

    in_use: int
    perplexity: float


def category_use(probs: ArrayLike) -> CategoryUse:
    """Measures how many categories a model uses.

    Args:
        probs: `q(c | x)` of N images, (N, K), such as `clusters` returns.

    Returns:
        A `CategoryUse`.

    Raises:
        ValueError: If `probs` holds no probabilities.

    Reference: CP-VAE, Figure 9, and Section 6.2.
    """
    probs = _checked(probs)
    marginal = probs.mean(axis=0, dtype="float64")
    positive = marginal[marginal > 0]
    return CategoryUse(int(above_uniform(marginal).sum()), float(np.exp(-(positive * np.log(positive)).sum())))


def above_uniform(marginal: np.ndarray) -> np.ndarray:
    """Which of K probabilities are above 1/K, by more than rounding. If all are equal, none is, unless K is 1."""
    return marginal > ((1 + 1e-6) / len(marginal) if len(marginal) > 1 else 0)


def category_probs_by_label(probs: ArrayLike, labels: ArrayLike) -> dict[int, np.ndarray]:
    """The mean of `q(c | x)` over the images of each label.

    Args:
        probs: `q(c | x)` of N images, (N, K).
        labels: Their labels, integers (N,).

    Returns:
        A dictionary: label -> float64 array of shape (K,), for each label that occurs, in ascending order.

    Raises:
        ValueError: If the arguments are not as described.

    Reference: CP-VAE, Figures 10 to 12, A2 and A5.
    """
    probs, labels = _checked(probs), np.asarray(labels)
    if labels.shape != probs.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` is {labels.dtype} of shape {labels.shape}; it must be an integer for each of the {len(probs)} "
            "images."
        )
    return {int(label): probs[labels == label].mean(axis=0, dtype="float64") for label in np.unique(labels)}


def likeliest_categories(probs: ArrayLike, labels: ArrayLike, n: int = 5) -> dict[int, list[int]]:
    """The most probable categories of the images of each label.

    Args:
        probs: `q(c | x)` of N images, (N, K).
        labels: Their labels, integers (N,).
        n: Number of categories for each label, at most K.

    Returns:
        A dictionary: label -> list of n categories, the most probable first.

    Raises:
        ValueError: If the arguments are not as described.

    Example:

    ```python
    found = likeliest_categories(clusters(model, data.train_images), data.train_labels)
    print(found[3], category_overlap(found.values()))
    ```

    Reference: CP-VAE, Tables 2 and A1.
    """
    n = check_whole_number("n", n, 1)
    by_label = category_probs_by_label(probs, labels)
    return {label: np.argsort(-each, kind="stable")[:n].tolist() for label, each in by_label.items()}


class CategoryOverlap(NamedTuple):
    """The overlap of the most probable categories of the labels.

    Attributes:
        distinct: Number of different categories in the lists of all labels.
        shared: Number of categories that are in the lists of several labels.
    """

    distinct: int
    shared: int


def category_overlap(likeliest: Mapping[int, Iterable[int]] | Iterable[Iterable[int]]) -> CategoryOverlap:
    """Measures how much labels share their most probable categories.

    Args:
        likeliest: The categories of each label, such as `likeliest_categories` returns.

    Returns:
        A `CategoryOverlap`.

    Reference: CP-VAE, Tables 2 and A1, where shared categories are in bold face.
    """
    rows = likeliest.values() if isinstance(likeliest, Mapping) else likeliest
    categories = [category for row in rows for category in set(row)]
    counts = [categories.count(category) for category in set(categories)]
    return CategoryOverlap(len(counts), sum(count > 1 for count in counts))


def _checked(probs: ArrayLike) -> np.ndarray:
    probs = np.asarray(probs)
    if probs.ndim != 2 or not probs.size:
        raise ValueError(f"`probs` has shape {probs.shape}; it must be (images, categories), at least one of each.")
    check_probabilities("`probs` holds", probs)
    return probs
