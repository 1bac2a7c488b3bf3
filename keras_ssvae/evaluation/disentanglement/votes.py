"""Scores by groups of images that share the value of one factor, which is then guessed from the latents."""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import generator
from keras_ssvae.evaluation.disentanglement.arrays import at_least, checked, standardized

_BLOCK = 2**22  # numbers held in memory at once: 32 MB


def factor_score(
    latents: ArrayLike, factors: ArrayLike, group_size: int = 100, min_std: float = 0.1, seed: int = 0
) -> float:
    """The Factor score as PartedVAE's code computes it: from all images, without held-out votes.

    The images with the same value of a factor are split at random into groups; images left over are not used. Each
    group votes once, for the coordinate that varies least in it, in units of the coordinate's standard deviation over
    all images. Each coordinate belongs to the factor from whose groups it got the most votes. The score is the share of
    the votes that come from the factor of their coordinate.

    So it is 1 if no coordinate gets votes from two factors, and 0 if no coordinate can get votes. Without any
    information it is above 1/F, because the factors of the coordinates are chosen by the same votes. The fewer votes a
    coordinate gets, the higher it is.

    Args:
        latents: Shape (N, d). In PartedVAE the posterior means of z and u of all images of the data set.
        factors: Integers of shape (N, F), at least 2 factors.
        group_size: Number L of images in a group.
        min_std: Coordinates with a smaller standard deviation get no votes; nor do constant ones. It is in the unit of
            the latents, and intended for a prior with standard deviation 1.
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
    """The Factor score of FactorVAE, as first published: the accuracy of a majority vote on held-out votes.

    A group votes as in `factor_score`, but each group is drawn anew: all factors are used equally often; a value of the
    factor is drawn with its frequency among the images; the images with this value are drawn with replacement. The
    training votes decide which factor a coordinate belongs to; the evaluation votes give the score. Without any
    information the score is 1/F on average. It is 0 if no coordinate can get votes. The defaults are those of
    disentanglement_lib's study.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F), at least 2 factors.
        group_size: Number L of images in a group.
        min_std: Coordinates with a smaller standard deviation get no votes; nor do constant ones. It is in the unit of
            the latents, and intended for a prior with standard deviation 1.
        train_votes: Number of votes that decide.
        eval_votes: Number of votes that give the score.
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
    """The beta-VAE score: how well a linear classifier recognises the factor that is the same in pairs of images.

    A point is the mean over several pairs of the absolute difference of the latents, in units of their standard
    deviation over all images. The two images of a pair differ, but have the same value of a factor. The value is drawn
    with its frequency among the images; all factors are used equally often. The classifier is a multinomial logistic
    regression, and the score is its accuracy on held-out points. Without any information, as with constant latents, it
    is 1/F on average. A single factor that the latents lack does not lower it: if all others are recognised, so is this
    one. The defaults are those of disentanglement_lib's study, whose points are in the unit of the latents.

    Args:
        latents: Shape (N, d).
        factors: Integers of shape (N, F), at least 2 factors.
        pairs: Number of pairs whose mean is a point.
        train_points: Number of points that the classifier is trained on.
        eval_points: Number of points that it is evaluated on.
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
    """The standardised coordinates that vary enough to get votes."""
    return standardized(latents)[:, (latents.std(axis=0) >= min_std) & (np.ptp(latents, axis=0) > 0)]


def _votes(latents, groups):
    """The numbers of votes (F, d) of each factor's groups for each coordinate; the groups are image indices (n, L)."""
    votes = np.zeros((len(groups), latents.shape[1]), dtype="int64")
    if latents.size:
        for counts, of_factor in zip(votes, groups, strict=True):
            for part in _blocks(latents, of_factor):
                np.add.at(counts, latents[part].var(axis=1).argmin(axis=1), 1)
    return votes


def _points(latents, pairs):
    """The points of each factor, from its pairs of image indices (n, L, 2), and the factor of each point."""
    points = [
        np.abs(latents[part[..., 0]] - latents[part[..., 1]]).mean(axis=1)
        for of_factor in pairs
        for part in _blocks(latents, of_factor)
    ]
    return np.concatenate(points), np.repeat(np.arange(len(pairs)), [len(of_factor) for of_factor in pairs])


def _blocks(latents, images):
    """Splits an array of image indices into parts whose latents fit in memory."""
    step = max(1, _BLOCK // (images[0].size * latents.shape[1]))
    return np.split(images, range(step, len(images), step))


def _shares(factors, **numbers):
    """Splits each number among the factors as evenly as possible."""
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
            f"No value of the factor in column {k} of `factors` has {group_size} images, the size of a group. "
            "Give more images, or a smaller `group_size`."
        )
    return groups


def _draw(factors, k, shape, rng):
    """Draws groups (n, L) of images with one value of factor k each; values are drawn with their frequencies."""
    images, start, count = _draw_values(factors, k, (shape[0], 1), rng)
    return images[start + rng.integers(count, size=shape)]


def _draw_pairs(factors, k, shape, rng):
    """Draws pairs (n, L, 2) of different images with one value of factor k each, drawn with its frequency."""
    images, start, count = _draw_values(factors, k, shape, rng)
    first = rng.integers(count)
    # A pair of an image with itself would reveal a factor with few images per value, whatever the latents are.
    second = (first + rng.integers(1, count)) % count
    return images[np.stack([start + first, start + second], axis=-1)]


def _draw_values(factors, k, shape, rng):
    """Draws values of factor k. Returns the images sorted by value, and each drawn value's first index and count."""
    counts = np.bincount(factors[:, k])
    starts = counts.cumsum() - counts
    shared = np.where(counts > 1, counts, 0)  # a value of a single image is shared with no other
    if not shared.any():
        raise ValueError(
            f"Each image has a different value in column {k} of `factors`; images must share values. Reduce the number "
            "of values of this factor."
        )
    drawn = rng.choice(len(counts), size=shape, p=shared / shared.sum())
    return np.argsort(factors[:, k], kind="stable"), starts[drawn], counts[drawn]
