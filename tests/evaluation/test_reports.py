import csv
import json
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae import callbacks
from keras_ssvae.evaluation import (
    activated,
    classification_error,
    kl_decomposition,
    kl_divergence,
    kl_gaussian_bounds,
    negative_ssim,
    report,
    v_nat,
)
from keras_ssvae.priors import GaussianMixture, circle, one_hot


class Fake(keras.Model):
    """Every pixel of an image is the same number, which is all that the model sees."""

    def __init__(self, prior):
        super().__init__()
        self.class_prior = prior

    def call(self, x):
        level = x[:, 0, 0, 0]
        shape = (-1, *self.class_prior.means.shape)
        mean = ops.broadcast_to(level[:, None, None], (ops.shape(x)[0], *shape[1:]))
        probs = ops.softmax(level[:, None] * ops.arange(self.class_prior.num_classes, dtype="float32"))
        return {"probs": probs, "mean": mean, "logvar": -mean, "reconstruction": x / 2.0}

    def posterior(self, x):
        outputs = self(x)
        return {name: outputs[name] for name in ("mean", "logvar", "probs")}

    def decode(self, z):
        waves = ops.sin(z[:, :1] * ops.arange(12, dtype="float32")) * ops.cos(z[:, 1:2])
        return ops.broadcast_to(waves[:, None, :, None], (ops.shape(z)[0], 12, 12, 1))


def flat_images(levels, size=12):
    return np.broadcast_to(np.asarray(levels, "float32")[:, None, None, None], (len(levels), size, size, 1)).copy()


def test_the_report_is_the_metrics_of_the_models_outputs():
    model = Fake(circle(3))
    images, labels = flat_images([0.5, -0.5, 1.0, -1.0, 0.25]), np.array([2, 2, 2, 0, 1])
    metrics = report(model, images, labels, batch_size=2)
    outputs = model.predict(images, verbose=0)
    assert metrics["error_percent"] == classification_error(outputs["probs"], labels) == 40.0
    assert metrics["error_percent_per_class"] == pytest.approx([0.0, 100.0, 100 / 3])
    kl = kl_divergence(outputs["mean"], outputs["logvar"], outputs["probs"], model.class_prior)
    assert metrics["kl_divergence"] == pytest.approx(kl, rel=1e-6)
    assert metrics["kl_categorical"] + metrics["kl_gaussian"] == pytest.approx(kl, rel=1e-6)
    weights = np.bincount(labels) / len(labels)
    assert np.dot(weights, metrics["kl_gaussian_per_class"]) == pytest.approx(metrics["kl_gaussian"], rel=1e-6)
    values = v_nat(outputs["logvar"], labels, model.class_prior)
    np.testing.assert_allclose(metrics["v_nat"], values, rtol=1e-6)
    assert metrics["activated_at_1"] == activated(values).sum(axis=1).tolist() == [0, 2, 2]
    bounds = metrics["kl_gaussian_lower_bound"], metrics["kl_gaussian_upper_bound"]
    assert bounds == pytest.approx(kl_gaussian_bounds(outputs["logvar"], labels, model.class_prior), rel=1e-6)
    parts = kl_decomposition(outputs["mean"], outputs["logvar"], outputs["probs"], model.class_prior)
    assert [metrics[name] for name in parts._fields] == pytest.approx(parts, rel=1e-6)
    levels = images[:, 0, 0, 0]
    assert metrics["reconstruction"] == pytest.approx(np.mean(144 * (levels / 2) ** 2 / 2), rel=1e-6)


def test_the_diversity_is_that_of_the_decoded_31_by_31_grid():
    model = Fake(circle(3))
    ticks = np.arange(-15, 16, dtype="float32")
    points = np.array([(x, y) for x in ticks for y in ticks], "float32")
    expected = negative_ssim(ops.convert_to_numpy(model.decode(points)))
    given = model, flat_images([0.0]), np.array([0])
    assert report(*given, ssim=True)["negative_ssim"] == pytest.approx(expected, abs=1e-5)
    assert "negative_ssim" not in report(*given)  # it takes seconds, whatever the number of images
    assert 0.1 < expected < 0.9


def test_bytes_and_scaled_floats_give_the_same_report():
    model = Fake(circle(3))
    levels, labels = np.array([0, 100, 255, 37]), np.array([0, 1, 2, 2])
    from_bytes = report(model, flat_images(levels).astype("uint8"), labels)
    from_floats = report(model, flat_images((levels - 127.5) / 127.5), labels)
    assert from_bytes.keys() == from_floats.keys()
    for name, value in from_bytes.items():
        expected = np.array(from_floats[name], float)  # None is NaN
        np.testing.assert_allclose(np.array(value, float), expected, rtol=1e-5, err_msg=name)


def test_batches_give_the_same_report_as_arrays():
    model = Fake(circle(3))
    images, labels = flat_images([5, 200, 255]).astype("uint8"), np.array([2, 0, 1])
    batches = [(ops.convert_to_tensor(images[:2]), labels[:2]), (images[2:], ops.convert_to_tensor(labels[2:]))]
    expected = report(model, images, labels, batch_size=2)
    assert report(model, batches, batch_size=2) == expected
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        assert report(model, tf.data.Dataset.from_tensor_slices((images, labels)).batch(2), batch_size=2) == expected
    with pytest.raises(ValueError, match="`images` has pixels from 0 to 9"):
        report(model, [batches[0], (9.0 * flat_images([0, 1]), labels[:2])])


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_the_callback_reports_every_second_epoch_of_a_fit_and_logs_its_single_numbers(tmp_path):
    images, labels = flat_images([0.5, -0.5, 1.0]), np.array([2, 0, 1])
    callback = callbacks.Report(images, labels, every=2, prefix="x_", directory=tmp_path / "reports")
    model = Fake(circle(3))
    model.compile(loss={"reconstruction": "mse"})
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    history = model.fit(images, {"reconstruction": images}, epochs=2, verbose=0, callbacks=[callback, log]).history
    metrics = report(model, images, labels)
    assert callback.reports == {2: metrics}
    assert json.loads((tmp_path / "reports/epoch_0002_report.json").read_text()) == metrics
    single = {name: value for name, value in metrics.items() if not isinstance(value, list)}
    assert {name for name in history if name.startswith("x_")} == {f"x_{name}" for name in single}
    for name, value in single.items():
        first, second = history[f"x_{name}"]
        assert np.isnan(first)
        assert second == value
    with open(tmp_path / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["x_error_percent"]) == metrics["error_percent"]


def test_the_callback_says_at_once_what_does_not_fit():
    images, labels = flat_images([0.5, -0.5]), np.array([2, 3])
    with pytest.raises(ValueError, match=r"`every` is 0\. It must be an integer of at least 1"):
        callbacks.Report(images, labels, every=0)

    def begin(images, labels):
        callback = callbacks.Report(images, labels)
        callback.set_model(Fake(circle(3)))
        callback.on_train_begin()

    with pytest.raises(ValueError, match="`labels` run from 2 to 3"):
        begin(images, labels)
    with pytest.raises(ValueError, match="`images` has pixels from 127"):
        begin(255.0 * images[:1], labels[:1])
    with pytest.raises(ValueError, match=r"`Report` needs a model of this library, .*; Sequential has neither"):
        callbacks.Report(images, labels).set_model(keras.Sequential())


def test_half_precision_outputs_of_colour_images_are_summed_in_full():
    class Half(Fake):
        def call(self, x):
            outputs = super().call(x)
            return {name: ops.cast(value, "bfloat16") for name, value in outputs.items()}

    images = np.broadcast_to(np.float32([0.5, -0.25, 1.0])[:, None, None, None], (3, 20, 12, 3))
    metrics = report(Half(one_hot(3, 5)), images, np.array([0, 1, 2]))
    assert metrics["reconstruction"] == pytest.approx(720 * np.mean(np.square([0.25, 0.125, 0.5])) / 2, rel=1e-6)
    np.testing.assert_allclose(metrics["v_nat"][2], 1.0 + np.log([0.1, 0.1, 0.1, 1.0, 1.0]), rtol=1e-6)
    assert json.loads(json.dumps(metrics)) == metrics


def test_what_cannot_be_computed_is_none_and_the_report_is_json():
    metrics = report(Fake(one_hot(3, 5)), flat_images([0.5]), np.array([1]), ssim=True)
    assert metrics["negative_ssim"] is metrics["kl_gaussian_lower_bound"] is metrics["kl_gaussian_upper_bound"] is None
    assert metrics["error_percent_per_class"] == [None, 100.0, None]
    assert metrics["activated_at_1"] == [None, 0, None]
    np.testing.assert_allclose(metrics["v_nat"][1], 0.5 + np.log([0.1, 0.1, 0.1, 1.0, 1.0]), rtol=1e-6)
    assert metrics["v_nat"][0] is None
    assert json.loads(json.dumps(metrics)) == metrics
    too_small = Fake(GaussianMixture([[0, 0], [1, 1]], 1)), flat_images([0], 8), np.array([0])
    assert report(*too_small, ssim=True)["negative_ssim"] is None


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 12, 12), "uint8"), [0, 0], "`images` is uint8 of shape (2, 12, 12)"),
        (np.zeros((2, 12, 12, 1), "int64"), [0, 0], "`images` is int64; it must be uint8"),
        (np.full((2, 12, 12, 1), 255.0), [0, 0], "`images` has pixels from 255 to 255"),
        (np.full((2, 12, 12, 1), np.nan), [0, 0], "`images` holds NaN"),
        (np.zeros((2, 12, 12, 1)), [0, 3], "`labels` run from 0 to 3"),
        ([np.zeros((2, 12, 12, 1))], None, "`data` gives ndarray objects; without `labels` it must give batches"),
        ([], None, "`data` holds no batches. Give images with their `labels`"),
        (np.zeros((2, 12, 12, 1)), None, "`labels` is None, but `data` is images. Give their `labels`"),
        (np.zeros((2, 12, 12, 1)), [0], "one integer for each of the 2 examples"),
    ],
)
def test_wrong_images_or_labels_are_refused_in_a_sentence(images, labels, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        report(Fake(circle(3)), images, None if labels is None else np.array(labels))
