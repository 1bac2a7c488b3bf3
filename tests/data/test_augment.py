import keras
import numpy as np
import pytest
from keras import ops
from scipy import ndimage

from keras_ssvae.data import augment
from keras_ssvae.noise import Stream

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"


def stream(counter=0):
    return Stream(5, counter)


def compiled(function):
    if ON_TENSORFLOW:
        import tensorflow as tf

        return tf.function(function)
    import jax

    return jax.jit(function)


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
    rotated = augment.rotate(images, [0, 90], low=0, high=90)
    np.testing.assert_allclose(rotated[0], images[0], rtol=0, atol=2e-6)
    np.testing.assert_allclose(rotated[1], np.rot90(images[1]), rtol=0, atol=2e-6)


@pytest.mark.parametrize("angle", [-26, 25])
def test_an_angle_outside_the_range_is_an_error_or_no_image(angle):
    if ON_TENSORFLOW:
        import tensorflow as tf

        with pytest.raises(tf.errors.InvalidArgumentError):
            augment.rotate(noise(1, 8, 8, 1), [angle])
    else:
        assert np.isnan(augment.rotate(noise(1, 8, 8, 1), [angle])).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_crop_equals_padding_and_slicing_at_every_offset(channels):
    offsets = np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2)
    images = noise(81, 28, 20, channels)
    padded = np.pad(images, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=-1)
    expected = np.stack([image[y : y + 28, x : x + 20] for image, (y, x) in zip(padded, offsets, strict=True)])
    np.testing.assert_array_equal(augment.crop(images, offsets), expected)


def test_crop_from_a_reflection_equals_padding_and_slicing_at_every_offset():
    offsets = np.stack(np.meshgrid(range(5), range(5)), axis=-1).reshape(-1, 2)
    images = noise(25, 9, 12, 3)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="reflect")
    expected = np.stack([image[y : y + 9, x : x + 12] for image, (y, x) in zip(padded, offsets, strict=True)])
    np.testing.assert_array_equal(augment.crop(images, offsets, padding=2, mode="reflect"), expected)


def test_an_unknown_border_is_an_error():
    with pytest.raises(ValueError, match=r'`mode` is \'wrap\'\. It must be "constant" or "reflect"'):
        augment.crop(noise(1, 8, 8, 1), [[0, 0]], mode="wrap")


@pytest.mark.parametrize("flipped", [[True, False, True], [1, 0, 1]])
def test_a_flip_mirrors_left_to_right_where_it_is_told(flipped):
    images = noise(3, 4, 5, 2)
    mirrored = ops.convert_to_numpy(augment.flip(images, flipped))
    np.testing.assert_array_equal(mirrored[1], images[1])
    np.testing.assert_array_equal(mirrored[[0, 2]], images[[0, 2], :, ::-1])


def recover_offset(image, original):
    padded = np.pad(original, ((4, 4), (4, 4), (0, 0)), constant_values=-1)
    size = len(original)
    found = [(y, x) for y in range(9) for x in range(9) if np.array_equal(padded[y : y + size, x : x + size], image)]
    assert len(found) == 1
    return found[0]


def test_random_crops_take_every_offset_of_both_axes():
    images = noise(300, 10, 10, 1)
    cropped = ops.convert_to_numpy(augment.random_crop(images, stream()))
    rows, columns = zip(*(recover_offset(*pair) for pair in zip(cropped, images, strict=True)), strict=True)
    assert set(rows) == set(columns) == set(range(9))
    assert rows != columns


def test_random_rotations_take_every_angle_from_low_to_high():
    image = noise(1, 10, 10, 1)
    possible = ops.convert_to_numpy(augment.rotate(np.repeat(image, 50, axis=0), np.arange(-25, 25)))
    rotated = ops.convert_to_numpy(augment.random_rotation(np.repeat(image, 1000, axis=0), stream()))
    distance = np.abs(rotated[:, None] - possible[None]).max(axis=(2, 3, 4))
    assert distance.min(axis=1).max() < 1e-5
    assert set(distance.argmin(axis=1)) == set(range(50))


def test_random_flips_are_fair():
    images = noise(1000, 2, 3, 1)
    flipped = (ops.convert_to_numpy(augment.random_flip(images, stream())) != images).any(axis=(1, 2, 3))
    assert 440 < flipped.sum() < 560  # four standard deviations


def test_mnist_is_a_rotation_and_then_a_crop_with_numbers_of_their_own():
    images = noise(6, 28, 28, 1)
    expected = augment.random_crop(augment.random_rotation(images, stream(0)), stream(1))
    np.testing.assert_array_equal(augment.mnist(images, stream()), expected)


def test_cifar10_is_a_flip_and_then_a_crop_from_a_reflection_by_2():
    images = noise(6, 32, 32, 3)
    expected = augment.random_crop(augment.random_flip(images, stream(0)), stream(1), padding=2, mode="reflect")
    np.testing.assert_array_equal(augment.cifar10(images, stream()), expected)


AUGMENTATIONS = [(augment.mnist, (28, 28, 1)), (augment.cifar10, (32, 32, 3))]


@pytest.mark.parametrize(("function", "shape"), AUGMENTATIONS)
def test_the_same_seed_gives_the_same_images_whatever_the_global_seed_and_the_compilation(function, shape):
    images = noise(6, *shape)
    first = ops.convert_to_numpy(function(images, stream()))
    keras.utils.set_random_seed(99)
    np.testing.assert_array_equal(first, function(images, stream()))
    in_graph = compiled(lambda images, counter: function(images, Stream(5, counter)))(images, 0)
    np.testing.assert_allclose(first, in_graph, rtol=0, atol=1e-6)
    assert np.abs(first - function(images, stream(2))).max() > 0.1


@pytest.mark.parametrize(("function", "shape"), AUGMENTATIONS)
def test_an_integer_and_a_generator_of_keras_are_seeds_too(function, shape):
    images = noise(6, *shape)
    np.testing.assert_array_equal(function(images, 3), function(images, 3))
    generator = keras.random.SeedGenerator(3)
    first, second = (ops.convert_to_numpy(function(images, generator)) for _ in range(2))
    assert np.abs(first - second).max() > 0.1


def test_images_of_a_batch_are_augmented_differently():
    images = np.repeat(noise(1, 28, 28, 1), 8, axis=0)
    augmented = ops.convert_to_numpy(augment.mnist(images, stream()))
    assert len(np.unique(augmented.reshape(8, -1), axis=0)) == 8
