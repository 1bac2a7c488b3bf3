"""The MNIST experiment of PartedVAE, on the embedded digits and for very few steps."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

SCRIPT = "mnist_parted"
ARGS = ("--dataset", "digits", "--epochs", "2", "--steps-per-epoch", "3", "--batch-size", "16")
ARGS = (*ARGS, "--labeled-batch-size", "8")


@pytest.fixture
def args(tmp_path):
    return (*ARGS, "--labels", "33", "--validation", "10", "--export-dir", tmp_path / "saved")


def test_a_run_writes_its_figures_and_numbers(call, args, tmp_path):
    whole = tmp_path / "whole"
    result = call(*args, "--output-dir", whole, "--classifier-alone")
    assert (result.code, result.err) == (0, "")
    assert "PartedVAE on digits: 33 labels of 1437 images; " in result.out
    metrics = json.loads((whole / "metrics.json").read_text())
    for name in ("test_error_percent", "kl_z", "kl_u", "entropy_c", "reconstruction", "classifier_alone_error_percent"):
        assert np.isfinite(metrics[name])
    assert len(metrics["error_percent_per_class"]) == 10
    assert metrics["settings"]["slope_steps"] == 750
    figures = {path.stem for path in (whole / "figures").glob("*.png")}
    assert figures >= {"traversals_z", "traversals_u", "transfer", "learned_prior", "reconstructions", "curves"}
    model = keras.models.load_model(whole / "model.keras")
    assert model.image_shape == (32, 32, 1)


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(goes_on_bit_for_bit, args):
    goes_on_bit_for_bit(*args, "--classifier-alone")


def test_it_trains_without_labels_and_says_how_many_there_are(call, tmp_path):
    def train(run):
        run.model.fit(run.batches, steps_per_epoch=2, shuffle=False, verbose=0)

    (run,) = call(*ARGS, "--labels", "0", train=train).calls
    assert run.output_dir == Path("runs/partedvae_digits_0_seed1")
    history = run.model.history.history
    assert "warm_up" not in history
    assert np.isfinite(history["reconstruction"]).all()


def test_each_optimizer_has_its_plateau(call):
    (run,) = call(*ARGS, train=lambda run: None).calls
    members = run.model.optimizer.members
    assert {name: (o.patience, o.threshold, o.cooldown) for name, o in members.items()} == {
        "supervised": (2, 0.1, 3),
        "main": (2, 0.01, 4),
    }
    for optimizer in members.values():
        assert (optimizer.steps_per_epoch, optimizer.factor, optimizer.epsilon) == (3, 0.5, 1e-8)
        np.testing.assert_allclose(optimizer.learning_rate, 1.5e-3)
        assert optimizer.corrected_epsilon


def test_the_paper_s_settings_are_those_of_mnist(modules):
    settings = modules.script.SETTINGS["mnist"]
    assert (settings["epochs"], settings["steps_per_epoch"], modules.script.EXPERIMENT.labels) == (60, 938, 256)
    args = modules.flags.arguments(modules.script.EXPERIMENT, [])
    own = modules.script.own_settings(args, "mnist", 60)
    assert own == {"capacity_steps": 100_000, "slope_steps": 35_000}
    assert not hasattr(args, "beta")


def test_a_classifier_alone_needs_labels(refused):
    refused(
        *ARGS, "--labels", "0", "--classifier-alone", match="--classifier-alone needs labelled images, but --labels"
    )


def test_too_few_labels_are_a_sentence(refused):
    refused(*ARGS, "--labels", "9", match="--labels is 9. It must be an integer of at least 10")
