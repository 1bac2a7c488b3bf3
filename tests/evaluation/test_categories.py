"""How many categories a model uses, and for which labels."""

import numpy as np
import pytest
from keras import ops

from keras_ssvae import evaluation

# Table 2 of CP-VAE: of each label of Fashion-MNIST the five likeliest of 150 categories.
CP = """9 80 127 24 62, 143 1 144 64 135, 146 25 145 41 29, 135 91 17 138 64, 83 138 109 37 147,
34 88 77 3 85, 79 122 81 26 127, 53 16 43 46 19, 47 95 137 97 63, 94 130 101 119 132"""
INDQ = """135 133 149 42 64, 135 149 71 64 3, 135 149 71 42 3, 135 149 133 3 148, 135 71 149 42 114,
63 13 34 39 31, 127 149 135 42 133, 63 34 13 31 126, 7 63 105 123 145, 13 63 34 31 145"""


def numbers(table):
    return [[int(number) for number in row.split()] for row in table.split(",")]


# As they are printed; 20 of INDq's are distinct.
@pytest.mark.parametrize(("table", "expected"), [(CP, (46, 4)), (INDQ, (20, 12))])
def test_the_overlaps_of_the_papers_table_are_those_that_can_be_counted_in_it(table, expected):
    assert evaluation.category_overlap(numbers(table)) == expected
    assert evaluation.category_overlap(dict(enumerate(numbers(table)))) == expected


def test_the_likeliest_are_those_of_the_mean_and_come_in_its_order():
    probs = np.array([[0.7, 0.2, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [0.3, 0.3, 0.2, 0.2]])
    by_label = evaluation.category_probs_by_label(probs, [4, 1, 4])
    assert list(by_label) == [1, 4]
    np.testing.assert_allclose(by_label[4], [0.5, 0.25, 0.15, 0.1])
    assert evaluation.likeliest_categories(probs, [4, 1, 4], n=2) == {1: [3, 2], 4: [0, 1]}
    assert evaluation.likeliest_categories(probs, [4, 1, 4], n=9)[4] == [0, 1, 2, 3]


@pytest.mark.parametrize("used", [1, 3, 8])
def test_of_equal_categories_the_perplexity_is_their_number(used):
    probs = np.eye(8)[np.arange(24) % used]
    found = evaluation.category_use(probs)
    assert found.perplexity == pytest.approx(used)
    assert found.in_use == (used if used < 8 else 0)  # none is above 1/8


def test_the_use_is_that_of_the_mean_and_not_of_each_image():
    assert evaluation.category_use(np.full((5, 4), 0.25)) == (0, pytest.approx(4.0))
    assert evaluation.category_use(np.ones((5, 1))) == (1, 1.0)  # a single one is in use
    found = evaluation.category_use([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    assert found == (1, pytest.approx(np.exp(-(0.5 * np.log(0.5) + 0.5 * np.log(0.25)))))


class Thirds:
    """Finds two categories, by the mean of an image."""

    num_categories, cluster_names = 2, None

    def clusters(self, images):
        share = ops.mean(images, axis=(1, 2, 3))
        return ops.stack([share, 1.0 - share], axis=1)

    def generate(self, n, seed, categories=None, probs=None):
        raise NotImplementedError


def test_many_images_go_through_a_model_batch_by_batch():
    images = np.linspace(0, 1, 7, dtype="float32").reshape(7, 1, 1, 1)
    found = evaluation.clusters(Thirds(), images, batch_size=3)
    np.testing.assert_allclose(found[:, 0], images.ravel(), rtol=1e-6)
    with pytest.raises(ValueError, match=r"`evaluation.clusters` needs a model that finds categories.* object has no"):
        evaluation.clusters(object(), images)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: evaluation.category_use(np.ones(3)), r"`probs` has shape \(3,\)"),
        (lambda: evaluation.category_use([[0.5, 0.7]]), "`probs` holds numbers"),
        (lambda: evaluation.category_probs_by_label([[0.5, 0.5]], [0, 1]), "an integer for each of the 1 images"),
        (lambda: evaluation.category_probs_by_label([[0.5, 0.5]], [0.0]), "`labels` is float64"),
        (lambda: evaluation.likeliest_categories([[0.5, 0.5]], [0], n=0), "`n` is 0"),
    ],
)
def test_mistakes_are_named(call, match):
    with pytest.raises(ValueError, match=match):
        call()
