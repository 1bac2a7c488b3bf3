"""A callback that computes all metrics of the evaluation during the training."""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae import evaluation
from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.reports import batches_for, check_can_report, names_of_numbers
from keras_ssvae.models.labels import as_integers
from keras_ssvae.pixels import as_array, check_form, check_values


class Report(keras.callbacks.Callback):
    """Evaluates the model as `evaluation.report` does, at the end of every `every`-th epoch.

    Metrics that are single numbers are added to the epoch's logs, so that the history and the callbacks after this one
    (TensorBoard, CSVLogger) have them. The logs hold NaN where the report has None, and in epochs without a report.

    Args:
        images: Images, shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,), or (N, n) for a model with n labels for each image. A model
            without a classifier needs none.
        every: Epochs between two reports; 1 evaluates after each epoch.
        prefix: Prefix of the names in the logs.
        directory: Directory for JSON files `epoch_0001_report.json`, ...; epochs count from 1.
        batch_size: Number of images in a batch.
        ssim: Whether to compute `negative_ssim`, which takes about ten seconds each time.

    Attributes:
        reports: Epoch, counted from 1 -> what `evaluation.report` returned.

    Raises:
        ValueError: If `every` is below 1, the images or labels are not as described, or, when `fit` starts, the model
            has no report.

    Example:

    ```python
    report = Report(data.test_images, data.test_labels, every=5)
    model.fit(batches, epochs=20, callbacks=[report, keras.callbacks.CSVLogger("log.csv")])
    print(report.reports[20]["v_nat"])
    ```
    """

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike | None = None,
        every: int = 1,
        prefix: str = "test_",
        directory: str | PathLike | None = None,
        batch_size: int = 500,
        ssim: bool = False,
    ):
        super().__init__()
        check_whole_number("every", every, 1)
        self.images = as_array("images", images)
        check_form("images", self.images)
        check_values("images", self.images)
        self.labels = None if labels is None else as_integers("labels", labels, columns=True)
        self.every, self.prefix, self.batch_size, self.ssim = every, prefix, batch_size, ssim
        self.directory = None if directory is None else Path(directory)
        self.reports: dict[int, dict[str, Any]] = {}

    def set_model(self, model: keras.Model) -> None:
        check_can_report(model, "Report")
        super().set_model(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        # So that a model that does not fit is an error now, not after an epoch.
        images, _ = next(batches_for(self.model, self.images, self.labels, batch_size=1))
        self.model(images, training=False)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics: dict[str, Any] = {}
        if (epoch + 1) % self.every == 0:
            metrics = evaluation.report(self.model, self.images, self.labels, self.batch_size, self.ssim)
            self.reports[epoch + 1] = metrics
            if self.directory is not None:
                self.directory.mkdir(parents=True, exist_ok=True)
                text = json.dumps(metrics, indent=2) + "\n"
                (self.directory / f"epoch_{epoch + 1:04d}_report.json").write_text(text)
        if logs is not None:
            values = ((name, metrics.get(name)) for name in names_of_numbers(self.model, self.ssim))
            logs.update({f"{self.prefix}{name}": np.nan if value is None else value for name, value in values})
