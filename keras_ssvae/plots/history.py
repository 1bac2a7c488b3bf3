"""The curves of a training run."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import ticker

from keras_ssvae.plots import _drawing
from keras_ssvae.plots._figure import Figure

_SETS = {"training": "", "validation": "val_"}  # the set that a line shows -> the prefix of its terms


def curves(
    history: Mapping[str, Sequence[float]],
    panels: Mapping[str, Sequence[str]] | None = None,
    units: Mapping[str, str] | None = None,
) -> Figure:
    """Draws the terms of a model over the epochs, for training and validation.

    Args:
        history: Name of a term -> its values, one for each epoch, as in `fit(...).history`. The names of validation
            terms begin with `val_`.
        panels: Title of a panel -> the names of the terms that it draws, one line each. By default there are panels for
            those of the following that the history has: the classification error (`error`), or without it the loss
            (`loss`); the reconstruction (`reconstruction`); the KL-divergences (`kl`, and all names that begin with
            `kl_`).
        units: Name of a term -> its unit, for the axis. By default `error` is in %, KL-divergences are in nats per
            image, and the axis of all others says "per image".

    Returns:
        The figure.

    Raises:
        ValueError: If there is nothing to draw, or a panel names a term that the history does not have.

    Example:

    ```python
    history = model.fit(batches, validation_data=validation).history
    plots.curves(history).savefig("curves.png")
    plots.curves(history, panels={"Reconstruction": ["reconstruction"]}, units={"reconstruction": "nats per image"})
    ```
    """
    drawn = _default_panels(history) if panels is None else {title: list(names) for title, names in panels.items()}
    known = _terms(history)
    missing = sorted({name for names in drawn.values() for name in names} - set(known))
    if missing:
        raise ValueError(f"`panels` name the terms {missing}; `history` has {known}, with or without `val_` in front.")
    if not drawn or not all(drawn.values()):
        raise ValueError(
            f"`history` has the keys {sorted(history)}; a figure needs `error`, `loss`, `reconstruction` or a term "
            "`kl_...`, with or without `val_` in front, or `panels` that name other terms."
        )
    figure = Figure(figsize=(3.8 * len(drawn), 3.2), layout="constrained")
    for ax, (title, names) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        _drawing.plain_axes(ax, title)
        found = {_unit(name, units or {}) for name in names}
        ax.set(xlabel="epoch", ylabel=", ".join(sorted(found)))
        ax.grid(axis="y", color="#e6e6e6", linewidth=0.8)
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
        lowest = np.inf
        for i, name in enumerate(names):
            for j, (which, prefix) in enumerate(_SETS.items()):
                values = np.asarray(history.get(prefix + name, ()), dtype="float64")
                if not len(values):
                    continue
                # With one term, each set has a colour. With several, each term has one, and validation is dashed.
                alone = len(names) == 1
                ax.plot(
                    np.arange(1, len(values) + 1),
                    values,
                    color=_drawing.colour(j if alone else i),
                    linestyle="-" if alone or which == "training" else "--",
                    linewidth=1.8,
                    label=which if alone else f"{name}, {which}",
                    marker="o" if len(values) == 1 else None,
                )
                lowest = min(lowest, values.min())
        if found == {"%"} and lowest > 0:
            _drawing.log_scale(ax)
        ax.legend(frameon=False, labelcolor="linecolor", handlelength=1.2)
    return figure


def _terms(history):
    """The names of the terms in the history that have values, without `val_`."""
    return list(dict.fromkeys(name.removeprefix("val_") for name, values in history.items() if len(values)))


def _default_panels(history):
    known = _terms(history)
    first = ("Classification error", ["error"]) if "error" in known else ("Loss", ["loss"])
    kl = [name for name in known if name == "kl" or name.startswith("kl_")]
    panels = dict([first, ("Reconstruction", ["reconstruction"]), ("KL-divergence", kl)])
    return {title: names for title, names in panels.items() if names and set(names) <= set(known)}


def _unit(name, units):
    if name in units:
        return units[name]
    if name == "error":
        return "%"
    return "nats per image" if name == "kl" or name.startswith("kl_") else "per image"
