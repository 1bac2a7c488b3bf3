"""The report: all metrics of a model on a test set."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import inference
from keras_ssvae.evaluation.information import KLDecomposition, kl_decomposition, kl_gaussian_bounds
from keras_ssvae.evaluation.inputs import labeled_batches, posterior_arrays, unlabeled_batches
from keras_ssvae.evaluation.metrics import activated, v_nat
from keras_ssvae.evaluation.placement import NUMBERS, Judge, of_outputs
from keras_ssvae.evaluation.ssim import WINDOW_SIZE, negative_ssim
from keras_ssvae.losses import reconstruction
from keras_ssvae.models.batched import as_float32, decode_batches
from keras_ssvae.models.capabilities import Classifies, HasClassPrior, HasTerms
from keras_ssvae.pixels import trusted

# The entries of a class-prior model's report that are single numbers. The other entries are lists by class.
_NUMBERS = (
    "error_percent",
    "kl_categorical",
    "kl_gaussian",
    "reconstruction",
    "kl_divergence",
    "kl_gaussian_lower_bound",
    "kl_gaussian_upper_bound",
    *KLDecomposition._fields,
    *NUMBERS,
)
GRID_31 = np.stack(np.meshgrid(np.arange(-15.0, 16.0), np.arange(-15.0, 16.0)), axis=-1).reshape(-1, 2)


def check_can_report(model: keras.Model, function: str = "report") -> None:
    """Raises a `ValueError`, which names the function, if there is no report of such a model."""
    if not isinstance(model, HasClassPrior | HasTerms):
        raise ValueError(
            f"`{function}` needs a model of this library, which has `evaluation_terms`, or a model whose prior has one "
            f"component for each class (`class_prior`); {type(model).__name__} has neither."
        )


def names_of_numbers(model: keras.Model, ssim: bool = False) -> tuple[str, ...]:
    """The names of the entries of a model's report that are single numbers."""
    if isinstance(model, HasClassPrior):
        return (*_NUMBERS, "negative_ssim") if ssim else _NUMBERS
    terms = tuple(name for name in model.test_terms if name != "error")
    return ("error_percent", *terms) if isinstance(model, Classifies) else terms


def batches_for(
    model: keras.Model, data: ArrayLike | Iterable, labels: ArrayLike | None, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    """The checked batches for a model's report: images with labels, or with None for a model without a classifier."""
    if isinstance(model, HasClassPrior):
        return labeled_batches(data, labels, model.class_prior.num_classes, batch_size)
    if isinstance(model, Classifies):
        return labeled_batches(data, labels, model.num_classes, batch_size)
    return ((images, None) for images in unlabeled_batches(data, batch_size))


def report(
    model: keras.Model,
    data: ArrayLike | Iterable,
    labels: ArrayLike | None = None,
    batch_size: int = 500,
    ssim: bool = False,
) -> dict[str, Any]:
    """Evaluates a model on a test set.

    The report is deterministic: inference mode, posterior means, the most probable class, and a fixed seed for draws.

    Args:
        model: A model of this library, or another model with the capability `HasTerms`. Or a model with the capability
            `HasClassPrior` whose call returns `mean`, `logvar`, `probs` and `reconstruction`, as that of `EXoN`.
        data: Images, shape (N, H, W, C): uint8, or floats scaled to [-1, 1]. Without `labels`, a `tf.data.Dataset` or
            another iterable of batches `(images, labels)`, which must be finite.
        labels: True classes, integers of shape (N,), or (N, n) for a model with n labels for each image. A model
            without a classifier needs no labels, ignores given ones, and accepts batches of images only.
        batch_size: Number of images in a batch, if `data` holds images.
        ssim: Whether to compute `negative_ssim`, which compares all pairs of 961 decoded images. It takes about ten
            seconds, whatever the number of images in `data`.

    Returns:
        A dict of plain numbers, ready for JSON. Nats and errors are means over the N images.

        For every model: the mean of each of the model's own terms, under the term's name (`PartedVAE`:
        `reconstruction`, `kl_z`, `kl_u`, `entropy_c`).

        Also, for a model that classifies:

        * `error_percent`: equation (25) of EXoN. For a model with several labels, the percentage of wrong labels.
        * `error_percent_per_class`: a list by true class, None for a class without images. For a model with several
          labels `error_percent_per_label`, a list, in its place.

        Also, for a model whose prior has one component for each class, such as `EXoN` (the equations are EXoN's):

        * `kl_divergence` = `kl_categorical` + `kl_gaussian`: equation (23), nats.
        * `kl_gaussian_lower_bound`, `kl_gaussian_upper_bound`: Theorem 1, nats; None if a class has no image.
        * `information_xy`, `kl_y`, `information_xz`, `kl_z`: the parts of the KL-divergence in equation (22), nats;
          with `information_xz_standard_error` and `information_xz_ceiling`; see `KLDecomposition`.
        * `reconstruction`: half the squared error summed over pixels, in nats times beta.
        * `negative_ssim`, with `ssim=True` only: equation (24), for the decoded grid -15, -14, ..., 15. None if the
          latent space is not a plane or the images are smaller than 11 x 11.
        * `kl_gaussian_per_class`: a list by true class, None for a class without images.
        * `activated_at_1`: a list by true class, the number of coordinates whose V-nat is above 1; None as above.
        * `v_nat`: a list by true class, the d V-nats in nats; None as above. `plots.v_nat` draws it.
        * all entries of `Places`: where the classes lie, and whether generated images belong to their class; see
          `places`.

    Raises:
        ValueError: If the model has neither capability, or the images or the labels are not as described.

    Example:

    ```python
    metrics = report(model, data.test_images, data.test_labels)
    print(f"test error {metrics['error_percent']:.2f} %")
    ```

    Reference: EXoN, Theorem 1, equations (22) to (25), Appendix A.2, Table 3, and A.3, Figure 7.
    """
    check_can_report(model)
    if isinstance(model, HasClassPrior):
        return _report_of_class_prior(model, data, labels, batch_size, ssim)
    return _report_of_terms(model, data, labels, batch_size)


def _report_of_class_prior(model, data, labels, batch_size, ssim):
    prior = model.class_prior
    infer, judge = inference(model), Judge(prior.num_classes)
    collected: dict[str, list[Any]] = {n: [] for n in ("mean", "logvar", "probs", "reconstruction", "labels")}
    for x, y in labeled_batches(data, labels, prior.num_classes, batch_size):
        judge.see(x, y)
        # With mixed precision the outputs may be in half precision, which is too coarse for sums over pixels.
        with trusted():
            outputs = {name: as_float32(value) for name, value in infer(x).items()}
        image_shape = x.shape[1:]
        outputs["reconstruction"] = as_float32(reconstruction(x, outputs["reconstruction"]))
        outputs["labels"] = np.asarray(y)
        for name, batches in collected.items():
            batches.append(outputs[name])
    mean, logvar, probs, squared, labels = map(np.concatenate, collected.values())
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)

    terms = prior.categorical_kl(probs), prior.kl(probs, mean, logvar)
    per_example = {
        "error_percent": 100.0 * (probs.argmax(axis=1) != labels),
        **dict(zip(("kl_categorical", "kl_gaussian"), map(ops.convert_to_numpy, terms), strict=True)),
        "reconstruction": squared,
    }
    metrics: dict[str, Any] = _means(per_example)
    metrics["kl_divergence"] = metrics["kl_categorical"] + metrics["kl_gaussian"]
    seen = np.isin(np.arange(prior.num_classes), labels)
    bounds = kl_gaussian_bounds(logvar, labels, prior) if seen.all() else (None, None)
    metrics["kl_gaussian_lower_bound"], metrics["kl_gaussian_upper_bound"] = bounds
    metrics |= kl_decomposition(mean, logvar, probs, prior)._asdict()
    if ssim:
        is_plane = prior.latent_dim == 2 and min(image_shape[:2]) >= WINDOW_SIZE
        metrics["negative_ssim"] = negative_ssim(decode_batches(model, GRID_31, batch_size)) if is_plane else None
    for name in ("error_percent", "kl_gaussian"):
        metrics[f"{name}_per_class"] = _per_class(per_example[name], labels, prior.num_classes)
    values = v_nat(logvar, labels, prior)
    counts = activated(values).sum(axis=1)
    metrics["activated_at_1"] = [int(count) if there else None for count, there in zip(counts, seen, strict=True)]
    metrics["v_nat"] = [row.tolist() if there else None for row, there in zip(values, seen, strict=True)]
    return metrics | of_outputs(model, prior, mean, probs, labels, judge, batch_size)._asdict()


def _report_of_terms(model, data, labels, batch_size):
    """The mean of each of the model's own terms, and the errors of a model that classifies."""
    collected: dict[str, list[np.ndarray]] = {}
    for x, y in batches_for(model, data, labels, batch_size):
        targets = None if y is None else ops.convert_to_tensor(y)
        with trusted():
            terms: dict[str, Any] = model.evaluation_terms(ops.convert_to_tensor(x), targets)
        if y is not None:
            terms = {**terms, "labels": y}
        for name, values in terms.items():
            collected.setdefault(name, []).append(ops.convert_to_numpy(values))
    per_example = {name: np.concatenate(values) for name, values in collected.items()}
    if not isinstance(model, Classifies):
        return _means(per_example)
    labels, error = per_example.pop("labels"), per_example.pop("error")
    per_label = per_example.pop("error_per_label", None)
    metrics: dict[str, Any] = _means({"error_percent": error, **per_example})
    if per_label is not None:
        return {**metrics, "error_percent_per_label": per_label.mean(axis=0, dtype="float64").tolist()}
    return {**metrics, "error_percent_per_class": _per_class(error, labels, model.num_classes)}


def _means(per_example):
    return {name: float(values.mean(dtype="float64")) for name, values in per_example.items()}


def _per_class(values, labels, num_classes):
    by_class = (values[labels == k] for k in range(num_classes))
    return [float(each.mean(dtype="float64")) if len(each) else None for each in by_class]
