import hashlib
import re
import time
import urllib.request

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae.evaluation import (
    ClassifierUnavailableError,
    InceptionScore,
    inception,
    inception_score,
    inception_score_from_probs,
    load_classifier,
    sample_classes,
)
from keras_ssvae.priors import GaussianMixture


def brightness_classifier(size=(6, 8, 3), name="brightness"):
    """Two classes: sure of the first where the sum over all pixels is negative, of the second where it is positive."""
    images = keras.Input(size)
    total = layers.Dense(2, use_bias=False, activation="softmax", name="sum")(layers.Flatten()(images))
    model = keras.Model(images, total, name=name)
    model.layers[-1].set_weights([np.tile([[-1000.0, 1000.0]], (int(np.prod(size)), 1))])
    return model


def flat_images(levels, size=4, channels=3):
    levels = np.asarray(levels, "float32")
    return np.broadcast_to(levels[:, None, None, None], (len(levels), size, size, channels))


@pytest.mark.parametrize("num_classes", [2, 10, 1000])
def test_uniform_probabilities_score_one_and_sure_ones_spread_over_k_classes_score_k(num_classes):
    uniform = np.full((2 * num_classes, num_classes), 1 / num_classes)
    assert inception_score_from_probs(uniform, splits=2)[:2] == pytest.approx((1.0, 0.0), abs=1e-9)
    sure = np.tile(np.eye(num_classes), (2, 1))
    assert inception_score_from_probs(sure, splits=2, seed=None)[:2] == pytest.approx((num_classes, 0.0), rel=1e-9)


def test_images_that_are_all_surely_of_one_class_score_one():
    assert inception_score_from_probs(np.eye(5)[[3] * 20], splits=4)[:2] == pytest.approx((1.0, 0.0))


def test_unsure_probabilities_score_by_the_definition():
    probs = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]])
    mean = probs.mean(axis=0)
    expected = np.exp((probs * np.log(probs / mean)).sum() / 2)
    assert 1.0 < expected < 3.0
    assert inception_score_from_probs(probs, splits=1).mean == pytest.approx(expected, rel=1e-12)


def test_images_in_the_order_of_their_classes_score_as_in_any_other():
    probs = np.repeat(np.eye(10), 100, axis=0)
    assert inception_score_from_probs(probs, splits=10, seed=None).mean == pytest.approx(1.0)  # a class in each split
    score = inception_score_from_probs(probs, splits=10)
    assert 9.0 < score.mean < 10.0
    shuffled = np.random.default_rng(5).permutation(probs)
    assert inception_score_from_probs(shuffled, splits=10).mean == pytest.approx(score.mean, rel=0.03)
    assert inception_score_from_probs(probs, splits=10) == score != inception_score_from_probs(probs, 10, seed=1)


def test_without_a_seed_the_splits_are_consecutive_and_score_on_their_own():
    probs = np.concatenate([np.eye(4), np.eye(4)[[0] * 4]])  # scores 4 and 1
    score = inception_score_from_probs(probs, splits=2, classifier="mine", seed=None)
    assert score == InceptionScore(mean=pytest.approx(2.5), deviation=pytest.approx(1.5), splits=2, classifier="mine")
    assert inception_score_from_probs(probs, splits=8).mean == pytest.approx(1.0)  # one image alone


def test_splits_that_do_not_divide_the_images_use_all_of_them():
    probs = np.eye(2)[[0, 0, 0, 0, 1]]  # parts of 3 and 2 images
    assert inception_score_from_probs(probs, splits=2, seed=None)[:2] == pytest.approx((1.5, 0.5))


@pytest.mark.parametrize(
    ("probs", "splits", "message"),
    [
        (np.ones(4), 2, "`probs` has shape (4,)"),
        (np.ones((4, 1)), 2, "with at least 2 classes"),
        (np.full((4, 2), 0.5), 5, "`splits` is 5; it must be at most the number of images, 4"),
        (np.full((4, 2), 0.5), 0, "`splits` is 0"),
        (np.full((4, 2), 0.5), 2.0, "`splits` is 2.0. It must be an integer"),
        (np.full((4, 2), 0.6), 2, "that sum to 1.2 to 1.2; they must be class probabilities"),
        (np.tile([2.0, -1.0], (4, 1)), 2, "`probs` holds numbers from -1 to 2"),
        (np.full((4, 2), np.nan), 2, "numbers from nan to nan"),
    ],
)
def test_what_is_no_probability_is_refused_in_a_sentence(probs, splits, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inception_score_from_probs(probs, splits)


def test_a_keras_classifier_scores_images_of_any_size_and_the_result_names_it():
    images = flat_images([-0.5, 0.5] * 6)
    score = inception_score(images, brightness_classifier(), splits=3, batch_size=5, seed=None)
    assert score == InceptionScore(pytest.approx(2.0), pytest.approx(0.0, abs=1e-6), 3, "brightness")
    assert inception_score(flat_images([0.5] * 6), brightness_classifier(), splits=3).mean == pytest.approx(1.0)


def test_bytes_and_grey_images_score_like_scaled_ones_of_three_channels():
    bright_and_dark = flat_images([10, 250] * 4, channels=1).astype("uint8")
    assert inception_score(bright_and_dark, brightness_classifier(), splits=1).mean == pytest.approx(2.0)


def test_images_are_resized_by_nearest_neighbour(monkeypatch):
    seen = []

    def classify(x):
        seen.append(ops.convert_to_numpy(x))
        return np.full((len(x), 2), 0.5)

    monkeypatch.setattr(inception, "inference", lambda model: classify)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 3, 1)).astype("float32")
    inception_score(image, brightness_classifier((6, 9, 1)), splits=1)
    np.testing.assert_array_equal(seen[0], image.repeat(2, axis=1).repeat(3, axis=2))
    # Where sizes do not divide: the pixel in which the new pixel's centre lies; 0.8, 2.5 and 4.2 of 5.
    assert inception._nearest(5, 3).tolist() == [0, 2, 4]
    expected = np.floor((np.arange(299) + 0.5) * 32 / 299)
    np.testing.assert_array_equal(inception._nearest(32, 299), expected)


def test_a_classifier_saved_as_a_file_scores_as_the_model_does(tmp_path):
    path = tmp_path / "judge.keras"
    brightness_classifier().save(path)
    score = inception_score(flat_images([-1.0, 1.0] * 3), path, splits=1)
    assert score == InceptionScore(pytest.approx(2.0), 0.0, 1, str(path))


def logits_of(images):
    return keras.Model(images, layers.Dense(3, bias_initializer="ones")(layers.Flatten()(images)), name="logits")


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (lambda: logits_of(keras.Input((4, 4, 3))), "Apply a softmax to logits first"),
        (lambda: brightness_classifier((4, 4, 5)), "takes images of 5 channels, but `images` have 3"),
        (lambda: brightness_classifier((48,)), "takes (None, 48); it must have one input, images"),
        (lambda: "no/such.keras", "`classifier` is 'no/such.keras', but there is no such file"),
        (lambda: __file__, "cannot be read as a Keras model"),
    ],
)
def test_a_classifier_that_does_not_fit_is_refused_in_a_sentence(classifier, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        inception_score(flat_images([-0.3, 0.7]), classifier(), splits=1)


def test_too_many_splits_are_refused_before_any_work():
    with pytest.raises(ValueError, match="`splits` is 50; it must be at most the number of images, 2"):
        inception_score(flat_images([-0.3, 0.7]), classifier="no/such.keras")


class Echo:
    """Its images are the latent points themselves."""

    class_prior = GaussianMixture([[-50.0, 0.0], [0.0, 50.0], [50.0, 0.0]], [[1.0, 4.0], [1.0, 1.0], [0.25, 1.0]])

    def posterior(self, images):
        raise AssertionError("samples of the prior need no posterior")

    def decode(self, z):
        return ops.reshape(z, (-1, 1, 2, 1))


def test_generated_images_have_equally_many_of_each_class_in_mixed_order():
    prior = Echo.class_prior
    z = sample_classes(Echo(), images_per_class=400, seed=3)[:, 0, :, 0]
    assert z.shape == (1200, 2)
    assert z.dtype == np.float32
    classes = np.linalg.norm(z[:, None] - prior.means, axis=-1).argmin(axis=1)
    assert np.bincount(classes).tolist() == [400, 400, 400]
    assert (np.bincount(classes[:300], minlength=3) > 60).all()  # shuffled
    for k in range(3):
        own = z[classes == k]
        np.testing.assert_allclose(own.mean(axis=0), prior.means[k], atol=0.4)
        np.testing.assert_allclose(own.var(axis=0), prior.variances[k], rtol=0.25)


def test_generated_images_depend_on_the_seed_alone():
    one, same, other = (
        sample_classes(Echo(), 10, seed=seed, batch_size=size) for seed, size in [(1, 500), (1, 7), (2, 500)]
    )
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)
    with pytest.raises(ValueError, match=r"`images_per_class` is 0\. It must be an integer of at least 1"):
        sample_classes(Echo(), 0)


def test_a_model_without_a_class_prior_is_refused_in_a_sentence():
    sentence = "`sample_classes` needs a model whose prior has one component for each class, .* but Sequential has no"
    with pytest.raises(ValueError, match=sentence):
        sample_classes(keras.Sequential())


@pytest.fixture
def weights_path(monkeypatch, tmp_path):
    """Where the weights of InceptionV3 belong; whoever downloads meets no network."""

    def no_network(url, timeout):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", no_network)
    return tmp_path / "models" / "inception_v3_weights_tf_dim_ordering_tf_kernels.h5"


def test_without_weights_and_network_the_error_says_where_to_put_them_or_what_to_do_instead(weights_path):
    with pytest.raises(ClassifierUnavailableError) as caught:
        inception_score(flat_images([0.0] * 50))
    message = str(caught.value)
    assert f"not at {weights_path} and could not be downloaded" in message
    assert "Name or service not known" in message
    assert f"`KERAS_BACKEND={keras.backend.backend()} python -c" in message
    assert "name a classifier of your own" in message
    assert not list(weights_path.parent.iterdir())


def test_a_download_that_brings_nothing_is_given_up(weights_path, monkeypatch):
    def stalled(url, timeout):
        time.sleep(20)
        raise TimeoutError

    monkeypatch.setattr(inception, "_PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr(urllib.request, "urlopen", stalled)
    began = time.monotonic()
    with pytest.raises(ClassifierUnavailableError, match=re.escape("no progress for 0.5 seconds")):
        load_classifier()
    assert time.monotonic() - began < 5


def test_a_downloaded_file_is_kept_only_if_it_is_the_right_one(weights_path, monkeypatch, tmp_path):
    served = tmp_path / "served"
    served.write_bytes(b"weights")
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: served.open("rb"))
    with pytest.raises(ClassifierUnavailableError, match="the download brought another file"):
        load_classifier()
    assert not weights_path.exists()

    monkeypatch.setattr(inception, "_WEIGHTS_MD5", hashlib.md5(b"weights").hexdigest())
    monkeypatch.setattr(keras.applications, "InceptionV3", lambda weights: weights)
    assert load_classifier() == str(weights_path)
    assert weights_path.read_bytes() == b"weights"


def test_a_damaged_weights_file_is_named_and_left_alone(weights_path):
    weights_path.parent.mkdir()
    weights_path.write_bytes(b"half")
    with pytest.raises(ClassifierUnavailableError, match=re.escape(f"{weights_path} is not the file of Keras'")):
        load_classifier()
    assert weights_path.read_bytes() == b"half"


def test_inception_v3_is_in_single_precision_whatever_the_policy_is(monkeypatch, tmp_path):
    monkeypatch.setattr(inception, "_inception_weights", lambda: tmp_path)
    monkeypatch.setattr(keras.applications, "InceptionV3", lambda weights: brightness_classifier())
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert load_classifier().layers[-1].compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_the_default_classifier_is_called_inception_v3(weights_path, monkeypatch):
    monkeypatch.setattr(inception, "load_classifier", lambda classifier: brightness_classifier((299, 299, 3)))
    assert inception_score(flat_images([-1.0, 1.0]), splits=1) == InceptionScore(
        pytest.approx(2.0), 0.0, 1, "InceptionV3 (ImageNet)"
    )
