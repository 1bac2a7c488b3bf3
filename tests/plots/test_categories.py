"""Figures of a model that finds categories by itself."""

import numpy as np
import pytest

from keras_ssvae import plots


class Shades:
    """Four categories, whose images are of four shades, the darkest first."""

    num_categories, cluster_names = 4, None

    def clusters(self, images):
        raise NotImplementedError

    def generate(self, n, seed, categories=None, probs=None):
        return np.full((n, 6, 6, 1), categories / 1.5 - 1, "float32")


def titles(figure):
    return [ax.get_title(loc="left") for ax in figure.axes if ax.axison]


def shades(figure):
    """The pixel in the corner of each panel."""
    return [float(ax.images[0].get_array()[0, 0]) for ax in figure.axes if ax.axison]


def test_the_categories_above_the_uniform_are_drawn_the_likeliest_first():
    figure = plots.categories(Shades(), [0.3, 0.2, 0.4, 0.1], n=3, across=2)
    assert titles(figure) == ["2: 40 %", "0: 30 %"]
    np.testing.assert_allclose(shades(figure), [2 / 3, 0.0], atol=1e-6)
    # Two rows of two images, the last one left white.
    sheet = figure.axes[0].images[0].get_array()
    assert sheet.shape[:2] == (14, 14)
    assert sheet[-1, -1] == 1.0
    assert titles(plots.categories(Shades(), [0.3, 0.2, 0.4, 0.1], at_most=1)) == ["2: 40 %"]


def test_groups_of_images_have_their_own_panels():
    groups = {"black": np.full((2, 4, 4, 1), -1.0), "white": np.full((1, 4, 4, 1), 255, "uint8")}
    figure = plots.panels(groups, columns=2, title="Groups")
    assert (titles(figure), figure.get_suptitle()) == (["black", "white"], "Groups")
    np.testing.assert_allclose(shades(figure), [0.0, 1.0])
    assert len(plots.panels({str(i): groups["black"] for i in range(3)}, columns=2).axes) == 4


def test_probabilities_are_bars_with_a_line_at_the_uniform():
    figure = plots.category_probs({"q(c)": [0.5, 0.25, 0.25], "label 1": [0.0, 0.0, 1.0]})
    assert titles(figure) == ["q(c)", "label 1"]
    for ax, expected in zip(figure.axes, ([0.5, 0.25, 0.25], [0.0, 0.0, 1.0]), strict=True):
        assert [bar.get_height() for bar in ax.patches] == expected
        assert ax.lines[0].get_ydata()[0] == pytest.approx(1 / 3)


def test_distributions_are_drawn_over_that_of_the_data():
    figure = plots.densities([0.0, 0.5], {"ours": [0.25, 0.75], "other": [1.0, 0.0]}, reference=[0.5, 0.5])
    ours, truth = (patch.get_data() for patch in figure.axes[0].patches)
    np.testing.assert_array_equal(ours.values, [0.25, 0.75])
    np.testing.assert_array_equal(ours.edges, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(truth.values, [0.5, 0.5])


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: plots.categories(object(), [0.5, 0.5]), "`plots.categories` needs a model that finds categories"),
        (lambda: plots.categories(Shades(), [0.5, 0.5]), "it must be 4 probabilities, whose sum is 1"),
        (lambda: plots.categories(Shades(), [0.25] * 4), "no number above 1/4"),
        (lambda: plots.panels({}), "`images` has no panel"),
        (lambda: plots.panels({"none": np.zeros((0, 4, 4, 1))}), "a panel without an image"),
        (lambda: plots.category_probs({"a": [[0.5]]}), "`probs` has no panel"),
        (lambda: plots.densities([0.0, 0.5], {"a": [1.0]}), "must be at least one list of 2 probabilities"),
    ],
)
def test_mistakes_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_a_category_that_has_all_images_has_100_percent():
    assert titles(plots.categories(Shades(), [1.0, 0.0, 0.0, 0.0])) == ["0: 100 %"]
    assert titles(plots.categories(Shades(), [0.996, 0.004, 0.0, 0.0])) == ["0: 99.6 %"]


@pytest.mark.parametrize("probs", [[40, 30, 20, 10], [np.nan, 0.5, 0.3, 0.2], [-1.0, 1.0, 0.5, 0.5], list("abcd")])
def test_what_are_no_probabilities_is_not_drawn(probs):
    with pytest.raises(ValueError, match=r"`probs` is .*; it must be 4 probabilities, whose sum is 1"):
        plots.categories(Shades(), probs)
