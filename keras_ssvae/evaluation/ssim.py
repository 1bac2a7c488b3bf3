"""Negative structural similarity: how diverse a set of images is."""

import numpy as np
from keras import ops
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike

from keras_ssvae.pixels import as_array, as_images

WINDOW_SIZE = 11
WINDOW_SIGMA = 1.5
# (k1 L)^2 and (k2 L)^2 with k1 = 0.01, k2 = 0.03. The original code sets the dynamic range L to 1.0, although its
# images span [-1, 1]; EXoN's Table 3 was made with it.
C1 = 0.01**2
C2 = 0.03**2
BAND = 256  # images; the pair matrix is worked on in blocks of BAND x BAND, which stay in the processor's cache


def negative_ssim(images: ArrayLike) -> float:
    """Half of one minus the mean structural similarity over all ordered pairs, each image with itself included.

    The settings are those of EXoN's released code: a Gaussian window, 11 pixels wide with sigma 1.5, at the positions
    where it lies wholly inside the image; k1 0.01, k2 0.03, dynamic range 1.0. Channels are averaged. At each window
    position one matrix product gives the cross moments E_w[x x'] of all n^2 pairs.

    Args:
        images: Pixels in [-1, 1], or `uint8`, which is scaled; shape (n, H, W, C), at least 11 x 11. For EXoN's Table
            3 they are the decoder's images on the 31 x 31 grid -15, -14, ..., 15.

    Returns:
        The negative SSIM, in [0, 1]: 0 if all images are equal, larger for more diverse ones.

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
    """Mean SSIM of all ordered pairs of patches (n, 11, 11), each weighted by the square of `root_window`."""
    mean = (patches * np.square(root_window)).sum(axis=(1, 2))
    # Centred patches give the covariance without the cancellation of E[x x'] - E[x] E[x'].
    centred = ((patches - mean[:, None, None]) * root_window).reshape(len(patches), -1)
    variance = np.square(centred).sum(axis=1)
    total = 0.0
    for i in range(0, len(patches), BAND):
        left = slice(i, i + BAND)
        for j in range(i, len(patches), BAND):
            right = slice(j, j + BAND)
            # SSIM = (2 m m' + c1) (2 cov + c2) / ((m^2 + m'^2 + c1) (v + v' + c2)), in place as far as it goes.
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
