"""PNG files become the images that `data` makes of the same pictures: of any size and kind, within 1 of 255."""

import io
import struct
import zlib

import keras
import numpy as np
import pytest
from PIL import Image

if keras.backend.backend() != "tensorflow":
    pytest.skip("a SavedModel is exported on the TensorFlow backend", allow_module_level=True)
tf = pytest.importorskip("tensorflow")

from keras_ssvae import data  # noqa: E402
from keras_ssvae.export import pictures  # noqa: E402

KINDS = ("L", "LA", "RGB", "RGBA", "P", "transparent P", "1", "I;16")


def drawing(width, height, seed=0):
    """Smooth in colour, with strokes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    waves = [127.5 + 127.5 * np.sin(x / (5 + i) + y / (9 - i) + i) for i in range(3)]
    pixels = np.stack(waves, axis=-1).round().astype("uint8")
    pixels[rng.random((height, width)) < 0.1] = 255
    return Image.fromarray(pixels)


def of_kind(kind, width=45, height=33):
    """A picture, and what is seen of it on black."""
    picture = drawing(width, height)
    alpha = Image.fromarray((np.mgrid[:height, :width][1] % 256).astype("uint8") * 5)
    if kind in ("LA", "RGBA"):
        picture = picture.convert(kind)
        picture.putalpha(alpha)
        black = Image.new("RGBA", picture.size, "black")
        return picture, Image.alpha_composite(black, picture.convert("RGBA")).convert("RGB")
    if kind == "transparent P":
        picture = picture.convert("P")
        seen = np.asarray(picture.convert("RGB")) * (np.asarray(picture) != 7)[..., None]
        picture.info["transparency"] = 7
        return picture, Image.fromarray(seen)
    if kind == "I;16":
        fine = np.asarray(picture.convert("L")).astype("uint16") * 257 + 100
        return Image.fromarray(fine.clip(0, 65535)), Image.fromarray(
            (fine.clip(0, 65535) / 257).round().astype("uint8")
        )
    picture = picture.convert(kind)
    return picture, picture.convert("RGB")


def png(picture, **options):
    file = io.BytesIO()
    picture.save(file, "PNG", **options)
    return file.getvalue()


def decoded(files, shape):
    program = tf.function(lambda files: pictures.decoded("image_bytes", files, shape))
    return program(tf.constant(files, tf.string)).numpy()


def resized(picture, shape):
    """As `data.ImageData.resized` does, also where a picture is no square."""
    height, width, channels = shape
    picture = picture.convert("L" if channels == 1 else "RGB")
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR)).reshape(shape)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (33, 45, 1)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_of_any_kind_is_that_of_pillow(kind, shape):
    picture, seen = of_kind(kind)
    options = {"transparency": 7} if kind == "transparent P" else {}
    (image,) = decoded([png(picture, **options)], shape)
    expected = resized(seen, shape).astype(int)
    assert image.shape == shape
    assert image.dtype == np.uint8
    # Pillow rounds between the two directions, and 16 bits and grey before.
    assert np.abs(image - expected).max() <= (2 if kind in ("LA", "RGBA", "I;16") else 1)
    assert np.abs(image - expected).mean() < 0.5
    assert expected.std() > 20


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize("transparent", [False, True])
@pytest.mark.parametrize("palette", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_pictures_of_few_bits_are_black_to_white(bits, palette, transparent):
    levels = np.arange(2**bits)
    row = np.packbits([(level >> (bits - 1 - i)) & 1 for level in levels for i in range(bits)]).tobytes()
    header = struct.pack(">IIBBBBB", len(levels), 1, bits, 3 if palette else 0, 0, 0, 0)
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    if transparent:
        chunks.insert(1, chunk(b"tRNS", bytes([255, 0]) if palette else struct.pack(">H", 1)))
    if palette:
        chunks.insert(1, chunk(b"PLTE", bytes(round(255 * level / levels[-1]) for level in levels for _ in range(3))))
    (image,) = decoded([b"\x89PNG\r\n\x1a\n" + b"".join(chunks)], (1, len(levels), 1))
    expected = np.round(255 * levels / levels[-1])
    expected[1] *= not transparent
    np.testing.assert_array_equal(image[0, :, 0], expected)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (28, 28), (14, 14), (300, 200), (29, 3), (2048, 2048)])
def test_a_picture_of_any_size_is_resized_as_in_training(width, height):
    picture = drawing(width, height).convert("L")
    (image,) = decoded([png(picture)], (28, 28, 1))
    assert np.abs(image - resized(picture, (28, 28, 1)).astype(int)).max() <= 1


def test_images_of_the_models_own_size_are_kept_to_the_bit():
    images = np.random.default_rng(1).integers(0, 256, (5, 28, 28, 1), "uint8")
    files = [png(Image.fromarray(image[..., 0])) for image in images]
    np.testing.assert_array_equal(decoded(files, (28, 28, 1)), images)


def test_resized_squares_are_those_of_the_data():
    images = np.stack([np.asarray(drawing(28, 28, seed).convert("L")) for seed in range(4)])[..., None]
    expected = data.ImageData("x", images, np.zeros(4, int), images, np.zeros(4, int), ("a",)).resized(32).train_images
    given = decoded([png(Image.fromarray(image[..., 0])) for image in images], (32, 32, 1))
    assert np.abs(given - expected.astype(int)).max() <= 1


def test_a_picture_that_is_too_large_is_refused_before_it_is_decoded():
    small, large = png(Image.new("L", (8, 8))), png(Image.new("1", (2049, 2048)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="is a picture of 2049 x 2048 pixels in row 1"):
        decoded([small, large], (8, 8, 1))
