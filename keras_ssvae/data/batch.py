"""Makes a batch from the images that the order has chosen."""

from collections.abc import Callable

from keras import ops

from keras_ssvae.distributions import Tensor
from keras_ssvae.models.labels import Labels
from keras_ssvae.noise import Stream
from keras_ssvae.pixels import to_float

# A step may draw this many times. More draws would use the random numbers of the next step.
_DRAWS_PER_STEP = 64


def first_draw(step: int | Tensor) -> int | Tensor:
    """The first counter of the random numbers of a step; steps count from 0 over all epochs (see `noise.Stream`)."""
    return step * _DRAWS_PER_STEP


def assemble(
    labeled: tuple[Tensor, Tensor] | None,
    unlabeled: Tensor | None,
    counter: int | Tensor,
    *,
    kinds: Labels | None,
    seed: int,
    augment: Callable | None,
    replace_labeled: Callable | None = None,
) -> tuple[dict[str, Tensor], Tensor] | tuple[dict[str, Tensor]]:
    """Makes the batch of a step from its images and labels; see `semi_supervised` for the arguments.

    Args:
        labeled: Images, `uint8` or floating point, and integer labels; or None.
        unlabeled: Images; or None.
        counter: The `first_draw` of the step.
        kinds: Description of the labels of an image.
        seed: Seed of the augmentation.
        augment: `None`, or a function `(images, seed) -> images`.
        replace_labeled: `None`, or a function `(images, labels, counter) -> images` of the labelled part.

    Returns:
        Tuple `(x, y)`, as described in `semi_supervised`; without labels `(x,)`.
    """
    parts = {"labeled": None if labeled is None else labeled[0], "unlabeled": unlabeled}
    x = {kind: to_float(images) for kind, images in parts.items() if images is not None}
    if replace_labeled is not None and labeled is not None:
        x["labeled"] = replace_labeled(x["labeled"], ops.cast(labeled[1], "int32"), counter)
    for kind in list(x):
        stream = Stream(seed, counter, purpose=f"augment {kind}")
        x[f"{kind}_augmented"] = _augmented(augment, x[kind], stream)
    if labeled is None:
        return (x,)
    assert kinds is not None  # `semi_supervised` has checked it
    return x, kinds.one_hot(ops.cast(labeled[1], "int32"))


def _augmented(augment, images, stream):
    if augment is None or images.shape[0] == 0:
        return images
    result = ops.convert_to_tensor(augment(images, stream), "float32")
    if len(result.shape) != len(images.shape) or any(
        None not in pair and pair[0] != pair[1] for pair in zip(result.shape, images.shape, strict=True)
    ):
        raise ValueError(
            f"`augment` returns images of shape {tuple(result.shape)} for images of shape {tuple(images.shape)}. It "
            "must keep the shape."
        )
    return result
