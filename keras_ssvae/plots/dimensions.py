"""Draws how much each latent variable tells about an image."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure


def kl_per_dimension(kl: Mapping[str, ArrayLike], class_names: Sequence[str] | None = None) -> Figure:
    """Draws the result of `evaluation.kl_per_dimension`, as N-VAE's Figures 5 and 10.

    Without classes each variable has a bar. With classes the panel is a table in shades: classes by variables.

    Args:
        kl: Part of the latent variables -> mean divergences of its d variables, `(d,)`, or `(K, d)` for K classes.
        class_names: Names of the classes. Default: their numbers.

    Returns:
        The figure, with a panel for each part. Variables count from 0.

    Raises:
        ValueError: If there is no part, or a part has another shape.

    Example:

    ```python
    kl = evaluation.kl_per_dimension(model, data.test_images, data.test_labels)
    plots.kl_per_dimension(kl, class_names=data.class_names).savefig("kl.png")
    ```

    Reference: N-VAE, Figures 5 and 10.
    """
    parts = {part: np.asarray(values, "float64") for part, values in kl.items()}
    if not parts or any(values.ndim not in (1, 2) or not values.size for values in parts.values()):
        shapes = {part: values.shape for part, values in parts.items()}
        raise ValueError(f"`kl` has the shapes {shapes}; it must be (d,) or (K, d) of at least one part.")
    widths = [max(values.shape[-1], 3) for values in parts.values()]
    figure = Figure(figsize=(0.35 * sum(widths) + 2.0 * len(parts), 3.4), layout="constrained")
    bars = all(values.ndim == 1 for values in parts.values())
    panels = figure.subplots(1, len(parts), squeeze=False, width_ratios=widths, sharey=bars)[0]
    highest = max(values.max() for values in parts.values())  # shades mean the same in all panels
    for ax, (part, values) in zip(panels, parts.items(), strict=True):
        _drawing.plain_axes(ax, part)
        ax.set(xlabel="variable", xticks=range(values.shape[-1]))
        if values.ndim == 1:
            ax.bar(range(len(values)), values, color=_drawing.colour(0))
            ax.set(ylabel="KL-divergence (nats)", xlim=(-0.7, max(len(values), 3) - 0.3))
            continue
        shown = ax.imshow(values, vmin=0.0, vmax=highest, aspect="auto")
        names = _drawing.names_of_classes(class_names, len(values))
        ax.set(yticks=range(len(values)), yticklabels=names, ylabel="class")
        figure.colorbar(shown, ax=ax, label="KL-divergence (nats)")
    return figure
