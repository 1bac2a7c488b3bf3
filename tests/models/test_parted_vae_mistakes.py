"""A mistake is a sentence that names the argument, before any training."""

import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssvae.models import PartedVAE
from keras_ssvae.optimizers import Adam, GroupedOptimizer


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
        ({"num_classes": (3, 2)}, "`u_dims` is (2,); each of `num_classes`, (3, 2), has its own u."),
        ({"pixel_loss": "l2"}, """`pixel_loss` is 'l2'; it must be "cross_entropy" or "absolute_error"."""),
        ({"class_priors": [(0.5, 0.5)]}, "`class_priors` is [[0.5, 0.5]]; it must be for each label a list"),
        ({"class_priors": (0.3, 0.3, 0.4)}, "`class_priors` is [0.3, 0.3, 0.4]; it must be for each label a list"),
        ({"class_priors": [(0.5, 0.5, 0.5)]}, "whose sum is 1: of (3,) values."),
        ({"class_priors": [(0.5, 0.5, 0.0)]}, "it must be for each label a list"),
        ({"class_priors": [(0.5, 0.5, float("nan"))]}, "it must be for each label a list"),
        ({"gamma_z": -1.0}, "`gamma_z` is -1.0; it must be a finite number, 0 or more."),
        ({"capacity_u": float("inf")}, "`capacity_u` is inf; it must be a finite number, 0 or more."),
        ({"tolerance": "much"}, "`tolerance` is 'much'; it must be a finite number, 0 or more."),
    ],
)
def test_an_argument_that_cannot_be_is_refused_by_name(make_parted, arguments, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        make_parted(**arguments)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("decoder", {"latent_dim": 3}, "(None, 3) to (None, 8, 8, 3); with images (8, 8, 3) and 2 dimensions of z and"),
        ("decoder", {"latent_dim": 4, "image_shape": (8, 8, 1)}, "it must map (None, 4) to (None, 8, 8, 3). Change"),
        ("encoder", {}, "to (None, 'features'). Change one of them."),  # that of EXoN, with two outputs
    ],
)
def test_a_network_of_the_wrong_shape_is_refused_by_name(make_parted, networks, name, arguments, sentence):
    with pytest.raises(ValueError, match=f"`{name}` maps .*{re.escape(sentence)}"):
        make_parted(**{name: networks[name](**arguments)})


def test_an_encoder_whose_features_are_images_is_refused(make_parted):
    encoder = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3)])
    with pytest.raises(ValueError, match=re.escape("`encoder` maps (None, 8, 8, 3) to (None, 6, 6, 4); ")):
        make_parted(encoder=encoder)


@pytest.mark.parametrize("name", ["encoder", "decoder"])
def test_a_network_without_a_known_input_is_refused_by_name(make_parted, name):
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match=f"`{name}` takes None; it must be a built functional"):
        make_parted(**{name: Subclassed()})


# Compilation


@pytest.mark.parametrize("optimizer", [Adam(), "adam"])
def test_one_optimizer_for_both_steps_is_refused(make_parted, optimizer):
    sentence = r'a step of PartedVAE is two, so it must be a `GroupedOptimizer\(\{"supervised": ..., "main": ...\}\)`'
    with pytest.raises(ValueError, match=f"`optimizer` is .*; {sentence}"):
        make_parted().compile(optimizer)


def test_groups_of_the_optimizer_must_be_the_models(make_parted):
    with pytest.raises(ValueError, match=r"\['autoencoder', 'classifier'\].*\['main', 'supervised'\]"):
        make_parted().compile(GroupedOptimizer({"autoencoder": Adam(), "classifier": Adam()}))


def test_compile_refuses_what_it_would_ignore(make_parted):
    optimizer = GroupedOptimizer({"supervised": Adam(), "main": Adam()})
    with pytest.raises(ValueError, match=r"`compile` was given \['loss'\]; this model has its own loss"):
        make_parted().compile(optimizer, loss="mse")
    images = keras.Input((8, 8, 3))
    h = keras.layers.Dense(8, kernel_regularizer="l2")(keras.layers.Flatten()(images))
    with pytest.raises(ValueError, match="A network has a regulariser, which the objective does not hold"):
        make_parted(encoder=keras.Model(images, h)).compile(optimizer)


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


IMAGES = np.zeros((6, 8, 8, 3), "float32")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": None}, "A training batch has the images ['labeled', 'unlabeled'] and no labels; it must be"),
        (
            {"labeled": None},
            "A training batch has the images ['unlabeled'] and labels; it must be unlabeled images, or",
        ),
        (dict.fromkeys(("labeled", "unlabeled", "labels")), "A training batch has the images [] and no labels"),
        ({"unlabeled": IMAGES.astype("uint8")}, "`x['unlabeled']` is uint8 of shape (6, 8, 8, 3); it must be float32"),
        ({"labeled": IMAGES[..., :1]}, "`x['labeled']` is float32 of shape (6, 8, 8, 1); it must be float32 images"),
        ({"labels": np.zeros(4, "int32")}, "`y` of a training batch is int32 of shape (4,); it must be one-hot"),
        ({"labels": np.zeros((4, 5), "float32")}, "is float32 of shape (4, 5); it must be one-hot float32 labels"),
        ({"labels": np.zeros((3, 3), "float32")}, "`y` has 3 rows for 4 labelled images; there must be one for each."),
    ],
)
def test_a_batch_that_does_not_fit_is_refused(check, changes, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        check(**changes)


def test_labels_of_several_are_one_hot_side_by_side(make_parted, parted_batch):
    model = make_parted(several=True)
    batch = parted_batch(model)
    labels = batch.pop("labels")
    model.check_batch(batch, labels)
    with pytest.raises(
        ValueError, match=re.escape("it must be one-hot float32 labels of the labelled images, (None, 5)")
    ):
        model.check_batch(batch, labels[:, :3])


def test_images_with_labels_for_training_are_refused_before_the_first_step(make_parted, compile_parted, images):
    with pytest.raises(ValueError, match=r"the images \['unlabeled'\] and labels; .*`data.semi_supervised` makes"):
        compile_parted(make_parted()).fit(images, np.eye(3, dtype="float32")[[0] * 7], verbose=0)
    with pytest.raises(ValueError, match=r"`x` is uint8 .*`data.scale` converts"):
        compile_parted(make_parted()).evaluate(images.astype("uint8"), np.zeros(7), verbose=0)


# Verbs


@pytest.mark.parametrize("labels", [[[0, 1, 0]], [1.7], [-1], [3]])
def test_generate_refuses_what_is_no_list_of_classes(make_parted, labels):
    with pytest.raises(ValueError, match=r"`labels` (has .*it must be one integer|run .*they must be 0 to 2)"):
        make_parted().generate(labels, seed=1)


@pytest.mark.parametrize("labels", [[0, 1], [[0, 1, 0]], [[0.5, 1.0]], [[0, -1]], [[0, 2]], [[3, 0]]])
def test_generate_refuses_what_is_no_list_of_two_classes_for_each_image(make_parted, labels):
    model = make_parted(several=True)
    with pytest.raises(
        ValueError, match=r"`labels` (has .*it must be a row of 2 integers|run .*they must be 0 to .2, 1.)"
    ):
        model.generate(labels, seed=1)
    assert model.generate([[2, 1]], seed=1).shape == (1, 8, 8, 3)


def test_interpolation_needs_two_points(make_parted, images):
    with pytest.raises(ValueError, match="`n` is 1; a line has two ends"):
        make_parted().interpolate(images[:1], images[1:2], n=1)


def test_the_defaults_are_the_papers_for_mnist():
    model = PartedVAE()
    assert (model.image_shape, model.num_classes, model.z_dim, model.latent_dim) == ((32, 32, 1), 10, 6, 16)
    assert [prior.means.shape for prior in model.u_priors] == [(10, 10)]
    np.testing.assert_allclose(model.class_priors, np.full((1, 10), 0.1))
    assert ops.convert_to_numpy(model.classify(np.zeros((2, 32, 32, 1), "float32"))).shape == (2, 10)
