"""Trains a small model for five steps on one device or several, and writes its weights: `train.py HOW FILE [norm]`.

HOW is `one` or `two` (virtual CPU devices of this process), or the number of a worker, 0 or 1, with the cluster in
TF_CONFIG.
With `norm` the classifier has convolutions and batch normalisation.
"""

import json
import os
import sys

HOW, FILE = sys.argv[1:3]
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras  # noqa: E402
import numpy as np  # noqa: E402
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
elif HOW == "two":
    keras.distribution.set_distribution(keras.distribution.DataParallel())

from keras_ssvae import data  # noqa: E402
from keras_ssvae.models import EXoN  # noqa: E402
from keras_ssvae.networks.layers import ConvBlock  # noqa: E402
from keras_ssvae.optimizers import Adam, GroupedOptimizer  # noqa: E402
from keras_ssvae.priors import GaussianMixture  # noqa: E402

SHAPE, STEPS = (8, 8, 3), 5


def build() -> EXoN:
    keras.utils.set_random_seed(0)
    images, z = keras.Input(SHAPE), keras.Input((2,))
    flat = layers.Flatten()(images)
    hidden = layers.Dense(8, activation="tanh")(flat)
    encoder = keras.Model(images, [layers.Reshape((3, 2))(layers.Dense(6)(hidden)) for _ in range(2)])
    decoder = keras.Model(z, layers.Reshape(SHAPE)(layers.Dense(192, activation="tanh")(z)))
    if "norm" in sys.argv:
        hidden = layers.Flatten()(ConvBlock(4, 3, pool=True)(ConvBlock(4, 3)(images)))
        hidden = layers.BatchNormalization()(layers.Dense(6, use_bias=False)(hidden))
    else:
        hidden = layers.Dense(6, use_bias=False)(flat)
    classifier = keras.Model(images, layers.Dense(3)(layers.ReLU()(hidden)))
    prior = GaussianMixture(3 * np.eye(3, 2), np.ones((3, 2)))
    model = EXoN(encoder, decoder, classifier, prior=prior, beta=0.3, lambda1=5.0, lambda2=7.0)
    model.compile(GroupedOptimizer({"autoencoder": Adam(1e-2), "classifier": Adam(1e-2, weight_decay=1e-2)}))
    return model


images = np.random.default_rng(0).integers(0, 256, (60, *SHAPE), dtype=np.uint8)
labels = np.arange(60) % 3
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
    model = build()
else:
    with strategy.scope():
        model = build()
    batches = data.distribute(batches, strategy)
validation = None if HOW.isdigit() else (data.scale(images), labels)
history = model.fit(batches, steps_per_epoch=STEPS, validation_data=validation, shuffle=False, verbose=0).history
weights = {f"{i} {v.path}": keras.ops.convert_to_numpy(v) for i, v in enumerate(model.trainable_variables)}
np.savez(FILE, logs=json.dumps({name: values[0] for name, values in history.items()}), **weights)
