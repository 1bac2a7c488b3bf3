"""What the experiments share: the way from the flags to a run, training that resumes, and a last summary."""

import argparse
import contextlib
import dataclasses
import functools
import os
import platform
import shlex
import signal
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import __version__, callbacks, data, evaluation, plots
from keras_ssvae.export import export_saved_model
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs import devices, flags
from keras_ssvae.runs.directory import (
    check_output_dir,
    check_writable,
    claim_output_dir,
    write_history,
    write_json,
    write_table,
)
from keras_ssvae.runs.errors import UserError
from keras_ssvae.runs.experiment import Experiment

_FLAGS = {"num_labeled": "--labels", "labeled_indices": "--labeled-indices", "num_validation": "--validation"}
_FLAGS |= {name: f"--{name.replace('_', '-')}" for name in ("seed", "beta", "labeled_batch_size")}
_FLAGS["classifier"] = "--inception-score"


@dataclasses.dataclass(eq=False)
class Plan:
    """A run whose flags are checked, and of which nothing is written yet."""

    experiment: Experiment
    args: argparse.Namespace
    settings: dict[str, Any]
    images: data.ImageData
    prior: GaussianMixture | None
    split: data.Split
    strategy: Any  # of `tf.distribute`, or None
    output_dir: Path
    export_dir: Path

    @property
    def data_title(self) -> str:
        names = "" if self.experiment.classes is None else f" ({', '.join(self.images.class_names)})"
        return f"{self.images.name}{names}"

    @property
    def num_images(self) -> int:
        return len(self.images.train_images)

    def make_batches(self, start_step: int) -> Any:
        """The batches of the training from a step on, counted from 0 over all epochs."""
        settings, images, labeled = self.settings, self.images, self.split.labeled
        return data.semi_supervised(
            (images.train_images[labeled], images.train_labels[labeled]) if settings["labels"] else None,
            images.train_images,  # all of them, which an index would copy
            num_classes=images.num_classes,
            labeled_batch_size=settings["labeled_batch_size"],
            unlabeled_batch_size=settings["batch_size"] - settings["labeled_batch_size"],
            steps_per_epoch=settings["steps_per_epoch"],
            seed=settings["seed"],
            start_step=start_step,
            augment=self.experiment.augment,
            augment_on=settings["augment_on"],
        )


@dataclasses.dataclass(eq=False)
class Run(Plan):
    """A plan, and the objects made from it that `train` needs."""

    model: keras.Model
    batches: Any  # from the first step that is left
    checkpoint: callbacks.Checkpoint
    done: int  # epochs

    @property
    def title(self) -> str:
        return f"{self.experiment.name} on {self.data_title}, {self.settings['labels']} labels"

    @functools.cached_property  # figures and evaluation share one array
    def test_images(self):
        return data.scale(self.images.test_images)


def main(experiment: Experiment) -> None:
    """Runs an experiment, as its script is called."""
    script(lambda: train(prepare(plan(experiment, flags.arguments(experiment)))), go_on="--resume")


def script(work: Callable[[], Any], go_on: str | None = None) -> None:
    """Runs a script; a user's mistake, a full disk or Ctrl-C ends in one sentence, without a traceback.

    Args:
        work: What it does.
        go_on: The flag that goes on with what was interrupted; "" where the same command does, None where nothing can.
    """
    try:
        work()
    except (UserError, data.DataUnavailableError, callbacks.CheckpointError, OSError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: error: {error}")
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C would only add a traceback to what is over
        if go_on is None:
            sys.exit(130)
        resume = " ".join(["python", *map(shlex.quote, sys.argv)])
        if go_on not in ("", *sys.argv):
            resume = f"{resume} {go_on}"
        if keras.backend.backend() != "tensorflow":
            resume = f"KERAS_BACKEND={keras.backend.backend()} {resume}"
        print(f"\nInterrupted. To go on after the last complete epoch: {resume}", file=sys.stderr)
        sys.exit(130)


def usage_errors(function: Callable, *args, **kwargs) -> Any:
    """Calls what checks a user's input, and turns its errors into `UserError`s that name the flags."""
    try:
        return function(*args, **kwargs)
    except (ValueError, evaluation.ClassifierUnavailableError) as error:
        message = str(error)
        for argument, flag in _FLAGS.items():
            message = message.replace(f"`{argument}`", flag)
        raise UserError(message) from error


@functools.cache  # several runs of one script share it
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


def plan(experiment: Experiment, args: argparse.Namespace) -> Plan:
    """Checks the flags, also against the data; writes nothing."""
    if experiment.classes is not None and args.labeled_indices is not None:
        raise UserError("--labeled-indices count all images of the data set, of which this experiment takes a part.")
    indices = flags.read_indices(args.labeled_indices)
    images = (experiment.load or load_data)(args.dataset, args.data_dir)
    if experiment.classes is not None:
        images = images.only(experiment.classes)
    images = experiment.images(images)
    strategy, replicas = devices.start(args.data_parallel)
    settings = flags.settings_of(experiment, args, images.name, indices, replicas)
    labels = settings["labels"]
    split = usage_errors(data.split, images.train_labels, labels, settings["validation"], args.seed, indices)
    devices.check(settings, len(images.test_images))
    prior = usage_errors(experiment.prior, args, images.class_names)
    name, suffix = experiment.run_name(images.name, labels), experiment.run_suffix(args)
    beta = "" if experiment.beta is None else f"_beta{args.beta:g}"
    output_dir = args.output_dir or Path("runs") / f"{name}{beta}_seed{args.seed}{suffix}"
    export_dir = args.export_dir or Path("saved_models") / f"{name}{suffix}"
    return Plan(experiment, args, settings, images, prior, split, strategy, output_dir, export_dir)


def prepare(plan: Plan) -> Run:
    """Makes what a run needs, restores one that goes on, and claims the run directory; till then nothing is written."""
    experiment, args, settings, strategy = plan.experiment, plan.args, plan.settings, plan.strategy
    output_dir, labels = plan.output_dir, plan.settings["labels"]
    if keras.backend.backend() == "tensorflow":
        check_writable(plan.export_dir, "--export-dir")
    check_output_dir(output_dir, settings, args.resume)
    flags.apply_precision(settings)
    with contextlib.nullcontext() if strategy is None else strategy.scope():
        model = usage_errors(experiment.build_model, settings, plan.prior)
    checkpoint = callbacks.Checkpoint(output_dir / "checkpoint.npz")
    checkpoint.set_model(model)
    done = checkpoint.restore() if args.resume and checkpoint.path.exists() else 0
    batches = usage_errors(plan.make_batches, done * settings["steps_per_epoch"])
    if strategy is not None:
        batches = data.distribute(batches, strategy)
    claim_output_dir(output_dir, settings)
    beta = "" if experiment.beta is None else f", beta {args.beta:g}"
    of_images = f"{labels} labels of {plan.num_images} images"
    print(f"{experiment.name} on {plan.data_title}: {of_images}{beta}; {output_dir}")
    return Run(**vars(plan), model=model, batches=batches, checkpoint=checkpoint, done=done)


class EpochSeconds(keras.callbacks.Callback):
    """Adds to each epoch's logs its training time, without that of the validation."""

    async_safe = True  # the host may run ahead of the device

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Keras has read the logs by now, so on an accelerator too the step is over.
        self._ended = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs["train_seconds"] = self._ended - self._began


class _EpochLog(EpochSeconds):
    """Adds the figures of the test set too."""

    def __init__(self, images, labels, batch_size):
        super().__init__()
        self.images, self.labels, self.batch_size = images, labels, batch_size

    def on_epoch_end(self, epoch, logs=None):
        super().on_epoch_end(epoch, logs)
        test = self.model.evaluate(self.images, self.labels, batch_size=self.batch_size, verbose=0, return_dict=True)
        logs.update({f"test_{name}": value for name, value in test.items()})


def train(run: Run) -> dict[str, Any]:
    """Trains (or goes on), evaluates, draws, saves and exports; returns what `metrics.json` holds."""
    images, settings, held_out = run.images, run.settings, run.split.validation
    test_batch = devices.evaluation_batch(settings, len(images.test_images))
    fit(
        run,
        _EpochLog(run.test_images, images.test_labels, test_batch),
        epoch_figures(run),
        validation_data=(data.scale(images.train_images[held_out]), images.train_labels[held_out])
        if len(held_out)
        else None,
        validation_batch_size=devices.evaluation_batch(settings, len(held_out)),
    )
    report = evaluation.report(run.model, images.test_images, images.test_labels)
    return finish(run, report, len(images.test_images))


def epoch_figures(run: Run) -> list[keras.callbacks.Callback]:
    """TensorBoard is written by TensorFlow; on JAX the figures of the epochs are PNG files."""
    in_logs = keras.backend.backend() == "tensorflow"
    where = {"log_dir": run.output_dir / "logs"} if in_logs else {"directory": run.output_dir / "figures/epochs"}
    return run.experiment.epoch_figures(run, {**where, "every": max(1, run.settings["epochs"] // 10)})


def fit(run: Run, log: EpochSeconds, figures: Sequence[keras.callbacks.Callback], **validation) -> None:
    """Trains (or goes on) with the callbacks of all runs, and saves the model.

    Args:
        run: The run.
        log: Adds to the logs of each epoch what its checkpoint and its table shall have.
        figures: Callbacks that draw.
        **validation: Arguments of `keras.Model.fit`.
    """
    output, model, settings = run.output_dir, run.model, run.settings
    if run.done:
        print(f"Going on after epoch {run.done}.")
    seconds_before = time.monotonic()
    if run.done < settings["epochs"]:
        in_logs = keras.backend.backend() == "tensorflow"
        model.fit(
            run.batches,
            initial_epoch=run.done,
            epochs=settings["epochs"],
            steps_per_epoch=settings["steps_per_epoch"],
            shuffle=False,
            verbose=0,
            callbacks=[
                log,
                callbacks.ProgressBar(hidden=("loss", "train_seconds")),
                *([keras.callbacks.TensorBoard(output / "logs", write_graph=False)] if in_logs else []),
                *figures,
                run.checkpoint,
                keras.callbacks.LambdaCallback(
                    on_epoch_end=lambda epoch, logs: write_history(output / "history.csv", run.checkpoint.history)
                ),
            ],
            **validation,
        )
    # Again, since a kill may have come between a checkpoint and its table.
    write_history(output / "history.csv", run.checkpoint.history)
    if run.done < settings["epochs"]:
        print(f"Trained in {time.monotonic() - seconds_before:.0f} s; evaluating and drawing.")
    # At once, so that nothing that goes wrong later costs the training.
    model.save(output / "model.tmp.keras")
    os.replace(output / "model.tmp.keras", output / "model.keras")


def finish(run: Run, report: dict[str, Any], test_images: int) -> dict[str, Any]:
    """Draws, exports and sums up a trained run; returns what `metrics.json` holds.

    Args:
        run: The run.
        report: That of the test set.
        test_images: Their number.
    """
    output, model, settings = run.output_dir, run.model, run.settings
    draw_figures(run, report)
    if "v_nat" in report:  # a row for each class, None where the test set has no image of it
        rows = [[name, *(row or [])] for name, row in zip(run.images.class_names, report.pop("v_nat"), strict=True)]
        write_table(output / "v_nat.csv", ["class", *range(model.prior.latent_dim)], rows)
    exported = None
    if keras.backend.backend() == "tensorflow":
        exported = str(export_saved_model(model, run.export_dir))
    last = run.checkpoint.history[-1]
    seconds = [row["train_seconds"] for row in run.checkpoint.history]
    # The first epoch compiles, and a busy machine slows down some.
    usual = 1e3 * statistics.median(seconds[1:]) / settings["steps_per_epoch"] if len(seconds) > 1 else None
    metrics = {
        **{name: settings[name] for name in ("dataset", "labels", "beta", "seed", "epochs") if name in settings},
        "steps": settings["epochs"] * settings["steps_per_epoch"],
        "test_error_percent": report.pop("error_percent"),
        "validation_error_percent": last.get("val_error"),
        **report,
        **run.experiment.metrics(run),
        "seconds": sum(seconds),
        "step_milliseconds": usual,
        "test_images": test_images,
        "device": flags.device_name(),
        "backend": keras.backend.backend(),
        "settings": settings,
        "saved_model": exported,
        "versions": {
            "keras_ssvae": __version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("keras", keras.backend.backend(), "numpy")},
        },
    }
    write_json(output / "metrics.json", metrics)
    summarise(run, metrics)
    return metrics


def draw_figures(run: Run, report: dict[str, Any]) -> None:
    """The experiment's figures and the curves, as PNG files in `figures/`."""
    folder = run.output_dir / "figures"
    folder.mkdir(exist_ok=True)
    history = {name: [row[name] for row in run.checkpoint.history] for name in run.checkpoint.history[-1]}
    for name, figure in {**run.experiment.figures(run, report), "curves": plots.curves(history)}.items():
        figure.savefig(folder / f"{name}.png", dpi=150)


def summarise(run: Run, metrics: dict[str, Any]) -> None:
    """Prints what came out and where it is."""
    settings = " ".join(f"{name}={value}" for name, value in run.settings.items())
    parts = ", ".join(
        f"{name.removeprefix('kl_').replace('gaussian', 'Gaussian')} {metrics[name]:.2f}"
        for name in run.model.test_terms
        if name.startswith("kl_")
    )
    validation = metrics["validation_error_percent"]
    validation = "" if validation is None else f", validation {validation:.2f} %"
    lines = {
        "settings": settings,
        "test error": f"{metrics['test_error_percent']:.2f} %{validation}",
        "KL": f"{metrics['kl_divergence']:.2f} nats  ({parts})" if "kl_divergence" in metrics else f"{parts} nats",
    }
    if "inception_score" in metrics:
        score = metrics["inception_score"]
        lines["Inception"] = f"{score['mean']:.2f} +- {score['deviation']:.2f} by {score['classifier']}"
    if "factor_score" in metrics:
        lines["Factor score"] = f"{metrics['factor_score']:.3f}"
    model = run.output_dir / "model.keras"
    step = metrics["step_milliseconds"]
    step = "" if step is None else f", {step:.0f} ms a step"
    lines |= {
        "time": f"{metrics['seconds']:.0f} s{step} on {metrics['device']}",
        "figures": run.output_dir / "figures",
        "model": model,
        "SavedModel": metrics["saved_model"]
        or "none, for it needs TensorFlow. Where that is installed: python "
        f"{Path(sys.argv[0]).with_name('export.py')} --model {model} --export-dir {run.export_dir}",
    }
    print(f"\n{run.title}\n" + "\n".join(f"  {name:12s} {value}" for name, value in lines.items()))
