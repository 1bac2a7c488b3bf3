"""A finished run goes on to more epochs, to the bits of a run that had them from the start."""

import contextlib
import json
import signal

import numpy as np
import pytest

from keras_ssvae.runs import run
from keras_ssvae.runs.directory import check_output_dir, claim_output_dir, finished, make_output_dir
from keras_ssvae.runs.errors import UserError

DIRECTORY = "runs/tiny_digits_20_beta0.5_seed1"


@contextlib.contextmanager
def ctrl_c_after(epoch):
    """While it is open, Ctrl-C comes after this epoch."""
    write = run.write_history

    def stopping(path, history):
        write(path, history)
        if len(history) == epoch:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "write_history", stopping)
        yield


@pytest.fixture
def ctrl_c_is_heard():
    """Puts back what an interrupted script ignores."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_extended_run_ends_with_the_bits_of_an_uninterrupted_one(
    call, arrays, metrics, ctrl_c_is_heard, monkeypatch, tmp_path
):
    monkeypatch.setattr(
        "keras_ssvae.evaluation.report", lambda *args, **kwargs: {"error_percent": 10.0}
    )  # takes longest
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert call("--epochs", 4, "--output-dir", whole).code == 0
    assert call("--epochs", 2, "--output-dir", parts).code == 0
    before, config = (parts / "metrics.json").read_bytes(), json.loads((parts / "config.json").read_text())
    assert config["epochs"] == 2
    longer = ("--epochs", 4, "--output-dir", parts, "--resume")
    # It is interrupted in between, and loses nothing.
    with ctrl_c_after(3):
        assert call(*longer).code == 130
    assert (parts / "metrics.json").read_bytes() == before
    assert json.loads((parts / "config.json").read_text()) == {**config, "epochs": 4}
    fewer = call("--epochs", 2, "--output-dir", parts, "--resume")
    assert "--epochs is 2, but the run in" in fewer.err
    assert "has done 3" in fewer.err
    assert "holds an unfinished run" in call("--epochs", 4, "--output-dir", parts).err
    result = call(*longer)
    assert (result.code, result.err) == (0, "")
    assert "Going on after epoch 3." in result.out
    expected, actual = arrays(whole), arrays(parts)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert metrics(parts) == metrics(whole)
    assert (parts / "config.json").read_text() == (whole / "config.json").read_text()


def test_what_a_finished_run_cannot_become_is_a_sentence(call, tmp_path):
    folder = tmp_path / DIRECTORY
    assert call().code == 0
    before = contents(folder)

    def refused(*args, **changed):
        result = call(*args, **changed)
        assert (result.code, result.err.count("\n"), result.out) == (1, 1, "")
        assert contents(folder) == before
        return result.err

    assert "holds a finished run" in refused()
    assert "holds a finished run" in refused("--resume")
    assert "train longer by --resume with more --epochs" in refused("--epochs", 4)
    assert "--epochs is 1, but the run in" in refused("--epochs", 1, "--resume")
    same = ("--epochs", 4, "--resume", "--output-dir", folder)
    assert "other settings: seed was 1 and is 2" in refused(*same, "--seed", 2)
    scheduled = {"own_settings": lambda args, dataset, epochs: {"ramp": 1 if epochs == 2 else epochs}}
    assert "other settings: ramp was None" in refused(*same, **scheduled)
    checkpoint = (folder / "checkpoint.npz").read_bytes()
    (folder / "checkpoint.npz").unlink()
    before = contents(folder)
    assert "holds a finished run without checkpoint.npz" in refused(*same)
    (folder / "checkpoint.npz").write_bytes(checkpoint)


SHORT = {"seed": 1, "epochs": 20, "ramp": 10}


@pytest.fixture
def finished_run(tmp_path):
    """One whose schedule depends on its number of epochs."""
    (tmp_path / "config.json").write_text(json.dumps(SHORT))
    (tmp_path / "metrics.json").write_text(json.dumps({"settings": SHORT}))
    (tmp_path / "checkpoint.npz").touch()
    return tmp_path


def half(epochs):
    return {"ramp": epochs // 2}


def test_schedules_that_depend_on_the_epochs_make_it_another_run(finished_run):
    settings = {**SHORT, "epochs": 40, **half(40)}
    for check in (
        lambda: check_output_dir(finished_run, settings, True, half),
        lambda: finished(finished_run, settings, half),
    ):
        with pytest.raises(Exception, match=r"a run of 20 epochs, whose schedules depend on that number.*another run"):
            check()
    with pytest.raises(Exception, match="other settings: ramp was 10 and is 7"):
        finished(finished_run, {**settings, "ramp": 7}, lambda epochs: {"ramp": 7})


def test_a_table_takes_a_run_of_as_many_epochs_only(finished_run):
    def same(epochs):
        return {"ramp": 10}

    assert finished(finished_run, SHORT, same) == {"settings": SHORT}
    longer = {**SHORT, "epochs": 40}
    assert finished(finished_run, longer, same) is None
    check_output_dir(finished_run, longer, True, same)
    with pytest.raises(Exception, match=r"--epochs is 10, but the run in .* has done 20"):
        finished(finished_run, {**SHORT, "epochs": 10}, same)
    # It is being extended: what is there is neither the old run nor the new one.
    (finished_run / "config.json").write_text(json.dumps(longer))
    assert finished(finished_run, SHORT, same) is None
    assert finished(finished_run, longer, same) is None


def test_a_run_that_stopped_early_is_not_extended(finished_run):
    (finished_run / "metrics.json").write_text(json.dumps({"settings": SHORT, "epochs_done": 12}))
    with pytest.raises(Exception, match="stopped early, after 12 of 20 epochs; more --epochs would change nothing"):
        check_output_dir(finished_run, {**SHORT, "epochs": 40}, True, lambda epochs: {"ramp": 10})


def test_a_tuple_among_the_settings_is_the_list_that_was_written(tmp_path):
    settings = {"epochs": 2, "filters": (16, 32)}
    make_output_dir(tmp_path / "run")
    claim_output_dir(tmp_path / "run", settings)
    check_output_dir(tmp_path / "run", settings, True, lambda epochs: {})
    with pytest.raises(UserError, match=r"filters was \[16, 32\] and is \[16, 64\]"):
        check_output_dir(tmp_path / "run", {**settings, "filters": (16, 64)}, True, lambda epochs: {})
