"""The figures of PartedVAE, of a model whose images say what they were decoded from."""

import numpy as np
import pytest
from keras import ops
from scipy import integrate

from keras_ssvae import plots
from keras_ssvae.priors import GaussianMixture


class Learned:
    def __init__(self, means, variances):
        self.mixture = GaussianMixture(means, variances)
        self.latent_dim = self.mixture.latent_dim

    def now(self):
        return self.mixture


class Coded:
    """Two labels, of 3 and 2 values; an image has a row for each latent variable, as bright as a tenth of it."""

    z_dim, latent_dim, num_classes = 2, 5, (3, 2)
    u_priors = (
        Learned([[-6.0, 0.0], [0.0, 1.0], [6.0, 2.0]], [[1.0, 4.0], [1.0, 1.0], [0.25, 1.0]]),
        Learned([[-2.0], [2.0]], 1.0),
    )
    class_priors = (np.array([0.25, 0.25, 0.5]), np.array([0.5, 0.5]))

    def decode(self, z):
        z = ops.convert_to_numpy(z)
        return ops.convert_to_tensor(np.repeat(z[:, :, None, None] / 10, 4, axis=2))

    def transfer(self, images, attributes):
        return ops.convert_to_tensor(np.concatenate([attributes[:, :2], images[:, 2:]], axis=1))


def latents(ax, rows, columns, height=5, width=4):
    """The latent variables (rows, columns, d) that a mosaic was decoded from."""
    sheet = np.asarray(ax.images[0].get_array())
    tops, lefts = np.arange(rows) * (height + 2), np.arange(columns) * (width + 2)
    return np.stack([[sheet[top : top + height, left] for left in lefts] for top in tops]) * 20 - 10


def test_one_coordinate_of_z_changes_in_each_row_around_the_centre_of_the_class():
    figure = plots.traversals(Coded(), [0, 2], deviations=(-1.0, 0.0, 1.0), class_names=("a", "b", "c"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["a", "c"]
    for ax, mean in zip(figure.axes, ([0, 0, -6, 0, -2], [0, 0, 6, 2, -2]), strict=True):
        drawn = latents(ax, 2, 3)
        for row, j in enumerate((0, 1)):
            expected = np.tile(np.array(mean, float), (3, 1))
            expected[:, j] += [-1, 0, 1]
            np.testing.assert_allclose(drawn[row], expected, atol=1e-5)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["$z_{0}$", "$z_{1}$"]
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["-1", "+1"]


def test_coordinates_of_u_change_by_the_deviations_of_their_own_component():
    (ax,) = plots.traversals(Coded(), [0], part="u", deviations=(-1.0, 1.0)).axes
    drawn = latents(ax, 2, 2)
    np.testing.assert_allclose(drawn[0], [[0, 0, -7, 0, -2], [0, 0, -5, 0, -2]], atol=1e-5)
    np.testing.assert_allclose(drawn[1], [[0, 0, -6, -2, -2], [0, 0, -6, 2, -2]], atol=1e-5)
    (ax,) = plots.traversals(Coded(), [1], part="u", variable=1, deviations=(-1.0, 1.0)).axes
    np.testing.assert_allclose(latents(ax, 1, 2)[0], [[0, 0, -6, 0, 1], [0, 0, -6, 0, 3]], atol=1e-5)


def test_a_table_of_transfers_has_the_images_left_and_their_attributes_on_top():
    rng = np.random.default_rng(1)
    images, attributes = rng.uniform(-1, 1, (3, 5, 4, 1)), rng.uniform(-1, 1, (2, 5, 4, 1))
    (ax,) = plots.transfer(Coded(), images, attributes).axes
    sheet = np.asarray(ax.images[0].get_array()) * 2 - 1

    def tile(row, column):
        return sheet[row * 7 : row * 7 + 5, column * 6 : column * 6 + 4]

    for i, image in enumerate(images):
        np.testing.assert_allclose(tile(i + 1, 0), image[..., 0], atol=1e-6)
        for j, other in enumerate(attributes):
            np.testing.assert_allclose(tile(0, j + 1), other[..., 0], atol=1e-6)
            np.testing.assert_allclose(tile(i + 1, j + 1)[:2], other[:2, :, 0], atol=1e-6)
            np.testing.assert_allclose(tile(i + 1, j + 1)[2:], image[2:, :, 0], atol=1e-6)


def test_a_learned_prior_is_drawn_with_its_densities_and_images_of_the_densest_component():
    top, bottom = plots.learned_prior(Coded(), n=5).axes
    axis = top.lines[0].get_xdata()
    areas = [integrate.trapezoid(line.get_ydata(), line.get_xdata()) for line in top.lines]
    np.testing.assert_allclose(areas, [0.25, 0.25, 0.5], rtol=0.01)
    np.testing.assert_allclose([axis[0], axis[-1]], [-8.5, 7.25], atol=1e-5)
    strip = np.asarray(bottom.images[0].get_array())[:, ::4].T * 20 - 10
    values, components = [-6.925, -3.775, -0.625, 2.525, 5.675], [0, 0, 1, 1, 2]
    expected = [[0, 0, value, component, -2] for value, component in zip(values, components, strict=True)]
    np.testing.assert_allclose(strip, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("draw", "sentence"),
    [
        (lambda: plots.traversals(Coded(), [0], part="c"), "`part` is 'c'"),
        (lambda: plots.traversals(Coded(), [3]), "`labels` run from 3 to 3; with 3 classes"),
        (lambda: plots.traversals(Coded(), [0], variable=2), "`variable` is 2; the model has 2 labels"),
        (
            lambda: plots.traversals(Coded(), [0], deviations=[1.0]),
            r"`deviations` is \[1.0\]; it must be at least 2 finite numbers",
        ),
        (lambda: plots.learned_prior(Coded(), coordinate=2), "`coordinate` is 2"),
        (lambda: plots.learned_prior(Coded(), variable=-1), "`variable` is -1"),
        (
            lambda: plots.traversals(object(), [0]),
            "`plots.traversals` needs a model with a learned prior for each label",
        ),
        (lambda: plots.learned_prior(object()), "`plots.learned_prior` needs .* object has no `u_priors`"),
        (lambda: plots.transfer(object(), None, None), "`plots.transfer` needs a model with a method `transfer`"),
        (lambda: plots.transfer(Coded(), np.zeros((2, 5, 4)), np.zeros((2, 5, 4, 1))), "`images` is float64 of shape"),
    ],
)
def test_a_wrong_argument_is_a_sentence(draw, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw()
