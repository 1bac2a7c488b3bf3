"""Scores by how much each coordinate matters for predicting each factor."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import entropy

from keras_ssvae.checks import generator
from keras_ssvae.evaluation.disentanglement.arrays import at_least, checked, standardized

_TREES = 20
_LEAF = 20  # the fewest images in a leaf: with fewer, the trees fit noise, and importances go to any coordinate


class DCI(NamedTuple):
    """The three scores of Eastwood and Williams, each in [0, 1].

    Attributes:
        disentanglement: Whether each coordinate matters for one factor only.
        completeness: Whether for each factor one coordinate only matters.
        informativeness: How well the factors can be predicted: the mean accuracy.
    """

    disentanglement: float
    completeness: float
    informativeness: float


def dci(latents: ArrayLike, factors: ArrayLike, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, by the importances of the coordinates for the factors.

    A random forest for each factor learns its value from all coordinates, from two thirds of the images; its accuracy
    on the others, averaged over the factors, is the informativeness. A coordinate's importance for a factor is the
    share of the forest's decrease of impurity that is due to it. Disentanglement is 1 less the entropy of a
    coordinate's importances for the F factors, in units of log F, averaged over the coordinates with the weight of
    their importance; completeness is 1 less the entropy of a factor's importances of the d coordinates, in units of
    log d, averaged over the factors. For constant latents both are 0 and the informativeness is the share of the
    factors' commonest values, which is chance.

    The forests (20 trees that see all coordinates at each split, with 20 images or more in a leaf) stand for
    disentanglement_lib's gradient boosted trees. They take a twentieth of the time, and in trials came within 0.1 of
    their disentanglement and completeness and within 0.03 of their informativeness: compare scores of the same kind
    only. Every value of a factor should have dozens of images.

    Args:
        latents: Shape (N, d), at least 60 images.
        factors: Integers of shape (N, F), at least 2 factors.
        seed: Seed of the split into two thirds and one, and of the forests.

    Returns:
        A `DCI`.

    Raises:
        ValueError: If latents or factors are not as described.

    Example:

    ```python
    grid = np.indices((3, 4)).reshape(2, -1).T.repeat(100, axis=0)
    dci(grid, grid)  # DCI(disentanglement=1.0, completeness=1.0, informativeness=1.0)
    ```

    Reference: Eastwood and Williams: A framework for the quantitative evaluation of disentangled representations, 2018,
    who take forests as well; Locatello et al.: Challenging common assumptions in the unsupervised learning of
    disentangled representations, 2019.
    """
    from sklearn.ensemble import RandomForestClassifier

    latents, factors = checked(latents, factors, least_factors=2)
    at_least("len(latents)", len(latents), 3 * _LEAF, "for trees whose leaves are not too small")
    # The trees take coordinates with a tiny range for constant ones.
    latents = standardized(latents)
    train, test = np.split(generator(seed).permutation(len(latents)), [2 * len(latents) // 3])
    importances, accuracies = [], []
    for factor in factors.T:
        forest = RandomForestClassifier(_TREES, max_features=None, min_samples_leaf=_LEAF, random_state=seed)
        forest.fit(latents[train], factor[train])
        importances.append(forest.feature_importances_)
        accuracies.append(forest.score(latents[test], factor[test]))
    by_factor = np.array(importances)
    weights = by_factor.sum(axis=0)
    disentanglement = np.average(_concentration(by_factor.T), weights=weights) if weights.any() else 0.0
    completeness = _concentration(by_factor).mean()
    return DCI(float(disentanglement), float(completeness), float(np.mean(accuracies)))


def _concentration(importances):
    """1 for rows in which one number is not 0, 0 for rows of equal numbers, among them rows of zeros."""
    entries = importances.shape[1]
    if entries == 1:
        return (importances[:, 0] > 0).astype("float64")
    used = importances.any(axis=1)
    rows = np.where(used[:, None], importances, 1.0)
    concentration = 1 - entropy(rows, axis=1) / np.log(entries)
    return np.where(used, concentration.clip(0.0, 1.0), 0.0)  # not outside by rounding
