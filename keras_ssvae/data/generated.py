"""Labelled images that a model generates, in the place of some of the given ones."""

import copy
import inspect
import math
import numbers
from typing import Any

import keras
from keras import ops

from keras_ssvae.checks import check_whole_number
from keras_ssvae.distributions import Tensor
from keras_ssvae.noise import Stream


class GeneratedImages:
    """What `augment_with` gives: `(images, labels, counter) -> images`, a pure function for each counter.

    Attributes:
        model: A copy of the model, which later training does not change.
        share: See `augment_with`.
        scale: See `augment_with`.
        seed: See `augment_with`.
    """

    def __init__(self, model: Any, share: float, scale: float, seed: int):
        self.model, self.share, self.scale, self.seed = copy.deepcopy(model), share, scale, seed

    def __call__(self, images: Tensor, labels: Tensor, counter: int | Tensor) -> Tensor:
        """The images of a step, float32 in [-1, 1], some of them replaced; those without a label are kept.

        Raises:
            ValueError: If the model generates images of another shape.
        """
        stream = Stream(self.seed, counter, purpose="generated images")
        rows = ops.shape(labels)[0]
        chosen = keras.random.uniform((rows,), seed=stream) < self.share
        seed = keras.random.randint((), 0, 2**31 - 1, dtype="int32", seed=stream)
        known = labels >= 0
        chosen &= known if len(labels.shape) == 1 else ops.all(known, axis=-1)
        scale = {} if self.scale == 1 else {"scale": self.scale}
        generated = ops.cast(self.model.generate(ops.maximum(labels, 0), seed, **scale), "float32")
        if tuple(generated.shape[1:]) != tuple(images.shape[1:]):
            raise ValueError(
                f"`model` generates images of shape {tuple(generated.shape[1:])}, but the labelled ones have shape "
                f"{tuple(images.shape[1:])}. They must be the same."
            )
        return ops.where(ops.reshape(chosen, (-1, 1, 1, 1)), generated, images)


def augment_with(model: Any, share: float, scale: float = 1.0, seed: int = 0) -> GeneratedImages:
    """Replaces a share of the labelled images by generated ones of the same class, others at each step.

    The result is for `data.semi_supervised(..., replace_labeled=...)`. Images are generated as the batches are made,
    none is stored. Which images of a step are replaced, and by which, depends on this seed and the step alone, not on
    the seed of the batches: a resumed run sees the same ones, and runs with other models of the same order.

    Each image of a batch is generated and then taken or not, so the cost does not depend on the share.

    Args:
        model: A model with `generate(labels, seed)`, as all of this library that classify. It is copied: its later
            training changes nothing.
        share: The probability with which each labelled image is replaced, from 0 to 1.
        scale: Of the model's `generate`: by how much its latent variables are further from the mean of their prior. It
            multiplies standard deviations.
        seed: An integer of at least 0.

    Returns:
        A function `(images, labels, counter) -> images`.

    Raises:
        ValueError: If the model cannot generate images of given labels, or not with a `scale`; for a share, a scale or
            a seed that is none.

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
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= highest or value == math.inf:
            what = "a probability, from 0 to 1" if name == "share" else "a finite number, 0 or more"
            raise ValueError(f"`{name}` is {value!r}; it must be {what}.")
    if scale != 1 and "scale" not in parameters:
        raise ValueError(
            f"`scale` is {scale!r}, but `generate` of {type(model).__name__} has no such argument. Leave it out."
        )
    return GeneratedImages(model, float(share), float(scale), check_whole_number("seed", seed, 0))
