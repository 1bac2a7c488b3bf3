"""Methods of models that find categories of images by themselves, without labels."""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import is_symbolic
from keras_ssvae.checks import is_integer, is_listed
from keras_ssvae.distributions import Tensor
from keras_ssvae.noise import Stream, categorical


class ClusterMixin:
    """Mixin for a model that finds K categories of images. Categories are clusters, not classes.

    A subclass sets `num_categories` and then `cluster_names`, and keeps both in its configuration. It implements
    `clusters` and `sample_latent(n, seed, categories, probs)`. The latter gets its categories from `categories_of`.
    """

    num_categories: int
    decode: Callable[[Tensor], Tensor]
    """As `BaseVAE.decode`."""
    sample_latent: Callable[..., Tensor]
    """As `BaseVAE.sample_latent`; a subclass also draws from given categories."""

    @property
    def cluster_names(self) -> tuple[str, ...] | None:
        """Names of the categories, which a served model returns, or None; often the most common class of each."""
        return self._cluster_names

    @cluster_names.setter
    def cluster_names(self, names: Sequence[str] | None) -> None:
        if names is not None:
            given = tuple(names) if is_listed(names) else ()
            if len(given) != self.num_categories or not all(isinstance(name, str) for name in given):
                raise ValueError(
                    f"`cluster_names` is {names!r}; it must be a name for each category, {self.num_categories} of them."
                )
            names = given
        self._cluster_names = names

    def clusters(self, images: Tensor) -> Tensor:
        """Probabilities of the categories, `(B, K)`, for images `(B, H, W, C)` in [-1, 1]."""
        raise NotImplementedError

    def generate(
        self,
        n: int,
        seed: int | Tensor,
        categories: ArrayLike | Tensor | None = None,
        probs: ArrayLike | None = None,
    ) -> Tensor:
        """Images from the prior.

        Args:
            n: Number of images, B.
            seed: An integer; the same seed gives the same images.
            categories: One category for all images, or one for each, `(B,)`. Default: random.
            probs: Probabilities `(K,)` of random categories, for example the mean of `clusters` over the training
                images. Default: 1/K each.

        Returns:
            `(B, H, W, C)` in [-1, 1].

        Raises:
            ValueError: If an argument is not as described, or both `categories` and `probs` are given.
        """
        if not is_integer(n) or n < 0:
            raise ValueError(f"`n` is {n!r}; it must be the number of images, an integer of at least 0.")
        return self.decode(self.sample_latent(int(n), seed, categories, probs))

    def categories_of(
        self, n: int | Tensor, stream: Stream, categories: ArrayLike | Tensor | None, probs: ArrayLike | None
    ) -> Tensor:
        """Categories of n images, integers `(n,)`, from the arguments of `generate`."""
        # Drawn also if they are given, so that the numbers drawn next do not depend on it.
        drawn = categorical(_log_probs(probs, self.num_categories), n, stream)
        if categories is None:
            return drawn
        if probs is not None:
            raise ValueError("`categories` and `probs` are both given; it must be one of them.")
        if not is_symbolic(categories):
            categories = _integers(categories, n, self.num_categories)
        return ops.cast(ops.convert_to_tensor(categories), drawn.dtype)


def check_probs(probs: ArrayLike, k: int) -> np.ndarray:
    """Returns the probabilities of k categories as float64; raises ValueError for anything else."""
    try:
        given = np.asarray(ops.convert_to_numpy(probs), "float64")
    except (TypeError, ValueError):
        given = np.empty(0)
    if given.shape != (k,) or not (given >= 0).all() or abs(given.sum() - 1) > 1e-3:
        raise ValueError(f"`probs` is {probs!r}; it must be {k} probabilities, whose sum is 1.")
    return given


def _log_probs(probs, k):
    given = np.full(k, 1 / k) if probs is None else check_probs(probs, k)
    return ops.convert_to_tensor(np.log(np.maximum(given, 1e-30)), keras.config.floatx())


def _integers(categories, n, k):
    try:
        given = np.asarray(ops.convert_to_numpy(categories))
    except (TypeError, ValueError):
        given = np.empty(0)
    whole = given.dtype.kind in "iu" and given.shape in ((), (n,))
    if not whole or not ((given >= 0) & (given < k)).all():
        raise ValueError(
            f"`categories` is {categories!r}; it must be an integer from 0 to {k - 1}, or one for each of the {n} "
            "images."
        )
    return np.broadcast_to(given, (n,))
