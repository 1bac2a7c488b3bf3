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


def errors(errors: Mapping[str, Mapping[float, Sequence[float]]], x: str = "labels", title: str = "") -> Figure:
    """Draws classification errors against the number of labels, or against another number, with their spread.

    Args:
        errors: Name of a line -> number of labels -> the errors of its runs in percent.
        x: What the numbers are; the axis is logarithmic.
        title: The figure's title.

    Returns:
        The figure: means, and one standard deviation up and down where there are two runs or more.

    Raises:
        ValueError: If there is nothing to draw.

    Example:

    ```python
    plots.errors({"EXoN": {100: [3.2, 2.7], 1000: [2.0, 2.1]}, "classifier": {100: [15.1], 1000: [4.0]}})
    ```
    """
    if not errors or not all(line and all(map(len, line.values())) for line in errors.values()):
        raise ValueError(f"`errors` is {errors!r}; every line needs a number of labels, and at least one error there.")
    figure = Figure(figsize=(5.4, 3.8), layout="constrained")
    ax = _drawing.plain_axes(figure.add_subplot(), title)
    ticks = sorted({number for line in errors.values() for number in line})
    ax.set(xlabel=x, ylabel="error, %", xscale="log", xlim=(ticks[0] / 1.2, ticks[-1] * 1.2))
    ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
    lowest = np.inf
    for k, (name, line) in enumerate(errors.items()):
        numbers = sorted(line)
        means = np.array([np.mean(line[number]) for number in numbers])
        spread = np.array([np.std(line[number], ddof=1) if len(line[number]) > 1 else 0.0 for number in numbers])
        style = {"color": _drawing.colour(k), "linewidth": 1.8, "marker": "o", "markersize": 4, "capsize": 3}
        ax.errorbar(numbers, means, spread, label=name, **style)
        lowest = min(lowest, (means - spread).min())
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_locator(ticker.NullLocator())
    if lowest > 0:
        _drawing.log_scale(ax)
    ax.legend(frameon=False, labelcolor="linecolor", handlelength=1.2)
    return figure
