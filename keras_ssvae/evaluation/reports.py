"""All figures of one model on one test set."""

from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.distributions import mixture_kl
from keras_ssvae.evaluation.figures import activated, v_nat_of_own_components
from keras_ssvae.evaluation.inputs import as_float32, check_labels, decode_batches, image_batches
from keras_ssvae.evaluation.ssim import WINDOW_SIZE, negative_ssim
from keras_ssvae.losses import reconstruction
from keras_ssvae.training import inference

GRID_31 = np.stack(np.meshgrid(np.arange(-15.0, 16.0), np.arange(-15.0, 16.0)), axis=-1).reshape(-1, 2)


def report(model: keras.Model, images: ArrayLike, labels: ArrayLike, batch_size: int = 500) -> dict[str, Any]:
    """Runs a model with a Gaussian mixture prior, such as `EXoN`, over a test set.

    Everything is deterministic: inference mode, posterior means, the most probable class.

    Args:
        model: Its call returns `probs`, `mean`, `logvar` and `reconstruction` in a dict; it has a `prior`, and
            `decode(z)`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,).
        batch_size: Images in a batch.

    Returns:
        A dict of plain numbers, ready for JSON; nats and errors are means over the N images:

        * `error_percent`: equation (25).
        * `kl_divergence` = `kl_categorical` + `kl_gaussian`: equation (23), nats.
        * `reconstruction`: half the squared error summed over pixels, in nats times beta.
        * `negative_ssim`: equation (24), of the decoded grid -15, -14, ..., 15; None where the latent space is not a
          plane or the images are smaller than 11 x 11.
        * `error_percent_per_class`, `kl_gaussian_per_class`: lists by true class, None for a class without images.
        * `activated_at_1`: by true class, the number of coordinates whose V-nat is above 1; None as above.
        * `v_nat`: by true class, the list of the d V-nats in nats; None as above. It is what `plots.v_nat` draws.

    Raises:
        ValueError: If the images or the labels are not as described.

    Example:

    ```python
    figures = report(model, data.test_images, data.test_labels)
    print(f"test error {figures['error_percent']:.2f} %")
    ```

    Reference: the paper's Appendix A.2, Table 3, and A.3, Figure 7.
    """
    prior = model.prior
    batches = image_batches(images, batch_size)
    labels = check_labels(labels, len(images), prior.num_classes)
    terms = {"error_percent": [], "kl_categorical": [], "kl_gaussian": [], "reconstruction": []}
    own_logvar = []
    infer = inference(model)
    for index, x in enumerate(batches):
        # Models of mixed precision may answer in half precision, which is too coarse for sums over pixels.
        outputs = {name: as_float32(value) for name, value in infer(x).items()}
        kl_categorical, kl_gaussian = mixture_kl(
            outputs["probs"], outputs["mean"], outputs["logvar"], prior.means, prior.variances
        )
        own = labels[index * batch_size : (index + 1) * batch_size]
        own_logvar.append(outputs["logvar"][np.arange(len(own)), own])
        terms["error_percent"].append(100.0 * (outputs["probs"].argmax(axis=1) != own))
        terms["kl_categorical"].append(ops.convert_to_numpy(kl_categorical))
        terms["kl_gaussian"].append(ops.convert_to_numpy(kl_gaussian))
        terms["reconstruction"].append(ops.convert_to_numpy(reconstruction(x, outputs["reconstruction"])))

    per_example = {name: np.concatenate(values).astype("float64") for name, values in terms.items()}
    figures = {name: float(values.mean()) for name, values in per_example.items()}
    figures["kl_divergence"] = figures["kl_categorical"] + figures["kl_gaussian"]
    figures["negative_ssim"] = None
    if prior.latent_dim == 2 and min(np.shape(images)[1:3]) >= WINDOW_SIZE:
        figures["negative_ssim"] = negative_ssim(decode_batches(model, GRID_31, batch_size))
    for name in ("error_percent", "kl_gaussian"):
        by_class = (per_example[name][labels == k] for k in range(prior.num_classes))
        figures[f"{name}_per_class"] = [float(values.mean()) if len(values) else None for values in by_class]
    values = v_nat_of_own_components(np.concatenate(own_logvar), labels, prior)
    seen = np.isin(np.arange(prior.num_classes), labels)
    figures["activated_at_1"] = [
        int(count) if there else None for count, there in zip(activated(values).sum(axis=1), seen, strict=True)
    ]
    figures["v_nat"] = [row.tolist() if there else None for row, there in zip(values, seen, strict=True)]
    return figures
