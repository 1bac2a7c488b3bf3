"""Batches for semi-supervised training, as a pure function of the seed and the step."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras

from keras_ssvae.checks import check_whole_number, is_integer
from keras_ssvae.data import backend
from keras_ssvae.data.backend import check_dataset, is_dataset, make_batches
from keras_ssvae.data.checks import check_arrays
from keras_ssvae.data.order import Part
from keras_ssvae.models.checked_data import MISSES_LABELS
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import as_array

if TYPE_CHECKING:  # TensorFlow may not be there
    import tensorflow as tf


def semi_supervised(
    labeled,
    unlabeled,
    *,
    num_classes: int | Sequence[int] | None = None,
    labeled_batch_size: int = 32,
    unlabeled_batch_size: int = 96,
    steps_per_epoch: int,
    seed: int,
    start_step: int = 0,
    rhythm: str | tuple[int, int] = "paired",
    augment: Callable | None = None,
    augment_on: str = "host",
    replace_labeled: Callable | None = None,
    shuffle: bool = True,
    shuffle_buffer: int | None = None,
    allow_missing: bool = False,
) -> "keras.utils.PyDataset | tf.data.Dataset":
    """Makes the batches of semi-supervised training, without end: labelled and unlabelled ones, paired or in turn.

    The batch of a step depends on the seed and the step alone, so a run that is resumed at `start_step` sees exactly
    what it would have seen without the interruption. Each epoch has `steps_per_epoch` steps. Within it the labelled
    set is shuffled and used up again and again, and the last, short batch of each pass is kept (100 labelled images
    and a batch size of 32 give 32, 32, 32, 4); the unlabelled set is shuffled and used from the beginning (again and
    again if the epoch is longer than the set), every batch full.

    With `rhythm=(labeled, unlabeled)` a step has a batch of one part alone. Of `labeled + unlabeled` steps in a row,
    step i, counted from 0, is labelled if i is a multiple of `(labeled + unlabeled) // labeled`, rounded down, while
    any of the `labeled` ones remain; the others are unlabelled: (1, 3) gives L U U U, (2, 3) L U L U U, (3, 1) L L L U.
    Then it begins again, and so it does in each epoch. A part goes on at each of its turns where it stopped at the one
    before, and of both parts the last, short batch of each pass is kept. So an epoch of `sum(rhythm)` steps with the
    numbers of batches that the two sets have sees every image once, in the order of REVAE's code.

    Args:
        labeled: Tuple `(images, labels)` of arrays or, on the TensorFlow backend of Keras, a `tf.data.Dataset` of
            `(image, label)`. Images have the shape `(H, W, C)` and are `uint8` (scaled by `scale`) or floating point in
            [-1, 1]; labels are integers from 0 to `num_classes - 1`, and every class occurs. They have the shape `(N,)`
            or `(N, 1)`; with several labels for each image `(N, n)`. `None`: for training without labels.
        unlabeled: Array of images or, on the TensorFlow backend, a `tf.data.Dataset` of images, of the same shape. No
            labels. `None`: for training on the labelled images alone.
        num_classes: The number of classes K, or those of each of n labels; needed where there are labels.
        labeled_batch_size: Labelled images in a batch.
        unlabeled_batch_size: Unlabelled images in a batch.
        steps_per_epoch: Batches in an epoch.
        seed: Seed of the order and of the augmentation, an integer of at least 0.
        start_step: The step of the first batch, counted from 0 over all epochs.
        rhythm: `"paired"`: each step has a batch of each part. `(labeled, unlabeled)`: so many labelled and unlabelled
            batches alternate, as described above.
        augment: `None`, or a function `(images, seed) -> images` of a batch, as those in `data.augment`: `seed` is a
            `keras.random.SeedGenerator` that begins anew at every step, to be handed to functions of `keras.random`.
        augment_on: `"host"`, or `"device"` to augment on the accelerator. The images are the same. On JAX it makes no
            difference: everything is done on the device.
        replace_labeled: `None`, or what `data.augment_with` makes: generated images in the place of some of the
            labelled ones, before these are augmented. Not where batches alternate.
        shuffle: `False`: every pass goes through the images in the order given. Each epoch still begins with the first
            one, so an epoch that is shorter than a set never comes to its last images.
        allow_missing: Whether a label may be missing for a labelled image, -1, so that its one-hot row is 0. Models
            that sum missing labels out take such batches: `REVAE`, `M3`.
        shuffle_buffer: How many elements the shuffle of a `tf.data.Dataset` holds. Defaults to the whole set, or to as
            many as take 1 GiB. Arrays are always shuffled as a whole.

    Returns:
        Batches `(x, y)` without end: on the TensorFlow backend a `tf.data.Dataset`, on JAX a `keras.utils.PyDataset`
        whose item i is the batch of step `start_step + i`, as arrays on the device. `fit` of the models of this library
        needs no `steps_per_epoch` for them, and a second `fit` goes on where the first ended; that of another Keras
        model needs it, begins anew, and warns unless it is given `shuffle=False`. `x` holds `float32` images in [-1, 1]
        under "labeled", "unlabeled", "labeled_augmented" and "unlabeled_augmented"; `y` is one-hot, `float32` of shape
        `(batch, K)`, of several labels side by side. A part that is `None` is missing: batches are `(x,)`, of
        "unlabeled" and "unlabeled_augmented", or `(x, y)`, of "labeled" and "labeled_augmented".

        Where batches alternate, all four and `y` are always there, and the part whose turn it is not has **no rows**:
        shape `(0, H, W, C)`, and `y` of shape `(0, K)` at unlabelled steps; it is not augmented. The models of this
        library are shown the other part alone, by a program of its own: in their steps, and in their noise, a batch is
        as if the missing part were `None`. (On TensorFlow `steps_per_execution` then launches its steps one by one.)
        A `train_step` of your own sees the part without rows. On JAX that costs nothing; on TensorFlow dense layers
        take it, but on a CPU convolutions and pooling do not. The mean over no rows is NaN.

    Raises:
        ValueError: If an argument does not fit. Arrays are checked completely at once; datasets by their first element,
            and then each batch as it is read, which ends `fit` in the same sentence.

    Example:

    >>> data = keras_ssvae.data.load("digits")
    >>> parts = keras_ssvae.data.split(data.train_labels, 100, 100, seed=1)
    >>> batches = semi_supervised(
    ...     (data.train_images[parts.labeled], data.train_labels[parts.labeled]),
    ...     data.train_images[parts.unlabeled],
    ...     num_classes=10, steps_per_epoch=11, seed=1, augment=keras_ssvae.data.augment.mnist,
    ... )
    """
    sizes = {"labeled_batch_size": labeled_batch_size, "unlabeled_batch_size": unlabeled_batch_size}
    for name, value in {**sizes, "steps_per_epoch": steps_per_epoch}.items():
        check_whole_number(name, value, 1)
    check_whole_number("seed", seed, 0)
    check_whole_number("start_step", start_step, 0)
    for name, value in (("shuffle", shuffle), ("allow_missing", allow_missing)):
        if not isinstance(value, bool):
            raise ValueError(f"`{name}` is {value!r}. It must be True or False.")
    if shuffle_buffer is not None:
        check_whole_number("shuffle_buffer", shuffle_buffer, 1)
        if not shuffle:
            raise ValueError(f"`shuffle_buffer` is {shuffle_buffer}, but `shuffle` is False. Leave one of them out.")
    if augment is not None and not callable(augment):
        raise ValueError(f"`augment` is {augment!r}. It must be None or a function (images, seed) -> images.")
    if isinstance(augment, keras.layers.Layer):
        raise ValueError(
            f"`augment` is the layer {augment.name!r}, which draws from a seed of its own. It must be a function "
            "(images, seed) -> images, as those in `data.augment`, that draws with `keras.random` from this seed."
        )
    if augment_on not in ("host", "device"):
        raise ValueError(f'`augment_on` is {augment_on!r}. It must be "host" or "device".')
    sources = {"labeled": labeled, "unlabeled": unlabeled}
    sources = {kind: source for kind, source in sources.items() if source is not None}
    if not sources:
        raise ValueError("`labeled` and `unlabeled` are both None. At least one of them must hold images.")
    kinds = None if labeled is None else Labels(num_classes, allow_missing)  # type: ignore[arg-type]  # which says what it must be
    shapes = {kind: _check_source(kind, sources[kind], kinds if kind == "labeled" else None) for kind in sources}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"`labeled` holds images of shape {shapes['labeled']} and `unlabeled` images of shape "
            f"{shapes['unlabeled']}. They must be the same."
        )
    sources = {kind: _as_arrays(source) for kind, source in sources.items()}
    turns = _check_rhythm(rhythm, list(sources))
    # NumPy's integers, which the checks allow, do not count on without end.
    parts = [Part(kind, int(sizes[f"{kind}_batch_size"]), turns) for kind in sources]
    if not all(part.turns(int(steps_per_epoch)) for part in parts):
        raise ValueError(
            f"`steps_per_epoch` is {steps_per_epoch}, and with `rhythm` = {turns} none of these steps is unlabelled. "
            "Make it larger, or leave `unlabeled` out."
        )
    if replace_labeled is not None and (not callable(replace_labeled) or labeled is None or turns is not None):
        raise ValueError(
            f"`replace_labeled` is {replace_labeled!r}. It must be what `data.augment_with` makes, for batches with "
            "labelled images in each step."
        )
    batches = make_batches(
        sources,
        parts,
        kinds=kinds,
        steps_per_epoch=int(steps_per_epoch),
        seed=int(seed),
        start_step=int(start_step),
        augment=augment,
        replace_labeled=replace_labeled,
        augment_on=augment_on,
        shuffle=shuffle,
        shuffle_buffer=None if shuffle_buffer is None else int(shuffle_buffer),
    )
    if allow_missing:
        setattr(batches, MISSES_LABELS, True)
    return batches


def _check_rhythm(rhythm, kinds):
    """The two counts as Python integers, or None for batches that are paired."""
    if isinstance(rhythm, str) and rhythm == "paired":
        return None
    counts = rhythm if isinstance(rhythm, tuple | list) and len(rhythm) == 2 else [0]
    if not all(is_integer(count) and count >= 1 for count in counts):
        raise ValueError(
            f'`rhythm` is {rhythm!r}. It must be "paired" or a tuple (labeled, unlabeled) of integers of at least 1.'
        )
    if len(kinds) == 1:
        raise ValueError(f"`rhythm` is {rhythm}, but there are only {kinds[0]} images. Nothing can alternate.")
    return int(rhythm[0]), int(rhythm[1])


def _check_source(name, source, kinds):
    return (check_dataset if is_dataset(source) else check_arrays)(name, source, kinds)


def _as_arrays(source):
    """A source whose images and labels are arrays or tensors, where they were lists or the like."""
    if is_dataset(source):
        return source
    return tuple(as_array("labeled", part) for part in source) if isinstance(source, tuple) else as_array("", source)


def distribute(batches, strategy) -> "tf.distribute.DistributedDataset":
    """Hands every replica of a `tf.distribute.Strategy` the whole batch of a step (TensorFlow backend).

    The models of this library compute on each replica its own rows of it. So the noise, the mixing partners and the
    sums of the losses are those of one device, and the weights too, up to rounding, but for batch normalisation, whose
    statistics each replica takes of its own rows.

    Args:
        batches: As `semi_supervised` makes them; with several workers each makes the same.
        strategy: `tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy` or another synchronous one, under
            whose `scope()` the model was made and compiled.

    Returns:
        What `fit` takes.

    Raises:
        ValueError: If `strategy` is none; on the JAX backend, where a `keras.distribution.DataParallel` does without.

    Example:

    >>> strategy = tf.distribute.MirroredStrategy()
    >>> with strategy.scope():
    ...     model = EXoN()
    ...     model.compile(Adam(3e-3))
    >>> model.fit(distribute(batches, strategy), steps_per_epoch=468, epochs=100)
    """
    return backend.distribute(batches, strategy)
