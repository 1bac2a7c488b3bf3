"""Scores by the gap between the two coordinates that say most about a factor: MIG and SAP."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr
from scipy.stats import entropy

from keras_ssvae.evaluation.disentanglement.arrays import at_least, checked, standardized

# If one bin holds more than this share of the images, the bins hide the information of the coordinate.
_NEARLY_ALL = 0.95
_FEW = 10  # among so few images, one may have half of the variance without being an outlier


def mig(
    latents: ArrayLike, factors: ArrayLike, bins: int = 20, binning: Literal["equal", "quantile"] = "equal"
) -> float:
    """The mutual information gap (MIG): how much more the best coordinate says about a factor than the second best.

    It is the mean over the factors of the difference between the two largest I(coordinate, factor), in units of the
    factor's entropy. The values of each coordinate are put into bins, and mutual information and entropy are those of
    the frequencies. The score is 0 for constant latents, and if two coordinates carry the same information. It cannot
    reach 1 for a factor with more values than bins. With a single coordinate the gap is its whole information.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        bins: Number of bins; disentanglement_lib also has 20.
        binning: `"equal"` makes bins of equal width from the smallest to the largest value of each coordinate, as
            disentanglement_lib does. One outlier can then put all other images into one bin, and the score falls to 0.
            `"quantile"` makes bins with (nearly) equal numbers of images, which an outlier does not change.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, there are fewer than 2 bins, or `binning` is neither.

    Warns:
        UserWarning: If one bin holds more than 95 % of the images, for a coordinate with more values than bins.

    Example:

    ```python
    grid = np.indices((3, 4)).reshape(2, -1).T
    mig(grid, grid)  # 1.0
    ```

    Reference: Chen et al.: Isolating sources of disentanglement in variational autoencoders, 2018, equation (6).
    """
    latents, factors = checked(latents, factors)
    at_least("bins", bins, 2, "to tell anything")
    if binning not in ("equal", "quantile"):
        raise ValueError(f'`binning` is {binning!r}; it must be "equal" or "quantile".')
    binned = [_binned(coordinate, bins, binning) for coordinate in _at_least_two(latents).T]
    _warn_of_full_bins(latents, binned, bins)
    return _mean_gap([_information(codes, factor) for codes in binned] for factor in factors.T)


def sap(latents: ArrayLike, factors: ArrayLike, categorical: Sequence[int] = ()) -> float:
    """The SAP score (separated attribute predictability): how much better the best coordinate predicts a factor.

    It is the mean over the factors of the difference between the two best scores of single coordinates. For a factor
    that is a quantity, the score of a coordinate is its squared correlation with the factor. For a factor whose K
    values are names, such as the shape in dSprites, it is the balanced accuracy, on the given images, of a decision
    tree with K - 1 thresholds; chance is then 1/K, and the gap at most 1 - 1/K.

    The SAP score is 0 for constant latents, and if two coordinates carry the same information. A single coordinate is
    compared with a constant. disentanglement_lib uses a linear support vector machine for all factors instead, so its
    scores differ from these.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        categorical: The columns of `factors` whose values are names. By default none.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, or `categorical` names a column that does not exist.

    Warns:
        UserWarning: If a single image has more than half of a coordinate's variance, which distorts the correlation.

    Example:

    ```python
    sap(latents, dsprites_factors, categorical=[0])  # the shape; scale, orientation and position are quantities
    ```

    Reference: Kumar et al.: Variational inference of disentangled latent concepts from unlabeled observations, 2018.
    """
    latents, factors = checked(latents, factors)
    wrong = sorted({*categorical} - {*range(factors.shape[1])})
    if wrong:
        raise ValueError(f"`categorical` holds {wrong}; `factors` has the columns 0 to {factors.shape[1] - 1}.")
    latents = standardized(latents)
    if len(categorical) < factors.shape[1]:
        _warn_of_outliers(latents)
    latents = _at_least_two(latents)
    return _mean_gap(
        _threshold_accuracies(latents, factor) if k in categorical else _squared_correlations(latents, factor)
        for k, factor in enumerate(factors.T)
    )


def _mean_gap(tables):
    """The difference between the two largest scores of each factor, averaged over the factors."""
    second, best = np.sort(list(tables), axis=1)[:, -2:].T
    return min(float((best - second).mean()), 1.0)  # not above 1 by rounding


def _at_least_two(latents):
    """Adds a constant coordinate to a single one, to compare it with."""
    return latents if latents.shape[1] > 1 else np.pad(latents, ((0, 0), (0, 1)))


def _binned(coordinate, bins, binning):
    if binning == "quantile":
        # Equal values stay in one bin, so a coordinate with few values has a bin for each value.
        edges = np.unique(np.quantile(coordinate, np.arange(1, bins) / bins))
        return np.searchsorted(edges, coordinate, side="right")
    width = np.ptp(coordinate) / bins or 1.0
    return np.minimum((coordinate - coordinate.min()) // width, bins - 1).astype("int64")


def _warn_of_outliers(standardized_latents):
    shares = np.square(standardized_latents).max(axis=0) / len(standardized_latents)
    found = np.flatnonzero(shares > 0.5)
    if len(standardized_latents) > _FEW and len(found):
        warnings.warn(
            "`latents` have coordinates of which one image has more than half of the variance: "
            f"{', '.join(map(str, found))}. Their correlation says too little; leave such images out.",
            UserWarning,
            stacklevel=3,
        )


def _warn_of_full_bins(latents, binned, bins):
    full = []
    for i, coordinate in enumerate(latents.T):
        if np.bincount(binned[i]).max() > _NEARLY_ALL * len(coordinate) and len(np.unique(coordinate)) > bins:
            full.append(i)
    if full:
        warnings.warn(
            f"`latents` have coordinates of which one bin holds more than {_NEARLY_ALL:.0%} of the images: "
            f"{', '.join(map(str, full))}. Outliers stretch the bins, so the score says too little about these "
            'coordinates. `binning="quantile"` does not depend on outliers.',
            UserWarning,
            stacklevel=3,
        )


def _information(codes, factor):
    """I(codes, factor) in units of the entropy of the factor."""
    joint = np.zeros((codes.max() + 1, factor.max() + 1))
    np.add.at(joint, (codes, factor), 1)
    joint /= len(codes)
    of_factor = joint.sum(axis=0)
    return rel_entr(joint, np.outer(joint.sum(axis=1), of_factor)).sum() / entropy(of_factor)


def _squared_correlations(latents, factor):
    quantity = standardized(factor[:, None].astype("float64"))
    return np.square(latents.T @ quantity / len(quantity))[:, 0]


def _threshold_accuracies(latents, factor):
    """The balanced accuracy of each coordinate, divided into as many intervals as the factor has values."""
    from sklearn.tree import DecisionTreeClassifier

    weight = 1 / np.bincount(factor)[factor]
    tree = DecisionTreeClassifier(max_leaf_nodes=factor.max() + 1, random_state=0)
    coordinates = latents.T[:, :, None]
    return np.array([tree.fit(x, factor, weight).score(x, factor, weight) for x in coordinates])
