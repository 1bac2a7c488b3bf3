"""Figures of a training run."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker
from matplotlib.figure import Figure

from keras_ssvae.plots import _drawing


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
