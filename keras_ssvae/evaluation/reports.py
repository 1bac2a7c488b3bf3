"""All figures of one model on one test set."""

from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import inference
from keras_ssvae.distributions import mixture_kl
from keras_ssvae.evaluation.figures import activated, v_nat
from keras_ssvae.evaluation.information import KLDecomposition, kl_decomposition, kl_gaussian_bounds
from keras_ssvae.evaluation.inputs import as_float32, decode_batches, labeled_batches, posterior_arrays
from keras_ssvae.evaluation.ssim import WINDOW_SIZE, negative_ssim
from keras_ssvae.losses import reconstruction

# The single numbers of a report of a model with a mixture as prior; all else are lists by class.
_NUMBERS = ("error_percent", "kl_categorical", "kl_gaussian", "reconstruction", "kl_divergence")
_NUMBERS += ("kl_gaussian_lower_bound", "kl_gaussian_upper_bound", *KLDecomposition._fields, "negative_ssim")
GRID_31 = np.stack(np.meshgrid(np.arange(-15.0, 16.0), np.arange(-15.0, 16.0)), axis=-1).reshape(-1, 2)


def names_of_numbers(model: keras.Model) -> tuple[str, ...]:
    """The entries of a model's report that are single numbers."""
    if getattr(model, "prior", None) is not None:
        return _NUMBERS
    return ("error_percent", *(name for name in model.test_terms if name != "error"))


def report(
    model: keras.Model, data: ArrayLike | Iterable, labels: ArrayLike | None = None, batch_size: int = 500
) -> dict[str, Any]:
    """Runs a model over a test set.

    Everything is deterministic: inference mode, posterior means, the most probable class, draws of one seed.

    Args:
        model: A model of this library. What is listed below wants a Gaussian mixture as `prior`, such as `EXoN`'s; of
            others there are the errors, and the means of the model's own terms (`PartedVAE`: `reconstruction`, `kl_z`,
            `kl_u`, `entropy_c`).
        data: Images, shape (N, H, W, C): uint8, or floats scaled to [-1, 1]. Without `labels`, a `tf.data.Dataset` or
            another iterable of batches `(images, labels)`, which must end.
        labels: True classes, integers of shape (N,); of models with n labels (N, n).
        batch_size: Images in a batch, where `data` holds images.

    Returns:
        A dict of plain numbers, ready for JSON; nats and errors are means over the N images:

        * `error_percent`: equation (25).
        * `kl_divergence` = `kl_categorical` + `kl_gaussian`: equation (23), nats.
        * `kl_gaussian_lower_bound`, `kl_gaussian_upper_bound`: Theorem 1, nats; None if a class has no image.
        * `information_xy`, `kl_y`, `information_xz`, `kl_z`: the parts of the KL-divergence in equation (22), nats;
          with `information_xz_standard_error` and `information_xz_ceiling`, see `KLDecomposition`.
        * `reconstruction`: half the squared error summed over pixels, in nats times beta.
        * `negative_ssim`: equation (24), of the decoded grid -15, -14, ..., 15; None where the latent space is not a
          plane or the images are smaller than 11 x 11.
        * `error_percent_per_class`, `kl_gaussian_per_class`: lists by true class, None for a class without images. Of
          models with several labels instead `error_percent_per_label`, a list.
        * `activated_at_1`: by true class, the number of coordinates whose V-nat is above 1; None as above.
        * `v_nat`: by true class, the list of the d V-nats in nats; None as above. It is what `plots.v_nat` draws.

    Raises:
        ValueError: If the images or the labels are not as described.

    Example:

    ```python
    figures = report(model, data.test_images, data.test_labels)
    print(f"test error {figures['error_percent']:.2f} %")
    ```

    Reference: the paper's Theorem 1, equations (22) to (25), Appendix A.2, Table 3, and A.3, Figure 7.
    """
    if getattr(model, "prior", None) is None:
        return _report_of_terms(model, data, labels, batch_size)
    prior = model.prior
    infer = inference(model)
    collected = {name: [] for name in ("mean", "logvar", "probs", "reconstruction", "labels")}
    for x, y in labeled_batches(data, labels, prior.num_classes, batch_size):
        # Models of mixed precision may answer in half precision, which is too coarse for sums over pixels.
        outputs = {name: as_float32(value) for name, value in infer(x).items()}
        image_shape = x.shape[1:]
        outputs |= {"reconstruction": as_float32(reconstruction(x, outputs["reconstruction"])), "labels": y}
        for name, values in collected.items():
            values.append(outputs[name])
    mean, logvar, probs, squared, labels = map(np.concatenate, collected.values())
    mean, logvar, probs = posterior_arrays(mean, logvar, probs, prior)

    terms = mixture_kl(probs, mean, logvar, prior.means, prior.variances)
    per_example = {
        "error_percent": 100.0 * (probs.argmax(axis=1) != labels),
        **dict(zip(("kl_categorical", "kl_gaussian"), map(ops.convert_to_numpy, terms), strict=True)),
        "reconstruction": squared,
    }
    figures = {name: float(values.mean(dtype="float64")) for name, values in per_example.items()}
    figures["kl_divergence"] = figures["kl_categorical"] + figures["kl_gaussian"]
    seen = np.isin(np.arange(prior.num_classes), labels)
    bounds = kl_gaussian_bounds(logvar, labels, prior) if seen.all() else (None, None)
    figures |= dict(zip(("kl_gaussian_lower_bound", "kl_gaussian_upper_bound"), bounds, strict=True))
    figures |= kl_decomposition(mean, logvar, probs, prior)._asdict()
    figures["negative_ssim"] = None
    if prior.latent_dim == 2 and min(image_shape[:2]) >= WINDOW_SIZE:
        figures["negative_ssim"] = negative_ssim(decode_batches(model, GRID_31, batch_size))
    for name in ("error_percent", "kl_gaussian"):
        figures[f"{name}_per_class"] = _per_class(per_example[name], labels, prior.num_classes)
    values = v_nat(logvar, labels, prior)
    counts = activated(values).sum(axis=1)
    figures["activated_at_1"] = [int(count) if there else None for count, there in zip(counts, seen, strict=True)]
    figures["v_nat"] = [row.tolist() if there else None for row, there in zip(values, seen, strict=True)]
    return figures


def _report_of_terms(model, data, labels, batch_size):
    """The errors, and the mean of each of the model's own terms."""
    several, collected = not isinstance(model.num_classes, int), {}
    for x, y in labeled_batches(data, labels, model.num_classes, batch_size):
        images = ops.convert_to_tensor(x)
        outputs = {**model.evaluation_terms(images, ops.convert_to_tensor(y)), "labels": y}
        if several:  # of one label the error of an image says it
            outputs["wrong"] = ops.convert_to_numpy(model.predicted_labels(model.classify(images))) != y
        for name, values in outputs.items():
            collected.setdefault(name, []).append(ops.convert_to_numpy(values))
    collected = {name: np.concatenate(values) for name, values in collected.items()}
    labels, wrong, error = collected.pop("labels"), collected.pop("wrong", None), collected.pop("error")
    figures = {"error_percent": float(error.mean(dtype="float64"))}
    figures |= {name: float(values.mean(dtype="float64")) for name, values in collected.items()}
    if several:
        return {**figures, "error_percent_per_label": (100.0 * wrong.mean(axis=0)).tolist()}
    return {**figures, "error_percent_per_class": _per_class(error, labels, model.num_classes)}


def _per_class(values, labels, num_classes):
    by_class = (values[labels == k] for k in range(num_classes))
    return [float(each.mean(dtype="float64")) if len(each) else None for each in by_class]
