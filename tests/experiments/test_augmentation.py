"""Classifiers on generated images: a run of very few steps on the embedded digits, and a table without training."""

import json

import numpy as np
import pytest

SCRIPT = "augmentation"
SMALL = ("--dataset", "digits", "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "20", "--images", "40")


@pytest.fixture
def quick(modules, monkeypatch):
    """Small networks, two scales, one share, and no export, of which other tests are."""
    monkeypatch.setattr(modules.runner, "export_saved_model", lambda model, folder: folder / "1")
    script = modules.script
    monkeypatch.setattr(script, "SHARES", (1.0,))
    monkeypatch.setattr(script, "SCALES", (1.0, 2.0))
    monkeypatch.setitem(script.SETTINGS, "digits", {**script.SETTINGS["digits"], "hidden": [8], "classifier_epochs": 1})
    return script


def test_a_run_trains_classifiers_on_the_images_of_its_model(call, quick, monkeypatch, tmp_path):
    seen, semi_supervised = [], quick.data.semi_supervised

    def watched(labeled, *args, **arguments):
        seen.append((labeled, arguments.get("replace_labeled"), arguments["seed"]))
        return semi_supervised(labeled, *args, **arguments)

    monkeypatch.setattr(quick.data, "semi_supervised", watched)
    result = call(*SMALL, "--model", "cvae")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "runs/augmentation_digits_seed1_cvae_images40"
    metrics = json.loads((folder / "metrics.json").read_text())
    errors = {name: value for name, value in metrics.items() if name.startswith("error_") and name[6] in "bs"}
    assert set(errors) == {"error_baseline", "error_share1_scale1", "error_share1_scale2"}
    assert all(0 <= value <= 100 for value in errors.values())
    assert {path.stem for path in (folder / "figures").glob("*.png")} == {"generated_1", "generated_2", "curves"}
    trained, *classifiers = seen
    for labeled, _, seed in classifiers:
        assert seed == trained[2] == 1
        for given, of_model in zip(labeled, trained[0], strict=True):
            np.testing.assert_array_equal(np.sort(given, axis=0), np.sort(of_model, axis=0))
    assert len(trained[0][1]) == 40
    assert set(trained[0][1]) == set(range(10))
    replaced = [replace if replace is None else (replace.share, replace.scale) for _, replace, _ in classifiers]
    assert replaced == [None, (1.0, 1.0), (1.0, 2.0)]


def test_the_table_has_the_differences_from_the_baseline_of_the_same_seed(call_table, table_of, tmp_path):
    def metrics(settings):
        baseline = 2.0 + settings["seed"]
        better = 0.5 if settings["model"] == "nvae" else 0.0
        errors = {f"error_share{share}_scale{scale}": baseline - better for share in (0.4, 1) for scale in (1, 1.5, 2)}
        return {"error_baseline": baseline, "test_images": 400, **errors}

    call_table.metrics = metrics
    result = call_table(SCRIPT, *SMALL, "--seed", "1", "2")
    assert (result.code, result.err) == (0, "")
    assert len(result.trained) == 4
    folder = tmp_path / "runs/augmentation_digits"
    rows = table_of(folder)
    assert [row["model"] for row in rows] == ["baseline", *["nvae"] * 3, *["cvae"] * 3] + ["nvae"] * 3 + ["cvae"] * 3
    names = ("share", "scale", "runs", "error %", "error %, deviation", "minus baseline", "minus baseline, deviation")
    assert [rows[0][name] for name in names] == ["", "", "2", "3.50", "0.71", "0.00", ""]
    assert [rows[2][name] for name in names] == ["0.4", "1.5", "2", "3.00", "0.71", "-0.50", "0.00"]
    assert {path.name for path in folder.glob("*.png")} == {"figure_9_share0.4.png", "figure_9_share1.png"}
    # sqrt(0.035 * 0.965 / 400)
    assert "Standard error of one such test error: 0.92 points." in result.out


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (("--model", "gan"), "--model"),
        (("--images", "5000"), "--images is 5000"),
        (("--images", "3"), "--images is 3"),
        (("--shared-dims", "-1"), "--shared-dims is -1; none may be negative"),
    ],
)
def test_flags_that_do_not_fit_are_a_sentence(call, args, match):
    result = call(*SMALL, *args)
    assert result.code in (1, 2)
    assert match in result.err
