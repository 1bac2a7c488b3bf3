"""Checks of the inputs of a served model, inside its graph.

TensorFlow does not check the shapes of a loaded model's inputs, and a client may send anything. A convolution with an
input of a wrong shape ends the whole server process, so every input is checked before anything else reads it.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

# Most images of one request whose answer takes much more memory than the request itself.
MAX_IMAGES = 10_000
SLICE = 1000  # rows that are computed at a time, so that memory does not grow with the request
_TOLERANCE = 1e-3  # for pixels outside [-1, 1] by rounding


def require(condition: tf.Tensor, message: Callable[[], tf.Tensor], value: tf.Tensor) -> tf.Tensor:
    """Returns `value` if a condition holds; else fails with the message, which is only built in that case."""

    def fail():
        with tf.control_dependencies([tf.raw_ops.Assert(condition=False, data=[message()], summarize=1)]):
            return tf.constant(False)

    with tf.control_dependencies([tf.cond(condition, lambda: tf.constant(True), fail)]):
        return tf.identity(value)


def of_shape(name: str, value: tf.Tensor, shape: Sequence[int], what: str) -> tf.Tensor:
    """Returns an input if its shape is `(B, *shape)`; else fails.

    Args:
        name: Name of the input.
        value: The input.
        shape: Shape of a row.
        what: Description of a valid input, for the message.
    """
    # The placeholder hides the shape that the signature declares: TensorFlow would conclude from it that the check
    # always holds, and remove it.
    value = tf.raw_ops.PlaceholderWithDefault(input=value, shape=tf.TensorShape(None))
    given, rank = tf.shape(value), 1 + len(shape)
    sizes = tf.concat([given, [-1] * rank], axis=0)[1:rank]  # of the right length, whatever the rank of the input is
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
    """Returns an input if it holds images `(B, *shape)` with pixels in [-1, 1]; else fails."""
    value = of_shape(name, value, shape, "float32 images")
    inside = tf.abs(value) <= 1 + _TOLERANCE  # False for NaN

    def message():
        bad = _first_row(~inside)
        return tf.cond(
            tf.reduce_all(tf.math.is_finite(value[bad])),
            lambda: tf.strings.format(
                f"`{name}` has pixels from {{}} to {{}} in row {{}}; they must be in [-1, 1]. Scale pixels from 0 to "
                "255 by `pixel / 127.5 - 1`.",
                (tf.reduce_min(value[bad]), tf.reduce_max(value[bad]), bad),
            ),
            lambda: tf.strings.format(f"`{name}` holds NaN or infinity in row {{}}; pixels must be in [-1, 1].", bad),
        )

    return require(tf.reduce_all(inside), message, value)


def finite(name: str, value: tf.Tensor, what: str) -> tf.Tensor:
    """Returns `value` if it holds neither NaN nor infinity; else fails with "`name` `what` in row ..."."""
    good = tf.math.is_finite(value)
    return require(
        tf.reduce_all(good),
        lambda: tf.strings.format(f"`{name}` {what} in row {{}}.", _first_row(~good)),
        value,
    )


def labels(
    name: str, value: tf.Tensor, sizes: Sequence[int], several: bool, lowest: int = 0, what: str = "label"
) -> tf.Tensor:
    """Returns an input of integers if all of them are classes, from `lowest` to size - 1; else fails.

    Args:
        name: Name of the input.
        value: The input, `(B,)`, or `(B, n)` for n labels of each image.
        sizes: Number of classes of each label.
        several: Whether an image has several labels.
        lowest: The smallest allowed value.
        what: What an integer is called in the message.
    """
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
    """Returns the inputs if they have the same number of rows; else fails."""
    counts = tf.stack([tf.shape(value)[0] for value in inputs.values()])
    names = " and ".join(f"`{name}`" for name in inputs)
    fits = tf.reduce_all(counts == counts[0])

    def message():
        return tf.strings.format(f"{names} have {{}} rows; they must have the same number of rows.", counts)

    return [require(fits, message, value) for value in inputs.values()]


def at_most(name: str, value: tf.Tensor) -> tf.Tensor:
    """Returns an input if it has at most `MAX_IMAGES` rows; else fails."""
    rows = tf.shape(value)[0]
    return require(
        rows <= MAX_IMAGES,
        lambda: tf.strings.format(
            f"`{name}` has {{}} rows; it must have at most {MAX_IMAGES}. Send several requests.", rows
        ),
        value,
    )


def points(name: str, value: tf.Tensor) -> tf.Tensor:
    """Returns the number of points on each line of a request; fails if it is not valid.

    Args:
        name: Name of the input.
        value: The input, `(B,)`, with the same number in each row. If it has no rows, the number is 2.
    """
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
    """Returns `function(*rows)`, computed for a limited number of rows at a time.

    Args:
        function: Maps inputs `(B, ...)` to a dictionary of outputs `(B, ...)`. Each row of the outputs must depend on
            its own row of the inputs only.
        outputs: The specifications of the outputs.
        *rows: The inputs. The function must accept zeros too, which fill the last slice. B may be 0.
        most: The largest number of rows at a time.
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
