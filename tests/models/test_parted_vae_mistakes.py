"""Mistakes that only PartedVAE knows, each a sentence that names the argument, before any training."""

import re

import numpy as np
import pytest
from keras import ops

from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import Adam


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_classes": 1}, "`num_classes` is (1,); it must be made of integers of at least 2."),
        ({"num_classes": ()}, "`num_classes` is (); it must be an integer of at least 1, or a sequence of such."),
        ({"num_classes": 3.0}, "`num_classes` is 3.0; it must be an integer"),
        ({"num_classes": (3, 2.5)}, "`num_classes` is (3, 2.5); it must be an integer of at least 1, or a sequence"),
        ({"u_dims": 0}, "`u_dims` is (0,); it must be made of integers of at least 1."),
        ({"u_dims": 1.5}, "`u_dims` is (1.5,); it must be made of integers"),
        ({"z_dim": 0}, "`z_dim` is (0,); it must be made of integers of at least 1."),
        ({"capacity_steps": 0}, "`capacity_steps` is (0,); it must be made of integers of at least 1."),
        ({"slope_steps": 2e3}, "`slope_steps` is (2000.0,); it must be made of integers of at least 1."),
        ({"num_classes": (3, 2)}, "`u_dims` is (2,); it must have one entry for each label of `num_classes`, (3, 2)."),
        ({"pixel_loss": "l2"}, """`pixel_loss` is 'l2'; it must be "cross_entropy" or "absolute_error"."""),
        ({"class_priors": [(0.5, 0.5)]}, "`class_priors` is [[0.5, 0.5]]; it must be one list for each label"),
        ({"class_priors": (0.3, 0.3, 0.4)}, "`class_priors` is [0.3, 0.3, 0.4]; it must be one list for each label"),
        ({"class_priors": [(0.5, 0.5, 0.5)]}, "whose sum is 1. The labels have (3,) values."),
        ({"class_priors": [(0.5, 0.5, 0.0)]}, "it must be one list for each label"),
        ({"class_priors": [(0.5, 0.5, float("nan"))]}, "it must be one list for each label"),
        ({"gamma_z": -1.0}, "`gamma_z` is -1.0; it must be a finite number, 0 or more."),
        ({"capacity_u": float("inf")}, "`capacity_u` is inf; it must be a finite number, 0 or more."),
        ({"tolerance": "much"}, "`tolerance` is 'much'; it must be a finite number, 0 or more."),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(make_parted, arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_parted(**arguments)


# Compilation


@pytest.mark.parametrize("optimizer", [Adam(), "adam"])
def test_one_optimizer_for_both_steps_is_refused(make_parted, optimizer):
    what = "a step of PartedVAE has two parts with an optimizer each"
    advice = r'it must be a `GroupedOptimizer\(\{"supervised": ..., "main": ...\}\)`'
    with pytest.raises(ValueError, match=f"`optimizer` is .*; {what}, so {advice}"):
        make_parted().compile(optimizer)


# Batches


@pytest.fixture
def check(make_parted, parted_batch):
    """Checks a good batch with some parts replaced or, where they are None, left out."""
    model = make_parted()
    good = parted_batch(model)

    def check(**changes):
        parts = {name: part for name, part in {**good, **changes}.items() if part is not None}
        labels = parts.pop("labels", None)
        model.check_batch(parts, labels)

    check()
    return check


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": None}, "A training batch has the images ['labeled', 'unlabeled'] and no labels; it must be"),
        (
            {"labeled": None},
            "A training batch has the images ['unlabeled'] and labels; it must be unlabeled images, or",
        ),
        (dict.fromkeys(("labeled", "unlabeled", "labels")), "A training batch has the images [] and no labels"),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(check, changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check(**changes)


def test_images_with_labels_for_training_are_refused_before_the_first_step(make_parted, compile_parted, images):
    sentence = r"must say which of its images have them.*`data.semi_supervised\(\(x, y\), unlabeled"
    with pytest.raises(ValueError, match=sentence):
        compile_parted(make_parted()).fit(images, np.eye(3, dtype="float32")[[0] * 7], verbose=0)


def test_the_defaults_are_the_papers_for_mnist():
    model = PartedVAE()
    assert (model.image_shape, model.num_classes, model.z_dim, model.latent_dim) == ((32, 32, 1), 10, 6, 16)
    assert [prior.means.shape for prior in model.u_priors] == [(10, 10)]
    np.testing.assert_allclose(model.class_priors, np.full((1, 10), 0.1))
    assert ops.convert_to_numpy(model.classify(np.zeros((2, 32, 32, 1), "float32"))).shape == (2, 10)
