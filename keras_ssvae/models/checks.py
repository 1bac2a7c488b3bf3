"""The checks that the models have in common. Every error is a sentence."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssvae.backend import private
from keras_ssvae.distributions import Tensor

PARTS = ("labeled", "unlabeled")


def parts_of(batch: Any) -> list[str]:
    """Which of its two parts a training batch has, the labelled one first."""
    return [part for part in PARTS if part in batch]


def check_has_labels(labels: Tensor | None) -> None:
    """Raises ValueError for a batch without labels."""
    if labels is None:
        raise ValueError("A batch holds no labels; it must be images and labels, `(x, y)`, and nothing else.")


def check_one_hot(labels: Tensor, images: Tensor, width: int) -> None:
    """Raises ValueError unless `labels` are one-hot labels of labelled images, `(B, width)`."""
    dtype, shape = keras.backend.standardize_dtype(labels.dtype), tuple(labels.shape)
    if len(shape) != 2 or shape[1] != width:
        raise ValueError(
            f"`y` of a training batch is {dtype} of shape {shape}; it must be one-hot labels of the labelled images, "
            f"(None, {width}). `model.labels.one_hot(y)` makes them of integers."
        )
    rows = images.shape[0]
    if None not in (rows, shape[0]) and rows != shape[0]:
        raise ValueError(f"`y` has {shape[0]} rows for {rows} labelled images; there must be one for each.")


def check_parts(model: Any, images: Any, labels: Tensor | None) -> None:
    """Raises ValueError unless a training batch has labelled images with their labels, unlabelled ones, or both."""
    if labels is not None and not isinstance(images, dict):
        raise ValueError(
            "`x` is images and `y` is their labels, but a training batch with labels must say which of its images "
            "have them. Give `fit` the batches of `data.semi_supervised((x, y), unlabeled, ...)`; where all images "
            "have labels, `unlabeled` is None or `x` too."
        )
    images = images if isinstance(images, dict) else {"unlabeled": images}
    parts = parts_of(images)
    if not parts or ("labeled" in parts) != (labels is not None):
        raise ValueError(
            f"A training batch has the images {sorted(images)} and {'no ' if labels is None else ''}labels; it "
            "must be unlabeled images, or labeled ones with their labels, or both. `data.semi_supervised` makes "
            "such batches."
        )
    for part in parts:
        model.check_images(f"x[{part!r}]", images[part])
    if labels is not None:
        check_one_hot(labels, images["labeled"], model.labels.width)


def check_labeled_alone(model: Any, images: Any, hint: str = "") -> None:
    """Raises ValueError for a training batch with images that have no label, on which the model does not train."""
    if not isinstance(images, dict) or "unlabeled" in images:
        raise ValueError(
            f"`x` of a training batch holds images without labels, on which {type(model).__name__} does not train; it "
            "must be labelled images alone. `data.semi_supervised((images, labels), None, ...)` makes such batches."
            + hint
        )


def check_as_many(images: Tensor, name: str, others: Tensor) -> None:
    """Raises ValueError unless there are as many `others`, the argument of this name, as images."""
    if None not in (images.shape[0], others.shape[0]) and images.shape[0] != others.shape[0]:
        raise ValueError(f"`images` has {images.shape[0]} images and `{name}` {others.shape[0]}; it must be as many.")


def input_shape(name: str, network: keras.Model) -> tuple[int, ...]:
    """The shape of what a network takes, without the batch; raises ValueError for one that does not know it."""
    shape = getattr(network, "input_shape", None)
    if not (isinstance(shape, tuple) and shape and all(isinstance(size, int) for size in shape[1:])):
        raise ValueError(
            f"`{name}` takes {shape}; it must be a built functional or Sequential Keras model with one input, "
            "whose shape is known but for the batch."
        )
    return shape[1:]


def check_network(
    name: str,
    network: keras.Model,
    takes: tuple[int, ...] | list[tuple[int, ...]],
    gives: object,
    reason: str,
    made_by: str,
) -> None:
    """Raises ValueError for a network that does not map images or latent variables as it must.

    Args:
        name: Of the argument.
        network: The network.
        takes: Shape of its input, without the batch, or a list of those of its inputs.
        gives: Shape of its output, with None for the batch, or a list of those of its outputs.
        reason: What asks for these shapes.
        made_by: The call of a function that makes such a network.
    """
    if isinstance(takes, list):
        required: object = [(None, *each) for each in takes]
        shape = _input_shapes(name, network)
    else:
        required, shape = (None, *takes), (None, *input_shape(name, network))
    outputs = network.output_shape
    if isinstance(getattr(network, "output", None), dict):
        raise ValueError(
            f"`{name}` gives a dictionary of {sorted(network.output)}; it must give {gives}, without names. Build it "
            "with a list of outputs, or with the one output."
        )
    given = list(outputs) if isinstance(outputs, (list, tuple)) and isinstance(outputs[0], tuple) else outputs
    if shape != required or given != gives:
        raise ValueError(
            f"`{name}` maps {shape} to {given}; with {reason} it must map {required} to {gives}. Pass another "
            f"`{name}=`, as `{made_by}` makes it, or change the others."
        )


def _input_shapes(name, network):
    """The shapes of what a network takes, as a list, with the batch; of one input its shape alone."""
    shapes = getattr(network, "input_shape", None)
    if shapes is None:
        raise ValueError(f"`{name}` takes None; it must be a built functional Keras model, whose inputs are known.")
    return list(shapes) if isinstance(shapes, list | tuple) and isinstance(shapes[0], tuple) else shapes


def check_optimizer(optimizer: keras.optimizers.Optimizer | None, dtypes: Sequence[str]) -> None:
    """Raises ValueError for what is no optimizer of a step of this library, on layers that compute in these dtypes."""
    if optimizer is None:
        raise ValueError("`optimizer` is None; it must be an optimizer, as `keras_ssvae.optimizers.Adam(1e-3)`.")
    dynamic = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if dynamic or ("float16" in dtypes and not optimizer.loss_scale_factor):
        what = "`optimizer` is a `LossScaleOptimizer`" if dynamic else "A network computes in float16"
        raise ValueError(
            f"{what}; the scale of the loss is not found by trial here, and without one small gradients in float16 are "
            '0. Build the networks under `keras.config.set_dtype_policy("mixed_bfloat16")`, which needs none, or give '
            "the optimizer, or that of each group, a number, such as `loss_scale_factor=1024`."
        )


def check_variables(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Raises ValueError for an optimizer that was built for variables without some of these."""
    known = set(map(id, private.optimized_variables(optimizer)))
    unknown = [variable.path for variable in variables if id(variable) not in known]
    # Keras' own puts the averages back at the end of `fit` all together.
    if unknown or (optimizer.use_ema and len(known) > len(variables)):
        which = f"without {unknown[0]!r} and {len(unknown) - 1} others" if unknown else "some of which are frozen now"
        raise ValueError(
            f"`optimizer` was built for {len(known)} variables, {which}. Give `compile` a new optimizer: one that has "
            "seen this model with everything trainable may come again, unless it has `use_ema`."
        )
