import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from keras_ssvae.data import augment


def noise(*shape):
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def by_scipy(images, degrees):
    exact = images.astype(np.float64)
    return np.stack(
        [
            ndimage.rotate(image, angle, reshape=False, order=3, mode="nearest")
            for image, angle in zip(exact, degrees, strict=True)
        ]
    )


def test_rotation_equals_scipy_at_every_angle():
    degrees = np.arange(-25, 25)
    images = noise(50, 28, 28, 1)
    np.testing.assert_allclose(augment.rotate(images, degrees), by_scipy(images, degrees), rtol=0, atol=2e-6)


@pytest.mark.parametrize("shape", [(7, 9, 16, 3), (7, 50, 11, 2), (7, 5, 5, 1), (7, 32, 32, 3)])
def test_rotation_equals_scipy_for_other_sizes_and_angles(shape):
    degrees = np.array([0, 90, -180, 45, 33, -77, 5])
    images = noise(*shape)
    rotated = augment.rotate(images, degrees, low=-180, high=90)
    np.testing.assert_allclose(rotated, by_scipy(images, degrees), rtol=0, atol=2e-6)


def test_rotation_by_nothing_is_the_identity_and_by_90_degrees_turns():
    images = noise(2, 12, 12, 1)
    rotated = augment.rotate(images, [0, 90], low=0, high=90).numpy()
    np.testing.assert_allclose(rotated[0], images[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(rotated[1], np.rot90(images[1]), rtol=0, atol=2e-6)


def test_an_angle_outside_the_range_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError):
        augment.rotate(noise(1, 8, 8, 1), [25])


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_equals_padding_and_slicing_at_every_offset(channels):
    offsets = np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2)
    images = noise(81, 28, 20, channels)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=-1)
    expected = np.stack([image[y : y + 28, x : x + 20] for image, (y, x) in zip(padded, offsets, strict=True)])
    np.testing.assert_array_equal(augment.crop(images, offsets), expected)


def recover_offset(image, original):
    padded = np.pad(original, ((4, 4), (4, 4), (0, 0)), constant_values=-1)
    size = len(original)
    found = [(y, x) for y in range(9) for x in range(9) if np.array_equal(padded[y : y + size, x : x + size], image)]
    assert len(found) == 1
    return found[0]


def test_random_crops_take_every_offset_of_both_axes():
    images = noise(300, 10, 10, 1)
    cropped = augment.random_crop(images, [1, 2]).numpy()
    rows, columns = zip(*(recover_offset(*pair) for pair in zip(cropped, images, strict=True)), strict=True)
    assert set(rows) == set(columns) == set(range(9))
    assert rows != columns


def test_random_rotations_take_every_angle_from_low_to_high():
    image = noise(1, 10, 10, 1)
    possible = augment.rotate(np.repeat(image, 50, axis=0), np.arange(-25, 25)).numpy()
    rotated = augment.random_rotation(np.repeat(image, 1000, axis=0), [3, 4]).numpy()
    distance = np.abs(rotated[:, None] - possible[None]).max(axis=(2, 3, 4))
    assert distance.min(axis=1).max() < 1e-5
    assert set(distance.argmin(axis=1)) == set(range(50))


def test_mnist_is_a_rotation_and_then_a_crop_with_seeds_of_their_own():
    images = noise(6, 28, 28, 1)
    seeds = tf.random.split([5, 6], 2)
    expected = augment.random_crop(augment.random_rotation(images, seeds[0]), seeds[1])
    np.testing.assert_array_equal(augment.mnist(images, [5, 6]), expected)


def test_the_same_seed_gives_the_same_images_whatever_the_global_seed_and_the_graph():
    images = tf.constant(noise(6, 28, 28, 1))
    first = augment.mnist(images, tf.constant([5, 6], tf.int64)).numpy()
    tf.random.set_seed(99)
    again = augment.mnist(images, tf.constant([5, 6], tf.int64)).numpy()
    np.testing.assert_array_equal(first, again)
    in_graph = tf.function(augment.mnist)(images, tf.constant([5, 6], tf.int64)).numpy()
    np.testing.assert_allclose(first, in_graph, rtol=0, atol=1e-6)
    assert np.abs(first - augment.mnist(images, tf.constant([5, 7], tf.int64)).numpy()).max() > 0.1


def test_images_of_a_batch_are_augmented_differently():
    images = np.repeat(noise(1, 28, 28, 1), 8, axis=0)
    augmented = augment.mnist(images, [1, 1]).numpy()
    assert len(np.unique(augmented.reshape(8, -1), axis=0)) == 8
