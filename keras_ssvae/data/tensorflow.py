"""Batches as a `tf.data.Dataset`."""

import functools

import numpy as np
import tensorflow as tf

from keras_ssvae.backend import WHOLE_BATCH
from keras_ssvae.data import batch
from keras_ssvae.data.checks import check_image_dtype, check_label_type, check_labels, check_pixels
from keras_ssvae.data.order import batch_slice, epoch_order, passes_of_epoch


def gather(array: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """`array[indices]`, along the first axis; `keras.ops.take` would look for negative indices first."""
    return tf.gather(array, indices)


def precise_matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The matrix product of `float32` matrices or stacks of them, in full precision."""
    # On a GPU, float32 products may be rounded to 10 bits (TF32).
    precise = tf.float64 if tf.config.list_logical_devices("GPU") else tf.float32
    return tf.cast(tf.matmul(tf.cast(a, precise), tf.cast(b, precise)), tf.float32)


def is_dataset(source) -> bool:
    """Whether a source of images is a `tf.data.Dataset`."""
    return isinstance(source, tf.data.Dataset)


def make_batches(
    labeled,
    unlabeled,
    *,
    num_classes: int | tuple[int, ...] | None,
    labeled_batch_size: int,
    unlabeled_batch_size: int,
    steps_per_epoch: int,
    seed: int,
    start_step: int,
    augment,
    augment_on: str,
    shuffle_buffer: int | None,
) -> tf.data.Dataset:
    """The batches of `semi_supervised`, whose arguments these are, checked."""
    first_epoch, first_batch = divmod(start_step, steps_per_epoch)
    device = "/CPU:0"
    if augment_on == "device" and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"
    source = functools.partial(_source, steps=steps_per_epoch, seed=seed, buffer=shuffle_buffer)
    sources = [source(unlabeled, unlabeled_batch_size, "unlabeled")]
    if labeled is not None:
        sources.append(source(labeled, labeled_batch_size, "labeled"))

    def batches_of_epoch(epoch):
        skipped = tf.where(epoch == first_epoch, tf.constant(first_batch, tf.int64), 0)
        batches = tf.data.Dataset.zip(tuple(order(epoch) for order, _ in sources))
        return batches.take(steps_per_epoch).skip(skipped)

    def assemble(step, chosen):
        fetched = [fetch(indices) for (_, fetch), indices in zip(sources, chosen, strict=True)]
        return batch.assemble(
            None if labeled is None else fetched[1],
            fetched[0],
            batch.first_draw(step),
            num_classes=num_classes,
            seed=seed,
            augment=augment and functools.partial(_augmented, augment, device),
        )

    batches = tf.data.Dataset.counter(first_epoch).flat_map(batches_of_epoch)
    batches = tf.data.Dataset.zip(tf.data.Dataset.counter(start_step), batches)
    # `num_parallel_calls` selects the parallel map, which can run parts of its function on another device.
    options = _options(reads_datasets=is_dataset(labeled) or is_dataset(unlabeled))
    batches = batches.map(assemble, num_parallel_calls=1).with_options(options)
    if device == "/CPU:0":
        return batches.prefetch(2)
    return batches.apply(tf.data.experimental.prefetch_to_device(device, 2))


def _source(source, batch_size, kind, *, steps, seed, buffer):
    """Two functions: from an epoch to a dataset of what is in its batches, and from its elements to their content."""
    if isinstance(source, tf.data.Dataset):
        buffer = buffer or int(source.cardinality())
        return functools.partial(_shuffled, source, batch_size, kind, seed=seed, buffer=buffer), lambda chosen: chosen
    with tf.device("/CPU:0"):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, source)
    size = len(tf.nest.flatten(tensors)[0])
    passes = passes_of_epoch(size, batch_size, steps, keep_short=kind == "labeled")

    def indices(epoch):
        order = tf.reshape(epoch_order(seed, epoch, size, passes, f"order {kind}"), (-1,))

        def of_step(step):
            begin, end = batch_slice(step, size, batch_size, keep_short=kind == "labeled")
            chosen = order[begin:end]
            return chosen if kind == "labeled" else tf.ensure_shape(chosen, (batch_size,))

        return tf.data.Dataset.range(steps).map(of_step)

    def fetch(chosen):
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, chosen), tensors)

    return indices, fetch


def _shuffled(elements, batch_size, kind, epoch, *, seed, buffer):
    """The batches of an epoch of a dataset, without end; its images are read anew in every pass."""

    def shuffled(number):
        # A seed on this function's graph keeps the global seed (`keras.utils.set_random_seed`) out of the order.
        tf.compat.v1.set_random_seed(seed)
        number = (epoch * 2**24 + number) * 2 + (kind == "unlabeled")
        return elements.shuffle(buffer, seed=number, reshuffle_each_iteration=False)

    passes = tf.data.Dataset.counter()
    if kind == "labeled":
        return passes.flat_map(lambda number: shuffled(number).batch(batch_size))
    return passes.flat_map(shuffled).batch(batch_size, drop_remainder=True)


def _augmented(augment, device, images, seed):
    with tf.device(device):
        result = tf.convert_to_tensor(augment(images, seed))
    # The shape that is known when the graph is built; one that cannot fit is left to the sentence of `assemble`.
    return tf.ensure_shape(result, images.shape) if images.shape.is_compatible_with(result.shape) else result


def _options(reads_datasets):
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    if not reads_datasets:
        # One thread is enough for arrays, whose pipeline costs a tenth of a step; the rest of the machine belongs to
        # the step. A dataset of the user's may have files to read and images to decode.
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
    return options


def check_dataset(name: str, dataset: tf.data.Dataset, num_classes: int | None) -> tuple[int, ...]:
    """Checks a labelled dataset (`num_classes` given) or an unlabelled one; returns the shape `(H, W, C)` of an image.

    A dataset may be larger than memory or slow, so of it only the element specification, the cardinality and the first
    element are looked at.
    """
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    wanted = 1 if num_classes is None else 2
    if num_classes is None and len(parts) == 2:
        raise ValueError(
            f"`{name}` is a Dataset of pairs. It must be a Dataset of images alone: drop the labels with "
            "`.map(lambda image, label: image)`."
        )
    if len(parts) != wanted or not all(isinstance(part, tf.TensorSpec) for part in parts):
        content = "images" if num_classes is None else "pairs (image, integer label)"
        raise ValueError(f"`{name}` is a Dataset of {spec}. It must be a Dataset of {content}.")
    shape = parts[0].shape
    if shape.rank == 4:
        raise ValueError(
            f"`{name}` is a Dataset of batches of shape {shape}. It must be a Dataset of single images: "
            "use `.unbatch()`."
        )
    if shape.rank != 3 or not shape.is_fully_defined():
        raise ValueError(
            f"`{name}` is a Dataset of images of shape {shape}. The shape must be a fully known (H, W, C): use "
            "`tf.ensure_shape` in a `.map`."
        )
    check_image_dtype(name, parts[0].dtype.as_numpy_dtype)
    if num_classes is not None:
        check_label_type(name, parts[1].dtype.as_numpy_dtype, parts[1].shape.rank, num_classes, batched=False)
    _check_cardinality(name, int(dataset.cardinality()))
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise ValueError(f"`{name}` is an empty Dataset. It must hold at least one image.")
    image = (first if num_classes is None else first[0]).numpy()
    if image.dtype != np.uint8:
        check_pixels(name, image)
    if num_classes is not None:
        check_labels(name, first[1].numpy()[None], num_classes)
    return tuple(shape)


def _check_cardinality(name, cardinality):
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError(f"`{name}` is an infinite Dataset. It must be finite: drop `.repeat()`, it is repeated here.")
    if cardinality == tf.data.UNKNOWN_CARDINALITY:
        raise ValueError(
            f"`{name}` is a Dataset of unknown size. State it with "
            "`.apply(tf.data.experimental.assert_cardinality(n))`."
        )


def distribute(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.distribute.DistributedDataset:
    """As `keras_ssvae.data.distribute`."""
    if not isinstance(strategy, tf.distribute.Strategy):
        raise ValueError(f"`strategy` is {strategy!r}; it must be a `tf.distribute.Strategy`.")

    def of_worker(context):
        replicas = context.num_replicas_in_sync // context.num_input_pipelines
        return batches.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(replicas)).map(mark)

    def mark(images, *labels):
        return {**images, WHOLE_BATCH: True}, *labels

    return strategy.distribute_datasets_from_function(of_worker)
