"""Agreement of the clusters that a model finds without labels with true classes."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment


class ClusterAccuracy(NamedTuple):
    """The percentage of images whose cluster stands for their class, for two ways to match clusters with classes.

    Attributes:
        one_to_one: Each class is matched with at most one cluster, and each cluster with at most one class, so that the
            percentage is largest (Hungarian method). If there are more clusters than classes, the images in unmatched
            clusters count as wrong.
        many_to_one: Each cluster stands for the class of most of its images. It is never below `one_to_one`, and rises
            with the number of clusters, up to 100 if each image has its own cluster.
    """

    one_to_one: float
    many_to_one: float


def cluster_accuracy(clusters: ArrayLike, labels: ArrayLike) -> ClusterAccuracy:
    """Measures how well clusters agree with classes.

    Args:
        clusters: The cluster of each of N images, integers `(N,)`; or the probabilities of K clusters, `(N, K)`, of
            which the largest decides.
        labels: The classes of the images, integers `(N,)`.

    Returns:
        A `ClusterAccuracy`.

    Raises:
        ValueError: If the arguments are not as described.

    Example:

    ```python
    print(cluster_accuracy(model.clusters(images), labels).one_to_one)
    ```
    """
    found, true = np.asarray(clusters), np.asarray(labels)
    if found.ndim == 2 and found.dtype.kind == "f":
        if not np.isfinite(found).all():
            raise ValueError("`clusters` holds probabilities that are not finite.")
        found = found.argmax(axis=1)
    for name, given in (("clusters", found), ("labels", true)):
        if given.ndim != 1 or given.dtype.kind not in "iu" or given.size == 0:
            which = ", or probabilities `(N, K)`" if name == "clusters" else ""
            raise ValueError(
                f"`{name}` is {given.dtype} of shape {given.shape}; it must be at least one integer, `(N,)`{which}."
            )
        if given.min() < 0:
            raise ValueError(f"`{name}` has {given.min()}; give only images that have a cluster and a label.")
    if len(found) != len(true):
        raise ValueError(f"`clusters` has {len(found)} images and `labels` {len(true)}; the numbers must be equal.")
    rows, columns = (np.unique(values, return_inverse=True)[1] for values in (found, true))
    counts = np.zeros((rows.max() + 1, columns.max() + 1), "int64")
    np.add.at(counts, (rows, columns), 1)
    best = counts[linear_sum_assignment(counts, maximize=True)].sum()
    return ClusterAccuracy(*(float(100.0 * right / len(true)) for right in (best, counts.max(axis=1).sum())))
