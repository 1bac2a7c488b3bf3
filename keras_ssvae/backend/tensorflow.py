"""One gradient step, and the fused kernels, on TensorFlow."""

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from keras_ssvae.backend.parts import due_parts, may_alternate
from keras_ssvae.backend.philox import categorical_rows, normal_rows  # noqa: F401 (part of this backend)
from keras_ssvae.backend.private import in_multi_worker_mode

SEED_DTYPE = "int64"  # of the seeds that `keras.random` takes


def run_step(model: keras.Model, step: Callable, data) -> dict[str, tf.Tensor]:
    """Runs `step(data)`, which gives the logs; on this backend variables are assigned in place."""
    logs = step(data)
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and in_multi_worker_mode(strategy):
        # Keras averages them over the workers along an axis that its own scalars do not have either.
        return {name: value[None] for name, value in logs.items()}
    return logs


def is_symbolic(x: Any) -> bool:
    """Whether a tensor has no numbers yet, since a program is being made of what is done with it."""
    return isinstance(x, keras.KerasTensor) or (tf.is_tensor(x) and tf.is_symbolic_tensor(x))


def sync_state(model: keras.Model) -> None:
    """Variables hold their values at any time on this backend."""


def keeps_values(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """Nothing takes the variables' values on this backend."""
    return contextlib.nullcontext()


def several_steps(model: keras.Model, train_function: Callable) -> Callable:
    """Keras makes one program of `steps_per_execution` steps on this backend.

    But where the parts of the batches alternate each kind of step has a program of its own, which is launched for each
    step, and the model is not shown the part whose turn it is not. In one program for all it would have no rows, and
    on a CPU convolutions do not take that: their gradient is an error, and pooling ends the process.
    """

    def rows(images):
        return model.distribute_strategy.experimental_local_results(images)[0].shape[0]

    def rows_of_spec(spec):
        return tf.nest.flatten(spec, expand_composites=True)[0].shape[0]

    def launch(iterator):
        spec = getattr(iterator, "element_spec", None)  # `train_on_batch` has none
        if spec is None or may_alternate(spec, rows_of_spec):
            # Keras launches the batches of an iterator of Python's one by one.
            iterator = (due_parts(batch, rows) for batch in iterator)
        return train_function(iterator)

    return launch


def argmax(values: tf.Tensor) -> tf.Tensor:
    """The place of the largest value along the last axis, int32, without Keras' distinction of 0.0 and -0.0.

    That looks at bits, which neither ONNX nor LiteRT can.
    """
    return tf.argmax(values, axis=-1, output_type=tf.int32)


_inference: weakref.WeakKeyDictionary[Any, tuple[list[int], Callable]] = weakref.WeakKeyDictionary()


def inference(model: keras.Model) -> Callable[[np.ndarray | tf.Tensor], Any]:
    """`x -> model(x, training=False)`, compiled once for a model, and again when its variables are others.

    Under a strategy every replica would answer for all rows of `model.predict_on_batch`.
    """
    variables = [id(variable) for variable in model.variables]  # quantisation replaces them
    if model not in _inference or _inference[model][0] != variables:
        # The function must not keep the model, whose entry goes when nobody else has it.
        reference = weakref.ref(model)
        call = tf.function(lambda x: cast(Any, reference())(x, training=False), autograph=False)
        _inference[model] = variables, call
    return _inference[model][1]


def compiled(model: keras.Model, function: Callable) -> Callable:
    """A function of tensors as one program, which at each call reads the model's variables as they then are."""
    return tf.function(function, autograph=False)


def gradient_step(
    model: keras.Model, losses: Callable[[], dict[str, tf.Tensor]], group: str | None = None
) -> dict[str, tf.Tensor]:
    """Applies one step of the optimizer to `losses()["total"]`; returns all the named terms of `losses()`.

    An optimizer with a method `observe`, such as `PlateauAdam`, is told the total.

    With a group it is one of that member of `model.optimizer`, a `GroupedOptimizer`, on that group of variables.
    """
    optimizer = model.optimizer if group is None else model.optimizer.members[group]
    variables = model.trainable_variables if group is None else model.variable_groups()[group]
    with tf.GradientTape() as tape:
        terms = losses()
        scaled = optimizer.scale_loss(terms["total"])
    gradients = tape.gradient(scaled, variables)
    # Of a variable that this batch has nothing for, as a classifier's where no image has a label: 0, as on JAX.
    pairs = zip(gradients, variables, strict=True)
    gradients = [keras.ops.zeros_like(variable) if gradient is None else gradient for gradient, variable in pairs]
    # TensorFlow's optimizer of graphs forgets that a variable is read before it is updated, where the gradient does not
    # need what was read: as for a term behind a `stop_gradient`.
    with tf.control_dependencies([*terms.values()]):
        optimizer.apply(gradients, variables)
    if hasattr(optimizer, "observe"):
        optimizer.observe(terms["total"])
    return terms


# Under a `tf.distribute.Strategy` each replica is given the whole batch, and computes its own rows of it.


def replicas() -> int:
    """How many replicas compute a step together, on all workers."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica() -> tf.Tensor | int:
    """The number of the replica that computes this, counted from 0 over all workers."""
    if replicas() == 1:
        return 0
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, SEED_DTYPE)


def own_rows(x: tf.Tensor) -> tf.Tensor:
    """Of what all replicas hold, `(B, ...)`, the rows that this one computes: one run of about B / replicas rows."""
    if replicas() == 1:
        return x
    count, index = tf.shape(x)[0], tf.cast(replica(), "int32")
    few = f"A part of a batch has fewer images than there are replicas ({replicas()}). Choose other batch sizes."
    # A part that is not due at this step has no rows (see `data.semi_supervised`).
    with tf.control_dependencies([tf.debugging.assert_equal((count == 0) | (count >= replicas()), True, message=few)]):
        begin, end = (count * i // replicas() for i in (index, index + 1))
    return x[begin:end]


def all_rows(x: tf.Tensor) -> tf.Tensor:
    """The rows of all replicas, of which each holds its own; without a gradient."""
    return x if replicas() == 1 else tf.distribute.get_replica_context().all_gather(x, axis=0)


def batch_mean(x: tf.Tensor) -> tf.Tensor:
    """The mean over the rows `(B, ...)` of all replicas, of which each holds its own.

    The gradient is that of the own rows' share, so that those of the replicas add up to the whole.
    """
    if replicas() == 1:
        return tf.reduce_mean(x, axis=0)
    context = tf.distribute.get_replica_context()
    count = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.shape(x)[0], x.dtype))
    share = tf.reduce_sum(x, axis=0) / count
    whole = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(share))
    return share + tf.stop_gradient(whole - share)


def apply_adam(variable, momentum, velocity, gradient, learning_rate, step, beta_1, beta_2, epsilon) -> None:
    """One step of Adam on one variable, by the kernel that the original codes' optimizers called.

    Its `1 - beta` and `1 - beta^t` are rounded alike, so that the first step has its full length.
    """
    step = tf.cast(step, variable.dtype)
    tf.raw_ops.ResourceApplyAdam(
        var=_handle(variable),
        m=_handle(momentum),
        v=_handle(velocity),
        beta1_power=tf.pow(tf.cast(beta_1, variable.dtype), step),
        beta2_power=tf.pow(tf.cast(beta_2, variable.dtype), step),
        lr=tf.cast(learning_rate, variable.dtype),
        beta1=tf.cast(beta_1, variable.dtype),
        beta2=tf.cast(beta_2, variable.dtype),
        epsilon=tf.cast(epsilon, variable.dtype),
        grad=gradient,
    )


def _handle(variable):
    return (variable.value if isinstance(variable, keras.Variable) else variable).handle


def batch_normalize(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation of images by the batch's statistics, which are float32 whatever the images are.

    Args:
        x: Images `(B, H, W, C)`.
        gamma: Scale, float32 `(C,)`.
        beta: Offset, float32 `(C,)`.
        epsilon: Added to the variance.

    Returns:
        The images in their dtype, and of the batch the mean `(C,)` and the *unbiased* variance `(C,)`.
    """
    return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)


def normalize_pool_activate(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, keep: tf.Tensor, epsilon: float, negative_slope: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation by the batch's statistics, LeakyReLU, 2x2 max pooling and dropout, in one.

    Normalisation increases with x where gamma > 0 and decreases where gamma < 0: so pooling comes first (of -x where
    gamma < 0), and only a quarter of the pixels is normalised. The pixels that were not selected enter only through
    the statistics, so the gradient needs one pass over the full image instead of five.

    Args:
        x: Images `(B, H, W, C)`.
        gamma: Scale, float32 `(C,)`.
        beta: Offset, float32 `(C,)`.
        keep: What dropout multiplies with, `(B, 1, 1, C)`.
        epsilon: Added to the variance.
        negative_slope: Of the LeakyReLU.

    Returns:
        The images `(B, H // 2, W // 2, C)` in their dtype, and of the batch the mean `(C,)` and the *unbiased*
        variance `(C,)`.
    """

    @tf.custom_gradient
    def kernel(x, gamma, beta, keep):
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], x.dtype)
        # One sum over all axes is slower than one after the other, and less exact, but its rounding is that of the
        # original's kernel, and decides on which side of 0 thousands of background pixels lie: another one shows in
        # the losses of the second step (1e-4).
        mean = tf.reduce_sum(x, axis=(0, 1, 2)) / count  # reduce_mean gives the same bits in twice the time
        sign = tf.where(gamma < 0.0, -1.0, 1.0)
        pooled, squares = _pool_and_square(x, sign, mean)
        variance = tf.reduce_sum(squares, axis=(0, 1, 2)) / count
        inverse = tf.math.rsqrt(variance + epsilon)
        scale = gamma * inverse
        y = _normalize_activate(pooled, mean, scale, beta, keep, negative_slope)

        def gradient(dy, *_):
            dy, *rows = _normalize_activate_gradient(pooled, mean, scale, beta, keep, negative_slope, dy)
            dbeta, dgamma = (tf.reduce_sum(tf.reduce_sum(row, axis=1), axis=0) for row in rows)
            dgamma *= inverse
            dx = _unpool(x, pooled, dy, mean, scale, scale * inverse * dgamma / count, scale * dbeta / count)
            return dx, dgamma, dbeta, None

        return (y, mean, variance * count / tf.maximum(count - 1.0, 1.0)), gradient

    y, mean, variance = kernel(*(tf.cast(value, "float32") for value in (x, gamma, beta, keep)))
    return tf.cast(y, x.dtype), mean, variance


# XLA makes one loop of each of these; the operations around them are faster as they are.


def _windows(x):
    """The four pixels of each 2x2 window, an odd last row or column left out."""
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    windows = tf.reshape(x[:, : 2 * height, : 2 * width], (-1, height, 2, width, 2, channels))
    return [windows[:, :, i, :, j] for i in range(2) for j in range(2)]


@tf.function(jit_compile=True, autograph=False)
def _pool_and_square(x, sign, mean):
    """Of each 2x2 window the pixel that is largest after multiplication by `sign`; and all squared deviations."""
    largest = functools.reduce(tf.maximum, [sign * pixel for pixel in _windows(x)])
    return sign * largest, tf.square(x - mean)


@tf.function(jit_compile=True, autograph=False)
def _normalize_activate(pooled, mean, scale, beta, keep, negative_slope):
    return tf.nn.leaky_relu((pooled - mean) * scale + beta, negative_slope) * keep


@tf.function(jit_compile=True, autograph=False)
def _normalize_activate_gradient(pooled, mean, scale, beta, keep, negative_slope, dy):
    """The gradient for the normalised pixels; of this and of its product with the centred pixels the sums of rows."""
    centred = pooled - mean
    dy *= keep
    dy = tf.where(centred * scale + beta > 0.0, dy, negative_slope * dy)
    columns = range(dy.shape[2])
    return dy, tf.add_n([dy[:, :, j] for j in columns]), tf.add_n([(dy * centred)[:, :, j] for j in columns])


@tf.function(jit_compile=True, autograph=False)
def _unpool(x, pooled, dy, mean, scale, by_x, constant):
    """`scale * dy` for the first pixel of each window that is `pooled`; less what the statistics take off from all."""
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    first, second, third, _ = (pixel == pooled for pixel in _windows(x))
    selected = tf.where(first, 0, tf.where(second, 1, tf.where(third, 2, 3)))[:, :, None, :, None]
    place = tf.constant([[0, 1], [2, 3]])[:, None, :, None]
    gradient = tf.where(selected == place, (scale * dy)[:, :, None, :, None], 0.0)
    gradient = tf.reshape(gradient, (-1, 2 * height, 2 * width, channels))
    odd = [[0, 0], [0, x.shape[1] - 2 * height], [0, x.shape[2] - 2 * width], [0, 0]]
    return tf.pad(gradient, odd) - (by_x * (x - mean) + constant)
