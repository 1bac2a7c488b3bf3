"""The report of a model without a class prior: the means of its terms, and the errors of one that classifies."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import callbacks, plots
from keras_ssvae.evaluation import report, sample_classes
from keras_ssvae.models import VAE, PartedVAE
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.priors import StandardNormal

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


def small_encoder(heads):
    images = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(images)
    outputs = [keras.layers.Reshape(shape)(keras.layers.Dense(int(np.prod(shape)))(flat)) for shape in heads]
    return keras.Model(images, outputs)


@pytest.fixture(params=[False, True], ids=["one label", "several labels"])
def several(request):
    return request.param


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (5, *SHAPE), dtype=np.uint8)


def test_the_report_is_the_errors_and_the_means_of_the_terms(several, images):
    model, labels = small(several), LABELS[several]
    metrics = report(model, images, labels, batch_size=2)
    scaled = (images.astype("float32") - 127.5) / 127.5
    terms = model.evaluation_terms(scaled, None)
    wrong = 100.0 * (ops.convert_to_numpy(model.predicted_labels(model.classify(scaled))) != labels)
    expected = {"error_percent": wrong.mean(), **{name: np.mean(value) for name, value in terms.items()}}
    if several:
        expected["error_percent_per_label"] = wrong.mean(axis=0)
    else:
        assert metrics["error_percent_per_class"].pop(1) is None  # no image is of this class
        expected["error_percent_per_class"] = [wrong[labels == k].mean() for k in (0, 2)]
    assert set(metrics) == set(expected)
    assert set(terms) == set(model.test_terms) - {"error"}
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)
    assert json.loads(json.dumps(metrics)) == metrics
    batches = [(scaled[:2], labels[:2]), (scaled[2:4], labels[2:4]), (scaled[4:], labels[4:])]
    assert report(model, batches) == report(model, scaled, labels, batch_size=2)


def test_a_report_runs_the_encoder_once_for_each_batch(several, images, monkeypatch):
    model, calls = small(several), []
    encode = model.encoder.call

    def counted(x, *args, **kwargs):
        calls.append(len(x))
        return encode(x, *args, **kwargs)

    monkeypatch.setattr(model.encoder, "call", counted)
    report(model, images, LABELS[several], batch_size=3)
    assert calls == [3, 2]


class Unlabelled(keras.Model):
    """A model without a classifier; its only term is the brightness."""

    test_terms = ("brightness",)

    def call(self, images):
        return images

    def evaluation_terms(self, images, labels):
        assert labels is None
        return {"brightness": ops.mean(images, axis=(1, 2, 3))}


def test_a_model_without_a_classifier_needs_no_labels_and_uses_none(images):
    scaled = (images.astype("float32") - 127.5) / 127.5
    metrics = report(Unlabelled(), images, batch_size=2)
    assert metrics == {"brightness": pytest.approx(scaled.mean(), rel=1e-4)}
    assert report(Unlabelled(), images, LABELS[False], batch_size=2) == metrics
    batches = [scaled[:2], (scaled[2:4], LABELS[False][2:4]), scaled[4:]]
    assert report(Unlabelled(), batches) == metrics
    callback = callbacks.Report(images, batch_size=2)
    callback.set_model(Unlabelled())
    callback.on_train_begin()
    logs = {}
    callback.on_epoch_end(0, logs)
    assert logs == {"test_brightness": metrics["brightness"]}


def test_a_vae_is_reported_and_drawn_as_any_model(images, tmp_path):
    encoder = small_encoder([(2,), (2,)])
    decoder = keras.Sequential([keras.Input((2,)), keras.layers.Dense(36), keras.layers.Reshape(SHAPE)])
    model = VAE(encoder, decoder, StandardNormal(2))
    model.compile(Adam())
    scaled = (images.astype("float32") - 127.5) / 127.5
    drawn = [
        callbacks.Report(images),
        callbacks.LatentScatter(scaled, LABELS[False], directory=tmp_path),
        callbacks.ImageGrid(n=2, directory=tmp_path),
        callbacks.LossWeightSchedule("beta", lambda epoch: epoch / 2),
    ]
    history = model.fit(scaled, validation_data=(scaled, None), epochs=2, verbose=0, callbacks=drawn).history
    assert history["beta"] == [0.0, 0.5]
    metrics = report(model, images)
    assert set(metrics) == set(model.test_terms)
    assert metrics["loss"] == pytest.approx(metrics["reconstruction"] + metrics["kl"], rel=1e-5)
    assert {f"test_{name}" for name in metrics} <= set(history)
    assert len(list(tmp_path.iterdir())) == 4
    titles = [ax.get_title(loc="left") for ax in plots.curves(history).axes]
    assert titles == ["Loss", "Reconstruction", "KL-divergence"]
    assert len(plots.latent(model, images, LABELS[False]).axes[0].collections[0].get_offsets()) == 5
    for draw in (plots.interpolation, sample_classes):
        with pytest.raises(ValueError, match="needs a model whose prior has one component for each class"):
            draw(model)


@pytest.mark.parametrize(
    ("model", "data", "sentence"),
    [
        (Unlabelled, [], "`data` holds no batches; it must hold images, or give batches of images"),
        (Unlabelled, np.zeros((2, 6, 6)), "`images` is float64 of shape .2, 6, 6."),
        (keras.Sequential, np.zeros((2, 6, 6, 1)), "`report` needs a model of this library, .* Sequential has neither"),
    ],
)
def test_what_has_no_report_is_refused_in_a_sentence(model, data, sentence):
    with pytest.raises(ValueError, match=sentence):
        report(model(), data)


def test_the_callback_logs_the_single_numbers_of_each_report(several, images):
    model, labels = small(several), LABELS[several]
    model.compile(GroupedOptimizer({"supervised": Adam(), "main": Adam()}))
    callback = callbacks.Report(images, labels, every=2)
    scaled = (images.astype("float32") - 127.5) / 127.5
    history = model.fit(scaled, epochs=2, verbose=0, callbacks=[callback]).history
    metrics = report(model, images, labels)
    assert callback.reports == {2: metrics}
    single = {name for name, value in metrics.items() if not isinstance(value, list)}
    assert single == {"error_percent", "reconstruction", "kl_z", "kl_u", "entropy_c"}
    assert {name for name in history if name.startswith("test_")} == {f"test_{name}" for name in single}
    for name in single:
        first, second = history[f"test_{name}"]
        assert np.isnan(first)
        assert second == metrics[name]


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
