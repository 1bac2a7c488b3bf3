import re
from types import MappingProxyType

import numpy as np
import pytest
from keras import ops

from keras_ssvae import plots, priors


class Brightness:
    """A model whose images are as bright as z_1 times a factor, and whose posteriors are its prior's centres."""

    latent_dim = 2
    latents = MappingProxyType({"z": 2})

    def __init__(self, factor):
        self.factor, self.class_prior = factor, priors.circle(3)

    def decode(self, z):
        z = ops.convert_to_numpy(z)[:, :1] * self.factor
        return ops.convert_to_tensor(np.broadcast_to(z[:, :, None, None], (len(z), 4, 4, 1)).copy())

    def posterior(self, x):
        shape = (len(x), *self.class_prior.means.shape)
        probs = np.eye(3, dtype="float32")[np.arange(len(x)) % 3]
        mean = np.broadcast_to(self.class_prior.means, shape).copy()
        arrays = {"mean": mean, "logvar": np.full(shape, -20.0, "float32"), "probs": probs}
        return {name: ops.convert_to_tensor(array) for name, array in arrays.items()}


MODELS = {"dark": Brightness(0.01), "bright": Brightness(0.05)}
IMAGES = np.zeros((6, 4, 4, 1), "uint8")
LABELS = np.arange(6) % 3


def test_each_model_has_its_latent_space_above_its_grid():
    figure = plots.latent_spaces(MODELS, IMAGES, LABELS, extent=10, n=5)
    dark, bright, dark_grid, bright_grid = figure.axes
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["dark", "bright", "", ""]
    for ax in (dark, bright):
        drawn = np.asarray(ax.collections[0].get_offsets())
        np.testing.assert_allclose(
            np.unique(drawn.round(3), axis=0), np.unique(MODELS["dark"].class_prior.means.round(3), axis=0), atol=2e-3
        )
    for ax, model in zip((dark_grid, bright_grid), MODELS.values(), strict=True):
        expected = (np.linspace(-10, 10, 5) * model.factor + 1) / 2
        np.testing.assert_allclose(ax.images[0].get_array()[0, ::4], expected, atol=1e-6)


def test_more_than_five_latent_spaces_go_on_below():
    models = {str(i): MODELS["dark"] for i in range(7)}
    figure = plots.latent_spaces(models, IMAGES[:4], LABELS[:4], n=2)
    figure.draw_without_rendering()
    left, bottom = zip(*(ax.get_position().min for ax in figure.axes), strict=True)
    assert len(figure.axes) == 14
    assert left[10] == pytest.approx(left[0], abs=0.01)  # the sixth model, below the first one and its grid
    assert bottom[0] > bottom[5] > bottom[10] > bottom[12]


def test_each_model_has_a_row_of_the_same_path():
    (ax,) = plots.paths(MODELS, [-10, 0], [10, 0], n=5).axes
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (4 + 2 + 4, 5 * 6 - 2)
    for row, model in zip((0, 6), MODELS.values(), strict=True):
        np.testing.assert_allclose(sheet[row, ::6], (np.linspace(-10, 10, 5) * model.factor + 1) / 2, atol=1e-6)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["dark", "bright"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["-10", "-5", "0", "5", "10"]
    (beside,) = plots.paths(MODELS, [0, 1], [2, 2], n=3).axes
    assert [label.get_text() for label in beside.get_xticklabels()] == ["A", "", "B"]


def test_errors_are_drawn_as_means_with_their_deviation():
    (ax,) = plots.errors({"EXoN": {1000: [2.0], 20: [10.0, 14.0]}, "alone": {20: [30.0]}}, title="t").axes
    line, _, (bars,) = ax.containers[0]
    np.testing.assert_allclose(line.get_xydata(), [[20, 12.0], [1000, 2.0]])
    np.testing.assert_allclose(bars.get_segments()[0], [[20, 12 - 8**0.5], [20, 12 + 8**0.5]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["20", "1000"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["EXoN", "alone"]


@pytest.mark.parametrize("errors", [{20: [10.0], 100: [0.0]}, {20: [5.0, 40.0]}])
def test_a_bar_that_reaches_zero_is_drawn(errors):
    assert plots.errors({"EXoN": errors}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.latent_spaces({}, IMAGES, LABELS), "`models` is {}; it must be a dict of at least one model"),
        (lambda: plots.paths([Brightness(1)], [0, 0], [1, 1]), "it must be a dict of at least one model"),
        (lambda: plots.paths(MODELS, [0, 0], [1, 1], n=1), "`n` is 1. It must be an integer of at least 2"),
        (lambda: plots.paths(MODELS, [0, 0], [1]), "`start` and `end` have shapes (2,) and (1,)"),
        (
            lambda: plots.latent_spaces(MODELS, IMAGES, LABELS + 1),
            "`labels` run from 1 to 3",
        ),
        (lambda: plots.errors({"EXoN": {20: []}}), "`errors` is {'EXoN': {20: []}}; every line needs"),
        (lambda: plots.errors({}), "`errors` is {}; every line needs"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(draw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()
