"""The likelihood of images, estimated by importance weights."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.backend import SEED_DTYPE, compiled
from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.capabilities import HasImportanceWeights
from keras_ssvae.noise import Stream

# The seeds of successive images differ by this number. It is odd, so that no two images of a set have the same seed,
# and large, so that runs with successive seeds do not give the seeds of neighbouring images.
_SEED_OF_IMAGE = 0x9E3779B1
_COUNTERS_PER_MINIBATCH = 64  # most draws that a model's `posterior_noise` may make


class NLL(NamedTuple):
    """The negative log-likelihood of N images, estimated from S samples for each. All numbers are nats per image.

    Attributes:
        mean: The mean of `per_image`. Lower is better.
        standard_error: Standard error of the mean as an estimate for all images of this kind: the standard deviation of
            `per_image` (N - 1 degrees of freedom), divided by `sqrt(N)`. NaN for a single image.
        monte_carlo_error: The error of the mean for exactly these images, which more samples would reduce: the root of
            the sum of the squares of `monte_carlo_errors`, divided by N. NaN for a single sample.
        bound: The negative ELBO from the same samples: minus the mean of all logarithms of weights. It is never below
            `mean`.
        per_image: `-log(1/S sum_s w_s)` of each image, float64 `(N,)`, with its importance weights
            `w_s = p(x, z_s) / q(z_s | x)`. Its expectation is never below the true value, and approaches it with
            growing S.
        monte_carlo_errors: The standard deviation of each value of `per_image`, to first order in `1/S`, `(N,)`: the
            standard deviation of the image's weights (S - 1 degrees of freedom), divided by `sqrt(S)` and by their
            mean. It is too small if q misses a part of the posterior, since no sample shows this part.
    """

    mean: float
    standard_error: float
    monte_carlo_error: float
    bound: float
    per_image: np.ndarray
    monte_carlo_errors: np.ndarray


def nll(
    model: HasImportanceWeights,
    images: ArrayLike,
    samples: int = 5000,
    samples_per_batch: int = 100,
    batch_size: int = 20,
    seed: int = 0,
) -> NLL:
    """The importance-weighted negative log-likelihood of images: `-log 1/S sum_s p(x, z_s) / q(z_s | x)`, `z_s ~ q`.

    It needs memory for `batch_size * samples_per_batch` decoded images, whatever the numbers of images and samples.

    The samples of an image depend on `seed`, on its position in `images` and on `samples_per_batch`, but not on
    `batch_size` or the other images. A run with more `samples` first draws the samples of a run with fewer, if both
    numbers are at least `samples_per_batch`.

    Args:
        model: A model of this library, or another model with the capability `HasImportanceWeights`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1]. They must be images of the kind that the
            likelihood describes. Bernoulli pixels must be black and white (see `data.binarize`): for grey images the
            result is not a likelihood.
        samples: Number S of samples for each image.
        samples_per_batch: Number of samples of each image that are decoded at once.
        batch_size: Number of images that are processed at once.
        seed: Seed of the samples.

    Returns:
        An `NLL`, with the mean and its errors.

    Raises:
        ValueError: If the model lacks the capability, an argument does not fit, or a weight is not finite.

    Example:

    ```python
    test = data.binarize(images.test_images, seed=777)
    result = nll(model, test)
    print(f"{result.mean:.2f} nats, +- {result.standard_error:.2f} (images), {result.monte_carlo_error:.2f} (samples)")
    ```

    Reference: [Burda, Grosse, Salakhutdinov: Importance weighted autoencoders, 2016](https://arxiv.org/abs/1509.00519),
    equation (8).
    """
    if not isinstance(model, HasImportanceWeights):
        raise ValueError(
            "`nll` needs a model with `log_weights` and `posterior_noise`, such as the models of this library, but "
            f"{type(model).__name__} lacks them."
        )
    samples = check_whole_number("samples", samples, 1)
    samples_per_batch = check_whole_number("samples_per_batch", samples_per_batch, 1)
    batch_size, seed = check_whole_number("batch_size", batch_size, 1), check_whole_number("seed", seed, 0)
    batches = image_batches(images, batch_size)
    results = [
        _estimates(weights) for weights in _weights(model, batches, samples, min(samples_per_batch, samples), seed)
    ]
    per_image, errors, bounds = (np.concatenate(parts) for parts in zip(*results, strict=True))
    n = len(per_image)
    return NLL(
        mean=float(per_image.mean()),
        standard_error=float(per_image.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        monte_carlo_error=float(np.sqrt(np.sum(errors**2)) / n),
        bound=float(bounds.mean()),
        per_image=per_image,
        monte_carlo_errors=errors,
    )


def _weights(model, batches, samples, samples_per_batch, seed) -> Iterator[Iterator[np.ndarray]]:
    """Yields for each batch of B images an iterator over log weights, float64 `(B, <= samples_per_batch)`."""

    def of_minibatch(x, seeds, minibatch):
        def noise_of(seed):
            stream = Stream(seed, minibatch * _COUNTERS_PER_MINIBATCH, "nll")
            return model.posterior_noise(1, samples_per_batch, stream)

        return model.log_weights(x, {name: values[:, 0] for name, values in ops.map(noise_of, seeds).items()})

    program = compiled(model, of_minibatch)
    size, first = None, 0
    for batch in batches:
        size = size or len(batch)
        # The last batch is padded, so that one compiled program serves all batches.
        x = np.concatenate([batch, np.repeat(batch[-1:], size - len(batch), axis=0)])
        seeds = (seed + _SEED_OF_IMAGE * np.arange(first, first + size)) % 2**32
        arguments = ops.convert_to_tensor(x), ops.convert_to_tensor(seeds.astype(SEED_DTYPE))
        first += len(batch)
        yield (
            ops.convert_to_numpy(program(*arguments, ops.convert_to_tensor(np.int32(i))))[
                : len(batch), : samples - i * samples_per_batch
            ].astype("float64")
            for i in range(-(-samples // samples_per_batch))
        )


def _estimates(weights: Iterator[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`per_image`, `monte_carlo_errors` and the bound of each image of a batch, in one pass over its weights."""
    # Sums over the samples so far: of the weights and of their squares, both relative to the largest weight.
    largest, total, squares, logs = (np.array(start) for start in (-np.inf, 0.0, 0.0, 0.0))
    count = 0
    for log_weights in weights:
        if not np.isfinite(log_weights).all():
            raise ValueError("`log_weights` of the model gives numbers that are not finite: has training diverged?")
        before, largest = largest, np.maximum(largest, log_weights.max(axis=1))
        scale = np.exp(before - largest)
        relative = np.exp(log_weights - largest[:, None])
        total = scale * total + relative.sum(axis=1)
        squares = scale**2 * squares + (relative**2).sum(axis=1)
        logs = logs + log_weights.sum(axis=1)
        count += log_weights.shape[1]
    per_image = math.log(count) - np.log(total) - largest
    variance = np.maximum(count * squares / total**2 - 1.0, 0.0) / (count - 1) if count > 1 else np.nan * total
    return per_image, np.sqrt(variance), -logs / count
