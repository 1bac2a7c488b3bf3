"""The MNIST experiment as a user meets it: in processes of its own, with the embedded digits and very few steps.

A process takes seconds to start, so one finished run and one killed run are shared, and a user's mistakes, which end
before any training, run in this process.
"""

import csv
import functools
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

from keras_ssvae import data, models  # noqa: F401  (`models` registers what a saved model refers to)

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT = EXPERIMENTS / "mnist_exon.py"
EPOCHS, STEPS = 3, 2
SMALL = ["--dataset", "digits", "--epochs", EPOCHS, "--steps-per-epoch", STEPS, "--batch-size", 16]
SMALL = [*map(str, SMALL), "--labeled-batch-size", "8"]
RUN = Path("runs/exon_digits_100_beta0.25_seed1")
EXPORT = Path("saved_models/exon_digits_100")
TIMEOUT = 300
KEYS = {"dataset", "labels", "beta", "seed", "epochs", "steps", "test_error_percent", "validation_error_percent"}
KEYS |= {"kl_divergence", "negative_ssim", "reconstruction", "seconds", "step_milliseconds", "versions"}
FLAGS = ["dataset", "labels", "labeled-indices", "beta", "epochs", "steps-per-epoch", "batch-size"]
FLAGS += ["labeled-batch-size", "seed", "data-dir", "output-dir", "export-dir", "resume", "augment-on", "jit-compile"]


# Processes


def start(folder, *args, **environment):
    """Starts the experiment in another folder, with the environment of a user rather than that of the tests."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "PYTEST"))}
    with open(folder / "stdout", "w") as out, open(folder / "stderr", "w") as err:
        return subprocess.Popen(
            [sys.executable, SCRIPT, *args], cwd=folder, env={**inherited, **environment}, stdout=out, stderr=err
        )


def finish(process, folder):
    try:
        code = process.wait(TIMEOUT)
    finally:
        process.kill()
    out, err = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return SimpleNamespace(folder=folder, code=code, out=out, err=err)


def run(folder, *args, **environment):
    return finish(start(folder, *args, **environment), folder)


def wait_until(happened, process, seconds=TIMEOUT):
    """Whether it happened while the process was alive."""
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if happened():
            return True
        time.sleep(0.002)
    return False


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed."""
    return run(tmp_path_factory.mktemp("finished"), *SMALL)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """The folder of the same run, killed when its first checkpoint was there."""
    folder = tmp_path_factory.mktemp("killed")
    process = start(folder, *SMALL)
    assert wait_until((folder / RUN / "checkpoint.npz").exists, process), (folder / "stderr").read_text()
    kill(process)
    assert not (folder / RUN / "metrics.json").exists()
    return folder


@pytest.fixture
def unfinished(killed, tmp_path):
    """A copy of the killed run, to be changed at will."""
    folder = tmp_path / "unfinished"
    shutil.copytree(killed, folder)
    return folder


# In this process


@pytest.fixture(scope="module")
def script():
    """The experiment as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXPERIMENTS)
        module = importlib.import_module("mnist_exon")
        patch.setattr(module, "load_data", functools.cache(module.load_data))
        yield module
    for name in ("mnist_exon", "runner", "quiet"):
        sys.modules.pop(name, None)


@pytest.fixture
def call(script, monkeypatch, capsys, tmp_path):
    """Runs the experiment in `folder`; returns its exit code and what it printed, and how `train` was called."""

    def run(*args, folder=tmp_path, train=None):
        calls = []
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, args)])
        if train is not None:
            monkeypatch.setattr(script, "train", lambda experiment: [calls.append(experiment), train(experiment)])
        code, message = 0, ""
        try:
            script.main(script.run)
        except SystemExit as end:  # a message as the code is printed by the interpreter, which then exits with 1
            code, message = (1, f"{end.code}\n") if isinstance(end.code, str) else (end.code, "")
        printed = capsys.readouterr()
        return SimpleNamespace(code=code, out=printed.out, err=printed.err + message, calls=calls)

    return run


@pytest.fixture
def refused(call, tmp_path):
    """A user's mistake: one sentence, and nothing read from the folder is written, changed or lost."""

    def run(*args, match, folder=tmp_path):
        before = contents(folder)
        result = call(*args, folder=folder, train=lambda experiment: pytest.fail("it began to train"))
        assert_one_sentence(result, match)
        assert contents(folder) == before
        return result.err

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def assert_one_sentence(result, match):
    assert result.code not in (0, None)
    assert result.err.startswith("mnist_exon.py: error: ")
    assert result.err.count("\n") == 1
    assert re.search(match, result.err), result.err
    assert "Traceback" not in result.err
    assert result.out == ""


# A finished run


def test_a_run_succeeds_and_writes_nothing_to_stderr(finished):
    assert finished.code == 0, finished.err
    assert finished.err == ""


def test_all_files_are_there(finished):
    run = finished.folder / RUN
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    figures = {f"figures/{name}.png" for name in ("prior", "latent", "grid", "interpolation", "curves")}
    logs = {name for name in files if name.startswith("logs/")}
    assert files - logs == {"config.json", "metrics.json", "history.csv", "model.keras", "checkpoint.npz"} | figures
    assert any(name.startswith("logs/train/") for name in logs)
    assert any(name.startswith("logs/validation/") for name in logs)
    assert os.listdir(finished.folder / EXPORT) == ["1"]
    assert sorted(os.listdir(finished.folder)) == ["runs", "saved_models", "stderr", "stdout"]


def test_the_figures_show_something(finished):
    for path in (finished.folder / RUN / "figures").iterdir():
        image = imread(path)
        assert min(image.shape[:2]) > 200
        assert image.std() > 0.02


def test_tensorboard_gets_curves_and_images(finished):
    from tensorflow.core.util import event_pb2

    steps = {}
    for path in (finished.folder / RUN / "logs").rglob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = event_pb2.Event.FromString(record.numpy())
            for value in event.summary.value:
                steps.setdefault(value.tag, set()).add(event.step)
    epochs = set(range(EPOCHS))
    assert steps["latent"] == steps["grid"] == steps["epoch_reconstruction"] == steps["epoch_test_error"] == epochs


def test_the_settings_are_kept(finished):
    config = json.loads((finished.folder / RUN / "config.json").read_text())
    given = {"dataset": "digits", "labels": 100, "beta": 0.25, "seed": 1, "labeled_indices": None}
    given |= {"epochs": EPOCHS, "steps_per_epoch": STEPS, "batch_size": 16, "labeled_batch_size": 8, "dropout": 0.1}
    assert {name: config[name] for name in given} == given


def read_history(run):
    with open(run / "history.csv") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_the_metrics_agree_with_the_history(finished):
    run = finished.folder / RUN
    metrics = json.loads((run / "metrics.json").read_text(), parse_constant=pytest.fail)
    history = read_history(run)
    assert set(metrics) >= KEYS
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert (metrics["dataset"], metrics["labels"], metrics["beta"], metrics["seed"]) == ("digits", 100, 0.25, 1)
    assert (metrics["epochs"], metrics["steps"]) == (EPOCHS, EPOCHS * STEPS)
    last = history[-1]
    assert metrics["test_error_percent"] == pytest.approx(last["test_error"], rel=1e-5)
    assert metrics["validation_error_percent"] == last["val_error"]
    assert metrics["kl_divergence"] == pytest.approx(last["test_kl_categorical"] + last["test_kl_gaussian"], rel=1e-4)
    assert metrics["reconstruction"] == pytest.approx(last["test_reconstruction"], rel=1e-4)
    assert metrics["seconds"] == pytest.approx(sum(row["train_seconds"] for row in history))
    seconds = sorted(row["train_seconds"] for row in history)
    assert metrics["step_milliseconds"] == pytest.approx(1000 * seconds[1] / STEPS)
    assert -1 <= metrics["negative_ssim"] <= 1
    assert {"keras_ssvae", "keras", "tensorflow", "numpy", "python"} == set(metrics["versions"])
    assert metrics["versions"]["keras"] == keras.__version__


def test_the_model_and_the_saved_model_answer_as_the_metrics_say(finished):
    digits = data.load("digits")
    images = data.scale(digits.test_images)
    expected = json.loads((finished.folder / RUN / "metrics.json").read_text())["test_error_percent"]
    model = keras.models.load_model(finished.folder / RUN / "model.keras")
    served = tf.saved_model.load(str(finished.folder / EXPORT / "1"))
    labels = served.signatures["classify"](image=tf.constant(images))["label"].numpy()
    for predicted in (model.predict(images, verbose=0)["probs"].argmax(1), labels):
        assert 100 * np.mean(predicted != digits.test_labels) == pytest.approx(expected)
    checkpoint = arrays(finished.folder / RUN)
    iterations = [value for name, value in checkpoint.items() if name.startswith("optimizer/") and value.shape == ()]
    assert EPOCHS * STEPS in iterations


def test_the_output_is_a_line_an_epoch_and_a_summary(finished):
    run = finished.folder / RUN
    assert not re.search(r"[^\n\x20-\x7e]", finished.out)
    metrics = json.loads((run / "metrics.json").read_text())
    for epoch, row in enumerate(read_history(run), 1):
        (line,) = re.findall(f"^epoch {epoch}/{EPOCHS} .*$", finished.out, re.M)
        for name in ("reconstruction", "cross_entropy", "val_error", "test_error"):
            assert f" {name} {row[name]:.4g}" in line
    summary = finished.out[finished.out.index("\nEXoN on digits, 100 labels") :]
    for name, value in json.loads((run / "config.json").read_text()).items():
        assert f"{name}={value}" in summary
    assert f"{metrics['test_error_percent']:.2f} %" in summary
    assert f"{metrics['kl_divergence']:.2f} nats" in summary
    for path in (RUN / "figures", RUN / "model.keras", EXPORT / "1"):
        assert f" {path}\n" in summary
        assert (finished.folder / path).exists()


def test_a_finished_run_is_never_touched_again(finished, refused):
    refused(*SMALL, match="holds a finished run", folder=finished.folder)
    refused(*SMALL, "--resume", match="holds a finished run", folder=finished.folder)
    refused(*SMALL, "--beta", "0.5", "--output-dir", RUN, match="holds a finished run", folder=finished.folder)


# Runs that were stopped


def arrays(run):
    with np.load(run / "checkpoint.npz") as file:
        return {name: file[name] for name in file.files}


def assert_ended_alike(folder, finished):
    """The same weights, optimizer, history and metrics to the last bit; only times may differ."""
    actual, expected = arrays(folder / RUN), arrays(finished.folder / RUN)
    actual.pop("history"), expected.pop("history")
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    results = []
    for run in (folder / RUN, finished.folder / RUN):
        history = [{name: v for name, v in row.items() if name != "train_seconds"} for row in read_history(run)]
        metrics = json.loads((run / "metrics.json").read_text())
        for name in ("seconds", "step_milliseconds"):
            assert metrics.pop(name) > 0
        results.append((history, metrics))
    assert results[0] == results[1]
    assert {path.name for path in (folder / RUN).iterdir()} == {path.name for path in (finished.folder / RUN).iterdir()}


def test_a_killed_run_resumes_to_the_same_bits(finished, unfinished):
    resumed = run(unfinished, *SMALL, "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    assert re.search(r"^Going on after epoch [12]\.$", resumed.out, re.M)
    assert "epoch 1/3" not in resumed.out
    assert_ended_alike(unfinished, finished)


def test_an_unfinished_run_is_refused_without_resume(unfinished, refused):
    message = refused(*SMALL, match="holds an unfinished run", folder=unfinished)
    assert "--resume" in message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--seed", "2"], "seed was 1 and is 2"),
        (["--beta", "0.5"], r"beta was 0\.25 and is 0\.5"),
        (["--epochs", "4"], "epochs was 3 and is 4"),
        (["--labels", "50"], "labels was 100 and is 50"),
    ],
)
def test_resuming_with_other_settings_is_refused(unfinished, refused, changed, said):
    args = (*SMALL, *changed, "--output-dir", RUN, "--resume")
    message = refused(*args, match=f"other settings: .*{said}", folder=unfinished)
    assert "batch_size" not in message


def test_a_resumed_run_must_see_the_same_labelled_images(call, refused, tmp_path):
    indices, elsewhere = tmp_path / "indices.txt", tmp_path / "elsewhere"
    elsewhere.mkdir()
    labels = data.load("digits").train_labels
    first = np.concatenate([np.flatnonzero(labels == k)[:2] for k in range(10)])
    np.savetxt(indices, first, fmt="%d")
    args = [*SMALL, "--output-dir", tmp_path / "run"]
    assert call(*args, "--labeled-indices", indices, train=lambda experiment: None).code == 0
    shutil.copy(indices, elsewhere)
    moved = call(*args, "--labeled-indices", elsewhere / "indices.txt", "--resume", train=lambda experiment: None)
    assert (moved.code, moved.err) == (0, "")
    np.testing.assert_array_equal(moved.calls[0].split.labeled, first)
    assert moved.calls[0].settings["labels"] == 20
    np.savetxt(indices, first[::-1], fmt="%d")
    refused(*args, "--labeled-indices", indices, "--resume", match="labeled_indices was 'indices.txt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_and_kept(unfinished, call, script, share):
    checkpoint = unfinished / RUN / "checkpoint.npz"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    before = contents(unfinished)
    result = call(*SMALL, "--resume", folder=unfinished)
    result.out = result.out.removeprefix(f"EXoN on digits: 100 labels of 1437 images, beta 0.25; {RUN}\n")
    assert_one_sentence(result, "checkpoint.npz cannot be read .* truncated or damaged")
    assert contents(unfinished) == before


def test_damaged_settings_of_a_run_are_a_sentence(unfinished, refused):
    for content in ("", '{"seed": 1', "[1, 2]", "\udcff"):
        (unfinished / RUN / "config.json").write_text(content, errors="surrogateescape")
        refused(*SMALL, "--resume", match="config.json, .* is damaged", folder=unfinished)


def test_a_kill_before_the_settings_were_written_is_no_obstacle(call, tmp_path):
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "config.json.tmp").write_text('{"se')
    assert call(*SMALL, train=lambda experiment: None).code == 0
    assert os.listdir(tmp_path / RUN) == ["config.json"]


def test_a_run_killed_after_its_last_checkpoint_is_completed(finished, call, monkeypatch, tmp_path):
    # The longest part of what is left, and not what this is about.
    diversity = json.loads((finished.folder / RUN / "metrics.json").read_text())["negative_ssim"]
    monkeypatch.setattr("keras_ssvae.evaluation.reports.negative_ssim", lambda images: diversity)
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / EXPORT)
    shutil.rmtree(folder / RUN / "figures")
    (folder / RUN / "metrics.json").unlink()
    (folder / RUN / "history.csv").write_text("epoch,loss\n1,")
    assert call(*SMALL, "--resume", folder=folder).code == 0
    assert_ended_alike(folder, finished)
    assert os.listdir(folder / EXPORT) == ["1"]


MOMENTS = [
    *("runs", f"{RUN}/config.json", f"{RUN}/logs/train", f"{RUN}/checkpoint.npz.tmp", f"{RUN}/history.csv"),
    *(3.0, 8.0, 14.0, 20.0, f"{RUN}/figures/*.png", f"{RUN}/model.tmp.keras", f"{EXPORT}/.incomplete*"),
]


@pytest.mark.slow
def test_a_run_killed_at_many_moments_ends_with_the_same_bits(finished, tmp_path):
    kills = 0
    for moment in MOMENTS:
        process = start(tmp_path, *SMALL, "--resume")
        if isinstance(moment, str):
            existing = set(tmp_path.glob(moment))
            if wait_until(lambda: set(tmp_path.glob(moment)) - existing, process):  # noqa: B023
                kill(process)
        else:
            wait_until(lambda: False, process, seconds=moment)
            kill(process)
        process.wait(TIMEOUT)
        assert (tmp_path / "stderr").read_text() == ""
        kills += process.returncode == -signal.SIGKILL
        if (tmp_path / RUN / "metrics.json").exists():
            break
    assert kills >= 6
    if not (tmp_path / RUN / "metrics.json").exists():
        last = run(tmp_path, *SMALL, "--resume")
        assert (last.code, last.err) == (0, "")
    assert_ended_alike(tmp_path, finished)


# Ctrl-C


def assert_says_how_to_resume(result, *args):
    assert result.code == 130, result.err
    command = " ".join(["python", str(SCRIPT), *map(shlex.quote, args), "--resume"])
    assert result.err == f"\nInterrupted. To go on after the last complete epoch: {command}\n"


def test_ctrl_c_ends_with_the_command_that_resumes(tmp_path):
    args = [*SMALL, "--output-dir", "my run"]
    process = start(tmp_path, *args)
    assert wait_until((tmp_path / "my run/checkpoint.npz").exists, process), (tmp_path / "stderr").read_text()
    process.send_signal(signal.SIGINT)
    assert_says_how_to_resume(finish(process, tmp_path), *args)
    assert arrays(tmp_path / "my run")
    assert not (tmp_path / "my run/metrics.json").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_ctrl_c_while_tensorflow_is_imported_ends_quietly(tmp_path):
    process = start(tmp_path, *SMALL)
    assert wait_until(lambda: "/tensorflow/" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    result = finish(process, tmp_path)
    assert result.code == 130
    assert result.err == "\nInterrupted before anything was read or written.\n"
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_the_data_is_read_says_the_same(call, script, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "load_data", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert_says_how_to_resume(call("--dataset", "digits"), "--dataset", "digits")
    finally:
        signal.signal(signal.SIGINT, handler)


# A user's mistakes


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--labels", "105"], "--labels is 105.*multiple of the number of classes, 10"),
        (["--labels", "100000"], "--labels = 100000.*only 1[0-9]{2} images of class"),
        (["--labels", "0"], "--labels is 0.*at least 10"),
        (["--labels", "-10"], "--labels is -10"),
        (["--beta", "0"], r"--beta is 0\.0.*positive"),
        (["--beta", "-1"], r"--beta is -1\.0.*positive"),
        (["--beta", "nan"], "--beta is nan.*positive"),
        (["--beta", "inf"], "--beta is inf.*positive"),
        (["--epochs", "0"], "--epochs is 0.*at least 1"),
        (["--steps-per-epoch", "0"], "--steps-per-epoch is 0.*at least 1"),
        (["--batch-size", "-3"], "--batch-size is -3.*at least 1"),
        (["--labeled-batch-size", "0"], "--labeled-batch-size is 0.*at least 1"),
        (["--batch-size", "16", "--labeled-batch-size", "16"], "--labeled-batch-size is 16.*smaller than --batch-size"),
        (["--batch-size", "8"], "--labeled-batch-size is 16.*smaller than --batch-size, 8"),
        (["--seed", "-1"], "--seed is -1.*at least 0"),
        (["--seed", str(2**32)], "[Ss]eed"),
    ],
)
def test_a_wrong_number_is_a_sentence_that_names_the_flag(refused, args, match):
    refused("--dataset", "digits", *args, match=match)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "No such file"),
        (b"", "--labeled-indices has shape"),
        (b"1\ntwo\n3\n", "one index a line.*'two'"),
        (b"1\n2.5\n", "one index a line"),
        (b"1 2\n3 4\n", "one index a line"),
        (b"\x93NUMPY\x00\xff\n", "one index a line"),
        (b"99999999999999999999\n", "one index a line"),
        (b"0\n1437\n", "--labeled-indices holds 1437.*from 0 to 1436"),
        (b"-1\n", "--labeled-indices holds -1"),
        (b"5\n6\n5\n", "--labeled-indices holds 5 2 times"),
        (b"5\n6\n7\n", "--labeled-indices names no image of class"),
    ],
)
def test_a_wrong_file_of_indices_is_a_sentence(refused, tmp_path, content, match):
    if content is not None:
        (tmp_path / "indices.txt").write_bytes(content)
    refused("--dataset", "digits", "--labeled-indices", tmp_path / "indices.txt", match=match)


def test_a_folder_of_indices_and_a_number_that_differs_are_sentences(refused, tmp_path):
    refused("--dataset", "digits", "--labeled-indices", tmp_path, match="Is a directory")
    np.savetxt(tmp_path / "indices.txt", np.arange(50), fmt="%d")
    args = ("--dataset", "digits", "--labeled-indices", tmp_path / "indices.txt", "--labels", "100")
    refused(*args, match="--labels is 100, but --labeled-indices holds 50")


def test_directories_that_cannot_be_written_are_sentences(refused, tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below", file / "far/below"):
        refused(*SMALL, "--output-dir", path, match=f"--output-dir {path} cannot be written")
        refused(*SMALL, "--export-dir", path, match=f"--export-dir {path} cannot be written")


def test_files_that_are_no_run_are_left_alone(refused, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    refused(*SMALL, "--output-dir", tmp_path, match="is not empty and holds no run")
    refused(*SMALL, "--output-dir", tmp_path, "--resume", match="is not empty and holds no run")


def test_a_full_disk_is_a_sentence(call):
    def full(experiment):
        raise OSError(28, "No space left on device", "checkpoint.npz.tmp")

    result = call(*SMALL, train=full)
    assert (result.code, len(result.calls)) == (1, 1)
    assert result.err == "mnist_exon.py: error: [Errno 28] No space left on device: 'checkpoint.npz.tmp'\n"


def test_an_error_of_ours_keeps_its_traceback(call):
    def wrong(experiment):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(*SMALL, train=wrong)


def test_unknown_flags_and_words_for_numbers_show_the_usage(call, tmp_path):
    for args in (["--labels", "many"], ["--dataset", "cifar10"], ["--bta", "1"], ["--augment-on", "moon"]):
        result = call(*args)
        assert result.code == 2
        assert "mnist_exon.py: error: " in result.err.splitlines()[-1]
        assert "Traceback" not in result.err
    assert contents(tmp_path) == {}


@pytest.mark.slow
def test_behind_a_closed_network_an_explicit_mnist_fails_soon(tmp_path):
    (tmp_path / "empty").mkdir()
    began = time.monotonic()
    result = run(tmp_path, "--dataset", "mnist", "--data-dir", "empty", https_proxy="http://127.0.0.1:9")
    assert time.monotonic() - began < 30  # 20 for the network, and the import of TensorFlow
    assert result.code == 1
    assert_one_sentence(result, "mnist is not prepared in .*empty and could not be downloaded.*--dataset digits")
    assert sorted(contents(tmp_path)) == ["empty", "stderr", "stdout"]


# Without MNIST


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr("keras_ssvae.data.sources._download", lambda name, work: "the network is closed")


def test_auto_warns_and_takes_the_digits_where_mnist_cannot_be_had(call, offline, tmp_path):
    result = call("--data-dir", tmp_path / "empty", train=lambda experiment: None)
    assert result.code == 0
    assert "WARNING: mnist is not prepared in" in result.err
    assert "WARNING: training on the embedded digits instead of MNIST." in result.err
    (experiment,) = result.calls
    assert (experiment.epochs, experiment.steps_per_epoch) == (20, 75)  # the digits' own settings
    assert experiment.settings["dataset"] == experiment.images.name == "digits"
    assert "digits" in experiment.title
    assert (experiment.output_dir, experiment.export_dir) == (RUN, EXPORT)
    assert result.out.startswith("EXoN on digits: ")
    assert json.loads((tmp_path / RUN / "config.json").read_text())["dataset"] == "digits"
    assert sorted(contents(tmp_path)) == ["runs", str(RUN), f"{RUN}/config.json"]


def test_an_explicit_mnist_does_not_fall_back(refused, offline, tmp_path):
    for dataset in ("mnist", "fashion_mnist"):
        args = ("--dataset", dataset, "--data-dir", tmp_path / "empty")
        refused(*args, match=f"{dataset} is not prepared in .*the network is closed")


@pytest.mark.slow
def test_auto_without_mnist_writes_digits_everywhere(tmp_path):
    result = run(tmp_path, *SMALL[2:], "--data-dir", "empty", https_proxy="http://127.0.0.1:9")
    assert result.code == 0
    assert [line[:8] for line in result.err.strip().splitlines()] == ["WARNING:"] * 2
    assert "mnist" not in result.out.lower()
    for name in ("config.json", "metrics.json"):
        assert json.loads((tmp_path / RUN / name).read_text())["dataset"] == "digits"
    assert (tmp_path / EXPORT / "1/saved_model.pb").exists()


# --help


def test_help_explains_every_flag_with_its_default(call):
    result = call("--help")
    assert (result.code, result.err) == (0, "")
    options = re.split(r"\n  (?=-)", result.out[result.out.index("\noptions:") :])[2:]
    assert [re.match(r"--([\w-]+)", option)[1] for option in options] == FLAGS
    for option in options:
        assert "default" in option, option
    defaults = {"epochs": (100, 20), "steps-per-epoch": (468, 75), "batch-size": (128, 64)}
    defaults["labeled-batch-size"] = (32, 16)
    for flag, (paper, digits) in defaults.items():
        option = " ".join(options[FLAGS.index(flag)].split())
        assert f"(default {paper}; digits {digits})" in option
    described = " ".join(result.out.split())
    assert "dropout 0.1" in described
    assert "lambda2 over its first half" in described
