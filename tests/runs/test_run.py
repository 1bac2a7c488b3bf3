"""What a run does for any experiment: early stopping, models without labels, tables of a report."""

import argparse
import csv
import dataclasses
import json
import subprocess
import sys
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from keras_ssvae import callbacks
from keras_ssvae.runs import flags, run, summary

DIRECTORY = "runs/tiny_digits_20_beta0.5_seed1"


def test_a_run_that_stops_early_is_finished(call, arrays, metrics, tmp_path):
    def early_stopping(settings):
        # After the first epoch nothing is ever so much better.
        return callbacks.EarlyStopping("val_error", min_delta=1e9, patience=settings["steps_per_epoch"] - 1)

    folder = tmp_path / DIRECTORY
    result = call("--epochs", 5, early_stopping=early_stopping)
    assert (result.code, result.err) == (0, "")
    assert "early, after 2 of 5 epochs" in result.out
    done = metrics(folder)
    assert (done["epochs"], done["epochs_done"], done["steps"], done["settings"]["epochs"]) == (5, 2, 4, 5)
    weights = keras.models.load_model(folder / "model.keras", compile=False).get_weights()
    last = [value for name, value in arrays(folder).items() if name.startswith("model/")]
    assert not all(np.array_equal(*pair) for pair in zip(weights, last, strict=False))  # they are those of epoch 1
    # A kill before the end: nothing is trained any more, and the best weights are taken all the same.
    for name in ("metrics.json", "model.keras"):
        (folder / name).unlink()
    again = call("--epochs", 5, "--resume", early_stopping=early_stopping)
    assert (again.code, again.err) == (0, "")
    assert "epoch 3/5" not in again.out
    assert "Trained in" not in again.out
    assert metrics(folder) == done
    for one, other in zip(weights, keras.models.load_model(folder / "model.keras").get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    longer = call("--epochs", 9, "--resume", early_stopping=early_stopping)
    assert "stopped early, after 2 of 5 epochs" in longer.err


def test_a_run_that_another_process_trains_is_left_alone(call, metrics, tmp_path):
    folder = tmp_path / DIRECTORY
    assert call("--epochs", 1).code == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = f"""
from pathlib import Path
from keras_ssvae.runs.directory import hold
hold(Path({str(folder)!r}))
print("has it", flush=True)
input()
"""
    process = subprocess.Popen([sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "has it\n"
    refused = call("--epochs", 2, "--resume")
    assert "Another process is training the run in" in refused.err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    process.communicate("\n")  # it ends, and so does its lock
    assert call("--epochs", 2, "--resume").code == 0
    assert metrics(folder)["epochs_done"] == 2


def test_a_directory_that_another_process_claims_meanwhile_is_left_alone(call, tmp_path, monkeypatch):
    folder = tmp_path / DIRECTORY

    def make(output_dir):
        assert call("--epochs", 3).code == 0  # as another process, between the check and the claim
        before.update({path: path.read_bytes() for path in folder.rglob("*") if path.is_file()})

    before = {}
    with monkeypatch.context() as patch:
        patch.setattr(run, "make_output_dir", lambda output_dir: (patch.undo(), make(output_dir)))
        refused = call("--epochs", 1)
    assert "holds a finished run" in refused.err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_experiment_without_labels_has_no_flags_of_them(experiment):
    settings = {name: value for name, value in experiment.settings["digits"].items() if name != "labeled_batch_size"}
    plain = dataclasses.replace(experiment, labels=None, settings={"digits": settings})
    args = flags.arguments(plain, ["--validation", "10"])
    assert not {"labels", "labeled_indices", "labeled_batch_size"} & set(vars(args))
    planned = run.plan(plain, args)
    assert str(planned.output_dir) == "runs/tiny_digits_beta0.5_seed1"
    assert planned.title == "Tiny on digits"
    assert not {"labels", "labeled_indices"} & set(planned.settings)
    batch = planned.sets.batches(0)
    x = batch[0][0] if keras.backend.backend() == "jax" else next(iter(batch))[0]
    assert x["unlabeled"].shape == (16, 28, 28, 1)
    assert "labeled" not in x


def test_a_model_that_does_not_classify_has_no_error_in_its_metrics(capsys, monkeypatch, tmp_path):
    model = SimpleNamespace(test_terms=("reconstruction", "kl_z"))
    settings = {"dataset": "digits", "seed": 1, "epochs": 1, "steps_per_epoch": 2}
    done = SimpleNamespace(
        settings=settings,
        checkpoint=SimpleNamespace(history=[{"epoch": 1, "train_seconds": 1.0}]),
        sets=SimpleNamespace(num_test_images=5),
        experiment=SimpleNamespace(summary=lambda model, metrics: {"terms": f"{metrics['kl_z']:.2f}"}),
        model=model,
        output_dir=tmp_path,
        export_dir=tmp_path,
        title="VAE on digits",
    )
    result = summary.metrics(done, {"reconstruction": 3.0, "kl_z": 1.0}, {}, None)
    assert not {"test_error_percent", "validation_error_percent"} & set(result)
    assert (result["reconstruction"], result["test_images"]) == (3.0, 5)
    summary.summarise(done, result)
    printed = capsys.readouterr().out
    assert "test error" not in printed
    assert "terms        1.00" in printed


@pytest.mark.parametrize(
    ("errors", "lines"),
    [
        ([1.0, None, 2.5], {"by class": "0: 1.00 %, 2: 2.50 %"}),
        (list(range(12)), {"worst classes": ", ".join(f"{k}: {k:.2f} %" for k in range(11, 1, -1))}),
        ([], {}),
    ],
)
def test_the_summary_says_how_the_errors_lie_in_the_classes(errors, lines):
    assert summary._by_class(errors) == lines


def test_rows_of_a_report_become_a_table_and_the_report_stays_as_it_is(experiment, monkeypatch, tmp_path):
    report = {"error_percent": 1.0, "counts": [1, None], "spread": [[0.5, 1.5], None]}
    given = json.loads(json.dumps(report))
    for name in ("draw_figures", "export_saved_model"):
        monkeypatch.setattr(run, name, lambda *args: None)
    monkeypatch.setattr(run.summary, "metrics", lambda run, numbers, own, exported: {**numbers, **own})
    monkeypatch.setattr(run.summary, "summarise", lambda run, metrics: None)
    images = SimpleNamespace(class_names=("a", "b"))
    one = SimpleNamespace(experiment=experiment, output_dir=tmp_path, export_dir=tmp_path, model=None, images=images)
    assert run.finish(one, report) == {"error_percent": 1.0, "counts": [1, None]}
    assert report == given
    with open(tmp_path / "spread.csv") as file:
        assert list(csv.reader(file)) == [["class", "0", "1"], ["a", "0.5", "1.5"], ["b"]]


def test_options_are_no_settings(experiment):
    def add_flags(parser: argparse.ArgumentParser):
        parser.add_argument("--score", action="store_true")

    with_option = dataclasses.replace(experiment, options=("score",), add_flags=add_flags)
    planned = run.plan(with_option, flags.arguments(with_option, ["--score"]))
    assert planned.options == {"score": True}
    assert "score" not in planned.settings
    assert not hasattr(planned, "args")


def test_validation_and_test_images_are_those_of_the_data(experiment):
    planned = run.plan(experiment, flags.arguments(experiment, ["--labels", "33"]))
    images, labels = planned.sets.validation()["validation_data"]
    assert images.shape == (20, 28, 28, 1)
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 2))
    assert len(planned.sets.split.labeled) == 33
    assert planned.sets.num_test_images == planned.sets.num_evaluated == len(planned.sets.test_images)
