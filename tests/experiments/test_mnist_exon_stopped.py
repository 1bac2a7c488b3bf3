"""Runs of the MNIST experiment that were killed or interrupted, and are resumed."""

import dataclasses
import os
import re
import shlex
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae import data


@pytest.fixture
def assert_ended_alike(small, finished):
    """Asserts that two runs have the same weights, optimizer, history and metrics to the last bit, except times."""

    def check(folder):
        actual, expected = small.arrays(folder), small.arrays(finished.folder)
        assert actual.keys() == expected.keys()
        for name, value in expected.items():
            assert actual[name].dtype == value.dtype
            np.testing.assert_array_equal(actual[name], value, err_msg=name)
        results, files = [], []
        for each in (folder, finished.folder):
            history = [{**row, "train_seconds": None} for row in small.history(each)]
            results.append((history, {**small.metrics(each), "seconds": None, "step_milliseconds": None}))
            files.append(sorted(os.listdir(each / small.output)))
        assert results[0] == results[1]
        assert files[0] == files[1]

    return check


def test_a_killed_run_resumes_to_the_same_bits(small, unfinished, assert_ended_alike):
    resumed = small.run(unfinished, *small.args, "--resume")
    assert (resumed.code, resumed.err) == (0, "")
    assert re.search(r"^Going on after epoch [12]\.$", resumed.out, re.M)
    assert "epoch 1/3" not in resumed.out
    assert_ended_alike(unfinished)


def test_an_unfinished_run_is_refused_without_resume(small, unfinished, refused):
    message = refused(*small.args, match="holds an unfinished run", folder=unfinished)
    assert "--resume" in message


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (["--seed", "2"], "seed was 1 and is 2"),
        (["--beta", "0.5"], r"beta was 0\.25 and is 0\.5"),
        (["--labels", "50"], "labels was 100 and is 50"),
    ],
)
def test_resuming_with_other_settings_is_refused(small, unfinished, refused, changed, said):
    args = (*small.args, *changed, "--output-dir", small.output, "--resume")
    message = refused(*args, match=f"other settings: .*{said}", folder=unfinished)
    assert "batch_size" not in message


def test_resuming_on_another_number_of_devices_is_refused(small, unfinished, refused):
    config = unfinished / small.output / "config.json"
    config.write_text(config.read_text().replace('"replicas": 1', '"replicas": 2'))
    refused(*small.args, "--resume", match="other settings: replicas was 2 and is 1", folder=unfinished)


def test_resuming_with_more_steps_in_an_execution_is_allowed(small, unfinished, call):
    result = call(*small.args, "--steps-per-execution", "2", "--resume", folder=unfinished, train=lambda run: None)
    assert (result.code, result.err) == (0, "")


def test_a_resumed_run_must_see_the_same_labelled_images(small, call, refused, tmp_path):
    indices, elsewhere = tmp_path / "indices.txt", tmp_path / "elsewhere"
    elsewhere.mkdir()
    labels = data.load("digits").train_labels
    first = np.concatenate([np.flatnonzero(labels == k)[:2] for k in range(10)])
    np.savetxt(indices, first, fmt="%d")
    args = [*small.args, "--output-dir", tmp_path / "run"]
    assert call(*args, "--labeled-indices", indices, train=lambda run: None).code == 0
    shutil.copy(indices, elsewhere)
    moved = call(*args, "--labeled-indices", elsewhere / "indices.txt", "--resume", train=lambda run: None)
    assert (moved.code, moved.err) == (0, "")
    np.testing.assert_array_equal(moved.calls[0].sets.split.labeled, first)
    assert moved.calls[0].settings["labels"] == 20
    np.savetxt(indices, first[::-1], fmt="%d")
    refused(*args, "--labeled-indices", indices, "--resume", match="labeled_indices was 'indices.txt")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_checkpoint_is_refused_and_kept(small, unfinished, call, share, contents, one_sentence):
    checkpoint = unfinished / small.output / "checkpoint.npz"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    before = contents(unfinished)
    result = call(*small.args, "--resume", folder=unfinished)
    result.out = result.out.removeprefix(f"EXoN on digits: 100 labels of 1437 images, beta 0.25; {small.output}\n")
    one_sentence(result, "checkpoint.npz cannot be read .* truncated or damaged")
    assert contents(unfinished) == before


def test_damaged_settings_of_a_run_are_a_sentence(small, unfinished, refused):
    for content in ("", '{"seed": 1', "[1, 2]", "\udcff"):
        (unfinished / small.output / "config.json").write_text(content, errors="surrogateescape")
        refused(*small.args, "--resume", match="config.json, .* is damaged", folder=unfinished)


def test_a_kill_before_the_settings_were_written_is_no_obstacle(small, call, tmp_path):
    (tmp_path / small.output).mkdir(parents=True)
    (tmp_path / small.output / "config.json.tmp").write_text('{"se')
    assert call(*small.args, train=lambda run: None).code == 0
    assert os.listdir(tmp_path / small.output) == ["config.json"]


def test_a_run_killed_at_the_very_end_is_completed(small, finished, call, assert_ended_alike, monkeypatch, tmp_path):
    # This metric would take most of the remaining time, and the test is not about it.
    diversity = small.metrics(finished.folder)["negative_ssim"]
    monkeypatch.setattr("keras_ssvae.evaluation.reports.negative_ssim", lambda images: diversity)
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / small.export)
    shutil.rmtree(folder / small.output / "figures")
    (folder / small.output / "metrics.json").unlink()
    (folder / small.output / "history.csv").write_text("epoch,loss\n1,")
    assert call(*small.args, "--resume", folder=folder).code == 0
    assert_ended_alike(folder)
    assert os.listdir(folder / small.export) == ["1"]


def test_the_trained_model_is_saved_before_anything_else_can_fail(small, finished, call, monkeypatch, tmp_path):
    def failing(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr("keras_ssvae.evaluation.report", failing)
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    for name in ("metrics.json", "model.keras"):
        (folder / small.output / name).unlink()
    with pytest.raises(ZeroDivisionError):
        call(*small.args, "--resume", folder=folder)
    keras.models.load_model(folder / small.output / "model.keras")


@pytest.mark.slow
def test_a_run_killed_at_many_moments_ends_with_the_same_bits(small, assert_ended_alike, tmp_path):
    files = ["config.json", "logs/train", "checkpoint.npz.tmp", "history.csv", "model.tmp.keras", "figures/*.png"]
    files = ["runs", *(f"{small.output}/{name}" for name in files), f"{small.export}/.incomplete*"]
    seconds = np.random.default_rng(0).uniform(1, 10, 4)
    kills = 0
    for moment in (*seconds[:2], *files[:4], *seconds[2:], *files[4:]):
        timed = not isinstance(moment, str)
        if not timed and list(tmp_path.glob(moment)):
            continue  # the kill before came after this file was written
        process = small.start(tmp_path, *small.args, "--resume")
        if timed:
            small.wait_until(lambda: False, process, seconds=moment)
        else:
            small.wait_until(lambda: list(tmp_path.glob(moment)), process)  # noqa: B023
        process.kill()
        kills += process.wait(small.timeout) == -signal.SIGKILL
        assert (tmp_path / "stderr").read_text() == ""
        assert not (tmp_path / small.output / "metrics.json").exists(), f"the run ended before {moment!r} was seen"
    assert kills >= 8
    last = small.run(tmp_path, *small.args, "--resume")
    assert (last.code, last.err) == (0, "")
    assert_ended_alike(tmp_path)


@pytest.fixture
def assert_says_how_to_resume(small):
    def check(result, *args):
        assert result.code == 130, result.err
        command = " ".join(["python", str(small.script), *map(shlex.quote, args), "--resume"])
        if keras.backend.backend() == "jax":
            command = f"KERAS_BACKEND=jax {command}"
        assert result.err == f"\nInterrupted. To go on after the last complete epoch: {command}\n"

    return check


def test_ctrl_c_ends_with_the_command_that_resumes(small, tensorflow, assert_says_how_to_resume, tmp_path):
    args = [*small.args, "--export-dir", "my models"]
    output = tmp_path / small.output
    process = small.start(tmp_path, *args)
    assert small.wait_until((output / "checkpoint.npz").exists, process), (tmp_path / "stderr").read_text()
    process.send_signal(signal.SIGINT)
    assert_says_how_to_resume(small.finish(process, tmp_path), *args)
    assert small.arrays(tmp_path)
    assert not (output / "metrics.json").exists()


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_ctrl_c_while_tensorflow_is_imported_ends_quietly(small, tensorflow, tmp_path):
    process = small.start(tmp_path, *small.args)
    assert small.wait_until(lambda: "/tensorflow/" in Path(f"/proc/{process.pid}/maps").read_text(), process)
    process.send_signal(signal.SIGINT)
    result = small.finish(process, tmp_path)
    assert result.code == 130
    assert result.err == "\nInterrupted before anything was read or written.\n"
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_while_the_data_is_read_says_the_same(call, modules, assert_says_how_to_resume, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(modules.script, "EXPERIMENT", dataclasses.replace(modules.script.EXPERIMENT, load=interrupted))
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert_says_how_to_resume(call("--dataset", "digits"), "--dataset", "digits")
    finally:
        signal.signal(signal.SIGINT, handler)
