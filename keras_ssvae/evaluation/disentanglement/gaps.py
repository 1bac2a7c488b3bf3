"""Scores by the gap between the two coordinates that tell most of a factor."""

import warnings
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import rel_entr
from scipy.stats import entropy

from keras_ssvae.evaluation.disentanglement.arrays import at_least, checked, standardized

# One bin with more than this share of a coordinate hides what the coordinate tells.
_NEARLY_ALL = 0.95
_FEW = 10  # images, of which one may well have half of the variance


def mig(
    latents: ArrayLike, factors: ArrayLike, bins: int = 20, binning: Literal["equal", "quantile"] = "equal"
) -> float:
    """The mutual information gap: how much more of a factor its best coordinate tells than the second best.

    It is the mean over the factors of the difference between the two largest I(coordinate, factor), in units of the
    factor's entropy. The information is that of the histogram: each coordinate is cut into bins, and both mutual
    information and entropy are those of the frequencies. It is 0 for constant latents, and for two coordinates that
    tell the same; a factor with more values than bins cannot reach 1. Of a single coordinate all that it tells is the
    gap.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        bins: How many bins; disentanglement_lib has 20 as well.
        binning: `"equal"` cuts each coordinate into bins of equal width from its least to its largest value, as
            disentanglement_lib does: one outlier can then put all other images into one bin, and the score falls to
            0. `"quantile"` cuts it into bins of (nearly) equally many images, which an outlier does not move.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, there are fewer than 2 bins, or `binning` is neither.

    Warns:
        UserWarning: Where one bin holds more than 95 % of a coordinate that has more values than bins.

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
    """The SAP score, separated attribute predictability: by how much the best coordinate predicts a factor better.

    It is the mean over the factors of the difference between the two best scores of single coordinates. For a factor
    that is a quantity the score is the squared correlation with the coordinate. For one whose values are but names, as
    the shape in dSprites, it is the balanced accuracy on the given images of thresholds, one fewer than values, which a
    decision tree finds; chance is then 1/K, and the gap at most 1 - 1/K. It is 0 for constant latents, and for two
    coordinates that tell the same. The second best of a single coordinate is a constant. disentanglement_lib takes a
    linear support vector machine for all factors instead, whose scores are other ones.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F).
        categorical: The columns of `factors` whose values are names. By default none.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, or there is no such column.

    Warns:
        UserWarning: Where a single image has more than half of a coordinate's variance, which a correlation is of.

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
    """The difference between the two largest numbers of each factor, averaged over the factors."""
    second, best = np.sort(list(tables), axis=1)[:, -2:].T
    return min(float((best - second).mean()), 1.0)  # not above 1 by rounding


def _at_least_two(latents):
    """Gives a single coordinate a constant one to compare it with."""
    return latents if latents.shape[1] > 1 else np.pad(latents, ((0, 0), (0, 1)))


def _binned(coordinate, bins, binning):
    if binning == "quantile":
        # Equal values stay together, so a coordinate of few values has a bin for each.
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
            f"{', '.join(map(str, found))}. The correlation says too little of them; leave such images out.",
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
            f"{', '.join(map(str, full))}. Outliers stretch the bins, and the score says too little of these "
            'coordinates. `binning="quantile"` is not moved by outliers.',
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
    """The balanced accuracy of each coordinate, by as many intervals as the factor has values."""
    from sklearn.tree import DecisionTreeClassifier

    weight = 1 / np.bincount(factor)[factor]
    tree = DecisionTreeClassifier(max_leaf_nodes=factor.max() + 1, random_state=0)
    coordinates = latents.T[:, :, None]
    return np.array([tree.fit(x, factor, weight).score(x, factor, weight) for x in coordinates])
