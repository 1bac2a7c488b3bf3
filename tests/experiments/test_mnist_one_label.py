"""REVAE with one labelled image of each class, on the embedded digits and for very few steps."""

import json

import keras
import numpy as np
import pytest

from keras_ssvae import data

pytestmark = pytest.mark.usefixtures("without_export")
SCRIPT = "mnist_one_label"
SMALL = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "3")


def test_a_run_learns_from_ten_images_and_the_term_for_them(call, modules, monkeypatch, tmp_path):
    monkeypatch.setattr(modules.runner, "draw_figures", lambda run, report: None)  # those of fashion_mnist_revae
    result = call(*SMALL, "--validation", "0", "--mu", "5", "--m", "12", train=modules.runner.train)
    assert (result.code, result.err) == (0, "")
    (run,) = result.calls
    folder = tmp_path / "runs/revae_digits_10_seed1_revae_m12_mu5"
    assert run.output_dir.resolve() == folder
    assert sorted(run.images.train_labels[run.sets.split.labeled]) == list(range(10))
    # The 1,427 images without a label, in batches of 50.
    assert run.settings["rhythm"] == [1, 29]
    assert [run.settings[name] for name in ("labeled_batch_size", "batch_size")] == [10, 60]
    metrics = json.loads((folder / "metrics.json").read_text())
    assert 0 <= metrics["test_error_percent"] <= 100
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert (model.mu, model.c_dims, model.rest_dim) == (5.0, [12], 0)
    # The model keeps the posteriors of all ten images; no two are the same.
    np.testing.assert_array_equal(model.anchors_seen, np.ones(10))
    assert len(np.unique(np.asarray(model.anchor_means), axis=0)) == 10


def test_the_seed_draws_the_ten_images(call):
    def drawn(seed):
        (run,) = call(*SMALL, "--mu", "5", "--seed", seed, "--output-dir", f"s{seed}", train=lambda run: None).calls
        return set(run.sets.split.labeled)

    assert len(drawn(1) | drawn(2)) > 10


def test_the_table_has_the_published_accuracy_beside_ours(call_table, table_of, tmp_path):
    images = data.load("digits")
    arrays = {"x_train": images.train_images[:200, :28, :28, 0], "y_train": images.train_labels[:200]}
    arrays |= {"x_test": images.test_images[:40, :28, :28, 0], "y_test": images.test_labels[:40]}
    np.savez(tmp_path / "mnist.npz", **arrays)
    call_table.metrics = lambda settings: {"test_error_percent": 20.0 + settings["seed"]}
    args = ("--dataset", "mnist", "--data-dir", tmp_path, "--validation", "0", "--epochs", "1")
    result = call_table(SCRIPT, *args, "--mu", "0", "5", "--seed", "1", "3")
    assert (result.code, result.err) == (0, "")
    assert result.trained == [f"revae_mnist_10_seed{seed}_revae_mu{mu}" for mu in (0, 5) for seed in (1, 3)]
    without, paper = table_of(tmp_path / "runs/mnist_one_label_mnist")
    assert (without["mu"], paper["mu"], paper["runs"]) == ("0", "5", "2")
    assert (paper["accuracy %"], paper["accuracy %, deviation"]) == ("78.00", "1.41")
    published = "accuracy %, published (100 epochs)"
    assert (without[published], paper[published]) == ("", "76.7")


def test_the_default_is_the_paper_s_mu(call_table, table_of, tmp_path):
    call_table.metrics = lambda settings: {"test_error_percent": 20.0}
    result = call_table(SCRIPT, *SMALL)
    assert (result.code, result.trained) == (0, ["revae_digits_10_seed1_revae_mu5"])
    (row,) = table_of(tmp_path / "runs/mnist_one_label_digits")
    assert row["accuracy %, published (100 epochs)"] == ""


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--labels", "20"), "--labels is 20, but here each class has one labelled image"),
        (("--mu", "-1"), "--mu is -1.0; it must be finite and at least 0"),
        (("--mu", "nan"), "--mu is nan; it must be"),
        (("--m", "0"), "--m is 0; it must be at least 1"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(call_table, args, sentence):
    result = call_table(SCRIPT, *SMALL, *args)
    assert (result.code, result.trained) == (1, [])
    assert sentence in result.err
