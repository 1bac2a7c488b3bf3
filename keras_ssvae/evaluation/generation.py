"""Evaluation of class-conditional generation by classifiers that were trained without the model."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from keras_ssvae.backend import compiled, inference
from keras_ssvae.checks import check_whole_number
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.capabilities import HasLabels


class Generation(NamedTuple):
    """Judgement of generated images by independent classifiers; see `conditional_generation`.

    Attributes:
        right_percent: Percentage of images that are classified as the class for which they were generated.
        right_percent_per_class: The same for each class.
        mutual_information: Mutual information of the class and the parameters of the classifiers, in nats per image.
            The lower it is, the more the classifiers agree. None for a single classifier.
    """

    right_percent: float
    right_percent_per_class: list[float]
    mutual_information: float | None


def conditional_generation(
    model: keras.Model, classifiers: Sequence[keras.Model], n: int = 10_000, seed: int = 0, batch_size: int = 500
) -> Generation:
    """Generates images of each class and classifies them by independent classifiers: Tables 2 and 6 of REVAE.

    The classifiers vote by the mean of their probabilities. Their mutual information, `H(mean p) - mean H(p)`, measures
    how much they disagree. They disagree about images that are unlike their training images. REVAE's published values
    are of a Gaussian process in place of a classifier's last layer, and cannot be compared with those of an ensemble.

    Args:
        model: A model with one label that generates images of given classes.
        classifiers: Keras models that map images in [-1, 1] to class probabilities, trained without the model.
        n: Number of images over all classes. Each class gets the same number, n divided by the classes and rounded
            down, and at least one.
        seed: Seed of the images.
        batch_size: Number of images in a batch.

    Returns:
        A `Generation`.

    Raises:
        ValueError: If the model has no labels or several labels, if `classifiers` is empty, or if a classifier does not
            give the probabilities of the model's classes.

    Example:

    ```python
    found = conditional_generation(model, [classifier])
    print(found.right_percent)
    ```

    Reference: REVAE, Tables 2 and 6 and Appendix C.3.
    """
    if not isinstance(model, HasLabels) or model.labels.several:
        raise ValueError(f"`conditional_generation` needs a model with one label; `model` is a {type(model).__name__}.")
    if isinstance(classifiers, keras.Model) or not all(isinstance(each, keras.Model) for each in classifiers):
        raise ValueError(f"`classifiers` is {classifiers!r}; it must be a list of Keras models.")
    if not len(classifiers):
        raise ValueError("`classifiers` is empty; it must hold at least one Keras model.")
    seed, batch_size = check_whole_number("seed", seed, 0), check_whole_number("batch_size", batch_size, 1)
    (num_classes,) = model.labels.sizes
    labels = np.repeat(np.arange(num_classes), max(1, check_whole_number("n", n, 1) // num_classes)).astype("int32")
    # Each image has its own seed, so that the images do not depend on `batch_size`.
    generate = compiled(model, lambda labels, seeds: model.generate(labels, seeds))
    predict = [inference(classifier) for classifier in classifiers]
    probs = []
    for start in range(0, len(labels), batch_size):
        rows = slice(start, start + batch_size)
        seeds = ops.convert_to_tensor(np.arange(start, start + len(labels[rows])) + seed * len(labels))
        images = generate(ops.convert_to_tensor(labels[rows]), seeds)
        probs.append(np.stack([_checked_probs(i, as_float32(f(images)), num_classes) for i, f in enumerate(predict)]))
    given = np.concatenate(probs, axis=1)  # (classifiers, n, K)
    mean = given.mean(axis=0)
    right = 100.0 * (mean.argmax(axis=1) == labels).reshape(num_classes, -1).mean(axis=1)
    information = float(np.mean(_entropy(mean) - _entropy(given).mean(axis=0))) if len(given) > 1 else None
    return Generation(float(right.mean()), right.tolist(), information)


def _checked_probs(i, probs, num_classes):
    if probs.shape[1:] != (num_classes,) or not (probs >= 0).all() or np.abs(probs.sum(axis=1) - 1).max() > 1e-2:
        raise ValueError(
            f"`classifiers[{i}]` gives an array of shape {(None, *probs.shape[1:])} with rows whose sum is not 1, or "
            f"with another width than {num_classes}; it must give the probabilities of the {num_classes} classes. If "
            "it gives logits, add a `keras.layers.Softmax()`."
        )
    return probs


def _entropy(probs):
    """The entropy over the last axis, in nats."""
    return -np.sum(probs * np.log(np.clip(probs, 1e-30, 1.0)), axis=-1)
