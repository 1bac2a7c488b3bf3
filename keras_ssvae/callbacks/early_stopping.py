"""Early stopping whose state is kept when a run is resumed."""

import json
import math
import numbers

import keras
import numpy as np

from keras_ssvae.backend import private
from keras_ssvae.checks import check_whole_number


class EarlyStopping(keras.callbacks.Callback):
    """Stops the training when a value has not improved for some epochs, and restores the best weights.

    The weights of the epoch with the best value are restored however the training ends. The callback works with any
    Keras model.

    Keras' own `EarlyStopping` forgets everything when a run is resumed. Give this callback to a `Checkpoint` as well,
    and its state becomes part of the checkpoint: a killed and resumed run then stops at the same epoch, with the same
    weights, as an uninterrupted one. If the restored run had already stopped, `fit` trains no step and restores the
    best weights.

    Args:
        monitor: Name of the value in the logs of an epoch.
        min_delta: A value is an improvement if it is better than the best one by more than this.
        patience: Epochs in a row without improvement after which the training stops. 0 has the effect of 1.
        mode: `"min"` if smaller is better, as for every term of this library, or `"max"`.
        start_from_epoch: Number of epochs at the beginning that do not count as epochs without improvement. Unlike in
            Keras, their best value and weights are kept.

    Attributes:
        best: The best value so far; infinite before the first epoch ends.
        best_epoch: The epoch of the best value, counted from 1, or None.
        best_weights: The weights at the end of that epoch: a list of arrays, or None.
        wait: Number of epochs in a row without improvement.

    Raises:
        ValueError: If an argument does not fit; at the end of an epoch, if its logs have no value `monitor`.

    Example:

    VampPrior's rule: stop after more than 50 epochs in a row without a better validation loss, counted from the 100th
    epoch.

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
                f"{', '.join(logs) or 'nothing'}. (Names with val_ need `validation_data`, and validation at every "
                "epoch.)"
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
        """Returns everything that the next epochs depend on; `Checkpoint` writes it."""
        record = {name: getattr(self, name) for name in ("monitor", "mode", "best", "best_epoch", "wait")}
        weights = {f"best_weights/{i}": weight for i, weight in enumerate(self.best_weights or [])}
        return {"record": np.array(json.dumps(record)), **weights}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores a state from `get_state`; the next `fit` continues from it.

        Raises:
            ValueError: If the state belongs to another model, or to another `monitor` or `mode`.
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
