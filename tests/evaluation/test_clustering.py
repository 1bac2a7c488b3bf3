"""Agreement of clusters with classes."""

import itertools

import numpy as np
import pytest

from keras_ssvae.evaluation import cluster_accuracy

RNG = np.random.default_rng(0)


def test_the_names_of_clusters_do_not_count():
    labels = RNG.integers(0, 4, 100)
    assert cluster_accuracy(np.array([7, 2, 9, 5])[labels], labels) == (100.0, 100.0)


def test_one_to_one_is_the_best_of_all_assignments():
    clusters, labels = RNG.integers(0, 5, 60), RNG.integers(0, 4, 60)
    best = max(np.mean(np.array(named)[clusters] == labels) for named in itertools.permutations([0, 1, 2, 3, -1]))
    np.testing.assert_allclose(cluster_accuracy(clusters, labels).one_to_one, 100 * best)


def test_many_to_one_takes_the_most_frequent_class_of_each_cluster():
    # Cluster 0 has two of class 0 and one of class 1, cluster 1 two of class 0, cluster 2 one of class 1.
    result = cluster_accuracy([0, 0, 0, 1, 1, 2], [0, 0, 1, 0, 0, 1])
    np.testing.assert_allclose(result, (50.0, 100 * 5 / 6))


def test_of_probabilities_the_largest_counts():
    clusters, labels = RNG.integers(0, 3, 30), RNG.integers(0, 3, 30)
    probs = 0.1 + 0.5 * np.eye(3)[clusters]
    assert cluster_accuracy(probs, labels) == cluster_accuracy(clusters, labels)


@pytest.mark.parametrize(
    ("clusters", "labels", "sentence"),
    [
        ([0.5, 1.0], [0, 1], "`clusters` is float64 of shape"),
        ([0, 1], [[0, 1]], "`labels` is int64 of shape"),
        ([0, 1], [0, -1], "`labels` has -1; give only images that have a cluster and a label"),
        ([0, 1, 1], [0, 1], "`clusters` has 3 images and `labels` 2"),
        ([], [], "`clusters` is float64 of shape"),
        ([[np.nan, 1.0]], [0], "`clusters` holds probabilities that are not finite"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(clusters, labels, sentence):
    with pytest.raises(ValueError, match=sentence):
        cluster_accuracy(clusters, labels)
