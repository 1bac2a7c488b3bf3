"""The experiment with M1, M2 and M1+M2, on the embedded digits and for very few steps."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_ssvae.runs import sweep

SCRIPT = "mnist_m2"
SMALL = ("--dataset", "digits", "--epochs", "2", "--steps-per-epoch", "2")
LABELLED = (*SMALL, "--batch-size", "12", "--labeled-batch-size", "5")


@pytest.fixture
def call(modules, in_process, monkeypatch, tmp_path):
    """Calls the script with a model; the result has the calls of `train`, if that is replaced."""
    trained = modules.runner.train

    def run(model, *args, train=trained):
        calls = []
        monkeypatch.setattr(modules.runner, "train", lambda run: [calls.append(run), train(run)])
        export = ("--export-dir", tmp_path / "saved" / model)
        result = in_process(modules.script.main, modules.script.__file__, "--model", model, *args, *export)
        result.calls = calls
        return result

    return run


@pytest.fixture
def untrained_m1(tmp_path, modules):
    """The file of an M1 with three dimensions that carry information about the images."""
    keras.utils.set_random_seed(0)
    model = modules.script.M1()
    head = model.encoder.get_layer("m1_mean")
    kernel = 50 * keras.ops.convert_to_numpy(head.kernel)
    kernel[:, 3:] = 0.0
    head.kernel.assign(kernel)
    file = tmp_path / "m1.keras"
    model.save(file)
    return file


def test_m1_trains_without_labels_and_writes_its_figures_and_numbers(call, tmp_path):
    result = call("m1", *SMALL, "--batch-size", "8")
    assert (result.code, result.err) == (0, "")
    assert "M1 on digits: 1237 images; runs/m1_digits_seed1" in result.out
    folder = tmp_path / "runs/m1_digits_seed1"
    metrics = json.loads((folder / "metrics.json").read_text())
    np.testing.assert_allclose(metrics["loss"], metrics["reconstruction"] + metrics["kl"], rtol=1e-5)
    assert metrics["settings"]["weight_prior"] == pytest.approx(1 / 1237)
    assert {path.stem for path in (folder / "figures").glob("*.png")} == {"reconstructions", "generated", "curves"}
    assert keras.models.load_model(folder / "model.keras").latent_dim == 50


def test_m1m2_takes_the_file_of_an_m1(call, untrained_m1, tmp_path):
    result = call("m1m2", *LABELLED, "--m1", untrained_m1, "--output-dir", tmp_path / "whole")
    assert (result.code, result.err) == (0, "")
    assert "M1M2 on digits: 100 labels of 1137 images; " in result.out
    assert "features     3 of 50 dimensions of M1" in result.out
    metrics = json.loads((tmp_path / "whole/metrics.json").read_text())
    for name in ("test_error_percent", "reconstruction", "kl_z", "kl_y"):
        assert np.isfinite(metrics[name])
    assert metrics["settings"]["hidden"] == 300
    assert metrics["settings"]["m1"].startswith("m1.keras (CRC-32 ")
    figures = {path.stem for path in (tmp_path / "whole/figures").glob("*.png")}
    assert figures == {"reconstructions", "analogies", "curves"}
    model = keras.models.load_model(tmp_path / "whole/model.keras")
    assert model.active == (0, 1, 2)
    m1 = keras.models.load_model(untrained_m1)
    for weight, expected in zip(model.m1.weights, m1.weights, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.slow
def test_m1m2_goes_on_bit_for_bit(goes_on_bit_for_bit, untrained_m1):
    goes_on_bit_for_bit("m1m2", *LABELLED, "--m1", untrained_m1)


def test_another_m1_is_another_run(call, stop_after_an_epoch, untrained_m1, one_sentence, capsys, tmp_path):
    args = (*LABELLED, "--m1", untrained_m1, "--output-dir", tmp_path / "run")
    with pytest.raises(TypeError):
        call("m1m2", *args, train=stop_after_an_epoch)
    capsys.readouterr()
    model = keras.models.load_model(untrained_m1)
    model.decoder.get_layer("m1_logits").bias.assign(np.ones(784))
    model.save(untrained_m1)
    one_sentence(call("m1m2", *args, "--resume"), "m1")


def test_an_m1_that_has_learned_nothing_is_a_sentence(call, modules, one_sentence, tmp_path):
    modules.script.M1().save(tmp_path / "m1.keras")
    result = call("m1m2", *LABELLED, "--m1", tmp_path / "m1.keras", train=lambda run: pytest.fail("it began to train"))
    one_sentence(result, r"No dimension of the M1 in .*m1\.keras says anything about the images")


def test_without_an_m1_a_sentence_says_how_to_train_one(call, one_sentence):
    result = call("m1m2", *LABELLED, train=lambda run: pytest.fail("it began to train"))
    one_sentence(result, r"runs/m1_digits_seed1/model.keras cannot be read .*Train an M1 with --model m1")


def test_m2_trains_on_labelled_images_that_are_not_among_the_unlabelled(call):
    def train(run):
        run.model.fit(run.batches, steps_per_epoch=1, shuffle=False, verbose=0)

    (run,) = call("m2", *LABELLED, "--labels", "50", train=train).calls
    assert run.output_dir == Path("runs/m2_digits_50_seed1")
    split = run.sets.split
    assert not {*split.labeled} & {*split.unlabeled}
    assert not {*split.validation} & {*split.unlabeled, *split.labeled}
    assert set(run.model.history.history) == {"loss", *run.model.training_terms}
    assert run.model.optimizer.bias_correction
    assert run.model.classifier.input_shape == (None, 28, 28, 1)


@pytest.mark.parametrize(("labels", "batches"), [(100, (100, 500, 1)), (600, (200, 250, 3)), (3000, (200, 250, 15))])
def test_the_released_codes_settings_are_those_of_mnist(modules, monkeypatch, labels, batches):
    experiment = modules.script.EXPERIMENTS["m2"]

    class Mnist:
        name = "mnist"

    monkeypatch.setattr(modules.script, "load_data", lambda name, folder: Mnist)
    args = modules.flags.arguments(experiment, ["--dataset", "mnist", "--labels", str(labels)])
    settings = experiment.settings["mnist"]
    names = ("steps_per_epoch", "batch_size", "labeled_batch_size")
    given = tuple(settings[name] if getattr(args, name) is None else getattr(args, name) for name in names)
    assert given == batches
    assert (settings["epochs"], settings["validation"], settings["learning_rate"]) == (3000, 10_000, 3e-4)
    assert given[0] * given[2] == labels
    assert given[0] * given[1] == 50_000
    of_m1 = modules.script.EXPERIMENTS["m1"].settings["mnist"]
    assert of_m1["steps_per_epoch"] * of_m1["batch_size"] == 50_000
    given = ["--labels", "600", "--dataset", "mnist", "--batch-size", "100", "--labeled-batch-size", "50"]
    args = modules.flags.arguments(experiment, given)
    assert (args.batch_size, args.labeled_batch_size, args.steps_per_epoch) == (100, 50, 200)


def test_m1m2_has_the_released_codes_adam(call, untrained_m1):
    (run,) = call("m1m2", *LABELLED, "--labels", "200", "--m1", untrained_m1, train=lambda run: None).calls
    optimizer = run.model.optimizer
    assert (optimizer.bias_correction, optimizer.epsilon) == (False, 1e-16)
    assert run.model.decoder.get_layer("decoder_0").units == run.settings["hidden"] == 500
    assert float(run.model.alpha) == pytest.approx(0.1)
    assert float(run.model.weight_prior) == pytest.approx(1 / 1237)


def test_several_numbers_of_labels_are_a_table(modules, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr("keras_ssvae.runs.sweep.main", asked.append)
    monkeypatch.setattr("keras_ssvae.runs.run.main", asked.append)
    given = ["--dataset", "digits", "--labels", "50", "100", "--seed", "1", "2"]
    for model, numbers in (("m2", given), ("m2", [*given[:4]]), ("m2", []), ("m1", [])):
        monkeypatch.setattr("sys.argv", ["mnist_m2.py", "--model", model, *numbers])
        modules.script.main()
    made, *single = asked
    assert [each.name for each in single] == ["M2", "M2", "M1"]
    assert isinstance(made, sweep.Sweep)
    plans = sweep._plans(made, sweep._parser(made).parse_args(["--model", "m2", *given]))
    names = [f"m2_digits_{labels}_seed{seed}" for labels in (50, 100) for seed in (1, 2)]
    assert [plan.output_dir.name for plan in plans] == names
    errors = (20.0, 22.0, 10.0, 11.0)
    results = [sweep.Result(plan, {"test_error_percent": e}) for plan, e in zip(plans, errors, strict=True)]
    text = made.finish(results, tmp_path)
    assert [line.split("|")[1].strip() for line in text.splitlines()[-2:]] == ["50", "100"]
    assert "21.00" in text
    assert "10.50" in text
    assert "11.97" not in text  # the published error is of MNIST
    assert (tmp_path / "errors.png").exists()
