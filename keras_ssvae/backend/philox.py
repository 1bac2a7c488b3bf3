"""Random numbers for many seeds at once, on TensorFlow: the numbers that `keras.random` draws for each single seed.

TensorFlow's operations take one seed each, and a loop over a thousand seeds takes several times as long as a decoder.
So this module implements TensorFlow's generator, Philox 4x32 with ten rounds (Salmon et al., 2011), for whole vectors
of seeds. `tests/test_noise.py` fails if a release of Keras or TensorFlow draws other numbers.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

_MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], "uint64")
_KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]], "uint64")
_ROUNDS = 10
_SEEDS = 2**31 - 2  # Keras takes seeds modulo this number
# TensorFlow scrambles a seed with this key, and takes the result as the key of the generator.
_SCRAMBLING_KEY = np.array([[0x3EC8F720], [0x02461E29]], "uint64")
_LOW = np.uint64(2**32 - 1)
_SMALLEST_UNIFORM = 1e-7  # so that its logarithm is finite


def normal_rows(seeds: tf.Tensor, shape: Sequence[int]) -> tf.Tensor:
    """Row i is `keras.random.normal(shape)` for `seeds[:, i]`, up to rounding.

    Args:
        seeds: Integers `(2, B)`.
        shape: Shape of a row.

    Returns:
        `(B, *shape)`, float32.
    """
    known = all(isinstance(length, int) for length in shape)
    size = math.prod(shape) if known else tf.reduce_prod(tf.stack(shape))
    groups = -(-size // 4)
    pairs = tf.reshape(_words(seeds, groups), (-1, groups * 2, 2))
    # Computed in double precision and then rounded, the functions agree to the last digit almost always.
    uniform = tf.cast(_uniform(pairs), tf.float64)
    logarithm = tf.math.log(tf.maximum(uniform[..., 0], np.float32(_SMALLEST_UNIFORM)))
    radius = tf.sqrt(-2.0 * tf.cast(logarithm, tf.float32))
    angle = tf.cast(tf.cast(2.0 * np.pi * uniform[..., 1], tf.float32), tf.float64)
    sides = tf.cast(tf.stack([tf.sin(angle), tf.cos(angle)], axis=-1), tf.float32)
    normal = radius[..., None] * sides
    return tf.reshape(tf.reshape(normal, (-1, groups * 4))[:, :size], (tf.shape(seeds)[1], *shape))


def categorical_rows(log_weights: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Entry i is `keras.random.categorical(log_weights[None], 1)` for `seeds[:, i]`, on a CPU.

    Args:
        log_weights: Logits `(K,)`.
        seeds: Integers `(2, B)`.

    Returns:
        `(B,)`, int64.
    """
    words = _words(seeds, 1)[:, 0]
    high, low = (tf.bitwise.bitwise_and(words[:, i], mask) for i, mask in ((0, np.uint64(0xFFFFF)), (1, _LOW)))
    bits = tf.bitwise.bitwise_or(tf.bitwise.left_shift(high, np.uint64(32)), low)
    uniform = tf.cast(bits, tf.float64) * 2.0**-52
    weights = tf.cast(log_weights, tf.float64)
    cumulative = tf.cumsum(tf.exp(weights - tf.reduce_max(weights)))
    return tf.searchsorted(cumulative, uniform * cumulative[-1], side="right", out_type=tf.int64)


def _words(seeds, groups):
    """The first `4 * groups` 32-bit numbers of each seed, as uint64 `(B, groups, 4)`."""
    seeds = tf.cast(seeds % _SEEDS, tf.uint64)
    even, odd = _philox(tf.bitwise.bitwise_and(seeds, _LOW), _high(seeds), tf.constant(_SCRAMBLING_KEY))
    key, even, odd = (tf.repeat(words, groups, axis=-1) for words in (tf.stack([even[0], odd[0]]), even[1], odd[1]))
    counter = tf.cast(tf.tile(tf.range(groups), tf.shape(seeds)[1:]), tf.uint64)
    even, odd = tf.stack([counter, even]), tf.stack([tf.zeros_like(odd), odd])
    even, odd = _philox(even, odd, key)
    return tf.reshape(tf.stack([even[0], odd[0], even[1], odd[1]], axis=-1), (tf.shape(seeds)[1], groups, 4))


def _philox(even, odd, key):
    """Ten rounds of Philox.

    Args:
        even: The words 0 and 2 of n counters, `(2, n)`.
        odd: The words 1 and 3, `(2, n)`.
        key: The two words of the keys, `(2, n)`.
    """
    steps = np.arange(_ROUNDS, dtype="uint64")[:, None, None] * _KEY_STEPS
    for round_key in tf.unstack(tf.bitwise.bitwise_and(key + steps, _LOW)):
        products = tf.reverse(even * _MULTIPLIERS, [0])
        even = tf.bitwise.bitwise_xor(tf.bitwise.bitwise_xor(_high(products), odd), round_key)
        odd = tf.bitwise.bitwise_and(products, _LOW)
    return even, odd


def _high(words):
    return tf.bitwise.right_shift(words, np.uint64(32))


def _uniform(words):
    """Floats in [0, 1) from the lowest 23 bits."""
    mantissa = tf.bitwise.bitwise_and(tf.cast(words, tf.int32), 0x7FFFFF)
    return tf.bitcast(tf.bitwise.bitwise_or(mantissa, 127 << 23), tf.float32) - 1.0
