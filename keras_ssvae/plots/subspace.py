"""Figures of the activated latent subspace: V-nat, and the effect of the coordinates on an image."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number, generator, is_integer
from keras_ssvae.evaluation import activated
from keras_ssvae.evaluation.inputs import encode_batches
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure


def v_nat(
    values: ArrayLike,
    classes: int | Sequence[int] | None = None,
    class_names: Sequence[str] | None = None,
    delta: float = 1.0,
) -> Figure:
    """Draws V-nat of each latent coordinate, with values above delta in colour: EXoN's Figures 5(a) and 7.

    Args:
        values: V-nat in nats, shape (K, d), from `evaluation.v_nat` or `evaluation.report`.
        classes: The class or the classes to draw; by default all. All panels have the same axes.
        class_names: Names of the K classes; their numbers by default.
        delta: A coordinate counts as activated if its V-nat is above this value, in nats.

    Returns:
        The figure. Coordinates count from 0.

    Raises:
        ValueError: If a shape is wrong, there is no such class, or a class to be drawn has no V-nat.

    Example:

    ```python
    values = evaluation.report(model, data.test_images, data.test_labels)["v_nat"]
    plots.v_nat(values, classes=1, class_names=data.class_names).savefig("v_nat.png")
    ```

    Reference: EXoN, Figures 5(a) and 7.
    """
    names = _class_names(values, class_names)
    if classes is None:
        drawn = list(range(len(names)))
    else:
        drawn = list(classes) if isinstance(classes, Sequence | np.ndarray) else [classes]
    if not len(drawn) or not all(is_integer(k) and 0 <= k < len(names) for k in drawn):
        raise ValueError(f"`classes` is {classes!r}; they must be integers from 0 to {len(names) - 1}.")
    shown = _v_nats(values, drawn)
    columns = 1 if len(shown) == 1 else 2
    rows = -(-len(shown) // columns)
    figure = Figure(
        figsize=(6.4 if columns == 1 else 9.6, 3.2 if rows == 1 else 1.7 * rows + 0.3), layout="constrained"
    )
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    coordinates = np.arange(shown.shape[1])
    width = float(np.clip(300 / columns / len(coordinates), 0.8, 6.0))
    for ax, row, k in zip(axes.flat, shown, drawn, strict=False):
        active = activated(row, delta)
        _drawing.plain_axes(ax, f"{names[k]}: {active.sum()} of {len(row)} coordinates activated")
        for which, colour in ((~active, _drawing.PALETTE[2]), (active, _drawing.PALETTE[0])):
            ax.vlines(coordinates[which], 0, row[which], color=colour, linewidth=width)
        ax.axhline(0, color="#999999", linewidth=0.8)
        ax.axhline(delta, color=_drawing.INK, linewidth=0.9, linestyle=(0, (4, 3)))
        ax.annotate(
            rf"$\delta = {delta:g}$", (1, delta), xycoords=("axes fraction", "data"), xytext=(3, 0),
            textcoords="offset points", va="center", fontsize=9, color=_drawing.INK, annotation_clip=False,
        )  # fmt: skip
    if len(shown) < axes.size:  # with an odd number, the panel above the empty place gets the tick labels
        axes[-1, -1].set_visible(False)
        axes[-2, -1].tick_params(labelbottom=True)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    figure.supxlabel("latent coordinate", fontsize=10, color=_drawing.INK)
    figure.supylabel("V-nat (nats)", fontsize=10, color=_drawing.INK)
    return figure


def v_nat_correlation(values: ArrayLike, class_names: Sequence[str] | None = None) -> Figure:
    """Draws the correlations of the classes' V-nat over the coordinates: EXoN's Figure 8.

    Args:
        values: V-nat, shape (K, d), d at least 2, from `evaluation.v_nat`.
        class_names: Names of the K classes; their numbers by default.

    Returns:
        The figure.

    Raises:
        ValueError: If a shape is wrong, or a class has no V-nat or the same one in all coordinates.

    Example:

    ```python
    plots.v_nat_correlation(values, data.class_names).savefig("correlation.png")
    ```

    Reference: EXoN, Figure 8.
    """
    names = _class_names(values, class_names)
    rows = _v_nats(values, range(len(names)))
    constant = np.flatnonzero(np.ptp(rows, axis=1) == 0)
    if len(constant):
        raise ValueError(
            f"`values` of class {constant[0]} are the same in all of the {rows.shape[1]} coordinates; a correlation "
            "needs at least 2 different values."
        )
    correlation = np.atleast_2d(np.corrcoef(rows))
    size = 0.48 * len(names) + 1.8
    figure = Figure(figsize=(size + 0.6, size), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), "Correlation of the classes' V-nat")
    image = ax.imshow(correlation, cmap="RdBu_r", vmin=-1, vmax=1)
    for (i, j), value in np.ndenumerate(correlation):
        ink = "white" if abs(value) > 0.6 else _drawing.INK
        ax.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=ink)
    ticks = range(len(names))
    ax.set(xticks=ticks, yticks=ticks, yticklabels=names)
    ax.set_xticklabels(names, rotation=45, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=ax, shrink=0.8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=_drawing.INK)
    return figure


def perturbation(
    model: keras.Model,
    images: ArrayLike,
    active: ArrayLike,
    extent: float = 2.0,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "Noise on the latent coordinates, and what it changes",
) -> Figure:
    """Adds noise to the activated coordinates of encoded images, and to the other ones: EXoN's Figure 5(b).

    The figure has two rows for each image: the noise in each coordinate, and the decoded images.

    Args:
        model: A model with `encode(x)` and `decode(z)`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        active: The activated coordinates: booleans of shape (d,), or (N, d) with one row for each image, such as
            `evaluation.activated(values)[labels]`.
        extent: The noise is uniform from -extent to extent, drawn once for each image and coordinate.
        seed: Seed of the noise.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If the images or the booleans are not as described, or `extent` is not positive.

    Example:

    ```python
    active = evaluation.activated(values)
    plots.perturbation(model, images, active[labels]).savefig("perturbation.png")
    ```

    Reference: EXoN, Figure 5(b).
    """
    _check_extent(extent)
    z = encode_batches(model, images)
    active = _activated_rows(active, z)
    noise = generator(seed).uniform(-extent, extent, z.shape)
    noises = np.stack([np.zeros_like(noise), noise * active, noise * ~active], axis=1)
    tiles = _drawing.decoded(model, z[:, None] + noises, value_range)

    figure = Figure(figsize=(6.0, 2.5 * len(z) + 0.3), layout="constrained")
    axes = figure.subplots(2 * len(z), 3, height_ratios=[1, 2.6] * len(z), squeeze=False)
    width = float(np.clip(120 / z.shape[1], 0.5, 4.0))
    for i, column in np.ndindex(len(z), 3):
        above, below = axes[2 * i, column], axes[2 * i + 1, column]
        count = active[i].sum()
        heading = ("no noise", f"on the {count} activated", f"on the {z.shape[1] - count} others")[column]
        _drawing.plain_axes(above)
        above.set_title(heading, fontsize=10, color=_drawing.INK)
        colour = _drawing.PALETTE[2 if column == 2 else 0]
        above.vlines(np.arange(z.shape[1]), 0, noises[i, column], color=colour, linewidth=width)
        above.axhline(0, color="#999999", linewidth=0.8)
        above.set(xticks=[], yticks=[-extent, 0, extent], ylim=(-1.05 * extent, 1.05 * extent), xlim=(-1, z.shape[1]))
        above.spines["bottom"].set_visible(False)
        if column:
            above.set(yticklabels=[])
        _drawing.mosaic(below, tiles[i, column][None, None])
        below.set_anchor("C")
    for i in range(len(z)):
        axes[2 * i, 0].set_ylabel("noise", fontsize=9)
        axes[2 * i + 1, 0].set_ylabel("decoded", fontsize=9, color=_drawing.INK)
    figure.suptitle(title, fontsize=11, color=_drawing.INK)
    return figure


def axis_sweep(
    model: keras.Model,
    image: ArrayLike,
    v_nat: ArrayLike,
    n_axes: int = 5,
    points: int = 11,
    extent: float = 3.0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "One coordinate changed; framed: nearest to the image's own value",
) -> Figure:
    """Changes single coordinates of an encoded image, those with the highest V-nat: EXoN's Figure 9.

    Each row changes one coordinate. Its frame marks the image whose coordinate is nearest to the original value.

    Args:
        model: A model with `encode(x)` and `decode(z)`.
        image: One image, shape (H, W, C): uint8, or floats scaled to [-1, 1].
        v_nat: V-nat of the image's class, shape (d,).
        n_axes: Number of coordinates, at most d; the first row has the highest V-nat.
        points: Number of images in a row, at least 2.
        extent: The coordinate runs from -extent to extent.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure.

    Returns:
        The figure. Coordinates count from 0.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    ```python
    plots.axis_sweep(model, image, values[label]).savefig("sweep.png")
    ```

    Reference: EXoN, Figure 9.
    """
    _check_extent(extent)
    n_axes, points = check_whole_number("n_axes", n_axes, 1), check_whole_number("points", points, 2)
    z = encode_batches(model, _drawing.one_image("image", image))[0]
    v_nat = np.asarray(v_nat, dtype="float64")
    if v_nat.shape != z.shape or not np.isfinite(v_nat).all():
        raise ValueError(
            f"`v_nat` has shape {v_nat.shape}; it must be one finite number for each of the {len(z)} coordinates."
        )
    highest = np.argsort(-v_nat, kind="stable")[:n_axes]
    steps = np.linspace(-extent, extent, points)
    swept = np.tile(z, (len(highest), points, 1))
    for row, axis in enumerate(highest):
        swept[row, :, axis] = steps
    tiles = _drawing.decoded(model, swept, value_range)

    # Wide enough for the title.
    figure = Figure(figsize=(max(0.8 * points + 1.3, 7.0), 0.8 * len(highest) + 0.9), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    columns, rows = _drawing.mosaic(ax, tiles)
    for row, axis in enumerate(highest):
        if abs(z[axis]) <= extent * points / (points - 1):  # up to half a step beyond the ends
            _drawing.outline(ax, int(np.abs(steps - z[axis]).argmin()), row, tiles)
    names = [f"coordinate {axis}\nV-nat {v_nat[axis]:.1f}" for axis in highest]
    ax.set(xticks=columns, xticklabels=[f"{step:.2g}" for step in steps], yticks=rows, yticklabels=names)
    _drawing.trim(figure)
    return figure


def activated_noise(
    model: keras.Model,
    image: ArrayLike,
    active: ArrayLike,
    draws: int = 21,
    extent: float = 1.5,
    seed: int = 0,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str | None = None,
) -> Figure:
    """Draws an encoded image many times, with noise on all activated coordinates: EXoN's Figure 10.

    The first image, in a frame, has no noise.

    Args:
        model: A model with `encode(x)` and `decode(z)`.
        image: One image, shape (H, W, C): uint8, or floats scaled to [-1, 1].
        active: The activated coordinates of the image's class, booleans of shape (d,).
        draws: Number of images with noise, at least 1.
        extent: The noise is uniform from -extent to extent.
        seed: Seed of the noise.
        value_range: The pixel values that are shown as black and as white.
        title: Title of the figure; by default it names the noise and the number of coordinates.

    Returns:
        The figure.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    ```python
    plots.activated_noise(model, image, evaluation.activated(values)[label]).savefig("noise.png")
    ```

    Reference: EXoN, Figure 10.
    """
    _check_extent(extent)
    draws = check_whole_number("draws", draws, 1)
    z = encode_batches(model, _drawing.one_image("image", image))
    active = _activated_rows(active, z)
    noise = generator(seed).uniform(-extent, extent, (draws, z.shape[1])) * active
    tiles = _drawing.in_rows(_drawing.decoded(model, np.concatenate([z, z + noise]), value_range), columns=11)
    rows, columns = tiles.shape[:2]
    figure = Figure(figsize=(max(0.8 * columns, 6.4), 0.8 * rows + 0.5), layout="constrained")
    if title is None:
        title = f"Noise from -{extent:g} to {extent:g} on all {active.sum()} activated coordinates; framed: no noise"
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    _drawing.mosaic(ax, tiles)
    _drawing.outline(ax, 0, 0, tiles)
    _drawing.trim(figure)
    return figure


def _class_names(values: Any, class_names: Sequence[str] | None) -> list[str]:
    if class_names is None:
        return [f"class {k}" for k in range(len(values))]
    return _drawing.names_of_classes(class_names, len(values))


def _v_nats(values: Any, classes: Sequence[int]) -> np.ndarray:
    """The rows of given classes, float64 of shape (classes, d). A missing row (None in a report) is an error."""
    rows = [np.asarray(values[k], dtype="float64") for k in classes]
    for k, row in zip(classes, rows, strict=True):
        if row.ndim != 1 or row.size == 0 or row.shape != rows[0].shape or not np.isfinite(row).all():
            raise ValueError(
                f"`values` of class {k} are {values[k]}; they must be finite, one for each latent coordinate. V-nat "
                "needs images of every class that is drawn."
            )
    return np.stack(rows)


def _activated_rows(active: ArrayLike, z: np.ndarray) -> np.ndarray:
    active = np.asarray(active)
    if active.dtype != bool or active.shape not in (z.shape, z.shape[1:]):
        raise ValueError(
            f"`active` is {active.dtype} of shape {active.shape}; it must be booleans, ({z.shape[1]},) or {z.shape}. "
            "`evaluation.activated` makes them from V-nat."
        )
    return np.broadcast_to(active, z.shape)


def _check_extent(extent: float) -> None:
    if not 0 < extent < np.inf:
        raise ValueError(f"`extent` is {extent}; it must be positive.")
