"""Trains models of the registry for five steps and writes their weights: `train.py HOW FILE [norm | NAME ...]`.

HOW is `devices`, on one device and then on two (virtual CPU devices of this process), or the number of a worker, 0 or
1, with the cluster in TF_CONFIG. Beside the weights it writes the logs, with a report on an odd number of images, and
on how many devices the rows of a batch lay.

Without a name it trains all of them. With `norm` there is only the EXoN, its classifier has convolutions and batch
normalisation, and nothing is evaluated: the moving statistics follow biases whose gradient is rounding.
"""

import contextlib
import json
import os
import re
import sys

HOW, FILE = sys.argv[1:3]
NORM = "norm" in sys.argv
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

strategy, JAX = None, keras.backend.backend() == "jax"
if JAX:
    import jax
else:
    import tensorflow as tf

    if HOW == "devices":
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    else:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before any tensor is made

from contract import registry, small  # noqa: E402

from keras_ssvae import data  # noqa: E402
from keras_ssvae.evaluation import report  # noqa: E402

STEPS = 5
small.without_random_weights(pytest.MonkeyPatch())
images = np.random.default_rng(0).integers(0, 256, (60, *small.IMAGE_SHAPE), dtype=np.uint8)
results, logs = {}, {}


def build(entry):
    keras.utils.set_random_seed(0)
    if NORM:
        model = entry.build(classifier=small.convolutional()["classifier"])
        model.compile(entry.optimizer())
        return model
    # On TensorFlow each replica drops out on its own.
    dropout = 0.3 if JAX else 0.0
    model = entry.build(dropout=dropout, **entry.rowwise(dropout))
    # Of a gradient near 0 Adam would make large what is nothing but rounding.
    model.compile(entry.optimizer(epsilon=1e-3))
    return model


def batches_of(entry):
    """Of the first model's ten labelled images the third batch of each pass has two.

    Each size of a batch takes a program of its own, which JAX makes for ten seconds: the other models have one size.
    """
    count = 10 if entry is registry.ENTRIES[0] else 12
    if not entry.sizes:
        labeled, sizes = None, {}
    else:
        values = np.stack([np.arange(60) % size for size in entry.sizes], axis=-1)
        labels = values if len(entry.sizes) > 1 else values[:, 0]
        labeled, sizes = (images[:count], labels[:count]), {"labeled_batch_size": 4}
    num_classes = (entry.sizes if len(entry.sizes) > 1 else entry.sizes[0]) if entry.sizes else 10
    sizes |= {"unlabeled_batch_size": 6, "steps_per_epoch": STEPS}
    validation = (data.scale(images), labels) if entry.sizes else (data.scale(images),)
    unlabeled = images if "unlabeled" in entry.parts else None
    return data.semi_supervised(labeled, unlabeled, num_classes=num_classes, seed=1, **sizes), validation


def count_devices(batch, labels=None):
    """In the place of `model.check_batch`, which sees the batch inside the step."""
    if JAX:
        part = batch["unlabeled" if "unlabeled" in batch else "labeled"]
        if not isinstance(part, jax.core.Tracer):
            return  # `fit` looks at the first batch before the training
        shape = part.shape
        jax.debug.inspect_array_sharding(
            part, callback=lambda sharding: seen.add(shape[0] // sharding.shard_shape(shape)[0])
        )
    else:
        seen.add(tf.distribute.get_replica_context().num_replicas_in_sync)


def train(entry, place, strategy):
    with strategy.scope() if strategy else contextlib.nullcontext():
        model = build(entry)
    batches, validation = batches_of(entry)
    if strategy is not None:
        if place == "two":
            with pytest.raises(ValueError, match=r"Train with `model\.fit\(data\.distribute\(batches, strategy\)"):
                model.fit(batches, steps_per_epoch=STEPS, verbose=0)
            json.dumps(model.get_config(), default=str)  # variables on both devices have one value
        batches = data.distribute(batches, strategy)
    model.check_batch = count_devices
    evaluated = not NORM and place in ("one", "two")
    fit = {"validation_data": validation} if evaluated else {}
    history = model.fit(batches, steps_per_epoch=STEPS, shuffle=False, verbose=0, **fit).history
    variables = (*model.trainable_variables, *(v for v in model.optimizer.variables if v.path.endswith("rate")))
    for i, variable in enumerate(variables):
        name = re.sub(r"_[0-9]+", "", variable.path)  # Keras numbers the layers of a process
        results[f"{place}/{entry.name}/{i} {name}"] = keras.ops.convert_to_numpy(variable)
    named = {key: values[0] for key, values in history.items()}
    if evaluated:
        given = [part[:57] for part in validation]
        numbers = report(model, *given, batch_size=20)
        named |= {f"report {key}": value for key, value in numbers.items() if np.ndim(value) == 0}
    logs[f"{place}/{entry.name}"] = {key: float(value) for key, value in named.items() if value is not None}


named = [entry for entry in registry.ENTRIES if entry.name in sys.argv[3:]]
entries = [registry.EXON] if NORM else named or registry.ENTRIES
for place in ("one", "two") if HOW == "devices" else ("workers",):
    seen = set()
    if place == "two" and JAX:
        keras.distribution.set_distribution(keras.distribution.DataParallel())
    for entry in entries:
        train(entry, place, None if place == "one" else strategy)
    assert seen == {1 if place == "one" else 2}, (place, seen)
np.savez(FILE, logs=json.dumps(logs), **results)
