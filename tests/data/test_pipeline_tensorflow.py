"""What the batches are on TensorFlow alone; test_pipeline.py has what they are everywhere."""

import keras
import numpy as np
import pytest

from keras_ssvae import data
from keras_ssvae.data import augment

if keras.backend.backend() != "tensorflow":
    pytest.skip("tf.data belongs to the TensorFlow backend", allow_module_level=True)

import tensorflow as tf

from keras_ssvae.data import tensorflow as backend

NAMES = ("labeled", "unlabeled", "labeled_augmented", "unlabeled_augmented")
LABELS = np.arange(100) % 10
UNLABELED = np.random.default_rng(0).integers(0, 256, (1000, 8, 8, 1), np.uint8)
LABELED = UNLABELED[:100], LABELS
FLOATS = data.scale(UNLABELED)


def as_dataset(source):
    return tf.data.Dataset.from_tensor_slices(source)


def make(labeled=LABELED, unlabeled=UNLABELED, **arguments):
    settings = {"num_classes": 10, "steps_per_epoch": 8, "seed": 1, "augment": augment.random_crop}
    return data.semi_supervised(labeled, unlabeled, **(settings | arguments))


def take(count, *sources, **arguments):
    return list(make(*sources, **arguments).take(count).as_numpy_iterator())


def rows(images):
    """The images as a set, whatever their order."""
    return {image.tobytes() for image in images}


def test_the_shapes_are_known_when_the_graph_is_built():
    for sources in ((LABELED, UNLABELED), (as_dataset(LABELED), as_dataset(UNLABELED))):
        spec, label_spec = make(*sources).element_spec
        assert set(spec) == set(NAMES)
        assert all(each.shape[1:] == (8, 8, 1) and each.dtype == tf.float32 for each in spec.values())
        assert spec["unlabeled"].shape[0] == spec["unlabeled_augmented"].shape[0] == 96
        assert label_spec.shape == (None, 10)


@pytest.mark.parametrize("start_step", [1, 5, 8, 13])
def test_a_resumed_pipeline_of_datasets_continues_as_if_never_interrupted(start_step):
    sources = as_dataset(LABELED), as_dataset(UNLABELED)
    whole, rest = take(20, *sources)[start_step:], take(20 - start_step, *sources, start_step=start_step)
    for (x, y), (other_x, other_y) in zip(whole, rest, strict=True):
        for name in NAMES:
            np.testing.assert_array_equal(x[name], other_x[name])
        np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize("datasets", [("labeled",), ("unlabeled",), ("labeled", "unlabeled")])
def test_datasets_are_used_up_like_arrays_in_another_order(datasets):
    labeled = as_dataset(LABELED) if "labeled" in datasets else LABELED
    unlabeled = as_dataset(UNLABELED[:384]) if "unlabeled" in datasets else UNLABELED[:384]
    batches = take(4, labeled, unlabeled, steps_per_epoch=4)
    assert [len(y) for _, y in batches] == [32, 32, 32, 4]
    for name, images in (("labeled", FLOATS[:100]), ("unlabeled", FLOATS[:384])):
        assert rows(np.concatenate([x[name] for x, _ in batches])) == rows(images)
    arrays = take(4, LABELED, UNLABELED[:384], steps_per_epoch=4)
    for name in ("labeled", "unlabeled"):
        same = all(np.array_equal(x[name], other[name]) for (x, _), (other, _) in zip(batches, arrays, strict=True))
        assert same == (name not in datasets)


def test_a_small_shuffle_buffer_keeps_images_near_their_place():
    [(x, _)] = take(1, LABELED, as_dataset(UNLABELED), shuffle_buffer=4, unlabeled_batch_size=32)
    assert rows(x["unlabeled"]) <= rows(FLOATS[:36])


def test_a_set_that_does_not_fit_is_shuffled_in_a_window_of_a_gigabyte(monkeypatch):
    source = as_dataset(UNLABELED)
    assert backend._shuffle_buffer(source) == len(UNLABELED)
    large = tf.data.Dataset.range(10**6).map(lambda i: tf.zeros((256, 256, 3), tf.uint8))
    assert backend._shuffle_buffer(large) == 2**30 // (256 * 256 * 3)
    monkeypatch.setattr(backend, "_SHUFFLE_BYTES", 4 * 8 * 8)
    [(x, _)] = take(1, LABELED, source, unlabeled_batch_size=32)
    assert rows(x["unlabeled"]) <= rows(FLOATS[:36])


def test_a_far_start_step_reads_one_pass_of_a_dataset_at_most():
    reads = []

    def record(image):
        reads.append(1)
        return image

    counted = as_dataset(UNLABELED).map(
        lambda image: tf.ensure_shape(tf.numpy_function(record, [image], tf.uint8), (8, 8, 1))
    )
    take(1, LABELED, counted, start_step=8 * 10**9)
    assert len(reads) <= 1 + 1000


def test_scale_works_inside_graphs():
    levels = np.arange(256, dtype=np.uint8)
    np.testing.assert_allclose(tf.function(data.scale)(tf.constant(levels)), data.scale(levels), atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"unlabeled": as_dataset((UNLABELED, LABELS.repeat(10)))}, r"`\.map\(lambda image, label: image\)`"),
        ({"unlabeled": as_dataset(UNLABELED).batch(10)}, r"`unlabeled` is a Dataset of batches.*use `\.unbatch\(\)`"),
        ({"unlabeled": as_dataset(UNLABELED).repeat()}, r"`unlabeled` is an infinite Dataset.*drop `\.repeat\(\)`"),
        ({"unlabeled": as_dataset(UNLABELED).filter(lambda _: True)}, "`unlabeled` is a Dataset of unknown size"),
        ({"unlabeled": as_dataset(UNLABELED).take(0)}, "`unlabeled` is an empty Dataset"),
        ({"unlabeled": as_dataset({"image": UNLABELED})}, "`unlabeled` is a Dataset of .*It must be a Dataset"),
        ({"unlabeled": as_dataset(FLOATS * 127)}, "`unlabeled` has pixels from -123"),
        ({"unlabeled": as_dataset(UNLABELED.astype(int))}, "`unlabeled` is "),
        ({"labeled": as_dataset(LABELED[0])}, r"It must be a Dataset of pairs \(image, integer label\)"),
        ({"labeled": as_dataset((LABELED[0], np.eye(10)[LABELS]))}, r"`labeled\[1\]` has shape .*argmax"),
        ({"labeled": as_dataset((LABELED[0], LABELS + 10))}, r"`labeled\[1\]` run from 1\d to 1\d; with 10 classes"),
    ],
)
def test_a_wrong_dataset_is_named_in_a_sentence_before_any_training(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        make(**arguments)


def test_what_is_no_strategy_is_refused():
    with pytest.raises(ValueError, match=r"`strategy` is None; it must be a `tf\.distribute\.Strategy`"):
        data.distribute(tf.data.Dataset.range(2), None)


def from_third_batch(good, bad):
    """Elements of a dataset: the first 64 good ones, then bad ones."""
    return np.concatenate([good[:64], bad[64:]])


@pytest.mark.parametrize(
    ("sources", "sentence"),
    [
        (
            (as_dataset((LABELED[0], from_third_batch(LABELS, LABELS + 1))), UNLABELED),
            r"`labeled\[1\]` run .* 10",
        ),
        (
            (as_dataset((from_third_batch(FLOATS[:100], 200 * FLOATS[:100]), LABELS)), UNLABELED),
            r"`labeled\[0\]` has",
        ),
        ((LABELED, as_dataset(from_third_batch(FLOATS, np.nan * FLOATS))), "`unlabeled` holds NaN or infinite pixels"),
        ((LABELED, as_dataset((UNLABELED / 255).astype("float32"))), "`unlabeled` has pixels .* none below 0"),
        ((as_dataset(((UNLABELED[:100] > 9).astype("uint8"), LABELS)), UNLABELED), r"`labeled\[0\]` is uint8 of noth"),
    ],
)
def test_every_element_of_a_dataset_is_checked(sources, sentence):
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        take(4, *sources, shuffle=False)


def test_a_column_of_labels_is_taken():
    columns = as_dataset((LABELED[0], LABELS[:, None].astype("uint8")))
    for (_, y), (_, expected) in zip(take(3, columns), take(3, as_dataset(LABELED)), strict=True):
        np.testing.assert_array_equal(y, expected)


def test_images_that_an_augmentation_takes_far_out_of_range_are_refused():
    for wrong in (lambda images, seed: 127.5 * (images + 1), lambda images, seed: images / 0.0):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"`augmented images` has pixels from .* or near it"):
            take(1, augment=wrong)


def test_an_augmentation_that_returns_images_from_0_to_1_is_refused():
    wrong = r"has pixels from 0 to 1, and from -1 before the augmentation; it must be floats in \[-1, 1\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=wrong):
        take(1, augment=lambda images, seed: (images + 1) / 2)
    blank = np.zeros((1000, 8, 8, 1), np.uint8)
    [(x, _)] = take(1, unlabeled=blank, augment=lambda images, seed: -images)
    assert x["unlabeled_augmented"].min() == 1


def test_an_augmentation_may_leave_out_all_dark_pixels_of_one_image_and_of_a_later_batch():
    def bright(images, seed):
        return (images + 1) / 2

    [(x, _)] = take(1, unlabeled_batch_size=1, labeled_batch_size=1, augment=bright)
    assert x["unlabeled_augmented"].min() >= 0 > x["unlabeled"].min()
    [(x, _)] = take(1, start_step=3, augment=bright)
    assert x["unlabeled_augmented"].min() >= 0 > x["unlabeled"].min()


def test_an_augmentation_that_gives_bytes_is_refused_in_a_sentence():
    batches = make(augment=lambda images, seed: keras.ops.cast(127.5 * images + 127.5, "uint8"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`augmented images` has pixels from 0 to 255; it must be"):
        next(iter(batches))


def test_a_set_of_single_images_is_no_set_of_batches():
    from keras_ssvae.models.checked_data import checked_dataset

    with pytest.raises(ValueError, match=r"`x` is a Dataset of single images of shape \(8, 8, 1\).*`\.batch\(32\)`"):
        checked_dataset(as_dataset(FLOATS), lambda batch, first: None)
