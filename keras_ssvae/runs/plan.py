"""What a run consists of: `Plan` before anything is written, `Run` while it trains."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from keras_ssvae import callbacks
from keras_ssvae.priors import GaussianMixture
from keras_ssvae.runs import devices
from keras_ssvae.runs.experiment import Experiment


@dataclasses.dataclass(eq=False)
class Plan:
    """A run whose flags are checked and that has not written anything yet.

    Attributes:
        experiment: The experiment.
        settings: Everything that the result depends on.
        options: The values of the experiment's own flags that are not settings.
        resume: Whether to continue the run in `output_dir`, if there is one.
        sets: The images, as the experiment's `sets` makes them.
        prior: The prior, or None.
        given: Further arguments of `build_model`.
        devices: The devices that share a batch.
        scheduled: Maps a number of epochs to the experiment's own settings.
        output_dir: Directory for the files of the run.
        export_dir: Directory for the SavedModel.
    """

    experiment: Experiment
    settings: dict[str, Any]
    options: dict[str, Any]
    resume: bool
    sets: Any
    prior: GaussianMixture | None
    given: tuple[Any, ...]
    devices: devices.Devices
    scheduled: Callable[[int], dict[str, Any]]
    output_dir: Path
    export_dir: Path

    @property
    def images(self) -> Any:
        """The data set."""
        return self.sets.images

    @property
    def data_title(self) -> str:
        names = "" if self.experiment.classes is None else f" ({', '.join(self.images.class_names)})"
        return f"{self.images.name}{names}"

    @property
    def title(self) -> str:
        labels = f", {self.settings['labels']} labels" if "labels" in self.settings else ""
        return f"{self.experiment.name} on {self.data_title}{labels}"


@dataclasses.dataclass(eq=False)
class Run:
    """A plan, with the objects that `train` needs. The attributes of the plan are attributes of the run too.

    Attributes:
        plan: The plan.
        model: The compiled model, in its state after the last epoch done.
        batches: The training batches, from the first step not yet done.
        checkpoint: The callback that writes the checkpoint.
        early_stopping: The callback that may end the training early, or None.
        done: Number of epochs done.
    """

    plan: Plan
    model: keras.Model
    batches: Any
    checkpoint: callbacks.Checkpoint
    early_stopping: keras.callbacks.Callback | None
    done: int

    def __getattr__(self, name: str) -> Any:
        """Finds the attributes of the plan."""
        if name == "plan":  # `copy` asks before there is one
            raise AttributeError(name)
        return getattr(self.plan, name)

    @property
    def test_images(self) -> Any:
        """The test images as an array in memory, with pixels in [-1, 1]."""
        return self.sets.test_images
