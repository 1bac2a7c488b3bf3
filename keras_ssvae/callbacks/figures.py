"""Callbacks that draw the latent space during the training.

They work with the models of this library, and with any Keras model that has the method that a callback names.
"""

import io
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from keras_ssvae import plots
from keras_ssvae.checks import check_whole_number
from keras_ssvae.models.capabilities import Decodes, Encodes, HasClassPrior
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import as_images, trusted

DPI = 110


class _FigureCallback(keras.callbacks.Callback):
    """Draws a figure at the end of every `every`-th epoch, as a PNG file, in TensorBoard, or both."""

    name: str
    needs: str  # name of the method that the model must have
    capability: type  # the protocol of that method

    def __init__(self, directory: str | PathLike | None, log_dir: str | PathLike | None, every: int):
        super().__init__()
        if directory is None and log_dir is None:
            raise ValueError(
                f"`{type(self).__name__}` has no place for its figures: give `directory` for PNG files, `log_dir` for "
                "TensorBoard, or both."
            )
        check_whole_number("every", every, 1)
        self.directory = None if directory is None else Path(directory)
        self.log_dir = None if log_dir is None else str(log_dir)
        self.every = every
        self._writer: Any = None  # of TensorBoard's files

    def set_model(self, model: keras.Model) -> None:
        if not isinstance(model, self.capability):
            raise ValueError(
                f"`{type(self).__name__}` needs a model with a method `{self.needs}`, but {type(model).__name__} has "
                "none."
            )
        super().set_model(model)

    def draw(self) -> Figure:
        raise NotImplementedError

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.draw()  # so that a model that does not fit is an error now, not after an epoch
        if self.directory is not None:
            self.directory.mkdir(parents=True, exist_ok=True)
        if self.log_dir is not None:
            self._writer = _summary_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if (epoch + 1) % self.every:
            return
        png = io.BytesIO()
        self.draw().savefig(png, format="png", dpi=DPI)
        if self.directory is not None:
            (self.directory / f"epoch_{epoch + 1:04d}_{self.name}.png").write_bytes(png.getvalue())
        if self._writer is not None:
            import tensorflow as tf

            with self._writer.as_default():
                tf.summary.image(self.name, tf.io.decode_png(png.getvalue(), channels=3)[None], step=epoch)
            self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class LatentScatter(_FigureCallback):
    """Draws the positions of images in the latent space, coloured by class, during the training.

    The model needs `encode(x)`, which returns z of shape (B, d) with d at least 2. If the model has a prior with one
    component for each class (`class_prior`, as `EXoN` has), the ellipses of the prior are drawn too.

    Args:
        images: Images, shape (N, H, W, C): uint8, or floats in [-1, 1]. A thousand or two give a clear figure.
        labels: Their classes, integers of shape (N,).
        directory: Directory for PNG files `epoch_0001_latent.png`, ...; epochs count from 1.
        log_dir: TensorBoard directory for the image `latent`, at Keras' own steps, which count epochs from 0. On the
            TensorFlow backend only.
        every: Epochs between two figures; 1 draws after each epoch.
        class_names: One name for each class; the class's number by default.

    Raises:
        ValueError: If neither `directory` nor `log_dir` is given, images and labels differ in number, or, when `fit`
            starts, the model has no `encode`.

    Example:

    ```python
    model.fit(batches, callbacks=[LatentScatter(x_test[:2000], y_test[:2000], directory="figures")])
    ```
    """

    name = "latent"
    needs = "encode"
    capability = Encodes

    def __init__(
        self,
        images: ArrayLike,
        labels: ArrayLike,
        directory: str | PathLike | None = None,
        log_dir: str | PathLike | None = None,
        every: int = 1,
        class_names: Sequence[str] | None = None,
    ):
        super().__init__(directory, log_dir, every)
        self.images = as_images("images", images, in_doubt="warn")
        if len(self.images) == 0:
            raise ValueError("`images` has no image; it must have at least two.")
        self.labels = Labels.seen_in(labels).check("labels", labels, len(self.images))
        self.class_names = class_names

    def draw(self) -> Figure:
        batches = (self.images[start : start + 500] for start in range(0, len(self.images), 500))
        with trusted():
            z = [ops.convert_to_numpy(self.model.encode(ops.convert_to_tensor(batch))) for batch in batches]
        prior = self.model.class_prior if isinstance(self.model, HasClassPrior) else None
        title = "Encoded images, coloured by label"
        return plots.scatter(np.concatenate(z), self.labels, prior=prior, class_names=self.class_names, title=title)


class ImageGrid(_FigureCallback):
    """Draws the decoded images of a square grid of the latent plane, during the training.

    The model needs `decode(z)`, which takes z of shape (n, 2) and returns images (n, H, W, 1 or 3). If it has
    `latent_dim`, that must be 2.

    Args:
        extent: The grid runs from -extent to extent on both axes.
        n: Number of grid points on each axis.
        directory: Directory for PNG files `epoch_0001_grid.png`, ...; epochs count from 1.
        log_dir: TensorBoard directory for the image `grid`, at Keras' own steps, which count epochs from 0. On the
            TensorFlow backend only.
        every: Epochs between two figures; 1 draws after each epoch.
        value_range: The pixel values that are shown as black and as white.

    Raises:
        ValueError: If neither `directory` nor `log_dir` is given, or, when `fit` starts, the model does not fit.

    Example:

    ```python
    model.fit(batches, callbacks=[ImageGrid(extent=3.0, directory="figures", value_range=(0, 1))])
    ```
    """

    name = "grid"
    needs = "decode"
    capability = Decodes

    def __init__(
        self,
        extent: float = 15.0,
        n: int = 11,
        directory: str | PathLike | None = None,
        log_dir: str | PathLike | None = None,
        every: int = 1,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ):
        super().__init__(directory, log_dir, every)
        self.extent, self.n, self.value_range = extent, n, value_range

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        plots.check_is_plane(model)

    def draw(self) -> Figure:
        return plots.grid(self.model, self.extent, self.n, self.value_range)


class Interpolation(_FigureCallback):
    """Draws the decoded images on the straight line between two latent points, during the training.

    The model needs `decode(z)`, which takes z of shape (n, d) and returns images (n, H, W, 1 or 3). If it has
    `latent_dim`, that must be d.

    Args:
        start: The latent point at the left end, shape (d,).
        end: The latent point at the right end, shape (d,).
        n: Number of images, both ends included.
        directory: Directory for PNG files `epoch_0001_interpolation.png`, ...; epochs count from 1.
        log_dir: TensorBoard directory for the image `interpolation`, at Keras' own steps, which count epochs from 0.
            On the TensorFlow backend only.
        every: Epochs between two figures; 1 draws after each epoch.
        value_range: The pixel values that are shown as black and as white.

    Raises:
        ValueError: If neither `directory` nor `log_dir` is given, the points differ in shape, or, when `fit` starts,
            the model does not fit.

    Example:

    ```python
    centres = model.prior.means
    model.fit(batches, callbacks=[Interpolation(centres[0], centres[1], directory="figures")])
    ```
    """

    name = "interpolation"
    needs = "decode"
    capability = Decodes

    def __init__(
        self,
        start: ArrayLike,
        end: ArrayLike,
        n: int = 10,
        directory: str | PathLike | None = None,
        log_dir: str | PathLike | None = None,
        every: int = 1,
        value_range: tuple[float, float] = (-1.0, 1.0),
    ):
        super().__init__(directory, log_dir, every)
        self.start, self.end = np.asarray(start, dtype="float32"), np.asarray(end, dtype="float32")
        self.n, self.value_range = n, value_range
        if self.start.ndim != 1 or self.start.shape != self.end.shape:
            raise ValueError(
                f"`start` and `end` have shapes {self.start.shape} and {self.end.shape}; both must be (d,)."
            )

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        latent_dim = getattr(model, "latent_dim", len(self.start))
        if latent_dim != len(self.start):
            raise ValueError(
                f"`start` and `end` have {len(self.start)} dimensions, but the model's `latent_dim` is {latent_dim}."
            )

    def draw(self) -> Figure:
        return plots.path(self.model, self.start, self.end, self.n, self.value_range)


def _summary_writer(log_dir: str):
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "`log_dir` was given, but writing for TensorBoard needs TensorFlow, and Keras runs on "
            f"{keras.backend.backend()} here. Give `directory` instead, for PNG files."
        )
    import tensorflow as tf

    try:
        import tensorboard  # noqa: F401  (tf.summary needs it and does not install it)
    except ImportError as error:
        raise ValueError(
            "`log_dir` was given, but writing for TensorBoard needs the package tensorboard. Install it with "
            "`pip install tensorboard`, or leave `log_dir` out."
        ) from error
    return tf.summary.create_file_writer(log_dir)
