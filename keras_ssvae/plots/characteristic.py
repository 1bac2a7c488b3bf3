"""The figures of models whose labels have latent variables of their own, as REVAE's."""

from collections.abc import Sequence

import keras
import numpy as np
from keras import ops
from numpy.typing import ArrayLike

from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.capabilities import Intervenes
from keras_ssvae.pixels import trusted
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure


def interventions(
    model: keras.Model, images: ArrayLike, class_names: Sequence | None = None, seed: int | None = None
) -> Figure:
    """Each image, its reconstruction, and what it is with other labels: REVAE's Figures 3, 6, 9 and 10.

    Of a model with one label there is a column for each of its values; of one with several labels a column for each
    label, which has its last value there ("on" of a binary one).

    Args:
        model: A `REVAE`, or another model with `intervene`.
        images: Shape (N, H, W, C): uint8, or floats scaled to [-1, 1].
        class_names: Names of the values of the one label, or of the labels. Default: their numbers.
        seed: Of the draw of the characteristics. Default: their means, of a model that has them.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no `intervene`, or an argument is not as described.

    Example:

    ```python
    plots.interventions(model, data.test_images[:5], data.class_names).savefig("interventions.png")
    ```

    Reference: REVAE, Figures 3, 6, 9 and 10.
    """
    _require(model, "plots.interventions")
    x = np.concatenate(list(image_batches(images)))
    sizes = model.labels.sizes
    pairs = [(i, size - 1) for i, size in enumerate(sizes)] if model.labels.several else [(0, k) for k in range(*sizes)]
    names = [str(i if model.labels.several else value) for i, value in pairs] if class_names is None else class_names
    if len(names) != len(pairs):
        raise ValueError(f"`class_names` has {len(names)} names for {len(pairs)} columns; it must be one for each.")
    with trusted():
        columns = [model.reconstruct(x), *(model.intervene(x, label, value, seed) for label, value in pairs)]
    given = np.stack([x, *map(ops.convert_to_numpy, columns)], axis=1)
    tiles = np.stack([_drawing.displayable(row, (-1.0, 1.0)) for row in given])
    figure, ax = _drawing.figure_of(tiles, "Image, reconstruction, and with each label")
    width = tiles.shape[3] + _drawing.GAP
    ticks = [width * i + tiles.shape[3] / 2 for i in range(tiles.shape[1])]
    ax.set_xticks(ticks, ["image", "reconstruction", *names], rotation=45, ha="right", fontsize=8)
    _drawing.trim(figure)
    return figure


def swap(model: keras.Model, images: ArrayLike, donors: ArrayLike) -> Figure:
    """Gives images the characteristics of the labels of others: REVAE's Figure 5.

    Args:
        model: A `REVAE`, or another model with `swap`.
        images: The leftmost column, whose rest of z is kept, shape (N, H, W, C): uint8, or floats in [-1, 1].
        donors: The top row, whose z_c is taken, shape (M, H, W, C).

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
    """An image whose characteristics lie on the surface between four classes: REVAE's Figure 7, right.

    Args:
        model: A `REVAE` with one label.
        image: One image (H, W, C), whose rest of z is kept: uint8, or floats in [-1, 1].
        corners: Four classes: upper left, upper right, lower left and lower right.
        n: Images along each side, at least 2.
        class_names: Names of all classes, for the title. Default: their numbers.

    Returns:
        The figure.

    Raises:
        ValueError: If the model has no prior of z_c for each class of one label, or an argument is not as described.

    Reference: REVAE, Figure 7.
    """
    _require(model, "plots.surface")
    if model.labels.several or not hasattr(model, "c_priors"):
        raise ValueError("`plots.surface` needs a model with one label and a prior of z_c, as a `REVAE`.")
    classes = model.labels.check("corners", corners, 4)
    x = np.concatenate(list(image_batches(_drawing.one_image("image", image))))
    means = model.c_priors[0].now().means[classes].reshape(2, 2, -1)
    share = np.linspace(0.0, 1.0, n)
    rows = (1 - share)[:, None, None] * means[0] + share[:, None, None] * means[1]  # (n, 2, m_c)
    points = (1 - share)[None, :, None] * rows[:, :1] + share[None, :, None] * rows[:, 1:]
    with trusted():
        rest = ops.convert_to_numpy(model.rest(model.encode(x)))
    z = np.concatenate([points, np.broadcast_to(rest[0], (n, n, rest.shape[1]))], axis=-1)
    names = [str(k) if class_names is None else class_names[k] for k in classes]
    tiles = _drawing.decoded(model, z.astype("float32"))
    figure, _ = _drawing.figure_of(tiles, "From {} (upper left), {}, {} to {}".format(*names))
    _drawing.trim(figure)
    return figure


def _require(model, function):
    if not isinstance(model, Intervenes):
        raise ValueError(
            f"`{function}` needs a model whose labels have latent variables of their own, as `REVAE`, but "
            f"{type(model).__name__} has no `intervene` and `swap`."
        )
