"""Converts grey images to binary ones, once before the training."""

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.pixels import check_dtype, check_values


def binarize(images: ArrayLike, seed: int | np.random.RandomState) -> np.ndarray:
    """Draws each pixel as black or white, with its brightness as the probability of white.

    Use it for images that do not change during training, such as those of validation and test. It calls NumPy's
    `binomial` in the order of the array. So sets that are drawn in turn from one `RandomState(777)`, validation first,
    equal those of VampPrior's code.

    Args:
        images: `uint8` of any shape, or floating point with pixels in [-1, 1].
        seed: An integer of at least 0, or a `numpy.random.RandomState` that several sets of images can share.

    Returns:
        `uint8` of the same shape, 0 or 255; `scale` makes them -1 and 1.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> random = np.random.RandomState(777)
    >>> validation = binarize(mnist.train_images[50000:], random)
    >>> test = binarize(mnist.test_images, random)

    Reference: [Tomczak, Welling, 2018](https://arxiv.org/abs/1705.07120).
    """
    images = np.asarray(images)
    check_dtype("images", str(images.dtype))
    check_values("images", images)
    if images.dtype == np.uint8:
        probs = images.astype(np.float32) / np.float32(255)  # rounded as in the original code
    else:
        probs = (images.astype(np.float64) + 1) / 2
    if not isinstance(seed, np.random.RandomState):
        check_whole_number("seed", seed, 0)
        seed = np.random.RandomState(seed)
    return (seed.binomial(1, probs) * 255).astype(np.uint8)
