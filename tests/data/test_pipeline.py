import itertools

import keras
import numpy as np
import pytest
from keras import ops, tree

from keras_ssvae import data
from keras_ssvae.data import augment

NAMES = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")


def coded_images(numbers):
    """8x8 images whose first two pixels are their number, so that a batch tells which images it holds."""
    numbers = np.asarray(numbers)
    images = np.zeros((len(numbers), 8, 8, 1), np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = numbers // 256, numbers % 256
    return images


def numbers_of(images):
    pixels = np.rint(images * 127.5 + 127.5).astype(int)
    return pixels[:, 0, 0, 0] * 256 + pixels[:, 0, 1, 0]


LABELS = np.arange(100) % 10
LABELED = (coded_images(range(100)), LABELS)
UNLABELED = coded_images(range(1000))


def make(labeled=LABELED, unlabeled=UNLABELED, **arguments):
    settings = {"num_classes": 10, "steps_per_epoch": 8, "seed": 1, "augment": augment.random_crop}
    return data.semi_supervised(labeled, unlabeled, **(settings | arguments))


def first(count, batches):
    return [tree.map_structure(ops.convert_to_numpy, batch) for batch in itertools.islice(batches, count)]


def take(count, *sources, **arguments):
    return first(count, make(*sources, **arguments))


def assert_same(batches, others):
    assert len(batches) == len(others) > 0
    for (x, y), (other_x, other_y) in zip(batches, others, strict=True):
        assert set(x) == set(other_x) == set(NAMES)
        for name in NAMES:
            np.testing.assert_array_equal(x[name], other_x[name])
        np.testing.assert_array_equal(y, other_y)


def test_a_batch_has_the_promised_names_shapes_types_and_range():
    [(x, y)] = take(1)
    assert {name: len(images) for name, images in x.items()} == dict(zip(NAMES, (32, 96, 32, 96), strict=True))
    assert all(images.shape[1:] == (8, 8, 1) and images.dtype == np.float32 for images in x.values())
    assert (y.shape, y.dtype) == ((32, 10), np.float32)
    assert all(images.min() >= -1 and images.max() <= 1 for images in x.values())


def test_one_hot_labels_belong_to_their_images():
    for x, y in take(8):
        np.testing.assert_array_equal(y, np.eye(10)[numbers_of(x["labeled"]) % 10])


def test_the_last_short_labelled_batch_is_kept_and_every_pass_uses_every_image_once():
    batches = take(8)
    assert [len(y) for _, y in batches] == [32, 32, 32, 4] * 2
    passes = [np.concatenate([numbers_of(x["labeled"]) for x, _ in batches[i : i + 4]]) for i in (0, 4)]
    for order in passes:
        np.testing.assert_array_equal(np.sort(order), np.arange(100))
    assert not np.array_equal(*passes)


def test_unlabelled_batches_are_full_and_without_repetition_in_an_epoch():
    batches = take(16)
    epochs = [np.concatenate([numbers_of(x["unlabeled"]) for x, _ in batches[i : i + 8]]) for i in (0, 8)]
    for epoch in epochs:
        assert len(np.unique(epoch)) == 8 * 96
    assert not np.array_equal(*epochs)
    assert set(epochs[0]) != set(epochs[1])


def test_a_small_unlabelled_set_is_repeated_within_the_epoch_in_new_orders():
    batches = take(8, LABELED, UNLABELED[:150], unlabeled_batch_size=75)
    passes = [np.concatenate([numbers_of(x["unlabeled"]) for x, _ in batches[i : i + 2]]) for i in (0, 2, 4, 6)]
    for order in passes:
        np.testing.assert_array_equal(np.sort(order), np.arange(150))
    assert len({tuple(order) for order in passes}) == 4
    assert [len(x["unlabeled"]) for x, _ in take(3, LABELED, UNLABELED[:10])] == [96] * 3


@pytest.mark.parametrize("start_step", [1, 5, 8, 13])
def test_a_resumed_pipeline_continues_as_if_never_interrupted(start_step):
    assert_same(take(20)[start_step:], take(20 - start_step, start_step=start_step))


def test_a_step_of_the_far_future_costs_nothing():
    [(x, _)] = take(1, start_step=8 * 10**9)
    [(next_x, _)] = take(1, start_step=8 * 10**9 + 1)
    assert not set(numbers_of(x["unlabeled"])) & set(numbers_of(next_x["unlabeled"]))


def test_the_seed_alone_decides_whatever_the_global_seed():
    keras.utils.set_random_seed(1)
    batches = take(10, seed=2**40)
    keras.utils.set_random_seed(2)
    assert_same(batches, take(10, seed=2**40))
    other = take(10, seed=3)
    for name in NAMES:
        assert not np.array_equal(batches[0][0][name], other[0][0][name])


def test_integers_of_numpy_are_integers():
    sizes = {"num_classes": 10, "steps_per_epoch": 8, "seed": 1, "start_step": 3, "labeled_batch_size": 32}
    assert_same(take(3, **sizes), take(3, **{name: np.int32(value) for name, value in sizes.items()}))


def test_an_iterator_started_again_gives_the_same_batches():
    batches = make()
    assert_same(first(10, batches), first(10, batches))


def test_augmentation_on_the_device_gives_the_images_of_the_host():
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), np.uint8)
    sources = ((images[:100], LABELS), images)
    host, device = (take(5, *sources, augment=augment.mnist, augment_on=place) for place in ("host", "device"))
    for (x, _), (other, _) in zip(host, device, strict=True):
        for name in NAMES:
            np.testing.assert_allclose(x[name], other[name], rtol=0, atol=1e-5)
    assert np.abs(host[0][0]["labeled"] - host[0][0]["labeled_augmented"]).max() > 0.1


def test_every_draw_of_every_step_and_set_is_another():
    def spy(images, seed):
        drawn = [keras.random.uniform((1, 1, 1, 1), minval=-1, maxval=0, seed=seed) for _ in range(4)]
        return images * 0 + ops.tile(ops.concatenate(drawn, axis=1), (1, 2, 1, 1))

    batches = take(20, augment=spy)
    drawn = [x[f"{kind}_augmented"][0, :4, 0, 0] for x, _ in batches for kind in ("labeled", "unlabeled")]
    assert len(np.unique(drawn)) == 40 * 4


def test_without_augmentation_the_augmented_images_are_the_images():
    [(x, _)] = take(1, augment=None)
    np.testing.assert_array_equal(x["labeled"], x["labeled_augmented"])
    np.testing.assert_array_equal(x["unlabeled"], x["unlabeled_augmented"])


def test_labels_touch_nothing_but_y():
    permuted = (LABELED[0], (LABELS + 3) % 10)
    for (x, y), (other_x, other_y) in zip(take(8), take(8, permuted, UNLABELED), strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(x[name], other_x[name])
        np.testing.assert_array_equal(np.roll(y, 3, axis=1), other_y)


def test_float_images_pass_unchanged_and_uint8_images_are_scaled():
    labeled = data.scale(LABELED[0]), LABELS.astype(np.uint8)
    floats = take(3, labeled, data.scale(UNLABELED).astype(np.float64))
    for (x, y), (other, other_y) in zip(take(3), floats, strict=True):
        for name in NAMES:
            np.testing.assert_allclose(x[name], other[name], rtol=0, atol=1e-7)
        np.testing.assert_array_equal(y, other_y)


def test_the_training_set_of_a_real_run_works_end_to_end():
    digits = data.load("digits")
    parts = data.split(digits.train_labels, 100, 100, seed=1)
    labeled = digits.train_images[parts.labeled], digits.train_labels[parts.labeled]
    batches = take(12, labeled, digits.train_images[parts.unlabeled], augment=augment.mnist)
    assert [len(y) for _, y in batches[:4]] == [32, 32, 32, 4]


FLOATS = data.scale(UNLABELED)
NAN = FLOATS.copy()
NAN[3, 2, 1, 0] = np.nan


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"num_classes": 0}, "`num_classes` is 0; it must be an integer of at least 1"),
        ({"labeled_batch_size": 0}, "`labeled_batch_size` is 0"),
        ({"unlabeled_batch_size": 96.0}, "`unlabeled_batch_size` is 96.0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` is 0"),
        ({"steps_per_epoch": True}, "`steps_per_epoch` is True"),
        ({"seed": None}, "`seed` is None"),
        ({"start_step": -1}, "`start_step` is -1"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` is 0"),
        ({"augment": "mnist"}, "`augment` is 'mnist'. It must be None or a function"),
        ({"augment": keras.layers.RandomFlip()}, "`augment` is the layer 'random_flip.*It must be a function"),
        ({"augment": lambda images, seed: images[:, 1:]}, "`augment` returns images of shape"),
        ({"augment": lambda images, seed: images[0]}, r"`augment` returns images of shape \(8, 8, 1\)"),
        ({"augment_on": "gpu"}, '`augment_on` is \'gpu\'. It must be "host" or "device"'),
        ({"unlabeled": UNLABELED[..., 0]}, r"`unlabeled` is uint8 of shape \(1000, 8, 8\).*`unlabeled\[..., None\]`"),
        ({"unlabeled": UNLABELED[:0]}, r"`unlabeled` has shape \(0, 8, 8, 1\)"),
        ({"unlabeled": UNLABELED[:, 1:]}, r"`labeled` holds images of shape \(8, 8, 1\) and `unlabeled` .* \(7, "),
        ({"unlabeled": UNLABELED.astype(int)}, "`unlabeled` is int64; it must be uint8"),
        ({"unlabeled": UNLABELED.astype(float)}, "`unlabeled` has pixels from 0 to 255.*`data.scale` scales them"),
        ({"unlabeled": NAN}, "`unlabeled` holds NaN"),
        ({"unlabeled": (UNLABELED, np.zeros(1000, int))}, "`unlabeled` is a tuple of 2 parts.*without their labels"),
        ({"labeled": LABELED[0]}, r"`labeled` is a ndarray. It must be a tuple \(images, labels\)"),
        (
            {"labeled": (LABELED[0], LABELS[:99])},
            r"`labeled\[1\]` has shape \(99,\) .* each of the 100 examples",
        ),
        ({"labeled": (LABELED[0], np.eye(10)[LABELS])}, r"`labeled\[1\]` has shape .* are one-hot: `.*argmax"),
        ({"labeled": (LABELED[0], LABELS.astype(float))}, r"`labeled\[1\]` has shape .* and dtype float64"),
        ({"labeled": (LABELED[0], LABELS + 1)}, r"`labeled\[1\]` run from 1 to 10; with 10 classes"),
        ({"labeled": (LABELED[0], LABELS - 1)}, r"`labeled\[1\]` run from -1 to 8"),
        ({"labeled": (LABELED[0], LABELS % 9)}, "`labeled` holds no image of class 9"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence_before_any_training(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)


SEVERAL = np.stack([LABELS, LABELS % 3, LABELS % 2], axis=1)


def test_several_labels_are_one_hot_side_by_side():
    several = take(3, (LABELED[0], SEVERAL), num_classes=(10, 3, 2))
    for (x, y), (other_x, single) in zip(several, take(3), strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(x[name], other_x[name])
        assert (y.shape, y.dtype) == ((32, 15), np.float32)
        np.testing.assert_array_equal(y[:, :10], single)
        labels = SEVERAL[numbers_of(x["labeled"])]
        for column, block in zip(labels.T, np.split(y, [10, 13], axis=1), strict=True):
            np.testing.assert_array_equal(block, np.eye(block.shape[1])[column])


def test_without_labels_a_batch_holds_the_same_unlabelled_images():
    for batch, (x, _) in zip(take(3, None, num_classes=None), take(3), strict=True):
        (images,) = batch
        assert set(images) == {"unlabeled", "unlabeled_augmented"}
        for name, values in images.items():
            np.testing.assert_array_equal(values, x[name])


@pytest.mark.parametrize(
    ("labels", "num_classes", "sentence"),
    [
        (SEVERAL, (10, 3), r"`labeled\[1\]` has shape \(100, 3\) .* it must be a row of 2 integers"),
        (
            SEVERAL,
            (10, 2, 2),
            r"`labeled\[1\]` run from 0 to 9; .* they must be 0 to \[9, 1, 1\]",
        ),
        (SEVERAL, (10, 4, 2), r"`labeled` holds no image of class 3 by its label 1"),
        (LABELS, (10, 3), r"`labeled\[1\]` has shape \(100,\) .* it must be a row of 2 integers"),
        (SEVERAL, (), r"`num_classes` is \(\)"),
        (SEVERAL, (10, 0, 2), r"`num_classes` is \(10, 0, 2\)"),
        (LABELS, None, r"`num_classes` is None"),
    ],
)
def test_labels_that_do_not_fit_several_classes_are_a_sentence(labels, num_classes, sentence):
    with pytest.raises(ValueError, match=sentence):
        make((LABELED[0], labels), num_classes=num_classes)


def test_uneven_classes_are_a_warning():
    rows = np.flatnonzero((LABELS != 3) | (np.arange(100) == 3))
    with pytest.warns(UserWarning, match=r"`labeled\[1\]` holds 10 images of class 0 and 1 of class 3.*class_freq"):
        make((LABELED[0][rows], LABELS[rows]))


@pytest.mark.parametrize("form", [list, lambda labels: labels[:, None], lambda labels: labels.astype("uint8")])
def test_lists_columns_and_bytes_are_labels(form):
    assert_same(take(3, (LABELED[0], form(LABELS))), take(3))


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        ((LABELED, (UNLABELED / 255.0)), "`unlabeled` has pixels from 0 to 1, none below 0"),
        ((((LABELED[0] / 255.0), LABELS), UNLABELED), r"`labeled\[0\]` has pixels from 0 to .*, none below 0"),
        ((LABELED, (UNLABELED > 9).astype("uint8")), "`unlabeled` is uint8 of nothing but 0 and 1"),
        ((LABELED, (FLOATS - 127.5) / 127.5), "They look scaled twice"),
    ],
)
def test_both_sources_are_in_the_same_range(sources, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(*sources)
