"""The prior of the network weights in the objectives of M1, M2 and M1+M2."""

import math
from collections.abc import Sequence

import keras
from keras import ops

from keras_ssvae.distributions import Tensor, as_floatx


def negative_log_prior(weights: Sequence[keras.Variable], num_rows: Tensor) -> Tensor:
    """`-log N(weights; 0, I)` of all weights together, in nats: the same number `(B,)` for each image of a batch.

    It has one row for each image so that replicas share its gradient as they share that of the images.
    """
    numbers = sum(math.prod(weight.shape) for weight in weights)
    squares = sum((ops.sum(ops.square(as_floatx(weight))) for weight in weights), start=ops.zeros(()))
    return ops.broadcast_to(0.5 * (squares + numbers * math.log(2.0 * math.pi)), (num_rows,))
