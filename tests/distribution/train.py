"""Trains small models for five steps on one device or several, and writes their weights: `train.py HOW FILE [norm]`.

They are an EXoN and a PartedVAE. Beside the weights it writes the logs, with a report on an odd number of images, and
on how many devices the rows of a batch lay.

HOW is `one` or `two` (virtual CPU devices of this process), or the number of a worker, 0 or 1, with the cluster in
TF_CONFIG.
With `norm` there is only the EXoN, its classifier has convolutions and batch normalisation, and nothing is evaluated:
the moving statistics follow biases whose gradient is rounding.
"""

import json
import os
import sys

HOW, FILE = sys.argv[1:3]
NORM = "norm" in sys.argv
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from keras import layers  # noqa: E402

strategy = None
if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    if HOW == "two":
        devices = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], devices)
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    elif HOW != "one":
        strategy = tf.distribute.MultiWorkerMirroredStrategy()  # before any tensor is made
else:
    import jax

    if HOW == "two":
        keras.distribution.set_distribution(keras.distribution.DataParallel())

from keras_ssvae import data  # noqa: E402
from keras_ssvae.evaluation import report  # noqa: E402
from keras_ssvae.models import EXoN, PartedVAE  # noqa: E402
from keras_ssvae.networks.layers import ConvBlock  # noqa: E402
from keras_ssvae.optimizers import Adam, GroupedOptimizer, PlateauAdam  # noqa: E402
from keras_ssvae.priors import GaussianMixture  # noqa: E402

SHAPE, STEPS = (12, 12, 3), 5


def exon() -> EXoN:
    keras.utils.set_random_seed(0)
    images, z = keras.Input(SHAPE), keras.Input((2,))
    flat = layers.Flatten()(images)
    hidden = layers.Dense(8, activation="tanh")(flat)
    encoder = keras.Model(images, [layers.Reshape((3, 2))(layers.Dense(6)(hidden)) for _ in range(2)])
    decoder = keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(432, activation="tanh")(z)))
    if NORM:
        hidden = layers.Flatten()(ConvBlock(4, 3, pool=True)(ConvBlock(4, 3)(images)))
        hidden = layers.BatchNormalization()(layers.Dense(6, use_bias=False)(hidden))
    else:
        hidden = layers.Dense(6, use_bias=False)(flat)
        if keras.backend.backend() == "jax":  # on TensorFlow each replica drops out on its own
            hidden = layers.Dropout(0.3)(hidden)
    classifier = keras.Model(images, layers.Dense(3)(layers.ReLU()(hidden)))
    prior = GaussianMixture(3 * np.eye(3, 2), np.ones((3, 2)))
    model = EXoN(encoder, decoder, classifier, prior=prior, beta=0.3, lambda1=5.0, lambda2=7.0)
    model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(1e-2, weight_decay=1e-2)}))
    return model


def parted() -> PartedVAE:
    """Its rates fall on a plateau, which every device must see at the same step."""
    keras.utils.set_random_seed(0)
    images, z_u = keras.Input(SHAPE), keras.Input((4,))
    encoder = keras.Model(images, layers.Dense(8, activation="tanh")(layers.Flatten()(images)))
    decoder = keras.Model(z_u, layers.Reshape(SHAPE)(layers.Dense(432)(z_u)))
    weights = {"capacity_z": 2.0, "capacity_u": 2.0, "capacity_steps": 5, "slope_steps": 5}
    model = PartedVAE(encoder, decoder, num_classes=3, u_dims=2, z_dim=2, **weights)
    # Of a gradient near 0 Adam would make large what is nothing but rounding.
    adam = {"epsilon": 1e-3, "steps_per_epoch": 2, "patience": 0, "threshold": 0.9}
    model.compile(GroupedOptimizer({name: PlateauAdam(1e-2, **adam) for name in ("supervised", "main")}))
    return model


def count_devices(batch, labels):
    """In the place of `model.check_batch`, which sees the batch inside the step."""
    if keras.backend.backend() == "jax":
        shape = batch["unlabeled"].shape
        jax.debug.inspect_array_sharding(
            batch["unlabeled"], callback=lambda sharding: seen.add(shape[0] // sharding.shard_shape(shape)[0])
        )
    else:
        seen.add(tf.distribute.get_replica_context().num_replicas_in_sync)


images = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
labels = np.arange(60) % 3
builders = [exon] if NORM else [exon, parted]
# Of the ten labelled images the third batch of each pass has two.
batches = data.semi_supervised(
    (images[:10], labels[:10]),
    images,
    num_classes=3,
    labeled_batch_size=4,
    unlabeled_batch_size=6,
    steps_per_epoch=STEPS,
    seed=1,
)
if strategy is None:
    models = {build.__name__: build() for build in builders}
else:
    with strategy.scope():
        models = {build.__name__: build() for build in builders}
    if HOW == "two" and not NORM:
        for model in models.values():
            with pytest.raises(ValueError, match=r"Train with `model\.fit\(data\.distribute\(batches, strategy\)"):
                model.fit(batches, steps_per_epoch=STEPS, verbose=0)
        assert models["exon"].get_config()["lambda2"] == 7.0  # a variable, on both devices
    batches = data.distribute(batches, strategy)
seen, weights, logs = set(), {}, {}
validation = None if NORM or HOW.isdigit() else (data.scale(images), labels)
for name, model in models.items():
    model.check_batch = count_devices
    fit = {"steps_per_epoch": STEPS, "validation_data": validation, "shuffle": False, "verbose": 0}
    history = model.fit(batches, **fit).history
    variables = (*model.trainable_variables, *(v for v in model.optimizer.variables if v.path.endswith("rate")))
    weights |= {f"{name} {i} {v.path}": keras.ops.convert_to_numpy(v) for i, v in enumerate(variables)}
    logs |= {f"{name} {key}": values[0] for key, values in history.items()}
    if not NORM:
        figures = report(model, images[:57], labels[:57], batch_size=20)
        logs |= {f"{name} report {key}": value for key, value in figures.items()}
(devices,) = seen
np.savez(FILE, logs=json.dumps(logs), devices=devices, **weights)
