"""Figures of points in the latent space."""

from collections.abc import Sequence

import keras
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import sample_posterior
from keras_ssvae.models.capabilities import HasClassPrior
from keras_ssvae.models.labels import Labels
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure
from keras_ssvae.priors import GaussianMixture


def prior(prior: GaussianMixture, n: int = 3000, seed: int = 0, class_names: Sequence[str] | None = None) -> Figure:
    """Draws samples from p(z), coloured by class: EXoN's Figure 1.

    Args:
        prior: The prior. If it has more than two dimensions, its samples are shown on their two principal axes.
        n: Number of samples.
        seed: Seed of the samples.
        class_names: Names that are written at the medians of the classes; their numbers by default.

    Returns:
        The figure.

    Example:

    ```python
    plots.prior(priors.circle()).savefig("prior.png")
    ```

    Reference: EXoN, Figure 1.
    """
    z, labels = prior.sample(check_whole_number("n", n, 2), seed)
    return scatter(z, labels, prior=prior, class_names=class_names, title="Samples from the prior p(z)")


def latent(
    model: keras.Model,
    images: ArrayLike,
    labels: ArrayLike,
    seed: int = 0,
    class_names: Sequence[str] | None = None,
    batch_size: int = 500,
) -> Figure:
    """Draws one z ~ q(z | x) for each image, coloured by its label: the top row of EXoN's Figure 2.

    If the model has a prior with one component for each class (`class_prior`, as `EXoN` has), thin ellipses show its
    components at two standard deviations. In a latent plane the axes are then those of `prior(model.class_prior)`, and
    the figure says how many points lie outside.

    Args:
        model: A model with `posterior(x)` and `latents`, such as all models of this library; see `HasPosterior`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        labels: True classes, integers of shape (N,).
        seed: Seed of the samples.
        class_names: Names that are written at the medians of the classes; their numbers by default.
        batch_size: Number of images in a batch.

    Returns:
        The figure.

    Raises:
        ValueError: If the images or the labels are not as described.

    Example:

    ```python
    plots.latent(model, data.test_images, data.test_labels).savefig("latent.png")
    ```

    Reference: EXoN, Figure 2, top.
    """
    return scatter(
        sample_posterior(model, images, seed, batch_size),
        labels,
        prior=model.class_prior if isinstance(model, HasClassPrior) else None,
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
    """Draws latent variables, coloured by class, with the name of each class at its median.

    Args:
        z: Latent variables, shape (n, d), n and d at least 2. If d > 2, they are shown on their two principal axes.
        labels: Classes, integers of shape (n,).
        prior: A prior whose components are drawn as ellipses at two standard deviations. An ellipse that does not
            contain the median of its class gets the class's name in small letters. If d = 2, the prior also sets the
            limits of the axes, so that figures with the same prior can be compared.
        class_names: Names of the classes; their numbers by default.
        title: Title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If a shape or a label is wrong.

    Example:

    ```python
    plots.scatter(encoder.predict(images), labels).savefig("latent.png")
    ```
    """
    figure = Figure(figsize=(6.4, 6.4), layout="constrained")
    draw_scatter(figure.add_subplot(), z, labels, prior, class_names, title)
    return figure


def draw_scatter(
    ax: Axes,
    z: ArrayLike,
    labels: ArrayLike,
    prior: GaussianMixture | None,
    class_names: Sequence[str] | None,
    title: str,
) -> None:
    """Draws the figure of `scatter` into given axes."""
    z = np.asarray(z, dtype="float64")
    if z.ndim != 2 or min(z.shape) < 2:
        raise ValueError(f"`z` has shape {z.shape}; a scatter plot needs (points, dimensions), at least 2 of each.")
    if not np.isfinite(z).all():
        raise ValueError("`z` must hold finite numbers only, but it holds NaN or infinity: has training diverged?")
    if prior is not None and prior.latent_dim != z.shape[1]:
        raise ValueError(f"`z` has {z.shape[1]} dimensions, but the prior has {prior.latent_dim}; they must be equal.")
    named = max(Labels.seen_in(labels).width, len(class_names or ()))
    num_classes = named if prior is None else prior.num_classes
    labels = Labels(num_classes).check("labels", labels, len(z))
    names = _drawing.names_of_classes(class_names, num_classes)

    origin, axes, axis_names = _drawing.plane(z)
    points = (z - origin) @ axes
    _drawing.plain_axes(ax, title)
    ax.set(aspect="equal", xlabel=axis_names[0], ylabel=axis_names[1])
    # All points are drawn in one call, in random order, so that no class covers the others and small ones stay visible.
    order = np.random.default_rng(0).permutation(len(points))
    colours = np.array([_drawing.colour(k) for k in range(num_classes)])[labels]
    size = float(np.clip(24_000 / len(points), 3.0, 14.0))
    x, y = points[order].T
    ax.scatter(x, y, s=size, c=colours[order], alpha=0.6, linewidths=0, rasterized=True)
    medians = {k: np.median(points[labels == k], axis=0) for k in np.unique(labels)}
    if prior is not None:
        centres = (prior.means - origin) @ axes
        covariances = np.einsum("di,kd,dj->kij", axes, prior.variances, axes)
        for k in range(num_classes):
            ax.add_patch(_drawing.two_sigma_ellipse(centres[k], covariances[k], edgecolor=_drawing.colour(k)))
            if not _drawing.is_inside(medians.get(k), centres[k], covariances[k]):
                x, y = centres[k]
                ax.text(x, y, names[k], color="#999999", fontsize=9, ha="center", va="center", clip_on=True)
        if z.shape[1] == 2:
            _drawing.fix_limits(ax, centres, covariances, points)
    _drawing.label_points(ax, np.stack(list(medians.values())), [names[k] for k in medians])
