"""A progress bar for runs of many epochs."""

import shutil
import sys
import time

import keras


class ProgressBar(keras.callbacks.Callback):
    """One live line while an epoch runs, and one line for each finished epoch, with every named term.

    The live line has the time left of the whole run, not of the epoch. Where the output is not a terminal, only the
    finished epochs are printed. Use it with `fit(verbose=0)`.

    Args:
        hidden: Logs that are not shown.

    Example:
        >>> model.fit(batches, epochs=20, steps_per_epoch=468, verbose=0, callbacks=[ProgressBar()])
    """

    async_safe = True  # Keras need not wait for the logs of a step before it launches the next

    _WIDTH = 20
    _REFRESH_SECONDS = 0.25

    def __init__(self, hidden: tuple[str, ...] = ()):
        super().__init__()
        self.hidden = hidden
        self._live = False
        self._began: float | None = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._began = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        if self._began is None:
            self._first_epoch = epoch
        self._drawn, self._latest = 0.0, -1

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        now = time.monotonic()
        if self._began is None:
            # The first step compiles: it says nothing about the rest.
            self._began, self._first_batch = now, batch
        # Keras' threads may bring an older step after a newer one.
        if sys.stdout.isatty() and batch > self._latest and now - self._drawn >= self._REFRESH_SECONDS:
            self._drawn, self._latest = now, batch
            self._draw(self._line(batch, now, logs or {}))

    def _line(self, batch, now, logs):
        steps = self.params["steps"] or batch + 1
        done = (self._epoch - self._first_epoch) * steps + batch - self._first_batch
        left = (self.params["epochs"] - self._epoch) * steps - batch - 1
        remaining = _clock((now - self._began) / done * left) if done > 0 else "?"
        filled = self._WIDTH * (batch + 1) // steps
        bar = "█" * filled + "░" * (self._WIDTH - filled)
        return f"{self._title()} {bar} {batch + 1}/{steps}, {remaining} left: {self._terms(logs)}"

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._draw("")
        print(f"{self._title()} {self._terms(logs or {})}", flush=True)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._draw("")

    def _title(self):
        return f"epoch {self._epoch + 1:{len(str(self.params['epochs']))}d}/{self.params['epochs']}"

    def _terms(self, logs):
        return " ".join(f"{name} {value:.4g}" for name, value in logs.items() if name not in self.hidden)

    def _draw(self, line):
        if line or self._live:
            columns = shutil.get_terminal_size().columns - 1
            sys.stdout.write("\r\033[K" + line[:columns])
            sys.stdout.flush()
        self._live = bool(line)


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
