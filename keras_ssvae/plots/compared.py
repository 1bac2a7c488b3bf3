"""Figures that compare several models or runs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from matplotlib import ticker
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import sample_posterior, straight_path
from keras_ssvae.models.capabilities import HasClassPrior
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure
from keras_ssvae.plots.decoded import draw_grid
from keras_ssvae.plots.scatters import draw_scatter

_ACROSS = 5  # latent spaces side by side


def latent_spaces(
    models: Mapping[str, keras.Model],
    images: ArrayLike,
    labels: ArrayLike,
    extent: float = 15.0,
    n: int = 11,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws the figure of `latent` above that of `grid`, in one column for each model: EXoN's Figure 2.

    Args:
        models: Title of a column -> a model with a latent plane, `posterior(x)` and `decode(z)`. A row has up to five
            columns.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,).
        extent: The grids run from -extent to extent on both axes.
        n: Number of grid points on each axis, at least 2.
        seed: Seed of the samples z ~ q(z | x).
        class_names: Names that are written at the medians of the classes; their numbers by default.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no model, a model has no latent plane, or images or labels are not as described.

    Example:

    ```python
    models = {f"beta {beta}": keras.models.load_model(f"beta{beta}.keras") for beta in (0.25, 5, 50)}
    plots.latent_spaces(models, data.test_images, data.test_labels).savefig("figure_2.png")
    ```

    Reference: EXoN, Figure 2.
    """
    _check_models(models)
    across = min(len(models), _ACROSS)
    bands = math.ceil(len(models) / across)
    figure = Figure(figsize=(4.8 * across, 9.4 * bands), layout="constrained")
    places = figure.subplots(2 * bands, across, squeeze=False).reshape(bands, 2, across).swapaxes(1, 2).reshape(-1, 2)
    for ax in places[len(models) :].flat:
        ax.remove()
    for (title, model), (above, below) in zip(models.items(), places, strict=False):
        prior = model.class_prior if isinstance(model, HasClassPrior) else None
        draw_scatter(above, sample_posterior(model, images, seed), labels, prior, class_names, title)
        draw_grid(below, model, extent, n, (-1.0, 1.0), "")
    return figure


def paths(
    models: Mapping[str, keras.Model],
    start: ArrayLike,
    end: ArrayLike,
    n: int = 11,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "The same straight path, decoded by each model",
) -> Figure:
    """Decodes the same equally spaced points between two latent points by several models: EXoN's Figure 6.

    Args:
        models: Name of a row -> a model with `decode(z)`.
        start: The point on the left, shape (d,).
        end: The point on the right, shape (d,). If both points lie on the first axis, the coordinates are written below
            the images.
        n: Number of images in a row, both ends included, at least 2.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no model, the points have no common dimension, or `n` is below 2.

    Example:

    ```python
    plots.paths({"distance 8": near, "distance 32": far}, start=[-10, 0], end=[10, 0]).savefig("figure_6.png")
    ```

    Reference: EXoN, Figure 6.
    """
    _check_models(models)
    n = check_whole_number("n", n, 2)
    z = straight_path(start, end, n)
    tiles = np.stack([_drawing.decoded(model, z, value_range) for model in models.values()])
    figure = Figure(figsize=(max(0.85 * n + 1.2, 7.0), 0.85 * len(models) + 0.9), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    columns, rows = _drawing.mosaic(ax, tiles)
    on_first_axis = not z[:, 1:].any()
    ticks = [f"{position:.3g}" for position in z[:, 0]] if on_first_axis else ["A", *[""] * (n - 2), "B"]
    ax.set(xticks=columns, xticklabels=ticks, yticks=rows, yticklabels=list(models))
    if on_first_axis:
        ax.set_xlabel("$z_1$")
    _drawing.trim(figure)
    return figure


def errors(errors: Mapping[str, Mapping[float, Sequence[float]]], x: str = "labels", title: str = "") -> Figure:
    """Draws classification errors against the number of labels, or against another number, with their spread.

    Args:
        errors: Name of a line -> (number of labels -> the errors of the runs, in percent).
        x: Name of the numbers, for the axis, which is logarithmic.
        title: Title of the figure.

    Returns:
        The figure. It shows means, and plus and minus one standard deviation if there are two runs or more.

    Raises:
        ValueError: If there is nothing to draw.

    Example:

    ```python
    plots.errors({"EXoN": {100: [3.2, 2.7], 1000: [2.0, 2.1]}, "classifier": {100: [15.1], 1000: [4.0]}})
    ```
    """
    if not errors or not all(line and all(map(len, line.values())) for line in errors.values()):
        raise ValueError(f"`errors` is {errors!r}; every line needs a number of labels, and at least one error for it.")
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    ticks = sorted({number for line in errors.values() for number in line})
    ax.set(xlabel=x, ylabel="error, %", xscale="log", xlim=(ticks[0] / 1.2, ticks[-1] * 1.2))
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    lowest = np.inf
    for k, (name, line) in enumerate(errors.items()):
        numbers = sorted(line)
        means = np.array([np.mean(line[number]) for number in numbers])
        spread = np.array([np.std(line[number], ddof=1) if len(line[number]) > 1 else 0.0 for number in numbers])
        style: dict[str, Any] = {"linewidth": 1.8, "marker": "o", "markersize": 4, "capsize": 3}
        ax.errorbar(numbers, means, spread, label=name, color=_drawing.colour(k), **style)
        lowest = min(lowest, (means - spread).min())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    if lowest > 0:
        _drawing.log_scale(ax)
    ax.legend(frameon=False, labelcolor="linecolor", handlelength=1.2)
    return figure


def _check_models(models):
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"`models` is {models!r}; it must be a dict of at least one model, with their names as keys.")
