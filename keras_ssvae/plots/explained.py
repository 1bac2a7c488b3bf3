"""The figure that explains what a model sees in one image."""

import textwrap
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import ArrayLike

from keras_ssvae.checks import check_whole_number
from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.explanation import SPAN, Explanation
from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure

_MOST_BARS = 10
_COLOURS = "RdBu_r"
_LINE = 92  # characters that the figure is wide


def explanation(
    image: ArrayLike,
    explanation: Explanation,
    class_names: Sequence[str] | None = None,
    value_range: tuple[float, float] = (-1.0, 1.0),
    max_rows: int = 8,
) -> Figure:
    """Draws the explanation of one image by a model.

    The upper part shows the image, its reconstruction, the class probabilities and the image's position in the latent
    space. The lower part has a row for each active coordinate, with three decoded images: the coordinate is two prior
    standard deviations below the component's centre, has the image's own value, and is two above the centre. A fourth
    column shows the change of the pixels from the low to the high value; in colour images that of the channel with the
    largest change.

    Args:
        image: The image, shape (H, W, C): uint8, or floats scaled to [-1, 1].
        explanation: The explanation of this image by `model.explain`.
        class_names: Names of the K classes; their numbers by default.
        value_range: The pixel values of decoded images that are shown as black and as white.
        max_rows: Largest number of coordinates that are drawn: those with the highest V-nat.

    Returns:
        The figure. Coordinates count from 0.

    Raises:
        ValueError: If the image does not have the shape of its reconstruction, there are not K names, or `max_rows` is
            below 1.

    Example:

    ```python
    (explained,) = model.explain(data.scale(images[:1]))
    plots.explanation(images[0], explained, class_names=data.class_names).savefig("explained.png")
    ```
    """
    batch = _drawing.one_image("image", image)
    if batch.shape[1:] != explanation.reconstruction.shape:
        raise ValueError(
            f"`image` has shape {batch.shape[1:]} and its reconstruction {explanation.reconstruction.shape}; they must "
            "be equal. Give the image that was explained."
        )
    names = _drawing.names_of_classes(class_names, len(explanation.probs))
    max_rows = check_whole_number("max_rows", max_rows, 1)

    rows = min(len(explanation.active), max_rows)
    heights = (2.8, 1.0 * rows + 1.0) if rows else (2.8, 0.4)
    figure = Figure(figsize=(7.6, sum(heights)), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, text in ((top, explanation.sentence(names)), (bottom, _heading(explanation, rows))):
        part.suptitle(textwrap.fill(text, _LINE), x=0.008, ha="left", fontsize=11, color=_drawing.INK)
    left, middle, right = top.subplots(1, 3, width_ratios=(1, 1, 1.5))
    (original,) = _drawing.displayable(next(image_batches(batch)), (-1.0, 1.0))
    (reconstruction,) = _drawing.displayable(explanation.reconstruction[None], value_range)
    for ax, title, shown in ((left, "the image", original), (middle, "its reconstruction", reconstruction)):
        _drawing.mosaic(_drawing.plain_axes(ax, title), shown[None, None])
    _draw_probabilities(_drawing.plain_axes(right, "class probabilities"), explanation.probs, names)
    if rows:
        _draw_coordinates(bottom.subplots(), explanation, reconstruction, rows, value_range)
    return figure


def _heading(explanation, rows):
    count = len(explanation.active)
    activity = f"{count} of {len(explanation.z)} coordinates active (V-nat above {explanation.delta:g})"
    if rows == 0:
        return activity
    shown = f" The {rows} of the highest V-nat" if rows < count else " Each"
    return f"{activity}.{shown} at {-SPAN:g} and {SPAN:+g} prior standard deviations from the centre:"


def _draw_probabilities(ax: Axes, probs: np.ndarray, names: list[str]) -> None:
    """Draws the probabilities of all classes in order, or of the most probable ones if there are many."""
    few = len(probs) <= _MOST_BARS
    shown = np.arange(len(probs)) if few else np.argsort(-probs, kind="stable")[:_MOST_BARS]
    places = np.arange(len(shown))
    colours = [_drawing.PALETTE[0 if k == probs.argmax() else 2] for k in shown]
    ax.barh(places, probs[shown], color=colours, height=0.7)
    for place, k in enumerate(shown):
        ax.text(probs[k] + 0.02, place, f"{100 * probs[k]:.1f} %", va="center", fontsize=8, color=_drawing.INK)
    ax.set(
        yticks=places, yticklabels=[names[k] for k in shown], xticks=[], xlim=(0, 1.25), ylim=(len(shown) - 0.4, -0.6)
    )
    ax.tick_params(length=0, labelsize=8)
    ax.spines["bottom"].set_visible(False)


def _draw_coordinates(ax: Axes, explanation, reconstruction, rows, value_range) -> None:
    changes = (explanation.high - explanation.low)[:rows]
    largest = np.abs(changes).argmax(axis=-1)[..., None]
    changes = np.take_along_axis(changes, largest, axis=-1)[..., 0]
    most = max(float(np.abs(changes).max()), 1e-6)
    scale = ScalarMappable(Normalize(-most, most), _COLOURS)
    decoded = [_drawing.displayable(images[:rows], value_range) for images in (explanation.low, explanation.high)]
    own = np.broadcast_to(reconstruction, decoded[0].shape)
    columns = [np.broadcast_to(images, (*images.shape[:-1], 3)) for images in (decoded[0], own, decoded[1])]
    colours = np.asarray(matplotlib.colormaps[_COLOURS](scale.norm(changes)))[..., :3]
    tiles = np.stack([*columns, colours], axis=1)
    centres, middles = _drawing.mosaic(_drawing.plain_axes(ax), tiles)
    labels = [
        f"coordinate {j}\nV-nat {explanation.v_nat[j]:.1f}\nown {explanation.offsets[j]:+.1f}"
        for j in explanation.active[:rows]
    ]
    headings = [f"{-SPAN:+g}", "the image's own", f"{SPAN:+g}", "change"]
    ax.set(xticks=centres, xticklabels=headings, yticks=middles, yticklabels=labels)
    ax.xaxis.tick_top()
    bar = ax.figure.colorbar(scale, ax=ax, shrink=0.8, aspect=12 * rows)
    bar.set_label("change of pixels", fontsize=9, color=_drawing.INK)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=9, colors=_drawing.INK)
