"""Figures that set several models side by side."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from keras_ssvae.evaluation.inputs import decode_batches, straight_path
from keras_ssvae.plots import _drawing
from keras_ssvae.plots.decoded import draw_grid
from keras_ssvae.plots.scatters import draw_scatter, sample_posterior


def latent_spaces(
    models: Mapping[str, keras.Model],
    images: ArrayLike,
    labels: ArrayLike,
    extent: float = 15.0,
    n: int = 11,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> Figure:
    """Draws for each model `latent` above `grid`: the paper's Figure 2.

    Args:
        models: Title -> a model with a latent plane, `prior`, `posterior(x)` and `decode(z)`; one column each.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,).
        extent: The grids run from -extent to extent on both axes.
        n: Grid points on each axis, at least 2.
        seed: Seed of the samples z ~ q(z | x).
        class_names: Names written at the classes' medians; their numbers by default.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no model, or one has no latent plane, or images and labels are not as described.

    Example:

    ```python
    models = {f"beta {beta}": keras.models.load_model(f"beta{beta}.keras") for beta in (0.25, 5, 50)}
    plots.latent_spaces(models, data.test_images, data.test_labels).savefig("figure_2.png")
    ```

    Reference: the paper's Figure 2.
    """
    _check_models(models)
    figure = Figure(figsize=(4.8 * len(models), 9.4), layout="constrained")
    axes = figure.subplots(2, len(models), squeeze=False)
    for (title, model), (above, below) in zip(models.items(), axes.T, strict=True):
        draw_scatter(above, sample_posterior(model, images, seed), labels, model.prior, class_names, title)
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
    """Decodes the same equally spaced points between two latent points by each model: the paper's Figure 6.

    Args:
        models: Name -> a model with `decode(z)`; one row each.
        start: The point on the left, shape (d,).
        end: The point on the right, shape (d,). Where both lie on the first axis, the points' places on it are
            written below the images.
        n: Images in a row, both ends included, at least 2.
        value_range: Pixel values shown as black and white.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no model, the points have no common dimension, or `n` is below 2.

    Example:

    ```python
    plots.paths({"distance 8": near, "distance 32": far}, start=[-10, 0], end=[10, 0]).savefig("figure_6.png")
    ```

    Reference: the paper's Figure 6.
    """
    _check_models(models)
    z = straight_path(start, end, n)
    tiles = np.stack([_drawing.displayable(decode_batches(model, z), value_range) for model in models.values()])
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


def _check_models(models):
    if not isinstance(models, Mapping) or not models:
        raise ValueError(f"`models` is {models!r}; it must be a dict of at least one model, by what to call it.")
