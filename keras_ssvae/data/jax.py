"""Batches as a `keras.utils.PyDataset` of JAX arrays, made on the device."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_ssvae.backend.course import Course
from keras_ssvae.data import batch
from keras_ssvae.data.order import Part, epoch_order
from keras_ssvae.models.checked_data import CHECKED
from keras_ssvae.models.labels import Labels

# Images may use this share of the device's memory; the rest is for the model.
_SHARE_OF_MEMORY = 0.25


def gather(array: jax.Array, indices: jax.Array) -> jax.Array:
    """`array[indices]` along the first axis; NaN for an index out of range, if the array is `float32`."""
    return jnp.asarray(array).at[indices].get(mode="fill", wrap_negative_indices=False)


def precise_matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product of `float32` matrices or stacks of them, in full precision."""
    # By default, products may be rounded to 10 bits (TF32) on a GPU, and to 8 on a TPU.
    return jnp.matmul(jnp.asarray(a, "float32"), jnp.asarray(b, "float32"), precision="highest")


def is_dataset(source) -> bool:
    """Whether a source of images is a `tf.data.Dataset`; does not import TensorFlow."""
    return hasattr(source, "element_spec")


def check_dataset(name: str, dataset, kinds: Labels | None) -> tuple[int, ...]:
    """Raises ValueError: the JAX backend takes no `tf.data.Dataset`."""
    raise ValueError(
        f"`{name}` is a {type(dataset).__name__}. On the JAX backend of Keras it must be arrays: tf.data belongs to "
        "the TensorFlow backend (KERAS_BACKEND=tensorflow)."
    )


def distribute(batches, strategy) -> NoReturn:
    """Raises ValueError: JAX itself divides the rows of a batch among the devices."""
    raise ValueError(
        f"`strategy` is {strategy!r}. On the JAX backend call `keras.distribution.set_distribution(keras.distribution."
        "DataParallel())` before the model is made, and give `fit` the batches as they are."
    )


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
) -> keras.utils.PyDataset:
    """Makes the batches of `semi_supervised`, which has checked its arguments and passes them on.

    Everything runs on the device, and arrays are shuffled as a whole. So `augment_on` and `shuffle_buffer` have no
    effect.

    Args:
        sources: The images, or images and labels, of each kind of `parts`.
        parts: The parts of a batch.
    """
    sources = dict(sources)
    if "labeled" in sources:
        images, labels = sources["labeled"]
        sources["labeled"] = (_compact(images), np.asarray(labels, np.int32))
    if "unlabeled" in sources:
        sources["unlabeled"] = _compact(sources["unlabeled"])
    return _Batches(
        sources, parts, steps_per_epoch, start_step, _Settings(kinds, seed, augment, replace_labeled), shuffle
    )


def _compact(images):
    """Images in a compact type for the device; float64 would be converted at every use."""
    images = np.asarray(images)
    return images if images.dtype == np.uint8 else images.astype(np.float32)


class _Settings(NamedTuple):
    """Static settings of the compiled functions."""

    kinds: Labels | None
    seed: int
    augment: Callable | None
    replace_labeled: Callable | None


class _Batches(keras.utils.PyDataset):
    """Endless batches. Item i is that of step `course.begin + i`, with the value of `begin` when item 0 was taken.

    If the images fit into the memory of the device, they are copied to it once. A compiled function, one for each
    length of a batch, selects, scales and augments them there. Nothing waits for a result, so the host runs ahead of
    the device.
    """

    def __init__(self, sources, parts, steps_per_epoch, start_step, settings, shuffle):
        super().__init__(workers=0)  # threads would not help: the host only launches work on the device
        self._parts = {part.kind: part for part in parts}
        self._sizes = {kind: len(jax.tree.leaves(source)[0]) for kind, source in sources.items()}
        self.course = Course(steps_per_epoch, start_step)  # for `fit` of the models
        self._begin = start_step
        self._settings, self._shuffle = settings, shuffle
        self._on_device = _fits_on_device(sources)
        self._sources = jax.device_put(sources) if self._on_device else sources
        setattr(self, CHECKED, True)
        self._orders: tuple[int | None, dict] = (None, {})  # the epoch, and its orders
        # Finds a mistake in `augment` without computing anything.
        first = {kind: _take(sources[kind], slice(part.batch_size)) for kind, part in self._parts.items()}
        jax.eval_shape(functools.partial(_assemble, settings=settings), first, np.uint32(0))

    def __repr__(self) -> str:
        parts = ", ".join(f"{part.batch_size} {kind} of {self._sizes[kind]}" for kind, part in self._parts.items())
        course = f"{self.course.steps_per_epoch} steps an epoch, from step {self.course.start_step}"
        return f"<batches of {parts} images, {course}>"

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        if index == 0:
            self._begin = self.course.begin
        step = self._begin + index
        epoch, within = divmod(step, self.course.steps_per_epoch)
        if self._orders[0] != epoch:
            self._orders = (epoch, self._draw_orders(epoch))
        orders = self._orders[1]
        slices = {kind: part.slice(within, self._sizes[kind]) for kind, part in self._parts.items()}
        counter = _uint32(batch.first_draw(step))
        if self._on_device:
            begins = {kind: np.int32(begin) for kind, (begin, _) in slices.items()}
            lengths = tuple((kind, end - begin) for kind, (begin, end) in slices.items())
            return _choose_and_assemble(self._sources, orders, begins, counter, lengths, self._settings)
        chosen = {kind: _take(self._sources[kind], orders[kind][slice(*each)]) for kind, each in slices.items()}
        return _assemble(jax.device_put(chosen), counter, self._settings)

    def _draw_orders(self, epoch):
        orders = {}
        for kind, part in self._parts.items():
            size = self._sizes[kind]
            passes = part.passes(size, self.course.steps_per_epoch)
            orders[kind] = _draw_order(
                _uint32(epoch), self._settings.seed, size, passes, f"order {kind}", self._shuffle
            )
        return orders if self._on_device else jax.tree.map(np.asarray, orders)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _draw_order(epoch, seed, size, passes, purpose, shuffle):
    return epoch_order(seed, epoch, size, passes, purpose, shuffle).reshape(-1)


@functools.partial(jax.jit, static_argnames="settings")
def _assemble(chosen, counter, settings):
    return batch.assemble(chosen.get("labeled"), chosen.get("unlabeled"), counter, **settings._asdict())


@functools.partial(jax.jit, static_argnames=("lengths", "settings"))
def _choose_and_assemble(sources, orders, begins, counter, lengths, settings):
    chosen = {}
    for kind, length in lengths:
        indices = jax.lax.dynamic_slice(orders[kind], (begins[kind],), (length,))
        chosen[kind] = _take(sources[kind], indices)
    return _assemble(chosen, counter, settings)


def _fits_on_device(sources):
    memory = jax.local_devices()[0].memory_stats() or {}  # a CPU has no memory of its own
    limit = memory.get("bytes_limit", np.inf)
    return sum(array.nbytes for array in jax.tree.leaves(sources)) < _SHARE_OF_MEMORY * limit


def _take(source, indices):
    return jax.tree.map(lambda array: array[indices], source)


def _uint32(number):
    """A number as uint32, the type of the counters of random numbers; the largest one is followed by 0."""
    return np.uint32(number % 2**32)
