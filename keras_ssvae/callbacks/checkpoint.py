"""A checkpoint from which a killed run continues as if it had never stopped."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import keras
import numpy as np


class CheckpointError(ValueError):
    """A checkpoint cannot be read, or belongs to another model. The message says what to do."""


@runtime_checkable
class Stateful(Protocol):
    """The interface of a callback whose state a `Checkpoint` keeps.

    Attributes:
        epoch: The last epoch whose beginning the callback saw, counted from 0.
    """

    epoch: int | None

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns everything that the next epochs depend on, as a dictionary of arrays."""

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Restores a state from `get_state`, from which the next `fit` continues. ValueError if it does not fit."""


class Checkpoint(keras.callbacks.Callback):
    """Writes one file after each epoch, with everything that is needed to continue the training.

    The file holds the weights, the state of the optimizer, the history of the logs and the state of `callbacks`. It is
    replaced as a whole, so a run that is killed at any moment leaves the last complete file. A resumed run ends with
    exactly the weights of an uninterrupted run if noise and batches depend on (seed, step) only. The models of this
    library and `data.semi_supervised(..., start_step=...)` meet this condition.

    Args:
        path: The file, `.npz`. Its directory is made when the training begins.
        callbacks: Callbacks with a state, such as `EarlyStopping`. Give them to `fit` too, before this one.

    Attributes:
        history: The logs of the epochs so far: a list with one dictionary for each epoch.

    Example:
        >>> checkpoint = Checkpoint("run/checkpoint.npz")
        >>> checkpoint.set_model(model)
        >>> done = checkpoint.restore() if checkpoint.path.exists() else 0
        >>> batches = data.semi_supervised(..., steps_per_epoch=468, start_step=done * 468)  # where the run stopped
        >>> model.fit(batches, initial_epoch=done, epochs=100, steps_per_epoch=468, callbacks=[checkpoint])
    """

    def __init__(self, path: str | os.PathLike, callbacks: Sequence[keras.callbacks.Callback] = ()):
        super().__init__()
        self.path = Path(path)
        self.callbacks = list(callbacks)
        for callback in self.callbacks:
            if not isinstance(callback, Stateful):
                raise ValueError(
                    f"`callbacks` holds {callback!r}; it must hold callbacks with a state, such as `EarlyStopping`."
                )
        self.history: list[dict[str, float]] = []

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        for callback in self.callbacks:
            if callback.epoch != epoch:
                name = type(callback).__name__
                raise ValueError(
                    f"`Checkpoint` keeps the state of an `{name}` that comes after it in the `callbacks` of `fit`, or "
                    f"is missing there. Give both to `fit`, the `{name}` first."
                )

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.history.append({"epoch": epoch + 1, **{name: float(value) for name, value in (logs or {}).items()}})
        arrays = {name: variable.numpy() for name, variable in self._state().items()}
        for i, callback in enumerate(self.callbacks):
            arrays |= {f"callbacks/{i}/{name}": array for name, array in callback.get_state().items()}
        temporary = self.path.with_name(self.path.name + ".tmp")
        with open(temporary, "wb") as file:
            np.savez(file, history=json.dumps(self.history), **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)

    def restore(self) -> int:
        """Loads the file into the model, and returns the number of epochs done.

        The model must be compiled and must have the same architecture and optimizer as the model that wrote the file.
        If the file has no state of callbacks, as in older releases, the callbacks begin anew.

        Raises:
            CheckpointError: When the file is damaged, or was written by another model or with other callbacks.
        """
        try:
            with np.load(self.path) as file:
                arrays = {name: file[name] for name in file.files}
            history = json.loads(str(arrays.pop("history")))
        except Exception as error:  # whatever the reader's error is, the remedy is the same
            raise CheckpointError(
                f"The checkpoint {self.path} cannot be read ({error}): it is truncated or damaged. Put a copy in its "
                "place, or delete it to start the run again."
            ) from error
        states = self._pop_states(arrays)
        state = self._state()
        expected = {name: (tuple(v.shape), keras.backend.standardize_dtype(v.dtype)) for name, v in state.items()}
        if {name: (value.shape, value.dtype.name) for name, value in arrays.items()} != expected:
            raise CheckpointError(
                f"The checkpoint {self.path} was written by a model with other variables. Resume with the settings "
                "that started the run."
            )
        for callback, values in zip(self.callbacks, states, strict=False):
            callback.set_model(self.model)
            try:
                callback.set_state(values)
            except (KeyError, ValueError) as error:
                raise CheckpointError(
                    f"The checkpoint {self.path} does not fit: {error}. Resume with the settings that started the run."
                ) from error
        for name, variable in state.items():
            variable.assign(arrays[name])
        self.history = history
        return len(history)

    def _pop_states(self, arrays):
        """Takes the states of the callbacks out of the file's arrays: a dictionary for each."""
        states: dict[str, dict[str, np.ndarray]] = {}
        for name in [name for name in arrays if name.startswith("callbacks/")]:
            _, i, key = name.split("/", 2)
            states.setdefault(i, {})[key] = arrays.pop(name)
        if states and len(states) != len(self.callbacks):
            raise CheckpointError(
                f"The checkpoint {self.path} has the state of {len(states)} callbacks, but `callbacks` holds "
                f"{len(self.callbacks)}. Resume with the settings that started the run."
            )
        return [states[i] for i in sorted(states, key=int)]

    def _state(self):
        optimizer = self.model.optimizer
        if not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        # The metrics' own variables start every epoch at 0.
        metrics = {id(variable) for metric in self.model.metrics for variable in metric.variables}
        model = [variable for variable in self.model.variables if id(variable) not in metrics]
        # Without the names of layers: Keras numbers some of them anew for each model that a process makes.
        return {
            **{f"model/{i}/{variable.name}": variable for i, variable in enumerate(model)},
            **{f"optimizer/{i}": variable for i, variable in enumerate(optimizer.variables)},
        }
