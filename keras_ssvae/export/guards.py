"""What each input of a served model is held to, in the graph: a loader checks no shape, and a client may send anything.

A convolution that is given a wrong shape ends the whole process, so nothing else reads an input before it is checked.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

# Of one request, where an answer takes much more memory than the request itself.
MAX_IMAGES = 10_000
SLICE = 1000  # rows that are computed at a time, so that memory does not grow with the request
_TOLERANCE = 1e-3  # of pixels, for those that were rounded


def require(condition: tf.Tensor, message: Callable[[], tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """`value`, where a condition holds; otherwise an error with the message, which is made then only."""

    def fail():
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[message()], summarize=1)]):
            return tf.constant(False)

    with tf.control_dependencies([tf.cond(condition, lambda: tf.constant(True), fail)]):
        return tf.identity(value)


def of_shape(name: str, value: tf.Tensor, shape: Sequence[int], what: str) -> tf.Tensor:
    """An input whose shape is `(B, *shape)`, or an error.

    Args:
        name: Of the input.
        value: The input.
        shape: Of a row.
        what: What the input must be, for the message.
    """
    # The signature promises a shape, of which TensorFlow would prove that nothing needs to be checked.
    value = tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))
    given, rank = tf.shape(value), 1 + len(shape)
    sizes = tf.concat([given, [-1] * rank], axis=0)[1:rank]  # as many as must be, however many there are
    must = f"({', '.join(['B', *map(str, shape)])}{'' if shape else ','})"
    value = require(
        (tf.size(given) == rank) & tf.reduce_all(sizes == tf.constant(shape, tf.int32)),
        lambda: tf.strings.format(
            f"`{name}` has shape {{}}; it must be {what} of shape {must}, where B is 1 for a single one.", given
        ),
        value,
    )
    return tf.ensure_shape(value, (None, *shape))


def images(name: str, value: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """An input of images `(B, *shape)` with pixels in [-1, 1], or an error."""
    value = of_shape(name, value, shape, "float32 images")
    inside = tf.abs(value) <= 1 + _TOLERANCE  # NaN is not

    def message():
        bad = _first_row(~inside)
        return tf.cond(
            tf.reduce_all(tf.math.is_finite(value[bad])),
            lambda: tf.strings.format(
                f"`{name}` has pixels from {{}} to {{}} in row {{}}; they must be in [-1, 1]. Of pixels from 0 to 255 "
                "take `pixel / 127.5 - 1`.",
                (tf.reduce_min(value[bad]), tf.reduce_max(value[bad]), bad),
            ),
            lambda: tf.strings.format(f"`{name}` holds NaN or infinity in row {{}}; pixels must be in [-1, 1].", bad),
        )

    return require(tf.reduce_all(inside), message, value)


def finite(name: str, value: tf.Tensor, what: str) -> tf.Tensor:
    """`value`, without NaN and infinity, or an error that says what it must be."""
    good = tf.math.is_finite(value)
    return require(
        tf.reduce_all(good),
        lambda: tf.strings.format(f"`{name}` {what} in row {{}}.", _first_row(~good)),
        value,
    )


def labels(
    name: str, value: tf.Tensor, sizes: Sequence[int], several: bool, lowest: int = 0, what: str = "label"
) -> tf.Tensor:
    """An input of integers, of which each is below the number of its classes, or an error that says `what` it is."""
    shape = (len(sizes),) if several else ()
    value = of_shape(name, value, shape, f"{what}s")
    highest = [size - 1 for size in sizes] if several else sizes[0] - 1
    good = (value >= lowest) & (value <= tf.constant(highest, tf.int64))
    return require(
        tf.reduce_all(good),
        lambda: tf.strings.format(
            f"`{name}` is {{}} in row {{}}; a {what} must be from {lowest} to {highest}.",
            (tf.gather(value, _first_row(~good)), _first_row(~good)),
        ),
        value,
    )


def equally_many(**inputs: tf.Tensor) -> list[tf.Tensor]:
    """Inputs with equally many rows, or an error."""
    counts = tf.stack([tf.shape(value)[0] for value in inputs.values()])
    names = " and ".join(f"`{name}`" for name in inputs)
    fits = tf.reduce_all(counts == counts[0])

    def message():
        return tf.strings.format(f"{names} have {{}} rows; they must be equally many.", counts)

    return [require(fits, message, value) for value in inputs.values()]


def at_most(name: str, value: tf.Tensor) -> tf.Tensor:
    """An input of at most `MAX_IMAGES` rows, or an error."""
    rows = tf.shape(value)[0]
    return require(
        rows <= MAX_IMAGES,
        lambda: tf.strings.format(
            f"`{name}` has {{}} rows; it must have at most {MAX_IMAGES}. Send several requests.", rows
        ),
        value,
    )


def points(name: str, value: tf.Tensor) -> tf.Tensor:
    """The one number of points that an input `(B,)` gives for all rows, 2 of no rows; or an error."""
    of_any = tf.concat([value, [2]], axis=0)
    given, pairs = of_any[0], tf.size(value, tf.int64)
    good = require(
        tf.reduce_all(value == given),
        lambda: tf.strings.format(
            f"`{name}` is from {{}} to {{}}; it must be the same for the whole batch.",
            (tf.reduce_min(value), tf.reduce_max(value)),
        ),
        given,
    )
    good = require(
        good >= 2,
        lambda: tf.strings.format(f"`{name}` is {{}}; a line has two ends, so it must be at least 2.", good),
        good,
    )
    return require(
        good <= MAX_IMAGES // tf.maximum(pairs, 1),
        lambda: tf.strings.format(
            f"`{name}` is {{}} for {{}} pairs; pairs times `{name}` must be at most {MAX_IMAGES}.", (good, pairs)
        ),
        good,
    )


def in_slices(
    function: Callable[..., dict], outputs: dict[str, tf.TensorSpec], *rows: tf.Tensor, most: int | tf.Tensor = SLICE
) -> dict[str, tf.Tensor]:
    """`function(*rows)`, computed for at most so many rows at a time; of no rows, none.

    Args:
        function: Of rows, `(B, ...)` each, to named outputs, `(B, ...)` each: each row by itself.
        outputs: What it gives.
        *rows: Its inputs; zeros must be good ones.
        most: Rows at a time.
    """
    given = tf.shape(rows[0])[0]
    # Convolutions do not take an empty batch.
    needed = tf.maximum(given, 1)
    slices = -(-needed // most)
    size = -(-needed // slices)

    def cut(value):
        padded = tf.pad(value, [[0, slices * size - given], *[[0, 0]] * (len(value.shape) - 1)])
        return tf.reshape(padded, (slices, size, *value.shape[1:]))

    answers = tf.map_fn(
        lambda each: function(*each), tuple(map(cut, rows)), fn_output_signature=outputs, parallel_iterations=1
    )
    joined = {name: tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], 0)) for name, value in answers.items()}
    return {name: tf.ensure_shape(value[:given], outputs[name].shape) for name, value in joined.items()}


def _first_row(bad):
    """The first row of `(B, ...)` that holds a True."""
    return tf.argmax(tf.reduce_any(tf.reshape(bad, (tf.shape(bad)[0], -1)), axis=1))
