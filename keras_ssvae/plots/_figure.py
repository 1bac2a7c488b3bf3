"""The figures of `keras_ssvae.plots`, which a notebook shows by itself."""

import io

import matplotlib.figure


class Figure(matplotlib.figure.Figure):
    """A figure that a notebook shows where it is the last line of a cell, without `%matplotlib inline`.

    Where matplotlib's inline backend is on, that one shows it, and the figure appears once all the same.
    """

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
