"""Batches for semi-supervised training, as a pure function of the seed and the step."""

import numpy as np
import tensorflow as tf

from keras_ssvae.data.checks import check_source, check_whole_number

_LABELED, _UNLABELED = 0, 1


def scale(images):
    """Maps pixels from 0 ... 255 (`uint8`) to [-1, 1] (`float32`): (x - 127.5) / 127.5.

    Args:
        images: NumPy array or tensor of any shape.

    Returns:
        An array or tensor of the same kind and shape.
    """
    if tf.is_tensor(images):
        return (tf.cast(images, tf.float32) - 127.5) / 127.5
    return (np.asarray(images, np.float32) - np.float32(127.5)) / np.float32(127.5)


def semi_supervised(
    labeled,
    unlabeled,
    *,
    num_classes: int,
    labeled_batch_size: int = 32,
    unlabeled_batch_size: int = 96,
    steps_per_epoch: int,
    seed: int,
    start_step: int = 0,
    augment=None,
    augment_on: str = "host",
    shuffle_buffer: int | None = None,
) -> tf.data.Dataset:
    """Pairs labelled and unlabelled batches for semi-supervised training, without end.

    The batch of a step depends on the seed and the step alone, so a run that is resumed at `start_step` sees exactly
    what it would have seen without the interruption. Each epoch has `steps_per_epoch` steps. Within it the labelled
    set is shuffled and used up again and again, and the last, short batch of each pass is kept (100 labelled images
    and a batch size of 32 give 32, 32, 32, 4); the unlabelled set is shuffled and used from the beginning (again and
    again if the epoch is longer than the set), every batch full.

    Args:
        labeled: Tuple `(images, labels)` of arrays, or a `tf.data.Dataset` of `(image, label)`. Images have the shape
            `(H, W, C)` and are `uint8` (scaled by `scale`) or floating point in [-1, 1]; labels are integers from 0 to
            `num_classes - 1`, and every class occurs.
        unlabeled: Array of images, or a `tf.data.Dataset` of images, of the same shape. No labels.
        num_classes: The number of classes K.
        labeled_batch_size: Labelled images in a batch.
        unlabeled_batch_size: Unlabelled images in a batch.
        steps_per_epoch: Batches in an epoch.
        seed: Seed of the order and of the augmentation, an integer of at least 0.
        start_step: The step of the first batch, counted from 0 over all epochs.
        augment: `None`, or a function `(images, seed) -> images` of a batch, as those in `data.augment`.
        augment_on: `"host"`, or `"device"` to augment on the accelerator. The images are the same.
        shuffle_buffer: How many elements the shuffle holds. Defaults to the whole set.

    Returns:
        An infinite `tf.data.Dataset` of `(x, y)`: `x` holds `float32` images in [-1, 1] under "labeled", "unlabeled",
        "labeled_augmented" and "unlabeled_augmented"; `y` is one-hot, `float32` of shape `(batch, K)`.

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
    for name, value in {"num_classes": num_classes, **sizes, "steps_per_epoch": steps_per_epoch}.items():
        check_whole_number(name, value, 1)
    check_whole_number("seed", seed, 0)
    check_whole_number("start_step", start_step, 0)
    if shuffle_buffer is not None:
        check_whole_number("shuffle_buffer", shuffle_buffer, 1)
    if augment is not None and not callable(augment):
        raise ValueError(f"`augment` is {augment!r}. It must be None or a function (images, seed) -> images.")
    if augment_on not in ("host", "device"):
        raise ValueError(f'`augment_on` is {augment_on!r}. It must be "host" or "device".')
    shape = check_source("labeled", labeled, num_classes)
    other = check_source("unlabeled", unlabeled, None)
    if shape != other:
        raise ValueError(
            f"`labeled` holds images of shape {shape} and `unlabeled` images of shape {other}. They must be the same."
        )

    labeled, fetch_labeled, labeled_buffer = _elements(labeled, shuffle_buffer)
    unlabeled, fetch_unlabeled, unlabeled_buffer = _elements(unlabeled, shuffle_buffer)
    first_epoch, first_batch = divmod(start_step, steps_per_epoch)
    device = "/CPU:0"
    if augment_on == "device" and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"

    def shuffled(elements, buffer, kind, epoch, number):
        # A seed on this function's graph keeps the global seed (`keras.utils.set_random_seed`) out of the order.
        tf.compat.v1.set_random_seed(seed)
        return elements.shuffle(buffer, seed=(epoch * 2**24 + number) * 2 + kind, reshuffle_each_iteration=False)

    def batches_of_epoch(epoch):
        passes = tf.data.Dataset.counter()
        labeled_batches = passes.flat_map(
            lambda number: shuffled(labeled, labeled_buffer, _LABELED, epoch, number).batch(labeled_batch_size)
        )
        unlabeled_batches = passes.flat_map(
            lambda number: shuffled(unlabeled, unlabeled_buffer, _UNLABELED, epoch, number)
        ).batch(unlabeled_batch_size, drop_remainder=True)
        skipped = tf.where(epoch == first_epoch, tf.constant(first_batch, tf.int64), 0)
        return tf.data.Dataset.zip(labeled_batches, unlabeled_batches).take(steps_per_epoch).skip(skipped)

    def augmented(images, kind, step):
        if augment is None:
            return images
        with tf.device(device):
            result = augment(images, tf.random.fold_in(tf.constant([seed, kind], tf.int64), step))
        if not images.shape.is_compatible_with(result.shape):
            raise ValueError(
                f"`augment` returns images of shape {result.shape} for images of shape {images.shape}. It must keep "
                "the shape."
            )
        return tf.ensure_shape(result, images.shape)

    def assemble(step, batch):
        labeled_images, labels = fetch_labeled(batch[0])
        x = {"labeled": _to_float(labeled_images), "unlabeled": _to_float(fetch_unlabeled(batch[1]))}
        x["labeled_augmented"] = augmented(x["labeled"], _LABELED, step)
        x["unlabeled_augmented"] = augmented(x["unlabeled"], _UNLABELED, step)
        return x, tf.one_hot(tf.cast(labels, tf.int64), num_classes)

    batches = tf.data.Dataset.counter(first_epoch).flat_map(batches_of_epoch)
    batches = tf.data.Dataset.zip(tf.data.Dataset.counter(start_step), batches)
    # `num_parallel_calls` selects the parallel map, which can run parts of its function on another device.
    batches = batches.map(assemble, num_parallel_calls=1).with_options(_options())
    if device == "/CPU:0":
        return batches.prefetch(2)
    return batches.apply(tf.data.experimental.prefetch_to_device(device, 2))


def _elements(source, shuffle_buffer):
    """A dataset of what is shuffled, the function from a batch of it to the content, and the shuffle's buffer size."""
    if isinstance(source, tf.data.Dataset):
        return source, lambda batch: batch, shuffle_buffer or int(source.cardinality())
    # Shuffling the indices of arrays costs a fraction of shuffling their images.
    with tf.device("/CPU:0"):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, source)
    size = len(tf.nest.flatten(tensors)[0])

    def fetch(indices):
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, indices), tensors)

    return tf.data.Dataset.range(size), fetch, shuffle_buffer or size


def _to_float(images):
    return scale(images) if images.dtype == tf.uint8 else tf.cast(images, tf.float32)


def _options():
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    # One thread is enough for a pipeline that costs a tenth of a step; the rest of the machine belongs to the step.
    options.threading.private_threadpool_size = 1
    options.threading.max_intra_op_parallelism = 1
    return options
