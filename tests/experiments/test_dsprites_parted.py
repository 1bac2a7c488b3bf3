"""PartedVAE on a small generated dSprites: runs of a few steps in this process, and their table."""

import csv
import dataclasses
import json
import shutil

import keras
import pytest

SCRIPT = "dsprites_parted"
pytestmark = pytest.mark.slow  # together they take a minute: making the data, and a few steps of large images
SMALL = ("--epochs", "2", "--steps-per-epoch", "2", "--batch-size", "12", "--labeled-batch-size", "6")
SCORES = ("factor_score", "factor_vae_score", "beta_vae_score", "sap", "mig", "dci_disentanglement")
RUN = "runs/partedvae_dsprites_{}_seed1"


@pytest.fixture
def dsprites(dsprites_directory, tmp_path):
    (tmp_path / "data").symlink_to(dsprites_directory)
    return ("--data-dir", "data", *SMALL)


@pytest.fixture(scope="module")
def untrained(modules, tmp_path_factory):
    """The file of a trained model."""
    flags = {"seed": 1, "gamma_bc": 10.0, "steps_per_epoch": 2, "jit_compile": False, "steps_per_execution": 1}
    file = tmp_path_factory.mktemp("untrained") / "model.keras"
    modules.script.build_model(flags).save(file)
    return file


@pytest.fixture
def table(modules, untrained, in_process, monkeypatch):
    """Makes a table in this process, with runs that train nothing; returns which runs it made and what it printed."""
    sweep, trained = modules.script.sweep, []
    for name in ("XLA_PYTHON_CLIENT_PREALLOCATE", "TF_FORCE_GPU_ALLOW_GROWTH"):
        monkeypatch.setenv(name, "false")  # the script sets these

    def train(plan):
        trained.append(plan.output_dir.name)
        plan.output_dir.mkdir(parents=True)
        shutil.copy(untrained, plan.output_dir)
        # The score is different for each number of labels and seed.
        score = plan.settings["labels"] / 1000 + plan.settings["seed"] / 100
        metrics = dict.fromkeys(modules.script.SCORES, score) | {"test_error_percent": 5.0}
        (plan.output_dir / "metrics.json").write_text(json.dumps({**metrics, "settings": plan.settings}))

    def make(*args):
        argv = [modules.script.__file__, *args]

        def launch(command, environment):
            monkeypatch.setattr("sys.argv", command[1:])
            sweep.main(dataclasses.replace(modules.script.SWEEP, train=train))
            monkeypatch.setattr("sys.argv", argv)
            return 0

        monkeypatch.setattr(sweep, "launch", launch)
        monkeypatch.setattr(sweep, "end_with_parent", lambda: None)  # there is no other process
        result = in_process(lambda: sweep.main(modules.script.SWEEP), *argv)
        result.trained = trained
        return result

    return make


def metrics_of(folder):
    return json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)


def history_of(folder):
    with open(folder / "history.csv") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_a_run_is_scored_and_drawn(call, dsprites, tmp_path):
    result = call(*dsprites, "--labels", "9", "--gamma-bc", "0")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/partedvae_dsprites_9_seed1_gamma_bc0"
    metrics = metrics_of(folder)
    assert all(0 <= metrics[name] <= 1 for name in SCORES)
    assert f"Factor score {metrics['factor_score']:.3f}" in result.out
    assert (metrics["settings"]["gamma_bc"], metrics["steps"]) == (0.0, 4)
    names = {path.stem for path in (folder / "figures").iterdir()}
    assert names == {"traversals_z", "traversals_u", "transfer", "learned_prior", "reconstructions", "curves"}
    model = keras.models.load_model(folder / "model.keras", compile=False)
    assert (model.z_dim, model.latent_dim, model.num_classes, model.image_shape) == (5, 6, 3, (64, 64, 1))
    assert (model.gamma_bc, model.gamma_c, model.tolerance) == (0.0, 100.0, 0.1)


def test_without_labels_a_run_trains_validates_and_goes_on(call, dsprites, modules, tmp_path, monkeypatch):
    args = (*dsprites, "--labels", "0", "--validation", "30")
    with monkeypatch.context() as patch:
        write = modules.runner.write_history

        def stop(*args):
            write(*args)
            raise KeyboardInterrupt

        patch.setattr(modules.runner, "write_history", stop)
        stopped = call(*args)
    folder = tmp_path / RUN.format(0)
    assert (stopped.code, (folder / "metrics.json").exists()) == (130, False)
    (first,) = history_of(folder)
    went_on = call(*args, "--resume")
    assert (went_on.code, went_on.err) == (0, "")
    assert "Going on after epoch 1" in went_on.out
    history, metrics = history_of(folder), metrics_of(folder)
    assert (len(history), history[0]) == (2, first)
    assert metrics["validation_error_percent"] == history[1]["val_error"]
    assert (metrics["labels"], metrics["steps"]) == (0, 4)
    assert all(name in metrics for name in SCORES)
    assert "warm_up" not in first


def test_the_table_has_the_published_figures_beside_ours(table, dsprites, tmp_path):
    result = table(*dsprites, "--labels", "0", "100", "200", "--gamma-bc", "10", "0", "--seed", "1", "2")
    assert (result.code, result.err) == (0, "")
    assert len(result.trained) == 12
    assert "Run 12 of 12: labels 200, gamma_bc 0, seed 2" in result.out
    folder = tmp_path / "runs/dsprites_parted_dsprites"
    with open(folder / "table.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["labels"], row["gamma_bc"], row["runs"]) for row in rows] == [
        (labels, gamma, "2") for labels in ("0", "100", "200") for gamma in ("10", "0")
    ]
    published = [(row["published (30 epochs)"], row["published deviation"]) for row in rows]
    assert published == [("0.775", "0.02"), ("", ""), ("0.626", "0.04"), ("", ""), ("", ""), ("", "")]
    assert (rows[2]["Factor score"], rows[2]["Factor score, deviation"]) == ("0.115", "0.007")
    markdown = (folder / "table.md").read_text()
    assert markdown in result.out
    assert markdown.startswith("dsprites, 2 epochs, each of 2 steps; mean")
    assert "| 100 | 10 | 2 | 0.115 (0.007) | 0.626 | 0.04 | 0.115 (0.007) |" in markdown
    assert (folder / "figure_9.png").exists()


def test_a_table_of_one_value_each_is_a_single_run(table, dsprites):
    assert table(*dsprites, "--labels", "9", "--seed", "1").trained == ["partedvae_dsprites_9_seed1"]
    assert table(*dsprites, "--labels", "9", "--seed", "1").trained == ["partedvae_dsprites_9_seed1"]  # the run is kept


def test_the_published_figures_are_those_of_the_paper(modules):
    script = modules.script
    assert [script.PUBLISHED[labels, 10.0] for labels in script.LABELS.default] == [
        ("0.775", "0.02"),
        ("0.626", "0.04"),
        ("0.718", "0.03"),
        ("0.735", "0.04"),
        ("0.881", "0.11"),
        ("0.905", "0.10"),
    ]
    assert script.PUBLISHED[3686, 0.0] == ("0.829", "")


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--gamma-bc", "-1"], r"--gamma-bc is -1\.0; it must be finite and at least 0"),
        (["--labels", "2"], r"--labels is 2\. It must be an integer of at least 3"),
        (["--labels", "0", "--validation", "100"], r"--validation is 100.*multiple of the number of classes, 3"),
    ],
)
def test_a_mistake_is_a_sentence(refused, dsprites, args, match):
    refused(*dsprites, *args, match=match)


def test_where_there_is_no_data_a_sentence_says_how_to_get_it(refused, modules, monkeypatch):
    monkeypatch.setattr("keras_ssvae.data.sources.download", lambda builder, work: "the download failed")
    if keras.backend.backend() == "tensorflow":
        match = "dsprites is not prepared in .*/nowhere and could not be downloaded.*--data-dir"
    else:
        match = "on the TensorFlow backend of Keras only, and the backend is jax. Set KERAS_BACKEND=tensorflow"
    refused("--data-dir", "nowhere", match=match)


def test_the_help_says_what_it_was_tested_on(explained):
    described, flags = explained
    assert "tested on a small generated set of the same format only" in described
    assert "Tables 1 and 2 and Figure 9" in described
    assert "11520" in flags["steps-per-epoch"]
