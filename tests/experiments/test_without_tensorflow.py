"""The MNIST experiment on JAX without TensorFlow: the same files except TensorFlow's own, and resuming."""

import re
import runpy
import shutil
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("jax")

EPOCHS = 2


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """JAX, for tests in which some packages cannot be imported."""
    folder = tmp_path_factory.mktemp("blocked")
    for name in ("tensorflow", "tensorflow_datasets", "tensorboard"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemError('{name} was imported on JAX')")
    # The second process reuses what the first one has compiled.
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    return {"KERAS_BACKEND": "jax", "PYTHONPATH": str(folder), **cache}


@pytest.fixture(scope="module")
def args(small):
    return [*small.args, "--epochs", str(EPOCHS)]


@pytest.fixture(scope="module")
def runs(small, args, environment, tmp_path_factory):
    """A run, and a copy of its folder after the first epoch, as a kill would have left it."""
    folder, stopped = tmp_path_factory.mktemp("jax"), tmp_path_factory.mktemp("stopped")
    process = small.start(folder, *args, **environment)
    checkpoint = folder / small.output / "checkpoint.npz"
    seen = small.wait_until(checkpoint.exists, process)
    if seen:
        (stopped / small.output).mkdir(parents=True)
        for name in ("checkpoint.npz", "config.json"):
            shutil.copy(folder / small.output / name, stopped / small.output / name)
    finished = small.finish(process, folder)
    assert seen, finished.err
    return finished, stopped


@pytest.mark.slow
def test_a_run_succeeds_and_writes_all_but_what_is_tensorflows(small, runs):
    finished, _ = runs
    assert (finished.code, finished.err) == (0, "")
    run = finished.folder / small.output
    files = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    figures = {f"figures/{name}.png" for name in ("prior", "latent", "grid", "interpolation", "curves")}
    figures |= {f"figures/epochs/epoch_{e:04d}_{name}.png" for e in range(1, EPOCHS + 1) for name in ("latent", "grid")}
    others = {"config.json", "metrics.json", "history.csv", "v_nat.csv", "model.keras", "checkpoint.npz"}
    assert files == figures | others
    assert not (finished.folder / "saved_models").exists()


@pytest.mark.slow
def test_the_metrics_name_jax_and_say_that_nothing_was_exported(small, runs):
    metrics = small.metrics(runs[0].folder)
    assert metrics["saved_model"] is None
    assert metrics["backend"] == "jax"
    assert (metrics["settings"]["augment_on"], metrics["settings"]["jit_compile"]) == ("device", True)
    assert {"keras_ssvae", "keras", "jax", "numpy", "python"} == set(metrics["versions"])
    assert 0 <= metrics["test_error_percent"] <= 100
    assert np.isfinite(metrics["kl_divergence"])


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_bits(small, args, environment, runs):
    finished, stopped = runs
    resumed = small.run(stopped, *args, "--resume", **environment)
    assert (resumed.code, resumed.err) == (0, "")
    assert "Going on after epoch 1." in resumed.out
    actual, expected = small.arrays(stopped), small.arrays(finished.folder)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)
    times = {"seconds": None, "step_milliseconds": None}
    assert {**small.metrics(stopped), **times} == {**small.metrics(finished.folder), **times}


@pytest.mark.slow
def test_the_model_explains_an_image(small, environment, runs):
    finished, _ = runs
    flags = ("--model", small.output / "model.keras", "--image", small.output / "figures/prior.png")
    explained = small.run(finished.folder, *flags, script="explain.py", **environment)
    assert (explained.code, explained.err) == (0, "")
    assert explained.out.startswith("The image falls in component ")
    assert (finished.folder / "prior_explained.png").exists()


@pytest.mark.slow
def test_the_model_is_exported_where_tensorflow_is(small, runs, tensorflow):
    from keras_ssvae import data

    finished, _ = runs
    command = finished.out[finished.out.index("export.py ") :].split()[1:]
    exported = small.run(finished.folder, *command, script="export.py", KERAS_BACKEND="jax")
    assert (exported.code, exported.err) == (0, "")
    path = finished.folder / exported.out.strip()
    assert path == finished.folder / small.export / "1"
    digits = data.load("digits")
    served = tensorflow.saved_model.load(str(path))
    answer = served.signatures["classify"](image=tensorflow.constant(data.scale(digits.test_images)))
    wrong = 100 * np.mean(answer["label"].numpy() != digits.test_labels)
    assert wrong == pytest.approx(small.metrics(finished.folder)["test_error_percent"])


@pytest.fixture
def export(small, monkeypatch, tmp_path):
    """Exports `model.keras` in this process; returns the exit code."""

    def run():
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KERAS_BACKEND", keras.backend.backend())  # the script sets it
        monkeypatch.syspath_prepend(small.script.parent)
        monkeypatch.setattr(sys, "argv", ["export.py", "--model", "model.keras", "--export-dir", "served"])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(small.script.with_name("export.py")), run_name="__main__")
        assert not (tmp_path / "served").exists()
        return end.value.code

    return run


def test_what_is_no_model_cannot_be_exported(tensorflow, export, tmp_path):
    assert export() == "export.py: error: --model model.keras is no file; it must be a model that Keras saved."
    for content in (b"PK", b"PK\5\6" + bytes(18)):  # the second one is an empty zip file
        (tmp_path / "model.keras").write_bytes(content)
        assert re.fullmatch(r"export\.py: error: --model model\.keras cannot be read as a model .*\.", export(), re.S)


def test_another_keras_model_cannot_be_exported(tensorflow, export, tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "model.keras")
    expected = "export.py: error: --model model.keras is a Sequential; it must be a model of `keras_ssvae.models`."
    assert export() == expected


def test_exporting_without_tensorflow_is_a_sentence(monkeypatch, export):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert export().startswith("export.py: error: exporting needs TensorFlow, which is not installed here")


def test_exporting_elsewhere_is_an_error_that_says_how(monkeypatch, tmp_path):
    from keras_ssvae.export import export_saved_model

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"KERAS_BACKEND=tensorflow python experiments/export\.py --model"):
        export_saved_model(None, tmp_path / "served")
    assert not (tmp_path / "served").exists()
