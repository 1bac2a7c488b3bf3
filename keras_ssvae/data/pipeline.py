"""Batches for semi-supervised training. They are a pure function of the seed and the step."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras

from keras_ssvae.checks import check_whole_number, is_integer
from keras_ssvae.data import backend
from keras_ssvae.data.backend import check_dataset, is_dataset, make_batches
from keras_ssvae.data.checks import check_arrays
from keras_ssvae.data.generated import GeneratedImages
from keras_ssvae.data.order import Part
from keras_ssvae.models.checked_data import MISSES_LABELS
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import as_array

if TYPE_CHECKING:  # TensorFlow may be missing
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
    """Makes endless batches for semi-supervised training, with labelled and unlabelled images paired or alternating.

    The batch of a step depends only on the seed and the step. So a run that resumes at `start_step` sees exactly the
    batches that it would have seen without the interruption.

    Each epoch has `steps_per_epoch` steps. Within it the two sets are used as follows:

    * The labelled set is shuffled and repeated. The last, short batch of each pass is kept: 100 labelled images and a
      batch size of 32 give 32, 32, 32, 4.
    * The unlabelled set is shuffled and used from its beginning, and repeated if the epoch is longer than the set.
      Every batch is full.

    With `rhythm=(labeled, unlabeled)` a step has a batch of only one part. In each cycle of `labeled + unlabeled`
    steps, step i, counted from 0, is labelled if i is a multiple of `(labeled + unlabeled) // labeled`, rounded down,
    until all `labeled` batches of the cycle are used. The other steps are unlabelled. (1, 3) gives L U U U, (2, 3)
    gives L U L U U, (3, 1) gives L L L U. Each epoch begins with a new cycle. Each part continues where its last batch
    ended, and both keep the last, short batch of each pass. So if `rhythm` holds the numbers of batches in the two
    sets, an epoch of `sum(rhythm)` steps sees every image once, in the order of REVAE's code.

    Args:
        labeled: Tuple `(images, labels)` of arrays or, on the TensorFlow backend of Keras, a `tf.data.Dataset` of
            `(image, label)`. Images have the shape `(H, W, C)` and are `uint8` (scaled by `scale`) or floating point in
            [-1, 1]. Labels are integers from 0 to `num_classes - 1`, and every class occurs. They have the shape `(N,)`
            or `(N, 1)`; with n labels for each image `(N, n)`. `None` for training without labels.
        unlabeled: Array of images or, on the TensorFlow backend, a `tf.data.Dataset` of images, of the same shape and
            without labels. `None` for training on labelled images alone.
        num_classes: Number of classes K; for n labels a sequence of these numbers. Required if there are labels.
        labeled_batch_size: Number of labelled images in a batch.
        unlabeled_batch_size: Number of unlabelled images in a batch.
        steps_per_epoch: Number of steps in an epoch.
        seed: Seed of the order and of the augmentation, an integer of at least 0.
        start_step: Step of the first batch, counted from 0 over all epochs.
        rhythm: `"paired"`: each step has a batch of both parts. `(labeled, unlabeled)`: these numbers of labelled and
            unlabelled batches alternate, as described above.
        augment: `None`, or a function `(images, seed) -> images` of a batch, such as those in `data.augment`. `seed` is
            a `keras.random.SeedGenerator` for functions of `keras.random`; it begins anew at every step.
        augment_on: `"host"`, or `"device"` to augment on the accelerator. The images are the same. On JAX it makes no
            difference: everything runs on the device.
        replace_labeled: `None`, or a result of `data.augment_with`, which replaces some labelled images by generated
            ones before the augmentation. Not possible with alternating batches.
        shuffle: `False`: every pass uses the images in the given order. Each epoch still begins with the first image,
            so an epoch that is shorter than a set never reaches its last images.
        allow_missing: Whether labels may be missing. A missing label is -1, and its one-hot row is 0. `REVAE` and `M3`
            accept such batches.
        shuffle_buffer: Number of elements that the shuffle of a `tf.data.Dataset` holds. Default: the whole set, or as
            many elements as take 1 GiB. Arrays are always shuffled as a whole.

    Returns:
        Endless batches `(x, y)`. On the TensorFlow backend they are a `tf.data.Dataset`. On JAX they are a
        `keras.utils.PyDataset` whose item i is the batch of step `start_step + i`, as arrays on the device.

        `x` is a dictionary of `float32` images in [-1, 1] with the keys "labeled", "unlabeled", "labeled_augmented" and
        "unlabeled_augmented". `y` is one-hot, `float32` of shape `(batch, K)`, several labels side by side. If
        `labeled` is `None`, batches are `(x,)` with "unlabeled" and "unlabeled_augmented". If `unlabeled` is `None`,
        they are `(x, y)` with "labeled" and "labeled_augmented".

        `fit` of the models of this library needs no `steps_per_epoch` for these batches, and a second `fit` continues
        where the first one ended. `fit` of another Keras model needs `steps_per_epoch`, starts again from the first
        batch, and warns unless it gets `shuffle=False`.

        With alternating batches all four keys and `y` are always present, and the part without a turn has **no rows**:
        shape `(0, H, W, C)`, and `y` of shape `(0, K)` in unlabelled steps. It is not augmented. The models of this
        library see only the other part, in a program of its own: their steps and noise are as if the missing part were
        `None`. (On TensorFlow `steps_per_execution` then launches its steps one by one.) Your own `train_step` sees the
        part without rows. On JAX that costs nothing. On TensorFlow dense layers accept it, but convolutions and pooling
        on a CPU do not. The mean over no rows is NaN.

    Raises:
        ValueError: If an argument is invalid. Arrays are checked completely at once. Of a dataset the first element is
            checked at once, and each batch when it is read; a wrong one stops `fit` with the same message.

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
    # Python integers: NumPy integers, which the checks allow, overflow.
    parts = [Part(kind, int(sizes[f"{kind}_batch_size"]), turns) for kind in sources]
    if not all(part.turns(int(steps_per_epoch)) for part in parts):
        raise ValueError(
            f"`steps_per_epoch` is {steps_per_epoch}, and with `rhythm` = {turns} none of these steps is unlabelled. "
            "Make it larger, or leave `unlabeled` out."
        )
    if isinstance(replace_labeled, keras.Layer):
        raise ValueError(
            f"`replace_labeled` is the model {replace_labeled.name!r}. It must be what `data.augment_with` makes of "
            "it: `data.augment_with(model, share=0.4)`."
        )
    if replace_labeled is not None and (not callable(replace_labeled) or labeled is None or turns is not None):
        raise ValueError(
            f"`replace_labeled` is {replace_labeled!r}. It must be what `data.augment_with` makes, for batches with "
            "labelled images in each step."
        )
    if kinds is not None and isinstance(replace_labeled, GeneratedImages):
        replace_labeled.check(kinds)
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
    """The two counts as Python integers, or None for paired batches."""
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
    """The source with lists and similar objects converted to arrays."""
    if is_dataset(source):
        return source
    return tuple(as_array("labeled", part) for part in source) if isinstance(source, tuple) else as_array("", source)


def distribute(batches, strategy) -> "tf.distribute.DistributedDataset":
    """Gives every replica of a `tf.distribute.Strategy` the whole batch of a step (TensorFlow backend).

    Each replica computes its own rows of the batch. So noise, mixing partners and sums of losses are the same as on one
    device, and so are the weights, up to rounding. The exception is batch normalisation: each replica computes its
    statistics from its own rows.

    Args:
        batches: Result of `semi_supervised`. With several workers each one makes the same batches.
        strategy: `tf.distribute.MirroredStrategy`, `MultiWorkerMirroredStrategy` or another synchronous strategy. The
            model must be made and compiled under its `scope()`.

    Returns:
        A `tf.distribute.DistributedDataset` for `fit`.

    Raises:
        ValueError: If `strategy` is not a strategy, and always on the JAX backend: there use
            `keras.distribution.DataParallel`, which does not need this function.

    Example:

    >>> strategy = tf.distribute.MirroredStrategy()
    >>> with strategy.scope():
    ...     model = EXoN()
    ...     model.compile(Adam(3e-3))
    >>> model.fit(distribute(batches, strategy), steps_per_epoch=468, epochs=100)
    """
    return backend.distribute(batches, strategy)
