"""Traversals at a fixed label, and figures of PartedVAE's latent space: transferred attributes, learned priors."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number, is_integer
from keras_ssvae.models.capabilities import HasClassCentres, HasLabelPriors, HasNormalParts, Transfers
from keras_ssvae.models.labels import Labels
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure

_DEVIATIONS = tuple(np.linspace(-2.0, 2.0, 9).tolist())


def traversals(
    model: keras.Model,
    labels: Sequence[int] | None,
    part: str = "z",
    variable: int = 0,
    deviations: Sequence[float] = _DEVIATIONS,
    class_names: Sequence[str] | None = None,
    columns: int | None = None,
) -> Figure:
    """Draws decoded images along each latent coordinate at a fixed label.

    It reproduces PartedVAE's Figures 4 and 9, and N-VAE's Figures 1, 2, 6 and 7. Each panel is a class. In each of its
    rows one coordinate takes the given values, in standard deviations from the mean of its prior. All other coordinates
    stay at the means of their priors, given the class.

    Args:
        model: A `PartedVAE`; or a model with `normal_parts` and the centres of its classes (`HasClassCentres`), such as
            `NVAE`, `CVAE`, `M2`, and `REVAE` with one label; or a model without labels, such as `BetaVAE`.
        labels: The classes to draw; for `PartedVAE` values of the label c_i. None for a model without labels, which has
            one panel with all other coordinates at 0.
        part: One of `normal_parts`, for example `"z_c"` of `NVAE`, the coordinates of the class, or `"z_s"`;
            `"z_rest"` of `REVAE`. For `PartedVAE` `"z"`, the class-independent coordinates, or `"u"`, those of u_i.
        variable: For a `PartedVAE` with several labels: the number i. The other labels have their value 0.
        deviations: Values of the coordinate, in standard deviations; at least 2.
        class_names: Names of the values of c_i. Default: their numbers.
        columns: Number of panels in a row. Default: all in one row.

    Returns:
        The figure. Coordinates count from 0.

    Raises:
        ValueError: If the model has no suitable prior, or a class, label or part does not exist.

    Example:

    ```python
    plots.traversals(model, labels=[4, 7, 8], part="u").savefig("traversals.png")
    ```

    Reference: PartedVAE, Figures 4 and 9.
    """
    values = np.asarray(deviations)
    if values.ndim != 1 or len(values) < 2 or values.dtype.kind not in "iuf" or not np.isfinite(values).all():
        raise ValueError(f"`deviations` is {deviations!r}; it must be at least 2 finite numbers.")
    if labels is None:
        places = _of_origin(model, part)
        titles = [""]
    elif isinstance(model, HasNormalParts) and not isinstance(model, HasLabelPriors | HasClassCentres):
        raise ValueError(f"`labels` is {labels!r}, but {type(model).__name__} has no classes; it must be None.")
    else:
        points_of = _of_priors if isinstance(model, HasLabelPriors) or not _has_centres(model) else _of_centres
        classes, places, num_classes = points_of(model, labels, part, variable)
        names = _drawing.names_of_classes(class_names, num_classes)
        titles = [names[k] for k in classes]
    points = []
    for mean, deviation, coordinates in places:
        point = np.tile(mean, (len(coordinates), len(deviations), 1))
        for row, j in enumerate(coordinates):
            point[row, :, j] += deviation[j] * np.asarray(deviations)
        points.append(point)
    tiles = _drawing.decoded(model, np.stack(points))
    coordinates = places[0][2]
    across = len(titles) if columns is None else min(check_whole_number("columns", columns, 1), len(titles))
    down = -(-len(titles) // across)
    width = max(0.35 * len(deviations) * across, 4.0)
    figure = Figure(figsize=(width, (0.36 * len(coordinates) + 0.55) * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for ax in panels[len(titles) :]:
        ax.set_axis_off()
    for ax, title, of_class in zip(panels, titles, tiles, strict=False):
        steps, rows = _drawing.mosaic(_drawing.plain_axes(ax, title), of_class)
        ax.set(xticks=steps[[0, -1]], xticklabels=[f"{value:+g}" for value in (deviations[0], deviations[-1])])
        ax.set(yticks=rows, yticklabels=[_coordinate(part, j) for j in range(len(coordinates))])
    _drawing.trim(figure)
    return figure


def _coordinate(part, j):
    """The name of a coordinate: that of coordinate 0 of `z_c` is `z` with the index `c,0`."""
    stem, _, index = part.partition("_")
    return f"${stem}_{{{index + ',' if index else ''}{j}}}$"


def _has_centres(model):
    return isinstance(model, HasClassCentres) and bool(model.normal_parts)


def _of_priors(model, labels, part, variable):
    """The classes; for each the means and standard deviations of its prior, and the coordinates of a part; and K."""
    if part not in ("z", "u"):
        raise ValueError(f'`part` is {part!r}; it must be "z" or "u".')
    prior, start = _u_prior(model, variable, "plots.traversals")
    classes = Labels(prior.num_classes).check("labels", labels)
    coordinates = range(model.z_dim) if part == "z" else range(start, start + prior.latent_dim)
    return classes, [(*_centre(model, variable, k), coordinates) for k in classes], prior.num_classes


def _of_centres(model, labels, part, variable):
    """As `_of_priors`, for a part whose prior is the standard normal."""
    if part not in model.normal_parts:
        raise ValueError(
            f"`part` is {part!r}; for this {type(model).__name__} it must be one of {list(model.normal_parts)}."
        )
    if model.labels.several:
        raise ValueError(f"`model` has the labels {model.num_classes}; here it must have one. Draw `interventions`.")
    classes = model.labels.check("labels", labels)
    centres = ops.convert_to_numpy(model.sample_latent(ops.convert_to_tensor(classes, "int32"), 0, scale=0.0))
    places = [model.coordinates(part, int(k)) for k in classes]
    of_classes = [(centre, np.ones_like(centre), each) for centre, each in zip(centres, places, strict=True)]
    return classes, of_classes, model.num_classes


def _of_origin(model, part):
    """As `_of_priors`, for the one panel of a model without labels."""
    if isinstance(model, HasLabelPriors) or _has_centres(model):
        raise ValueError(f"`labels` is None, but {type(model).__name__} has classes. Give the classes to draw.")
    parts = model.normal_parts if isinstance(model, HasNormalParts) else ()
    if not parts:
        raise ValueError(
            f"`plots.traversals` draws latent variables whose prior is the standard normal, and this "
            f"{type(model).__name__} has none. Draw images of `generate` with `plots.images`."
        )
    if part not in parts:
        raise ValueError(f"`part` is {part!r}; it must be one whose prior is the standard normal, of {list(parts)}.")
    names = list(model.latents)
    start = sum(model.latents[name] for name in names[: names.index(part)])
    zeros = np.zeros(sum(model.latents.values()), "float32")
    return [(zeros, np.ones_like(zeros), range(start, start + model.latents[part]))]


def transfer(model: keras.Model, images: ArrayLike, attributes: ArrayLike) -> Figure:
    """Draws images with the class-independent attributes of others: PartedVAE's Figure 5.

    Args:
        model: A `PartedVAE`.
        images: The leftmost column, which keep their c and u, shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        attributes: The top row, which give their z, shape (M, H, W, C).

    Returns:
        The figure, with N rows and M columns of results.

    Raises:
        ValueError: If the model has no `transfer`, or the images are not as described.

    Example:

    ```python
    plots.transfer(model, data.test_images[:8], data.test_images[8:16]).savefig("transfer.png")
    ```

    Reference: PartedVAE, Figure 5.
    """
    if not isinstance(model, Transfers):
        raise ValueError(
            f"`plots.transfer` needs a model with a method `transfer`, as `PartedVAE`, but {type(model).__name__} has "
            "none. `plots.image_interpolation` draws what lies between two images for any model."
        )
    return _drawing.table(model.transfer, images, attributes, "Images on the left with the attributes of those on top")


def learned_prior(
    model: keras.Model, variable: int = 0, coordinate: int = 0, n: int = 11, class_names: Sequence[str] | None = None
) -> Figure:
    """Draws the learned prior `p(u_i | c_i)` along one coordinate, with images below: PartedVAE's Figure 7.

    The densities are weighted with `p(c_i)`. Each image stands below its value of the coordinate of u_i. Its other
    coordinates are at the mean of the component with the highest density at this value.

    Args:
        model: A `PartedVAE`.
        variable: Number i of the label. Other labels have their value 0.
        coordinate: Number of the coordinate of u_i, from 0.
        n: Number of images, at least 2.
        class_names: Names of the values of c_i. Default: their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no learned prior for each label, a label or coordinate does not exist, or `n` is
            below 2.

    Example:

    ```python
    plots.learned_prior(model).savefig("learned_prior.png")
    ```

    Reference: PartedVAE, Figure 7.
    """
    prior, start = _u_prior(model, variable, "plots.learned_prior")
    n = check_whole_number("n", n, 2)
    if not is_integer(coordinate) or not 0 <= coordinate < prior.latent_dim:
        raise ValueError(
            f"`coordinate` is {coordinate!r}; with {prior.latent_dim} coordinates it must be an integer, 0 to "
            f"{prior.latent_dim - 1}."
        )
    means, deviations = prior.means[:, coordinate], np.sqrt(prior.variances[:, coordinate])
    low, high = (means - 2.5 * deviations).min(), (means + 2.5 * deviations).max()

    def densities(u):
        exponents = -0.5 * ((u[:, None] - means) / deviations) ** 2
        return model.class_priors[variable] * np.exp(exponents) / (deviations * np.sqrt(2 * np.pi))

    # Each value is at the centre of its image.
    values = low + (np.arange(n) + 0.5) * (high - low) / n
    points = np.stack([_centre(model, variable, k)[0] for k in densities(values).argmax(axis=1)])
    points[:, start + coordinate] = values
    tiles = _drawing.decoded(model, points[None])
    figure = Figure(figsize=(0.75 * n + 0.8, 3.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(2.4, 1))
    title = f"$p(c)\\,p(u_{{{coordinate}}}\\,|\\,c)$, and images along it"
    axis, names = np.linspace(low, high, 400), _drawing.names_of_classes(class_names, prior.num_classes)
    for k, density in enumerate(densities(axis).T):
        top.plot(axis, density, color=_drawing.colour(k), linewidth=1.4)
        peak = density.argmax()
        _drawing.label_point(top, (axis[peak], density[peak]), names[k])
    _drawing.plain_axes(top, title).set(xlim=(low, high), ylim=(0, None), yticks=[])
    _drawing.plain_axes(bottom)
    _drawing.show(bottom, np.concatenate(list(tiles[0]), axis=1), extent=(0, n, 0, 1))
    bottom.set(xticks=[], yticks=[], aspect="auto")
    bottom.spines[:].set_visible(False)
    return figure


def _u_prior(model, variable, function):
    """The current prior of u_i, and the index at which u_i begins among the latent variables."""
    if not isinstance(model, HasLabelPriors):
        raise ValueError(
            f"`{function}` needs a model with a learned prior for each label, as `PartedVAE`'s, but "
            f"{type(model).__name__} has no `u_priors`. `plots.axis_sweep` changes single coordinates of any model."
        )
    if not is_integer(variable) or not 0 <= variable < len(model.u_priors):
        raise ValueError(
            f"`variable` is {variable!r}; the model has {len(model.u_priors)} labels, numbered by integers from 0."
        )
    return model.u_priors[variable].now(), model.z_dim + sum(prior.latent_dim for prior in model.u_priors[:variable])


def _centre(model, variable, k):
    """Means and standard deviations (d,) of the prior of all latent variables at c_i = k."""
    priors = [prior.now() for prior in model.u_priors]
    rows = [k if i == variable else 0 for i in range(len(priors))]
    means = [np.zeros(model.z_dim), *(prior.means[row] for prior, row in zip(priors, rows, strict=True))]
    variances = [np.ones(model.z_dim), *(prior.variances[row] for prior, row in zip(priors, rows, strict=True))]
    return np.concatenate(means), np.sqrt(np.concatenate(variances))
