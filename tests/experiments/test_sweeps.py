"""The tables: runs for each combination of flags, which are kept and go on, and what is made of them.

But for a slow test they are given runs that train nothing, and only write what a run leaves behind.
"""

import csv
import json
import re
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from matplotlib.image import imread

SMALL = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "12")
SMALL = (*SMALL, "--labeled-batch-size", "6")


@pytest.fixture
def call(modules_of, monkeypatch, capsys, tmp_path):
    """Calls a table in this process with runs that train nothing; the fixture's attributes say how they behave."""

    def pretend(run):
        call.trained.append(run.output_dir.name)
        if call.interrupt_at == len(call.trained):
            raise KeyboardInterrupt
        run.model.save(run.output_dir / "model.keras")
        figures = {"test_error_percent": 3.0, "kl_divergence": 9.0, "negative_ssim": 0.4, "information_xz": 1.5}
        metrics = {**figures, "kl_z": 0.25, "settings": run.settings}
        metrics["test_error_percent"] += run.settings["seed"]
        (run.output_dir / "metrics.json").write_text(json.dumps(metrics))

    def call(script, *args, in_earnest=False):
        call.trained = []
        monkeypatch.chdir(tmp_path)
        with modules_of(script) as modules:
            monkeypatch.setattr(sys, "argv", [modules.script.__file__, *map(str, args)])
            if not in_earnest:
                monkeypatch.setattr(modules.runner, "train", pretend)
            code, message = 0, ""
            try:
                modules.script.sweep.main(modules.script.SWEEP)
            except SystemExit as end:
                code, message = (1, f"{end.code}\n") if isinstance(end.code, str) else (end.code, "")
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err + message, trained=call.trained)

    call.interrupt_at = None
    return call


def table(folder):
    with open(folder / "table.csv") as file:
        rows = list(csv.DictReader(file))
    return rows


def test_the_table_of_betas_has_the_published_figures_beside_ours(call, tmp_path):
    result = call("mnist_beta", *SMALL, "--betas", "0.25", "7", "--seeds", "1", "3")
    assert (result.code, result.err) == (0, "")
    names = [f"exon_digits_100_beta{beta}_seed{seed}" for beta in ("0.25", "7") for seed in (1, 3)]
    assert result.trained == names
    assert "Run 4 of 4: --beta=7.0 --seed=3" in result.out
    paper, ours = table(tmp_path / "runs/mnist_beta")
    assert paper["beta"] == "0.25"
    assert paper["runs"] == "2"
    assert (paper["error %"], paper["error %, published"]) == ("5.00 (1.41)", "3.23")
    assert (paper["KL-divergence"], paper["KL-divergence, published"]) == ("9.000 (0.000)", "9.654")
    assert (paper["negative SSIM"], paper["negative SSIM, published"]) == ("0.400 (0.000)", "0.438")
    assert (ours["beta"], ours["error %, published"]) == ("7", "")
    markdown = (tmp_path / "runs/mnist_beta/table.md").read_text()
    assert markdown in result.out
    assert [len(line.split("|")) for line in markdown.splitlines()] == [len(paper) + 2] * 4
    height, width, _ = imread(tmp_path / "runs/mnist_beta/figure_2.png").shape
    assert height > 900
    assert width > 900


def test_finished_runs_are_kept_and_an_interrupted_table_goes_on(call, tmp_path):
    args = ("mnist_beta", *SMALL, "--betas", "0.25", "7")
    call.interrupt_at = 2
    stopped = call(*args)
    assert stopped.code == 130
    assert "mnist_beta.py --dataset digits" in stopped.err
    assert "--resume" not in stopped.err
    assert not (tmp_path / "runs/mnist_beta").exists()
    call.interrupt_at = None
    result = call(*args)
    assert result.trained == ["exon_digits_100_beta7_seed1"]
    assert "Finished before: runs/exon_digits_100_beta0.25_seed1" in result.out
    before = (tmp_path / "runs/mnist_beta/table.csv").read_bytes()
    assert call(*args).trained == []
    assert (tmp_path / "runs/mnist_beta/table.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--betas", "1", "0"], r"--beta is 0\.0.*above 0"),
        (["--betas", "1", "1.0"], "--betas is 1.0 1.0; no value may stand there twice"),
        (["--beta", "1"], "--beta is what mnist_beta.py varies: give --betas, with one value or more"),
        (["--export-dir=x"], "mnist_beta.py has no --export-dir"),
        (["--labels", "105"], "--labels is 105.*multiple of the number of classes"),
        (["--seeds", "1", "-1"], "--seed is -1.*at least 0"),
    ],
)
def test_a_mistake_is_a_sentence_before_the_first_run(call, tmp_path, args, match):
    result = call("mnist_beta", *SMALL, *args)
    assert (result.code, result.out, result.trained) == (1, "", [])
    assert re.match(f"mnist_beta.py: error: .*{match}", result.err), result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_runs_with_other_settings_are_refused_by_name(call, tmp_path):
    call("mnist_beta", *SMALL, "--betas", "7")
    result = call("mnist_beta", *SMALL, "--betas", "8", "7", "--batch-size", "13")
    assert result.trained == []
    assert "exon_digits_100_beta7_seed1 was started with other settings: batch_size was 12 and is 13" in result.err
    (tmp_path / "runs/exon_digits_100_beta7_seed1/metrics.json").write_text("{")
    assert "metrics.json is damaged" in call("mnist_beta", *SMALL, "--betas", "7").err


def test_the_predesign_has_two_digits_at_the_asked_distances(call, tmp_path):
    result = call("mnist_predesign", *SMALL, "--distances", "8", "32")
    assert (result.code, result.err) == (0, "")
    assert result.trained == [f"exon_digits_20_beta5_seed1_distance{distance}" for distance in (8, 32)]
    rows = table(tmp_path / "runs/mnist_predesign")
    assert [row["distance"] for row in rows] == ["8", "32"]
    z = np.linspace([-10, 0], [10, 0], 11).astype("float32")
    for row in rows:
        run = tmp_path / f"runs/exon_digits_20_beta5_seed1_distance{row['distance']}"
        model = keras.models.load_model(run / "model.keras", compile=False)
        np.testing.assert_allclose(
            model.prior.means, [[-float(row["distance"]) / 2, 0], [float(row["distance"]) / 2, 0]]
        )
        changes = np.diff(np.asarray(model.decode(z)), axis=0)
        expected = np.sqrt((changes**2).mean(axis=(1, 2, 3))).mean()
        assert float(row["mean change of neighbours"]) == pytest.approx(expected, abs=6e-4)
        settings = json.loads((run / "config.json").read_text())
        assert (settings["labels"], settings["beta"], settings["distance"]) == (20, 5.0, float(row["distance"]))
    assert (tmp_path / "runs/mnist_predesign/figure_6.png").exists()


def test_a_distance_that_is_none_is_a_sentence(call):
    result = call("mnist_predesign", *SMALL, "--distances", "8", "0")
    assert result.err == "mnist_predesign.py: error: A distance is 0; it must be above 0.\n"


@pytest.mark.parametrize("in_earnest", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_classifier_alone_learns_the_same_labels(call, tmp_path, in_earnest):
    args = ("mnist_labels", *SMALL, "--labels", "20")
    result = call(*args, in_earnest=in_earnest)
    assert (result.code, result.err) == (0, "")
    (row,) = table(tmp_path / "runs/mnist_labels")
    for name, run in (("EXoN", "exon_digits_20_beta0.25_seed1"), ("classifier alone", "classifier_digits_20_seed1")):
        metrics = json.loads((tmp_path / f"runs/{run}/metrics.json").read_text())
        assert row[f"{name}, error %"] == f"{metrics['test_error_percent']:.2f}"
        assert metrics["settings"]["labels"] == 20
    exported = (tmp_path / "runs/exon_digits_20_beta0.25_seed1/saved_model/1").is_dir()
    assert exported == (in_earnest and keras.backend.backend() == "tensorflow")
    assert (tmp_path / "runs/mnist_labels/errors.png").exists()
    again = call(*args)
    assert again.trained == []
    assert "The classifier alone" in result.out
    assert "The classifier alone" not in again.out


def test_the_help_names_the_lists_and_the_paper(call):
    result = call("mnist_beta", "--help")
    assert result.code == 0
    assert "Table 3 and Figure 2" in result.out
    assert all(flag in result.out for flag in ("--betas", "--seeds", "--runs-dir", "--output-dir"))
    assert "(default 0.1 0.25 0.5 0.75 1.0 5.0 10.0 50.0)" in " ".join(result.out.split())
