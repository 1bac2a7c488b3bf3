"""The MNIST experiment with a latent space of the user's own: `--layout`."""

import json
import os

import keras
import numpy as np
import pytest

from keras_ssvae import priors

DIGITS = {str(k): [20.0 * k, 0.0] for k in range(10)}


@pytest.fixture
def layout(tmp_path):
    """Writes a layout of the digits with changed classes, or a given text; returns `--layout` and the file."""

    def write(changed=(), name="mine.json"):
        path = tmp_path / name
        path.write_text(changed if isinstance(changed, str) else json.dumps(DIGITS | dict(changed)))
        return "--layout", path

    return write


def test_a_layout_places_the_classes_of_the_run(small, call, layout, tmp_path):
    flag, file = layout({"7": {"mean": [0, 30], "variance": [1, 9]}})
    result = call(*small.args, flag, file, train=lambda run: None)
    assert (result.code, result.err) == (0, "")
    (run,) = result.calls
    np.testing.assert_array_equal(run.model.prior.means[[1, 7]], [[20, 0], [0, 30]])
    np.testing.assert_array_equal(run.model.prior.variances[[1, 7]], [[4, 4], [1, 9]])
    assert run.output_dir == small.output.with_name(f"{small.output.name}_layout_mine")
    kept = json.loads((tmp_path / run.output_dir / "config.json").read_text())["layout"]
    assert kept.startswith("mine.json (CRC-32 ")


def test_without_a_layout_the_prior_is_the_papers(small, call):
    (run,) = call(*small.args, train=lambda run: None).calls
    np.testing.assert_array_equal(run.model.prior.means, priors.circle().means)
    assert run.output_dir == small.output


def test_a_run_goes_on_with_the_same_layout_only(small, call, refused, layout):
    args = (*small.args, "--output-dir", "run")
    call(*args, *layout(), train=lambda run: None)
    assert call(*args, *layout(), "--resume", train=lambda run: None).code == 0
    other = layout({"3": [0, 50]})
    refused(*args, *other, "--resume", match="layout was 'mine.json .* and is 'mine.json .*Give the same settings")
    refused(*args, "--resume", match="layout was 'mine.json .* and is None")


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"0": [1, 2', "--layout .*mine.json is not a layout in JSON: Expecting"),
        ('{"0": [1, 2], "one": [2, 1]}', "mine.json lacks '1', '2', .* names the unknown 'one'.* 10 classes"),
        ({"10": [1, 1]}, "mine.json names the unknown '10'"),
        ({"3": [1, 1, 1]}, "mine.json gives '0' 2 coordinates and '3' 3"),
        ({"3": {"mean": [1, 1], "variance": 0}}, "mine.json: the variance of '3' is 0; it must be a positive number"),
        ({str(k): [20 * k] for k in range(10)}, "mine.json has positions of one number"),
    ],
)
def test_a_mistake_in_the_layout_is_a_sentence(small, refused, layout, content, match):
    refused(*small.args, *layout(content), match=match)


def test_a_layout_that_is_no_file_is_a_sentence(small, refused, tmp_path):
    refused(*small.args, "--layout", tmp_path / "none.json", match="--layout .*none.json cannot be read: No such file")
    refused(*small.args, "--layout", tmp_path, match="--layout .* cannot be read: Is a directory")


def test_classes_that_overlap_are_a_warning_without_source_code(small, call, layout):
    result = call(*small.args, *layout({"3": [41, 0]}), train=lambda run: None)
    assert result.code == 0
    assert result.err.startswith("WARNING: --layout ")
    assert "overlap: '2' with '3' (0.969). " in result.err
    assert result.err.count("\n") == 1


def test_the_prior_is_drawn_before_the_training(small, call, layout, modules):
    """Also, with more than two dimensions no grid is drawn."""
    flag, file = layout({str(k): [20.0 * k, 0.0, 1.0] for k in range(10)})
    figures = {}

    def train(run):
        callbacks = keras.callbacks.CallbackList(modules.runner.epoch_figures(run), model=run.model)
        callbacks.on_train_begin()
        figures["before"] = os.listdir(run.output_dir / "figures")
        callbacks.on_train_end()
        figures["after"] = list(modules.script.figures(run, {}))

    assert call(*small.args, flag, file, train=train).code == 0
    assert "prior.png" in figures["before"]
    assert figures["after"] == ["latent", "interpolation"]
