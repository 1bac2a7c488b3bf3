"""The MNIST experiment as a user sees it: what a run writes and prints, what it does without MNIST, and `--help`."""

import csv
import json
import os
import re
import time
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from matplotlib.image import imread

from keras_ssvae import data

KEYS = {"dataset", "labels", "beta", "seed", "epochs", "steps", "test_error_percent", "validation_error_percent"}
KEYS |= {"kl_divergence", "negative_ssim", "reconstruction", "seconds", "step_milliseconds", "versions"}
KEYS |= {"activated_at_1", "device", "backend", "saved_model", "settings", "test_images"}
FILES = {"config.json", "metrics.json", "history.csv", "v_nat.csv", "model.keras", "checkpoint.npz"}


def test_a_run_succeeds_and_writes_nothing_to_stderr(finished):
    assert finished.code == 0, finished.err
    assert finished.err == ""


def test_all_files_are_there(small, finished):
    run = finished.folder / small.output
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    figures = {f"figures/{name}.png" for name in ("prior", "latent", "grid", "interpolation", "curves")}
    logs = {name for name in files if name.startswith("logs/")}
    assert files - logs == FILES | figures
    assert any(name.startswith("logs/train/") for name in logs)
    assert any(name.startswith("logs/validation/") for name in logs)
    assert os.listdir(finished.folder / small.export) == ["1"]
    assert sorted(os.listdir(finished.folder)) == ["runs", "saved_models", "stderr", "stdout"]


def test_the_figures_show_something(small, finished):
    for path in (finished.folder / small.output / "figures").iterdir():
        image = imread(path)
        assert min(image.shape[:2]) > 200
        assert image.std() > 0.02


def test_tensorboard_gets_curves_and_images(small, finished, tensorflow):
    from tensorflow.core.util import event_pb2

    steps = {}
    for path in (finished.folder / small.output / "logs").rglob("events*"):
        for record in tensorflow.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                steps.setdefault(value.tag, set()).add(event.step)
    epochs = set(range(small.epochs))
    assert steps["latent"] == steps["grid"] == steps["epoch_reconstruction"] == steps["epoch_test_error"] == epochs


def test_the_settings_are_kept(small, finished):
    config = json.loads((finished.folder / small.output / "config.json").read_text())
    given = {"dataset": "digits", "labels": 100, "beta": 0.25, "seed": 1, "labeled_indices": None}
    given |= {"epochs": 3, "steps_per_epoch": 2, "batch_size": 16, "labeled_batch_size": 8, "dropout": 0.1}
    given |= {"backend": "tensorflow", "mixed_precision": None, "steps_per_execution": 1}
    given |= {"augment_on": "host", "jit_compile": False, "data_parallel": False, "replicas": 1}
    assert {name: config[name] for name in given} == given
    assert small.metrics(finished.folder)["settings"] == config


def test_v_nat_is_kept_by_class_and_coordinate(small, finished):
    with open(finished.folder / small.output / "v_nat.csv") as file:
        header, *rows = csv.reader(file)
    assert header == ["class", "0", "1"]
    assert [row[0] for row in rows] == list(data.load("digits").class_names)
    values = np.array([row[1:] for row in rows], dtype=float)
    np.testing.assert_array_equal((values > 1).sum(axis=1), small.metrics(finished.folder)["activated_at_1"])


def test_the_metrics_agree_with_the_history(small, finished):
    metrics, history = small.metrics(finished.folder), small.history(finished.folder)
    assert set(metrics) >= KEYS
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert (metrics["dataset"], metrics["labels"], metrics["beta"], metrics["seed"]) == ("digits", 100, 0.25, 1)
    assert (metrics["epochs"], metrics["steps"]) == (small.epochs, small.epochs * small.steps)
    last = history[-1]
    assert metrics["test_error_percent"] == pytest.approx(last["test_error"], rel=1e-5)
    assert metrics["validation_error_percent"] == last["val_error"]
    assert metrics["kl_divergence"] == pytest.approx(last["test_kl_categorical"] + last["test_kl_gaussian"], rel=1e-4)
    assert metrics["reconstruction"] == pytest.approx(last["test_reconstruction"], rel=1e-4)
    assert metrics["seconds"] == pytest.approx(sum(row["train_seconds"] for row in history))
    # Without the first epoch, which compiles.
    usual = np.median([row["train_seconds"] for row in history[1:]])
    assert metrics["step_milliseconds"] == pytest.approx(1000 * usual / small.steps)
    assert metrics["test_images"] == len(data.load("digits").test_images)
    assert -1 <= metrics["negative_ssim"] <= 1
    assert {"keras_ssvae", "keras", "tensorflow", "numpy", "python"} == set(metrics["versions"])
    assert metrics["versions"]["keras"] == keras.__version__
    assert metrics["backend"] == "tensorflow"
    assert metrics["saved_model"] == f"{small.export}/1"


def test_the_model_and_the_saved_model_answer_as_the_metrics_say(small, finished, tensorflow):
    digits = data.load("digits")
    images = data.scale(digits.test_images)
    expected = small.metrics(finished.folder)["test_error_percent"]
    model = keras.models.load_model(finished.folder / small.output / "model.keras")
    served = tensorflow.saved_model.load(str(finished.folder / small.export / "1"))
    labels = served.signatures["classify"](image=tensorflow.constant(images))["label"].numpy()
    for predicted in (model.predict(images, verbose=0)["probs"].argmax(1), labels):
        assert 100 * np.mean(predicted != digits.test_labels) == pytest.approx(expected)
    checkpoint = small.arrays(finished.folder).items()
    iterations = [value for name, value in checkpoint if name.startswith("optimizer/") and value.shape == ()]
    assert small.epochs * small.steps in iterations


def test_the_output_is_a_line_an_epoch_and_a_summary(small, finished):
    run = finished.folder / small.output
    assert not re.search(r"[^\n\x20-\x7e]", finished.out)
    metrics = small.metrics(finished.folder)
    for epoch, row in enumerate(small.history(finished.folder), 1):
        (line,) = re.findall(f"^epoch {epoch}/{small.epochs} .*$", finished.out, re.M)
        for name in ("reconstruction", "cross_entropy", "val_error", "test_error"):
            assert f" {name} {row[name]:.4g}" in line
    summary = finished.out[finished.out.index("\nEXoN on digits, 100 labels") :]
    for name, value in json.loads((run / "config.json").read_text()).items():
        assert f"{name}={value}" in summary
    assert f"{metrics['test_error_percent']:.2f} %" in summary
    assert f"{metrics['kl_divergence']:.2f} nats" in summary
    assert f"{metrics['nearest_place_percent']:.1f} % of the images are nearest to the place of their own" in summary
    assert f"{metrics['generated_right_percent']:.1f} % right by the model's classifier" in summary
    # After six steps some classes may not be in their places yet; or all are, since the KL dominates at first.
    assert ("WARNING" in summary) == bool(metrics["misplaced_classes"])
    for path in (small.output / "figures", small.output / "model.keras", small.export / "1"):
        assert f" {path}\n" in summary
        assert (finished.folder / path).exists()


def test_the_summary_names_the_classes_that_are_not_in_their_places(modules_of):
    metrics = {"kl_categorical": 1.5, "kl_gaussian": 7.0, "kl_divergence": 8.5, "misplaced_classes": [0, 2]}
    metrics |= {"place_distance_per_class": [2.0, 0.5, 3.25, None], "nearest_place_percent": 55.0}
    metrics |= {"generated_right_percent": 40.0, "generated_right_percent_independent": None}
    metrics |= {"independent_right_percent": None}
    model = SimpleNamespace(class_names=("cat", "dog", "truck", "ship"), num_classes=4, settling_steps=0)
    with modules_of("mnist_exon") as modules:
        summary = modules.script.exon.summary
        lines = summary(model, metrics)
        assert "the farthest class is truck, by 3.2 standard deviations" in lines["places"]
        assert "40.0 % right by the model's classifier" in lines["generated"]
        assert lines["WARNING"].startswith("classes not where the prior puts them: cat, truck; `generate` draws")
        assert lines["WARNING"].endswith("(--settling-epochs 20 cures that)")
        model.settling_steps = 100
        assert "--settling-epochs" not in summary(model, metrics)["WARNING"]
        assert "WARNING" not in summary(model, {**metrics, "misplaced_classes": []})
        none_right = summary(model, {**metrics, "nearest_place_percent": None})
        assert none_right["places"] == "the farthest class is truck, by 3.2 standard deviations"


def test_a_finished_run_is_never_touched_again(small, finished, refused):
    refused(*small.args, match="holds a finished run", folder=finished.folder)
    refused(*small.args, "--resume", match="holds a finished run", folder=finished.folder)
    other = (*small.args, "--beta", "0.5", "--output-dir", small.output)
    refused(*other, match="holds a finished run", folder=finished.folder)


# Without MNIST


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("keras_ssvae.data.sources.download", lambda builder, work: "the network is closed")


def test_auto_warns_and_takes_the_digits_where_mnist_cannot_be_had(small, call, offline, tmp_path, contents):
    result = call("--data-dir", tmp_path / "empty", train=lambda run: None)
    assert result.code == 0
    assert re.match("WARNING: mnist is not (prepared in|there)", result.err)
    assert "WARNING: training on the embedded digits instead of MNIST." in result.err
    (run,) = result.calls
    assert (run.settings["epochs"], run.settings["steps_per_epoch"]) == (20, 75)  # the digits' own settings
    assert run.settings["dataset"] == run.images.name == "digits"
    assert "digits" in run.title
    assert (run.output_dir, run.export_dir) == (small.output, small.export)
    assert result.out.startswith("EXoN on digits: ")
    assert json.loads((tmp_path / small.output / "config.json").read_text())["dataset"] == "digits"
    assert sorted(contents(tmp_path)) == ["runs", str(small.output), f"{small.output}/config.json"]


def test_an_explicit_mnist_does_not_fall_back(refused, offline, tmp_path):
    for dataset in ("mnist", "fashion_mnist"):
        args = ("--dataset", dataset, "--data-dir", tmp_path / "empty")
        refused(*args, match=f"{dataset} is not (prepared in .*the network is closed|there)")


def test_damaged_files_of_mnist_are_not_passed_over(refused, tensorflow, tmp_path):
    (tmp_path / "mnist/3.0.1").mkdir(parents=True)
    (tmp_path / "mnist/3.0.1/dataset_info.json").write_text('{"name": ')
    refused("--data-dir", tmp_path, match="mnist in .* cannot be read .*Delete that directory")


@pytest.mark.slow
def test_auto_without_mnist_writes_digits_everywhere(small, tmp_path):
    result = small.run(tmp_path, *small.args[2:], "--data-dir", "empty", https_proxy="http://127.0.0.1:9")
    assert result.code == 0
    assert [line[:8] for line in result.err.strip().splitlines()] == ["WARNING:"] * 2
    assert "mnist" not in result.out.lower()
    assert small.metrics(tmp_path)["dataset"] == "digits"
    assert (tmp_path / small.export / "1/saved_model.pb").exists()


@pytest.mark.slow
def test_behind_a_closed_network_an_explicit_mnist_fails_soon(small, tmp_path, contents, one_sentence):
    (tmp_path / "empty").mkdir()
    began = time.monotonic()
    result = small.run(tmp_path, "--dataset", "mnist", "--data-dir", "empty", https_proxy="http://127.0.0.1:9")
    assert time.monotonic() - began < 30  # 20 for the network, and the import of TensorFlow
    one_sentence(result, "mnist is not prepared in .*empty and could not be downloaded.*--dataset digits")
    assert sorted(contents(tmp_path)) == ["empty", "stderr", "stdout"]


def test_help_explains_every_flag_with_its_default(small, explained):
    described, options = explained
    assert tuple(options) == (*small.flags, "settling-epochs", "consistency", "layout")
    for option in options.values():
        assert "default" in option, option
    defaults = {"epochs": (100, 20), "steps-per-epoch": (468, 75), "batch-size": (128, 64)}
    defaults |= {"labeled-batch-size": (32, 16), "validation": (5000, 200)}
    for flag, (paper, digits) in defaults.items():
        assert f"(default {paper}; digits {digits})" in options[flag]
    assert "dropout 0.1" in described
    assert "lambda2 over its first half" in described
