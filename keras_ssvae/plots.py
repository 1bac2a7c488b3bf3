"""Figures of a latent space: functions that return a `matplotlib.figure.Figure` and touch no global state.

Save a figure with `figure.savefig(path)`; no display is needed.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from keras import ops
from matplotlib import ticker
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from keras_ssvae import _drawing
from keras_ssvae.evaluation.inputs import check_labels, decode_batches, image_batches
from keras_ssvae.priors import GaussianMixture


def prior(prior: GaussianMixture, n: int = 3000, seed: int = 0, class_names: Sequence[str] | None = None) -> Figure:
    """Draws samples from p(z), coloured by class: the paper's Figure 1.

    Args:
        prior: The prior; with more than two dimensions its samples are shown on their two principal axes.
        n: How many samples.
        seed: Seed of the samples.
        class_names: Names written at the classes' centres; their numbers by default.

    Returns:
        The figure.

    Example:

    ```python
    plots.prior(priors.circle()).savefig("prior.png")
    ```

    Reference: the paper's Figure 1.
    """
    z, labels = prior.sample(n, seed)
    return scatter(z, labels, prior=prior, class_names=class_names, title="Samples from the prior p(z)")


def latent(
    model: keras.Model,
    images: ArrayLike,
    labels: ArrayLike,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    batch_size: int = 500,
) -> Figure:
    """Draws one z ~ q(z | x) for each image, coloured by its label: the top row of the paper's Figure 2.

    The thin ellipses are the prior's, at two standard deviations. The axes are those of `prior(model.prior)`; where
    points lie outside, the figure says how many.

    Args:
        model: A model with `prior` and `posterior(x)`, which returns mean, logvar (B, K, d) and probs (B, K).
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,).
        seed: Seed of the samples.
        class_names: Names written at the classes' medians; their numbers by default.
        batch_size: Images in a batch.

    Returns:
        The figure.

    Raises:
        ValueError: If the images or the labels are not as described.

    Example:

    ```python
    plots.latent(model, data.test_images, data.test_labels).savefig("latent.png")
    ```

    Reference: the paper's Figure 2, top.
    """
    rng = np.random.default_rng(seed)
    samples = []
    for x in image_batches(images, batch_size):
        mean, logvar, probs = (ops.convert_to_numpy(output) for output in model.posterior(ops.convert_to_tensor(x)))
        gumbel = rng.gumbel(size=probs.shape)
        component = np.argmax(np.log(np.maximum(probs, 1e-30)) + gumbel, axis=1)
        rows = np.arange(len(x))
        noise = rng.standard_normal(mean[:, 0].shape)
        samples.append(mean[rows, component] + np.exp(logvar[rows, component] / 2) * noise)
    return scatter(
        np.concatenate(samples),
        labels,
        prior=model.prior,
        class_names=class_names,
        title="Latent variables z ~ q(z | x), coloured by label",
    )


def scatter(
    z: ArrayLike,
    labels: ArrayLike,
    prior: GaussianMixture | None = None,
    class_names: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Draws latent variables coloured by class, each class's name at its median.

    Args:
        z: Latent variables, shape (n, d), n and d at least 2. With d > 2 they are shown on their two principal axes.
        labels: Classes, integers of shape (n,).
        prior: Draws its ellipses at two standard deviations, with a small name in those that their class has left. In
            the plane it also decides the axes, so that figures of one prior can be compared.
        class_names: One name for each class; the class's number by default.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If a shape or a label is wrong.

    Example:

    ```python
    plots.scatter(encoder.predict(images), labels).savefig("latent.png")
    ```
    """
    z = np.asarray(z, dtype="float64")
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"`z` has shape {z.shape}; a scatter plot needs (points, dimensions), at least 2 of each.")
    if not np.isfinite(z).all():
        raise ValueError("`z` must hold finite numbers only, but it holds NaN or infinity: has training diverged?")
    if prior is not None and prior.latent_dim != z.shape[1]:
        raise ValueError(f"`z` has {z.shape[1]} dimensions, but the prior has {prior.latent_dim}; they must be equal.")
    if prior is not None:
        num_classes = prior.num_classes
    else:
        num_classes = len(class_names) if class_names is not None else int(np.max(labels, initial=0)) + 1
    labels = check_labels(labels, len(z), num_classes)
    names = [str(k) for k in range(num_classes)] if class_names is None else list(class_names)
    if len(names) != num_classes:
        raise ValueError(f"`class_names` has {len(names)} names; there are {num_classes} classes.")

    origin, axes, axis_names = _drawing.plane(z)
    points = (z - origin) @ axes
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    ax.set(aspect="equal", xlabel=axis_names[0], ylabel=axis_names[1])
    # Small classes stay visible and no class covers the others: the points are drawn in one call, in mixed order.
    order = np.random.default_rng(0).permutation(len(points))
    colours = np.array([_drawing.colour(k) for k in range(num_classes)])[labels]
    size = float(np.clip(24_000 / len(points), 3.0, 14.0))
    ax.scatter(*points[order].T, s=size, c=colours[order], alpha=0.6, linewidths=0, rasterized=True)
    medians = {k: np.median(points[labels == k], axis=0) for k in np.unique(labels)}
    if prior is not None:
        centres = (prior.means - origin) @ axes
        covariances = np.einsum("di,kd,dj->kij", axes, prior.variances, axes)
        for k in range(num_classes):
            ax.add_patch(_drawing.two_sigma_ellipse(centres[k], covariances[k], edgecolor=_drawing.colour(k)))
            if not _drawing.is_inside(medians.get(k), centres[k], covariances[k]):
                ax.text(*centres[k], names[k], color="#999999", fontsize=9, ha="center", va="center", clip_on=True)
        if z.shape[1] == 2:
            _drawing.fix_limits(ax, centres, covariances, points)
    for k, median in medians.items():
        _drawing.label_point(ax, median, names[k])
    return figure


def grid(
    model: keras.Model,
    extent: float = 15.0,
    n: int = 11,
    value_range: tuple[float, float] = (-1.0, 1.0),
    title: str = "Decoded grid of the latent plane",
) -> Figure:
    """Decodes a square grid of the latent plane: the bottom row of the paper's Figure 2.

    Each image stands at its own z, the second axis pointing up, so that the figure matches the scatter plots.

    Args:
        model: A model with `decode(z)` that takes z of shape (n, 2).
        extent: The grid runs from -extent to extent on both axes.
        n: Grid points on each axis, at least 2; the default steps by 3.
        value_range: Pixel values shown as black and white.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If the model's latent space is not a plane, or an argument is out of range.

    Example:

    ```python
    plots.grid(model).savefig("grid.png")
    ```

    Reference: the paper's Figure 2, bottom.
    """
    check_is_plane(model)
    if n < 2 or not extent > 0:
        raise ValueError(f"`n` is {n} and `extent` is {extent}; `n` must be at least 2 and `extent` positive.")
    ticks = np.linspace(-extent, extent, n)
    z = np.stack(np.meshgrid(ticks, ticks[::-1]), axis=-1).reshape(-1, 2)  # top row first
    tiles = _drawing.displayable(decode_batches(model, z), value_range)
    height, width, channels = tiles.shape[1:]
    mosaic = tiles.reshape(n, n, height, width, channels).transpose(0, 2, 1, 3, 4)
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    edge = extent * n / (n - 1)  # half a tile beyond the outermost points
    _drawing.show(ax, mosaic.reshape(n * height, n * width, channels), extent=(-edge, edge, -edge, edge))
    shown = ticks[:: -(-n // 11)]
    ax.set(xticks=shown, yticks=shown, xlabel="$z_1$", ylabel="$z_2$")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def interpolation(
    model: keras.Model, labels: tuple[int, int] = (0, 1), n: int = 10, class_names: Sequence[str] | None = None
) -> Figure:
    """Decodes the straight path between two classes' prior centres: the right panel of the paper's Figure 3.

    In a latent plane the path is drawn beside the images, over the prior's ellipses.

    Args:
        model: A model with `prior` and `decode(z)`.
        labels: The classes at the two ends.
        n: Images, both ends included, at least 2.
        class_names: The classes' names; their numbers by default.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no such class, or `n` is below 2.

    Example:

    ```python
    plots.interpolation(model, labels=(0, 1)).savefig("interpolation.png")
    ```

    Reference: the paper's Figure 3.
    """
    prior = model.prior
    start, end = prior.means[check_labels(labels, 2, prior.num_classes)]
    names = [str(label) if class_names is None else class_names[label] for label in labels]
    title = f"From A, the centre of class {names[0]}, to B, the centre of class {names[1]}"
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
        n: Images, both ends included, at least 2.
        value_range: Pixel values shown as black and white.
        prior: In a latent plane, draws the path over this prior's ellipses.
        title: The figure's title.

    Returns:
        The figure.

    Raises:
        ValueError: If the points have no common dimension, or `n` is below 2.

    Example:

    ```python
    plots.path(model, start=[0, 0], end=[3, 3]).savefig("path.png")
    ```
    """
    start, end = np.asarray(start, dtype="float32"), np.asarray(end, dtype="float32")
    if start.ndim != 1 or start.shape != end.shape:
        raise ValueError(f"`start` and `end` have shapes {start.shape} and {end.shape}; both must be (d,).")
    if n < 2:
        raise ValueError(f"`n` is {n}; a path needs at least its 2 ends.")
    z = np.linspace(start, end, n)
    tiles = _drawing.displayable(decode_batches(model, z), value_range)
    strip = tiles.transpose(1, 0, 2, 3).reshape(tiles.shape[1], -1, tiles.shape[3])

    has_map = prior is not None and prior.latent_dim == 2
    figure = Figure(figsize=((2.4 if has_map else 0.0) + 1.0 * n, 2.6 if has_map else 1.7), layout="constrained")
    if has_map:
        left, ax = figure.subplots(1, 2, width_ratios=(2.2, n))
        _drawing.draw_path(_drawing.plain_axes(left), z, prior)
    else:
        ax = figure.add_subplot()
    _drawing.plain_axes(ax, title)
    _drawing.show(ax, strip, extent=(0, n, 0, tiles.shape[1] / tiles.shape[2]))
    ax.set(yticks=[], xticks=[0.5, n - 0.5], xticklabels=["A", "B"])
    ax.tick_params(length=0, labelsize=11)
    ax.spines[:].set_visible(False)
    return figure


def curves(history: Mapping[str, Sequence[float]]) -> Figure:
    """Draws error, reconstruction and KL-divergence over the epochs, of training and validation.

    Args:
        history: Lists with one value for each epoch, as in `fit(...).history`. Drawn where there: `error`,
            `reconstruction`, `kl_categorical` + `kl_gaussian`, each also with `val_` in front.

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw.

    Example:

    ```python
    plots.curves(model.fit(batches, validation_data=validation).history).savefig("curves.png")
    ```
    """
    panels = [
        ("Classification error", "%", ("error",)),
        ("Reconstruction", r"nats $\times\ \beta$ per image", ("reconstruction",)),
        ("KL-divergence", "nats per image", ("kl_categorical", "kl_gaussian")),
    ]
    drawn = []
    for title, unit, names in panels:
        lines = {}
        for line, prefix in (("training", ""), ("validation", "val_")):
            keys = [prefix + name for name in names]
            if all(len(history.get(key, ())) for key in keys):
                lines[line] = np.sum([history[key] for key in keys], axis=0)
        if lines:
            drawn.append((title, unit, lines))
    if not drawn:
        raise ValueError(
            f"`history` has the keys {sorted(history)}; a figure needs `error`, `reconstruction`, or "
            "`kl_categorical` with `kl_gaussian`, with or without `val_` in front."
        )
    figure = Figure(figsize=(3.8 * len(drawn), 3.2), layout="constrained")
    for ax, (title, unit, lines) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn, strict=True):
        _drawing.plain_axes(ax, title)
        ax.set(xlabel="epoch", ylabel=unit)
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        for line, values in lines.items():
            epochs = np.arange(1, len(values) + 1)
            colour = _drawing.PALETTE[line == "validation"]
            marker = "o" if len(values) == 1 else None
            ax.plot(epochs, values, color=colour, linewidth=1.8, label=line, marker=marker)
        if unit == "%" and min(values.min() for values in lines.values()) > 0:
            _drawing.log_scale(ax)
        ax.legend(frameon=False, labelcolor="linecolor", handlelength=1.2)
    return figure


def check_is_plane(model: keras.Model) -> None:
    """Raises a `ValueError` if the model says that its latent space is not two-dimensional."""
    latent_dim = getattr(model, "latent_dim", 2)
    if latent_dim != 2:
        raise ValueError(
            f"The model's `latent_dim` is {latent_dim}; an image grid needs a latent plane, `latent_dim` 2. For more "
            "dimensions draw a path between two points instead."
        )
