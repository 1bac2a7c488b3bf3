"""The CIFAR-10 experiment: the paper's settings, and a run on a few images with small networks.

The real networks are slow on a CPU: `tests/networks` tests them, and one run with them is marked slow.
"""

import csv
import json
import math
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers
from matplotlib.image import imread

from keras_ssvae import evaluation, plots
from keras_ssvae.priors import one_hot

SCRIPT = "cifar10_exon"
SMALL = ("--labels", "20", "--validation", "20", "--steps-per-epoch", "2", "--batch-size", "8")
SMALL = (*SMALL, "--labeled-batch-size", "4", "--output-dir", "run")
FIGURES = ["latent", "interpolation", "v_nat", "v_nat_correlation", "perturbation", "axis_sweep", "activated_noise"]
FIGURES += ["v_nat_automobile", "reconstructions_train", "reconstructions_test", "curves"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """100 training and 20 test images of noise, as the binary files of CIFAR-10."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    (folder / "cifar-10-batches-bin").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        rows = rng.integers(0, 256, (20, 3073), dtype=np.uint8)
        rows[:, 0] = np.arange(20) % 10
        (folder / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(rows.tobytes())
    return folder


@pytest.fixture
def args(folder):
    return ("--data-dir", folder, *SMALL)


@pytest.fixture
def small_networks(modules, monkeypatch):
    def encoder():
        images = keras.Input((32, 32, 3))
        x = layers.Dense(4)(layers.Flatten()(layers.AveragePooling2D(8)(images)))
        return keras.Model(images, [layers.Reshape((10, 256))(layers.Dense(2560)(x)) for _ in range(2)])

    def decoder():
        z = keras.Input((256,))
        x = layers.Dense(48, "tanh", dtype="float32")(z)
        x = layers.UpSampling2D(8, dtype="float32")(layers.Reshape((4, 4, 3), dtype="float32")(x))
        return keras.Model(z, x)

    def classifier(dropout):
        images = keras.Input((32, 32, 3))
        x = layers.Dropout(dropout)(layers.Flatten()(layers.AveragePooling2D(8)(images)))
        return keras.Model(images, layers.Dense(10, dtype="float32")(x))

    for name, network in {"encoder": encoder, "decoder": decoder, "classifier": classifier}.items():
        monkeypatch.setattr(f"keras_ssvae.networks.exon.cifar10_{name}", network)


@pytest.fixture
def scorer(tmp_path):
    """A classifier whose images have another size."""
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, layers.Dense(10, "softmax")(layers.Flatten()(images)))
    model.save(tmp_path / "scorer.keras")
    return tmp_path / "scorer.keras"


def settings(modules, *args):
    experiment = modules.script.EXPERIMENT
    return modules.flags.settings_of(experiment, modules.flags.arguments(experiment, list(args)), "cifar10")


def test_the_defaults_are_the_papers(modules):
    expected = {"dataset": "cifar10", "labels": 4000, "beta": 0.05, "epochs": 600, "steps_per_epoch": 390}
    expected |= {"batch_size": 128, "labeled_batch_size": 32, "validation": 5000, "dropout": 0.1}
    expected |= {"schedule_epochs": 600, "ramp_epochs": 50, "boundaries": [250, 350, 450, 550]}
    actual = settings(modules)
    assert {name: actual[name] for name in expected} == expected


def test_the_schedules_are_shortened_in_proportion(modules):
    actual = settings(modules, "--schedule-epochs", "60")
    assert (actual["epochs"], actual["schedule_epochs"], actual["ramp_epochs"]) == (60, 60, 5)
    assert actual["boundaries"] == [25, 35, 45, 55]
    first = settings(modules, "--schedule-epochs", "60", "--epochs", "3")
    assert (first["epochs"], first["boundaries"]) == (3, [25, 35, 45, 55])
    assert settings(modules, "--schedule-epochs", "30")["boundaries"] == [13, 18, 23, 28]  # 12.5, 17.5 ... rounded up
    # A run of fewer epochs than the paper's has the beginning of the paper's schedules.
    assert settings(modules, "--epochs", "3")["boundaries"] == [250, 350, 450, 550]


def test_a_run_with_other_schedules_has_a_directory_of_its_own(modules, call, args, small_networks):
    runs = [
        call(*args[:-2], *given, train=lambda run: None).calls[0].output_dir
        for given in ((), ("--schedule-epochs", "60"))
    ]
    assert runs == [Path("runs/exon_cifar10_20_beta0.05_seed1"), Path("runs/exon_cifar10_20_beta0.05_seed1_schedule60")]


def test_what_jax_always_does_is_no_setting_of_its_own(modules):
    same = settings(modules) == settings(modules, "--jit-compile", "--augment-on", "device")
    assert same == (keras.backend.backend() == "jax")


@pytest.mark.parametrize("epochs", [2, 3, 7, 59])
def test_every_shortening_can_be_built(modules, small_networks, epochs):
    given = settings(modules, "--schedule-epochs", str(epochs))
    assert given["boundaries"] == sorted(given["boundaries"])
    assert 1 <= given["boundaries"][0] <= given["boundaries"][-1] < epochs
    modules.script.build_model(given, one_hot())


def test_the_model_has_the_papers_schedules(modules, small_networks):
    model = modules.script.build_model(settings(modules, "--steps-per-epoch", "10"), one_hot())
    rates = {name: member._learning_rate for name, member in model.optimizer.members.items()}

    def at(schedule, epoch):
        return float(schedule(10 * epoch + 3))

    for epoch, rate in ((0, 1e-4), (1, 1e-3), (599, 1e-3)):
        assert at(rates["autoencoder"], epoch) == pytest.approx(rate)
    late = 1e-3 / 16 * math.exp(-5 * 0.5**2)
    for epoch, rate in ((0, 2e-4), (1, 1e-3), (249, 1e-3), (250, 5e-4), (449, 2.5e-4), (550, 1e-3 / 16), (575, late)):
        assert at(rates["classifier"], epoch) == pytest.approx(rate)
    for epoch, weight in ((0, 5000 * math.exp(-5)), (25, 5000 * math.exp(-5 / 4)), (50, 5000), (599, 5000)):
        assert at(model.lambda2, epoch) == pytest.approx(weight)
    assert (model.beta, model.lambda1, model.pseudo_label_dropout) == (0.05, 5000, False)
    assert model.optimizer.members["classifier"].weight_decay == 5e-4
    assert model.optimizer.members["autoencoder"].weight_decay is None
    np.testing.assert_array_equal(model.prior.means, np.eye(10, 256))


def test_a_run_writes_what_the_paper_shows(call, args, small_networks, scorer, tmp_path):
    result = call(*args, "--epochs", "2", "--inception-score", scorer)
    assert (result.code, result.err) == (0, "")
    run = tmp_path / "run"
    assert sorted(p.stem for p in (run / "figures").glob("*.png")) == sorted(FIGURES)
    for name in FIGURES:
        image = imread(run / "figures" / f"{name}.png")
        assert min(image.shape[:2]) > 150
        assert image.std() > 0.02
    metrics = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert (metrics["dataset"], metrics["labels"], metrics["epochs"]) == ("cifar10", 20, 2)
    assert metrics["negative_ssim"] is None  # the latent space is not a plane
    assert metrics["settings"] == json.loads((run / "config.json").read_text())
    with open(run / "v_nat.csv") as file:
        rows = list(csv.reader(file))[1:]
    assert [sum(float(value) > 1 for value in row[1:]) for row in rows] == metrics["activated_at_1"]
    assert (rows[1][0], len(rows[1])) == ("automobile", 257)
    score = metrics["inception_score"]
    assert 1 <= score["mean"] <= 10
    assert score["classifier"] == str(scorer)
    assert f"{score['mean']:.2f} +- {score['deviation']:.2f} by {scorer}" in result.out
    if keras.backend.backend() == "tensorflow":
        assert metrics["saved_model"] == "saved_models/exon_cifar10_20/1"
        assert (tmp_path / metrics["saved_model"] / "saved_model.pb").exists()
        assert "model.keras" in os.listdir(run)
    else:
        assert metrics["saved_model"] is None
        assert len(list((run / "figures/epochs").glob("epoch_0002_*.png"))) == 2
    model = keras.models.load_model(run / "model.keras")
    assert int(model.optimizer.iterations) == 4


def test_the_figures_of_one_class_are_of_the_papers_automobile(modules, call, args, small_networks, monkeypatch):
    drawn = {}

    def recorded(name, original):
        def draw(model, images, values):
            drawn[name] = images, values
            return original(model, images, values)

        return draw

    for name in ("perturbation", "axis_sweep", "activated_noise"):
        monkeypatch.setattr(plots, name, recorded(name, getattr(plots, name)))
    (run,) = call(*args, train=lambda run: None).calls
    report = evaluation.report(run.model, run.images.test_images, run.images.test_labels)
    figures = modules.script.figures(run, report)
    shown = run.images.test_images[run.images.test_labels == 1]
    v_nat = np.array(report["v_nat"][1])
    for name, images, values in (
        ("perturbation", shown, v_nat > 1),
        ("axis_sweep", shown[0], v_nat),
        ("activated_noise", shown[0], v_nat > 1),
    ):
        assert figures[name].get_suptitle().startswith("automobile")
        np.testing.assert_array_equal(drawn[name][0], images)
        np.testing.assert_array_equal(drawn[name][1], values)


def test_half_precision_reaches_the_networks_and_leaves_the_weights(call, args, small_networks):
    result = call(*args, "--mixed-precision", "bfloat16", train=lambda run: None)
    (run,) = result.calls
    dense = run.model.encoder.layers[3]
    assert (dense.compute_dtype, dense.kernel.dtype) == ("bfloat16", "float32")
    assert run.settings["mixed_precision"] == "bfloat16"


def test_several_steps_in_an_execution_are_asked_for(call, args, small_networks):
    result = call(*args, "--steps-per-execution", "2", train=lambda run: None)
    assert result.calls[0].model.steps_per_execution == 2


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["--schedule-epochs", "1"], "--schedule-epochs is 1; it must be at least 2"),
        (["--schedule-epochs", "0"], "--schedule-epochs is 0; it must be at least 2"),
        (["--schedule-epochs", "60", "--epochs", "100"], "--epochs is 100; it must be at most --schedule-epochs, 60"),
        (["--labels", "100"], "--labels = 100.*take 2 and 10 images of every class, but only 10"),
        (["--inception-score", "nothing.keras"], "--inception-score is 'nothing.keras', but there is no such file"),
    ],
)
def test_mistakes_are_sentences(refused, args, small_networks, given, match):
    refused(*args, *given, match=match)


@pytest.mark.parametrize(
    ("shape", "activation", "match"),
    [
        ((8, 8, 3), None, "--inception-score .* must be class probabilities"),
        ((8, 8, 4), "softmax", "--inception-score .* takes images of 4 channels"),
        ((192,), "softmax", "--inception-score .* must have one input, images"),
    ],
)
def test_a_classifier_that_cannot_score_is_found_before_the_training(refused, args, tmp_path, shape, activation, match):
    images = keras.Input(shape)
    model = keras.Model(images, layers.Dense(10, activation)(layers.Flatten()(images)))
    model.save(tmp_path / "scorer.keras")
    refused(*args, "--inception-score", tmp_path / "scorer.keras", match=match)


def test_without_the_data_the_sentence_says_where_it_looked(refused, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_ssvae.data.sources.download", lambda builder, work: "the network is closed")
    refused("--data-dir", tmp_path / "empty", match="cifar10 is not .*cifar-10-batches-bin")


def test_help_explains_every_flag_with_its_default(small, explained):
    _, options = explained
    assert tuple(options) == (*small.flags, "settling-epochs", "consistency", "schedule-epochs", "inception-score")
    for option in options.values():
        assert "default" in option, option
    assert "(default 600)" in options["epochs"]


@pytest.mark.slow
def test_the_real_networks_train_in_a_process(small, folder, tmp_path):
    command = ("--data-dir", folder, *SMALL, "--epochs", "1")
    result = small.run(tmp_path, *command, script="cifar10_exon.py", KERAS_BACKEND=keras.backend.backend())
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "run/metrics.json").exists()
