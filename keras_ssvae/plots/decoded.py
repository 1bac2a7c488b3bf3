"""Figures of decoded latent points: grids, paths between two points, and reconstructions."""

from collections.abc import Sequence

import keras
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import encode_batches, image_batches, straight_path
from keras_ssvae.models.batched import as_float32
from keras_ssvae.models.capabilities import require_class_prior
from keras_ssvae.models.labels import Labels
from keras_ssvae.pixels import as_images
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure
from keras_ssvae.priors import GaussianMixture


def grid(
    model: keras.Model,
    extent: float = 15.0,
    n: int = 11,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "Decoded grid of the latent plane",
) -> Figure:
    """Decodes a square grid of the latent plane: the bottom row of EXoN's Figure 2.

    Each image is drawn at its own z, with the second axis pointing up, so that the figure matches the scatter plots.

    Args:
        model: A model with `decode(z)` that takes z of shape (n, 2).
        extent: The grid runs from -extent to extent on both axes.
        n: Number of grid points on each axis, at least 2. With the defaults the distance of two points is 3.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the model's latent space is not a plane, or an argument is out of range.

    Example:

    ```python
    plots.grid(model).savefig("grid.png")
    ```

    Reference: EXoN, Figure 2, bottom.
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    draw_grid(figure.add_subplot(), model, extent, n, value_range, title)
    return figure


def draw_grid(
    ax: Axes, model: keras.Model, extent: float, n: int, value_range: tuple[float, float], title: str
) -> None:
    """Draws the figure of `grid` into given axes."""
    check_is_plane(model)
    n = check_whole_number("n", n, 2)
    if not extent > 0:
        raise ValueError(f"`extent` is {extent}; it must be positive.")
    ticks = np.linspace(-extent, extent, n)
    z = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)  # top row first
    tiles = _drawing.decoded(model, z, value_range)
    height, width, channels = tiles.shape[1:]
    mosaic = tiles.reshape(n, n, height, width, channels).transpose(0, 2, 1, 3, 4)
    _drawing.plain_axes(ax, title)
    edge = extent * n / (n - 1)  # half a tile beyond the outermost points
    _drawing.show(ax, mosaic.reshape(n * height, n * width, channels), extent=(-edge, edge, -edge, edge))
    shown = ticks[:: -(-n // 11)]
    ax.set(xticks=shown, yticks=shown, xlabel="$z_1$", ylabel="$z_2$")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def interpolation(
    model: keras.Model, labels: tuple[int, int] = (0, 1), n: int = 10, class_names: Sequence[str] | None = None
) -> Figure:
    """Decodes the straight path between the prior's centres of two classes: the right panel of EXoN's Figure 3.

    In a latent plane the path is also drawn beside the images, over the ellipses of the prior.

    Args:
        model: A model with `decode(z)` and a prior with one component for each class (`HasClassPrior`), such as `EXoN`.
        labels: The classes at the two ends.
        n: Number of images, both ends included, at least 2.
        class_names: Names of the classes; their numbers by default.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no such prior, a class does not exist, or `n` is below 2.

    Example:

    ```python
    plots.interpolation(model, labels=(0, 1)).savefig("interpolation.png")
    ```

    Reference: EXoN, Figure 3.
    """
    instead = "`plots.path` draws the path between two points of any model."
    prior = require_class_prior(model, "plots.interpolation", instead)
    start, end = prior.means[Labels(prior.num_classes).check("labels", labels, 2)]
    names = _drawing.names_of_classes(class_names, prior.num_classes)
    title = "From A, the centre of class {}, to B, the centre of class {}".format(*(names[label] for label in labels))
    return path(model, start, end, n, prior=prior, title=title)


def path(
    model: keras.Model,
    start: ArrayLike,
    end: ArrayLike,
    n: int = 10,
    value_range: tuple[float, float] = (-1.0, 1.0),
    prior: GaussianMixture | None = None,
    title: str = "Decoded path in the latent space",
) -> Figure:
    """Decodes equally spaced points between two points A and B of the latent space.

    Args:
        model: A model with `decode(z)`.
        start: The point A, shape (d,).
        end: The point B, shape (d,).
        n: Number of images, both ends included, at least 2.
        value_range: The pixel values that are shown as black and as white.
        prior: A prior in a latent plane. If given, the path is also drawn over its ellipses, beside the images.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the points have different dimensions, or `n` is below 2.

    Example:

    ```python
    plots.path(model, start=[0, 0], end=[3, 3]).savefig("path.png")
    ```
    """
    n = check_whole_number("n", n, 2)
    z = straight_path(start, end, n)
    tiles = _drawing.decoded(model, z, value_range)
    strip = tiles.transpose(1, 0, 2, 3).reshape(tiles.shape[1], -1, tiles.shape[3])

    if prior is not None and prior.latent_dim == 2:
        figure = Figure(figsize=(2.4 + 1.0 * n, 2.6), layout="constrained")
        left, ax = figure.subplots(1, 2, width_ratios=(2.2, n))
        _drawing.draw_path(_drawing.plain_axes(left), z, prior)
    else:
        figure = Figure(figsize=(1.0 * n, 1.7), layout="constrained")
        ax = figure.add_subplot()
    _drawing.plain_axes(ax, title)
    _drawing.show(ax, strip, extent=(0, n, 0, tiles.shape[1] / tiles.shape[2]))
    ax.set(yticks=[], xticks=[0.5, n - 0.5], xticklabels=["A", "B"])
    ax.tick_params(length=0, labelsize=11)
    ax.spines[:].set_visible(False)
    return figure


def image_interpolation(
    model: keras.Model,
    a: ArrayLike,
    b: ArrayLike,
    n: int = 10,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "From image A to image B: the originals at the ends, between them the decoded path",
) -> Figure:
    """Decodes the straight path between two encoded images, beside the images themselves: EXoN's Figure 4.

    Args:
        model: A model with `encode(x)` and `decode(z)`.
        a: The images on the left, shape (N, H, W, C), or one image (H, W, C): uint8, or floats scaled to [-1, 1].
        b: The images on the right, in the same shape. Each pair is a row.
        n: Number of decoded images on a path, both ends included, at least 2.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the images are not as described, or `n` is below 2.

    Example:

    ```python
    plots.image_interpolation(model, data.test_images[:3], data.test_images[3:6]).savefig("images.png")
    ```

    Reference: EXoN, Figure 4.
    """
    n = check_whole_number("n", n, 2)
    a, b = (np.asarray(images)[None] if np.ndim(images) == 3 else np.asarray(images) for images in (a, b))
    if a.shape != b.shape:
        raise ValueError(f"`a` and `b` have shapes {a.shape} and {b.shape}; they must be equal.")
    paths = np.linspace(encode_batches(model, a), encode_batches(model, b), n, axis=1)
    decoded = _drawing.decoded(model, paths, value_range)
    ends = [_drawing.displayable(_scaled(images), (-1.0, 1.0))[:, None] for images in (a, b)]
    tiles = np.concatenate([ends[0], decoded, ends[1]], axis=1)
    # Wide enough for the title.
    figure = Figure(figsize=(max(0.85 * (n + 2), 7.0), 0.85 * len(a) + 0.7), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    centres, _ = _drawing.mosaic(ax, tiles)
    for row in range(len(a)):
        for column in (0, n + 1):
            _drawing.outline(ax, column, row, tiles)
    ax.set(xticks=centres[[0, -1]], xticklabels=["A", "B"])
    ax.tick_params(labelsize=11)
    _drawing.trim(figure)
    return figure


def reconstructions(
    model: keras.Model,
    images: ArrayLike,
    columns: int = 10,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "Images, and below each its reconstruction",
) -> Figure:
    """Draws images above their reconstructions: EXoN's Figures 11 and 12.

    Args:
        model: A model with `encode(x)` and `decode(z)`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        columns: Number of images in a row.
        value_range: The pixel values of the reconstructions that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the images are not as described, or `columns` is below 1.

    Example:

    ```python
    plots.reconstructions(model, data.test_images[:50]).savefig("reconstructions.png")
    ```

    Reference: EXoN, Figures 11 and 12.
    """
    columns = check_whole_number("columns", columns, 1)
    recovered = _drawing.decoded(model, encode_batches(model, images), value_range)
    originals = _drawing.displayable(_scaled(images), (-1.0, 1.0))
    return _sheet(np.concatenate([originals, recovered], axis=1), columns, title)  # a tile is a pair


def images(
    images: ArrayLike, columns: int = 10, value_range: tuple[float, float] = (-1.0, 1.0), title: str = ""
) -> Figure:
    """Draws images in rows, such as generated images, pseudo-inputs, or the decoded means of a prior.

    Args:
        images: Shape (n, H, W, 1 or 3): uint8, or floats in [-1, 1]; any numbers with another `value_range`.
        columns: Number of images in a row.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the images are not as described, there is no image, or `columns` is below 1.

    Example:

    ```python
    plots.images(model.generate(50, seed=1), title="Generated images").savefig("generated.png")
    ```
    """
    columns = check_whole_number("columns", columns, 1)
    if value_range == (-1.0, 1.0):
        images = as_images("images", images, in_doubt="warn")
    tiles = _drawing.displayable(as_float32(images), value_range)
    if not len(tiles):
        raise ValueError("`images` holds no image.")
    return _sheet(tiles, columns, title)


def _sheet(tiles, columns, title):
    """A figure of displayable tiles (n, H, W, channels) in rows."""
    tiles = _drawing.in_rows(tiles, columns)
    rows, columns, height, width = tiles.shape[:4]
    # Wide enough for the title.
    figure = Figure(figsize=(max(0.75 * columns, 5.0), 0.75 * height / width * rows + 0.4), layout="constrained")
    _drawing.mosaic(_drawing.plain_axes(figure.add_subplot(), title), tiles)
    _drawing.trim(figure)
    return figure


def check_is_plane(model: keras.Model) -> None:
    """Raises a `ValueError` if the model says that its latent space is not two-dimensional."""
    latent_dim = getattr(model, "latent_dim", 2)
    if latent_dim != 2:
        raise ValueError(
            f"The model's `latent_dim` is {latent_dim}; an image grid needs a latent plane, `latent_dim` 2. For more "
            "dimensions draw a path between two points instead."
        )


def _scaled(images: ArrayLike) -> np.ndarray:
    return np.concatenate(list(image_batches(images)))
