"""Measures how much each latent variable tells about an image, and how well latent variables separate the classes."""

from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.distributions import gaussian_kl
from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.capabilities import HasLabels, HasNormalParts
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import trusted


def kl_per_dimension(
    model: Any, images: ArrayLike, labels: ArrayLike | None = None, batch_size: int = 500
) -> dict[str, np.ndarray]:
    """Computes the mean KL-divergence of each latent variable from its standard normal prior, in nats.

    It uses the closed form. A variable that carries no information about the image has 0. If the posterior depends on
    an unknown label, as in `M2`, the result is the expectation under the probabilities of the labels.

    Args:
        model: A model with `normal_parts` (`HasNormalParts`): `NVAE`, `CVAE`, `BetaVAE`, `M1`, `M2`, `M1M2`, `VAE`
            with a standard normal prior, `PartedVAE` for its z, `REVAE` and `M3` for the rest of z.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: Classes, integers of shape (N,). If given, the means are computed for each class.
        batch_size: Number of images in a batch.

    Returns:
        Name of each part of the latent variables -> means of its d variables, float64 of shape (d,), or (K, d) with
        `labels` of K classes. For `NVAE`, `z_c` holds the variables of all classes, one class after the other.

    Raises:
        ValueError: If the model has no such part, a class has no image, or images or labels are not as described.

    Example:

    ```python
    print(kl_per_dimension(model, test_images)["z_s"])
    ```

    Reference: N-VAE, Figures 5 and 10.
    """
    parts = model.normal_parts if isinstance(model, HasNormalParts) else ()
    if not parts:
        raise ValueError(
            f"`model` is a {type(model).__name__} without latent variables whose prior is the standard normal, "
            "`normal_parts`; for the others there is no divergence of one variable alone. `evaluation.v_nat` tells "
            "which variables change with the image."
        )
    rows: dict[str, list[np.ndarray]] = {part: [] for part in parts}
    for batch in image_batches(images, batch_size):
        with trusted():
            posterior = model.posterior(ops.convert_to_tensor(batch))
        for part in parts:
            prefix = f"{part}_" if f"{part}_mean" in posterior else ""
            mean, logvar = (posterior[f"{prefix}{kind}"][..., None] for kind in ("mean", "logvar"))
            kl = ops.convert_to_numpy(gaussian_kl(mean, logvar, 0.0, ops.ones(()))).astype("float64")
            if kl.ndim == 3:
                kl = np.einsum("bk,bkd->bd", ops.convert_to_numpy(posterior["probs"]).astype("float64"), kl)
            rows[part].append(kl)
    of_images = {part: np.concatenate(values) for part, values in rows.items()}
    if labels is None:
        return {part: values.mean(axis=0) for part, values in of_images.items()}
    num_images = len(next(iter(of_images.values())))
    if isinstance(model, HasLabels) and not model.labels.several:
        classes, count = model.labels.check("labels", labels, num_images), model.labels.width
    else:
        classes, count = _checked_classes(labels, num_images)
    missing = np.setdiff1d(np.arange(count), classes)
    if len(missing):
        raise ValueError(f"`labels` hold no image of the classes {missing.tolist()}; each must have one.")
    return {
        part: np.stack([values[classes == k].mean(axis=0) for k in range(count)]) for part, values in of_images.items()
    }


def variance_share_of_classes(z: ArrayLike, labels: ArrayLike) -> float:
    """Computes the share of the variance of latent variables that the class explains, from 0 to 1.

    It is the variance of the class means divided by the whole variance, both summed over all variables. It is 0 if all
    classes have the same mean, and 1 if each class is a point. So it is high for a latent space with a mode for each
    class, and low for a latent space that the classes share. It cannot detect classes that differ only in shape.

    Args:
        z: Latent variables of images, samples or means, shape (N, d), N at least 2.
        labels: Classes, integers from 0, of shape (N,).

    Returns:
        The share, a float.

    Raises:
        ValueError: If shapes or labels are not as described, or all z are the same.

    Example:

    ```python
    print(variance_share_of_classes(model.encode(test_images), test_labels))
    ```

    Reference: N-VAE, Figure 3, which shows this without a number.
    """
    z = np.asarray(z, "float64")
    if z.ndim != 2 or len(z) < 2 or not np.isfinite(z).all() or not np.ptp(z, axis=0).any():
        raise ValueError(
            f"`z` has shape {z.shape}; it must be finite numbers (N, d), of at least 2 images that differ."
        )
    classes, count = _checked_classes(labels, len(z))
    off = z - z.mean(axis=0)
    sizes = np.bincount(classes, minlength=count)
    sums = np.stack([off[classes == k].sum(axis=0) for k in range(count)])
    between = (np.square(sums) / np.maximum(sizes, 1)[:, None]).sum()
    return float(between / np.square(off).sum())


def _checked_classes(labels, num_examples):
    """The classes as integers, and how many they are: one more than the largest."""
    classes = Labels.seen_in(labels)
    return classes.check("labels", labels, num_examples), classes.width
