"""PartedVAE on a small generated CelebA: runs of a few steps in this process, most of them with small networks."""

import json
import shutil

import keras
import numpy as np
import pytest
from keras import layers

SCRIPT = "celeba_parted"
pytestmark = pytest.mark.slow  # together they take a minute: making the data, and a few steps of large images
SMALL = ("--labels", "20", "--validation", "4", "--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "5")
SMALL = (*SMALL, "--labeled-batch-size", "3", "--export-dir", "saved")
LABELS = ["hair colour", "beard", "hairline", "eyeglasses", "smile", "hat", "gender"]


@pytest.fixture
def args(celeba_directory):
    return ("--data-dir", celeba_directory, *SMALL)


@pytest.fixture
def small_networks(modules, monkeypatch):
    def encoder():
        images = keras.Input((218, 178, 3))
        return keras.Model(images, layers.Dense(8)(layers.Flatten()(layers.AveragePooling2D(32)(images))))

    def decoder(latent_dim):
        z = keras.Input((latent_dim,))
        x = layers.Reshape((2, 2, 3))(layers.Dense(12)(z))
        return keras.Model(z, layers.UpSampling2D((109, 89))(x))

    monkeypatch.setattr(modules.script, "celeba_encoder", encoder)
    monkeypatch.setattr(modules.script, "celeba_decoder", decoder)


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)


def test_a_run_writes_its_figures_and_numbers_and_goes_on_bit_for_bit(
    call, modules, args, small_networks, arrays_of, tmp_path, monkeypatch
):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    began = modules.runner.EpochLog.on_epoch_begin

    def begin(clock, epoch, logs=None):
        if epoch == 1:
            shutil.copytree(whole, parts)  # the files that a kill at this moment would leave
        began(clock, epoch, logs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modules.runner.EpochLog, "on_epoch_begin", begin)
        result = call(*args, "--output-dir", whole)
    assert (result.code, result.err) == (0, "")
    assert "PartedVAE on celeba: 20 labels of 30 images; " in result.out
    assert "PartedVAE on celeba, 20 labels" in result.out
    metrics = metrics_of(whole)
    assert (metrics["steps"], metrics["test_images"]) == (4, 9)
    assert list(metrics["error_percent_per_label"]) == LABELS
    errors = list(metrics["error_percent_per_label"].values())
    assert metrics["test_error_percent"] == pytest.approx(np.mean(errors))
    for name in ("validation_error_percent", "reconstruction", "kl_z", "kl_u", "entropy_c", "step_milliseconds"):
        assert np.isfinite(metrics[name])
    figures = {path.stem for path in (whole / "figures").iterdir()}
    assert figures == {
        *("traversals_z", "transfer", "reconstructions", "curves"),
        *(f"learned_prior_{label.replace(' ', '_')}" for label in LABELS),
    }
    model = keras.models.load_model(whole / "model.keras", compile=False)
    assert (model.image_shape, model.num_classes) == ((218, 178, 3), (4, 2, 3, 2, 2, 2, 2))
    assert (tmp_path / "saved/1/saved_model.pb").exists()

    assert not (parts / "metrics.json").exists()
    # The run before has tested the figures and the SavedModel.
    monkeypatch.setattr(modules.runner, "draw_figures", lambda run, report: None)
    monkeypatch.setattr(modules.runner, "export_saved_model", lambda model, folder: folder)
    result = call(*args, "--output-dir", parts, "--resume")
    assert (result.code, result.err) == (0, "")
    assert "Going on after epoch 1." in result.out
    assert len(history := json.loads(str(np.load(parts / "checkpoint.npz")["history"]))) == 2
    assert all(row["train_seconds"] > 0 for row in history)
    before, after = arrays_of(whole), arrays_of(parts)
    assert before.keys() == after.keys()
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name], err_msg=name)
    again = metrics_of(parts)
    for name in ("error_percent_per_label", "validation_error_percent", "reconstruction", "kl_z", "kl_u"):
        assert again[name] == metrics[name]


def test_the_paper_s_networks_train_for_a_few_steps(call, args):
    (run,) = call(*args, train=lambda run: None).calls
    model = run.model
    assert (model.encoder.count_params(), model.decoder.count_params()) == (591_872, 597_763)
    before = [variable.numpy() for variable in model.trainable_variables]
    history = model.fit(run.batches, steps_per_epoch=2, shuffle=False, verbose=0).history
    assert {name: np.isfinite(values).all() for name, values in history.items()} == dict.fromkeys(history, True)
    assert set(history) >= {"warm_up", "reconstruction", "kl_z", "kl_u", "kl_c", "entropy_c", "overlap"}
    for variable, value in zip(model.trainable_variables, before, strict=True):
        assert not np.array_equal(variable.numpy(), value), variable.path


def test_the_settings_are_the_papers(call, celeba_directory, modules, monkeypatch, small_networks):
    monkeypatch.setattr("keras_ssvae.data.CelebAPart.draw", lambda part, number, seed: part.complete)
    (run,) = call("--data-dir", celeba_directory, "--validation", "0", train=lambda run: None).calls
    settings, model = run.settings, run.model
    expected = {"dataset": "celeba", "labels": 800, "epochs": 80, "steps_per_epoch": 2544, "batch_size": 128}
    expected |= {"labeled_batch_size": 64, "validation": 0}
    assert {name: settings[name] for name in expected} == expected
    expected = {"z_dim": 10, "latent_dim": 17, "num_classes": (4, 2, 3, 2, 2, 2, 2), "pixel_loss": "absolute_error"}
    expected |= {"gamma_c": 2000, "gamma_h": 10, "gamma_z": 1000, "gamma_u": 1000, "gamma_bc": 500, "tolerance": 0.2}
    expected |= {"capacity_z": 30, "capacity_u": 15, "capacity_steps": 125_000, "slope_steps": 35_000}
    assert {name: getattr(model, name) for name in expected} == expected
    assert [prior.tolist() for prior in model.class_priors[:2]] == [[0.42, 0.33, 0.18, 0.06], [0.85, 0.15]]
    members = model.optimizer.members
    assert {name: (o.patience, o.threshold, o.cooldown) for name, o in members.items()} == {
        "supervised": (2, 0.1, 3),
        "main": (2, 0.01, 4),
    }
    for optimizer in members.values():
        assert optimizer.steps_per_epoch == 2544
        np.testing.assert_allclose(optimizer.learning_rate, 5e-4)
    assert str(run.output_dir) == "runs/partedvae_celeba_800_seed1"
    x, y = next(iter(run.batches))
    assert (x["labeled"].shape, x["unlabeled"].shape, y.shape) == ((23, 218, 178, 3), (64, 218, 178, 3), (23, 17))


def test_the_seed_draws_the_labelled_images(call, args, small_networks):
    runs = [call(*args, "--seed", seed, train=lambda run: None).calls[0] for seed in (1, 2)]
    assert all(len(run.sets.split) == 20 for run in runs)
    assert set(runs[0].sets.split) != set(runs[1].sets.split)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["--labels", "24"], "--labels is 24, but only 23 images have a value of each label"),
        (["--labels", "0"], "--labels is 0; PartedVAE needs labelled images"),
        (["--labels", "2"], r"--labels is 2, and with --seed = 1 none of these images has the .* \""),
        (["--validation", "6"], "--validation is 6; the validation part has 5 labelled images"),
        (["--labeled-indices", "file"], "--labeled-indices is not for CelebA"),
        (["--labeled-batch-size", "5"], "--labeled-batch-size is 5; it must be smaller than --batch-size"),
    ],
)
def test_mistakes_are_sentences(refused, args, given, match):
    refused(*args, *given, match=match)


def test_without_the_data_a_sentence_says_how_to_get_it(refused, tmp_path):
    way = {
        "tensorflow": r"celeb_a is not prepared in .*download_and_prepare\(\)",
        "jax": "on the TensorFlow backend of Keras only, and the backend is jax. Set KERAS_BACKEND=tensorflow",
    }
    refused("--data-dir", tmp_path / "empty", match=way[keras.backend.backend()])


def test_help_explains_its_flags_and_what_it_was_tested_on(small, explained):
    described, options = explained
    assert "tested for a few steps on generated images of the right shape only" in described
    assert set(options) == {"dataset", *small.flags} - {"beta", "labeled-indices"}
    for option in options.values():
        assert "default" in option, option
    assert "(default 800)" in options["labels"]
    assert "(default 1024)" in options["validation"]
