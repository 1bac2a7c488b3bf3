"""Batches for semi-supervised training, as a pure function of the seed and the step."""

from collections.abc import Sequence

import keras

from keras_ssvae.data import backend
from keras_ssvae.data.backend import check_dataset, is_dataset, make_batches
from keras_ssvae.data.checks import check_arrays, check_num_classes, check_whole_number


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
    augment=None,
    augment_on: str = "host",
    shuffle_buffer: int | None = None,
) -> "keras.utils.PyDataset | tf.data.Dataset":  # noqa: F821 (TensorFlow may not be there)
    """Pairs labelled and unlabelled batches for semi-supervised training, without end.

    The batch of a step depends on the seed and the step alone, so a run that is resumed at `start_step` sees exactly
    what it would have seen without the interruption. Each epoch has `steps_per_epoch` steps. Within it the labelled
    set is shuffled and used up again and again, and the last, short batch of each pass is kept (100 labelled images
    and a batch size of 32 give 32, 32, 32, 4); the unlabelled set is shuffled and used from the beginning (again and
    again if the epoch is longer than the set), every batch full.

    Args:
        labeled: Tuple `(images, labels)` of arrays or, on the TensorFlow backend of Keras, a `tf.data.Dataset` of
            `(image, label)`. Images have the shape `(H, W, C)` and are `uint8` (scaled by `scale`) or floating point in
            [-1, 1]; labels are integers from 0 to `num_classes - 1`, and every class occurs. With several labels for
            each image they have the shape `(N, n)`. `None`: for training without labels.
        unlabeled: Array of images or, on the TensorFlow backend, a `tf.data.Dataset` of images, of the same shape. No
            labels.
        num_classes: The number of classes K, or those of each of n labels; needed where there are labels.
        labeled_batch_size: Labelled images in a batch.
        unlabeled_batch_size: Unlabelled images in a batch.
        steps_per_epoch: Batches in an epoch.
        seed: Seed of the order and of the augmentation, an integer of at least 0.
        start_step: The step of the first batch, counted from 0 over all epochs.
        augment: `None`, or a function `(images, seed) -> images` of a batch, as those in `data.augment`: `seed` is a
            `keras.random.SeedGenerator` that begins anew at every step, to be handed to functions of `keras.random`.
        augment_on: `"host"`, or `"device"` to augment on the accelerator. The images are the same. On JAX it makes no
            difference: everything is done on the device.
        shuffle_buffer: How many elements the shuffle of a `tf.data.Dataset` holds. Defaults to the whole set. Arrays
            are always shuffled as a whole.

    Returns:
        Batches `(x, y)` without end: on the TensorFlow backend a `tf.data.Dataset`, on JAX a `keras.utils.PyDataset`
        whose item i is the batch of step `start_step + i`, as arrays on the device (pass `shuffle=False` to `fit`,
        which otherwise warns that it does not shuffle them again). `x` holds `float32` images in [-1, 1] under
        "labeled", "unlabeled", "labeled_augmented" and "unlabeled_augmented"; `y` is one-hot, `float32` of shape
        `(batch, K)`, of several labels side by side. Without labels batches are `(x,)`, of the unlabelled parts.

    Raises:
        ValueError: If an argument does not fit. Arrays are checked completely, datasets by their first element.

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
    if shuffle_buffer is not None:
        check_whole_number("shuffle_buffer", shuffle_buffer, 1)
    if augment is not None and not callable(augment):
        raise ValueError(f"`augment` is {augment!r}. It must be None or a function (images, seed) -> images.")
    if augment_on not in ("host", "device"):
        raise ValueError(f'`augment_on` is {augment_on!r}. It must be "host" or "device".')
    shape = _check_source("unlabeled", unlabeled, None)
    if labeled is not None:
        num_classes = check_num_classes(num_classes)
        other = _check_source("labeled", labeled, num_classes)
        if shape != other:
            raise ValueError(
                f"`labeled` holds images of shape {other} and `unlabeled` images of shape {shape}. They must be the "
                "same."
            )
    # NumPy's integers, which the checks allow, do not count on without end.
    return make_batches(
        labeled,
        unlabeled,
        num_classes=num_classes,
        labeled_batch_size=int(labeled_batch_size),
        unlabeled_batch_size=int(unlabeled_batch_size),
        steps_per_epoch=int(steps_per_epoch),
        seed=int(seed),
        start_step=int(start_step),
        augment=augment,
        augment_on=augment_on,
        shuffle_buffer=None if shuffle_buffer is None else int(shuffle_buffer),
    )


def _check_source(name, source, num_classes):
    return (check_dataset if is_dataset(source) else check_arrays)(name, source, num_classes)


def distribute(batches, strategy):
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
