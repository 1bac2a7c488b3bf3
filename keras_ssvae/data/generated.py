"""Replaces some labelled images by images that a model generates."""

import copy
import inspect
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ssvae.checks import check_whole_number, is_finite_number
from keras_ssvae.distributions import Tensor
from keras_ssvae.models.labels import Labels
from keras_ssvae.noise import Stream
from keras_ssvae.pixels import as_images, to_float

_GENERATED = "model.generate(labels, seed)"


class GeneratedImages:
    """Result of `augment_with`: a function `(images, labels, counter) -> images`, deterministic for each counter.

    Attributes:
        model: A copy of the model, which later training does not change.
        share: See `augment_with`.
        scale: See `augment_with`.
        seed: See `augment_with`.
    """

    def __init__(self, model: Any, share: float, scale: float, seed: int):
        self.model, self.share, self.scale, self.seed = copy.deepcopy(model), share, scale, seed

    def check(self, labels: Labels) -> None:
        """Checks what the model generates, by a few images, since the values of a batch cannot be checked in a graph.

        Raises:
            ValueError: If it generates other classes than these, and says so; or if the result is not one image for
                each label, uint8 or floats in [-1, 1].
        """
        own = getattr(self.model, "num_classes", None)
        if own is not None and Labels(own).sizes != labels.sizes:
            raise ValueError(
                f"`replace_labeled` generates images of {own} classes, but `num_classes` is {labels.num_classes}. They "
                "must be the same, for a generated image has the class of the image that it replaces."
            )

        n = 8  # a single image may look like one in [0, 1]
        zeros = np.zeros((n, len(labels.sizes)) if labels.several else (n,), "int32")
        made = as_images(_GENERATED, self._generate(ops.convert_to_tensor(zeros), self.seed))
        if len(made) != n:
            raise ValueError(f"{_GENERATED} gives {len(made)} images for {n} labels; it must give one for each label.")

    def __call__(self, images: Tensor, labels: Tensor, counter: int | Tensor) -> Tensor:
        """Returns the images of a step, float32 in [-1, 1], some of them replaced. Images without a label are kept.

        Raises:
            ValueError: If the model generates images of another shape.
        """
        stream = Stream(self.seed, counter, purpose="generated images")
        rows = ops.shape(labels)[0]
        chosen = keras.random.uniform((rows,), seed=stream) < self.share
        seed = keras.random.randint((), 0, 2**31 - 1, dtype="int32", seed=stream)
        known = labels >= 0
        chosen &= known if len(labels.shape) == 1 else ops.all(known, axis=-1)
        generated = to_float(ops.convert_to_tensor(self._generate(ops.maximum(labels, 0), seed)))
        if tuple(generated.shape[1:]) != tuple(images.shape[1:]):
            raise ValueError(
                f"`model` generates images of shape {tuple(generated.shape[1:])}, but the labelled ones have shape "
                f"{tuple(images.shape[1:])}. They must be the same."
            )
        images = to_float(images)
        # Reshaped, since a single image would be broadcast.
        generated = ops.reshape(generated, ops.shape(images))
        return ops.where(ops.reshape(chosen, (-1, 1, 1, 1)), generated, images)

    def _generate(self, labels, seed):
        scale = {} if self.scale == 1 else {"scale": self.scale}
        return self.model.generate(labels, seed, **scale)


def augment_with(model: Any, share: float, scale: float = 1.0, seed: int = 0) -> GeneratedImages:
    """Replaces a random share of the labelled images by generated images of the same class, anew at each step.

    Pass the result to `data.semi_supervised(..., replace_labeled=...)`. The images are generated while the batches are
    made, and are not stored. The selection and the noise depend only on this seed and the step, not on the seed of the
    batches. So a resumed run sees the same images, and the order of the given images does not depend on this seed.

    An image is generated for every image of a batch, and then used or not. So the cost does not depend on the share.

    Args:
        model: A model with `generate(labels, seed)`, such as all models of this library that classify. It is copied, so
            later training of the model has no effect.
        share: Probability that a labelled image is replaced, from 0 to 1.
        scale: Argument of the model's `generate`: factor of the standard deviations of its prior.
        seed: An integer of at least 0.

    Returns:
        A function `(images, labels, counter) -> images`. `counter` chooses the random numbers;
        `data.semi_supervised(replace_labeled=...)` gives each step another one.

    Raises:
        ValueError: If the model cannot generate images of given labels; if it has no `scale` although one other than 1
            is given; for an invalid share, scale or seed.

    Example:

    >>> batches = data.semi_supervised((images, labels), None, num_classes=10, steps_per_epoch=100, seed=1,
    ...     replace_labeled=data.augment_with(model, share=0.4, scale=1.5))

    Reference: N-VAE, Figure 9.
    """
    generate = getattr(model, "generate", None)
    parameters = dict(inspect.signature(generate).parameters) if callable(generate) else {}
    if not {"labels", "seed"} <= set(parameters):
        raise ValueError(
            f"`model` is a {type(model).__name__} without `generate(labels, seed)`; it must generate images of given "
            "labels, as `NVAE`, `CVAE`, `EXoN`, `PartedVAE` and `REVAE` do."
        )
    for name, value, highest in (("share", share, 1.0), ("scale", scale, math.inf)):
        if not is_finite_number(value) or value > highest:
            what = "a probability, from 0 to 1" if name == "share" else "a finite number, 0 or more"
            raise ValueError(f"`{name}` is {value!r}; it must be {what}.")
    if scale != 1 and "scale" not in parameters:
        raise ValueError(
            f"`scale` is {scale!r}, but `generate` of {type(model).__name__} has no such argument. Leave it out."
        )
    return GeneratedImages(model, float(share), float(scale), check_whole_number("seed", seed, 0))
