"""The class of the figures of `keras_ssvae.plots`, which notebooks display."""

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook displays if it is the last value of a cell, also without `%matplotlib inline`.

    If matplotlib's inline backend is on, that backend displays the figure, and it still appears only once.
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
