"""The gradient step, several steps in one program, and the kernels, on JAX."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from keras_ssvae.backend import private
from keras_ssvae.backend.parts import due_parts

SEED_DTYPE = "uint32"  # dtype of the seeds of `keras.random`


def run_step(model: keras.Model, step: Callable, state: tuple, data) -> tuple:
    """Runs `step(data)`, which reads and assigns variables, as a pure function of `state`, which JAX can compile.

    Args:
        model: The model.
        step: Maps a batch to the logs.
        state: Values of the model's variables: trainable, non-trainable, the optimizer's (in training only), metrics'.
        data: A batch.

    Returns:
        The logs and the new state.
    """
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    if len(state) == 4:
        groups.insert(2, model.optimizer.variables)
    with keras.StatelessScope(state_mapping=_pairs(groups, state)) as scope:
        logs = step(due_parts(data))
    return logs, tuple([scope.get_current_value(variable) for variable in group] for group in groups)


def _pairs(groups, values):
    return [pair for group, part in zip(groups, values, strict=True) for pair in zip(group, part, strict=True)]


def inference(model: keras.Model) -> Callable[[np.ndarray | jax.Array], Any]:
    """See `backend.tensorflow.inference`."""
    return model.predict_on_batch


def compiled(model: keras.Model, function: Callable) -> Callable:
    """See `backend.tensorflow.compiled`."""
    variables = model.variables

    @jax.jit
    def program(values, *arguments):
        with keras.StatelessScope(state_mapping=_pairs((variables,), (values,))):
            return function(*arguments)

    return lambda *arguments: program([variable.value for variable in variables], *arguments)


def gradient_step(
    model: keras.Model, losses: Callable[[], dict[str, jax.Array]], group: str | None = None
) -> dict[str, jax.Array]:
    """See `backend.tensorflow.gradient_step`."""
    optimizer = model.optimizer if group is None else model.optimizer.members[group]
    variables = model.trainable_variables if group is None else model.variable_groups()[group]
    chosen = {id(variable) for variable in variables}
    others = [variable for variable in model.variables if id(variable) not in chosen]

    def total(values):
        current = [variable.value for variable in others]
        with keras.StatelessScope(state_mapping=_pairs((variables, others), (values, current))) as scope:
            terms = losses()
        return optimizer.scale_loss(terms["total"]), (terms, [scope.get_current_value(variable) for variable in others])

    gradients, (terms, updated) = jax.grad(total, has_aux=True)([variable.value for variable in variables])
    for variable, value in zip(others, updated, strict=True):
        variable.assign(value)
    optimizer.apply(gradients, variables)
    if hasattr(optimizer, "observe"):
        optimizer.observe(terms["total"])
    return terms


def is_symbolic(x: Any) -> bool:
    """See `backend.tensorflow.is_symbolic`."""
    return isinstance(x, keras.KerasTensor | jax.core.Tracer)


def sync_state(model: keras.Model) -> None:
    """Sets the variables to the values that a running `fit` holds; `fit` reads them again before its next step."""
    model.jax_state_sync()


@contextlib.contextmanager
def keeps_values(model: keras.Model) -> Iterator[None]:
    """A context after which the variables have values, even after an error, by which Keras' loops lose them."""
    variables = [*model.variables, *(model.optimizer.variables if model.compiled else ())]
    before = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        sync_state(model)
        for variable, value in before:
            if private.is_purged(variable) and not value.is_deleted():
                variable.assign(value)
        raise


def several_steps(model: keras.Model, train_function: Callable) -> Callable:
    """Makes one program of `model.steps_per_execution` training steps; Keras would launch them one by one.

    One loop needs batches of one shape. So each run of batches of the same shape gets a loop of its own, and each new
    sequence of shapes is compiled. Under a `keras.distribution.Distribution` Keras' own function is kept, which knows
    how the state is spread over the devices.
    """
    steps = model.steps_per_execution
    if steps == 1 or not model.jit_compile or model.run_eagerly or keras.distribution.distribution() is not None:
        return train_function

    def shapes(batch):
        return [leaf.shape for leaf in jax.tree.leaves(batch)]

    def step(state, batch):
        logs, state = model.train_step(state, batch)
        return state, logs

    @functools.partial(jax.jit, donate_argnums=0)
    def program(state, batches):
        for _, run in itertools.groupby(batches, key=shapes):
            state, logs = jax.lax.scan(step, state, jax.tree.map(lambda *parts: jnp.stack(parts), *run))
        return jax.tree.map(lambda values: values[-1], logs), state

    def launch(state: tuple, iterator: Iterator) -> tuple:
        return program(state, (next(iterator), *itertools.islice(iterator, steps - 1)))

    return launch


# On JAX one program sees the whole batch, even if its rows lie on several devices. So there is one replica.


def replicas() -> int:
    """See `backend.tensorflow.replicas`."""
    return 1


def replica() -> int:
    """See `backend.tensorflow.replica`."""
    return 0


def own_rows(x: jax.Array) -> jax.Array:
    """See `backend.tensorflow.own_rows`."""
    return x


def all_rows(x: jax.Array) -> jax.Array:
    """See `backend.tensorflow.all_rows`."""
    return x


def batch_mean(x: jax.Array) -> jax.Array:
    """See `backend.tensorflow.batch_mean`."""
    return jnp.mean(x, axis=0)


def apply_adam(variable, momentum, velocity, gradient, learning_rate, step, beta_1, beta_2, epsilon) -> None:
    """One step of Adam on one variable, with the rounding of TensorFlow's kernel, which the papers' code calls.

    `1 - beta` and `1 - beta^t` are rounded in the same way, so that the first step has its full length.
    """
    dtype = variable.dtype
    beta_1, beta_2, step = (jnp.asarray(value, dtype) for value in (beta_1, beta_2, step))
    length = learning_rate * jnp.sqrt(1 - beta_2**step) / (1 - beta_1**step)
    momentum.assign(momentum + (gradient - momentum) * (1 - beta_1))
    velocity.assign(velocity + (jnp.square(gradient) - velocity) * (1 - beta_2))
    variable.assign(variable - momentum * length / (jnp.sqrt(velocity.value) + epsilon))


def batch_normalize(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """See `backend.tensorflow.batch_normalize`."""
    mean, variance, unbiased = _statistics(x)
    y = (x - mean) * (jax.lax.rsqrt(variance + epsilon) * gamma) + beta
    return y.astype(x.dtype), mean, unbiased


def normalize_pool_activate(
    x: jax.Array, gamma: jax.Array, beta: jax.Array, keep: jax.Array, epsilon: float, negative_slope: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """See `backend.tensorflow.normalize_pool_activate`."""
    mean, variance, unbiased = _statistics(x)
    sign = jnp.where(gamma < 0, -1, 1).astype(x.dtype)
    pooled = sign * _max_pool(sign * x)
    y = (pooled - mean) * (gamma * jax.lax.rsqrt(variance + epsilon)) + beta
    return (jax.nn.leaky_relu(y, negative_slope) * keep).astype(x.dtype), mean, unbiased


def _statistics(x):
    """Mean, variance and unbiased variance of each channel, over all images and pixels."""
    x = x.astype("float32")
    count = x.size // x.shape[-1]
    mean = _sum(x) / count
    # The derivative of the variance by the mean is 0. Without that path the gradient does not get its rounding errors.
    variance = _sum(jnp.square(x - jax.lax.stop_gradient(mean))) / count
    return mean, variance, variance * (count / max(count - 1, 1))


def _sum(x):
    return jnp.sum(x, axis=(0, 1, 2))


@jax.custom_vjp
def _max_pool(x):
    return functools.reduce(jnp.maximum, _windows(x))


def _windows(x):
    """The four pixels of each 2x2 window, without an odd last row or column."""
    height, width = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return [x[:, i:height:2, j:width:2] for i in range(2) for j in range(2)]


def _max_pool_forward(x):
    pooled = _max_pool(x)
    return pooled, (x, pooled)


def _max_pool_backward(residuals, gradient):
    """Passes the gradient to the first largest pixel of each window, as cuDNN and TensorFlow do; in one pass."""
    x, pooled = residuals
    free, parts = True, []
    for pixel in _windows(x):
        largest = (pixel == pooled) & free
        parts.append(jnp.where(largest, gradient, 0))
        free = free & ~largest
    batch, height, width, channels = pooled.shape
    windows = jnp.stack(parts, axis=3).reshape(batch, height, width, 2, 2, channels)
    full = windows.transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2 * height, 2 * width, channels)
    return (jnp.pad(full, ((0, 0), (0, x.shape[1] - 2 * height), (0, x.shape[2] - 2 * width), (0, 0))),)


_max_pool.defvjp(_max_pool_forward, _max_pool_backward)


def normal_rows(seeds: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Standard normal numbers `(B, *shape)`; row i is that of `keras.random.normal` for the one seed `seeds[:, i]`."""
    return jax.vmap(lambda seed: jax.random.normal(seed, shape), in_axes=1)(seeds)


def categorical_rows(log_weights: jax.Array, seeds: jax.Array) -> jax.Array:
    """Categories `(B,)`; entry i is one draw of `keras.random.categorical` for the one seed `seeds[:, i]`."""
    return jax.vmap(lambda seed: jax.random.categorical(seed, log_weights[None, :, None], 1, (1, 1))[0, 0], in_axes=1)(
        seeds
    )


def norm(x: jax.Array) -> jax.Array:
    """See `backend.tensorflow.norm`."""
    return jnp.sqrt(jnp.sum(jnp.square(x)))


def clipped_cross_entropy(x: jax.Array, logits: jax.Array, low: float, high: float) -> jax.Array:
    """See `backend.tensorflow.clipped_cross_entropy`."""
    clipped = jnp.clip(logits, low, high)
    return jax.nn.softplus(clipped) - x * clipped


def argmax(values: jax.Array) -> jax.Array:
    """The index of the largest value along the last axis, int32."""
    return jnp.argmax(values, axis=-1).astype("int32")
