"""Takes one training step from the weights, batch and noise of a file and writes what it gives: `terms.py IN OUT`.

One process for each backend. Dropout masks are given too: of the same seed the backends draw different ones.
"""

import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
from conftest import PRIOR, convolutional

from keras_ssvae.backend import run_step
from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer
from keras_ssvae.schedules import RampUp

given = {"weight": {}, "batch": {}, "noise": {}}
for key, value in np.load(sys.argv[1]).items():
    kind, name = key.split("/", 1)
    given[kind][name] = value
batch, noise = given["batch"], given["noise"]
masks, drawn, gradients = np.random.default_rng(3), [], []


def dropout(inputs, rate, seed):
    drawn.append(masks.random(inputs.shape) > rate)
    return inputs * (drawn[-1] / (1 - rate)).astype("float32")


def record_and_apply(values, variables):
    gradients[:] = values
    apply(values, variables)


def step(data):
    return model.replay_step(*data), list(gradients)


keras.random.dropout = dropout
lambda2 = RampUp(50.0, ramp_epochs=2, steps_per_epoch=1)
model = EXoN(**convolutional(rate=0.5), prior=PRIOR, beta=0.3, lambda1=5.0, lambda2=lambda2)
for variable, value in zip(model.trainable_weights, given["weight"].values(), strict=True):
    variable.assign(value)
model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(1e-2, weight_decay=1e-2)}))
model.optimizer.iterations.assign(1)
apply, model.optimizer.apply = model.optimizer.apply, record_and_apply

if keras.backend.backend() == "jax":  # one program, which is quicker than one operation after the other
    import jax

    parts = model.trainable_variables, model.non_trainable_variables, model.optimizer.variables, model.metrics_variables
    state = tuple([variable.value for variable in part] for part in parts)
    (terms, of_weights), state = jax.jit(lambda state, data: run_step(model, step, state, data))(state, (batch, noise))
    for part, values in zip(parts, state, strict=True):
        for variable, value in zip(part, values, strict=True):
            variable.assign(value)
else:
    terms, of_weights = step((batch, noise))

results = {f"term/{name}": value for name, value in terms.items()}
for i, (variable, gradient) in enumerate(zip(model.trainable_variables, of_weights, strict=True)):
    results |= {f"gradient/{i} {variable.path}": gradient, f"after/{i} {variable.path}": variable}
for i, variable in enumerate((*model.non_trainable_variables, *model.optimizer.variables)):
    if not variable.path.endswith("seed_generator_state"):
        results[f"state/{i} {variable.path}"] = variable
np.savez(
    sys.argv[2],
    num_masks=len(drawn),
    **{name: keras.ops.convert_to_numpy(value) for name, value in results.items()},
)
