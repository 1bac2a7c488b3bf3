"""What `fit` of the models adds to Keras: it continues in the data, and stops at a term that is not finite."""

import contextlib
import inspect
import math
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import keras

from keras_ssvae.backend import private
from keras_ssvae.backend.course import Course

# Model -> course of its data -> (number of steps by which the data was ahead of the optimizer at first, the step at
# which the last `fit` ended).
_places: weakref.WeakKeyDictionary[Any, weakref.WeakKeyDictionary[Course, tuple[int, int | None]]]
_places = weakref.WeakKeyDictionary()


@contextlib.contextmanager
def prepared(model: keras.Model, *args, **kwargs) -> Iterator[dict[str, Any]]:
    """Context that converts the user's arguments into those for Keras' `fit`.

    Raises:
        ValueError: For weights of samples or classes; for endless data without `steps_per_epoch`; for a callback that
            sets a learning rate that is a schedule.
    """
    given = inspect.signature(keras.Model.fit).bind(model, *args, **kwargs).arguments
    given.pop("self")
    _check_weights(given)
    x = given.get("x")
    course = getattr(x, "course", None)
    if given.get("steps_per_epoch") is None and _has_no_end(x):
        if course is None:
            raise ValueError("`x` has no end, so an epoch would not have one either. Give `fit` the `steps_per_epoch`.")
        given["steps_per_epoch"] = course.steps_per_epoch
    if _is_in_order(x):
        given.setdefault("shuffle", False)  # Keras would warn that it does not shuffle
    watch = Watch(model, course)
    callbacks = given.get("callbacks")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks.callbacks.insert(0, watch)
        every = callbacks.callbacks
    else:
        every = [watch, *keras.tree.flatten([] if callbacks is None else callbacks)]
        given["callbacks"] = every
    for callback in every:
        _choose_mode(model, callback)
        _check_rate(model.optimizer, callback)
    watch.is_graceful = any(isinstance(callback, keras.callbacks.TerminateOnNaN) for callback in every)
    try:
        yield given
    finally:
        watch.finish()
        if isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks.callbacks.remove(watch)


def _check_weights(given):
    for name in ("class_weight", "sample_weight"):
        if given.get(name) is not None:
            raise ValueError(
                f"`{name}` is given; the objective has no weights of images or classes. Leave it out, and repeat the "
                "images that should count more."
            )


def _has_no_end(x):
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is None
    if hasattr(x, "course"):
        return True
    return hasattr(x, "element_spec") and hasattr(x, "cardinality") and int(x.cardinality()) == -1  # infinite


def _is_in_order(x):
    """Whether Keras takes the batches in their given order."""
    if isinstance(x, keras.utils.PyDataset):
        return x.num_batches is None
    return hasattr(x, "element_spec") or inspect.isgenerator(x)


def _choose_mode(model, callback):
    """Sets the mode of a callback from "auto" to "min": smaller is better for each term.

    Keras would look for the direction only in the metrics of `compile`.
    """
    monitor, mode = getattr(callback, "monitor", None), getattr(callback, "mode", None)
    if mode == "auto" and isinstance(monitor, str) and monitor.removeprefix("val_") in model.metrics_names:
        callback.mode = "min"


def _check_rate(optimizer, callback):
    """Raises ValueError for a callback that sets the learning rate, possibly late in training, if it is a schedule."""
    if isinstance(callback, keras.callbacks.ReduceLROnPlateau | keras.callbacks.LearningRateScheduler):
        members = getattr(optimizer, "members", {"": optimizer})
        scheduled = [name for name, each in members.items() if callable(private.learning_rate(each))]
        if scheduled:
            whose = f"the groups {scheduled} have" if scheduled != [""] else "the optimizer has"
            raise ValueError(
                f"`{type(callback).__name__}` sets the learning rate, but {whose} a schedule of the step. Give each "
                "optimizer a number, or leave the callback out."
            )


class Watch(keras.callbacks.Callback):
    """Stops the training at a term that is not finite, before the callbacks of the user can save anything.

    It also keeps the position in the data, for the next `fit`.

    Args:
        model: The model to train.
        course: Course of its data, or None if it is unknown.

    Attributes:
        is_graceful: Whether `fit` ends with a warning, as with `TerminateOnNaN`, instead of an error.
    """

    async_safe = True  # it needs the logs of a step, but the next step may start before

    def __init__(self, model: keras.Model, course: Course | None):
        super().__init__()
        self.is_graceful = False
        self.set_model(model)
        self._terms = model.training_terms  # while the next step runs, `self.model` would take the state from it on JAX
        self._course, self._optimizer = course, model.optimizer
        self._before = self._begin = _steps(model.optimizer)
        self._place: int | None = None
        # On JAX Keras may call `on_train_batch_end` of several steps at a time, in threads that begin in their order.
        self._in_order, self._checked, self._each = threading.Condition(), 0, model.steps_per_execution
        if course is not None:
            self._places = _places.setdefault(model, weakref.WeakKeyDictionary())
            self._ahead, self._ended = self._places.get(course, (course.start_step - self._before, None))

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._begin, self._checked = _steps(self._optimizer), 0
        if self._course is not None and self._place is None:
            self._first, self._place = self._begin, self._next_place(self._course.start_step)
            self._course.begin = self._place

    def _next_place(self, start):
        """The step of the data at which this `fit` begins."""
        if self._begin != self._before:  # a callback has restored an earlier run, as `BackupAndRestore` does
            return start if self._begin == start else max(self._begin + self._ahead, 0)
        return start if self._ended is None else self._ended

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        execution = batch // self._each
        with self._in_order:
            self._in_order.wait_for(lambda: self._checked >= execution, timeout=60.0)
            try:
                self._check(logs or {}, f"at step {self._begin + batch + 1}")
            finally:
                self._checked = execution + 1
                self._in_order.notify_all()

    def _check(self, logs, when):
        # In the order in which the model computes them, for one makes others NaN; the logs are sorted by name.
        in_order = [*self._terms, *sorted(logs, key="loss".__eq__)]
        broken = next((name for name in in_order if not math.isfinite(logs.get(name, 0.0))), None)
        if broken is None:
            return
        sentence = (
            f"The term `{broken}` is {'NaN' if math.isnan(logs[broken]) else 'infinite'} {when}, so the training ends. "
            "A lower rate, `clipnorm` in the optimizer or another network may help; a log-variance above 88 overflows."
        )
        if not self.is_graceful:
            raise FloatingPointError(sentence)
        if not self.model.stop_training:
            warnings.warn(sentence, stacklevel=2)
        self.model.stop_training = True

    def finish(self) -> None:
        """Stores the position in the data after `fit`, also after an error."""
        private.set_initial_epoch(self.model, None)  # else `BackupAndRestore` makes the next `fit` start late
        if self._course is None:
            return
        self._course.begin = self._course.start_step
        if self._place is not None:
            self._places[self._course] = self._ahead, self._place + _steps(self._optimizer) - self._first


def _steps(optimizer):
    return int(keras.ops.convert_to_numpy(private.steps_taken(optimizer)))
