"""REVAE on a small generated CelebA: runs of a few steps in this process, with the paper's networks."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

from keras_ssvae import evaluation
from keras_ssvae.likelihoods import Laplace

pytestmark = pytest.mark.usefixtures("without_export")
SCRIPT = "celeba_revae"
SMALL = ("--labels", "20", "--validation", "4", "--epochs", "1", "--steps-per-epoch", "3", "--batch-size", "12")
SMALL = (*SMALL, "--labeled-batch-size", "10")


@pytest.fixture
def args(celeba_directory):
    return ("--data-dir", celeba_directory, *SMALL)


@pytest.fixture
def small_inception(monkeypatch):
    """Replaces InceptionV3 by a network whose features are three linear functions of the pixels."""
    pixels = keras.Input((16, 16, 3))
    features = layers.Dense(3)(layers.Flatten()(pixels))
    classifier = keras.Model(pixels, layers.Dense(5, activation="softmax")(features))
    for module in (evaluation, evaluation.frechet):
        monkeypatch.setattr(module, "load_classifier", lambda: classifier)


def shown(batches):
    """The indices of the images in some batches; the fixture has drawn each index as the background of its image."""
    corners = np.concatenate([np.asarray(batch)[:, 2:6, 2:6] for batch in batches]).mean(axis=(1, 2, 3))
    return np.rint((corners + 1) * 127.5 / 8).astype(int)


def test_a_run_writes_its_numbers(call, args, modules, small_inception, monkeypatch, tmp_path):
    monkeypatch.setattr(modules.runner, "draw_figures", lambda run, report: None)  # tested below
    before = {}

    def train(run):
        before.update({each.path: each.numpy() for each in run.model.trainable_variables})
        modules_train(run)

    modules_train = modules.runner.train
    result = call(*args, "--fid", "--validation", "0", train=train)
    assert (result.code, result.err) == (0, "")
    (run,) = result.calls
    folder = tmp_path / "runs/revae_celeba_20_seed1"
    assert "REVAE on celeba: 20 labels of 10 images; " in result.out
    metrics = json.loads((folder / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert metrics["settings"]["rhythm"] == [2, 5]
    errors = metrics["error_percent_per_label"]
    assert list(errors) == modules.script.NAMES
    assert metrics["test_error_percent"] == pytest.approx(np.mean(list(errors.values())))
    assert f"{100 - metrics['test_error_percent']:.2f} % of (image, label) pairs" in result.out
    assert (metrics["fid_images"], metrics["fid_network"]) == (12, "InceptionV3 (ImageNet)")
    assert metrics["fid"] > 0
    assert f"{metrics['fid']:.1f}, 12 images, by InceptionV3" in result.out
    for variable in run.model.trainable_variables:
        assert not np.array_equal(variable.numpy(), before[variable.path]), variable.path


def test_the_figures_have_all_labels(call, args, modules):
    (run,) = call(*args, train=lambda run: None).calls
    for prior in run.model.c_priors:
        prior.free_means.assign([[-2.0], [2.0]])  # before the training both values have the same distribution
    drawn = modules.script.figures(run, {})
    walks = {"walk_pale_skin_young", "walk_smiling_wearing_necktie", "walk_male_no_beard"}
    drawn_anew = {"diversity_smiling", "diversity_eyeglasses"}
    assert set(drawn) == {"interventions", "swap", "effects", "reconstructions", *drawn_anew, *walks}
    assert (
        drawn["walk_male_no_beard"].axes[0].get_title(loc="left").endswith("row male, from column to column no beard")
    )
    (ax,) = drawn["interventions"].axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["image", "reconstruction", *modules.script.NAMES]
    effects = drawn["effects"].axes[0]
    for labels in (effects.get_xticklabels(), effects.get_yticklabels()):
        assert [text.get_text() for text in labels] == modules.script.NAMES
    matrix = effects.images[0].get_array()
    assert matrix.shape == (18, 18)
    assert np.ptp(matrix) > 0


def test_labelled_unlabelled_and_held_out_images_are_apart(call, args):
    (run,) = call(*args, "--steps-per-epoch", "5", train=lambda run: None).calls
    epoch = [x for x, _ in run.batches.take(5)]
    assert [(len(x["labeled"]), len(x["unlabeled"])) for x in epoch] == [(10, 0), (0, 2), (10, 0), (0, 2), (0, 2)]
    assert epoch[0]["labeled"].shape[1:] == (64, 64, 3)
    resumed = [x for x, _ in run.sets.batches(3).take(2)]
    for part in ("labeled", "unlabeled"):
        for given, expected in zip(resumed, epoch[3:], strict=True):
            np.testing.assert_array_equal(given[part], expected[part])
    held_out = run.sets.validation()["validation_data"]
    labeled, unlabeled = (shown([x[part] for x in epoch]) for part in ("labeled", "unlabeled"))
    numbers = [*labeled, *unlabeled, *shown([images for images, _ in held_out])]
    assert sorted(numbers) == list(range(30))
    for images, labels in held_out:
        male = list(run.sets.label_names).index("male")
        np.testing.assert_array_equal(labels[:, male], shown([images]) % 2)


def test_the_model_is_the_papers_and_its_priors_are_the_frequencies_of_the_labelled_images(call, args):
    (run,) = call(*args, train=lambda run: None).calls
    model = run.model
    expected = {"num_classes": (2,) * 18, "c_dims": [1] * 18, "rest_dim": 27, "latent_dim": 45, "mu": 0.0}
    expected |= {
        "unlabeled_term": "sampled",
        "weight_constant": "z_c",
        "bounded_weight": False,
        "image_shape": (64, 64, 3),
        "kl": "closed_form",
    }
    assert {name: getattr(model, name) for name in expected} == expected
    assert isinstance(model.likelihood, Laplace)
    np.testing.assert_allclose(model.optimizer.learning_rate, 2e-4)
    priors = np.stack(model.class_priors)
    np.testing.assert_allclose(priors.sum(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(priors[:, 1], run.sets.train.labels[run.sets.split].mean(axis=0), rtol=1e-6)
    other = call(*args, "--learning-rate", "1e-4", "--output-dir", "other", train=lambda run: None).calls[0].model
    np.testing.assert_allclose(other.optimizer.learning_rate, 1e-4)


def test_the_settings_are_the_papers(modules):
    script, own = modules.script, modules.script.PAPER
    given = dict.fromkeys(("labeled_batch_size", "batch_size", "steps_per_epoch", "labels", "labeled_indices"))
    size, found = 162_770 - own["validation"], []
    for fraction in (0.004, 0.06, 0.2):
        args = SimpleNamespace(**given, fraction=fraction)
        labels = script.fashion_mnist_revae.labels_of_share(args, size)
        script.fashion_mnist_revae.take_turns(args, own, size, labels)
        found.append((labels, args.rhythm, args.steps_per_epoch))
    assert found == [(611, [4, 761], 765), (9166, [46, 719], 765), (30554, [153, 612], 765)]
    assert (script.LABELS, own["steps_per_epoch"], own["epochs"]) == (611, 765, 100)


def test_an_intervention_on_a_label_that_the_classifier_reads_alone_changes_it_alone(modules):
    script = modules.script

    class Switches:
        """A model whose images are the probabilities themselves; an intervention sets one of them."""

        def intervene(self, images, label, value, seed):
            changed = images.copy()
            changed[:, label] = 0.25 + 0.5 * value
            return changed

        def classify(self, images):
            return np.stack([1 - images, images], axis=-1).reshape(len(images), -1)

    images = np.random.default_rng(0).uniform(size=(5, 18))
    np.testing.assert_allclose(script.effects(Switches(), images), 0.5 * np.eye(18), atol=1e-12)
    assert script.draw_effects(np.eye(18)).axes[0].get_title().endswith("condition number 1.0")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (["--labels", "0"], "there must be some of each"),
        (["--labels", "26"], "there must be some of each"),
        (["--validation", "30"], "there must be some of each"),
        (["--labels", "2"], r"--labels is 2, and with --seed = 1 none of these images has the .* \""),
        (["--fraction", "0.5"], "--fraction sets the number of labelled images, as do --labels"),
        (["--learning-rate", "0"], r"--learning-rate is 0\.0; it must be finite and above 0"),
        (["--labeled-indices", "file"], "--labeled-indices is not for CelebA"),
    ],
)
def test_mistakes_are_sentences(refused, args, given, match):
    refused(*args, *given, match=match)


def test_where_inception_cannot_be_had_a_sentence_comes_before_the_training(refused, args, monkeypatch):
    def unavailable():
        raise evaluation.ClassifierUnavailableError("The weights of InceptionV3 are not there.")

    monkeypatch.setattr(evaluation, "load_classifier", unavailable)
    refused(*args, "--fid", match=r"error: The weights of InceptionV3 are not there\.")


def test_help_explains_its_flags_and_what_it_was_tested_on(explained):
    described, options = explained
    assert "CelebA itself was not available, so nothing here was compared with the paper's figures" in described
    for name in ("labels", "fraction", "learning-rate", "fid", "data-dir", "validation"):
        assert "default" in options[name]
    assert "labeled-indices" not in options
