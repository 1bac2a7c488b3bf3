"""The figures of models whose labels have latent variables of their own."""

import numpy as np
import pytest
from contract import registry, small
from keras import ops

from keras_ssvae import plots

SIZE = 8


def tiles(figure, rows, columns):
    (ax,) = figure.axes
    sheet = np.asarray(ax.images[0].get_array())
    step = SIZE + 2
    return np.stack(
        [[sheet[r * step : r * step + SIZE, c * step : c * step + SIZE] for c in range(columns)] for r in range(rows)]
    )


def shown(images):
    return (ops.convert_to_numpy(images) + 1.0) / 2.0


@pytest.fixture(scope="module")
def model():
    return registry.revae()


def test_interventions_have_a_column_for_each_value_of_one_label(model):
    x = small.images(2)
    figure = plots.interventions(model, x, class_names=["cat", "dog", "truck"])
    drawn = tiles(figure, 2, 5)
    np.testing.assert_allclose(drawn[:, 0], shown(x), atol=1e-6)
    np.testing.assert_allclose(drawn[:, 1], shown(model.reconstruct(x)), atol=1e-6)
    for k in range(3):
        np.testing.assert_allclose(drawn[:, 2 + k], shown(model.intervene(x, 0, k)), atol=1e-6)
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["image", "reconstruction", "cat", "dog", "truck"]


def test_interventions_of_several_labels_switch_each_on():
    model, x = registry.revae(several=True), small.images(2)
    drawn = tiles(plots.interventions(model, x, seed=3), 2, 4)
    np.testing.assert_allclose(drawn[:, 2], shown(model.intervene(x, 0, 2, seed=3)), atol=1e-6)
    np.testing.assert_allclose(drawn[:, 3], shown(model.intervene(x, 1, 1, seed=3)), atol=1e-6)


def test_diversity_has_a_column_for_each_draw_of_one_value(model):
    x = small.images(2)
    figure = plots.diversity(model, x, 0, 1, n=3, class_names=["cat", "dog", "truck"])
    drawn = tiles(figure, 2, 5)
    np.testing.assert_allclose(drawn[:, 1], shown(model.reconstruct(x)), atol=1e-6)
    for seed in (1, 2, 3):
        np.testing.assert_allclose(drawn[:, 1 + seed], shown(model.intervene(x, 0, 1, seed)), atol=1e-6)
    assert np.abs(drawn[:, 2] - drawn[:, 3]).max() > 1e-3
    assert figure.axes[0].get_title(loc="left").endswith("draws of dog")


def test_a_walk_of_two_labels_goes_from_their_first_values_to_their_last():
    model, x = registry.revae(several=True), small.images(1)
    drawn = tiles(plots.walk(model, x[0], [1, 0], n=3, class_names=["size", "colour"]), 3, 3)
    for (row, column), values in zip([(0, 0), (0, 2), (2, 0), (2, 2)], [(0, 0), (0, 2), (1, 0), (1, 2)], strict=True):
        np.testing.assert_allclose(drawn[row, column], shown(model.intervene(x, [1, 0], values))[0], atol=1e-5)
    z = ops.convert_to_numpy(model.encode(x))
    for i, place in ((0, slice(0, 2)), (1, slice(2, 3))):
        z[:, place] = ops.convert_to_numpy(model.c_priors[i].means)[[0, -1]].mean(axis=0)
    np.testing.assert_allclose(drawn[1, 1], shown(model.decode(z))[0], atol=1e-5)


def test_swaps_have_the_images_left_and_the_donors_on_top(model):
    x, donors = small.images(3), small.images(2, seed=4)
    drawn = tiles(plots.swap(model, x, donors), 4, 3)
    np.testing.assert_allclose(drawn[1:, 0], shown(x), atol=1e-6)
    np.testing.assert_allclose(drawn[0, 1:], shown(donors), atol=1e-6)
    np.testing.assert_allclose(drawn[2, 2], shown(model.swap(x[1:2], donors[1:2]))[0], atol=1e-6)


def test_a_surface_has_the_means_of_four_classes_at_its_corners(model):
    x = small.images(1)
    drawn = tiles(plots.surface(model, x[0], [0, 1, 2, 0], n=3), 3, 3)
    for (row, column), k in zip([(0, 0), (0, 2), (2, 0), (2, 2)], [0, 1, 2, 0], strict=True):
        np.testing.assert_allclose(drawn[row, column], shown(model.intervene(x, 0, k))[0], atol=1e-5)
    z = ops.convert_to_numpy(model.encode(x))
    means = ops.convert_to_numpy(model.c_priors[0].means)
    z[:, :2] = (means[0] + means[1] + means[2] + means[0]) / 4
    np.testing.assert_allclose(drawn[1, 1], shown(model.decode(z))[0], atol=1e-5)


@pytest.mark.parametrize(
    "draw",
    [
        lambda m: plots.interventions(m, small.images(1)),
        lambda m: plots.swap(m, small.images(1), small.images(1)),
        lambda m: plots.surface(m, small.images(1)[0], [0, 1, 2, 0]),
        lambda m: plots.walk(m, small.images(1)[0], [0, 1]),
        lambda m: plots.diversity(m, small.images(1), 0, 1),
    ],
)
def test_another_model_is_refused_by_name(draw):
    with pytest.raises(ValueError, match="EXoN has no `intervene` and `swap`"):
        draw(registry.exon())


def test_a_surface_is_of_one_label_and_a_walk_of_two_of_several(model):
    several, x = registry.revae(several=True), small.images(1)[0]
    with pytest.raises(ValueError, match="one label"):
        plots.surface(several, x, [0, 1, 2, 0])
    with pytest.raises(ValueError, match="several labels"):
        plots.walk(model, x, [0, 1])
    with pytest.raises(ValueError, match="`labels` has 1 labels; it must have two"):
        plots.walk(several, x, [0])
    with pytest.raises(ValueError, match=r"`n` is 1\. It must be an integer of at least 2"):
        plots.walk(several, x, [0, 1], n=1)


@pytest.mark.parametrize(
    "draw",
    [
        lambda m, x, names: plots.interventions(m, x, names),
        lambda m, x, names: plots.diversity(m, x, 0, 0, class_names=names),
        lambda m, x, names: plots.surface(m, x[0], [0, 1, 0, 1], class_names=names),
        lambda m, x, names: plots.scatter(np.eye(3), range(3), class_names=names),
        lambda m, x, names: plots.kl_per_dimension({"z_c": np.ones((3, 2))}, names),
        lambda m, x, names: plots.v_nat(np.ones((3, 2)), class_names=names),
        lambda m, x, names: plots.interpolation(registry.exon(), class_names=names),
        lambda m, x, names: plots.traversals(registry.cvae(), [0, 1], class_names=names),
        lambda m, x, names: plots.learned_prior(registry.parted(), class_names=names),
    ],
)
def test_each_class_needs_a_name(model, draw):
    with pytest.raises(ValueError, match="`class_names` has 2 names; it must have 3"):
        draw(model, small.images(1), ["cat", "dog"])


def test_what_would_be_drawn_wrongly_is_refused(model):
    x = small.images(2)
    for value in (3, -1, 1.0, [1]):
        with pytest.raises(ValueError, match=r"`value` is .*; it must be an integer from 0 to 2"):
            plots.diversity(model, x, 0, value)
    with pytest.raises(ValueError, match=r"`class_names` is .*; each name must be different"):
        plots.interventions(model, x, ["top", "dog", "top"])


def test_seeds_may_be_a_list_and_the_reach_is_a_number(model):
    x = small.images(2)
    for seeds in ([-1, -1], [3, 4]):
        listed, array = (ops.convert_to_numpy(model.intervene(x, 0, 1, kind(seeds))) for kind in (list, np.array))
        np.testing.assert_array_equal(listed, array)
    for seeds in (np.array([1.5, 2.9]), np.array([[1], [2]]), "a"):
        with pytest.raises(ValueError, match=r"(?s)`seed` is .*; it must be one integer, or one for each image"):
            model.intervene(x, 0, 1, seeds)
    for reach in (float("nan"), -1.0, "a", None):
        with pytest.raises(ValueError, match=r"`reach` is .*; it must be a finite number, 0 or more"):
            model.traverse(x, 0, values=(0, 1), reach=reach)
