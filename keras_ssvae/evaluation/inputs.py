"""Checks of images and labels, and images that go through a model batch by batch."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number, generator
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.capabilities import Encodes, HasPosterior
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import as_array, check_form, check_values, to_float, trusted
from keras_ssvae.priors import GaussianMixture


def image_batches(images: ArrayLike, batch_size: int = 500, name: str = "images") -> Iterator[np.ndarray]:
    """Checks images at once and scales them batch by batch.

    Args:
        images: Shape (N, H, W, C): uint8, or floats already scaled to [-1, 1].
        batch_size: Images in a batch; the last batch may be smaller.
        name: What errors call the images.

    Returns:
        An iterator over float32 arrays with pixels in [-1, 1].

    Raises:
        ValueError: If the shape, the dtype or the range is wrong.
    """
    batch_size = check_whole_number("batch_size", batch_size, 1)
    array = as_array(name, images)
    check_form(name, array)
    if not len(array):
        raise ValueError(f"`{name}` has no image; it must be at least one.")
    check_values(name, array)
    array = ops.convert_to_numpy(array)
    return (to_float(array[start : start + batch_size]) for start in range(0, len(array), batch_size))


def unlabeled_batches(data: Any, batch_size: int = 500, name: str = "images") -> Iterator[np.ndarray]:
    """Checks images without labels and scales them batch by batch.

    Args:
        data: Images, as `image_batches` takes them; or an iterable of batches, each of images or of
            `(images, labels)`, whose labels are not used.
        batch_size: Images in a batch, where `data` holds images.
        name: What errors call the images.

    Returns:
        An iterator over batches: float32 images with pixels in [-1, 1].

    Raises:
        ValueError: If the images are not as described, or there are none.
    """
    if hasattr(data, "shape"):
        yield from image_batches(data, batch_size, name)
        return
    empty = True
    for batch in data:
        images = batch[0] if isinstance(batch, tuple) and len(batch) == 2 else batch
        yield np.concatenate(list(image_batches(ops.convert_to_numpy(images), name=name)))
        empty = False
    if empty:
        raise ValueError("`data` holds no batches; it must hold images, or give batches of images.")


def labeled_batches(
    data: Any, labels: ArrayLike | None, num_classes: int | tuple[int, ...], batch_size: int = 500
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Checks labelled images and scales them batch by batch.

    Args:
        data: Images, as `image_batches` takes them; without `labels`, an iterable of batches `(images, labels)`.
        labels: True classes, integers of shape (N,), or (N, n) of n labels.
        num_classes: K, or those of each label.
        batch_size: Images in a batch, where `data` holds images.

    Returns:
        An iterator over batches: float32 images with pixels in [-1, 1], and int64 labels.

    Raises:
        ValueError: If images or labels are not as described, or there are none.
    """
    if labels is not None:
        batches = image_batches(data, batch_size)
        checked = Labels(num_classes).check("labels", labels, len(data))
        return zip(batches, np.split(checked, range(batch_size, len(checked), batch_size)), strict=True)
    return _checked_batches(data, num_classes)


def _checked_batches(data, num_classes):
    if hasattr(data, "shape"):
        raise ValueError("`labels` is None, but `data` is images. Give their `labels`, or batches (images, labels).")
    empty = True
    for batch in data:
        if not isinstance(batch, tuple) or len(batch) != 2:
            raise ValueError(
                f"`data` gives {type(batch).__name__} objects; without `labels` it must give batches (images, labels)."
            )
        images, labels = (ops.convert_to_numpy(part) for part in batch)
        images = np.concatenate(list(image_batches(images)))
        yield images, Labels(num_classes).check("labels", labels, len(images))
        empty = False
    if empty:
        raise ValueError("`data` holds no batches. Give images with their `labels`, or batches (images, labels).")


def check_probabilities(whose: str, probs: np.ndarray) -> None:
    """Raises a `ValueError` unless the rows (N, K) are probabilities."""
    low, sums = probs.min(), probs.sum(axis=1)
    if not (low >= 0.0 and np.abs(sums - 1.0).max() <= 1e-3):  # written so that NaN fails
        raise ValueError(
            f"{whose} numbers from {low:g} to {probs.max():g} that sum to {sums.min():g} to {sums.max():g}; they must "
            "be class probabilities, not negative and with the sum 1. Apply a softmax to logits first."
        )


def posterior_arrays(
    mean: ArrayLike, logvar: ArrayLike, probs: ArrayLike, prior: GaussianMixture
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The parameters of posteriors, (N, K, d) twice and (N, K), as float32 arrays.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, there is no example, or the numbers are not
            finite or the rows of `probs` no probabilities.
    """
    mean, logvar, probs = (np.asarray(array, dtype="float32") for array in (mean, logvar, probs))
    expected = (len(probs), *prior.means.shape) if probs.ndim and len(probs) else None
    if not mean.shape == logvar.shape == expected or probs.shape != expected[:2]:
        raise ValueError(
            f"`mean`, `logvar` and `probs` have shapes {mean.shape}, {logvar.shape} and {probs.shape}; with this prior "
            f"they must be (examples, {prior.num_classes}, {prior.latent_dim}) twice and "
            f"(examples, {prior.num_classes})."
        )
    if not (np.isfinite(mean).all() and np.isfinite(logvar).all()):
        raise ValueError("`mean` and `logvar` must hold finite numbers only: has training diverged?")
    check_probabilities("`probs` holds", probs)
    return mean, logvar, probs


def own_components(logvar: ArrayLike, labels: ArrayLike, prior: GaussianMixture) -> tuple[np.ndarray, np.ndarray]:
    """The log-variances (N, d) of each image in the component of its own class, and the labels as integers.

    Raises:
        ValueError: If the shapes do not fit each other and the prior, or a label is out of range.
    """
    logvar = np.asarray(logvar)
    if logvar.ndim != 3 or logvar.size == 0 or logvar.shape[1:] != prior.means.shape:
        raise ValueError(
            f"`logvar` has shape {logvar.shape}; with this prior it must be (examples, {prior.num_classes}, "
            f"{prior.latent_dim})."
        )
    labels = Labels(prior.num_classes).check("labels", labels, len(logvar))
    return logvar[np.arange(len(labels)), labels], labels


def encode_batches(model: Encodes, images: ArrayLike, batch_size: int = 500) -> np.ndarray:
    """Checks images and encodes them batch by batch with `model.encode`.

    Args:
        model: A model with `encode(x)`.
        images: Shape (N, H, W, C): uint8, or floats already scaled to [-1, 1].
        batch_size: Images in a batch.

    Returns:
        The latent points, float32 of shape (N, d).

    Raises:
        ValueError: If the images are not as described.
    """
    batches = image_batches(images, batch_size)
    with trusted():
        return np.concatenate([as_float32(model.encode(ops.convert_to_tensor(batch))) for batch in batches])


def sample_posterior(model: HasPosterior, images: ArrayLike, seed: int = 0, batch_size: int = 500) -> np.ndarray:
    """Checks images and draws one z ~ q(z | x) for each, from the parameters that `model.posterior` gives.

    Where `posterior` gives a part of the latent variables conditional on another, as `PartedVAE`'s u given the most
    probable class, the draw is conditional on it too.

    Args:
        model: A model with `posterior(x)` and `latents`, see `HasPosterior`.
        images: Shape (N, H, W, C): uint8, or floats already scaled to [-1, 1].
        seed: Seed of the draws.
        batch_size: Images in a batch.

    Returns:
        The latent points, of shape (N, d).

    Raises:
        ValueError: If the images are not as described.
    """
    rng, samples = generator(seed), []
    for batch in image_batches(images, batch_size):
        with trusted():
            posterior = model.posterior(ops.convert_to_tensor(batch))
        arrays = {name: ops.convert_to_numpy(values) for name, values in posterior.items()}
        components = _draw_components(arrays, model.latents, rng)
        parts = [_draw_part(arrays, part, components, rng) for part in model.latents]
        samples.append(np.concatenate(parts, axis=1))
    return np.concatenate(samples)


def _draw_components(
    posterior: dict[str, np.ndarray], parts: Iterable[str], rng: np.random.Generator
) -> np.ndarray | None:
    """The component of each image, by the Gumbel-max trick, where a part is a mixture or the component itself."""
    is_mixture = any(name.endswith("mean") and values.ndim == 3 for name, values in posterior.items())
    if not is_mixture and ("mean" in posterior or all(f"{part}_mean" in posterior for part in parts)):
        return None
    probs = posterior["probs"]
    return np.argmax(np.log(np.maximum(probs, 1e-30)) + rng.gumbel(size=probs.shape), axis=1)


def _draw_part(
    posterior: dict[str, np.ndarray], part: str, components: np.ndarray | None, rng: np.random.Generator
) -> np.ndarray:
    prefix = f"{part}_" if f"{part}_mean" in posterior else ""
    if f"{prefix}mean" not in posterior:
        return np.eye(posterior["probs"].shape[1])[components]
    mean, logvar = posterior[f"{prefix}mean"], posterior[f"{prefix}logvar"]
    if mean.ndim == 3:
        rows = np.arange(len(mean))
        mean, logvar = mean[rows, components], logvar[rows, components]
    return mean + np.exp(logvar / 2) * rng.standard_normal(mean.shape)


def straight_path(start: ArrayLike, end: ArrayLike, n: int) -> np.ndarray:
    """Equally spaced points (n, d) from one latent point to another, both ends included.

    Raises:
        ValueError: If the points have no common dimension.
    """
    start, end = np.asarray(start, dtype="float32"), np.asarray(end, dtype="float32")
    if start.ndim != 1 or start.shape != end.shape:
        raise ValueError(f"`start` and `end` have shapes {start.shape} and {end.shape}; both must be (d,).")
    return np.linspace(start, end, n)
