"""What a script says about its experiment; `runner.main` does the rest."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
from matplotlib.figure import Figure

from keras_ssvae import data
from keras_ssvae.priors import GaussianMixture


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: Of the system, as in titles.
        description: For the help.
        settings: Data set -> the settings that depend on it, the default of their flags; the first data set is the
            paper's. Where the digits are among them, `--dataset auto` takes them for a first one that cannot be had.
        labels: Default number of labelled images.
        own_settings: (flags, data set, epochs) -> the settings of the schedules, and of the flags of its own.
        build_model: (settings, prior) -> the compiled model.
        epoch_figures: (run, where) -> callbacks that draw during the training; `where` are their keyword arguments.
        figures: (run, report of the test set) -> name -> figure, of the trained model.
        beta: Default variance of the decoder, where it has one.
        prior: (flags, class names) -> the prior, where it is chosen.
        augment: The augmentation, one of `data.augment`.
        load: (name, directory) -> the data set, where `data.load` does not have it.
        images: Makes of the data set the one that is trained on.
        needs_labels: Whether there must be labelled images.
        metrics: Run -> further entries of `metrics.json`.
        classes: The classes of the data set that it takes, in the order in which it counts them; by default all.
        run_suffix: Flags -> what the names of the run's directories end in.
        add_flags: Adds to the parser the flags of its own.
        check_flags: Flags -> the same, checked and completed.
    """

    name: str
    description: str
    settings: dict[str, dict[str, Any]]
    labels: int
    own_settings: Callable[[argparse.Namespace, str, int], dict[str, Any]]
    build_model: Callable[[dict[str, Any], GaussianMixture | None], keras.Model]
    figures: Callable[..., dict[str, Figure]]
    epoch_figures: Callable[..., list[keras.callbacks.Callback]] = lambda run, where: []
    beta: float | None = None
    prior: Callable[[argparse.Namespace, Sequence[str]], GaussianMixture | None] = lambda args, names: None
    augment: Callable | None = None
    load: Callable[[str, str | None], data.ImageData] | None = None
    images: Callable[[data.ImageData], data.ImageData] = lambda images: images
    needs_labels: bool = True
    metrics: Callable[..., dict[str, Any]] = lambda run: {}
    classes: tuple[int, ...] | None = None
    run_suffix: Callable[[argparse.Namespace], str] = lambda args: ""
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    check_flags: Callable[[argparse.Namespace], argparse.Namespace] = lambda args: args

    def run_name(self, dataset: str, labels: int | str) -> str:
        """What the directories of a run are called."""
        return f"{self.name.lower()}_{dataset}_{labels}"
