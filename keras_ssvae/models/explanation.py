"""Explanation of one image: its class, its place in the latent space, and what each active coordinate changes."""

import dataclasses
import math
import numbers
from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.models.batched import decode_batches
from keras_ssvae.models.capabilities import require_class_prior
from keras_ssvae.pixels import as_images, trusted

SPAN = 2.0  # a coordinate is decoded at this many prior standard deviations on both sides of the centre

# Number of rows that the networks see at once; it limits the memory.
_BATCH = 32
_MOST_OFFSETS_IN_A_SENTENCE = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Explanation:
    """Explanation of one image x by a model with K components in a latent space of d dimensions.

    All arrays are NumPy arrays, float32 except `active`. Below, k is the component of the image: `component`.

    Attributes:
        probs: Class probabilities w(y | x), shape (K,).
        component: The most probable component.
        z: The posterior mean mu_k(x), shape (d,), as `encode` returns it.
        offsets: (z - m_k) / s_k, shape (d,): how far z lies from the component's centre, in prior standard deviations.
        distance: The Euclidean norm of `offsets`, the Mahalanobis distance from the centre.
        usual_distance: The root mean square of `distance` over images that fill the component as the prior does and
            have posteriors as wide as this one: the root of sum_j (1 - sigma_kj^2(x) / s_kj^2).
        v_nat: log(s_kj^2 / sigma_kj^2(x)) of each coordinate j in nats, shape (d,): how much narrower than the prior
            the posterior is. It is the V-nat of EXoN's Section 3.4, for this image instead of the mean over its class.
        delta: The V-nat above which a coordinate counts as active.
        active: The coordinates whose `v_nat` is above `delta`, integers of shape (A,), the highest V-nat first.
        low: Decoded with one active coordinate set to m_kj - 2 s_kj and all others as in z, shape (A, H, W, C). The
            range is centred on the component, not on z, so it is the same for all images of a class. `offsets` tells
            where in this range, or how far outside it, the image lies.
        high: The same at m_kj + 2 s_kj.
        reconstruction: `decode(z)`, shape (H, W, C).

    Example:

    ```python
    for result in model.explain(images):
        print(result.sentence(), result.active)
    ```

    Reference: EXoN, Section 3.4: V-nat, and the active coordinates, A_k(delta).
    """

    probs: np.ndarray
    component: int
    z: np.ndarray
    offsets: np.ndarray
    distance: float
    usual_distance: float
    v_nat: np.ndarray
    delta: float
    active: np.ndarray
    low: np.ndarray
    high: np.ndarray
    reconstruction: np.ndarray

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.sentence()}>"

    def sentence(self, class_names: Sequence[str] | None = None) -> str:
        """Describes the image's place in words: with the offsets if they are few, else with the usual distance."""
        k, d = self.component, len(self.z)
        name = f"component {k}"
        if class_names is not None and class_names[k] != str(k):
            name += f" ({class_names[k]})"
        if d <= _MOST_OFFSETS_IN_A_SENTENCE:
            detail = ", ".join(f"{offset:+.1f}" for offset in self.offsets)
        else:
            detail = f"usual: {self.usual_distance:.1f}"
        return f"The image falls in {name}, {self.distance:.1f} prior standard deviations from its centre ({detail})."


def explain(model: keras.Model, images: ArrayLike, delta: float = 1.0) -> list[Explanation]:
    """As `EXoN.explain`, for any model that has a class prior (`HasClassPrior`), `image_shape` and `decode(z)`.

    Raises:
        ValueError: If the model has no class prior, the images are not as described, or `delta` is not finite.
    """
    prior = require_class_prior(model, "explain", "`encode` gives the place in the latent space of any model.")
    is_number = isinstance(delta, numbers.Real)
    if not is_number or not math.isfinite(delta):
        raise ValueError(f"`delta` is {delta!r}; it must be a finite number of nats.")
    checked = ops.convert_to_numpy(as_images("images", images, model.image_shape, in_doubt="warn"))
    explanations: list[Explanation] = []
    for start in range(0, len(checked), _BATCH):
        explanations += _explain_batch(model, prior, checked[start : start + _BATCH], float(delta))
    return explanations


def _explain_batch(model, prior, images, delta):
    with trusted():
        posterior = model.posterior(ops.convert_to_tensor(images))
    mean, logvar, probs = (ops.convert_to_numpy(posterior[name]) for name in ("mean", "logvar", "probs"))
    component, rows = probs.argmax(axis=1), np.arange(len(images))
    centre, variance = prior.means[component], prior.variances[component]
    z, scale = mean[rows, component], np.sqrt(variance)
    offsets = (z - centre) / scale
    v_nat = np.log(variance) - logvar[rows, component]
    active = [np.argsort(-of_one, kind="stable")[: np.sum(of_one > delta)] for of_one in v_nat]
    ends = centre - SPAN * scale, centre + SPAN * scale
    points = [_points(z[i], active[i], ends[0][i], ends[1][i]) for i in rows]
    # Copies: otherwise a single explanation would keep the images of all explanations in memory.
    splits = np.cumsum([len(each) for each in points])[:-1]
    decoded = [each.copy() for each in np.split(_decode(model, np.concatenate(points)), splits)]
    return [
        Explanation(
            probs=probs[i],
            component=int(component[i]),
            z=z[i],
            offsets=offsets[i],
            distance=float(np.linalg.norm(offsets[i])),
            usual_distance=float(np.sqrt(np.maximum(0.0, 1.0 - np.exp(-v_nat[i])).sum())),
            v_nat=v_nat[i],
            delta=delta,
            active=active[i],
            low=decoded[i][1 : 1 + len(active[i])],
            high=decoded[i][1 + len(active[i]) :],
            reconstruction=decoded[i][0],
        )
        for i in rows
    ]


def _points(z, active, low, high):
    """Points (1 + 2 A, d): z, then z with each active coordinate in turn at its low end, then at its high end."""
    points = np.tile(z, (1 + 2 * len(active), 1))
    changed = np.arange(1, len(points))
    points[changed, np.tile(active, 2)] = np.concatenate([low[active], high[active]])
    return points


def _decode(model, points):
    # All batches have one size: JAX compiles for each size, and images differ in the number of active coordinates.
    padded = np.pad(points, ((0, -len(points) % _BATCH), (0, 0)))
    return decode_batches(model, padded, _BATCH)[: len(points)]
