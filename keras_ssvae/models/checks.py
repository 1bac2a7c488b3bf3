"""Checks that several models share. Each error message is a full sentence."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_ssvae.backend import private
from keras_ssvae.distributions import Tensor

PARTS = ("labeled", "unlabeled")


def parts_of(batch: Any) -> list[str]:
    """The names of the parts that a training batch has, `"labeled"` first."""
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
            "have labels, `unlabeled` is None or `x` too. A model that trains on labelled images alone also takes "
            "`fit({'labeled': x}, model.labels.one_hot(y))`."
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
    """Raises ValueError for a training batch with unlabelled images, for a model that trains on labelled ones only."""
    if not isinstance(images, dict) or "unlabeled" in images:
        raise ValueError(
            f"`x` of a training batch holds images without labels, on which {type(model).__name__} does not train; it "
            "must be labelled images alone. `data.semi_supervised((images, labels), None, ...)` makes such batches."
            + hint
        )


def check_not_of_training(name: str, images: Any) -> None:
    """Raises ValueError for the images of a training batch, which are a dictionary."""
    if isinstance(images, dict):
        raise ValueError(
            f"`{name}` holds the images {sorted(images)}; it must be images, or images and labels. Batches of "
            "`data.semi_supervised` are for training."
        )


def check_as_many(images: Tensor, name: str, others: Tensor) -> None:
    """Raises ValueError unless the argument `name` has as many images (`others`) as `images`."""
    if None not in (images.shape[0], others.shape[0]) and images.shape[0] != others.shape[0]:
        raise ValueError(
            f"`images` has {images.shape[0]} images and `{name}` {others.shape[0]}; they must have the same number."
        )


def _check_is_network(name, network):
    if not isinstance(network, keras.Model):
        raise ValueError(f"`{name}` is {network!r}; it must be a built functional or Sequential Keras model.")


def input_shape(name: str, network: keras.Model) -> tuple[int, ...]:
    """Shape of a network's input, without the batch; raises ValueError if it is unknown."""
    _check_is_network(name, network)
    shape = getattr(network, "input_shape", None)
    if not (isinstance(shape, tuple) and shape and all(isinstance(size, int) for size in shape[1:])):
        raise ValueError(
            f"`{name}` takes {shape}; it must be a built functional or Sequential Keras model with one input, "
            "whose shape is known except for the batch."
        )
    return shape[1:]


def image_shape(name: str, network: keras.Model) -> tuple[int, int, int]:
    """`(H, W, C)` of the images that a network takes; raises ValueError if it takes anything else."""
    shape = input_shape(name, network)
    if len(shape) != 3:
        raise ValueError(f"`{name}` takes {(None, *shape)}; it must take images, (None, H, W, C).")
    return shape


def check_network(
    name: str,
    network: keras.Model,
    takes: tuple[int, ...] | list[tuple[int, ...]],
    gives: object,
    reason: str,
    made_by: str,
) -> None:
    """Raises ValueError for a network whose inputs or outputs have the wrong shapes.

    Args:
        name: Name of the argument, for the error message.
        network: The network.
        takes: Required shape of its input, without the batch, or a list for several inputs.
        gives: Required shape of its output, with None for the batch, or a list for several outputs.
        reason: What requires these shapes, for the error message.
        made_by: Call of a function that makes a suitable network, for the error message.
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
    """Shapes of a network's inputs, with the batch, as a list; for a single input only its shape."""
    _check_is_network(name, network)
    shapes = getattr(network, "input_shape", None)
    if shapes is None:
        raise ValueError(f"`{name}` takes None; it must be a built functional Keras model, whose inputs are known.")
    return list(shapes) if isinstance(shapes, list | tuple) and isinstance(shapes[0], tuple) else shapes


def check_optimizer(optimizer: keras.optimizers.Optimizer | None, dtypes: Sequence[str]) -> None:
    """Raises ValueError for an optimizer that the training step cannot use with layers of these dtypes."""
    if optimizer is None:
        raise ValueError("`optimizer` is None; it must be an optimizer, as `keras_ssvae.optimizers.Adam(1e-3)`.")
    dynamic = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if dynamic or ("float16" in dtypes and not optimizer.loss_scale_factor):
        what = "`optimizer` is a `LossScaleOptimizer`" if dynamic else "A network computes in float16"
        raise ValueError(
            f"{what}; this library does not search for a loss scale, and without one, small gradients become 0 in "
            'float16. Build the networks under `keras.config.set_dtype_policy("mixed_bfloat16")`, which needs none, or '
            "give the optimizer, or that of each group, a fixed scale, such as `loss_scale_factor=1024`."
        )


def check_variables(optimizer: keras.optimizers.Optimizer, variables: Sequence[keras.Variable]) -> None:
    """Raises ValueError for an optimizer that was built for variables without some of these."""
    known = set(map(id, private.optimized_variables(optimizer)))
    unknown = [variable.path for variable in variables if id(variable) not in known]
    # With `use_ema` Keras writes the averages of all its variables back at the end of `fit`.
    if unknown or (optimizer.use_ema and len(known) > len(variables)):
        which = f"without {unknown[0]!r} and {len(unknown) - 1} others" if unknown else "some of which are frozen now"
        raise ValueError(
            f"`optimizer` was built for {len(known)} variables, {which}. Give `compile` a new optimizer. An optimizer "
            "that was built while the whole model was trainable may be used again, unless it has `use_ema`."
        )
