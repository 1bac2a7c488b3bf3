"""A progress bar for runs of many epochs."""

import shutil
import sys
import textwrap
import time

import keras


class ProgressBar(keras.callbacks.Callback):
    """Shows one live line while an epoch runs, and prints one line with every named term for each finished epoch.

    The live line shows the remaining time of the whole run, not of the epoch. It appears in terminals and notebooks of
    any width. Elsewhere, as in a log file, only the lines of finished epochs are printed. Use it with
    `fit(verbose=0)`.

    Args:
        hidden: Names of logs that are not shown.

    Example:
        >>> model.fit(batches, epochs=20, steps_per_epoch=468, verbose=0, callbacks=[ProgressBar()])
    """

    async_safe = True  # Keras need not wait for the logs of a step before it launches the next

    _WIDTH = 20  # of the bar; at most a quarter of the line
    _REFRESH_SECONDS = 0.25

    def __init__(self, hidden: tuple[str, ...] = ()):
        super().__init__()
        self.hidden = hidden
        self._shown = 0  # characters of the live line
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
            # The first step includes the compilation, so its time says nothing about the other steps.
            self._began, self._first_batch = now, batch
        # Keras' threads may report an older step after a newer one.
        if _is_interactive() and batch > self._latest and now - self._drawn >= self._REFRESH_SECONDS:
            self._drawn, self._latest = now, batch
            self._draw(self._line(batch, now, logs or {}))

    def _line(self, batch, now, logs):
        steps = self.params["steps"] or batch + 1
        done = (self._epoch - self._first_epoch) * steps + batch - self._first_batch
        left = (self.params["epochs"] - self._epoch) * steps - batch - 1
        remaining = _clock((now - self._began) / done * left) if done > 0 else "?"
        columns = _columns()
        width = min(self._WIDTH, columns // 4)
        filled = width * (batch + 1) // steps
        full, empty = _blocks()
        line = f"{self._title()} {full * filled + empty * (width - filled)} {batch + 1}/{steps}, {remaining} left:"
        for term in self._terms(logs):  # whole terms, as many as fit
            if len(line) + 1 + len(term) > columns:
                break
            line += f" {term}"
        return line[:columns]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._draw("")
        title, terms = self._title(), self._terms(logs or {})
        line = " ".join([title, *terms])
        if _is_interactive():
            # Break the line between terms, not between a name and its number.
            glued = " ".join([title, *(term.replace(" ", "\0") for term in terms)])
            indent = " " * (len(title) + 1)
            wrapped = textwrap.wrap(glued, _columns(), subsequent_indent=indent, break_long_words=False)
            line = "\n".join(wrapped).replace("\0", " ")
        print(line, flush=True)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._draw("")

    def _title(self):
        return f"epoch {self._epoch + 1:{len(str(self.params['epochs']))}d}/{self.params['epochs']}"

    def _terms(self, logs):
        return [f"{name} {value:.4g}" for name, value in logs.items() if name not in self.hidden]

    def _draw(self, line):
        if line or self._shown:
            # Spaces overwrite the old line: not every notebook and console knows the code that clears a line.
            sys.stdout.write("\r" + line + " " * (self._shown - len(line)) + ("" if line else "\r"))
            sys.stdout.flush()
        self._shown = len(line)


def _is_interactive():
    """Whether the output is a terminal or a notebook, where the last line can be overwritten."""
    return sys.stdout.isatty() or type(sys.stdout).__module__.partition(".")[0] == "ipykernel"


def _columns():
    # One less than the width: a full line would wrap, and each refresh would begin a new line.
    return max(1, shutil.get_terminal_size().columns - 1)


def _blocks():
    """The characters of the bar, filled and empty; ASCII if the output, such as a Windows console, lacks the blocks."""
    try:
        "█░".encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return "#", "-"
    return "█", "░"


def _clock(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
