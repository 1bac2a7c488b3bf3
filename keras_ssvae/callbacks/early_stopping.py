"""Early stopping that a resumed run continues as if it had never been interrupted."""

import json
import math
import numbers

import keras
import numpy as np

from keras_ssvae.backend import private
from keras_ssvae.checks import check_whole_number


class EarlyStopping(keras.callbacks.Callback):
    """Stops training when a number of the logs has not become better for some epochs, and puts the best weights back.

    The weights are those of the epoch with the best value, however training ends. It works with any Keras model.
    Keras' own forgets everything when a run is resumed; the state of this one is part of the file of a `Checkpoint`
    that is told of it, so that a run that was killed stops at the same epoch, with the same weights, as one that was
    not. Where a restored run had already stopped, `fit` trains no step and puts the best weights back.

    Args:
        monitor: The name of the number in the logs of an epoch.
        min_delta: A value is better if it is so by more than this.
        patience: Stops when so many epochs in a row were not better; 0 as 1.
        mode: `"min"`: smaller is better, as for every term of this library. `"max"`: larger is.
        start_from_epoch: In so many epochs at the beginning the count of epochs without a better value stays at 0.
            (Keras leaves them out altogether; here the best of them counts.)

    Attributes:
        best: The best value so far; infinite before the first.
        best_epoch: Its epoch, counted from 1; None before the first.
        best_weights: The weights at its end: a list of arrays, or None.
        wait: How many epochs in a row were not better.

    Raises:
        ValueError: If an argument does not fit; at the end of an epoch, if its logs have no number of that name.

    Example:

    VampPrior's rule: stop after more than 50 epochs in a row without a better validation loss, counted from the 100th.

    >>> early_stopping = EarlyStopping(patience=51, start_from_epoch=99)
    >>> checkpoint = Checkpoint("run/checkpoint.npz", callbacks=[early_stopping])
    >>> checkpoint.set_model(model)
    >>> done = checkpoint.restore() if checkpoint.path.exists() else 0
    >>> model.fit(
    ...     batches, validation_data=validation, steps_per_epoch=500, epochs=2000, initial_epoch=done,
    ...     callbacks=[early_stopping, checkpoint],
    ... )
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        min_delta: float = 0.0,
        patience: int = 0,
        *,
        mode: str = "min",
        start_from_epoch: int = 0,
    ):
        super().__init__()
        is_number = isinstance(min_delta, numbers.Real)
        if not is_number or not 0 <= min_delta < math.inf:
            raise ValueError(f"`min_delta` is {min_delta!r}; it must be a finite number, 0 or more.")
        check_whole_number("patience", patience, 0)
        check_whole_number("start_from_epoch", start_from_epoch, 0)
        if mode not in ("min", "max"):
            raise ValueError(f'`mode` is {mode!r}; it must be "min" or "max".')
        self.monitor, self.min_delta, self.patience, self.mode = monitor, min_delta, patience, mode
        self.start_from_epoch = start_from_epoch
        self._sign = 1 if mode == "min" else -1
        self._restored = False
        self._begin()

    def _begin(self) -> None:
        self.epoch: int | None = None
        self.best: float = self._sign * math.inf
        self.best_epoch: int | None = None
        self.best_weights: list[np.ndarray] | None = None
        self.wait = 0

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not self._restored:
            self._begin()
        self._restored = False
        self._trains_nothing = self._is_over()
        if self._trains_nothing:
            private.set_initial_epoch(self.model, self.params["epochs"])

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch = epoch

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        if self.monitor not in logs:
            raise ValueError(
                f"`monitor` is {self.monitor!r}, which is not in the logs of epoch {epoch + 1}. They have "
                f"{', '.join(logs) or 'nothing'}. (The names with val_ need `validation_data`, at every epoch.)"
            )
        value = float(logs[self.monitor])
        if self._sign * value < self._sign * self.best - self.min_delta:
            self.best, self.best_epoch = value, epoch + 1
            self.best_weights = [np.array(weight) for weight in self.model.get_weights()]
            self.wait = 0
        elif epoch >= self.start_from_epoch:
            self.wait += 1
        else:
            self.wait = 0
        if self._is_over():
            self.model.stop_training = True

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._trains_nothing:
            private.set_initial_epoch(self.model, None)
        if self.best_weights is not None:
            self.model.set_weights(self.best_weights)

    def _is_over(self):
        return self.wait >= max(self.patience, 1)

    def get_state(self) -> dict[str, np.ndarray]:
        """What `Checkpoint` writes: all that the next epochs depend on."""
        record = {name: getattr(self, name) for name in ("monitor", "mode", "best", "best_epoch", "wait")}
        weights = {f"best_weights/{i}": weight for i, weight in enumerate(self.best_weights or [])}
        return {"record": np.array(json.dumps(record)), **weights}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Takes back what `get_state` gave; the next `fit` goes on from it.

        Raises:
            ValueError: If it is that of another model, or of another number.
        """
        record = json.loads(str(state["record"]))
        if (record["monitor"], record["mode"]) != (self.monitor, self.mode):
            raise ValueError(
                f"`EarlyStopping` has monitored the {record['mode']} of {record['monitor']!r}, not the {self.mode} "
                f"of {self.monitor!r}"
            )
        weights = [state[f"best_weights/{i}"] for i in range(len(state) - 1)]
        expected = [] if record["best_epoch"] is None else self.model.get_weights()
        if [(each.shape, each.dtype) for each in weights] != [(each.shape, each.dtype) for each in expected]:
            raise ValueError("the best weights of `EarlyStopping` are those of another model")
        self._begin()
        self.best, self.best_epoch, self.wait = record["best"], record["best_epoch"], record["wait"]
        self.best_weights = weights or None
        self._restored = True
