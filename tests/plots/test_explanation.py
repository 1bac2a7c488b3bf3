import dataclasses
import re

import numpy as np
import pytest

from keras_ssvae import plots
from keras_ssvae.models.explanation import Explanation

SHAPE = (4, 5, 1)
IMAGE = np.linspace(-1, 1, 20, dtype="float32").reshape(SHAPE)
ACTIVE = np.array([2, 0, 3])
PROBS = np.array([0.1, 0.7, 0.2], "float32")


def explanation(active=ACTIVE, d=4, probs=PROBS, channels=1):
    """Decoded images of one value each: the reconstruction 0, low -0.1 and so on by row, high 0.2 and so on."""
    shape = (*SHAPE[:2], channels)
    rows = np.arange(1, len(active) + 1, dtype="float32")[:, None, None, None] * np.ones(shape, "float32")
    return Explanation(
        probs=probs,
        component=int(probs.argmax()),
        z=np.zeros(d, "float32"),
        offsets=np.arange(d, dtype="float32") - 1.5,
        distance=2.2,
        usual_distance=1.7,
        v_nat=np.linspace(1.1, 9.1, d, dtype="float32"),
        delta=1.0,
        active=np.asarray(active, dtype="int64"),
        low=-0.1 * rows,
        high=0.2 * rows,
        reconstruction=np.zeros(shape, "float32"),
    )


def texts(figure):
    """Those above the image and above the coordinates, in one line each."""
    return [part.get_suptitle().replace("\n", " ") for part in figure.subfigs]


def tiles_of(ax, rows):
    """The tiles of a mosaic of four columns with gaps of 2 pixels: (rows, 4, H, W, 3)."""
    sheet = np.asarray(ax.images[0].get_array())
    height, width = SHAPE[0] + 2, SHAPE[1] + 2
    assert sheet.shape == (rows * height - 2, 4 * width - 2, 3)
    tiles = [[sheet[r * height :, c * width :][: SHAPE[0], : SHAPE[1]] for c in range(4)] for r in range(rows)]
    return np.array(tiles)


def test_the_image_its_reconstruction_and_all_of_few_classes_are_drawn():
    left, middle, right = plots.explanation(IMAGE, explanation()).axes[:3]
    np.testing.assert_allclose(left.images[0].get_array(), (IMAGE[..., 0] + 1) / 2)
    np.testing.assert_allclose(middle.images[0].get_array(), np.full(SHAPE[:2], 0.5))
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], PROBS)
    assert [label.get_text() for label in right.get_yticklabels()] == ["0", "1", "2"]
    assert [text.get_text() for text in right.texts] == ["10.0 %", "70.0 %", "20.0 %"]
    colours = [bar.get_facecolor() for bar in right.patches]
    assert colours[0] == colours[2] != colours[1]


def test_of_many_classes_the_most_probable_are_drawn():
    probs = np.random.default_rng(0).dirichlet(np.ones(30)).astype("float32")
    right = plots.explanation(IMAGE, explanation(probs=probs)).axes[2]
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], np.sort(probs)[::-1][:10])
    assert right.get_yticklabels()[0].get_text() == str(probs.argmax())


def test_a_row_shows_a_coordinate_low_own_and_high_and_the_change():
    ax, bar = plots.explanation(IMAGE, explanation()).axes[3:]
    tiles = tiles_of(ax, 3)
    for row in range(3):
        for column, value in enumerate((-0.1 * (row + 1), 0.0, 0.2 * (row + 1))):
            np.testing.assert_allclose(tiles[row, column], (value + 1) / 2, rtol=1e-6)
    changes = tiles[:, 3, 0, 0]  # all grow: red, on one scale for all rows, whose ends are the greatest change
    assert (changes[:, 0] > changes[:, 2]).all()
    assert (np.diff(changes[:, 2]) < 0).all()
    np.testing.assert_allclose(bar.get_ylim(), [-0.9, 0.9])
    assert [label.get_text().split("\n") for label in ax.get_yticklabels()] == [
        ["coordinate 2", "V-nat 6.4", "own +0.5"],
        ["coordinate 0", "V-nat 1.1", "own -1.5"],
        ["coordinate 3", "V-nat 9.1", "own +1.5"],
    ]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["-2", "the image's own", "+2", "change"]


def test_the_change_of_colours_is_that_of_the_channel_that_changes_most():
    colourful = explanation(channels=3)
    colourful.high[0] = [0.3, 0.0, -1.0]  # 0.4, 0.1, -0.9 above the low one
    ax = plots.explanation(np.repeat(IMAGE, 3, axis=-1), colourful).axes[3]
    tiles = tiles_of(ax, 3)
    np.testing.assert_allclose(tiles[0, 2, 0, 0], [0.65, 0.5, 0.0], atol=1e-6)
    np.testing.assert_allclose(tiles[0, 3], np.broadcast_to(tiles[0, 3, 0, 0], tiles[0, 3].shape))
    assert tiles[0, 3, 0, 0, 2] > tiles[0, 3, 0, 0, 0] + 0.3  # blue: darker
    assert tiles[1, 3, 0, 0, 0] > tiles[1, 3, 0, 0, 2] + 0.3  # red: lighter


def test_the_texts_say_where_the_image_falls_and_how_many_coordinates_are_active():
    falls, active = texts(plots.explanation(IMAGE, explanation(), class_names=["cat", "dog", "hen"]))
    assert falls == explanation().sentence(["cat", "dog", "hen"])
    assert active.startswith("3 of 4 coordinates active (V-nat above 1). Each at -2 and +2 prior standard deviations")


def test_of_many_active_coordinates_only_the_first_rows_are_drawn():
    figure = plots.explanation(IMAGE, explanation(active=np.arange(40), d=256), max_rows=2)
    assert tiles_of(figure.axes[3], 2).shape[0] == 2
    assert texts(figure)[1].startswith("40 of 256 coordinates active (V-nat above 1). The 2 of the highest V-nat at -2")


def test_without_an_active_coordinate_there_are_no_rows():
    figure = plots.explanation(IMAGE, explanation(active=[]))
    assert len(figure.axes) == 3
    assert texts(figure)[1] == "0 of 4 coordinates active (V-nat above 1)"


def test_active_coordinates_that_change_nothing_are_drawn_white():
    same = explanation()
    ax, bar = plots.explanation(IMAGE, dataclasses.replace(same, high=same.low)).axes[3:]
    assert np.ptp(tiles_of(ax, 3)[:, 3], axis=-1).max() < 0.02
    assert np.isfinite(bar.get_ylim()).all()


@pytest.mark.parametrize("names", [None, ["T-shirt/top", "a class of a long name", "ankle boot"]])
@pytest.mark.parametrize("active", [[], [2], np.arange(4)])
def test_nothing_is_cut_off(active, names):
    figure = plots.explanation(IMAGE, explanation(active=active, d=256), class_names=names)
    figure.draw_without_rendering()
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    assert drawn.x0 >= 0
    assert drawn.y0 >= 0
    assert drawn.x1 <= width
    assert drawn.y1 <= height


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image": IMAGE[:3]}, "`image` has shape (3, 5, 1) and its reconstruction (4, 5, 1)"),
        ({"image": IMAGE[None].repeat(2, 0)}, "`image` has shape (2, 4, 5, 1); it must be one image"),
        ({"image": 255 * IMAGE}, "it must be floats in [-1, 1]"),
        ({"class_names": "ab"}, "`class_names` has 2 names; it must have 3"),
        ({"max_rows": 0}, "`max_rows` is 0. It must be an integer of at least 1"),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        plots.explanation(**{"image": IMAGE, "explanation": explanation(), **arguments})
