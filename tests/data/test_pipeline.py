import itertools

import numpy as np
import pytest
import tensorflow as tf

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


def take(count, *sources, **arguments):
    return list(make(*sources, **arguments).take(count).as_numpy_iterator())


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for (x, y), (other_x, other_y) in zip(first, second, strict=True):
        assert set(x) == set(other_x) == set(NAMES)
        for name in NAMES:
            np.testing.assert_array_equal(x[name], other_x[name])
        np.testing.assert_array_equal(y, other_y)


def as_dataset(source):
    return tf.data.Dataset.from_tensor_slices(source)


def test_a_batch_has_the_promised_names_shapes_types_and_range():
    spec, label_spec = make().element_spec
    assert set(spec) == set(NAMES)
    assert all(each.shape[1:] == (8, 8, 1) and each.dtype == tf.float32 for each in spec.values())
    assert label_spec.shape == (None, 10)
    [(x, y)] = take(1)
    assert {name: len(images) for name, images in x.items()} == dict(zip(NAMES, (32, 96, 32, 96), strict=True))
    assert y.dtype == np.float32
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


@pytest.mark.parametrize("kind", ["arrays", "datasets"])
@pytest.mark.parametrize("start_step", [1, 5, 8, 13])
def test_a_resumed_pipeline_continues_as_if_never_interrupted(kind, start_step):
    sources = (LABELED, UNLABELED) if kind == "arrays" else (as_dataset(LABELED), as_dataset(UNLABELED))
    assert_same(take(20, *sources)[start_step:], take(20 - start_step, *sources, start_step=start_step))


def test_a_far_start_step_costs_nothing():
    reads = []

    def record(image):
        reads.append(1)
        return image

    counted = as_dataset(UNLABELED).map(
        lambda image: tf.ensure_shape(tf.numpy_function(record, [image], tf.uint8), (8, 8, 1))
    )
    take(1, LABELED, counted, start_step=8 * 10**9)
    assert len(reads) <= 1 + 1000


def test_datasets_and_arrays_give_the_same_batches():
    assert_same(take(10), take(10, as_dataset(LABELED), as_dataset(UNLABELED)))


def test_the_seed_alone_decides_whatever_the_global_seed():
    tf.random.set_seed(1)
    first = take(10, seed=2**40)
    tf.random.set_seed(2)
    assert_same(first, take(10, seed=2**40))
    other = take(10, seed=3)
    assert not np.array_equal(first[0][0]["unlabeled"], other[0][0]["unlabeled"])
    assert not np.array_equal(first[0][0]["labeled"], other[0][0]["labeled"])


def test_an_iterator_started_again_gives_the_same_batches():
    dataset = make()
    first, again = (list(itertools.islice(dataset.as_numpy_iterator(), 10)) for _ in range(2))
    assert_same(first, again)


def test_augmentation_on_the_device_gives_the_images_of_the_host():
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28, 1), np.uint8)
    sources = ((images[:100], LABELS), images)
    host, device = (take(5, *sources, augment=augment.mnist, augment_on=place) for place in ("host", "device"))
    for (x, _), (other, _) in zip(host, device, strict=True):
        for name in NAMES:
            np.testing.assert_allclose(x[name], other[name], rtol=0, atol=1e-5)
    assert np.abs(host[0][0]["labeled"] - host[0][0]["labeled_augmented"]).max() > 0.1


def test_augmentation_seeds_differ_between_the_sets_and_the_steps():
    seeds = []

    def spy(images, seed):
        return images * 0 + tf.cast(tf.reshape(seed % 100_003, (1, 1, 2, 1)), tf.float32)[:, :, :1]

    for x, _ in take(20, augment=spy):
        seeds += [float(x["labeled_augmented"][0, 0, 0, 0]), float(x["unlabeled_augmented"][0, 0, 0, 0])]
    assert len(set(seeds)) == 2, "the first half of the seed tells the sets apart"

    def spy_step(images, seed):
        return images * 0 + tf.cast(seed[1] % 100_003, tf.float32)

    steps = [float(x["labeled_augmented"][0, 0, 0, 0]) for x, _ in take(20, augment=spy_step)]
    assert len(set(steps)) == 20


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


def test_scale_maps_the_grey_levels_onto_minus_one_to_one_in_numpy_and_in_graphs():
    levels = np.arange(256, dtype=np.uint8)
    scaled = data.scale(levels)
    assert isinstance(scaled, np.ndarray)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, np.linspace(-1, 1, 256), atol=1e-7)
    np.testing.assert_allclose(tf.function(data.scale)(tf.constant(levels)), scaled, atol=1e-7)


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
        ({"num_classes": 0}, "`num_classes` is 0. It must be an integer of at least 1"),
        ({"labeled_batch_size": 0}, "`labeled_batch_size` is 0"),
        ({"unlabeled_batch_size": 96.0}, "`unlabeled_batch_size` is 96.0"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` is 0"),
        ({"steps_per_epoch": True}, "`steps_per_epoch` is True"),
        ({"seed": None}, "`seed` is None"),
        ({"start_step": -1}, "`start_step` is -1"),
        ({"shuffle_buffer": 0}, "`shuffle_buffer` is 0"),
        ({"augment": "mnist"}, "`augment` is 'mnist'. It must be None or a function"),
        ({"augment": lambda images, seed: images[:, 1:]}, "`augment` returns images of shape"),
        ({"augment_on": "gpu"}, '`augment_on` is \'gpu\'. It must be "host" or "device"'),
        ({"unlabeled": UNLABELED[..., 0]}, r"images of `unlabeled` have shape \(1000, 8, 8\)"),
        ({"unlabeled": UNLABELED[:0]}, r"images of `unlabeled` have shape \(0, 8, 8, 1\)"),
        ({"unlabeled": UNLABELED[:, 1:]}, r"`labeled` holds images of shape \(8, 8, 1\) and `unlabeled` .* \(7, "),
        ({"unlabeled": UNLABELED.astype(int)}, "images of `unlabeled` have dtype int64. It must be uint8"),
        ({"unlabeled": UNLABELED.astype(float)}, "images of `unlabeled` have pixels from 0 to 255"),
        ({"unlabeled": NAN}, "images of `unlabeled` hold NaN"),
        ({"unlabeled": (UNLABELED, np.zeros(1000, int))}, "`unlabeled` is a tuple of 2 parts.*without their labels"),
        ({"labeled": LABELED[0]}, r"`labeled` is a ndarray. It must be a tuple \(images, labels\)"),
        ({"labeled": (LABELED[0], LABELS[:99])}, "`labeled` holds 100 images and 99 labels"),
        ({"labeled": (LABELED[0], np.eye(10)[LABELS])}, "labels of `labeled` look one-hot"),
        ({"labeled": (LABELED[0], LABELS.astype(float))}, "labels of `labeled` have rank 1 and dtype float64"),
        ({"labeled": (LABELED[0], LABELS + 1)}, "`labeled` holds the label 10. With `num_classes` = 10"),
        ({"labeled": (LABELED[0], LABELS - 1)}, "`labeled` holds the label -1"),
        ({"labeled": (LABELED[0], LABELS % 9)}, "`labeled` holds no image of class 9"),
        ({"unlabeled": as_dataset((UNLABELED, LABELS.repeat(10)))}, r"`\.map\(lambda image, label: image\)`"),
        ({"unlabeled": as_dataset(UNLABELED).batch(10)}, r"`unlabeled` is a Dataset of batches.*use `\.unbatch\(\)`"),
        ({"unlabeled": as_dataset(UNLABELED).repeat()}, r"`unlabeled` is an infinite Dataset.*drop `\.repeat\(\)`"),
        ({"unlabeled": as_dataset(UNLABELED).filter(lambda _: True)}, "`unlabeled` is a Dataset of unknown size"),
        ({"unlabeled": as_dataset(UNLABELED).take(0)}, "`unlabeled` is an empty Dataset"),
        ({"unlabeled": as_dataset({"image": UNLABELED})}, "`unlabeled` is a Dataset of .*It must be a Dataset"),
        ({"unlabeled": as_dataset(FLOATS * 127)}, "images of `unlabeled` have pixels from -127"),
        ({"unlabeled": as_dataset(UNLABELED.astype(int))}, "images of `unlabeled` have dtype"),
        ({"labeled": as_dataset(LABELED[0])}, r"It must be a Dataset of pairs \(image, integer label\)"),
        ({"labeled": as_dataset((LABELED[0], np.eye(10)[LABELS]))}, "labels of `labeled` look one-hot"),
        ({"labeled": as_dataset((LABELED[0], LABELS + 10))}, "`labeled` holds the label 10"),
    ],
)
def test_a_wrong_argument_is_named_in_a_sentence_before_any_training(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)
