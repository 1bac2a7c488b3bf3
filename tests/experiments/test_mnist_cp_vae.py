"""CP-VAE and its family: a run of very few steps on the embedded digits, and tables of runs that train nothing."""

import csv
import json

import numpy as np
import pytest

SCRIPT = "mnist_cp_vae"
DIGITS = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "2", "--nll-samples", "4")
SMALL = ("--validation", "20", "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "12")
METRICS = {"epochs_done": 1, "nll": 85.0, "reconstruction": 70.0}


@pytest.fixture
def mnist(tmp_path):
    """A small `mnist.npz`: 200 training and 40 test images."""
    arrays = {}
    for part, size in (("train", 200), ("test", 40)):
        arrays |= {f"x_{part}": np.zeros((size, 28, 28), "uint8"), f"y_{part}": np.arange(size) % 10}
    np.savez(tmp_path / "mnist.npz", **arrays)
    return ("--dataset", "mnist", "--data-dir", tmp_path, *SMALL)


def test_a_run_says_what_it_makes_of_its_categories(call, without_export, tmp_path):
    result = call(*DIGITS, "--categories", "3")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/cp-vae_digits_seed1_cp3"
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {name: metrics["settings"].get(name) for name in ("model", "categories", "variant")} == {
        "model": "cp",
        "categories": 3,
        "variant": None,
    }
    np.testing.assert_allclose(
        metrics["bound"], sum(metrics[name] for name in ("reconstruction", "kl_z", "kl_c")), rtol=1e-5
    )
    assert metrics["discrete_loss"] != metrics["bound"]
    for name in ("nll", "nll_summed"):
        assert metrics[name] < metrics["bound"] + 3 * metrics[f"{name}_standard_error"]
    assert (metrics["nll_samples"], metrics["nll_summed_samples"]) == (4, 2)
    # The first 1,000 test images are all of them here.
    np.testing.assert_allclose(metrics["information_cx"] + metrics["kl_qc"], metrics["kl_c"], rtol=1e-4)
    assert metrics["information_z"] <= metrics["information_z_ceiling"] + 1e-6
    assert 1 <= metrics["category_perplexity"] <= 3
    assert len(metrics["category_probs"]) == 3
    assert metrics["accuracy_one_to_one_percent"] <= metrics["accuracy_many_to_one_percent"]
    assert all(sorted(row) == [0, 1, 2] for row in metrics["likeliest_categories"].values())
    assert (metrics["likeliest_distinct"], metrics["likeliest_shared"]) == (3, 3)
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert drawn == {"reconstructions", "generated", "curves", "category_probs", "categories"} | {
        "category_probs_by_label",
        "categories_of_labels",
    }
    assert f"{metrics['categories_in_use']} of 3 have q(c) > 1/3" in result.out


def test_a_model_without_categories_has_a_run_of_its_own(call, without_export, tmp_path):
    result = call(*DIGITS, "--model", "hvp", "--categories", "2", "--variant", "frozen")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/cp-vae_digits_seed1_hvp2"
    metrics = json.loads((folder / "metrics.json").read_text())
    np.testing.assert_allclose(
        metrics["bound"], sum(metrics[name] for name in ("reconstruction", "kl_z1", "kl_z2")), rtol=1e-5
    )
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    assert drawn == {"reconstructions", "generated", "curves", "pseudo_inputs"}


def test_the_table_has_the_published_bounds_and_the_pairs(call_table, table_of, mnist, tmp_path):
    def metrics(settings):
        bound = 90.0 if settings["model"] == "vae" else 86.0 + settings["categories"] / 100 + settings["seed"]
        found = {**METRICS, "bound": bound}
        if settings["model"] == "cp":
            likeliest = {str(label): [label, 0] for label in range(10)}
            found |= {"category_probs": [1 / settings["categories"]] * settings["categories"]}
            found |= {"categories_in_use": 7, "likeliest_categories": likeliest}
        return found

    call_table.metrics = metrics
    result = call_table(SCRIPT, *mnist, "--model", "vae", "cp", "--categories", "10", "150")
    assert (result.code, result.err) == (0, "")
    names = [f"cp-vae_mnist_seed1_{name}" for name in ("vae", "cp10", "cp150")]
    assert result.trained == names
    assert "Run 1 of 3: model vae, variant default, seed 1" in result.out
    folder = tmp_path / "runs/mnist_cp_vae_mnist"
    rows = table_of(folder)
    columns = ("data set", "model", "K", "bound", "published", "q(c) > 1/K")
    assert [tuple(row[name] for name in columns) for row in rows] == [
        ("mnist", "vae", "", "90.00", "88.75", ""),
        ("mnist", "cp", "10", "87.10", "87.15", "7.0"),
        ("mnist", "cp", "150", "88.50", "88.53", "7.0"),
    ]
    assert "perplexity of q(c)" not in rows[0]
    with open(folder / "pairs.csv") as file:
        pairs = [(row["model"], row["minus"], row["seeds"], row["bound"]) for row in csv.DictReader(file)]
    assert pairs == [("vae", "cp 10", "1", "2.90"), ("vae", "cp 150", "1", "1.50"), ("cp 10", "cp 150", "1", "-1.40")]
    with open(folder / "likeliest_categories.csv") as file:
        likeliest = list(csv.reader(file))
    assert likeliest[0] == ["data set", "model", "seed", "label", "1", "2"]
    assert likeliest[4] == ["mnist", "cp 10", "1", "3", "3", "0"]
    assert (folder / "generated.png").exists()


def test_the_published_figures_are_those_of_table_3(modules):
    script = modules.script
    assert script.published("mnist", "cp", 150) == "88.53"
    assert script.published("fashion_mnist", "vampprior", 500) == "270.83"
    assert script.published("omniglot", "indq", 50) == "125.28"
    assert script.published("omniglot", "hvae", None) == "110.81"
    assert script.published("mnist", "cp", 20) == script.published("omniglot_resized", "cp", 50) == ""
    for model in script.MODELS:
        counts = [len(each.split()) for each in script.PUBLISHED[model].split(", ")]
        assert counts == ([1, 1, 1] if model in script.WITHOUT_CATEGORIES else [3, 3, 2])


@pytest.mark.parametrize(
    ("model", "variant", "expected"),
    [
        ("cp", None, {"z_heads": "sample", "posteriors": "one", "learned": True, "above_one": False}),
        ("cp", "released", {"z_heads": "own_sample", "learned": False, "above_one": True}),
        ("indq", "released_learned", {"factorised_posterior": True, "learned": True, "above_one": True}),
        ("indp", "each", {"factorised_prior": True, "posteriors": "each", "learned": False}),
        ("mog", "released", {"mean_of_logs": True, "learned": False}),
    ],
)
def test_a_variant_makes_the_choices_that_it_names(modules, model, variant, expected):
    settings = {"seed": 1, "model": model, "categories": 2, "warm_up_epochs": 100, "steps_per_epoch": 500}
    made = modules.script.make_model({**settings, **({} if variant is None else {"variant": variant})})
    prior = {name: getattr(made.prior, name, None) for name in ("above_one", "mean_of_logs")}
    found = {**prior, "learned": "prior" in made.variable_groups()}
    found |= {name: getattr(made, name) for name in expected if name not in found}
    assert {name: found[name] for name in expected} == expected
    assert made.beta.get_config() == {"value": 1.0, "epochs": 100, "steps_per_epoch": 500}
    if model != "mog":
        assert made.temperature.get_config()["steps_per_epoch"] == 500


def test_omniglot_says_that_it_is_resized_and_holds_out_its_share(call, tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.integers(0, 256, (60, 105, 105), "uint8"), "y_train": np.repeat([0, 1, 2], [40, 15, 5])}
    arrays |= {"x_test": arrays["x_train"][:7], "y_test": np.full(7, 3), "alphabet_of_class": ["A", "B", "C", "D"]}
    np.savez(tmp_path / "omniglot.npz", **arrays)
    args = ("--dataset", "omniglot", "--data-dir", tmp_path, *SMALL[2:], "--validation", "12")
    (run,) = call(*args, train=lambda run: None).calls
    assert run.output_dir.name == "cp-vae_omniglot_resized_seed1_cp10"
    assert (run.settings["dataset"], run.title) == ("omniglot_resized", "CP-VAE on omniglot_resized")
    held_out = run.images.train_labels[run.sets.split.validation]
    np.testing.assert_array_equal(np.bincount(held_out), [8, 3, 1])
    assert run.sets.num_images == 48
    assert run.options["nll_samples"] == 5000


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--model", "gan"), "--model is gan; it must be one of vae, mog"),
        (("--variant", "best"), "--variant is best; it must be one of default, frozen"),
        (("--categories", "0"), "--categories is 0; it must be at least 1"),
        (("--validation", "0"), "--validation is 0, but the training stops"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(refused, args, match):
    refused(*DIGITS, *args, match=match)
