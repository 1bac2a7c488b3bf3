"""Scores by images that share the value of one factor: which factor is it?"""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import generator
from keras_ssvae.evaluation.disentanglement.arrays import at_least, checked, standardized

_BLOCK = 2**22  # numbers held at once: 32 MB


def factor_score(
    latents: ArrayLike, factors: ArrayLike, group_size: int = 100, min_std: float = 0.1, seed: int = 0
) -> float:
    """The Factor score as PartedVAE's original computes it: of all images, without a held-out vote.

    The images with a value of a factor are split at random into groups, what is left over is not used, and each group
    votes once: for the coordinate that varies least in it, in units of its standard deviation over all images. The
    score is the share of the votes that are for the commonest factor of their coordinate. So it is 1 if no coordinate
    is voted for by two factors, and 0 if there is no coordinate to vote for. Without any information it is above 1/F,
    the further the fewer votes a coordinate gets, because the factors are chosen on the same votes.

    Args:
        latents: Shape (N, d); in the original the posterior means of z and u, of all images of the data set.
        factors: Integers of shape (N, F), at least 2 factors.
        group_size: L, the images in a group.
        min_std: Coordinates with a standard deviation below it do not vote, nor do constant ones. It is in the unit of
            the latents, and made for a prior with standard deviation 1.
        seed: Seed of the split into groups.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, or a factor has no value with `group_size` images.

    Example:

    ```python
    grid = np.indices((3, 4)).reshape(2, -1).T.repeat(100, axis=0)  # two factors, 100 images of each pair of values
    factor_score(grid, grid)  # 1.0
    ```

    Reference: Hajimiri et al.: Semi-supervised disentanglement of class-related and class-independent factors in VAE,
    2021, Tables 1 and 2.
    """
    latents, factors = checked(latents, factors, least_factors=2)
    at_least("group_size", group_size, 2, "for a variance")
    rng = generator(seed)
    groups = [_split(factors, k, group_size, rng) for k in range(factors.shape[1])]
    votes = _votes(_voting(latents, min_std), groups)
    return float(votes.max(axis=0, initial=0).sum() / sum(map(len, groups)))


def factor_vae_score(
    latents: ArrayLike,
    factors: ArrayLike,
    group_size: int = 64,
    min_std: float = 0.05,
    train_votes: int = 10_000,
    eval_votes: int = 5_000,
    seed: int = 0,
) -> float:
    """The Factor score as first published, for FactorVAE: the accuracy of a majority vote, on votes of its own.

    A group votes as in `factor_score`, but the images of each are drawn anew: a factor, of which all have their turn
    equally often, a value, as often as images have it, and with replacement the images with this value. The training
    votes decide which factor is a coordinate's, the others are counted. Without any information the score is 1/F on
    average, with no coordinate to vote for 0. The defaults are those of disentanglement_lib's study.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F), at least 2 factors.
        group_size: L, the images that vote together.
        min_std: Coordinates with a standard deviation below it do not vote, nor do constant ones. It is in the unit of
            the latents, and made for a prior with standard deviation 1.
        train_votes: How many votes decide.
        eval_votes: How many votes are counted.
        seed: Seed of the draws.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, no two images share a value of a factor, or a number is
            too small.

    Example:

    ```python
    grid = np.indices((3, 4)).reshape(2, -1).T.repeat(100, axis=0)
    factor_vae_score(grid, grid)  # 1.0
    ```

    Reference: Kim and Mnih: Disentangling by factorising, 2018; Locatello et al.: Challenging common assumptions in the
    unsupervised learning of disentangled representations, 2019.
    """
    latents, factors = checked(latents, factors, least_factors=2)
    at_least("group_size", group_size, 2, "for a variance")
    latents, rng = _voting(latents, min_std), generator(seed)
    deciding, counted = (
        _votes(latents, [_draw(factors, k, (share, group_size), rng) for k, share in enumerate(shares)])
        for shares in _shares(factors, train_votes=train_votes, eval_votes=eval_votes)
    )
    majority = deciding.argmax(axis=0)
    return float(np.take_along_axis(counted, majority[None], axis=0).sum() / eval_votes)


def beta_vae_score(
    latents: ArrayLike,
    factors: ArrayLike,
    pairs: int = 64,
    train_points: int = 10_000,
    eval_points: int = 5_000,
    seed: int = 0,
) -> float:
    """The beta-VAE score: how well a linear classifier tells which factor is the same in pairs of images.

    A point is the mean over pairs of the absolute difference of the latents, in units of their standard deviation over
    all images. The two images of a pair are different ones with the same value of the factor, which is as frequent as
    among the images; all factors have their turn equally often. The classifier is a multinomial logistic regression,
    and the score its accuracy on points of its own. Without any information, so with constant latents, it is 1/F on
    average. A factor that the latents miss costs nothing: if all others can be told, so can that one. The defaults are
    those of disentanglement_lib's study, whose points are in the unit of the latents.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F), at least 2 factors.
        pairs: How many pairs a point is the mean of.
        train_points: How many points the classifier is fitted to.
        eval_points: How many points it is scored on.
        seed: Seed of the draws.

    Returns:
        The score.

    Raises:
        ValueError: If latents or factors are not as described, no two images share a value of a factor, or a number is
            too small.

    Example:

    ```python
    grid = np.indices((3, 4)).reshape(2, -1).T.repeat(100, axis=0)
    beta_vae_score(grid, grid)  # 1.0
    ```

    Reference: Higgins et al.: beta-VAE: Learning basic visual concepts with a constrained variational framework, 2017;
    Locatello et al.: Challenging common assumptions in the unsupervised learning of disentangled representations, 2019.
    """
    from sklearn.linear_model import LogisticRegression

    latents, factors = checked(latents, factors, least_factors=2)
    at_least("pairs", pairs, 1, "to differ in something")
    latents, rng = standardized(latents), generator(seed)
    train, evaluation = (
        _points(latents, [_draw_pairs(factors, k, (share, pairs), rng) for k, share in enumerate(shares)])
        for shares in _shares(factors, train_points=train_points, eval_points=eval_points)
    )
    return float(LogisticRegression(max_iter=1000).fit(*train).score(*evaluation))


def _voting(latents, min_std):
    """The standardised coordinates that vary enough to vote."""
    return standardized(latents)[:, (latents.std(axis=0) >= min_std) & (np.ptp(latents, axis=0) > 0)]


def _votes(latents, groups):
    """How often the groups (n, L) of images of each factor vote for each coordinate, shape (F, d)."""
    votes = np.zeros((len(groups), latents.shape[1]), dtype="int64")
    if latents.size:
        for counts, of_factor in zip(votes, groups, strict=True):
            for part in _blocks(latents, of_factor):
                np.add.at(counts, latents[part].var(axis=1).argmin(axis=1), 1)
    return votes


def _points(latents, pairs):
    """The mean differences of the pairs (n, L, 2) of images of each factor, and which factor it is."""
    points = [
        np.abs(latents[part[..., 0]] - latents[part[..., 1]]).mean(axis=1)
        for of_factor in pairs
        for part in _blocks(latents, of_factor)
    ]
    return np.concatenate(points), np.repeat(np.arange(len(pairs)), [len(of_factor) for of_factor in pairs])


def _blocks(latents, images):
    """Parts of an array of images, whose latents are not too many to hold at once."""
    step = max(1, _BLOCK // (images[0].size * latents.shape[1]))
    return np.split(images, range(step, len(images), step))


def _shares(factors, **numbers):
    """Splits each number among the factors, as evenly as it can be."""
    num_factors = factors.shape[1]
    for name, number in numbers.items():
        at_least(name, number, num_factors, "one for each factor")
        yield np.diff(np.arange(num_factors + 1) * number // num_factors)


def _split(factors, k, group_size, rng):
    """Splits the images with each value of factor k at random into groups (n, L); the rest of a value is left out."""
    shuffled = rng.permutation(len(factors))
    values = factors[shuffled, k]
    images = (shuffled[values == value] for value in range(values.max() + 1))
    groups = np.concatenate([own[: len(own) // group_size * group_size].reshape(-1, group_size) for own in images])
    if not len(groups):
        raise ValueError(
            f"No value of the factor in column {k} of `factors` has {group_size} images, which make a group; give more "
            "images, or a smaller `group_size`."
        )
    return groups


def _draw(factors, k, shape, rng):
    """Draws groups (n, L) of images: each has one value of factor k, drawn as often as images have it."""
    images, start, count = _draw_values(factors, k, (shape[0], 1), rng)
    return images[start + rng.integers(count, size=shape)]


def _draw_pairs(factors, k, shape, rng):
    """Draws pairs (n, L, 2) of different images: each has one value of factor k, drawn as often as images have it."""
    images, start, count = _draw_values(factors, k, shape, rng)
    first = rng.integers(count)
    # A pair of an image with itself would tell the factor with few images per value, whatever the latents are.
    second = (first + rng.integers(1, count)) % count
    return images[np.stack([start + first, start + second], axis=-1)]


def _draw_values(factors, k, shape, rng):
    """Draws values of factor k, and gives the images by value, the place of each drawn value's first, and how many."""
    counts = np.bincount(factors[:, k])
    starts = counts.cumsum() - counts
    shared = np.where(counts > 1, counts, 0)  # the value of a single image tells nothing of what it has in common
    if not shared.any():
        raise ValueError(
            f"Each image has a value of its own in column {k} of `factors`; images must share values. Bring the "
            "factor to fewer values."
        )
    drawn = rng.choice(len(counts), size=shape, p=shared / shared.sum())
    return np.argsort(factors[:, k], kind="stable"), starts[drawn], counts[drawn]
