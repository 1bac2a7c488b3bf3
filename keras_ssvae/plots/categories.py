"""Figures of models that find categories without labels: images of each category, and their probabilities."""

from collections.abc import Mapping

import keras
import numpy as np
from matplotlib import ticker
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.categories import above_uniform
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.capabilities import require_clusters
from keras_ssvae.models.clusters import check_probs
from keras_ssvae.pixels import as_images
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure

_INCHES = 0.4  # width of an image in a panel


def panels(images: Mapping[str, ArrayLike], columns: int = 5, across: int = 4, title: str = "") -> Figure:
    """Draws groups of images, each in its own panel, for example of several categories or models.

    Args:
        images: Title of a panel -> its images (n, H, W, 1 or 3): uint8, or floats in [-1, 1].
        columns: Number of panels in a row.
        across: Number of images in a row of a panel.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no panel, a panel has no image, or the images are not as described.

    Example:

    ```python
    plots.panels({name: model.generate(16, seed=1) for name, model in models.items()}).savefig("generated.png")
    ```

    Reference: CP-VAE, Figures 13 to 16.
    """
    columns, across = check_whole_number("columns", columns, 1), check_whole_number("across", across, 1)
    if not images or any(0 in np.shape(each) for each in images.values()):
        raise ValueError("`images` has no panel, or a panel without an image; each panel needs at least one.")
    given = {name: as_images("images", each, in_doubt="warn") for name, each in images.items()}
    tiles = {
        name: _drawing.in_rows(_drawing.displayable(as_float32(each), (-1.0, 1.0)), across)
        for name, each in given.items()
    }
    # An automatic layout takes seconds for many panels, and is not needed, since these have no ticks.
    figure, axes = _grid(len(tiles), columns, _INCHES * across + 0.15, _INCHES * _rows(tiles) + 0.3, title, layout=None)
    columns = min(columns, len(tiles))
    width, height = figure.get_size_inches()
    panel = (width - 0.2) / columns, (height - 0.45) / -(-len(tiles) // columns)
    spaces = {"wspace": 0.15 / (panel[0] - 0.15), "hspace": 0.3 / (panel[1] - 0.3)}
    sides = {"left": 0.1 / width, "right": 1 - 0.1 / width, "bottom": 0.1 / height, "top": 1 - 0.6 / height}
    figure.subplots_adjust(**sides, **spaces)
    for ax, (name, each) in zip(axes, tiles.items(), strict=True):
        _drawing.mosaic(_small(ax, name), each)
    return figure


def categories(
    model: keras.Model,
    probs: ArrayLike,
    at_most: int = 20,
    n: int = 16,
    columns: int = 5,
    across: int = 4,
    seed: int = 0,
) -> Figure:
    """Draws generated images of each category with `q(c_k) > 1/K`, the most probable category first.

    Args:
        model: A model that finds categories, such as `CPVAE`.
        probs: `q(c)`, shape (K,): the mean of `evaluation.clusters` over the training images.
        at_most: Largest number of categories that are drawn.
        n: Number of images of each category.
        columns: Number of panels in a row.
        across: Number of images in a row of a panel.
        seed: Seed of the images, whose z is drawn from `p(z | c_k)`.

    Returns:
        The figure. The title of a panel is the number of the category, counted from 0, and its probability.

    Raises:
        ValueError: If the model finds no categories, or `probs` are not K probabilities that differ.

    Example:

    ```python
    plots.categories(model, evaluation.clusters(model, data.train_images).mean(axis=0)).savefig("categories.png")
    ```

    Reference: CP-VAE, Figures 6 to 8, A3, A4, A6 and A8 to A10.
    """
    finds = require_clusters(model, "plots.categories")
    at_most, n = check_whole_number("at_most", at_most, 1), check_whole_number("n", n, 1)
    size = finds.num_categories
    probs = check_probs(probs, size)
    order = np.argsort(-probs, kind="stable")
    shown = order[above_uniform(probs)[order]][:at_most] if size > 1 else order
    if not len(shown):
        raise ValueError(f"`probs` has no number above 1/{size}: the model prefers no category.")
    drawn = {f"{k}: {100 * probs[k]:.3g} %": finds.generate(n, seed, categories=int(k)) for k in shown}
    return panels(drawn, columns, across, title="Images from p(z | c), and q(c), of the categories above 1/K")


def category_probs(probs: Mapping[str, ArrayLike], columns: int = 5, title: str = "") -> Figure:
    """Draws the probabilities of the categories, with a panel for each label or model, and a line at 1/K.

    Args:
        probs: Title of a panel -> probabilities, shape (K,), such as the mean of `evaluation.clusters` or a value of
            `evaluation.category_probs_by_label`.
        columns: Number of panels in a row.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw.

    Example:

    ```python
    plots.category_probs({"q(c)": probs.mean(axis=0)}).savefig("category_probs.png")
    ```

    Reference: CP-VAE, Figures 9 to 12, A1, A2, A5 and A7.
    """
    columns = check_whole_number("columns", columns, 1)
    given = {name: np.asarray(each, "float64") for name, each in probs.items()}
    if not given or any(each.ndim != 1 or not len(each) for each in given.values()):
        raise ValueError("`probs` has no panel, or a panel that is no list of probabilities.")
    figure, axes = _grid(len(given), columns, width=2.4 if len(given) > 1 else 5.0, height=1.7, title=title)
    for ax, (name, each) in zip(axes, given.items(), strict=True):
        _small(ax, name)
        ax.bar(np.arange(len(each)), each, width=1.0 if len(each) > 30 else 0.8, color=_drawing.colour(0))
        ax.axhline(1 / len(each), color=_drawing.INK, linewidth=0.8, linestyle=":")
        ax.set(xlim=(-0.6, len(each) - 0.4), ylim=(0, None))
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        ax.tick_params(labelsize=7)
    return figure


def densities(
    x: ArrayLike,
    probs: Mapping[str, ArrayLike],
    reference: ArrayLike | None = None,
    columns: int = 4,
    title: str = "",
) -> Figure:
    """Draws distributions of a number as histograms, each in its own panel.

    Args:
        x: Left ends of the bins, which have equal widths, shape (n,) with n at least 2.
        probs: Title of a panel -> the probabilities of the bins, shape (n,).
        reference: Probabilities that each panel also shows as a line, such as those of the data.
        columns: Number of panels in a row.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw, or the shapes do not fit.

    Reference: CP-VAE, Figures 3 to 5.
    """
    columns, x = check_whole_number("columns", columns, 1), np.asarray(x, "float64")
    given = {name: np.asarray(each, "float64") for name, each in probs.items()}
    others = [] if reference is None else [np.asarray(reference, "float64")]
    if not given or len(x) < 2 or any(each.shape != x.shape for each in (*given.values(), *others)):
        raise ValueError(
            f"`probs` must be at least one list of {len(x)} probabilities, as many as `x` has bins, and `x` must have "
            "at least two bins."
        )
    figure, axes = _grid(len(given), columns, width=2.4, height=1.7, title=title)
    edges = np.append(x, 2 * x[-1] - x[-2])
    for ax, (name, each) in zip(axes, given.items(), strict=True):
        _small(ax, name)
        ax.stairs(each, edges, fill=True, color=_drawing.colour(0))
        for other in others:
            ax.stairs(other, edges, color=_drawing.INK, linewidth=0.8)
        ax.set(xlim=(edges[0], edges[-1]), ylim=(0, None), yticks=[])
        ax.tick_params(labelsize=7)
    return figure


def _grid(n, columns, width, height, title, layout="constrained"):
    """A figure with n axes in rows, each `width` x `height` inches."""
    columns = min(columns, n)
    rows = -(-n // columns)
    figure = Figure(figsize=(max(width * columns + 0.2, 5.0), height * rows + 0.45), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[n:]:
        ax.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=11, color=_drawing.INK, x=0.01, ha="left")
    return figure, axes[:n]


def _small(ax: Axes, title: str) -> Axes:
    _drawing.plain_axes(ax).set_title(title, loc="left", fontsize=8, color=_drawing.INK, pad=2)
    return ax


def _rows(tiles):
    """The height of the highest panel, in widths of an image."""
    return max(each.shape[0] * each.shape[2] / each.shape[3] for each in tiles.values())
