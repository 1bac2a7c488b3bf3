"""A run of an experiment: its plan, made from the flags; its training, which can resume; and its results."""

import argparse
import functools
import os
import time
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import callbacks, plots
from keras_ssvae.export import export_saved_model
from keras_ssvae.models.labels import ClassifierMixin
from keras_ssvae.runs import devices, flags, summary
from keras_ssvae.runs.directory import (
    CHECKPOINT,
    check_epochs,
    check_output_dir,
    check_writable,
    claim_output_dir,
    hold,
    make_output_dir,
    release,
    write_history,
    write_json,
    write_table,
)
from keras_ssvae.runs.errors import UserError, flags_named
from keras_ssvae.runs.experiment import Experiment
from keras_ssvae.runs.plan import Plan, Run
from keras_ssvae.runs.script import script


def main(experiment: Experiment) -> None:
    """Runs an experiment with the flags of the command line."""
    script(lambda: train(prepare(plan(experiment, flags.arguments(experiment)))), go_on="--resume")


def plan(experiment: Experiment, args: argparse.Namespace) -> Plan:
    """Makes the plan of a run: checks the flags, also against the data; writes nothing.

    Raises:
        UserError: When a flag does not fit.
    """
    given = getattr(args, "labeled_indices", None)
    if experiment.classes is not None and given is not None:
        raise UserError(
            "--labeled-indices cannot be used here: it counts all images of the data set, but this experiment uses "
            "some of the classes only."
        )
    indices = flags.read_indices(given)
    images = experiment.load(args.dataset, args.data_dir)
    if experiment.classes is not None:
        images = images.only(experiment.classes)
    shared = devices.start(args.data_parallel)
    settings = flags.settings_of(experiment, args, images.name, indices, shared.number)
    with flags_named():
        sets = experiment.sets(images, settings, indices, experiment.augment)
    devices.check(settings, sets.num_evaluated)
    with flags_named():
        prior = experiment.prior(args, getattr(images, "class_names", ()))
    name, suffix = experiment.run_name(images.name, settings.get("labels")), experiment.run_suffix(args)
    beta = "" if experiment.beta is None else f"_beta{settings['beta']:g}"
    return Plan(
        experiment=experiment,
        settings=settings,
        options={name: getattr(args, name) for name in experiment.options},
        resume=args.resume,
        sets=sets,
        prior=prior,
        given=() if experiment.given is None else (experiment.given(args, sets),),
        devices=shared,
        scheduled=functools.partial(experiment.own_settings, args, images.name),
        output_dir=args.output_dir or Path("runs") / f"{name}{beta}_seed{args.seed}{suffix}",
        export_dir=args.export_dir or Path("saved_models") / f"{name}{suffix}",
    )


def prepare(plan: Plan) -> Run:
    """Makes the objects of a run, restores its checkpoint if it resumes, and then writes to its directory.

    Raises:
        UserError: When the directory belongs to another run or cannot be written, or a setting does not fit the model.
            Then nothing is written.
    """
    experiment, settings, output_dir = plan.experiment, plan.settings, plan.output_dir
    if keras.backend.backend() == "tensorflow":
        check_writable(plan.export_dir, "--export-dir")
    check_output_dir(output_dir, settings, plan.resume, plan.scheduled)
    flags.apply_precision(settings)
    with plan.devices.scope(), flags_named():
        model = experiment.build_model(settings, plan.prior, *plan.given)
    _name_classes(model, plan)
    stopping = None if experiment.early_stopping is None else experiment.early_stopping(settings)
    checkpoint = callbacks.Checkpoint(output_dir / CHECKPOINT, callbacks=[] if stopping is None else [stopping])
    checkpoint.set_model(model)
    make_output_dir(output_dir)
    hold(output_dir)
    check_output_dir(output_dir, settings, plan.resume, plan.scheduled)  # another process may have claimed it meanwhile
    done = checkpoint.restore() if plan.resume and checkpoint.path.exists() else 0
    check_epochs(output_dir, done, settings["epochs"])
    with flags_named():
        batches = plan.devices.share(plan.sets.batches(done * settings["steps_per_epoch"]))
    claim_output_dir(output_dir, settings)
    labels = f"{settings['labels']} labels of " if "labels" in settings else ""
    beta = "" if experiment.beta is None else f", beta {settings['beta']:g}"
    images = f"{labels}{plan.sets.num_images} images"
    print(f"{experiment.name} on {plan.data_title}: {images}{beta}; {output_dir}", flush=True)
    return Run(plan, model, batches, checkpoint, stopping, done)


def _name_classes(model, plan):
    """Tells a model the names of its classes, if it learns the labels of the data set."""
    names = getattr(plan.images, "class_names", ())  # an experiment with several labels per image names them itself
    if isinstance(model, ClassifierMixin) and model.num_classes == len(names) and plan.sets.num_labeled:
        model.class_names = names


class EpochLog(keras.callbacks.Callback):
    """Adds the training time in seconds, without validation, and the terms of the test set to each epoch's logs."""

    async_safe = True  # the host may run ahead of the device

    def __init__(self, sets: Any):
        super().__init__()
        self.sets = sets

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._began = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # Keras has read the logs by now, so the step has ended on an accelerator too.
        self._ended = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if logs is not None:
            logs["train_seconds"] = self._ended - self._began
            logs.update({f"test_{name}": value for name, value in self.sets.evaluate(self.model).items()})


def train(run: Run) -> dict[str, Any]:
    """Trains or resumes, saves, evaluates, draws and exports; returns the content of `metrics.json`."""
    try:
        fit(run)
        return finish(run, run.sets.report(run.model))
    finally:
        release(run.output_dir)


def epoch_figures(run: Run) -> list[keras.callbacks.Callback]:
    """The callbacks that draw figures: for TensorBoard with TensorFlow, which writes its files; as PNG files on JAX."""
    in_logs = keras.backend.backend() == "tensorflow"
    where = {"log_dir": run.output_dir / "logs"} if in_logs else {"directory": run.output_dir / "figures/epochs"}
    return run.experiment.epoch_figures(run, {**where, "every": max(1, run.settings["epochs"] // 10)})


def fit(run: Run) -> None:
    """Trains or resumes with the callbacks of all runs, and saves the model."""
    output, model, epochs = run.output_dir, run.model, run.settings["epochs"]
    stopping = [] if run.early_stopping is None else [run.early_stopping]
    if run.done:
        print(f"Going on after epoch {run.done}.", flush=True)
    began = time.monotonic()
    # Early stopping needs `fit` even when all epochs are done: it restores the best weights when the training ends.
    if run.done < epochs or stopping:
        in_logs = keras.backend.backend() == "tensorflow"
        watching = [
            EpochLog(run.sets),
            callbacks.ProgressBar(hidden=("loss", "train_seconds")),
            *([keras.callbacks.TensorBoard(output / "logs", write_graph=False)] if in_logs else []),
            *epoch_figures(run),
            *stopping,
            run.checkpoint,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: write_history(output / "history.csv", run.checkpoint.history)
            ),
        ]
        model.fit(
            run.batches,
            initial_epoch=run.done,
            epochs=epochs,
            steps_per_epoch=run.settings["steps_per_epoch"],
            shuffle=False,
            verbose=0,
            callbacks=watching,
            **run.sets.validation(),
        )
    # Again, since an earlier run may have been killed between its checkpoint and this file.
    write_history(output / "history.csv", run.checkpoint.history)
    if run.done < len(run.checkpoint.history):
        print(f"Trained in {time.monotonic() - began:.0f} s; evaluating and drawing.", flush=True)
    # Saved at once, so that no later error costs the training.
    model.save(output / "model.tmp.keras")
    os.replace(output / "model.tmp.keras", output / "model.keras")


def finish(run: Run, report: dict[str, Any]) -> dict[str, Any]:
    """Draws, exports and summarises a trained run; returns the content of `metrics.json`.

    Args:
        run: The run.
        report: The report of the test set. A table in it, with a row for each class, becomes a CSV file.
    """
    draw_figures(run, report)
    tables = {name: rows for name, rows in report.items() if _is_table(rows)}
    for name, rows in tables.items():
        columns = max(len(row or ()) for row in rows)
        # The row of a class without test images is None.
        named = [[label, *(row or ())] for label, row in zip(run.images.class_names, rows, strict=True)]
        write_table(run.output_dir / f"{name}.csv", ["class", *range(columns)], named)
    exported = None
    if keras.backend.backend() == "tensorflow":
        exported = str(export_saved_model(run.model, run.export_dir))
    numbers = {name: value for name, value in report.items() if name not in tables}
    metrics = summary.metrics(run, numbers, run.experiment.metrics(run), exported)
    write_json(run.output_dir / "metrics.json", metrics)
    summary.summarise(run, metrics)
    return metrics


def _is_table(value):
    return isinstance(value, list) and any(isinstance(row, list) for row in value)


def draw_figures(run: Run, report: dict[str, Any]) -> None:
    """Writes the experiment's figures and the curves of the training as PNG files to `figures/`."""
    folder = run.output_dir / "figures"
    folder.mkdir(exist_ok=True)
    history = {name: [row[name] for row in run.checkpoint.history] for name in run.checkpoint.history[-1]}
    curves = plots.curves(history, units=run.experiment.units)
    for name, figure in {**run.experiment.figures(run, report), "curves": curves}.items():
        figure.savefig(folder / f"{name}.png", dpi=150)
