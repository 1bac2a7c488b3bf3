"""Generated images before independent classifiers, by models and classifiers whose answers are known."""

import keras
import numpy as np
import pytest
from contract import registry, small
from keras import layers, ops
from scipy import stats

from keras_ssvae.evaluation import conditional_generation
from keras_ssvae.models.labels import ClassifierMixin, Labels


class Coded(ClassifierMixin, keras.Model):
    """An image is its label, as a grey value; of label 2 every second one is that of label 0."""

    def __init__(self):
        super().__init__()
        self.labels = Labels(3)

    def call(self, images):
        return images

    def classify(self, images):
        return images

    def sample_latent(self, labels, seed):
        wrong = ops.logical_and(ops.equal(labels, 2), ops.equal(ops.mod(ops.cast(seed, "int32"), 2), 0))
        return ops.cast(ops.where(wrong, 0, labels), "float32")[:, None]

    def decode(self, z):
        return z[:, :, None, None] - 1.0


class Reads(keras.Model):
    """The classifier that knows; sure to a degree."""

    def __init__(self, sure):
        super().__init__()
        self.sure = sure

    def call(self, images):
        label = ops.cast(ops.round(images[:, 0, 0, 0] + 1.0), "int32")
        others = (1.0 - self.sure) / 2
        return ops.one_hot(label, 3) * (self.sure - others) + others


def test_the_share_of_right_images_is_that_of_each_class():
    found = conditional_generation(Coded(), [Reads(0.9)], n=300, batch_size=64)
    assert found.right_percent_per_class == [100.0, 100.0, 50.0]
    assert found.right_percent == pytest.approx(250 / 3)
    assert found.mutual_information is None


def test_the_mutual_information_is_the_entropy_of_the_mean_less_the_mean_of_the_entropies():
    found = conditional_generation(Coded(), [Reads(0.9), Reads(0.5)], n=300)
    rows = np.array([[0.9, 0.05, 0.05], [0.5, 0.25, 0.25]])
    expected = stats.entropy(rows.mean(axis=0)) - np.mean([stats.entropy(row) for row in rows])
    assert found.mutual_information == pytest.approx(expected, rel=1e-5)
    same = conditional_generation(Coded(), [Reads(0.9), Reads(0.9)], n=30)
    assert same.mutual_information == pytest.approx(0.0, abs=1e-6)


def test_a_model_of_this_library_is_judged_whatever_the_batches_are():
    model, logits = registry.revae(), small.classifier()
    classifier = keras.Sequential([logits, layers.Softmax()])
    first, second = (conditional_generation(model, [classifier], n=30, batch_size=size) for size in (7, 30))
    assert first == second
    with pytest.raises(
        ValueError, match=r"`classifiers\[1\]` gives .* it must give the probabilities of the 3 classes"
    ):
        conditional_generation(model, [classifier, logits], n=30)
    with pytest.raises(ValueError, match="another width than 3"):
        conditional_generation(model, [keras.Sequential([small.classifier(2), layers.Softmax()])], n=30)


def test_what_cannot_be_judged_is_a_sentence():
    with pytest.raises(ValueError, match="`classifiers` is empty"):
        conditional_generation(Coded(), [])
    with pytest.raises(ValueError, match="needs a model with one label; `model` is a VAE"):
        conditional_generation(registry.vae(), [Reads(0.9)])
    with pytest.raises(ValueError, match="one label"):
        conditional_generation(registry.revae(several=True), [Reads(0.9)])
