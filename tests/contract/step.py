"""One training step from given weights, batch, noise and dropout masks. `step.py FOLDER` makes it in a process.

The dropout masks are given too, since the backends draw different ones from the same seed.
"""

import re
import sys
from pathlib import Path

import keras
import numpy as np
from contract.registry import ENTRIES

from keras_ssvae.backend import run_step

STEP = 1  # not the first, so that schedules have moved


def take(entry, batch, noise, weights):
    """Makes the step; returns its terms, gradients and state after it by name, and how many masks were drawn."""
    masks, drawn, gradients = np.random.default_rng(3), [], {}
    keras_dropout = keras.random.dropout

    def dropout(inputs, rate, noise_shape=None, seed=None):
        drawn.append(masks.random(inputs.shape) > rate)
        return inputs * (drawn[-1] / (1 - rate)).astype("float32")

    def recording(name, member):
        apply = member.apply

        def record_and_apply(values, variables):
            named = zip(variables, values, strict=True)
            gradients.update({f"gradient/{name} {index[id(variable)]}": value for variable, value in named})
            apply(values, variables)

        member.apply = record_and_apply

    model = entry.build(dropout=0.5, **entry.as_published())
    model.compile(entry.optimizer(epsilon=1e-3))  # else Adam enlarges the rounding of a gradient near 0
    together = (*model.weights, *model.optimizer.variables)
    # Without the numbers that Keras gives to the layers of a process.
    index = {id(v): f"{i} {re.sub(r'_[0-9]+', '', v.path)}" for i, v in enumerate(together)}
    for variable, value in zip(model.trainable_weights, weights, strict=True):
        variable.assign(value)
    model.optimizer.iterations.assign(STEP)
    for name, member in getattr(model.optimizer, "members", {"": model.optimizer}).items():
        recording(name, member)

    def step(data):
        return model.replay_step(*data), dict(gradients)

    keras.random.dropout = dropout
    try:
        if keras.backend.backend() == "jax":
            terms, of_weights = _as_a_program(model, step, (batch, noise))
        else:
            terms, of_weights = step((batch, noise))
    finally:
        keras.random.dropout = keras_dropout
    results = {f"term/{name}": value for name, value in terms.items()} | of_weights
    for variable in together:
        if not variable.path.endswith("seed_generator_state"):
            kind = "after" if variable.trainable else "state"
            results[f"{kind}/{index[id(variable)]}"] = variable
    return {name: keras.ops.convert_to_numpy(value) for name, value in results.items()} | {"masks": len(drawn)}


def _as_a_program(model, step, data):
    """Makes the step as one program, which is faster on JAX than one operation at a time."""
    import jax

    parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    state = tuple([variable.value for variable in part] for part in parts)
    results, state = jax.jit(lambda state, data: run_step(model, step, state, data))(state, data)
    for part, values in zip(parts, state, strict=True):
        for variable, value in zip(part, values, strict=True):
            variable.assign(value)
    return results


def load(file):
    """Reads the batch, the noise and the weights from a file."""
    given = {"weight": {}, "batch": {}, "noise": {}}
    for key, value in np.load(file).items():
        kind, name = key.split("/", 1)
        given[kind][name] = value
    return given["batch"], given["noise"], list(given["weight"].values())


if __name__ == "__main__":
    for given in sorted(Path(sys.argv[1]).glob("*_given.npz")):
        number = given.name.partition("_")[0]
        np.savez(given.with_name(f"{number}_result.npz"), **take(ENTRIES[int(number)], *load(given)))
