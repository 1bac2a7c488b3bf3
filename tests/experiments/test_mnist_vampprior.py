"""The experiment with VAE and its priors, on the embedded digits and for very few steps."""

import json
import types
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae import data

SCRIPT = "mnist_vampprior"
ARGS = ("--dataset", "digits", "--epochs", "2", "--steps-per-epoch", "3", "--nll-samples", "4", "--components", "2")


def test_a_run_writes_its_figures_and_numbers(call, tmp_path):
    whole = tmp_path / "whole"
    result = call(*ARGS, "--export-dir", tmp_path / "saved", "--output-dir", whole)
    assert (result.code, result.err) == (0, "")
    assert "VAE on digits: 1237 images; " in result.out
    metrics = json.loads((whole / "metrics.json").read_text())
    np.testing.assert_allclose(metrics["bound"], metrics["reconstruction"] + metrics["kl"], rtol=1e-5)
    assert metrics["nll"] < metrics["bound"] + 3 * metrics["nll_standard_error"]
    assert metrics["nll_monte_carlo_error"] < metrics["nll_standard_error"]
    assert metrics["nll_samples"] == 4
    assert (metrics["settings"]["prior"], metrics["settings"]["components"]) == ("vampprior", 2)
    assert f"bound        {metrics['bound']:.2f} nats" in result.out
    assert f"nll          {metrics['nll']:.2f} nats from 4 samples" in result.out
    figures = {path.stem for path in (whole / "figures").glob("*.png")}
    assert figures == {"reconstructions", "generated", "components", "pseudo_inputs", "curves"}
    model = keras.models.load_model(whole / "model.keras")
    assert model.prior.num_components == 2


@pytest.mark.slow
def test_a_run_goes_on_bit_for_bit(goes_on_bit_for_bit, tmp_path):
    goes_on_bit_for_bit(*ARGS, "--export-dir", tmp_path / "saved")


@pytest.mark.parametrize(("prior", "suffix", "shown"), [("normal", "normal", set()), ("mog", "mog10", {"components"})])
def test_other_priors_have_their_own_figures_and_directories(call, without_export, tmp_path, prior, suffix, shown):
    result = call(*ARGS[:-2], "--prior", prior, "--epochs", "1")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / f"runs/vae_digits_seed1_{suffix}"
    figures = {path.stem for path in (folder / "figures").glob("*.png")}
    assert figures == {"reconstructions", "generated", "curves"} | shown


def test_pseudo_inputs_are_drawn_after_training_took_them_out_of_range(modules):
    settings = {**modules.script.SETTINGS["digits"], "seed": 1, "prior": "vampprior", "components": 2}
    model = modules.script.build_model({**settings, "jit_compile": False, "steps_per_execution": 1})
    model.prior.pseudo_inputs.assign(np.linspace(-3.0, 3.0, 2 * 784).reshape((2, 28, 28, 1)))
    run = types.SimpleNamespace(model=model, test_images=np.zeros((20, 28, 28, 1), "float32"))
    assert "pseudo_inputs" in modules.script.figures(run, {})


def test_the_papers_settings_are_those_of_mnist(modules):
    settings = modules.script.SETTINGS["mnist"]
    assert (settings["epochs"], settings["steps_per_epoch"], settings["batch_size"]) == (2000, 500, 100)
    assert settings["validation"] == 10_000
    stopping = modules.script.early_stopping(settings)
    assert (stopping.monitor, stopping.patience, stopping.start_from_epoch) == ("val_loss", 51, 99)
    model = modules.script.build_model(
        {**settings, "seed": 1, "prior": "vampprior", "components": 10, "jit_compile": False, "steps_per_execution": 1}
    )
    assert model.beta.get_config() == {"value": 1.0, "epochs": 100, "steps_per_epoch": 500}
    optimizer = model.optimizer
    np.testing.assert_allclose(optimizer.learning_rate, 5e-4)
    assert (type(optimizer).__name__, optimizer.epsilon) == ("NormalizedAdam", 1e-8)
    assert (model.prior.num_components, model.seed) == (10, 1)


def test_images_of_validation_and_test_are_binary_and_not_trained_on(call):
    (run,) = call(*ARGS, train=lambda run: None).calls
    assert run.output_dir == Path("runs/vae_digits_seed1_vampprior2")
    images, split = run.images, run.sets.split
    assert not set(split.unlabeled) & set(split.validation)
    random = np.random.RandomState(777)
    validation = data.binarize(images.train_images[split.validation], random)
    test = data.binarize(images.test_images, random)
    given, labels = run.sets.validation()["validation_data"]
    np.testing.assert_array_equal(given, data.scale(validation))
    np.testing.assert_array_equal(labels, images.train_labels[split.validation])
    np.testing.assert_array_equal(run.test_images, data.scale(test))
    assert set(np.unique(run.test_images)) == {-1.0, 1.0}
    assert run.sets.num_images == len(split.unlabeled) == len(images.train_images) - 200


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--prior", "normal"), "--components is 2, but --prior normal has one"),
        (("--components", "0"), "--components is 0; it must be at least 1"),
        (("--validation", "0"), "--validation is 0, but the training stops"),
        (("--nll-samples", "1"), "--nll-samples is 1; it must be at least 2"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(refused, args, match):
    refused(*ARGS, *args, match=match)
