"""What a person sees: one live line with the time left in a terminal, one line an epoch everywhere."""

import contextlib
import io
import re

import keras
import numpy as np
import pytest

from keras_ssvae.callbacks import ProgressBar
from keras_ssvae.callbacks import progress as module

LOGS = {"loss": 1234.5678, "error": 0.25, "secret": 1.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True

    def screens(self):
        """What the last line of the terminal showed, one after another."""
        return [screen if "\n" in screen else screen.rstrip() for screen in self.getvalue().split("\r")]


class Clock:
    now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    return Terminal()


def train(bar, clock, terminal, *, epochs=3, steps=10, first_epoch=0, step_seconds=2.0):
    """What `fit` calls; the first step takes long, all others the same. Returns the screen after each step."""
    screens = {}
    with contextlib.redirect_stdout(terminal):
        bar.set_params({"epochs": epochs, "steps": steps})
        bar.on_train_begin()
        for epoch in range(first_epoch, epochs):
            bar.on_epoch_begin(epoch)
            for batch in range(steps or 10):
                clock.now += 100.0 if (epoch, batch) == (first_epoch, 0) else step_seconds
                bar.on_train_batch_end(batch, LOGS)
                screens[epoch, batch] = terminal.screens()[-1]
            bar.on_epoch_end(epoch, LOGS)
        bar.on_train_end()
    return screens


def time_left(screen):
    return re.search(r", (\S+) left: ", screen)[1]


def test_without_a_terminal_there_is_one_plain_line_an_epoch(capsys):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", metrics=["mae"])
    x = np.ones((16, 3), "float32")
    y = np.ones((16, 1), "float32")
    bar = ProgressBar(hidden=("loss",))
    history = model.fit(x, y, validation_data=(x, y), epochs=3, batch_size=4, verbose=0, callbacks=[bar]).history
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert lines == [
        f"epoch {i + 1}/3 " + " ".join(f"{name} {history[name][i]:.4g}" for name in ("mae", "val_loss", "val_mae"))
        for i in range(3)
    ]
    assert "\r" not in printed.out
    assert "\033" not in printed.out
    assert printed.err == ""


def test_the_live_line_has_the_epoch_the_steps_and_the_terms(terminal, clock):
    screens = train(ProgressBar(hidden=("secret",)), clock, terminal)
    assert screens[0, 0] == "epoch 1/3 " + "█" * 2 + "░" * 18 + " 1/10, ? left: loss 1235 error 0.25"
    assert screens[2, 9] == "epoch 3/3 " + "█" * 20 + " 10/10, 0:00 left: loss 1235 error 0.25"


def test_the_time_left_is_that_of_the_whole_run_and_ignores_the_compilation(terminal, clock):
    screens = train(ProgressBar(), clock, terminal)
    assert time_left(screens[0, 1]) == "0:56"  # 28 steps of 2 s
    assert time_left(screens[1, 4]) == "0:30"
    assert time_left(screens[2, 8]) == "0:02"


def test_the_time_left_of_a_resumed_run_counts_its_own_steps(terminal, clock):
    screens = train(ProgressBar(), clock, terminal, epochs=100, first_epoch=40, step_seconds=20.0)
    assert time_left(screens[40, 0]) == "?"
    assert time_left(screens[40, 1]) == "3:19:20"  # 598 steps of 20 s
    assert time_left(screens[99, 8]) == "0:20"


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 80, 200])
def test_the_live_line_fits_into_the_terminal(terminal, clock, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    screens = train(ProgressBar(), clock, terminal).values()
    assert all(screen.startswith("epoch"[: max(1, columns - 1)]) for screen in screens)
    assert max(map(len, screens)) < max(2, columns)  # a full line would wrap, and each refresh begin a new one
    if columns >= 60:
        assert all(" left: loss 1235" in screen for screen in screens)
    assert not any(re.search(r" (err|erro|error|s|secret)$", screen) for screen in screens)  # terms are whole


def test_every_finished_epoch_stays_in_the_terminal(terminal, clock):
    train(ProgressBar(), clock, terminal)
    stayed = [screen for screen in terminal.screens() if "\n" in screen]
    assert stayed == [f"epoch {i}/3 loss 1235 error 0.25 secret 1\n" for i in (1, 2, 3)]
    assert terminal.getvalue().endswith("\n")


def test_a_live_line_is_not_drawn_for_every_fast_step(terminal, clock):
    train(ProgressBar(), clock, terminal, epochs=1, steps=1000, step_seconds=0.01)
    assert 30 <= terminal.getvalue().count("left") <= 50


def test_an_unknown_number_of_steps_is_shown_as_it_grows(terminal, clock):
    screens = train(ProgressBar(), clock, terminal, epochs=1, steps=None)
    assert "3/3, 0:00 left: " in screens[0, 2]


def test_a_finished_epoch_is_wrapped_between_terms(terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "33")
    train(ProgressBar(), clock, terminal, epochs=1)
    indent = " " * len("epoch 1/1 ")
    assert terminal.getvalue().endswith(f"\repoch 1/1 loss 1235 error 0.25\n{indent}secret 1\n")


def test_a_shorter_live_line_leaves_nothing_of_the_longer_one(terminal, clock):
    bar, shown = ProgressBar(), ""
    train(bar, clock, terminal, epochs=2)
    for part in terminal.getvalue().split("\r"):
        if "\n" in part:
            assert not shown[len(part) :].strip()  # the live line was blank before
            shown = ""
        else:
            shown = part + shown[len(part) :]
            assert shown.rstrip() == part.rstrip()


def test_it_is_live_in_a_notebook_whose_output_is_no_terminal(terminal, clock):
    stream = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    stream.screens = lambda: stream.getvalue().split("\r")
    screens = train(ProgressBar(), clock, stream)
    assert screens[2, 9].startswith("epoch 3/3 ")
    assert "10/10, 0:00 left: loss 1235" in screens[2, 9]
    assert "\033" not in stream.getvalue()


def test_a_console_without_blocks_gets_plain_characters(clock):
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding="cp1252", write_through=True)
    console.isatty = lambda: True
    console.screens = lambda: raw.getvalue().decode("cp1252").split("\r")
    screens = train(ProgressBar(), clock, console)
    assert re.match(r"epoch 1/3 #+-+ 5/10, ", screens[0, 4])
