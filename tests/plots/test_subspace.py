import re

import numpy as np
import pytest
from keras import ops

from keras_ssvae import plots

D = 4


class Stripes:
    """Images 4x6 of four stripes, one for each latent coordinate; the pixels are the coordinate over 10."""

    def encode(self, x):
        x = ops.convert_to_numpy(x)
        return ops.convert_to_tensor(10.0 * x[:, :, 0, 0])

    def decode(self, z):
        z = ops.convert_to_numpy(z) / 10.0
        return ops.convert_to_tensor(np.repeat(z[:, :, None, None], 6, axis=2))


Z = np.array([[1.0, -2.0, 3.0, 0.5], [-1.0, 2.0, 0.0, 4.0]], "float32")
IMAGES = np.repeat(Z[:, :, None, None] / 10, 6, axis=2)
ACTIVE = np.array([True, False, True, False])
VALUES = np.array([[0.5, 3.0, 1.0, 2.0], [0.2, 4.0, 1.5, 2.5], [0.1, 0.0, 0.3, 0.9]])


def tiles_of(ax, rows, columns, height=4, width=6):
    """The tiles of a mosaic with gaps of 2 pixels, undone to latent points (rows, columns, 4)."""
    sheet = np.asarray(ax.images[0].get_array())
    assert sheet.shape == (rows * (height + 2) - 2, columns * (width + 2) - 2)
    tiles = [
        [sheet[r * (height + 2) : r * (height + 2) + height, c * (width + 2)] for c in range(columns)]
        for r in range(rows)
    ]
    return (np.array(tiles) * 2.0 - 1.0) * 10.0


def frames(ax):
    """Column and row of each framed tile."""
    return [(round((p.get_x() + 1) / 8), round((p.get_y() + 1) / 6)) for p in ax.patches]


def bars(collection):
    """Positions and heights of the bars that `vlines` drew."""
    return {round(segment[0, 0]): segment[1, 1] for segment in collection.get_segments()}


def test_v_nat_of_one_class_colours_the_activated_coordinates():
    (ax,) = plots.v_nat(VALUES, classes=1, class_names=["cat", "dog", "hen"]).axes
    assert ax.get_title("left") == "dog: 3 of 4 coordinates activated"
    others, active = ax.collections
    assert bars(others) == {0: 0.2}
    assert bars(active) == {1: 4.0, 2: 1.5, 3: 2.5}
    assert not np.allclose(others.get_colors()[0], active.get_colors()[0])


def test_v_nat_of_all_classes_has_a_panel_each_and_follows_delta():
    figure = plots.v_nat(VALUES, delta=0.25)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title("left") for ax in shown] == [
        "class 0: 4 of 4 coordinates activated",
        "class 1: 3 of 4 coordinates activated",
        "class 2: 2 of 4 coordinates activated",
    ]
    assert {ax.get_ylim() for ax in shown} == {shown[0].get_ylim()}
    assert all(any(set(line.get_ydata()) == {0.25} for line in ax.lines) for ax in shown)
    assert bars(plots.v_nat(VALUES, classes=[2, 0]).axes[1].collections[1]) == {1: 3.0, 3: 2.0}


def test_a_class_without_v_nat_does_not_hinder_the_others():
    from_report = [None, VALUES[1].tolist(), None]
    assert len(plots.v_nat(from_report, classes=1).axes) == 1
    with pytest.raises(ValueError, match="`values` of class 0 are None; they must be finite"):
        plots.v_nat(from_report)


def test_the_correlation_is_pearsons_between_classes():
    values = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    ax = plots.v_nat_correlation(values, class_names="abcd").axes[0]
    expected = [[1, 1, -1, 0], [1, 1, -1, 0], [-1, -1, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(ax.images[0].get_array(), expected, atol=1e-12)
    assert [label.get_text() for label in ax.get_xticklabels()] == list("abcd")


def test_the_perturbation_leaves_the_other_coordinates_as_they_are():
    figure = plots.perturbation(Stripes(), IMAGES, ACTIVE, extent=2.0, seed=1)
    axes = np.reshape(figure.axes, (2, 2, 3))  # images, noise or picture, columns
    for i, z in enumerate(Z):
        plain, on_active, on_others = (tiles_of(ax, 1, 1)[0, 0] for ax in axes[i, 1])
        np.testing.assert_allclose(plain, z, atol=1e-5)
        np.testing.assert_allclose(on_active[~ACTIVE], z[~ACTIVE], atol=1e-5)
        np.testing.assert_allclose(on_others[ACTIVE], z[ACTIVE], atol=1e-5)
        assert (np.abs(on_active - z)[ACTIVE] > 1e-3).all()
        assert (np.abs(on_others - z)[~ACTIVE] > 1e-3).all()
        for ax, decoded in zip(axes[i, 0], (plain, on_active, on_others), strict=True):
            np.testing.assert_allclose(list(bars(ax.collections[0]).values()), decoded - z, atol=1e-5)


def test_the_noise_is_uniform_seeded_and_as_wide_as_asked():
    class Wide(Stripes):
        def encode(self, x):
            return ops.zeros((len(x), 2000))

        def decode(self, z):
            return ops.zeros((len(z), 4, 6, 1))

    def noise(seed):
        axes = plots.perturbation(Wide(), IMAGES[:1], np.arange(2000) < 1000, extent=1.5, seed=seed).axes
        return [np.array(list(bars(axes[column].collections[0]).values())) for column in (1, 2)]

    on_active, on_others = noise(0)
    drawn = (on_active + on_others)[:1000]
    assert (on_others[:1000] == 0).all()
    assert (on_active[1000:] == 0).all()
    assert np.abs(drawn).max() <= 1.5
    assert drawn.std() == pytest.approx(1.5 / np.sqrt(3), rel=0.05)
    np.testing.assert_array_equal(on_active, noise(0)[0])
    assert not np.allclose(on_active, noise(1)[0])


def test_each_image_of_the_perturbation_can_have_its_own_activated_coordinates():
    axes = plots.perturbation(Stripes(), IMAGES, np.array([ACTIVE, [True, True, True, False]])).axes
    assert [axes[k].get_title() for k in (1, 2)] == ["on the 2 activated", "on the 2 others"]
    assert [axes[k].get_title() for k in (7, 8)] == ["on the 3 activated", "on the 1 others"]


def test_the_sweep_changes_the_coordinates_of_highest_v_nat_one_at_a_time():
    (ax,) = plots.axis_sweep(Stripes(), IMAGES[0], VALUES[0], n_axes=2, points=7, extent=3.0).axes
    tiles = tiles_of(ax, 2, 7)
    for row, axis in enumerate([1, 3]):
        np.testing.assert_allclose(tiles[row, :, axis], np.linspace(-3, 3, 7), atol=1e-5)
        others = np.arange(D) != axis
        np.testing.assert_allclose(tiles[row][:, others], np.tile(Z[0, others], (7, 1)), atol=1e-5)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "coordinate 1\nV-nat 3.0",
        "coordinate 3\nV-nat 2.0",
    ]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["-3", "-2", "-1", "0", "1", "2", "3"]


def test_the_sweep_frames_the_image_nearest_to_the_unchanged_one():
    (ax,) = plots.axis_sweep(Stripes(), IMAGES[1][None], [4.0, 3.0, 2.0, 1.0], points=7).axes
    assert tiles_of(ax, 4, 7).shape  # no more axes than there are
    assert frames(ax) == [(2, 0), (5, 1), (3, 2)]  # -1, 2, 0; the last coordinate, 4, lies beyond the sweep


def test_noise_on_the_activated_coordinates_starts_with_the_plain_image():
    (ax,) = plots.activated_noise(Stripes(), IMAGES[0], ACTIVE, draws=21, extent=1.5).axes
    points = tiles_of(ax, 2, 11).reshape(22, D)
    np.testing.assert_allclose(points[0], Z[0], atol=1e-5)
    assert frames(ax) == [(0, 0)]
    noise = points[1:] - Z[0]
    np.testing.assert_allclose(noise[:, ~ACTIVE], 0.0, atol=1e-5)
    assert 0.5 < np.abs(noise[:, ACTIVE]).max() <= 1.5 + 1e-5
    assert len(np.unique(noise[:, 0].round(4))) == 21
    assert "all 2 activated coordinates" in ax.get_title("left")


def test_places_without_a_draw_stay_white():
    (ax,) = plots.activated_noise(Stripes(), IMAGES[0], ACTIVE, draws=12).axes
    np.testing.assert_array_equal(tiles_of(ax, 2, 11)[1, 2:], 10.0)


MOSAICS = [
    lambda **title: plots.axis_sweep(Stripes(), IMAGES[0], VALUES[0], **title),
    lambda **title: plots.activated_noise(Stripes(), IMAGES[0], ACTIVE, **title),
    lambda **title: plots.image_interpolation(Stripes(), IMAGES, IMAGES, **title),
    lambda **title: plots.reconstructions(Stripes(), np.tile(IMAGES, (10, 1, 1, 1)), **title),
]


@pytest.mark.parametrize("draw", MOSAICS)
def test_tiles_reach_the_bottom_of_their_figure_and_make_room_for_a_heading(draw):
    figure = draw()
    figure.draw_without_rendering()
    assert 0.0 <= figure.get_tightbbox().y0 < 0.15  # inches
    heading = figure.suptitle("A heading")
    figure.draw_without_rendering()
    assert heading.get_window_extent().y0 >= figure.axes[0].get_tightbbox().y1


def test_figures_have_the_title_that_they_are_given():
    assert [draw(title="Mine").axes[0].get_title("left") for draw in MOSAICS] == ["Mine"] * 4
    assert plots.perturbation(Stripes(), IMAGES, ACTIVE, title="Mine").get_suptitle() == "Mine"


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.v_nat(VALUES, classes=3), "`classes` is 3; they must be integers from 0 to 2"),
        (lambda: plots.v_nat(VALUES, classes=[]), "`classes` is []"),
        (lambda: plots.v_nat(VALUES, class_names="ab"), "`class_names` has 2 names; it must have 3"),
        (lambda: plots.v_nat(VALUES[0]), "`values` of class 0 are 0.5; they must be finite, one for each"),
        (lambda: plots.v_nat([[1.0, np.nan]]), "`values` of class 0 are [1.0, nan]"),
        (lambda: plots.v_nat_correlation([[1.0, 2.0], [3.0, 3.0]]), "`values` of class 1 are the same in all of the 2"),
        (lambda: plots.perturbation(Stripes(), IMAGES, ACTIVE[:3]), "`active` is bool of shape (3,)"),
        (lambda: plots.perturbation(Stripes(), IMAGES, VALUES[:2]), "`active` is float64 of shape (2, 4)"),
        (lambda: plots.perturbation(Stripes(), IMAGES, ACTIVE, extent=0), "`extent` is 0; it must be positive"),
        (lambda: plots.perturbation(Stripes(), IMAGES[0], ACTIVE), "`images` is float32 of shape (4, 6, 1)"),
        (
            lambda: plots.axis_sweep(Stripes(), IMAGES, VALUES[0]),
            "`image` has shape (2, 4, 6, 1); it must be one image",
        ),
        (lambda: plots.axis_sweep(Stripes(), IMAGES[0], VALUES), "`v_nat` has shape (3, 4); it must be one finite"),
        (lambda: plots.axis_sweep(Stripes(), IMAGES[0], VALUES[0], points=1), "`points` is 1"),
        (lambda: plots.axis_sweep(Stripes(), IMAGES[0], VALUES[0], n_axes=0), "`n_axes` is 0"),
        (lambda: plots.axis_sweep(Stripes(), IMAGES[0], VALUES[0], extent=-1), "`extent` is -1"),
        (lambda: plots.activated_noise(Stripes(), IMAGES[0], ACTIVE, draws=0), "`draws` is 0. It must be an integer"),
        (lambda: plots.activated_noise(Stripes(), IMAGES[0], ACTIVE, extent=np.inf), "`extent` is inf"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(draw, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()
