"""Checks whether classes lie where the prior puts them, and whether images generated there belong to the class."""

import functools
from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import chi2

from keras_ssvae.backend import inference
from keras_ssvae.checks import generator
from keras_ssvae.evaluation.inputs import labeled_batches
from keras_ssvae.models.batched import as_float32, decode_batches
from keras_ssvae.models.capabilities import Decodes, require_class_prior
from keras_ssvae.pixels import trusted
from keras_ssvae.priors import GaussianMixture

GENERATED = 2000  # images, over all classes
_REACH = 1.5  # standard deviations in a plane; in other dimensions the ellipsoid with the same mass of the prior
_NEIGHBORS = 5
_JUDGED = 2000  # given images that test the independent classifier
_KEPT = 10_000  # most images that the independent classifier keeps, and most of their pixels: 30 MB
_PIXELS_KEPT = _KEPT * 28 * 28


class Places(NamedTuple):
    """Where the images of each class lie, relative to the place of the class in the prior; see `places`.

    The place of a class is the mean of its component of the prior.

    Attributes:
        place_distance_per_class: Distance from the class's place to the median of its images, in standard deviations of
            the component.
        nearest_place_percent: Percentage of the correctly classified images whose nearest place is that of their own
            class.
        nearest_place_percent_per_class: The same by class.
        misplaced_classes: The classes that are not at their places. A class is misplaced if the median of its images is
            more than 1.5 standard deviations away, or if fewer than half of its correctly classified images are nearest
            to its own place. The limit of 1.5 is for d = 2; in other dimensions it is that of the ellipsoid with the
            same mass of the component.
        generated_right_percent: Percentage of the images generated for a class that the model's own classifier assigns
            to it. This and the next four are None if the model does not decode, or not to the given images' shape.
        generated_right_percent_per_class: The same by class.
        generated_right_percent_independent: The same, by the independent classifier.
        generated_right_percent_independent_per_class: The same by class.
        independent_right_percent: Percentage of the given images that the independent classifier classifies correctly.
    """

    place_distance_per_class: list[float | None]
    nearest_place_percent: float | None
    nearest_place_percent_per_class: list[float | None]
    misplaced_classes: list[int]
    generated_right_percent: float | None
    generated_right_percent_per_class: list[float | None]
    generated_right_percent_independent: float | None
    generated_right_percent_independent_per_class: list[float | None]
    independent_right_percent: float | None


NUMBERS = tuple(name for name, kind in Places.__annotations__.items() if kind == float | None)


def places(
    model: keras.Model,
    data: ArrayLike | Iterable,
    labels: ArrayLike | None = None,
    classifier: keras.Model | None = None,
    batch_size: int = 500,
) -> Places:
    """Checks whether each class lies where the prior puts it, and whether images generated there belong to the class.

    The position of an image is the posterior mean of its most probable component, as in `EXoN.encode`. Distances are in
    standard deviations of the component from which they are measured. 2,000 images are generated, equally many of each
    class, at points of a fixed seed, drawn as in `generate`.

    The model's own classifier may share an error with its decoder. So an independent classifier also judges the
    generated images: your `classifier`, or by default the majority of the five given images that are nearest, pixel by
    pixel. Nearest neighbours judge digits well, and photographs poorly. `independent_right_percent` measures how well,
    by comparing each given image with the others.

    Args:
        model: A model with one component of the prior for each class and a decoder, such as `EXoN`. Calling it must
            return `mean`, `logvar` and `probs`.
        data: Images, shape (N, H, W, C): uint8, or floats scaled to [-1, 1]. Without `labels`, an iterable of batches
            `(images, labels)`, which must be finite.
        labels: True classes, integers of shape (N,).
        classifier: A Keras model that maps images in [-1, 1] to class probabilities. Default: nearest neighbours among
            `data`.
        batch_size: Number of images in a batch.

    Returns:
        A `Places`. The entry of a class is None if it has no images, or no correctly classified ones.

    Raises:
        ValueError: If the model has no such prior, or images or labels are not as described.

    Example:

    ```python
    found = places(model, data.test_images, data.test_labels)
    print(found.nearest_place_percent, found.generated_right_percent, found.misplaced_classes)
    ```
    """
    prior = require_class_prior(model, "places", "Only a prior that is designed has places.")
    infer, judge = inference(model), Judge(prior.num_classes, classifier)
    collected: dict[str, list[np.ndarray]] = {"mean": [], "probs": [], "labels": []}
    for images, of_images in labeled_batches(data, labels, prior.num_classes, batch_size):
        judge.see(images, of_images)
        with trusted():
            outputs = infer(images)
        for name in ("mean", "probs"):
            collected[name].append(as_float32(outputs[name]))
        collected["labels"].append(of_images)
    mean, probs, all_labels = map(np.concatenate, collected.values())
    return of_outputs(model, prior, mean, probs, all_labels, judge, batch_size)


def of_outputs(
    model: keras.Model,
    prior: GaussianMixture,
    mean: np.ndarray,
    probs: np.ndarray,
    labels: np.ndarray,
    judge: "Judge",
    batch_size: int,
) -> Places:
    """As `places`, from outputs of the model for the images: `mean` (N, K, d), `probs` (N, K), `labels` (N,)."""
    classes, predicted = range(prior.num_classes), probs.argmax(axis=1)
    z, deviations = mean[np.arange(len(mean)), predicted], np.sqrt(prior.variances)
    medians = [np.median(z[labels == k], axis=0) if (labels == k).any() else None for k in classes]
    distances = [
        None if median is None else float(np.linalg.norm((median - prior.means[k]) / deviations[k]))
        for k, median in enumerate(medians)
    ]
    is_right = predicted == labels
    nearest = _nearest(z, prior.means, deviations) == labels
    nearest_per_class = [_percent(nearest[is_right & (labels == k)]) for k in classes]
    reach = np.sqrt(chi2.ppf(chi2.cdf(_REACH**2, 2), prior.latent_dim))
    misplaced = [
        k
        for k in classes
        if (distances[k] or 0.0) > reach or (nearest_per_class[k] is not None and nearest_per_class[k] < 50.0)
    ]
    own, independent, of_images = _generated(model, prior, judge, batch_size)
    return Places(
        distances,
        _percent(nearest[is_right]),
        nearest_per_class,
        misplaced,
        _mean(own),
        own,
        _mean(independent),
        independent,
        of_images,
    )


def _nearest(z, means, deviations):
    """The component whose mean is nearest to each point, in the component's own standard deviations."""
    distances = [np.linalg.norm((z - m) / s, axis=1) for m, s in zip(means, deviations, strict=True)]
    return np.argmin(distances, axis=0)


def _generated(model, prior, judge, batch_size):
    """The percentages of generated images that both classifiers find right, and that of the second on given images."""
    nothing = [None] * prior.num_classes, [None] * prior.num_classes, None
    if not isinstance(model, Decodes):
        return nothing
    labels = np.repeat(np.arange(prior.num_classes), max(1, GENERATED // prior.num_classes))
    noise = generator(0).standard_normal((len(labels), prior.latent_dim), dtype=np.float32)
    images = decode_batches(model, prior.means[labels] + np.sqrt(prior.variances[labels]) * noise, batch_size)
    if images.shape[1:] != judge.image_shape:
        return nothing
    with trusted():  # the decoder's own range
        by_model = _predicted(inference(model), images, batch_size, "probs")
    return (
        [_percent(by_model[labels == k] == k) for k in range(prior.num_classes)],
        [_percent(each == k) for k, each in enumerate(np.split(judge.predict(images), prior.num_classes))],
        judge.right_percent(),
    )


def _predicted(classify, images, batch_size, output=None):
    """The most probable classes of images."""
    parts = []
    for start in range(0, len(images), batch_size):
        outputs = classify(images[start : start + batch_size])
        parts.append(as_float32(outputs if output is None else outputs[output]).argmax(axis=1))
    return np.concatenate(parts)


def _percent(right):
    return float(100.0 * np.mean(right)) if len(right) else None


def _mean(percents):
    known = [each for each in percents if each is not None]
    return float(np.mean(known)) if known else None


class Judge:
    """The independent classifier of `places`: a Keras model, or the nearest neighbours among the images it has seen.

    Args:
        num_classes: Number of classes K.
        classifier: The Keras model. None: nearest neighbours.
    """

    def __init__(self, num_classes: int, classifier: keras.Model | None = None):
        self.num_classes, self.classifier = num_classes, classifier
        self._images: list[np.ndarray] = []
        self._labels: list[np.ndarray] = []
        self._counts = np.zeros(num_classes, int)

    def see(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Keeps the first images `(B, H, W, C)` of each class, up to the same number for each class."""
        most = max(1, min(_KEPT, _PIXELS_KEPT // images[0].size) // self.num_classes)
        keep = np.zeros(len(labels), bool)
        for k in np.unique(labels):
            keep[np.flatnonzero(labels == k)[: most - self._counts[k]]] = True
        self._counts += np.bincount(labels[keep], minlength=self.num_classes)
        self._images.append(images[keep])
        self._labels.append(labels[keep])

    @property
    def image_shape(self) -> tuple[int, ...]:
        """The shape of the images that it has seen."""
        return self._images[0].shape[1:]

    def predict(self, images: np.ndarray) -> np.ndarray:
        """The classes of images that it has not seen."""
        if self.classifier is not None:
            return _predicted(inference(self.classifier), images, 500)
        return self._vote(self._neighbors(images, _NEIGHBORS))

    def right_percent(self) -> float | None:
        """The percentage of the seen images that it classifies correctly, each by the other ones."""
        images, labels = self._seen
        rows = np.unique(np.linspace(0, len(images) - 1, _JUDGED).astype(int))
        if self.classifier is not None:
            return _percent(self.predict(images[rows]) == labels[rows])
        if len(images) == 1:
            return None
        found = self._neighbors(images[rows], _NEIGHBORS + 1)
        # Remove the image itself, which is the first neighbour unless there are copies of it.
        itself = found == rows[:, None]
        itself[~itself.any(axis=1), -1] = True
        others = found[~itself].reshape(len(rows), -1)
        return _percent(self._vote(others) == labels[rows])

    # The following must be called only after all images were seen.

    @functools.cached_property
    def _seen(self):
        return np.concatenate(self._images), np.concatenate(self._labels)

    @functools.cached_property
    def _search(self):
        from sklearn.neighbors import NearestNeighbors  # slow to import

        images, _ = self._seen
        return NearestNeighbors(algorithm="brute").fit(images.reshape(len(images), -1))

    def _neighbors(self, images, number):
        number = min(number, len(self._seen[0]))
        return self._search.kneighbors(images.reshape(len(images), -1), number, return_distance=False)

    def _vote(self, neighbors):
        """The class of most of the neighbours `(B, n)`; with a tie, that of the nearest neighbour among them."""
        labels = self._seen[1][neighbors]
        votes = (labels[:, :, None] == np.arange(self.num_classes)).sum(axis=1)
        of_each = np.take_along_axis(votes, labels, axis=1)  # (B, n): the votes for each neighbour's class
        return np.take_along_axis(labels, of_each.argmax(axis=1)[:, None], axis=1)[:, 0]
