"""The tables: a run for each combination of flags, runs that are kept or resumed, and the files of a table.

Except in the slow tests the runs train nothing and only write the files that a run leaves.
"""

import json
import re

import keras
import numpy as np
import pytest
from matplotlib.image import imread

SMALL = ("--dataset", "mnist", "--data-dir", "data", "--validation", "0", "--epochs", "1", "--steps-per-epoch", "2")
SMALL = (*SMALL, "--batch-size", "12", "--labeled-batch-size", "6")


@pytest.fixture(scope="module")
def mnist(tmp_path_factory):
    """A small `mnist.npz`: 200 training and 40 test images with stripes, whose width is the class."""
    rng, arrays = np.random.default_rng(0), {}
    for part, size in (("train", 200), ("test", 40)):
        labels = np.arange(size) % 10
        images = rng.integers(0, 60, (size, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[np.arange(28) // (label + 1) % 2 == 0] += 190
        arrays |= {f"x_{part}": images.astype("uint8"), f"y_{part}": labels}
    folder = tmp_path_factory.mktemp("data")
    np.savez(folder / "mnist.npz", **arrays)
    return folder


FIGURES = {
    **{"kl_divergence": 9.0, "negative_ssim": 0.4, "kl_gaussian": 6.0, "reconstruction": 57.0},
    **{"nearest_place_percent": 98.0, "place_distance_per_class": [0.5, 1.25, None], "generated_right_percent": 90.0},
    "generated_right_percent_per_class": [95.0, 80.0, None],
    **{"generated_right_percent_independent": 91.0, "information_xz": 1.5, "kl_z": 0.25},
}


@pytest.fixture
def call(call_table, tmp_path, mnist):
    (tmp_path / "data").symlink_to(mnist)
    call_table.metrics = lambda settings: {"test_error_percent": 3.0 + settings["seed"], **FIGURES}
    return call_table


def test_the_table_of_betas_has_the_published_figures_beside_ours(call, tmp_path, table_of):
    result = call("mnist_beta", *SMALL, "--beta", "0.25", "7", "--seed", "1", "3")
    assert (result.code, result.err) == (0, "")
    names = [f"exon_mnist_100_beta{beta}_seed{seed}" for beta in ("0.25", "7") for seed in (1, 3)]
    assert result.trained == names
    assert "Run 4 of 4: beta 7, seed 3" in result.out
    folder = tmp_path / "runs/mnist_beta_mnist"
    paper, ours = table_of(folder)
    published = "published (100 epochs)"
    assert (paper["beta"], paper["runs"]) == ("0.25", "2")
    assert [paper[f"error %{name}"] for name in ("", ", deviation", f", {published}")] == ["5.00", "1.41", "3.23"]
    assert (paper["KL-divergence"], paper[f"KL-divergence, {published}"]) == ("9.000", "9.654")
    assert (paper["negative SSIM"], paper[f"negative SSIM, {published}"]) == ("0.400", "0.438")
    assert (ours["beta"], ours["error %"], ours[f"error %, {published}"]) == ("7", "5.00", "")
    markdown = (folder / "table.md").read_text()
    assert markdown in result.out
    assert markdown.startswith("mnist, 1 of 100 epochs, each of 2 steps; mean (standard deviation) over the runs.\n\n|")
    assert "| 0.25 | 2 | 0.400 (0.000) | 0.438 | 9.000 (0.000) | 9.654 | 5.00 (1.41) | 3.23 |" in markdown
    height, width, _ = imread(folder / "figure_2.png").shape
    assert height > 900
    assert width > 900


def test_other_labels_have_no_published_figures_and_one_run_no_deviation(call, tmp_path, table_of):
    result = call("mnist_beta", *SMALL, "--beta", "0.25", "--labels", "50", "--output-dir", "mine")
    assert (result.code, result.err) == (0, "")
    (row,) = table_of(tmp_path / "mine")
    assert {name: value for name, value in row.items() if "published" in name or "deviation" in name} == dict.fromkeys(
        (name for name in row if "published" in name or "deviation" in name), ""
    )


def test_the_table_of_cures_says_where_the_classes_are(call, tmp_path, table_of):
    cures = ("published", "settle+consistency", "start+wait+labels")
    result = call("mnist_places", *SMALL, "--cure", *cures)
    assert (result.code, result.err) == (0, "")
    assert "Run 2 of 3: cure settle+consistency, seed 1" in result.out
    names = [f"exon_mnist_100_beta0.25_seed1_{cure}" for cure in cures]
    assert result.trained == names
    rows = table_of(tmp_path / "runs/mnist_places_mnist")
    assert [row["cure"] for row in rows] == list(cures)
    assert (rows[0]["farthest class, deviations"], rows[0]["worst class %"]) == ("1.25", "80.0")
    models = [keras.saving.load_model(tmp_path / "runs" / name / "model.keras") for name in names]
    assert [(model.settling_steps, model.consistency) for model in models] == [(0, 0.0), (20 * 2, 0.3), (0, 0.0)]
    encoder, prior = models[2].encoder, models[2].prior
    np.testing.assert_allclose(encoder.get_layer("mean").get_weights()[1], prior.means, rtol=1e-6)
    np.testing.assert_allclose(encoder.get_layer("logvar").get_weights()[1], np.log(prior.variances), rtol=1e-6)
    spread = [np.ptp(model.encoder.get_layer("mean").get_weights()[0]) for model in models]
    assert spread[2] == pytest.approx(0.1 * spread[0], rel=1e-5)


def test_what_is_no_cure_is_a_sentence(call):
    for args, match in (
        (["--cure", "pray"], "--cure is pray; it must be published, or some of settle, "),
        (["--settling-epochs", "3"], "--cure sets --settling-epochs and --consistency"),
    ):
        result = call("mnist_places", *SMALL, *args)
        assert (result.code, result.trained) == (1, [])
        assert match in result.err


def test_labels_in_the_elbo_and_waiting_do_what_they_say(modules_of, tensorflow):
    with modules_of("mnist_places") as modules:
        script = modules.script
        settings = {"seed": 1, "beta": 0.25, "ramp_epochs": 1, "steps_per_epoch": 2, "dropout": 0.0, "decay_start": 1}
        settings |= {"schedule_epochs": 1, "jit_compile": False, "steps_per_execution": 1}
        model = script.build_model({**settings, "cure": "wait+labels"}, script.mnist_exon.priors.circle())
        plain = script.build_model({**settings, "cure": "published"}, model.prior)
        rng = np.random.default_rng(0)
        parts = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
        batch = {name: rng.uniform(-1, 1, (4, 28, 28, 1)).astype("float32") for name in parts}
        batch["labels"] = np.eye(10, dtype="float32")[:4]
        noise = model.draw_noise(batch, 0)
        terms = [each.step_losses(batch, noise, 0) for each in (model, plain)]
        # The KL of a certain label from the uniform prior is log K. Unlabelled rows are the same in both models.
        ours, theirs = ([np.asarray(each[name]) for each in terms] for name in ("kl_categorical", "kl_gaussian"))
        np.testing.assert_allclose(ours[0][:4], np.log(10), rtol=1e-5)
        np.testing.assert_allclose(ours[0][4:], ours[1][4:], rtol=1e-5)
        assert np.abs(theirs[0][:4] - theirs[1][:4]).min() > 1e-3
        before = [variable.numpy() for variable in model.variable_groups()["autoencoder"]]
        for step in range(2 * script.WAITING_EPOCHS):
            model.replay_step(batch, model.draw_noise(batch, step))
            unchanged = [
                np.array_equal(a, b) for a, b in zip(before, model.variable_groups()["autoencoder"], strict=True)
            ]
            assert all(unchanged)
        model.replay_step(batch, model.draw_noise(batch, 6))
        assert not np.array_equal(before[0], model.variable_groups()["autoencoder"][0].numpy())


def test_finished_runs_are_kept_and_an_interrupted_table_goes_on(call, tmp_path):
    args = ("mnist_beta", *SMALL, "--beta", "0.25", "7")
    call.interrupt_at = 2
    stopped = call(*args)
    assert stopped.code == 130
    assert stopped.err.count("To go on") == 1
    assert "mnist_beta.py --dataset mnist" in stopped.err
    assert "--resume" not in stopped.err
    assert "--only" not in stopped.err
    folder = tmp_path / "runs/mnist_beta_mnist"
    assert not folder.exists()
    call.interrupt_at = None
    result = call(*args)
    assert result.trained == ["exon_mnist_100_beta7_seed1"]
    assert "Finished before: runs/exon_mnist_100_beta0.25_seed1" in result.out
    before = (folder / "table.csv").read_bytes()
    assert call(*args).trained == []
    assert (folder / "table.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--beta", "1", "0"], r"--beta is 0\.0.*above 0"),
        (["--beta", "1", "1.0"], r"--beta 1\.0 1\.0 --seed 1 names runs/exon_mnist_100_beta1_seed1 twice"),
        (["--jobs", "0"], "--jobs is 0; it must be at least 1"),
        (["--labels", "5"], "--labels is 5. It must be an integer of at least 10"),
        (["--seed", "1", "-1"], "--seed is -1.*at least 0"),
        (["--output-dir", "data/mnist.npz"], "--output-dir data/mnist.npz cannot be written"),
    ],
)
def test_a_mistake_is_a_sentence_before_the_first_run(call, tmp_path, args, match):
    result = call("mnist_beta", *SMALL, *args)
    assert (result.code, result.out, result.trained) == (1, "", [])
    assert re.match(f"mnist_beta.py: error: .*{match}", result.err), result.err
    assert result.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_failed_run_is_named_and_the_others_are_made(call, tmp_path, table_of):
    args = ("mnist_beta", *SMALL, "--beta", "0.25", "5", "7")
    call.fail_at = 2
    stopped = call(*args)
    assert stopped.code == 1
    failed, rest = stopped.err.splitlines()
    assert failed == "mnist_beta.py: error: [Errno 28] No space left on device"
    assert rest.endswith("error: 1 of 3 runs failed: exon_mnist_100_beta5_seed1. The same command resumes them.")
    assert len(stopped.trained) == 3
    assert not (tmp_path / "runs/mnist_beta_mnist").exists()
    call.fail_at = None
    again = call(*args)
    assert (again.code, again.trained) == (0, ["exon_mnist_100_beta5_seed1"])
    assert len(table_of(tmp_path / "runs/mnist_beta_mnist")) == 3


def test_a_table_of_more_epochs_goes_on_with_its_runs(call, tmp_path):
    args, run = ("mnist_beta", *SMALL, "--beta", "7"), "exon_mnist_100_beta7_seed1"
    assert call(*args).trained == [run]
    longer = call(*args, "--epochs", "3")
    assert (longer.code, longer.err, longer.trained) == (0, "", [run])
    assert json.loads((tmp_path / "runs" / run / "config.json").read_text())["epochs"] == 3
    assert call(*args, "--epochs", "3").trained == []
    fewer = call(*args)
    assert re.search(f"--epochs is 1, but the run in runs/{run} has done 3", fewer.err)
    assert fewer.trained == []


@pytest.mark.parametrize("flag", ["--resume", "--export-dir"])
def test_what_belongs_to_a_single_run_is_refused(call, flag):
    result = call("mnist_beta", *SMALL, flag)
    assert result.code == 2
    assert f"a table has no {flag}: its runs resume without a flag" in result.err


def test_runs_that_do_not_fit_are_refused_before_the_first_one(call, tmp_path):
    call("mnist_beta", *SMALL, "--beta", "7")
    run = tmp_path / "runs/exon_mnist_100_beta7_seed1"
    args = ("mnist_beta", *SMALL, "--beta", "8", "7")
    results = [call(*args, "--batch-size", "13")]
    assert "beta7_seed1 was started with other settings: batch_size was 12 and is 13" in results[0].err
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "model.keras").rename(run / "elsewhere")
    results.append(call(*args))
    assert "holds a run without model.keras. Delete its metrics.json, then the same command evaluates" in results[1].err
    (run / "elsewhere").rename(run / "model.keras")
    del metrics["kl_z"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    results.append(call(*args))
    assert "holds a run whose metrics.json lacks kl_z" in results[2].err
    (run / "metrics.json").write_text("{")
    results.append(call(*args))
    assert "metrics.json is damaged" in results[3].err
    assert [result.trained for result in results] == [[]] * 4


def test_the_predesign_has_two_digits_at_the_asked_distances(call, tmp_path, table_of):
    result = call("mnist_predesign", *SMALL, "--distance", "8", "32")
    assert (result.code, result.err) == (0, "")
    assert "EXoN on mnist (0, 1): 20 labels of 40 images, beta 5" in result.out
    assert result.trained == [f"exon_mnist_20_beta5_seed1_distance{distance}" for distance in (8, 32)]
    folder = tmp_path / "runs/mnist_predesign_mnist"
    rows = table_of(folder)
    assert [row["distance"] for row in rows] == ["8", "32"]
    z = np.linspace([-10, 0], [10, 0], 11).astype("float32")
    for row in rows:
        run = tmp_path / f"runs/exon_mnist_20_beta5_seed1_distance{row['distance']}"
        model = keras.models.load_model(run / "model.keras", compile=False)
        place = float(row["distance"]) / 2
        np.testing.assert_allclose(model.prior.means, [[-place, 0], [place, 0]])
        changes = np.sqrt((np.diff(np.asarray(model.decode(z)), axis=0) ** 2).mean(axis=(1, 2, 3)))
        figures = {"mean change": changes.mean(), "largest": changes.max()}
        figures["root mean square"] = np.sqrt((changes**2).mean())
        for name, value in figures.items():
            assert float(row[name]) == pytest.approx(value, abs=6e-4), name
        settings = json.loads((run / "config.json").read_text())
        assert (settings["labels"], settings["beta"], settings["distance"]) == (20, 5.0, 2 * place)
        assert settings["classes"] == [0, 1]
    assert (folder / "figure_6.png").exists()


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--distance", "8", "0"], r"--distance is 0\.0; it must be finite and above 0"),
        (["--labeled-indices", "x"], "--labeled-indices cannot be used here: it counts all images of the data set"),
    ],
)
def test_a_mistake_in_the_predesign_is_a_sentence(call, args, match):
    assert re.match(f"mnist_predesign.py: error: {match}", call("mnist_predesign", *SMALL, *args).err)


@pytest.mark.slow
def test_the_classifier_alone_learns_from_the_labelled_images(call, tmp_path, table_of):
    args = ("mnist_labels", *SMALL, "--labels", "100", "--steps-per-epoch", "250")
    result = call(*args)
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/mnist_labels_mnist"
    (row,) = table_of(folder)
    metrics = json.loads((tmp_path / "runs/classifier_mnist_100_seed1/metrics.json").read_text())
    assert row["classifier alone, error %"] == f"{metrics['test_error_percent']:.2f}"
    assert row["EXoN, error %"] == "4.00"
    assert metrics["test_error_percent"] < 50  # chance: 90
    assert (folder / "errors.png").exists()
    assert "The classifier alone" in result.out
    (tmp_path / "runs/classifier_mnist_100_seed1/metrics.json").unlink()
    again, third = call(*args), call(*args)
    assert (again.code, again.trained, third.trained) == (0, [], [])
    assert "The classifier alone" in again.out
    assert "The classifier alone" not in third.out
    assert table_of(folder) == [row]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_table_trains_each_run_in_a_process_as_it_would_alone(small, call, tmp_path, jobs):
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone/data").symlink_to(tmp_path / "data")
    alone = small.run(tmp_path / "alone", *SMALL, "--beta", "7", KERAS_BACKEND=keras.backend.backend())
    assert (alone.code, alone.err) == (0, "")
    result = call("mnist_beta", *SMALL, "--beta", "0.25", "7", "--jobs", jobs, in_earnest=True)
    assert (result.code, result.err) == (0, "")
    if jobs == 2:
        log = tmp_path / "runs/exon_mnist_100_beta7_seed1/output.log"
        assert "epoch 1/1 " in log.read_text()
        assert "epoch 1/1 " not in result.out
        assert "Run 2 of 2 is finished." in result.out
    run = "runs/exon_mnist_100_beta7_seed1/checkpoint.npz"
    with np.load(tmp_path / run) as second, np.load(tmp_path / "alone" / run) as expected:
        for name in set(expected.files) - {"history"}:
            np.testing.assert_array_equal(second[name], expected[name], err_msg=name)


def test_the_help_names_the_lists_and_the_paper(call):
    result = call("mnist_beta", "--help")
    assert result.code == 0
    assert "Table 3 and Figure 2" in result.out
    assert "(default 0.1 0.25 0.5 0.75 1.0 5.0 10.0 50.0)" in " ".join(result.out.split())
    assert all(
        flag in result.out
        for flag in ("--jobs N", "--cluster [ADDRESS]", "--beta ", "--seed ", "--runs-dir", "--output-dir", "--layout")
    )
    assert not any(flag in result.out for flag in ("--resume", "--export-dir", "--only", "--started"))
