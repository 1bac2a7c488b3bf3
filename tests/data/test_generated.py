"""Generated images in the place of labelled ones: which, how many, of which class, and again after an interruption."""

import itertools

import keras
import numpy as np
import pytest
from contract import asking, registry, small
from keras import ops, tree

from keras_ssvae import data
from keras_ssvae.noise import Stream

SHAPE = (4, 4, 1)
LABELS = np.arange(40) % 4
IMAGES = np.full((40, *SHAPE), -1.0, "float32")  # all black; no generated one is
LABELED = (IMAGES, LABELS)


class Coded:
    """Pixel 0 tells the class, pixel 1 the scale, pixel 2 is drawn, and pixel 3 is dark."""

    def generate(self, labels, seed, scale=1.0):
        labels = ops.cast(labels, "float32")
        drawn = keras.random.uniform(ops.shape(labels), seed=Stream(seed, 0))
        pixels = ops.stack([labels / 10, ops.full_like(labels, scale / 10), drawn], axis=-1)
        return ops.reshape(ops.concatenate([pixels, ops.full_like(pixels[:, :1], -0.5)] * 4, axis=-1), (-1, *SHAPE))


class Plain:
    """Without a scale, and of another shape."""

    def generate(self, labels, seed):
        return ops.zeros((ops.shape(labels)[0], 2, 2, 1))


def take(count, replace, labeled=LABELED, **arguments):
    settings = {"num_classes": 4, "labeled_batch_size": 20, "steps_per_epoch": 2, "seed": 1}
    batches = data.semi_supervised(labeled, None, replace_labeled=replace, **settings | arguments)
    return [tree.map_structure(ops.convert_to_numpy, batch) for batch in itertools.islice(batches, count)]


def images_of(batches):
    return np.stack([x["labeled"] for x, _ in batches])


def test_of_a_share_of_1_every_image_is_a_generated_one_of_its_class_and_of_the_scale():
    for x, y in take(3, data.augment_with(Coded(), 1.0, 1.5)):
        rows = x["labeled"].reshape(20, -1)
        np.testing.assert_allclose(rows[:, 0], y.argmax(axis=1) / 10, atol=1e-6)
        np.testing.assert_allclose(rows[:, 1], 0.15, atol=1e-6)
        np.testing.assert_array_equal(x["labeled_augmented"], x["labeled"])  # which is made of them


def test_of_a_share_of_0_no_image_is_and_the_order_does_not_change():
    for (x, y), (other, labels) in zip(take(3, data.augment_with(Coded(), 0)), take(3, None), strict=True):
        np.testing.assert_array_equal(x["labeled"], other["labeled"])
        np.testing.assert_array_equal(y, labels)


def test_each_image_is_replaced_with_the_probability_of_the_share():
    images = images_of(take(50, data.augment_with(Coded(), 0.4)))
    replaced = images[..., 0, 0, 0] > -1
    assert abs(replaced.mean() - 0.4) < 4 * (0.4 * 0.6 / replaced.size) ** 0.5
    assert replaced.std(axis=0).min() > 0  # none of the places always or never


def test_each_epoch_has_images_of_its_own_and_a_resumed_run_those_of_its_step():
    replace = data.augment_with(Coded(), 1.0, seed=5)
    images = images_of(take(6, replace))
    drawn = images[..., 0, 2, 0]
    assert len(np.unique(drawn)) > 0.99 * drawn.size
    np.testing.assert_array_equal(images_of(take(3, replace, start_step=3)), images[3:])
    np.testing.assert_array_equal(images_of(take(6, data.augment_with(Coded(), 1.0, seed=5))), images)
    # The order of the batches has a seed of its own.
    np.testing.assert_array_equal(images_of(take(6, replace, seed=2))[..., 0, 2, 0], drawn)
    assert np.abs(images_of(take(6, data.augment_with(Coded(), 1.0, seed=6)))[..., 0, 2, 0] - drawn).min() > 0


def test_an_image_without_a_label_stays():
    labels = np.where(LABELS == 3, -1, LABELS)
    settings = {"num_classes": 3, "allow_missing": True}
    [(x, y)] = take(1, data.augment_with(Coded(), 1.0), (IMAGES, labels), **settings)
    np.testing.assert_array_equal(x["labeled"][:, 0, 0, 0] == -1, y.sum(axis=1) == 0)


@pytest.mark.parametrize("name", ["EXoN", "REVAE, several labels", "N-VAE"])
def test_the_images_are_what_the_models_generate_and_later_training_changes_nothing(name):
    (entry,) = (entry for entry in registry.ENTRIES if entry.name == name)
    model = entry.build()
    labels = np.stack([np.arange(12) % size for size in entry.sizes], axis=-1)
    labels = labels if len(entry.sizes) > 1 else labels[:, 0]
    classes = entry.sizes if len(entry.sizes) > 1 else entry.sizes[0]
    replace = data.augment_with(model, 1.0, 1.2, seed=3)
    settings = {"num_classes": classes, "labeled_batch_size": 12, "steps_per_epoch": 1, "shuffle": False}
    batches = data.semi_supervised((small.images(12), labels), None, replace_labeled=replace, seed=1, **settings)
    stream = Stream(3, 0, "generated images")
    keras.random.uniform((12,), seed=stream)
    expected = model.generate(labels, keras.random.randint((), 0, 2**31 - 1, "int32", seed=stream), scale=1.2)
    for weights in model.weights:
        weights.assign(ops.zeros(weights.shape))
    [(x, _)] = itertools.islice(batches, 1)
    np.testing.assert_allclose(x["labeled"], expected, atol=1e-5)


@pytest.mark.parametrize(
    "entry", [entry for entry in registry.ENTRIES if entry.sizes and not entry.variant], ids=lambda entry: entry.name
)
def test_a_scale_multiplies_the_deviations_from_the_centre_of_the_class(entry):
    model = entry.build()
    labels = ops.convert_to_tensor(asking.to_generate(entry), "int32")
    centre, once, twice = (
        ops.convert_to_numpy(model.sample_latent(labels, 1, scale=scale)) for scale in (0.0, 1.0, 2.0)
    )
    np.testing.assert_allclose(twice - centre, 2 * (once - centre), atol=1e-5)
    assert np.abs(once - centre).max() > 0.1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"model": object()}, r"`model` is a object without `generate\(labels, seed\)`"),
        ({"share": 1.1}, "`share` is 1.1; it must be a probability, from 0 to 1"),
        ({"share": float("nan")}, "`share` is nan; it must be a probability"),
        ({"scale": -1.0}, "`scale` is -1.0; it must be a finite number, 0 or more"),
        ({"scale": float("inf")}, "`scale` is inf; it must be a finite number"),
        ({"model": Plain(), "scale": 1.5}, "`scale` is 1.5, but `generate` of Plain has no such argument"),
        ({"seed": -1}, "`seed` is -1"),
    ],
)
def test_a_wrong_argument_is_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        data.augment_with(**{"model": Coded(), "share": 0.4} | arguments)


@pytest.mark.parametrize("classes", [3, 5, (4, 2)])
def test_a_model_of_other_classes_is_refused(classes):
    model = Coded()
    model.num_classes = classes
    with pytest.raises(ValueError, match=r"generates images of .* classes, but `num_classes` is 4\. They must be"):
        take(1, data.augment_with(model, 0.5))


def test_images_of_another_shape_and_batches_without_labels_are_refused():
    with pytest.raises(ValueError, match=r"`model` generates images of shape \(2, 2, 1\), but the labelled ones have"):
        take(1, data.augment_with(Plain(), 0.5))
    replace = data.augment_with(Coded(), 0.5)
    with pytest.raises(ValueError, match=r"`replace_labeled` is .* It must be what `data.augment_with` makes"):
        data.semi_supervised(None, IMAGES, steps_per_epoch=1, seed=1, replace_labeled=replace)
    with pytest.raises(ValueError, match="for batches with labelled images in each step"):
        data.semi_supervised(
            LABELED, IMAGES, num_classes=4, steps_per_epoch=4, seed=1, rhythm=(1, 1), replace_labeled=replace
        )


class Gives:
    """Generates what it is told to."""

    def __init__(self, images):
        self.images = images

    def generate(self, labels, seed):
        return self.images(ops.shape(labels)[0])


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        (
            lambda n: 255.0 * keras.random.uniform((n, *SHAPE), seed=1),
            "look like pixels from 0 to 255",
        ),
        (lambda n: keras.random.uniform((n, *SHAPE), seed=1), r"looks like images in \[0, 1\]"),
        (lambda n: ops.full((n, *SHAPE), np.nan), "holds NaN"),
        (lambda n: ops.zeros((1, *SHAPE)), "gives 1 images for 8 labels; it must give one for each label"),
        (lambda n: ops.zeros((n, 4, 4)), r"it must be images of shape \(N, H, W, C\)"),
    ],
)
def test_generated_images_that_are_none_are_refused_before_the_training(images, sentence):
    with pytest.raises(ValueError, match=rf"`model\.generate\(labels, seed\)`.*{sentence}|{sentence}"):
        take(1, data.augment_with(Gives(images), 0.5))


def test_generated_bytes_are_scaled():
    [(x, _)] = take(1, data.augment_with(Gives(lambda n: ops.full((n, *SHAPE), 255, "uint8")), 1.0))
    assert (x["labeled"] == 1).all()


def test_a_model_in_place_of_what_augment_with_makes_of_it_is_a_sentence():
    with pytest.raises(ValueError, match=r"`replace_labeled` is the model .*data.augment_with\(model, share=0.4\)"):
        take(1, registry.nvae())
