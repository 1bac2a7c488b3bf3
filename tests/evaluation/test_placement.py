"""Where the classes are, on a model whose encoder, classifier and decoder are known."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import evaluation
from keras_ssvae.evaluation.placement import Judge
from keras_ssvae.priors import GaussianMixture

PRIOR = GaussianMixture([[-6.0, 0.0], [6.0, 0.0], [0.0, 8.0]], [[1.0, 4.0], [1.0, 1.0], [4.0, 4.0]])


class Known(keras.Model):
    """An image has z in its first two pixels and its class in the third; the decoder draws as `places` says."""

    def __init__(self, draws=lambda z: z[:, 0] > 0.0):
        super().__init__()
        self.class_prior, self.draws = PRIOR, draws

    def call(self, x):
        pixels = ops.reshape(x, (-1, 4))
        z = 16.0 * pixels[:, None, :2] * ops.ones((1, 3, 1))
        probs = ops.one_hot(ops.cast(ops.round(2.0 * pixels[:, 2]), "int32"), 3)
        return {"probs": probs, "mean": z, "logvar": ops.zeros_like(z), "reconstruction": x}

    def posterior(self, x):
        outputs = self(x)
        return {name: outputs[name] for name in ("mean", "logvar", "probs")}

    def decode(self, z):
        classes = ops.cast(self.draws(z), "float32") / 2.0
        empty = ops.zeros_like(classes)
        return ops.reshape(ops.stack([z[:, 0] / 100, z[:, 1] / 100, classes, empty], axis=1), (-1, 2, 2, 1))


def images_at(z, classified):
    z, classified = np.asarray(z, "float32"), np.asarray(classified, "float32")
    pixels = np.stack([z[:, 0] / 16, z[:, 1] / 16, classified / 2, -np.ones(len(z))], axis=1)
    return pixels.reshape(-1, 2, 2, 1).astype("float32")


Z = [[-6, 0], [-6, 2], [-6, 4], [5, 0], [6, 0], [8, 0], [-6, 8], [0, 8]]
CLASSIFIED, LABELS = [0, 0, 0, 1, 1, 0, 2, 2], [0, 0, 0, 1, 1, 1, 2, 2]


def test_distances_are_from_the_median_image_in_standard_deviations_of_the_component():
    found = evaluation.places(Known(), images_at(Z, CLASSIFIED), LABELS)
    # Medians (-6, 2), (6, 0) and (-3, 8): 2 / 2, 0, and 3 / 2 standard deviations off.
    assert found.place_distance_per_class == pytest.approx([1.0, 0.0, 1.5], abs=1e-5)


def test_the_nearest_place_counts_among_images_that_are_classified_right():
    found = evaluation.places(Known(), images_at(Z, CLASSIFIED), LABELS)
    # (-6, 8) is 4 deviations from class 0 and 3 from class 2; (-6, 4) is 2 from class 0, and 3.6 from class 2.
    assert found.nearest_place_percent_per_class == [100.0, 100.0, 100.0]
    moved = [*Z[:-1], [-6, 0]]
    found = evaluation.places(Known(), images_at(moved, CLASSIFIED), LABELS)
    assert found.nearest_place_percent_per_class == [100.0, 100.0, 50.0]
    assert found.nearest_place_percent == pytest.approx(100 * 6 / 7)


def test_classes_that_are_elsewhere_are_named():
    swapped = [[6, 0]] * 3 + [[-6, 0]] * 3 + [[0, 8]] * 2
    found = evaluation.places(Known(), images_at(swapped, LABELS), LABELS)
    assert found.misplaced_classes == [0, 1]
    assert evaluation.places(Known(), images_at(PRIOR.means[LABELS], LABELS), LABELS).misplaced_classes == []


def test_the_reach_in_more_dimensions_holds_as_much_of_the_prior_as_in_a_plane():
    class High(Known):
        def __init__(self, away):
            super().__init__()
            self.class_prior = GaussianMixture(np.stack([np.zeros(100), np.full(100, 50.0)]), 1.0)
            self.away = away

        def call(self, x):
            z = np.stack([np.full(100, self.away / 10), np.full(100, 50.0)]).astype("float32")
            mean = ops.broadcast_to(ops.convert_to_tensor(z), (x.shape[0], 2, 100))
            probs = ops.one_hot(ops.cast(ops.reshape(x, (-1, 4))[:, 2], "int32"), 2)
            return {"probs": probs, "mean": mean, "logvar": mean, "reconstruction": x}

        decode = None

    images = images_at([[0, 0], [0, 0]], [0, 2])
    # Two thirds of a Gaussian in 100 dimensions lie within 10.2 standard deviations.
    assert evaluation.places(High(10.0), images, [0, 1]).misplaced_classes == []
    assert evaluation.places(High(10.5), images, [0, 1]).misplaced_classes == [0]


def test_generated_images_are_judged_by_both_classifiers():
    model = Known()  # draws class 0 where z_1 < 0, else class 1: of class 2 nothing
    z = np.concatenate([PRIOR.means[k] + np.random.default_rng(k).normal(size=(50, 2)) for k in range(3)])
    labels = np.repeat([0, 1, 2], 50)
    images = np.asarray(model.decode(ops.convert_to_tensor(z.astype("float32"))))
    found = evaluation.places(model, images, np.where(z[:, 0] > 0, 1, 0))
    assert found.generated_right_percent_per_class == [100.0, 100.0, 0.0]
    assert found.generated_right_percent == pytest.approx(200 / 3)
    # The neighbours see the same third pixel, but their labels are what they were given.
    assert found.generated_right_percent_independent_per_class == [100.0, 100.0, 0.0]
    assert found.independent_right_percent == 100.0
    found = evaluation.places(model, images, labels, classifier=keras.Sequential([Says(2)]))
    assert found.generated_right_percent_independent_per_class == [0.0, 0.0, 100.0]
    assert found.independent_right_percent == pytest.approx(100 / 3)


@keras.saving.register_keras_serializable("tests")
class Says(keras.layers.Layer):
    def __init__(self, label):
        super().__init__()
        self.label = label

    def call(self, x):
        return ops.one_hot(ops.full((ops.shape(x)[0],), self.label, "int32"), 3)


def test_a_class_without_images_has_no_place_and_the_others_theirs():
    found = evaluation.places(Known(), images_at(Z[:6], CLASSIFIED[:6]), LABELS[:6])
    assert found.place_distance_per_class[2] is None
    assert found.nearest_place_percent_per_class[2] is None
    assert 2 not in found.misplaced_classes


def test_batches_of_any_size_give_the_same():
    images, labels = images_at(Z, CLASSIFIED), np.array(LABELS)
    expected = evaluation.places(Known(), images, labels)
    batches = [(images[i : i + 3], labels[i : i + 3]) for i in range(0, 8, 3)]
    assert evaluation.places(Known(), batches) == expected
    assert evaluation.places(Known(), images, labels, batch_size=2) == expected


def test_a_model_without_places_is_refused():
    with pytest.raises(ValueError, match="`places` needs a model whose prior has one component for each class"):
        evaluation.places(keras.Sequential(), images_at(Z, CLASSIFIED), LABELS)


def test_neighbours_vote_as_those_of_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (300, 4, 4, 1)).astype("float32")
    labels = (images[:, 0, 0, 0] > 0).astype(int) + (images[:, 1, 1, 0] > 0)
    judge = Judge(3)
    judge.see(images[:100], labels[:100])
    judge.see(images[100:200], labels[100:200])
    oracle = KNeighborsClassifier(5).fit(images[:200].reshape(200, -1), labels[:200])
    votes = oracle.predict_proba(images[200:].reshape(100, -1))
    clear = np.sort(votes, axis=1)[:, -1] > np.sort(votes, axis=1)[:, -2]  # ties are broken otherwise
    np.testing.assert_array_equal(judge.predict(images[200:])[clear], votes.argmax(axis=1)[clear])
    apart = [
        KNeighborsClassifier(5).fit(np.delete(images[:200], i, 0).reshape(199, -1), np.delete(labels[:200], i))
        for i in range(200)
    ]
    votes = np.concatenate([each.predict_proba(images[i : i + 1].reshape(1, -1)) for i, each in enumerate(apart)])
    # All that could be put right by any way to break ties, and all that must be.
    best = votes == votes.max(axis=1, keepdims=True)
    own = best[np.arange(200), labels[:200]]
    assert 100 * (own & (best.sum(axis=1) == 1)).mean() <= judge.right_percent() <= 100 * own.mean()


def test_each_class_keeps_as_many_neighbours_however_the_images_are_ordered(monkeypatch):
    monkeypatch.setattr("keras_ssvae.evaluation.placement._KEPT", 20)
    judge = Judge(2)
    for _ in range(3):
        judge.see(np.zeros((30, 2, 2, 1), "float32"), np.array([0] * 28 + [1] * 2))
    kept = np.concatenate(judge._labels)
    assert np.bincount(kept).tolist() == [10, 6]
