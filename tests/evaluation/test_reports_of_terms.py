"""The report of a model without a Gaussian mixture as prior, PartedVAE: its errors and the means of its terms."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import callbacks
from keras_ssvae.evaluation import report
from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import Adam, GroupedOptimizer

SHAPE = (6, 6, 1)
LABELS = {False: np.array([0, 2, 2, 0, 2]), True: np.array([[0, 1], [2, 1], [2, 0], [0, 0], [1, 0]])}


def small(several):
    keras.utils.set_random_seed(3)
    flat = keras.layers.Flatten()
    encoder = keras.Sequential([keras.Input(SHAPE), flat, keras.layers.Dense(4, activation="tanh")])
    decoder = keras.Sequential([keras.Input((4,)), keras.layers.Dense(36), keras.layers.Reshape(SHAPE)])
    sizes = (
        {"num_classes": (3, 2), "u_dims": (1, 1), "z_dim": 2}
        if several
        else {"num_classes": 3, "u_dims": 2, "z_dim": 2}
    )
    return PartedVAE(encoder, decoder, **sizes)


@pytest.fixture(params=[False, True], ids=["one label", "several labels"])
def several(request):
    return request.param


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


def test_the_report_is_the_errors_and_the_means_of_the_terms(several, images):
    model, labels = small(several), LABELS[several]
    figures = report(model, images, labels, batch_size=2)
    scaled = (images.astype("float32") - 127.5) / 127.5
    terms = model.evaluation_terms(scaled, None)
    wrong = 100.0 * (ops.convert_to_numpy(model.predicted_labels(model.classify(scaled))) != labels)
    expected = {"error_percent": wrong.mean(), **{name: np.mean(value) for name, value in terms.items()}}
    if several:
        expected["error_percent_per_label"] = wrong.mean(axis=0)
    else:
        assert figures["error_percent_per_class"].pop(1) is None  # no image is of this class
        expected["error_percent_per_class"] = [wrong[labels == k].mean() for k in (0, 2)]
    assert set(figures) == set(expected)
    assert set(terms) == set(model.test_terms) - {"error"}
    for name, value in expected.items():
        np.testing.assert_allclose(figures[name], value, rtol=1e-5, err_msg=name)
    assert json.loads(json.dumps(figures)) == figures
    batches = [(scaled[:2], labels[:2]), (scaled[2:4], labels[2:4]), (scaled[4:], labels[4:])]
    assert report(model, batches) == report(model, scaled, labels, batch_size=2)


def test_the_callback_logs_the_single_numbers_of_each_report(several, images):
    model, labels = small(several), LABELS[several]
    model.compile(GroupedOptimizer({"supervised": Adam(), "main": Adam()}))
    callback = callbacks.Report(images, labels, every=2)
    scaled = (images.astype("float32") - 127.5) / 127.5
    history = model.fit(scaled, epochs=2, verbose=0, callbacks=[callback]).history
    figures = report(model, images, labels)
    assert callback.reports == {2: figures}
    single = {name for name, value in figures.items() if not isinstance(value, list)}
    assert single == {"error_percent", "reconstruction", "kl_z", "kl_u", "entropy_c"}
    assert {name for name in history if name.startswith("test_")} == {f"test_{name}" for name in single}
    for name in single:
        first, second = history[f"test_{name}"]
        assert np.isnan(first)
        assert second == figures[name]


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (LABELS[False], r"`labels` has shape \(5,\) .*it must be a row of 2 integers for each of the 5 examples"),
        (LABELS[True] + [0, 1], r"`labels` run from 0 to 2; with \(3, 2\) classes they must be 0 to \[2, 1\]"),
    ],
    ids=["shape", "range"],
)
def test_wrong_labels_are_refused_in_a_sentence_and_by_the_callback_before_training(images, labels, sentence):
    model = small(several=True)
    with pytest.raises(ValueError, match=sentence):
        report(model, images, labels)
    callback = callbacks.Report(images, labels)
    callback.set_model(model)
    with pytest.raises(ValueError, match=sentence):
        callback.on_train_begin()
