"""The description of an experiment, which its script gives to `run.main`."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs.sets import InMemory, load_data


def terms_line(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    """The line of the summary with the model's own loss terms on the test images."""
    terms = ", ".join(f"{name} {metrics[name]:.2f}" for name in model.test_terms if name in metrics)
    return {"test terms": terms}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment: a model, its data, its flags and its figures.

    The settings of a run are a dictionary of everything that the result depends on. `config.json` keeps them, and a
    resumed run must have the same ones. The other flags, which only say what else happens with the result, are options.

    Below, `A -> B` is a function from A to B, or a dictionary with keys A and values B.

    Attributes:
        name: Name of the system, as in titles.
        description: Text of `--help`.
        settings: Data set -> its settings, which are the defaults of their flags. The first data set is that of the
            system's paper. If `digits` is among them, `--dataset auto` uses the digits when the first data set is not
            available.
        labels: Default number of labelled images. None for a model without labels, or for one that trains on labelled
            images alone (`sets.AllLabeled`): then no flag is about labels.
        build_model: (settings, prior) -> the compiled model.
        figures: (run, report of the test set) -> (name -> figure), of the trained model.
        own_settings: (flags, data set, epochs) -> the settings of the schedules and of the experiment's own flags.
        epoch_figures: (run, where) -> callbacks that draw during the training; `where` are their keyword arguments.
        beta: Default variance of the decoder. None if the decoder has no fixed variance.
        prior: (flags, class names) -> the prior, or None if the model has no choice of priors.
        given: (flags, images as `sets` makes them) -> a third argument of `build_model`, such as the path of a model
            from an earlier run. By default `build_model` has two arguments.
        augment: The augmentation, one of `data.augment`.
        load: (name, directory) -> the data set.
        sets: (data set, settings, indices of the labelled images or None, augmentation) -> an object such as `InMemory`
            or `OnDisk`, which makes the batches, the validation set and the test set.
        needs_labels: Whether labelled images are required.
        metrics: Run -> further entries of `metrics.json`.
        summary: (model, entries of `metrics.json`) -> (heading -> text), the lines of the summary between the error and
            the time.
        units: Name of a term -> its unit in the figure of the curves, where it differs from that of `plots.curves`.
        early_stopping: Settings -> a `callbacks.EarlyStopping`. None: the training never stops early.
        step_gflop: (model, labelled images, unlabelled images) -> multiplications and additions of a training step, in
            1e9; `work.forward_gflop` counts those of a network. None: they have not been counted.
        steps_per_execution: Without an accelerator, the default of --steps-per-execution is the largest divisor of
            --steps-per-epoch up to this. More than 1 takes longer to compile, and is faster where a step is short.
        classes: The classes of the data set that are used; the first one becomes class 0. By default all.
        run_suffix: Flags -> the end of the names of the run's directories.
        options: Names of the experiment's own flags that are not settings; `Run.options` has their values.
        add_flags: Adds the experiment's own flags to a parser.
        check_flags: Flags -> the flags, checked and completed.
    """

    name: str
    description: str
    settings: dict[str, dict[str, Any]]
    labels: int | None
    build_model: Callable[..., keras.Model]
    figures: Callable[..., dict[str, Figure]]
    own_settings: Callable[[argparse.Namespace, str, int], dict[str, Any]] = lambda args, dataset, epochs: {}
    epoch_figures: Callable[..., list[keras.callbacks.Callback]] = lambda run, where: []
    beta: float | None = None
    prior: Callable[[argparse.Namespace, Sequence[str]], GaussianMixture | None] = lambda args, names: None
    given: Callable[[argparse.Namespace, Any], Any] | None = None
    augment: Callable | None = None
    load: Callable[[str, str | None], Any] = load_data
    sets: Callable[..., Any] = InMemory
    needs_labels: bool = True
    metrics: Callable[..., dict[str, Any]] = lambda run: {}
    summary: Callable[[keras.Model, dict[str, Any]], dict[str, str]] = terms_line
    units: Mapping[str, str] | None = None
    early_stopping: Callable[[dict[str, Any]], keras.callbacks.Callback] | None = None
    step_gflop: Callable[[keras.Model, int, int], float] | None = None
    steps_per_execution: int = 1
    classes: tuple[int, ...] | None = None
    run_suffix: Callable[[argparse.Namespace], str] = lambda args: ""
    options: tuple[str, ...] = ()
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    check_flags: Callable[[argparse.Namespace], argparse.Namespace] = lambda args: args

    def run_name(self, dataset: str, labels: int | str | None) -> str:
        """The common part of the names of a run's directories."""
        return "_".join([self.name.lower(), dataset, *([] if self.labels is None else [str(labels)])])
