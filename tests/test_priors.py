import json
import math
import re
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import integrate, stats

from keras_ssvae import data, priors
from keras_ssvae.priors import GaussianMixture, bhattacharyya_coefficients, from_layout

LAYOUTS = Path(__file__).parents[1] / "experiments/layouts"
ANIMALS = {"cat": [-6, 0], "dog": [6, 0.5], "frog": {"mean": [0, 12], "variance": [1, 9]}}


def test_circle_is_the_papers_mnist_prior():
    prior = priors.circle()
    k = np.arange(1, 11)
    radius = 4 / np.sin(np.pi / 10)
    expected = radius * np.stack([np.cos(np.pi / 10 * (2 * k - 1)), np.sin(np.pi / 10 * (2 * k - 1))], axis=1)
    np.testing.assert_allclose(prior.means, expected, atol=1e-5)
    np.testing.assert_array_equal(prior.variances, np.full((10, 2), 4.0))
    # Known answers, so that the formula above is not the only witness.
    np.testing.assert_allclose(prior.means[0], [12.310734, 4.0], rtol=1e-6)
    np.testing.assert_allclose(prior.means[7], [0.0, -12.944272], atol=1e-5)
    assert prior.means.dtype == prior.variances.dtype == np.float32
    assert (prior.num_classes, prior.latent_dim) == (10, 2)


@pytest.mark.parametrize("num_classes", [2, 3, 7, 10, 25])
def test_neighbours_on_the_circle_are_eight_apart(num_classes):
    means = priors.circle(num_classes).means
    distances = np.linalg.norm(means - np.roll(means, 1, axis=0), axis=1)
    np.testing.assert_allclose(distances, 8.0, rtol=1e-5)


def test_circle_takes_a_radius_and_one_variance_for_each_axis():
    prior = priors.circle(4, variance=[1.0, 2.0], radius=3.0)
    np.testing.assert_allclose(np.linalg.norm(prior.means, axis=1), 3.0, rtol=1e-6)
    np.testing.assert_array_equal(prior.variances, [[1.0, 2.0]] * 4)


def test_line_puts_two_classes_symmetrically_on_the_first_axis():
    np.testing.assert_array_equal(priors.line(2, distance=16.0).means, [[-8.0, 0.0], [8.0, 0.0]])
    np.testing.assert_array_equal(priors.line(3, distance=2.0, latent_dim=1).means, [[-2.0], [0.0], [2.0]])


def test_one_hot_is_the_papers_cifar10_prior():
    prior = priors.one_hot()
    assert prior.means.shape == (10, 256)
    np.testing.assert_array_equal(prior.means[:, :10], np.eye(10))
    np.testing.assert_array_equal(prior.means[:, 10:], 0.0)
    np.testing.assert_array_equal(prior.variances[:, :10], np.float32(0.1))
    np.testing.assert_array_equal(prior.variances[:, 10:], 1.0)


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        (2.0, [[2.0, 2.0]] * 3),
        ([1.0, 2.0], [[1.0, 2.0]] * 3),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]),
    ],
)
def test_variances_are_broadcast_to_every_class(variances, expected):
    np.testing.assert_array_equal(GaussianMixture(np.zeros((3, 2)), variances).variances, expected)


def test_the_arrays_are_copies_that_cannot_be_changed():
    means = np.zeros((2, 2), "float32")
    prior = GaussianMixture(means, 1.0)
    means[0, 0] = 7.0
    assert prior.means[0, 0] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        prior.variances[0, 0] = 7.0


def test_samples_have_the_moments_of_the_mixture():
    prior = GaussianMixture([[0.0, 10.0], [-5.0, 0.0]], [[1.0, 4.0], [0.25, 9.0]])
    z, labels = prior.sample(40_000, seed=3)
    assert z.shape == (40_000, 2)
    assert z.dtype == np.float32
    assert labels.shape == (40_000,)
    np.testing.assert_allclose(np.bincount(labels) / len(labels), 0.5, atol=0.01)
    for k in range(2):
        np.testing.assert_allclose(z[labels == k].mean(axis=0), prior.means[k], atol=0.1)
        np.testing.assert_allclose(z[labels == k].var(axis=0), prior.variances[k], rtol=0.04)


def test_the_seed_decides_the_samples():
    prior = priors.circle()
    z, labels = prior.sample(50, seed=1)
    again_z, again_labels = prior.sample(50, seed=1)
    np.testing.assert_array_equal(z, again_z)
    np.testing.assert_array_equal(labels, again_labels)
    assert not np.array_equal(z, prior.sample(50, seed=2)[0])


@pytest.mark.parametrize("prior", [priors.circle(), priors.line(3), priors.one_hot(3, 5)])
def test_the_prior_survives_keras_serialisation_exactly(prior):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(prior)))
    assert config["registered_name"] == "keras_ssvae>GaussianMixture"
    restored = keras.saving.deserialize_keras_object(config)
    assert isinstance(restored, GaussianMixture)
    np.testing.assert_array_equal(restored.means, prior.means)
    np.testing.assert_array_equal(restored.variances, prior.variances)


@pytest.mark.parametrize(
    ("means", "variances", "message"),
    [
        (np.zeros(3), 1.0, r"`means` has shape (3,)"),
        (np.zeros((0, 2)), 1.0, r"`means` has shape (0, 2)"),
        ([[0.0, np.nan]], 1.0, "`means` must hold finite numbers"),
        ([[0.0], [0.0, 1.0]], 1.0, "`means` is [[0.0], [0.0, 1.0]]; it must be an array of numbers"),
        (np.zeros((3, 2)), np.ones(3), "`variances` has shape (3,); with means of shape (3, 2) it must be"),
        (np.zeros((3, 2)), np.ones((2, 2)), "`variances` has shape (2, 2)"),
        (np.zeros((3, 2)), [1.0, 0.0], "`variances` must all be positive, but the smallest is 0.0"),
        (np.zeros((3, 2)), -1.0, "`variances` must all be positive, but the smallest is -1.0"),
        (np.zeros((3, 2)), np.nan, "`variances` must hold finite numbers"),
        (np.zeros((3, 2)), "wide", "`variances` is 'wide'; it must be an array of numbers"),
    ],
)
def test_a_wrong_mixture_is_refused_in_a_sentence(means, variances, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        GaussianMixture(means, variances)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: priors.circle(1), "`num_classes` is 1. It must be an integer of at least 2"),
        (lambda: priors.circle(radius=0.0), "`radius` is 0.0; it must be positive"),
        (lambda: priors.circle(radius=np.nan), "`radius` is nan; it must be positive"),
        (lambda: priors.line(0), "`num_classes` is 0"),
        (lambda: priors.line(2.0), "`num_classes` is 2.0"),
        (lambda: priors.circle().sample(5, seed=1.5), "`seed` is 1.5"),
        (lambda: priors.line(2, distance=-1.0), "`distance` is -1.0; it must be positive"),
        (lambda: priors.one_hot(10, latent_dim=9), "`num_classes` is 10 and `latent_dim` is 9"),
    ],
)
def test_a_wrong_layout_is_refused_in_a_sentence(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


# A layout of the user's own


@pytest.fixture
def file(tmp_path):
    """Writes a layout file."""

    def write(content):
        path = tmp_path / "layout.json"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_layout_places_labels_in_its_order_with_their_variances(file):
    for encoding in ("utf-8", "utf-8-sig"):  # with a byte order mark, as some editors write it
        path = file(json.dumps(ANIMALS).encode(encoding))
        for layout in (ANIMALS, path, str(path)):
            prior = from_layout(layout)
            np.testing.assert_array_equal(prior.means, [[-6, 0], [6, 0.5], [0, 12]])
            np.testing.assert_array_equal(prior.variances, [[4, 4], [4, 4], [1, 9]])


def test_class_names_decide_the_order():
    prior = from_layout(ANIMALS, class_names=["frog", "dog", "cat"])
    np.testing.assert_array_equal(prior.means, [[0, 12], [6, 0.5], [-6, 0]])
    np.testing.assert_array_equal(prior.variances, [[1, 9], [4, 4], [4, 4]])


def test_labels_that_number_the_classes_go_by_number(file):
    descending = {k: [100.0 * k] for k in range(11, -1, -1)}  # as texts, 10 and 11 would follow 1
    expected = 100.0 * np.arange(12)[:, None]
    np.testing.assert_array_equal(from_layout(descending).means, expected)
    np.testing.assert_array_equal(from_layout(file(json.dumps(descending))).means, expected)
    np.testing.assert_array_equal(from_layout(descending, class_names=range(12)).means, expected)
    from_one = {2: [0.0], 1: [100.0]}  # no class 0: these are names
    np.testing.assert_array_equal(from_layout(from_one).means, [[0.0], [100.0]])


@given(st.integers(1, 6), st.integers(1, 5), st.data())
def test_a_layout_has_as_many_classes_and_dimensions_as_it_says(num_classes, latent_dim, draw):
    numbers = st.floats(-1e6, 1e6, width=32)
    means = draw.draw(arrays(np.float32, (num_classes, latent_dim), elements=numbers))
    variance = draw.draw(st.floats(0.125, 100, width=32) | st.just([0.5] * latent_dim))
    prior = from_layout({f"class {k}": mean.tolist() for k, mean in enumerate(means)}, variance, max_overlap=1)
    np.testing.assert_array_equal(prior.means, means)
    np.testing.assert_array_equal(prior.variances, np.broadcast_to(np.float32(variance), means.shape))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        (3, "`layout` is 3; it must be a dictionary, label to position, or the path of a JSON file"),
        ({}, "`layout` is empty"),
        ({"a": 3}, "the position of 'a' is 3; it must be a list of finite numbers"),
        ({"a": []}, "the position of 'a' is []"),
        ({"a": ["1", "2"]}, "the position of 'a' is ['1', '2']"),
        ({"a": [True, False]}, "the position of 'a' is [True, False]"),
        ({"a": [[1], [2, 3]]}, "the position of 'a' is [[1], [2, 3]]"),
        ({"a": [[1, 2]]}, "the position of 'a' is [[1, 2]]"),
        ({"a": None}, "the position of 'a' is None"),
        ({"a": [1, np.nan]}, "the position of 'a' is [1, nan]"),
        ({"a": [1e39]}, "the position of 'a' is [1e+39]"),  # infinite as float32
        ({"a": [1, 2], "b": [1]}, "gives 'a' 2 coordinates and 'b' 1; all positions must have the same number"),
        ({"a": {}}, "gives 'a' the entries none; it must have 'mean'"),
        ({"a": {"variance": 1}}, "gives 'a' the entries 'variance'; it must have 'mean'"),
        ({"a": {"mean": [1], "varience": 1}}, "'mean' and 'varience'; it must have 'mean', may have 'variance'"),
        (
            {"a": {"mean": [1, 2], "variance": 0}},
            "variance of 'a' is 0; it must be a positive number, or a list of 2,",
        ),
        ({"a": {"mean": [1, 2], "variance": [1, -1]}}, "the variance of 'a' is [1, -1]"),
        ({"a": {"mean": [1, 2], "variance": [1]}}, "the variance of 'a' is [1]"),
        ({"a": {"mean": [1], "variance": 1e-50}}, "the variance of 'a' is 1e-50"),  # 0 as float32
        ({"a": {"mean": [1], "variance": None}}, "the variance of 'a' is None"),
        ({0: [1], "0": [2]}, "two labels with the same text, such as 0 and '0'"),
    ],
)
def test_a_mistake_in_a_layout_is_a_sentence(layout, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_layout(layout)
    assert str(caught.value).startswith("`layout`")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": [1, 2', "is not a layout in JSON: Expecting ',' delimiter: line 1 column 12"),
        ("", "is not a layout in JSON: Expecting value"),
        (b"\xff\x00\xff", "is not a layout in JSON: "),
        ("[" * 100_000, "is not a layout in JSON: maximum recursion depth exceeded"),
        ('{"a": [1], "b": [2], "a": [3]}', "is not a layout in JSON: it has 'a' twice."),
        ('{"a": {"mean": [1], "mean": [2]}}', "is not a layout in JSON: it has 'mean' twice."),
        ("[1, 2]", " is [1, 2]; it must be a dictionary, label to position."),
        ('{"a": [NaN]}', "the position of 'a' is [nan]"),
        ("{}", " is empty"),
    ],
)
def test_a_mistake_in_a_layout_file_is_a_sentence_that_names_the_file(file, content, message):
    path = file(content)
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        from_layout(path)
    assert str(caught.value).startswith(str(path))


def test_a_layout_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json cannot be read: No such file or directory\."):
        from_layout(tmp_path / "none.json")
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be read: "):
        from_layout(tmp_path)


def test_labels_that_do_not_fit_the_classes_are_named_with_the_nearest_class():
    layout = {"Cats": [1], "dog": [2], "zebu": [3]}
    expected = (
        "`layout` lacks 'cat' and 'frog' and names the unknown 'Cats' (for 'cat'?) and 'zebu'; it must have one entry "
        "for each of the 3 classes, by its name."
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        from_layout(layout, class_names=["cat", "dog", "frog"])
    with pytest.raises(ValueError, match=re.escape("lacks '1', '2', '3', '4', '5' and 4 more; it must")):
        from_layout({0: [0]}, class_names=range(10))
    with pytest.raises(ValueError, match="no name may appear twice"):
        from_layout({"cat": [0]}, class_names=["cat", "cat"])


@pytest.mark.parametrize("variance", [0, -1, [1, 1, 1], "wide", math.inf])
def test_a_wrong_common_variance_is_a_sentence(variance):
    with pytest.raises(ValueError, match=r"`variance` is .*; it must be a positive number, or a list of 2,"):
        from_layout(ANIMALS, variance)


# Separation


def test_the_papers_layouts_are_separated_but_for_close_digits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for prior in (priors.circle(), priors.line(5), priors.one_hot(10, 12)):
            from_layout(dict(enumerate(prior.means.tolist())), prior.variances[0])
    neighbours = np.diagonal(bhattacharyya_coefficients(priors.circle()), 1)
    np.testing.assert_allclose(neighbours, np.exp(-2), rtol=1e-6)
    with pytest.warns(UserWarning, match=r"'0' with '1' \(0\.607\)"):  # r = 4 there is exp(-1/2)
        from_layout({0: [-2, 0], 1: [2, 0]})


def test_one_warning_names_the_overlapping_pairs_the_worst_first(file):
    positions = {"cat": [0], "dog": [6], "frog": [11], "newt": [100]}
    with pytest.warns(UserWarning, match="overlap") as caught:
        from_layout(file(json.dumps(positions)), max_overlap=0.1)
    (warning,) = caught
    assert warning.filename == __file__
    assert re.search(
        r"layout\.json has classes that overlap: 'dog' with 'frog' \(0\.458\) and 'cat' with 'dog' \(0\.325\)\. .*"
        "it should be at most 0.1. Move the positions apart, or make the variances smaller",
        str(warning.message),
    )
    with pytest.warns(UserWarning, match=r"'0' with '1' \(1\), .* and 5 more\. The number"):
        from_layout({k: [0, 0] for k in range(5)})


@pytest.mark.parametrize("max_overlap", [-0.1, 1.1, math.nan])
def test_a_wrong_limit_of_overlap_is_a_sentence(max_overlap):
    with pytest.raises(ValueError, match=f"`max_overlap` is {max_overlap}; it must be from 0 to 1"):
        from_layout(ANIMALS, max_overlap=max_overlap)


def test_the_coefficients_are_the_closed_forms():
    centres = GaussianMixture([[0, 0], [3, 4]], 2.5)
    np.testing.assert_allclose(bhattacharyya_coefficients(centres)[0, 1], np.exp(-25 / (8 * 2.5)), rtol=1e-6)
    widths = bhattacharyya_coefficients(GaussianMixture(np.zeros((2, 3)), [[1, 4, 9], [4, 4, 1]]))
    np.testing.assert_allclose(widths[0, 1], np.sqrt(4 / 5 * 1 * 6 / 10), rtol=1e-6)
    assert widths.dtype == np.float32


def test_the_coefficients_are_the_integrals():
    prior = GaussianMixture([[0, 1], [2, -1], [0.5, 5]], [[1, 4], [9, 0.25], [2, 2]])
    axis = np.linspace(-25, 25, 1001)
    points = np.stack(np.meshgrid(axis, axis), axis=-1)
    roots = [
        np.sqrt(stats.multivariate_normal.pdf(points, mean, np.diag(variance)))
        for mean, variance in zip(prior.means, prior.variances, strict=True)
    ]
    expected = [[integrate.simpson(integrate.simpson(a * b, x=axis), x=axis) for a in roots] for b in roots]
    np.testing.assert_allclose(bhattacharyya_coefficients(prior), expected, rtol=1e-6)


@given(st.integers(1, 5), st.integers(1, 4), st.data())
def test_the_coefficients_are_a_symmetric_similarity(num_classes, latent_dim, draw):
    shape = (num_classes, latent_dim)
    means = draw.draw(arrays(np.float32, shape, elements=st.integers(-30, 30)))  # exact in float32 when moved
    variances = draw.draw(arrays(np.float32, shape, elements=st.floats(2.0**-126, 2.0**100, width=32)))
    coefficients = bhattacharyya_coefficients(GaussianMixture(means, variances))
    np.testing.assert_array_equal(coefficients, coefficients.T)
    np.testing.assert_array_equal(np.diagonal(coefficients), 1.0)
    assert ((coefficients >= 0) & (coefficients <= 1)).all()
    offset = draw.draw(arrays(np.float32, latent_dim, elements=st.integers(-1000, 1000)))
    moved = bhattacharyya_coefficients(GaussianMixture(means + offset, variances))
    np.testing.assert_array_equal(moved, coefficients)


def test_the_example_layout_arranges_the_clothes_by_kind_without_overlap():
    names = data.CLASS_NAMES["fashion_mnist"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior = from_layout(LAYOUTS / "fashion_mnist.json", class_names=names)
    distance = np.linalg.norm(prior.means[:, None] - prior.means, axis=-1)
    kinds = [("T-shirt/top", "shirt", "pullover", "coat", "dress"), ("sandal", "sneaker", "ankle boot")]
    for kind in kinds:
        inside = [names.index(name) for name in kind]
        outside = [k for k in range(10) if k not in inside]
        within = np.sort(distance[np.ix_(inside, inside)], axis=1)[:, 1]
        assert (within < distance[np.ix_(inside, outside)].min(axis=1)).all()
    assert np.abs(prior.means).max() < 15  # on the decoded grid


def test_the_example_layout_of_ten_dimensions_gives_each_digit_an_axis():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prior = from_layout(LAYOUTS / "one_hot.json", class_names=tuple("0123456789"))
    np.testing.assert_array_equal(prior.means, 12 * np.eye(10))
