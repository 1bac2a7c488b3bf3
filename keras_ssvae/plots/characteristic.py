"""Figures of models whose labels have their own latent variables, the characteristics, such as REVAE."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number, is_integer
from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.capabilities import Intervenes
from keras_ssvae.pixels import trusted
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure


def interventions(
    model: keras.Model, images: ArrayLike, class_names: Sequence | None = None, seed: int | None = None
) -> Figure:
    """Draws images, their reconstructions, and the images with other labels: REVAE's Figures 3, 9 and 10.

    For a model with one label there is a column for each of its values. For a model with several labels there is a
    column for each label, in which the label has its last value ("on" for a binary label).

    Args:
        model: A `REVAE`, or another model with `intervene`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        class_names: Names of the values of the one label, or of the labels. Default: their numbers.
        seed: Seed of the draw of the characteristics. Default: their means, if the model has means.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no `intervene`, or an argument is not as described.

    Example:

    ```python
    plots.interventions(model, data.test_images[:5], data.class_names).savefig("interventions.png")
    ```

    Reference: REVAE, Figures 3, 9 and 10.
    """
    _require(model, "plots.interventions")
    sizes = model.labels.sizes
    pairs = [(i, size - 1) for i, size in enumerate(sizes)] if model.labels.several else [(0, k) for k in range(*sizes)]
    names = _drawing.names_of_classes(class_names, len(pairs))
    if len({*names}) < len(names):
        raise ValueError(f"`class_names` is {class_names!r}; each name must be different.")
    columns = {name: (*pair, seed) for name, pair in zip(names, pairs, strict=True)}
    return _beside(model, images, columns, "Image, reconstruction, and with each label")


def diversity(
    model: keras.Model, images: ArrayLike, label: int, value: int, n: int = 8, class_names: Sequence | None = None
) -> Figure:
    """Draws images, their reconstructions, and several versions of them with a given label: REVAE's Figure 6.

    Args:
        model: A `REVAE`, or another model with `intervene`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        label: The number of the label, counted from 0.
        value: The value of this label in the versions.
        n: Number of versions; their characteristics are drawn by the seeds 1 to n.
        class_names: Names for the title: of the values of the one label, or of the labels. Default: their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no `intervene`, or an argument is not as described.

    Reference: REVAE, Figure 6.
    """
    _require(model, "plots.diversity")
    check_whole_number("n", n, 1)
    (label,) = model.check_label_numbers("label", label)
    sizes = model.labels.sizes
    if not is_integer(value) or not 0 <= value < sizes[label]:
        raise ValueError(f"`value` is {value!r}; it must be an integer from 0 to {sizes[label] - 1}.")
    number = label if model.labels.several else value
    name = _drawing.names_of_classes(class_names, len(sizes) if model.labels.several else sizes[0])[number]
    columns = {str(seed): (label, value, seed) for seed in range(1, n + 1)}
    return _beside(model, images, columns, f"Image, reconstruction, and draws of {name}")


def _beside(model, images, columns, title):
    """Images, reconstructions, and a column for each name and `(label, value, seed)` of an intervention."""
    x = np.concatenate(list(image_batches(images)))
    with trusted():
        given = [model.reconstruct(x), *(model.intervene(x, *each) for each in columns.values())]
    rows = np.stack([x, *map(ops.convert_to_numpy, given)], axis=1)
    tiles = np.stack([_drawing.displayable(row, (-1.0, 1.0)) for row in rows])
    figure, ax = _drawing.figure_of(tiles, title)
    width = tiles.shape[3] + _drawing.GAP
    ticks = [width * i + tiles.shape[3] / 2 for i in range(tiles.shape[1])]
    ax.set_xticks(ticks, ["image", "reconstruction", *columns], rotation=45, ha="right", fontsize=8)
    _drawing.trim(figure)
    return figure


def swap(model: keras.Model, images: ArrayLike, donors: ArrayLike) -> Figure:
    """Gives images the characteristics of other images, the donors: REVAE's Figure 5.

    Args:
        model: A `REVAE`, or another model with `swap`.
        images: Images of the left column, which keep the rest of their z, shape (N, H, W, C): uint8, or floats in
            [-1, 1].
        donors: Images of the top row, which give their z_c, shape (M, H, W, C).

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no `swap`, or the images are not as described.

    Reference: REVAE, Figure 5.
    """
    _require(model, "plots.swap")
    return _drawing.table(model.swap, images, donors, "Images on the left with the characteristics of those on top")


def surface(
    model: keras.Model, image: ArrayLike, corners: Sequence[int], n: int = 8, class_names: Sequence | None = None
) -> Figure:
    """Draws an image with characteristics interpolated between those of four classes: REVAE's Figure 7, right.

    Args:
        model: A `REVAE` with one label.
        image: One image (H, W, C), which keeps the rest of its z: uint8, or floats in [-1, 1].
        corners: Four classes: upper left, upper right, lower left and lower right.
        n: Number of images along each side, at least 2.
        class_names: Names of all classes, for the title. Default: their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no prior of z_c for each class of one label, or an argument is not as described.

    Reference: REVAE, Figure 7.
    """
    _require(model, "plots.surface")
    if model.labels.several or not hasattr(model, "c_priors"):
        raise ValueError("`plots.surface` needs a model with one label and a prior of z_c, such as a `REVAE`.")
    classes = model.labels.check("corners", corners, 4)
    rows, columns = _shares(n)
    upper, lower = model.c_priors[0].now().means[classes].reshape(2, 2, -1)
    left, right = (_mixed(upper[i], lower[i], rows) for i in range(2))
    names = _drawing.names_of_classes(class_names, *model.labels.sizes)
    title = "From {} (upper left), {}, {} to {}".format(*(names[k] for k in classes))
    return _on_surface(model, [_mixed(left, right, columns), model.rest(_latent(model, image))], title)


def walk(
    model: keras.Model, image: ArrayLike, labels: Sequence[int], n: int = 8, class_names: Sequence | None = None
) -> Figure:
    """Draws an image while the characteristics of two labels change from their first to their last value.

    Args:
        model: A `REVAE` with several labels.
        image: One image (H, W, C), which keeps everything else: uint8, or floats in [-1, 1].
        labels: The numbers of two labels. The first changes from row to row, the second from column to column.
        n: Number of images along each side, at least 2.
        class_names: Names of all labels, for the title. Default: their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no prior of z_c for each of several labels, or an argument is not as described.

    Reference: REVAE, Figure 7.
    """
    _require(model, "plots.walk")
    if not model.labels.several or not hasattr(model, "c_priors"):
        raise ValueError("`plots.walk` needs a model with several labels and a prior of z_c, such as a `REVAE`.")
    numbers = model.check_label_numbers("labels", labels)
    if len(numbers) != 2:
        raise ValueError(f"`labels` has {len(numbers)} labels; it must have two.")
    z = _latent(model, image)
    blocks = list(model.split_c(z))
    for i, share in zip(numbers, _shares(n), strict=True):
        means = model.c_priors[i].now().means
        blocks[i] = _mixed(means[0], means[-1], share)
    names = _drawing.names_of_classes(class_names, len(model.labels.sizes))
    title = "From row to row {}, from column to column {}".format(*(names[i] for i in numbers))
    return _on_surface(model, [*blocks, model.rest(z)], title)


def _latent(model, image):
    """The z `(d,)` of one image."""
    x = np.concatenate(list(image_batches(_drawing.one_image("image", image))))
    with trusted():
        return ops.convert_to_numpy(model.encode(x))[0]


def _shares(n):
    """The shares, from 0 to 1, of the way down and of the way to the right, for n x n images, `(n, n, 1)` each."""
    share = np.linspace(0.0, 1.0, check_whole_number("n", n, 2))
    right, down = np.meshgrid(share, share)
    return down[..., None], right[..., None]


def _mixed(start, end, share):
    return (1 - share) * start + share * end


def _on_surface(model, blocks, title):
    """A figure of n x n decoded images. A block of z has shape `(n, n, d_i)`, or `(d_i,)` if all images share it."""
    shape = np.broadcast_shapes(*(each.shape[:-1] for each in blocks))
    z = np.concatenate([np.broadcast_to(each, (*shape, each.shape[-1])) for each in blocks], axis=-1)
    figure, _ = _drawing.figure_of(_drawing.decoded(model, z.astype("float32")), title)
    _drawing.trim(figure)
    return figure


def _require(model, function):
    if not isinstance(model, Intervenes):
        raise ValueError(
            f"`{function}` needs a model whose labels have latent variables of their own, such as `REVAE`, but "
            f"{type(model).__name__} has no `intervene` and `swap`."
        )
