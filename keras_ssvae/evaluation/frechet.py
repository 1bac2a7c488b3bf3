"""The Fréchet Inception Distance (FID) between generated and real images, in the features of a network."""

from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import inference
from keras_ssvae.evaluation.inception import input_size, load_classifier
from keras_ssvae.evaluation.inputs import unlabeled_batches
from keras_ssvae.models.batched import as_float32


class FrechetDistance(NamedTuple):
    """A Fréchet distance, and the facts that decide whether it can be compared with another one.

    Attributes:
        distance: The distance; lower is better. It is 0 if both sets have the same mean and covariance of features.
        images: Numbers of images in the two sets.
        network: Name of the network. Distances in the features of different networks cannot be compared.
    """

    distance: float
    images: tuple[int, int]
    network: str


def frechet_distance(
    images: ArrayLike | Iterable,
    others: ArrayLike | Iterable,
    network: keras.Model | None = None,
    batch_size: int = 100,
) -> FrechetDistance:
    """The Fréchet distance between two sets of images. With the features of InceptionV3 it is the FID.

    It is `|m - n|^2 + tr(S + T - 2 (S T)^(1/2))`, where m, n and S, T are the means and covariances of the features of
    the two sets. Images are resized to the network's size by bilinear interpolation, and the channel of grey images is
    repeated. With few images the distance is too large, above all with fewer images than features (2048). So compare
    only distances with equal numbers of images. Most published FIDs are of a network with other weights than Keras'
    InceptionV3, and cannot be compared with these.

    Args:
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1]; or an iterable of batches of such images.
        others: The other set, in the same form.
        network: A Keras model that maps images in [-1, 1] to features (B, d). Default: InceptionV3 with its ImageNet
            weights (see `load_classifier`), without its last layer.
        batch_size: Number of images in a batch, if a set is not given as batches.

    Returns:
        A `FrechetDistance`.

    Raises:
        ClassifierUnavailableError: If `network` is None and the weights of InceptionV3 cannot be obtained.
        ValueError: If the images or the features are not as described, or a set has fewer than two images.

    Example:

    ```python
    print(frechet_distance(model.generate(10_000, seed=1), test_images))
    ```

    Reference: Heusel et al.: GANs trained by a two time-scale update rule converge to a local Nash equilibrium, 2017;
    REVAE, Table 2.
    """
    name = "InceptionV3 (ImageNet)" if network is None else network.name
    if network is None:
        classifier = load_classifier()
        network = keras.Model(classifier.inputs, classifier.layers[-1].input)
    sets = {"images": images, "others": others}
    first, second = (_features(network, name, *each, batch_size) for each in sets.items())
    return FrechetDistance(_distance(first, second), (len(first), len(second)), name)


def _features(network, name, argument, images, batch_size):
    infer, found = inference(network), []
    for x in unlabeled_batches(images, batch_size, argument):
        height, width, channels = input_size(network, f"`network` {name}", x.shape[1:])
        x = ops.image.resize(ops.convert_to_tensor(x), (height, width), "bilinear", data_format="channels_last")
        features = as_float32(infer(ops.repeat(x, channels if x.shape[3] == 1 else 1, axis=3)))
        if features.ndim != 2 or not np.isfinite(features).all():
            raise ValueError(
                f"`network` {name} gives {features.shape} for a batch of {len(features)}; it must give finite "
                "features, (images, d)."
            )
        found.append(features.astype("float64"))
    result = np.concatenate(found)
    if len(result) < 2:
        raise ValueError(f"`{argument}` has a single image, which has no covariance; it must have at least two.")
    return result


def _distance(first, second):
    (mean, covariance), (other_mean, other) = ((x.mean(axis=0), np.atleast_2d(np.cov(x.T))) for x in (first, second))
    # (S T)^(1/2) has the same trace as the root of a symmetric matrix, whose eigenvalues are not negative.
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    of_product = np.linalg.eigvalsh(root @ other @ root)
    trace = np.trace(covariance) + np.trace(other) - 2.0 * np.sqrt(np.maximum(of_product, 0.0)).sum()
    return float(max(((mean - other_mean) ** 2).sum() + trace, 0.0))
