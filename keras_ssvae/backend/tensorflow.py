"""The gradient step and the fused kernels, on TensorFlow."""

import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable
from typing import Any, cast

import keras
import numpy as np
import tensorflow as tf

from keras_ssvae.backend.parts import due_parts, may_alternate
from keras_ssvae.backend.philox import categorical_rows, normal_rows  # noqa: F401 (part of this backend)
from keras_ssvae.backend.private import in_multi_worker_mode

SEED_DTYPE = "int64"  # dtype of the seeds of `keras.random`
_STEPS_PER_PROGRAM = 5  # more take longer to compile, and hardly gain


def run_step(model: keras.Model, step: Callable, data) -> dict[str, tf.Tensor]:
    """Runs `step(data)` and returns its logs. On this backend variables are assigned in place."""
    logs = step(data)
    strategy = tf.distribute.get_strategy()
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) and in_multi_worker_mode(strategy):
        # Keras averages the logs of the workers along a first axis, which scalars do not have.
        return {name: value[None] for name, value in logs.items()}
    return logs


def is_symbolic(x: Any) -> bool:
    """Whether a tensor has no values yet, because a function is being traced."""
    return isinstance(x, keras.KerasTensor) or (tf.is_tensor(x) and tf.is_symbolic_tensor(x))


def sync_state(model: keras.Model) -> None:
    """Does nothing: on this backend variables always hold their values."""


def keeps_values(model: keras.Model) -> contextlib.AbstractContextManager[None]:
    """An empty context: on this backend variables always keep their values."""
    return contextlib.nullcontext()


def several_steps(model: keras.Model, train_function: Callable) -> Callable:
    """Returns a training function that launches `model.steps_per_execution` steps with less delay than Keras' own.

    Keras makes a loop in which a step begins when the step before it has ended. Here up to 5 steps stand one after the
    other in one program, so that what does not wait for new weights begins earlier: noise, and layers whose optimizer
    has finished. The results are the same. Keras' own function is kept for a single step, a model that runs eagerly or
    with XLA, and under a `tf.distribute.Strategy`.

    If labelled and unlabelled parts alternate, each kind of step gets its own program, launched step by step, and the
    model does not see the part that is not due. In one common program that part would have no rows, which convolutions
    on a CPU do not accept: their gradient fails, and pooling ends the process.
    """
    steps = model.steps_per_execution
    several = steps > 1 and not model.run_eagerly and not model.jit_compile
    programs = -(-steps // _STEPS_PER_PROGRAM)
    sizes = [steps // programs + (i < steps % programs) for i in range(programs)]

    @tf.function(autograph=False)
    def program(batches):
        for batch in batches:
            logs = model.train_step(batch.get_value())
        return logs

    @tf.function(autograph=False)
    def next_batches(iterator, number):
        return [iterator.get_next_as_optional() for _ in range(number)]

    def launch_programs(iterator):
        logs = None
        for size in sizes:
            batches = next_batches(iterator, size)
            if not batches[-1].has_value():
                for batch in itertools.takewhile(lambda batch: batch.has_value(), batches):
                    logs = program([batch])
                break
            logs = program(batches)
        if logs is None:
            raise StopIteration
        return logs

    def rows(images):
        return model.distribute_strategy.experimental_local_results(images)[0].shape[0]

    def rows_of_spec(spec):
        return tf.nest.flatten(spec, expand_composites=True)[0].shape[0]

    def launch(iterator):
        spec = getattr(iterator, "element_spec", None)  # `train_on_batch` has none
        if spec is None or may_alternate(spec, rows_of_spec):
            # For a Python iterator, Keras launches the batches one by one.
            return train_function(due_parts(batch, rows) for batch in iterator)
        if several and isinstance(iterator, tf.data.Iterator):  # that of a strategy is another class
            return launch_programs(iterator)
        return train_function(iterator)

    return launch


def norm(x: tf.Tensor) -> tf.Tensor:
    """The Euclidean norm of all elements. It reads them once, where `keras.ops` would first store their squares."""
    return tf.sqrt(2.0 * tf.nn.l2_loss(x))


def clipped_cross_entropy(x: tf.Tensor, logits: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """`softplus(l) - x l` for logits l clipped to `[low, high]`: the cross entropy of each pixel, in nats.

    Its gradient `sigmoid(l) - x`, 0 where l was clipped, is written down: TensorFlow would derive three times as many
    operations, which took 5% of a training step of VAE.
    """

    @tf.custom_gradient
    def compute(x, logits):
        clipped = tf.clip_by_value(logits, low, high)
        one_minus_p = tf.sigmoid(-clipped)

        def gradient(upstream):
            by_logits = tf.where(tf.equal(clipped, logits), 1.0 - one_minus_p - x, 0.0)
            return -upstream * clipped, upstream * by_logits

        return -tf.math.log(one_minus_p) - x * clipped, gradient

    logits = tf.convert_to_tensor(logits)
    return compute(tf.cast(x, logits.dtype), logits)


def argmax(values: tf.Tensor) -> tf.Tensor:
    """The index of the largest value along the last axis, int32.

    `keras.ops.argmax` distinguishes 0.0 from -0.0 by their bits, which neither ONNX nor LiteRT can.
    """
    return tf.argmax(values, axis=-1, output_type=tf.int32)


_inference: weakref.WeakKeyDictionary[Any, tuple[list[int], Callable]] = weakref.WeakKeyDictionary()


def inference(model: keras.Model) -> Callable[[np.ndarray | tf.Tensor], Any]:
    """Returns `x -> model(x, training=False)`, compiled once for a model, and again if its variables are replaced.

    `model.predict_on_batch` is no substitute: under a strategy every replica would compute all rows.
    """
    variables = [id(variable) for variable in model.variables]  # quantisation replaces them
    if model not in _inference or _inference[model][0] != variables:
        # A weak reference: the function must not keep the model alive, or its entry would never be removed.
        reference = weakref.ref(model)
        call = tf.function(lambda x: cast(Any, reference())(x, training=False), autograph=False)
        _inference[model] = variables, call
    return _inference[model][1]


def compiled(model: keras.Model, function: Callable) -> Callable:
    """Compiles a function of tensors. Each call reads the current values of the model's variables."""
    return tf.function(function, autograph=False)


def gradient_step(
    model: keras.Model, losses: Callable[[], dict[str, tf.Tensor]], group: str | None = None
) -> dict[str, tf.Tensor]:
    """Applies one step of the optimizer to `losses()["total"]`; returns all named terms of `losses()`.

    Args:
        model: The model, with its optimizer. If that has a method `observe`, as `PlateauAdam` has, it gets the total.
        losses: Computes the terms.
        group: Name of a member of `model.optimizer`, a `GroupedOptimizer`. Then this member changes the variables of
            its group. None: the whole optimizer changes all trainable variables.
    """
    optimizer = model.optimizer if group is None else model.optimizer.members[group]
    variables = model.trainable_variables if group is None else model.variable_groups()[group]
    with tf.GradientTape() as tape:
        terms = losses()
        scaled = optimizer.scale_loss(terms["total"])
    gradients = tape.gradient(scaled, variables)
    # Variables that the batch does not use, such as a classifier's if no image has a label, have gradient 0, as on JAX.
    pairs = zip(gradients, variables, strict=True)
    gradients = [keras.ops.zeros_like(variable) if gradient is None else gradient for gradient, variable in pairs]
    # All terms must be computed before the update. TensorFlow's graph optimizer does not keep that order if the
    # gradient does not need a value that a term read, as behind a `stop_gradient`.
    with tf.control_dependencies([*terms.values()]):
        optimizer.apply(gradients, variables)
    if hasattr(optimizer, "observe"):
        optimizer.observe(terms["total"])
    return terms


# Under a `tf.distribute.Strategy` each replica gets the whole batch, and computes its own rows of it.


def replicas() -> int:
    """The number of replicas that compute a step together, on all workers."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def replica() -> tf.Tensor | int:
    """The index of this replica, counted from 0 over all workers."""
    if replicas() == 1:
        return 0
    return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, SEED_DTYPE)


def own_rows(x: tf.Tensor) -> tf.Tensor:
    """This replica's contiguous slice, of about B / replicas rows, of a batch `(B, ...)` that every replica holds."""
    if replicas() == 1:
        return x
    count, index = tf.shape(x)[0], tf.cast(replica(), "int32")
    few = f"A part of a batch has fewer images than there are replicas ({replicas()}). Choose larger batch sizes."
    # A part that is not due at this step has no rows, which is allowed (see `data.semi_supervised`).
    with tf.control_dependencies([tf.debugging.assert_equal((count == 0) | (count >= replicas()), True, message=few)]):
        begin, end = (count * i // replicas() for i in (index, index + 1))
    return x[begin:end]


def all_rows(x: tf.Tensor) -> tf.Tensor:
    """Gathers the rows of all replicas, each of which holds its own. No gradient passes."""
    return x if replicas() == 1 else tf.distribute.get_replica_context().all_gather(x, axis=0)


def batch_mean(x: tf.Tensor) -> tf.Tensor:
    """The mean over the rows `(B, ...)` of all replicas, each of which holds its own.

    The gradient is that of this replica's share, so that the gradients of all replicas add up to that of the mean.
    """
    if replicas() == 1:
        return tf.reduce_mean(x, axis=0)
    context = tf.distribute.get_replica_context()
    count = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(tf.shape(x)[0], x.dtype))
    share = tf.reduce_sum(x, axis=0) / count
    whole = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(share))
    return share + tf.stop_gradient(whole - share)


def apply_adam(variable, momentum, velocity, gradient, learning_rate, step, beta_1, beta_2, epsilon) -> None:
    """One step of Adam on one variable, by the kernel that the optimizers in the papers' code call.

    It rounds `1 - beta` and `1 - beta^t` in the same way, so that the first step has its full length.
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
    """Batch normalisation of images by the statistics of the batch, which are float32 for every dtype of the images.

    Args:
        x: Images `(B, H, W, C)`.
        gamma: Scale, float32 `(C,)`.
        beta: Offset, float32 `(C,)`.
        epsilon: Added to the variance.

    Returns:
        The normalised images in their dtype, the mean `(C,)` and the *unbiased* variance `(C,)` of the batch.
    """
    return tf.compat.v1.nn.fused_batch_norm(x, gamma, beta, epsilon=epsilon)


def normalize_pool_activate(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, keep: tf.Tensor, epsilon: float, negative_slope: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Batch normalisation by the statistics of the batch, LeakyReLU, 2x2 max pooling and dropout in one operation.

    Normalisation is increasing in x where gamma > 0 and decreasing where gamma < 0. So pooling can come first (of -x
    where gamma < 0), and only a quarter of the pixels is normalised. The pixels that were not selected matter only
    for the statistics, so the gradient needs one pass over the full image instead of five.

    Args:
        x: Images `(B, H, W, C)`.
        gamma: Scale, float32 `(C,)`.
        beta: Offset, float32 `(C,)`.
        keep: Factors of the dropout, `(B, 1, 1, C)`.
        epsilon: Added to the variance.
        negative_slope: Slope of the LeakyReLU below 0.

    Returns:
        The images `(B, H // 2, W // 2, C)` in their dtype, the mean `(C,)` and the *unbiased* variance `(C,)` of the
        batch.
    """

    @tf.custom_gradient
    def kernel(x, gamma, beta, keep):
        count = tf.cast(tf.size(x) / tf.shape(x)[-1], x.dtype)
        # One sum over all axes is slower and less exact than one sum per axis. But it has the rounding of the kernel in
        # EXoN's code, which decides on which side of 0 thousands of background pixels lie: another rounding changes the
        # losses of the second step by 1e-4.
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


# XLA fuses each of these functions into one loop. The operations around them are faster without XLA.


def _windows(x):
    """The four pixels of each 2x2 window, without an odd last row or column."""
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    windows = tf.reshape(x[:, : 2 * height, : 2 * width], (-1, height, 2, width, 2, channels))
    return [windows[:, :, i, :, j] for i in range(2) for j in range(2)]


@tf.function(jit_compile=True, autograph=False)
def _pool_and_square(x, sign, mean):
    """The pixel of each 2x2 window that is largest after multiplication by `sign`; and all squared deviations."""
    largest = functools.reduce(tf.maximum, [sign * pixel for pixel in _windows(x)])
    return sign * largest, tf.square(x - mean)


@tf.function(jit_compile=True, autograph=False)
def _normalize_activate(pooled, mean, scale, beta, keep, negative_slope):
    return tf.nn.leaky_relu((pooled - mean) * scale + beta, negative_slope) * keep


@tf.function(jit_compile=True, autograph=False)
def _normalize_activate_gradient(pooled, mean, scale, beta, keep, negative_slope, dy):
    """The gradient of the normalised pixels; its sums over columns; those of its product with the centred pixels."""
    centred = pooled - mean
    dy *= keep
    dy = tf.where(centred * scale + beta > 0.0, dy, negative_slope * dy)
    columns = range(dy.shape[2])
    return dy, tf.add_n([dy[:, :, j] for j in columns]), tf.add_n([(dy * centred)[:, :, j] for j in columns])


@tf.function(jit_compile=True, autograph=False)
def _unpool(x, pooled, dy, mean, scale, by_x, constant):
    """The gradient of the image: `scale * dy` at the first pixel of each window that equals `pooled`, else 0.

    The part that comes from the statistics is subtracted from all pixels.
    """
    height, width, channels = x.shape[1] // 2, x.shape[2] // 2, x.shape[3]
    first, second, third, _ = (pixel == pooled for pixel in _windows(x))
    selected = tf.where(first, 0, tf.where(second, 1, tf.where(third, 2, 3)))[:, :, None, :, None]
    place = tf.constant([[0, 1], [2, 3]])[:, None, :, None]
    gradient = tf.where(selected == place, (scale * dy)[:, :, None, :, None], 0.0)
    gradient = tf.reshape(gradient, (-1, 2 * height, 2 * width, channels))
    odd = [[0, 0], [0, x.shape[1] - 2 * height], [0, x.shape[2] - 2 * width], [0, 0]]
    return tf.pad(gradient, odd) - (by_x * (x - mean) + constant)
