"""CP-VAE on numbers from two Gaussians, for very few steps."""

import json

import numpy as np
import pytest
from scipy.special import expit

SCRIPT = "synthetic_cp_vae"
# From the differential entropy, -0.883740: the entropy in bins of 1/256, to the second order in their width.
ENTROPY = -0.883740 + np.log(256) + (1 / 256 / 0.05) ** 2 / 24


@pytest.fixture
def fewer(modules, monkeypatch):
    monkeypatch.setattr(modules.script, "SIZES", {"train": 400, "test": 100})
    modules.script.load.cache_clear()
    yield modules.script
    modules.script.load.cache_clear()


def test_the_data_are_those_of_the_paper(fewer):
    fewer.SIZES = {"train": 50_000, "test": 10}
    images = fewer.load("synthetic", None)
    assert images.train_images.shape == (50_000, 1, 1, 1)
    x = (images.train_images.ravel() + 0.5) / 256
    for label, centre in enumerate((0.3, 0.7)):
        own = x[images.train_labels == label]
        assert own.mean() == pytest.approx(centre, abs=0.001)
        assert own.std() == pytest.approx(0.05, rel=0.02)
    probs = fewer.data_probs()
    assert -(probs * np.log(probs)).sum() == pytest.approx(ENTROPY, abs=1e-5)
    counts = np.bincount(images.train_images.ravel(), minlength=256) / 50_000
    assert np.abs(counts - probs).max() < 0.002


class Decodes:
    """A model whose decoder gives logistic distributions around its inputs, with scale exp(-3)."""

    def __init__(self, likelihood):
        self.likelihood = likelihood

    def decoder(self, z, training):
        z = np.asarray(z, "float32").reshape(-1, 1, 1, 1)
        return np.concatenate([np.log(z / (1 - z)), np.full_like(z, -3.0)], axis=-1)


def test_a_model_s_distribution_is_the_mean_of_its_likelihoods(fewer):
    model = Decodes(fewer.DiscretizedLogistic())
    found = fewer.model_probs(model, [0.3, 0.6])
    edges = np.arange(257) / 256
    expected = np.mean([np.diff(expit((edges - mean) * np.exp(3.0))) for mean in (0.3, 0.6)], axis=0)
    np.testing.assert_allclose(found, expected, atol=2e-7)
    assert fewer.kl_of_data(fewer.data_probs()) == pytest.approx(0.0, abs=1e-12)
    assert fewer.kl_of_data(np.full(256, 1 / 256)) == pytest.approx(np.log(256) - ENTROPY, abs=1e-5)


def test_a_run_has_the_figures_and_the_distance_from_the_data(call, fewer, without_export, tmp_path):
    args = ("--categories", "2", "--validation", "100", "--epochs", "1", "--steps-per-epoch", "2")
    result = call(*args, "--model", "cp")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/cp-vae_synthetic_seed1_cp2"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["kl_of_data"] > 0
    assert 0 < sum(metrics["x_probs"]) <= 1.0001  # the mass beyond [0, 1] is in no bin
    assert metrics["nll_bound"] >= metrics["nll"] > ENTROPY
    assert f"bound        {metrics['nll_bound']:.4f} nats, negative; it cannot be below 4.6617" in result.out
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert drawn == {"x", "categories", "category_probs", "curves"}


def test_the_table_has_figure_3(call_table, table_of, tmp_path):
    def metrics(settings):
        return {"bound": 5.0, "kl_of_data": 0.5, "x_probs": [1 / 256] * 256, "epochs_done": 1}

    call_table.metrics = metrics
    args = ("--model", "vae", "mog", "--categories", "2", "--epochs", "1", "--steps-per-epoch", "2")
    result = call_table(SCRIPT, *args)
    assert (result.code, result.err) == (0, "")
    assert result.trained == ["cp-vae_synthetic_seed1_vae", "cp-vae_synthetic_seed1_mog2"]
    rows = table_of(tmp_path / "runs/synthetic_cp_vae_synthetic")
    assert [(row["model"], row["K"], row["KL(data, model)"]) for row in rows] == [
        ("vae", "", "0.5000"),
        ("mog", "2", "0.5000"),
    ]
    assert (tmp_path / "runs/synthetic_cp_vae_synthetic/figure_3.png").exists()
