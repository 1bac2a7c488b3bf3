"""Batches as a `tf.data.Dataset`."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from keras_ssvae.backend import WHOLE_BATCH
from keras_ssvae.backend.course import Course
from keras_ssvae.data import batch
from keras_ssvae.data.checks import check_batch
from keras_ssvae.data.order import Part, epoch_order
from keras_ssvae.models.checked_data import CHECKED, MISSES_LABELS, checked_dataset, in_flight
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import augmented_fits, check_augmented, check_dtype, check_values


def gather(array: tf.Tensor, indices: tf.Tensor) -> tf.Tensor:
    """`array[indices]` along the first axis. `keras.ops.take` would first handle negative indices."""
    return tf.gather(array, indices)


def precise_matmul(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """The matrix product of `float32` matrices or stacks of them, in full precision."""
    # On a GPU, float32 products may be rounded to 10 bits (TF32).
    precise = tf.float64 if tf.config.list_logical_devices("GPU") else tf.float32
    return tf.cast(tf.matmul(tf.cast(a, precise), tf.cast(b, precise)), tf.float32)


def is_dataset(source) -> bool:
    """Whether a source of images is a `tf.data.Dataset`."""
    return isinstance(source, tf.data.Dataset)


def make_batches(  # noqa: D417 (the others are described by `semi_supervised`)
    sources: dict,
    parts: Sequence[Part],
    *,
    kinds: Labels | None,
    steps_per_epoch: int,
    seed: int,
    start_step: int,
    augment: Callable | None,
    replace_labeled: Callable | None,
    augment_on: str,
    shuffle: bool,
    shuffle_buffer: int | None,
) -> tf.data.Dataset:
    """Makes the batches of `semi_supervised`, which has checked its arguments and passes them on.

    Args:
        sources: The images, or images and labels, of each kind of `parts`.
        parts: The parts of a batch.
    """
    course = Course(steps_per_epoch, start_step)
    device = "/CPU:0"
    if augment_on == "device" and tf.config.list_logical_devices("GPU"):
        device = "/GPU:0"
    alternating = any(part.rhythm is not None for part in parts)
    reads_datasets = any(map(is_dataset, sources.values()))
    order = {"steps": steps_per_epoch, "seed": seed, "shuffle": shuffle, "buffer": shuffle_buffer}
    readers = {part.kind: _reader(sources[part.kind], part, **order, kinds=kinds) for part in parts}

    def batches_from(start):
        first_epoch, first_batch = start // steps_per_epoch, start % steps_per_epoch

        def batches_of_epoch(epoch):
            skipped = tf.where(epoch == first_epoch, first_batch, 0)
            batches = tf.data.Dataset.zip({kind: of_epoch(epoch) for kind, (of_epoch, _) in readers.items()})
            return batches.take(steps_per_epoch).skip(skipped)

        batches = tf.data.Dataset.counter(first_epoch).flat_map(batches_of_epoch)
        return tf.data.Dataset.zip(tf.data.Dataset.counter(start), batches)

    def begin(_):
        # In Python, so that each iteration begins at the current position of the course.
        return tf.ensure_shape(tf.numpy_function(lambda: np.int64(course.begin), [], tf.int64), ())

    def assemble(step, chosen):
        fetched = {kind: fetch(chosen[kind]) for kind, (_, fetch) in readers.items()}
        return batch.assemble(
            fetched.get("labeled"),
            fetched.get("unlabeled"),
            batch.first_draw(step),
            kinds=kinds,
            seed=seed,
            augment=augment and functools.partial(_augmented, augment, device, alternating, step == 0),
            replace_labeled=replace_labeled,
        )

    batches = tf.data.Dataset.from_tensors(0).map(begin).flat_map(batches_from)
    # `num_parallel_calls` selects the parallel map: only that one can run parts of its function on another device.
    batches = batches.map(assemble, num_parallel_calls=1).with_options(_options(reads_datasets))
    batches = batches.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
    on_host = device == "/CPU:0"
    batches = batches.prefetch(2) if on_host else batches.apply(tf.data.experimental.prefetch_to_device(device, 2))
    setattr(batches, CHECKED, True)
    batches.course = course  # for `fit` of the models
    return batches


# The shuffle of a dataset holds at most this much of it, because the images may not fit into memory.
_SHUFFLE_BYTES = 2**30


def _reader(source, part, *, steps, seed, shuffle, buffer, kinds):
    """Two functions: epoch -> dataset of the elements of its batches, and element -> images (and labels)."""
    if is_dataset(source):
        buffer = (buffer or _shuffle_buffer(source)) if shuffle else None
        read = functools.partial(_read, source, part, steps=steps, seed=seed, buffer=buffer, kinds=kinds)
        return read, lambda chosen: chosen
    with tf.device("/CPU:0"):
        tensors = tf.nest.map_structure(tf.convert_to_tensor, source)
    size = len(tf.nest.flatten(tensors)[0])
    passes = part.passes(size, steps)

    def indices(epoch):
        order = tf.reshape(epoch_order(seed, epoch, size, passes, f"order {part.kind}", shuffle), (-1,))

        def of_step(step):
            begin, end = part.slice(step, size)
            chosen = order[begin:end]
            return chosen if part.keep_short else tf.ensure_shape(chosen, (part.batch_size,))

        return tf.data.Dataset.range(steps).map(of_step)

    def fetch(chosen):
        return tf.nest.map_structure(lambda tensor: tf.gather(tensor, chosen), tensors)

    return indices, fetch


def _shuffle_buffer(source):
    """Number of elements in the shuffle buffer: the whole set, or as many as take `_SHUFFLE_BYTES`."""
    specs = tf.nest.flatten(source.element_spec)
    size = sum(spec.dtype.size * (spec.shape.num_elements() or 1) for spec in specs)
    return max(1, min(int(source.cardinality()), _SHUFFLE_BYTES // size))


def _read(elements, part, epoch, *, steps, seed, buffer, kinds):
    """At least the batches of one epoch of a dataset. Each pass reads the images anew.

    With a `buffer` of None they are not shuffled.
    """

    def of_pass(number):
        if buffer is None:
            return elements
        # The graph of this function gets its own seed, so that the order does not depend on the global seed
        # (`keras.utils.set_random_seed`).
        tf.compat.v1.set_random_seed(seed)
        number = (epoch * 2**24 + number) * 2 + (part.kind == "unlabeled")
        return elements.shuffle(buffer, seed=number, reshuffle_each_iteration=False)

    def check(batch, first):
        check_batch(part.kind, batch, kinds if part.kind == "labeled" else None, first)

    passes = tf.data.Dataset.counter()
    if not part.keep_short:
        return checked_dataset(passes.flat_map(of_pass).batch(part.batch_size, drop_remainder=True), check)
    batches = checked_dataset(passes.flat_map(lambda number: of_pass(number).batch(part.batch_size)), check)
    if part.rhythm is None:
        return batches
    nothing = tf.nest.map_structure(lambda spec: tf.zeros((0, *spec.shape), spec.dtype), elements.element_spec)
    which = tf.data.Dataset.range(steps).map(lambda step: tf.cast(part.turn(step)[0], tf.int64))
    return tf.data.Dataset.choose_from_datasets([tf.data.Dataset.from_tensors(nothing).repeat(), batches], which)


def _augmented(augment, device, alternating, first, images, seed):
    given, rows = images, tf.shape(images)[0]
    if alternating:
        # Some operations fail without images (`tf.pad` with mirroring), so one image of zeros replaces them.
        missing = tf.zeros((tf.cast(rows == 0, tf.int32), *images.shape[1:]))
        given = tf.concat([images, missing], axis=0)
    with tf.device(device):
        result = tf.convert_to_tensor(augment(given, seed))
    if alternating and result.shape.rank:
        result = result[:rows]
    # The shape that is known when the graph is built. `assemble` reports a wrong one.
    if not images.shape.is_compatible_with(result.shape):
        return result
    with tf.device(device):
        fits = augmented_fits(tf.cast(result, tf.float32), images, first)

    @tf.autograph.experimental.do_not_convert
    def refuse(*given):
        in_flight(check_augmented)("augmented images", *given)
        return True

    # The numbers are copied to the host only if they are invalid.
    fits = tf.cond(fits, lambda: True, lambda: tf.numpy_function(refuse, [result, images, first], tf.bool))
    with tf.control_dependencies([fits]):
        return tf.ensure_shape(result, images.shape)


def _options(reads_datasets):
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False
    if not reads_datasets:
        # One thread is enough for arrays, whose pipeline takes a tenth of the time of a step; the step needs the other
        # threads. A user's dataset may need more threads, to read files and decode images.
        options.threading.private_threadpool_size = 1
        options.threading.max_intra_op_parallelism = 1
    return options


def check_dataset(name: str, dataset: tf.data.Dataset, kinds: Labels | None) -> tuple[int, ...]:
    """Checks a labelled dataset (`kinds` given) or an unlabelled one; returns the shape `(H, W, C)` of an image.

    A dataset may be slow, or larger than memory. So only its element specification, its cardinality and its first
    element are checked here; the others are checked when they are read.
    """
    spec = dataset.element_spec
    parts = spec if isinstance(spec, tuple) else (spec,)
    wanted = 1 if kinds is None else 2
    if kinds is None and len(parts) == 2:
        raise ValueError(
            f"`{name}` is a Dataset of pairs. It must be a Dataset of images alone: drop the labels with "
            "`.map(lambda image, label: image)`."
        )
    if len(parts) != wanted or not all(isinstance(part, tf.TensorSpec) for part in parts):
        content = "images" if kinds is None else "pairs (image, integer label)"
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
    check_dtype(name, parts[0].dtype.name)
    _check_cardinality(name, int(dataset.cardinality()))
    first = next(iter(dataset.take(1)), None)
    if first is None:
        raise ValueError(f"`{name}` is an empty Dataset. It must hold at least one image.")
    image = (first if kinds is None else first[0]).numpy()
    check_values(name, image[None], in_doubt="ignore")
    if kinds is not None:
        kinds.check(f"{name}[1]", first[1].numpy()[None])
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

    distributed = strategy.distribute_datasets_from_function(of_worker)
    for attribute in ("course", MISSES_LABELS):
        if hasattr(batches, attribute):
            setattr(distributed, attribute, getattr(batches, attribute))
    return distributed
