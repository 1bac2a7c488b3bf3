"""Negative structural similarity (SSIM), a measure of the diversity of a set of images."""

import numpy as np
from keras import ops
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from keras_ssvae.pixels import as_array, as_images

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
# (k1 L)^2 and (k2 L)^2 with k1 = 0.01, k2 = 0.03. EXoN's code has the dynamic range L = 1.0, although its images span
# [-1, 1]; EXoN's Table 3 was made with this value.
C1 = 0.01**2
C2 = 0.03**2
BAND = 256  # images; the matrix of pairs is computed in blocks of BAND x BAND, which fit in the processor's cache


def negative_ssim(images: ArrayLike) -> float:
    """The diversity of images: (1 - the mean structural similarity) / 2.

    The mean is over all ordered pairs of images, including pairs of an image with itself. The settings are those of
    EXoN's released code: a Gaussian window, 11 pixels wide with sigma 1.5, at all positions where it lies completely
    inside the image; k1 0.01, k2 0.03, dynamic range 1.0. Channels are averaged.

    Args:
        images: Pixels in [-1, 1], or `uint8`, which is scaled; shape (n, H, W, C), at least 11 x 11. In EXoN's Table 3
            they are the decoded images of the 31 x 31 grid -15, -14, ..., 15.

    Returns:
        The negative SSIM, in [0, 1]: 0 if all images are equal, larger for more diverse images.

    Raises:
        ValueError: If the images have another shape, are too small, or are not as described.

    Example:

    ```python
    diversity = negative_ssim(model.decode(grid))
    ```

    Reference: EXoN, equation (24) and Table 3; Wang et al.: Image quality assessment, 2004.
    """
    pixels = ops.convert_to_numpy(as_array("images", images))
    if pixels.ndim != 4 or pixels.size == 0 or min(pixels.shape[1:3]) < WINDOW_SIZE:
        raise ValueError(
            f"`images` has shape {pixels.shape}; it must be (images, height, width, channels), with height and width "
            f"at least {WINDOW_SIZE}, the size of the SSIM window."
        )
    pixels = as_images("images", pixels, in_doubt="warn")
    offsets = np.arange(WINDOW_SIZE) - WINDOW_SIZE // 2
    profile = np.exp(-0.5 * (offsets / WINDOW_SIGMA) ** 2)
    window = np.outer(profile, profile)
    root_window = np.sqrt(window / window.sum()).astype("float32")

    windows = sliding_window_view(pixels, (WINDOW_SIZE, WINDOW_SIZE), axis=(1, 2))  # (n, rows, columns, C, 11, 11)
    similarities = [
        _mean_pairwise_ssim(windows[:, row, column, channel], root_window)
        for row, column, channel in np.ndindex(windows.shape[1:4])
    ]
    return float((1.0 - np.mean(similarities)) / 2.0)


def _mean_pairwise_ssim(patches: np.ndarray, root_window: np.ndarray) -> float:
    """The mean SSIM of all ordered pairs of patches (n, 11, 11), whose pixels are weighted by `root_window` squared."""
    mean = (patches * np.square(root_window)).sum(axis=(1, 2))
    # Centred patches give the covariance without the loss of digits in E[x x'] - E[x] E[x']. One matrix product gives
    # that of all pairs of a block.
    centred = ((patches - mean[:, None, None]) * root_window).reshape(len(patches), -1)
    variance = np.square(centred).sum(axis=1)
    total = 0.0
    for i in range(0, len(patches), BAND):
        left = slice(i, i + BAND)
        for j in range(i, len(patches), BAND):
            right = slice(j, j + BAND)
            # SSIM = (2 m m' + c1) (2 cov + c2) / ((m^2 + m'^2 + c1) (v + v' + c2)), in place where possible.
            similarity = centred[left] @ centred[right].T
            similarity *= 2.0
            similarity += C2
            product = np.outer(mean[left], mean[right])
            product *= 2.0
            product += C1
            similarity *= product
            similarity /= np.add.outer(np.square(mean[left]) + C1, np.square(mean[right]))
            similarity /= np.add.outer(variance[left] + C2, variance[right])
            total += similarity.sum(dtype="float64") * (1 if i == j else 2)  # the matrix is symmetric
    return total / len(patches) ** 2
