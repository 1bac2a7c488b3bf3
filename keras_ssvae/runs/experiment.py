"""What a script says about its experiment; `run.main` does the rest."""

import argparse
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs.sets import InMemory, load_data


def terms_line(model: keras.Model, metrics: dict[str, Any]) -> dict[str, str]:
    """The line of a summary that has the model's own terms on the test images."""
    terms = ", ".join(f"{name} {metrics[name]:.2f}" for name in model.test_terms if name in metrics)
    return {"test terms": terms}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment.

    Settings are what the result depends on: a dictionary, kept in `config.json`, which must be the same when a run
    goes on. The few flags besides, which say what else is done with the result, are options.

    Attributes:
        name: Of the system, as in titles.
        description: For the help.
        settings: Data set -> the settings that depend on it, the default of their flags; the first data set is the
            paper's. Where the digits are among them, `--dataset auto` takes them for a first one that cannot be had.
        labels: Default number of labelled images; None for a model without labels, which then has no flags of them.
        build_model: (settings, prior) -> the compiled model.
        figures: (run, report of the test set) -> name -> figure, of the trained model.
        own_settings: (flags, data set, epochs) -> the settings of the schedules, and of the flags of its own.
        epoch_figures: (run, where) -> callbacks that draw during the training; `where` are their keyword arguments.
        beta: Default variance of the decoder, where it has one.
        prior: (flags, class names) -> the prior, where it is chosen.
        given: (flags, what `sets` gives) -> a third argument of `build_model`, as where to find the model of an earlier
            run that it is made of; by default it has two.
        augment: The augmentation, one of `data.augment`.
        load: (name, directory) -> the data set.
        sets: (data set, settings, indices of the labelled images or None, augmentation) -> how the data set makes
            batches, validation and test sets, as `InMemory` and `OnDisk`.
        needs_labels: Whether there must be labelled images.
        metrics: Run -> further entries of `metrics.json`.
        summary: (model, entries of `metrics.json`) -> heading -> text, the summary's lines between the error and the
            time.
        units: Name of a term -> its unit in the figure of the curves, where it is not that of `plots.curves`.
        early_stopping: Settings -> a `callbacks.EarlyStopping`, where the training may stop early.
        step_gflop: (model, labelled, unlabelled images) -> multiplications and additions of a training step, in 1e9;
            `work.forward_gflop` counts those of a network. None: nobody has counted them.
        classes: The classes of the data set that it takes, in the order in which it counts them; by default all.
        run_suffix: Flags -> what the names of the run's directories end in.
        options: Names of the flags of its own that are no settings; `Run.options` has them.
        add_flags: Adds to the parser the flags of its own.
        check_flags: Flags -> the same, checked and completed.
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
    classes: tuple[int, ...] | None = None
    run_suffix: Callable[[argparse.Namespace], str] = lambda args: ""
    options: tuple[str, ...] = ()
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    check_flags: Callable[[argparse.Namespace], argparse.Namespace] = lambda args: args

    def run_name(self, dataset: str, labels: int | str | None) -> str:
        """What the directories of a run are called."""
        return "_".join([self.name.lower(), dataset, *([] if self.labels is None else [str(labels)])])
