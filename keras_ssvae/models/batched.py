"""Decodes many latent points, batch by batch."""

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.distributions import Tensor
from keras_ssvae.models.capabilities import Decodes


def decode_batches(model: Decodes, z: ArrayLike, batch_size: int = 500) -> np.ndarray:
    """Decodes many latent points batch by batch with `model.decode`.

    Args:
        model: A model with `decode(z)`.
        z: Latent points, shape (n, d).
        batch_size: Number of points in a batch; the last batch may be smaller.

    Returns:
        The images, float32 of shape (n, H, W, C).
    """
    z = np.asarray(z, dtype="float32")
    starts = range(0, len(z), batch_size)
    images = [model.decode(ops.convert_to_tensor(z[start : start + batch_size])) for start in starts]
    return np.concatenate([as_float32(batch) for batch in images])


def as_float32(tensor: Tensor) -> np.ndarray:
    """Converts a tensor of any precision to a NumPy array of float32."""
    return ops.convert_to_numpy(tensor).astype("float32")
