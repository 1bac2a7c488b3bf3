import itertools
import re
from pathlib import Path
from types import MappingProxyType

import matplotlib
import numpy as np
import pytest
from keras import ops
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from keras_ssvae import plots, priors
from keras_ssvae.evaluation.inputs import sample_posterior
from keras_ssvae.priors import GaussianMixture


class Fake:
    """A model whose images show their own latent point: the left half z_1, the right half z_2."""

    latent_dim = 2
    latents = MappingProxyType({"z": 2})

    def __init__(self, prior=None):
        self.class_prior = priors.circle(4) if prior is None else prior

    def decode(self, z):
        z = ops.convert_to_numpy(z)[:, :2] / 20.0
        return ops.convert_to_tensor(np.repeat(z[:, None, :, None], 4, axis=1).repeat(2, axis=2))

    def posterior(self, x):
        # Image k is of class k for sure, and its posterior a point beside the prior's centre.
        k = np.round((ops.convert_to_numpy(x)[:, 0, 0, 0] + 1.0) * 127.5).astype(int)
        shape = (len(k), *self.class_prior.means.shape)
        mean = np.broadcast_to(self.class_prior.means + 1.0, shape)
        return mixture(mean, np.full(shape, -20.0), np.eye(self.class_prior.num_classes)[k])


def mixture(mean, logvar, probs):
    """What `posterior` gives."""
    arrays = {"mean": mean, "logvar": logvar, "probs": probs}
    return {name: ops.convert_to_tensor(np.asarray(array, "float32")) for name, array in arrays.items()}


def images_of(labels):
    images = np.full((len(labels), 4, 4, 1), 255, "uint8")
    images[:, 0] = np.asarray(labels)[:, None, None]
    return images


def drawn_points(figure):
    return np.asarray(figure.axes[0].collections[0].get_offsets())


def ellipses(ax):
    return [patch for patch in ax.patches if isinstance(patch, Ellipse)]


def drawn_image(ax):
    return np.asarray(ax.images[0].get_array())


def test_names_of_classes_in_one_place_do_not_cover_each_other():
    z = np.random.default_rng(0).normal(size=(600, 2)) + np.repeat([[0.0, 0.0], [0.4, 0.1]], 300, axis=0)
    names = ["T-shirt", "trouser", "pullover", "dress", "coat", "sandal"]
    figure = plots.scatter(z, np.arange(600) % 6, class_names=names)
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in names]
    assert len(boxes) == 6
    # The stroke around the letters may touch the next name.
    assert not any(a.shrunk(1, 0.8).overlaps(b.shrunk(1, 0.8)) for a, b in itertools.combinations(boxes, 2))


def test_the_prior_figure_shows_the_samples_the_ellipses_and_the_names():
    prior = priors.circle(3, variance=[1.0, 4.0])
    figure = plots.prior(prior, n=200, seed=5, class_names=["cat", "dog", "hen"])
    z, _ = prior.sample(200, seed=5)
    np.testing.assert_allclose(np.sort(drawn_points(figure), axis=0), np.sort(z, axis=0), rtol=1e-6)
    shapes = ellipses(figure.axes[0])
    np.testing.assert_allclose([shape.center for shape in shapes], prior.means)
    for shape in shapes:  # the paper's sigma: 1 and 2, so the full axes at two sigma are 4 and 8
        assert sorted((shape.width, shape.height)) == pytest.approx([4.0, 8.0])
        corners = shape.get_extents().transformed(figure.axes[0].transData.inverted())
        assert corners.height > corners.width
    assert [text.get_text() for text in figure.axes[0].texts] == ["cat", "dog", "hen"]


def test_latent_samples_come_from_each_images_own_component():
    model, labels = Fake(), np.array([0, 3, 3, 1, 2, 0])
    figure = plots.latent(model, images_of(labels), labels, batch_size=4)
    expected = model.class_prior.means[labels] + 1.0
    np.testing.assert_allclose(np.sort(drawn_points(figure), axis=0), np.sort(expected, axis=0), atol=1e-3)
    assert len(ellipses(figure.axes[0])) == 4


def test_the_latent_samples_depend_on_the_seed_alone():
    model, labels = Fake(), np.array([0, 1, 2, 3])
    model.posterior = lambda x: mixture(np.zeros((4, 4, 2)), np.zeros((4, 4, 2)), np.full((4, 4), 0.25))
    one, same, other = (drawn_points(plots.latent(model, images_of(labels), labels, seed=s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


def test_latent_samples_visit_the_classes_as_often_as_their_probabilities_say():
    model, probs = Fake(), np.array([0.1, 0.2, 0.3, 0.4], "float32")
    shape = (4000, 4, 2)
    logvar = np.full(shape, np.log(0.25), "float32")
    mean = np.broadcast_to(model.class_prior.means, shape)
    model.posterior = lambda x: mixture(mean, logvar, np.tile(probs, (4000, 1)))
    points = drawn_points(plots.latent(model, images_of([0] * 4000), np.zeros(4000, int), batch_size=4000))
    nearest = np.linalg.norm(points[:, None] - model.class_prior.means, axis=-1).argmin(axis=1)
    np.testing.assert_allclose(np.bincount(nearest, minlength=4) / 4000, probs, atol=0.03)
    assert (points - model.class_prior.means[nearest]).std() == pytest.approx(0.5, rel=0.05)


def test_an_ellipse_that_its_class_has_left_keeps_a_small_name():
    prior = priors.circle(4)
    z = prior.means[[0, 1, 2]] + [[0.0, 0.0], [3.9, 0.0], [4.1, 0.0]]
    texts = plots.scatter(z, [0, 1, 2], prior=prior, class_names="abcd").axes[0].texts
    assert [(text.get_text(), text.get_position()) for text in texts if text.get_fontsize() < 10] == [
        ("c", pytest.approx(prior.means[2])),
        ("d", pytest.approx(prior.means[3])),
    ]
    assert [text.get_text() for text in texts if text.get_fontsize() > 10] == ["a", "b", "c"]


def test_prior_and_latent_figures_of_one_prior_have_the_same_axes_and_count_what_lies_outside():
    model, labels = Fake(), np.array([0, 1, 2, 3])
    first = plots.prior(model.class_prior, n=50).axes[0]
    z = model.class_prior.means[labels] * [[1.0], [1.0], [1.0], [50.0]]
    second = plots.scatter(z, labels, prior=model.class_prior).axes[0]
    assert (first.get_xlim(), first.get_ylim()) == (second.get_xlim(), second.get_ylim())
    assert "1 of 4 points lie outside" in [text.get_text() for text in second.texts]


def test_more_than_two_dimensions_are_shown_on_their_principal_axes():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(500, 6)) * [0.1, 5.0, 0.1, 0.1, 2.0, 0.1]
    prior = GaussianMixture(np.zeros((1, 6)), [0.1, 25.0, 0.1, 0.1, 4.0, 0.1])
    ax = plots.scatter(z, np.zeros(500, int), prior=prior).axes[0]
    assert np.asarray(ax.collections[0].get_offsets()).std(axis=0) == pytest.approx([5.0, 2.0], rel=0.1)
    assert ax.get_xlabel().startswith("principal axis 1 of 6 (8")
    (ellipse,) = ellipses(ax)
    assert sorted((ellipse.width, ellipse.height)) == pytest.approx([8.0, 20.0], rel=0.01)


def test_the_grid_shows_each_image_at_its_own_latent_point():
    figure = plots.grid(Fake(), extent=15, n=11, value_range=(-1, 1))
    ax = figure.axes[0]
    image = drawn_image(ax)
    assert image.shape == (44, 44)
    left, right, bottom, top = ax.images[0].get_extent()
    assert ax.images[0].origin == "upper"
    for z1, z2 in [(-15, -15), (15, -15), (-12, 9), (0, 3)]:
        column, row = int((z1 - left) / (right - left) * 44), int((top - z2) / (top - bottom) * 44)
        tile = image[row // 4 * 4 : row // 4 * 4 + 4, column // 4 * 4 : column // 4 * 4 + 4]
        np.testing.assert_allclose(tile[:, :2], (z1 / 20 + 1) / 2, atol=1e-6)
        np.testing.assert_allclose(tile[:, 2:], (z2 / 20 + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(ax.get_xticks(), np.arange(-15, 16, 3))


def test_the_interpolation_runs_from_centre_to_centre():
    model = Fake()
    figure = plots.interpolation(model, labels=(0, 2), n=5)
    strip = drawn_image(figure.axes[1])
    expected = np.linspace(model.class_prior.means[0], model.class_prior.means[2], 5)
    np.testing.assert_allclose(strip[0, ::4], (expected[:, 0] / 20 + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(strip[0, 3::4], (expected[:, 1] / 20 + 1) / 2, atol=1e-6)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), expected, atol=1e-6)


def test_beyond_the_plane_the_interpolation_is_the_strip_alone():
    figure = plots.interpolation(Fake(priors.one_hot(3, 5)), labels=(0, 1), n=4)
    assert len(figure.axes) == 1
    assert drawn_image(figure.axes[0]).shape == (4, 16)


class Parts:
    """A model without a class prior, whose latent variables have two parts, of which the first is a mixture."""

    latents = MappingProxyType({"c": 1, "z": 2})

    def posterior(self, x):
        rows = len(x)
        return {
            "z_mean": ops.ones((rows, 2)),
            "z_logvar": ops.full((rows, 2), -20.0),
            "probs": ops.convert_to_tensor(np.tile([[0.0, 1.0]], (rows, 1)).astype("float32")),
            "c_mean": ops.convert_to_tensor(np.tile([[[5.0], [7.0]]], (rows, 1, 1)).astype("float32")),
            "c_logvar": ops.full((rows, 2, 1), -20.0),
        }


def test_latent_samples_have_the_parts_of_the_latents_in_their_order():
    z = sample_posterior(Parts(), images_of([0, 1, 0]), batch_size=2)
    np.testing.assert_allclose(z, np.tile([7.0, 1.0, 1.0], (3, 1)), atol=1e-3)
    figure = plots.latent(Parts(), images_of([0, 1, 0]), np.array([0, 1, 0]))
    assert not ellipses(figure.axes[0])


def test_a_figure_that_needs_a_class_prior_says_so():
    sentence = r"`plots.interpolation` needs a model whose prior has one component for each class, .* but Parts has no"
    with pytest.raises(ValueError, match=rf"{sentence} `class_prior`. `plots.path` draws"):
        plots.interpolation(Parts())


def test_curves_show_training_and_validation_by_epoch():
    history = {
        "reconstruction": [9.0, 8.0],
        "val_reconstruction": [9.5, 8.5],
        "kl_categorical": [1.0, 2.0],
        "kl_gaussian": [3.0, 4.0],
        "val_error": [50.0, 5.0],
        "learning_rate": [0.1, 0.1],
    }
    error, reconstruction, kl = plots.curves(history, units={"reconstruction": "nats x beta"}).axes
    assert [ax.get_ylabel() for ax in (error, reconstruction, kl)] == ["%", "nats x beta", "nats per image"]
    assert [line.get_label() for line in reconstruction.lines] == ["training", "validation"]
    np.testing.assert_array_equal(reconstruction.lines[1].get_xydata(), [[1, 9.5], [2, 8.5]])
    assert [line.get_label() for line in error.lines] == ["validation"]
    assert [line.get_label() for line in kl.lines] == ["kl_categorical, training", "kl_gaussian, training"]
    np.testing.assert_array_equal([line.get_ydata() for line in kl.lines], [[1.0, 2.0], [3.0, 4.0]])


def test_curves_of_any_model_have_its_kl_terms_and_without_an_error_its_loss():
    history = {"loss": [9.0, 8.0], "reconstruction": [5.0, 4.0], "kl_z": [1.0, 2.0], "kl_u": [3.0, 4.0]}
    loss, reconstruction, kl = plots.curves({**history, "val_kl_z": [1.5, 2.5]}).axes
    assert [ax.get_title(loc="left") for ax in (loss, reconstruction, kl)] == [
        "Loss", "Reconstruction", "KL-divergence",
    ]  # fmt: skip
    assert (loss.get_ylabel(), reconstruction.get_ylabel()) == ("per image", "per image")
    assert [line.get_label() for line in kl.lines] == ["kl_z, training", "kl_z, validation", "kl_u, training"]
    (ax,) = plots.curves({"val_loss": [3.0, 2.0]}).axes
    assert [line.get_label() for line in ax.lines] == ["validation"]


def test_the_panels_of_curves_can_be_chosen():
    history = {"kl_z": [1.0], "entropy_c": [2.0], "val_entropy_c": [2.5]}
    entropy, both = plots.curves(history, panels={"Entropy": ["entropy_c"], "All": ["kl_z", "entropy_c"]}).axes
    assert [line.get_ydata()[0] for line in entropy.lines] == [2.0, 2.5]
    assert both.get_ylabel() == "nats per image, per image"


def test_curves_draw_an_error_of_zero():
    (ax,) = plots.curves({"val_error": [1.0, 0.0]}).axes
    assert ax.get_yscale() == "linear"
    assert ax.get_ylim()[0] <= 0.0


def test_figures_are_saved_without_pyplot_and_leave_the_settings_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    for name, figure in {"prior": plots.prior(priors.circle()), "grid": plots.grid(Fake())}.items():
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert dict(matplotlib.rcParams) == before


class Solid:
    latent_dim = 3


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.grid(Solid()), "`latent_dim` is 3; an image grid needs a latent plane"),
        (lambda: plots.grid(Fake(), n=1), "`n` is 1"),
        (lambda: plots.grid(Fake(), value_range=(1, 1)), "`value_range` is (1, 1)"),
        (lambda: plots.interpolation(Fake(), labels=(0, 4)), "`labels` run from 0 to 4; with 4 classes"),
        (lambda: plots.interpolation(Fake(), n=1), "`n` is 1. It must be an integer of at least 2"),
        (lambda: plots.path(Fake(), [0, 0], [1, 1, 1]), "`start` and `end` have shapes (2,) and (3,)"),
        (lambda: plots.scatter(np.zeros((5, 1)), np.zeros(5, int)), "`z` has shape (5, 1)"),
        (lambda: plots.scatter(np.full((5, 2), np.nan), np.zeros(5, int)), "has training diverged?"),
        (lambda: plots.scatter(np.zeros((5, 3)), np.zeros(5, int), priors.circle()), "`z` has 3 dimensions, but"),
        (lambda: plots.scatter(np.zeros((5, 2)), np.zeros(4, int)), "one integer for each of the 5 examples"),
        (
            lambda: plots.scatter(np.zeros((5, 2)), np.full(5, 7), class_names="ab"),
            "`class_names` has 2 names; it must have 8",
        ),
        (lambda: plots.prior(priors.circle(3), class_names="ab"), "`class_names` has 2 names; it must have 3"),
        (lambda: plots.latent(Fake(), images_of([0, 1]), np.array([0, 4])), "`labels` run from 0 to 4"),
        (lambda: plots.curves({"seconds": [1.0]}), "`history` has the keys ['seconds']"),
        (lambda: plots.curves({"loss": [1.0]}, panels={}), "`history` has the keys ['loss']"),
        (lambda: plots.curves({"loss": [1.0]}, panels={"KL": ["kl"]}), "the terms ['kl']; `history` has ['loss']"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(draw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()


def test_a_notebook_shows_every_figure_once_with_and_without_the_inline_backend():
    figure = plots.prior(priors.circle(3))
    assert isinstance(figure, Figure)  # so matplotlib's inline backend knows it, and takes its own way
    assert figure._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")
    assert figure._repr_html_() is None  # matplotlib's, which is for another backend


def test_no_figure_of_the_package_is_one_that_a_notebook_does_not_show():
    folder = Path(plots.__file__).parent
    bare = [path.name for path in folder.glob("*.py") if "\nfrom matplotlib.figure import" in path.read_text()]
    assert bare == []
