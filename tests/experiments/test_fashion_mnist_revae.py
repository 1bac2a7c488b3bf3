"""The experiment with REVAE, M2 and M3, on the embedded digits and for very few steps."""

import itertools
import json

import pytest

from keras_ssvae import data

pytestmark = pytest.mark.usefixtures("without_export")
SCRIPT = "fashion_mnist_revae"
SMALL = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "4", "--labels", "20", "--batch-size", "12")
SMALL = (*SMALL, "--labeled-batch-size", "6")


@pytest.fixture
def plan(call):
    """The settings of a run with these flags, without making it."""
    numbers = itertools.count()

    def settings(*args):
        folder = "--output-dir", f"runs/{next(numbers)}"
        return call("--dataset", "digits", *args, *folder, train=lambda run: None).calls[0].settings

    return settings


@pytest.fixture
def quick_judges(modules, monkeypatch):
    monkeypatch.setattr("judges.EPOCHS", {"digits": 1})


@pytest.mark.parametrize("model", ["revae", *(pytest.param(each, marks=pytest.mark.slow) for each in ("m2", "m3"))])
def test_a_model_trains_and_its_images_are_judged(call, quick_judges, tmp_path, model):
    result = call("--model", model, *SMALL, "--judges", "2")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / f"runs/revae_digits_20_seed1_{model}"
    metrics = json.loads((folder / "metrics.json").read_text())
    # 20 of 1,237 images are labelled: 4 labelled batches of 6, and 203 unlabelled ones.
    assert metrics["settings"]["rhythm"] == [4, 203]
    assert 0 <= metrics["generated_right_percent"] <= 100
    assert metrics["generated_mutual_information"] >= 0
    assert len(metrics["generated_right_percent_per_class"]) == 10
    assert 0 <= metrics["judges_error_percent"] <= 100
    assert "% show their class, by classifiers whose own test error" in result.out
    drawn = {path.stem for path in (folder / "figures").glob("*.png")}
    own = {"revae": {"interventions", "swap", "surface"}, "m3": {"interventions", "swap"}, "m2": set()}[model]
    assert drawn == {"reconstructions", "generated", "curves", *own}
    assert len(list((tmp_path / "runs/judges").glob("*.keras"))) == 2


def test_a_run_goes_on_bit_for_bit(goes_on_bit_for_bit):
    goes_on_bit_for_bit(*SMALL, "--epochs", "2", "--judges", "0")


def test_a_fraction_of_the_images_is_labelled(plan):
    plans = [plan(*args) for args in (("--fraction", "0.05"), ("--fraction", "0.0001"), ())]
    assert [each["labels"] for each in plans] == [60, 10, 100]
    assert [each["rhythm"] for each in plans] == [[1, 24], [1, 25], [1, 23]]
    assert [each["steps_per_epoch"] for each in plans] == [25, 26, 24]


def test_with_many_labels_the_labelled_batches_are_large(plan, modules, monkeypatch):
    monkeypatch.setattr(modules.script, "MANY_LABELS", 300)
    given = ("--batch-size", "60", "--labeled-batch-size", "20")
    plans = [plan(*args) for args in (("--labels", "300"), ("--labels", "299"), ("--labels", "300", *given))]
    assert [each["labeled_batch_size"] for each in plans] == [200, 100, 20]
    assert plans[0]["rhythm"] == [2, 5]


def test_alpha_is_scaled_by_the_images_for_each_labelled_one(plan):
    assert plan("--model", "m3")["alpha"] == pytest.approx(0.1 * 1237 / 100)
    assert plan("--model", "m3", "--alpha", "1")["alpha"] == 1.0
    alone = plan("--m", "12")
    assert "alpha" not in alone
    assert alone["m"] == 12


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--alpha", "1"), "--alpha is 1.0, but REVAE has none"),
        (("--model", "m2", "--m", "10"), "--m is 10; it must be at least 1, and is for --model revae"),
        (("--m", "0"), "--m is 0; it must be at least 1"),
        (("--judges", "-1"), "--judges is -1; it must be at least 0"),
        (("--fraction", "1.5"), "--fraction is 1.5; it must be between 0 and 1"),
        (("--fraction", "0.1", "--labels", "50"), "--fraction sets the number of labelled images, as do --labels"),
        (("--labels", "0"), "there must be some of each"),
        (("--batch-size", "10", "--labeled-batch-size", "10"), "there must be some of each"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(call, args, sentence):
    result = call("--dataset", "digits", *args)
    assert result.code == 1
    assert sentence in result.err


def test_fashion_mnist_is_the_first_and_the_digits_the_second_choice(call, modules, monkeypatch):
    loaded, load = [], data.load

    def unavailable(name, data_dir=None):
        loaded.append(name)
        if name != "digits":
            raise data.DataUnavailableError(f"{name} is not there.")
        return load(name)

    monkeypatch.setattr(data, "load", unavailable)
    modules.script.load_data.cache_clear()
    result = call(train=lambda run: None)
    assert result.code == 0
    assert loaded == ["fashion_mnist", "digits"]
    assert "WARNING: training on the embedded digits instead of Fashion-MNIST." in result.err
