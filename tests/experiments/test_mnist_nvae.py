"""N-VAE, CVAE and beta-VAE on the embedded digits for very few steps, and a table of runs that train nothing."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

SCRIPT = "mnist_nvae"
SMALL = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "20")
FIGURES = {"reconstructions", "generated", "kl", "latent", "curves"}


@pytest.fixture(autouse=True)
def small_networks(without_export, modules, monkeypatch):
    monkeypatch.setattr(modules.script, "DRAWS", 50)
    small = {**modules.script.SETTINGS["digits"], "filters": [4], "hidden": [8]}
    monkeypatch.setitem(modules.script.SETTINGS, "digits", small)


@pytest.mark.parametrize(
    ("model", "folder", "figures"),
    [
        ("nvae", "nvae_beta2_c1_s2", {"generated_1.4", "traversals_z_c", "traversals_z_s", "kl_by_class"}),
        ("cvae", "cvae_c1_s2", {"generated_1.4", "traversals_z"}),
        ("beta_vae", "beta_vae_s2", {"traversals_z"}),
    ],
)
def test_a_run_has_the_figures_of_its_model_and_their_claims_as_numbers(call, tmp_path, model, folder, figures):
    result = call(*SMALL, "--model", model)
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / f"runs/n-vae_digits_seed1_{folder}"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {path.stem for path in (folder / "figures").glob("*.png")} == FIGURES | figures
    assert 0 <= metrics["class_share_percent"] <= 100
    # (22) of EXoN with a single class: the KL is the information of z and the KL of q(z) together.
    np.testing.assert_allclose(metrics["information_xz"] + metrics["kl_aggregate"], metrics["kl_shared"], rtol=1e-4)
    np.testing.assert_allclose(sum(metrics["kl_shared_by_variable"]), metrics["kl_shared"])
    term = {"nvae": "kl_s", "cvae": "kl_z", "beta_vae": "kl"}[model]
    np.testing.assert_allclose(metrics["kl_shared"], metrics[term], rtol=1e-4)
    assert f"the class explains {metrics['class_share_percent']:.1f} % of the variance" in result.out
    if model == "nvae":
        by_class = np.asarray(metrics["kl_by_class"])
        assert by_class.shape == (10, 10, 1)
        np.testing.assert_allclose(metrics["kl_own_class"], np.diagonal(by_class).mean())
        np.testing.assert_allclose(metrics["kl_other_classes"], by_class[~np.eye(10, dtype=bool)].mean())


def test_extended_yale_b_has_the_persons_that_are_there_and_larger_networks(call, tmp_path):
    for person in (11, 12, 15):
        folder = tmp_path / f"data/CroppedYale/yaleB{person}"
        folder.mkdir(parents=True)
        for i in range(10):
            Image.new("L", (168, 192), 6 * person).save(folder / f"{folder.name}_P00A+{i:03d}E+00.pgm")
    of_yale = ("--dataset", "yale", "--data-dir", tmp_path / "data", "--epochs", "1", "--steps-per-epoch", "2")
    result = call(*of_yale, "--batch-size", "20", "--filters", "2", "2", "2", "--hidden", "8")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/n-vae_yale_seed1_nvae_beta2_c1_s2_filters2-2-2_hidden8"
    assert np.shape(json.loads((folder / "metrics.json").read_text())["kl_by_class"]) == (3, 3, 1)
    model = keras.models.load_model(folder / "model.keras")
    assert (model.image_shape, model.num_classes, model.class_names[0]) == ((64, 64, 1), 3, "person 11")


def test_all_images_but_those_of_validation_are_labelled_and_the_model_knows_the_names(call):
    (run,) = call(*SMALL, train=lambda run: None).calls
    assert run.model.class_names == tuple(run.images.class_names)
    assert run.sets.num_labeled == run.sets.num_images == 1437 - 200
    x, y = next(iter(run.batches))
    assert set(x) == {"labeled", "labeled_augmented"}
    assert y.shape == (20, 10)
    (run,) = call(*SMALL, "--model", "beta_vae", train=lambda run: None).calls
    assert len(next(iter(run.batches))) == 1
    assert run.model.latent_dim == 2


def test_a_model_has_the_flags_that_make_a_difference(call):
    def settings(*args):
        (run,) = call(*SMALL, *args, train=lambda run: None).calls
        names = ("model", "beta_c", "class_dims", "shared_dims")
        return {name: run.settings[name] for name in names if name in run.settings}, run.model

    given = ("--beta-c", "4", "--class-dims", "2", "--shared-dims", "3")
    found, model = settings(*given, "--model", "nvae_without_bias")
    assert found == {"model": "nvae_without_bias", "beta_c": 4.0, "class_dims": 2, "shared_dims": 3}
    assert (model.latents, model.class_bias) == ({"y": 10, "z_c": 20, "z_s": 3}, False)
    np.testing.assert_allclose(model.weights_at(0).beta_c, 4.0)
    found, model = settings(*given, "--model", "cvae")
    assert found == {"model": "cvae", "class_dims": 2, "shared_dims": 3}
    assert model.z_dim == 5
    found, model = settings(*given, "--model", "beta_vae")
    assert found == {"model": "beta_vae", "shared_dims": 3}
    np.testing.assert_allclose(model.weights_at(0).beta, 5.0)


def test_a_table_has_a_row_for_each_model_and_figure_10(call_table, table_of, tmp_path):
    def metrics(settings):
        found = {"reconstruction": 100.0 + settings["seed"], "kl_shared": 1.5}
        if settings["model"] != "beta_vae":
            by_class = np.full((10, 10, settings["class_dims"]), 0.01) + np.eye(10)[..., None]
            found |= {"test_error_percent": 2.0, "kl_own_class": 1.01, "kl_by_class": by_class.tolist()}
        return found

    call_table.metrics = metrics
    models = ("nvae", "nvae_without_bias", "beta_vae")
    result = call_table(SCRIPT, *SMALL, "--model", *models, "--beta-c", "1", "2", "--shared-dims", "2")
    assert (result.code, result.err) == (0, "")
    assert len(result.trained) == 5
    folder = tmp_path / "runs/mnist_nvae_digits"
    columns = ("model", "beta_c", "class_dims", "shared_dims", "runs", "error %", "reconstruction", "own z_c")
    assert [tuple(row[name] for name in columns) for row in table_of(folder)] == [
        ("nvae", "1.0", "1", "2", "1", "2.00", "101.00", "1.010"),
        ("nvae", "2.0", "1", "2", "1", "2.00", "101.00", "1.010"),
        ("nvae_without_bias", "1.0", "1", "2", "1", "2.00", "101.00", "1.010"),
        ("nvae_without_bias", "2.0", "1", "2", "1", "2.00", "101.00", "1.010"),
        ("beta_vae", "", "", "2", "1", "", "101.00", ""),
    ]
    assert (folder / "figure_10.png").exists()


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--model", "gan"), "--model is gan; it must be one of nvae, nvae_without_bias, cvae, beta_vae"),
        (("--class-dims", "0", "--shared-dims", "0"), "--class-dims is 0 and --shared-dims is 0; none may"),
        (("--beta-c", "-1"), "--beta-c is -1"),
        (("--class-dims", "-1"), "--class-dims is -1 and --shared-dims is 2; none may"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(refused, args, match):
    refused(*SMALL, *args, match=match)
