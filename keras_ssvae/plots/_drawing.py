"""Pieces that the figures of `keras_ssvae.plots` share."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike

from keras_ssvae.evaluation.inputs import image_batches
from keras_ssvae.models.batched import decode_batches
from keras_ssvae.models.capabilities import Decodes
from keras_ssvae.pixels import trusted
from keras_ssvae.plots._figure import Figure
from keras_ssvae.priors import GaussianMixture

# Petroff's ten colours for colour-blind readers (arXiv:2107.02270), ordered so that neighbouring classes differ most.
PALETTE = (
    "#3f90da", "#e76300", "#717581", "#ffa90e", "#832db6",
    "#92dadd", "#bd1f01", "#94a4a2", "#a96b59", "#b9ac70",
)  # fmt: skip
INK = "#333333"


def colour(k: int) -> str:
    return PALETTE[k % len(PALETTE)]


def names_of_classes(class_names: Sequence | None, num_classes: int) -> list:
    """The given names of the classes, or their numbers. Raises ValueError if they are more or fewer."""
    if class_names is None:
        return [str(k) for k in range(num_classes)]
    if len(class_names) != num_classes:
        raise ValueError(f"`class_names` has {len(class_names)} names; it must have {num_classes}.")
    return list(class_names)


def plain_axes(ax: Axes, title: str = "") -> Axes:
    ax.set_title(title, loc="left", fontsize=11, color=INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#999999")
    ax.tick_params(colors=INK, labelsize=9)
    ax.xaxis.label.set_color(INK)
    ax.yaxis.label.set_color(INK)
    return ax


def plane(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Origin (d,), axes (d, 2) and axis names of the drawn plane: the latent plane, or the principal axes if d > 2."""
    if z.shape[1] == 2:
        return np.zeros(2), np.eye(2), ("$z_1$", "$z_2$")
    origin = z.mean(axis=0)
    _, singular_values, directions = np.linalg.svd(z - origin, full_matrices=False)
    share = 100 * singular_values**2 / max((singular_values**2).sum(), np.finfo(float).tiny)
    first, second = (f"principal axis {i + 1} of {z.shape[1]} ({share[i]:.0f} % of the variance)" for i in range(2))
    return origin, directions[:2].T, (first, second)


def two_sigma_ellipse(centre: np.ndarray, covariance: np.ndarray, **style) -> Ellipse:
    variances, directions = np.linalg.eigh(covariance)
    angle = np.degrees(np.arctan2(directions[1, 0], directions[0, 0]))
    width, height = 2 * 2 * np.sqrt(variances)
    return Ellipse((centre[0], centre[1]), width, height, angle=angle, fill=False, linewidth=0.9, **style)


def is_inside(point: np.ndarray | None, centre: np.ndarray, covariance: np.ndarray) -> bool:
    """Whether a point lies within the two-sigma ellipse; False without a point."""
    if point is None:
        return False
    offset = point - centre
    return bool(offset @ np.linalg.solve(covariance, offset) < 4)


def fix_limits(ax: Axes, centres: np.ndarray, covariances: np.ndarray, points: np.ndarray) -> None:
    """Shows a square with four standard deviations around all centres, and writes how many points lie outside."""
    reach = 4 * np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))
    low, high = (centres - reach).min(axis=0), (centres + reach).max(axis=0)
    middle, half = (low + high) / 2, (high - low).max() / 2
    ax.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    outside = int((np.abs(points - middle) > half).any(axis=1).sum())
    if outside:
        note = f"{outside:,} of {len(points):,} points lie outside"
        ax.text(0.99, 0.01, note, transform=ax.transAxes, ha="right", va="bottom", fontsize=8.5, color=INK)


def label_points(ax: Axes, points: np.ndarray, names: Sequence[str]) -> None:
    """Labels points. Names that would cover each other are moved apart, up and down."""
    box = ax.get_window_extent()  # before the layout, so that sizes are estimates
    unit = ax.figure.dpi / 72 * np.ptp([ax.get_xlim(), ax.get_ylim()], axis=1).max() / min(box.width, box.height)
    sizes = np.array([_label_size(name) for name in names])
    half = 0.5 * unit * sizes * np.array([0.65 * len(name) for name in names])
    height, points = 1.2 * unit * sizes, np.array(points, dtype="float64")
    for _ in range(100):
        moved = False
        for i, j in itertools.combinations(np.argsort(points[:, 1], kind="stable"), 2):
            missing = (height[i] + height[j]) / 2 - (points[j, 1] - points[i, 1])
            if missing > 1e-3 * unit and abs(points[i, 0] - points[j, 0]) < half[i] + half[j]:
                points[[i, j], 1] += np.array([-0.5, 0.5]) * missing
                moved = True
        if not moved:
            break
    for point, name in zip(points, names, strict=True):
        label_point(ax, point, name)


def _label_size(name):
    return 15 if len(name) < 3 else 10


def label_point(ax: Axes, point: Sequence[float] | np.ndarray, name: str) -> None:
    x, y = point
    ax.text(
        x, y, name, color=INK, fontsize=_label_size(name), fontweight="bold", ha="center", va="center",
        clip_on=True, path_effects=[withStroke(linewidth=3, foreground="white")],
    )  # fmt: skip


def draw_path(ax: Axes, z: np.ndarray, prior: GaussianMixture) -> None:
    for k in range(prior.num_classes):
        ax.add_patch(two_sigma_ellipse(prior.means[k], np.diag(prior.variances[k]), edgecolor=colour(k)))
        if (np.abs(z - prior.means[k]) > np.sqrt(prior.variances[k])).any(axis=1).all():  # away from the path
            ax.text(prior.means[k, 0], prior.means[k, 1], str(k), color=INK, fontsize=8, ha="center", va="center")
    ax.plot(*z.T, color=INK, linewidth=0.8, marker="o", markersize=2)
    for name, point, before in (("A", z[0], z[1]), ("B", z[-1], z[-2])):
        step = (point - before) / max(np.linalg.norm(point - before), 1e-6)
        ax.annotate(
            name, point, xytext=7 * step, textcoords="offset points", fontsize=9, fontweight="bold", color=INK,
            ha="center", va="center",
        )  # fmt: skip
    ax.autoscale_view()
    ax.set(aspect="equal", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def displayable(images: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            f"The decoded images have shape {images.shape}; to be shown they must be (n, height, width, 1 or 3)."
        )
    low, high = value_range
    if not low < high:
        raise ValueError(f"`value_range` is {value_range}; its first number must be below its second.")
    return np.clip((images - low) / (high - low), 0.0, 1.0)


def decoded(model: Decodes, z: np.ndarray, value_range: tuple[float, float] = (-1.0, 1.0)) -> np.ndarray:
    """Decodes latent points (..., d) to displayable images (..., H, W, C)."""
    images = displayable(decode_batches(model, z.reshape(-1, z.shape[-1])), value_range)
    return images.reshape(*z.shape[:-1], *images.shape[1:])


def show(ax: Axes, image: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    ax.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=1, extent=extent)


GAP = 2  # pixels between the tiles of a mosaic


def mosaic(ax: Axes, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws displayable tiles (rows, columns, H, W, channels) with gaps; returns the centres of columns and of rows.

    One unit of the axes is one pixel. The first row is on top, and the upper left corner is at (0, 0).
    """
    rows, columns, height, width, channels = tiles.shape
    sheet = np.ones((rows, height + GAP, columns, width + GAP, channels), "float32")
    sheet[:, :height, :, :width] = tiles.transpose(0, 2, 1, 3, 4)
    sheet = sheet.reshape(rows * (height + GAP), columns * (width + GAP), channels)[:-GAP, :-GAP]
    show(ax, sheet, extent=(0, sheet.shape[1], sheet.shape[0], 0))
    ax.set(xticks=[], yticks=[], anchor="NW")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return np.arange(columns) * (width + GAP) + width / 2, np.arange(rows) * (height + GAP) + height / 2


def trim(figure: Figure) -> None:
    """Cuts off the empty space at the bottom of a figure, below a mosaic, which keeps its proportions."""
    figure.draw_without_rendering()
    figure.set_figheight(figure.get_figheight() - figure.get_tightbbox().y0 + 0.1)


def outline(ax: Axes, column: int, row: int, tiles: np.ndarray) -> None:
    """Draws a frame around a tile of a mosaic."""
    height, width = tiles.shape[2:4]
    corner = column * (width + GAP) - GAP / 2, row * (height + GAP) - GAP / 2
    frame = Rectangle(corner, width + GAP, height + GAP, fill=False, edgecolor=PALETTE[1], linewidth=1.8, clip_on=False)
    ax.add_patch(frame)


def table(combine: Callable[..., Any], left: ArrayLike, top: ArrayLike, title: str) -> Figure:
    """Draws a table of `combine(images, others)` for each image of the left column and each of the top row."""
    left, top = (np.concatenate(list(image_batches(each))) for each in (left, top))
    rows = [np.concatenate([np.ones_like(top[:1]), top])]
    for x in left[:, None]:
        with trusted():
            given = combine(np.repeat(x, len(top), axis=0), top)
        rows.append(np.concatenate([x, ops.convert_to_numpy(given)]))
    tiles = np.stack([displayable(row, (-1.0, 1.0)) for row in rows])
    figure, ax = figure_of(tiles, title)
    for column, row in [(i + 1, 0) for i in range(len(top))] + [(0, i + 1) for i in range(len(left))]:
        outline(ax, column, row, tiles)
    trim(figure)
    return figure


def figure_of(tiles: np.ndarray, title: str) -> tuple[Figure, Axes]:
    """Returns a figure of a single mosaic, not yet trimmed, and its axes."""
    figure = Figure(figsize=(max(0.7 * tiles.shape[1], 5.0), 0.7 * tiles.shape[0] + 0.4), layout="constrained")
    ax = plain_axes(figure.add_subplot(), title)
    mosaic(ax, tiles)
    return figure, ax


def in_rows(tiles: np.ndarray, columns: int) -> np.ndarray:
    """Arranges tiles (n, H, W, channels) in rows, and fills the last row with white."""
    columns = min(columns, len(tiles))
    missing = -len(tiles) % columns
    filled = np.concatenate([tiles, np.ones((missing, *tiles.shape[1:]), tiles.dtype)])
    return filled.reshape(-1, columns, *tiles.shape[1:])


def one_image(name: str, given: ArrayLike) -> np.ndarray:
    """Returns one image, given as (H, W, C) or as a batch of one, as a batch of one."""
    image = np.asarray(given)
    batch = image[None] if image.ndim == 3 else image
    if batch.ndim != 4 or len(batch) != 1:
        raise ValueError(f"`{name}` has shape {image.shape}; it must be one image, (height, width, channels).")
    return batch


def log_scale(ax: Axes) -> None:
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    ax.yaxis.set_minor_locator(ticker.NullLocator())
