"""What the experiments share: a run directory that is never lost, training that resumes, and a last summary."""

import csv
import dataclasses
import io
import json
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import __version__, callbacks, data, evaluation, plots
from keras_ssvae.export import export_saved_model

_FLAGS = {"num_labeled": "--labels", "labeled_indices": "--labeled-indices", "seed": "--seed", "beta": "--beta"}


class UserError(Exception):
    """A user's mistake: its message is all that is printed."""


@dataclasses.dataclass
class Experiment:
    """Everything that `train` needs: the settings as written to `config.json`, and the objects made from them."""

    title: str
    settings: dict[str, Any]
    images: data.ImageData
    split: data.Split
    model: keras.Model
    batches: Callable[[int], Any]  # first step -> tf.data.Dataset
    epochs: int
    steps_per_epoch: int
    output_dir: Path
    export_dir: Path
    resume: bool


def main(run: Callable[[], None]) -> None:
    """Runs an experiment; a user's mistake, a full disk or Ctrl-C ends in one sentence, without a traceback."""
    try:
        run()
    except (UserError, data.DataUnavailableError, callbacks.CheckpointError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only add a traceback to what is over
        resume = " ".join(["python", *map(shlex.quote, sys.argv)]) + ("" if "--resume" in sys.argv else " --resume")
        print(f"\nInterrupted. To go on after the last complete epoch: {resume}", file=sys.stderr)
        sys.exit(130)


def usage_errors(function: Callable, *args, **kwargs) -> Any:
    """Calls what checks a user's input, and turns its ValueErrors into `UserError`s that name the flags."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        message = str(error)
        for argument, flag in _FLAGS.items():
            message = message.replace(f"`{argument}`", flag)
        raise UserError(message) from error


def load_data(name: str, data_dir: str | None) -> data.ImageData:
    """Loads a data set; `auto` is MNIST or, with a warning, the embedded digits."""
    if name != "auto":
        return data.load(name, data_dir)
    try:
        return data.load("mnist", data_dir)
    except data.DataDamagedError:
        raise
    except data.DataUnavailableError as error:
        print(f"WARNING: {error}\nWARNING: training on the embedded digits instead of MNIST.\n", file=sys.stderr)
        return data.load("digits")


def claim_output_dir(output_dir: Path, settings: dict[str, Any], resume: bool) -> None:
    """Makes the run directory this run's own, and refuses to touch anybody else's.

    Raises:
        UserError: When it holds a finished run, an unfinished one without `resume`, one with other settings, or files
            that are no run at all, or cannot be written.
    """
    config = output_dir / "config.json"
    if (output_dir / "metrics.json").exists():
        raise UserError(
            f"{output_dir} holds a finished run, see its metrics.json. Choose another --output-dir, or delete it."
        )
    if config.exists():
        if not resume:
            raise UserError(
                f"{output_dir} holds an unfinished run. Add --resume to go on with it, or choose another --output-dir."
            )
        try:
            started = dict(json.loads(config.read_text()))
        except (ValueError, TypeError) as error:
            raise UserError(
                f"{config}, which holds the settings of the run, is damaged ({error}). Put a copy in its place, or "
                "choose another --output-dir."
            ) from error
        differing = sorted(name for name in {*started, *settings} if started.get(name) != settings.get(name))
        if differing:
            changes = ", ".join(f"{n} was {started.get(n)!r} and is {settings.get(n)!r}" for n in differing)
            raise UserError(f"{output_dir} was started with other settings: {changes}. Resume with the same settings.")
        check_writable(output_dir, "--output-dir")
        return
    try:
        # A kill can leave the first file half written.
        if output_dir.exists() and any(path.name != "config.json.tmp" for path in output_dir.iterdir()):
            raise UserError(f"{output_dir} is not empty and holds no run. Choose another --output-dir.")
        output_dir.mkdir(parents=True, exist_ok=True)
        write_json(config, settings)
    except OSError as error:
        raise UserError(f"--output-dir {output_dir} cannot be written: {error}.") from error


def check_writable(directory: Path, flag: str) -> None:
    """Fails before training, not after it, when the result could not be written."""
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{flag} {directory} cannot be written: {existing} is not a writable directory.")


def write_text(path: Path, text: str) -> None:
    """Replaces a file as a whole, so that a kill leaves the old one or the new one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, newline="")
    os.replace(temporary, path)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


class _EpochLog(keras.callbacks.Callback):
    """Adds to each epoch's logs its training time and the figures of the test set."""

    def __init__(self, images, labels):
        super().__init__()
        self.images, self.labels = images, labels

    def on_epoch_begin(self, epoch, logs=None):
        self._began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        self._ended = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        logs["train_seconds"] = self._ended - self._began
        test = self.model.evaluate(self.images, self.labels, batch_size=500, verbose=0, return_dict=True)
        logs.update({f"test_{name}": value for name, value in test.items()})


def write_history(path: Path, history: list[dict[str, float]]) -> None:
    table = io.StringIO()
    writer = csv.DictWriter(table, fieldnames=list(history[-1]))
    writer.writeheader()
    writer.writerows(history)
    write_text(path, table.getvalue())


def train(experiment: Experiment) -> dict[str, Any]:
    """Trains (or goes on), evaluates, draws, saves and exports; returns what `metrics.json` holds."""
    output, model, images = experiment.output_dir, experiment.model, experiment.images
    test_images = data.scale(images.test_images)
    held_out = experiment.split.validation
    validation = data.scale(images.train_images[held_out]), images.train_labels[held_out]

    checkpoint = callbacks.Checkpoint(output / "checkpoint.npz")
    checkpoint.set_model(model)
    done = checkpoint.restore() if experiment.resume and checkpoint.path.exists() else 0
    if done:
        print(f"Going on after epoch {done}.")
    seconds_before = time.monotonic()
    if done < experiment.epochs:
        every = max(1, experiment.epochs // 10)
        logs = output / "logs"
        model.fit(
            experiment.batches(done * experiment.steps_per_epoch),
            initial_epoch=done,
            epochs=experiment.epochs,
            steps_per_epoch=experiment.steps_per_epoch,
            validation_data=validation,
            validation_batch_size=500,
            shuffle=False,
            verbose=0,
            callbacks=[
                _EpochLog(test_images, images.test_labels),
                callbacks.ProgressBar(hidden=("loss", "train_seconds")),
                keras.callbacks.TensorBoard(logs, write_graph=False),
                callbacks.LatentScatter(test_images, images.test_labels, log_dir=logs, every=every),
                callbacks.ImageGrid(log_dir=logs, every=every),
                checkpoint,
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: write_history(output / "history.csv", checkpoint.history)
                ),
            ],
        )
    # Again, since a kill may have come between a checkpoint and its table.
    write_history(output / "history.csv", checkpoint.history)
    history = {name: [row[name] for row in checkpoint.history] for name in checkpoint.history[-1]}
    if done < experiment.epochs:
        print(f"Trained in {time.monotonic() - seconds_before:.0f} s; evaluating and drawing.")

    report = evaluation.report(model, images.test_images, images.test_labels)
    draw_figures(experiment, test_images, history)
    model.save(output / "model.tmp.keras")
    os.replace(output / "model.tmp.keras", output / "model.keras")
    exported = export_saved_model(model, experiment.export_dir)
    metrics = {
        **{name: experiment.settings[name] for name in ("dataset", "labels", "beta", "seed")},
        "epochs": experiment.epochs,
        "steps": experiment.epochs * experiment.steps_per_epoch,
        "test_error_percent": report.pop("error_percent"),
        "validation_error_percent": history["val_error"][-1],
        **report,
        "seconds": sum(history["train_seconds"]),
        # The median epoch: the first one compiles, and a busy machine slows down some.
        "step_milliseconds": 1e3 * statistics.median(history["train_seconds"]) / experiment.steps_per_epoch,
        "saved_model": str(exported),
        "versions": {
            "keras_ssvae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", "tensorflow", "numpy")},
        },
    }
    write_json(output / "metrics.json", metrics)
    summarise(experiment, metrics)
    return metrics


def draw_figures(experiment: Experiment, test_images, history: dict[str, list[float]]) -> None:
    """The paper's figures 1 to 3 and the curves, as PNG files in `figures/`."""
    model, names = experiment.model, experiment.images.class_names
    figures = {
        "prior": plots.prior(model.prior, class_names=names),
        "latent": plots.latent(model, test_images, experiment.images.test_labels, class_names=names),
        "grid": plots.grid(model),
        "interpolation": plots.interpolation(model, class_names=names),
        "curves": plots.curves(history),
    }
    folder = experiment.output_dir / "figures"
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


def summarise(experiment: Experiment, metrics: dict[str, Any]) -> None:
    """Prints what came out and where it is."""
    settings = " ".join(f"{name}={value}" for name, value in experiment.settings.items())
    error, validation = metrics["test_error_percent"], metrics["validation_error_percent"]
    print(
        f"\n{experiment.title}\n"
        f"  settings     {settings}\n"
        f"  test error   {error:.2f} %, validation {validation:.2f} %\n"
        f"  KL           {metrics['kl_divergence']:.2f} nats  (categorical {metrics['kl_categorical']:.2f}, "
        f"Gaussian {metrics['kl_gaussian']:.2f})\n"
        f"  time         {metrics['seconds']:.0f} s, {metrics['step_milliseconds']:.0f} ms a step\n"
        f"  figures      {experiment.output_dir / 'figures'}\n"
        f"  model        {experiment.output_dir / 'model.keras'}\n"
        f"  SavedModel   {metrics['saved_model']}"
    )
