"""Decoding of PNG files of any size and kind into a model's images, inside the graph of a served model."""

from collections.abc import Sequence

import tensorflow as tf

from keras_ssvae.export import guards

CHANNELS = (1, 3)  # of the images that a picture can become
_MAX_PIXELS = 2**22  # 2048 x 2048. There must be a limit, since a small file may hold a huge picture.
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = 33  # bytes: the signature, and the first chunk with width, height, bits and colour type
_GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue, as in Pillow


def blank() -> bytes:
    """The bytes of a PNG file of one black pixel."""
    return tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8)).numpy()


def decoded(name: str, files: tf.Tensor, image_shape: Sequence[int]) -> tf.Tensor:
    """Decodes PNG files `(B,)` to uint8 images `(B, H, W, C)`; an error names the input and the row."""

    def decode(each):
        row, content = each
        return _decoded(name, row, content, image_shape)

    rows = tf.range(tf.shape(files)[0])
    spec = tf.TensorSpec(tuple(image_shape), tf.uint8)
    return tf.map_fn(decode, (rows, files), fn_output_signature=spec, parallel_iterations=2)


def _decoded(name, row, content, image_shape):
    height, width, channels = image_shape
    content = _checked(name, row, content)
    # The name of the operation appears in TensorFlow's message if the file is damaged.
    pixels = tf.io.decode_png(content, channels=4, dtype=tf.uint16, name=name)
    pixels = tf.cast(pixels, tf.float32) / 257.0
    colours, alpha = pixels[..., :3], pixels[..., 3:] / _opaque(content)
    if channels == 1:
        colours = tf.tensordot(colours, tf.constant(_GREY), 1)[..., None]
    resized = tf.image.resize(colours * alpha, (height, width), antialias=True)  # on black
    return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)


def _opaque(content):
    """The alpha value of an opaque pixel. It is 255, but TensorFlow gives 1, 3 or 15 for files of 1, 2 or 4 bits."""
    bits = tf.io.decode_raw(tf.strings.substr(content, 24, 1), tf.uint8, fixed_length=1)[0]
    has_alpha = tf.strings.regex_full_match(content, r"\C*tRNS\C*")
    return tf.where(has_alpha | (bits >= 8), 255.0, 2.0 ** tf.cast(bits, tf.float32) - 1.0)


def _checked(name, row, content):
    """Returns the file if it is a complete PNG file of at most `_MAX_PIXELS` pixels; else fails."""
    starts = tf.strings.substr(content, 0, len(_SIGNATURE)) == _SIGNATURE
    content = guards.require(
        starts & (tf.strings.length(content) > _HEADER),
        lambda: tf.strings.format(
            f"`{name}` is no PNG file in row {{}}, but {{}} bytes that begin with {{}}; it must hold the bytes of PNG "
            "files (in JSON as base64 under the key b64).",
            (row, tf.strings.length(content), tf.io.decode_raw(tf.strings.substr(content, 0, 8), tf.uint8)),
            summarize=8,
        ),
        content,
    )
    size = tf.io.decode_raw(tf.strings.substr(content, 16, 8), tf.int32, little_endian=False)
    size = tf.cast(tf.bitcast(size, tf.uint32), tf.int64)
    content = guards.require(
        tf.reduce_all((size > 0) & (size <= _MAX_PIXELS)) & (size[0] * size[1] <= _MAX_PIXELS),
        lambda: tf.strings.format(
            f"`{name}` is a picture of {{}} x {{}} pixels in row {{}}; it must have 1 to {_MAX_PIXELS}.",
            (size[0], size[1], row),
        ),
        content,
    )
    return guards.require(
        tf.strings.regex_full_match(content, r"\C*IEND\C*"),
        lambda: tf.strings.format(f"`{name}` is a PNG file without its end in row {{}}; send the whole file.", row),
        content,
    )
