"""A model so small that a test takes milliseconds: images 8x8x3, three classes, two latent dimensions."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_ssvae.models import EXoN
from keras_ssvae.priors import GaussianMixture

IMAGE_SHAPE = (8, 8, 3)
K, D = 3, 2
NUM_LABELED, NUM_UNLABELED = 4, 6


def small_encoder(num_classes=K, latent_dim=D):
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dense(8, activation="tanh", name="hidden")(layers.Flatten()(images))
    outputs = [
        layers.Reshape((num_classes, latent_dim))(layers.Dense(num_classes * latent_dim, name=name)(x))
        for name in ("mean", "logvar")
    ]
    return keras.Model(images, outputs, name="encoder")


def small_decoder(latent_dim=D, image_shape=IMAGE_SHAPE):
    z = keras.Input((latent_dim,))
    x = layers.Dense(int(np.prod(image_shape)), activation="tanh", name="pixels")(z)
    return keras.Model(z, layers.Reshape(image_shape)(x), name="decoder")


def small_classifier(num_classes=K, dropout=0.0):
    """Its batch normalisation forgets half of the past at each pass, so that the order of the passes shows.

    No bias comes before it: the gradient of one is nothing but rounding, which Adam makes large.
    """
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dense(6, use_bias=False, name="hidden")(layers.Flatten()(images))
    x = layers.BatchNormalization(momentum=0.5, name="bn")(x)
    x = layers.Dropout(dropout)(layers.ReLU()(x))
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x), name="classifier")


# All numbers different, so that none can stand in for another.
PRIOR = GaussianMixture([[-3.0, 0.0], [2.0, 1.0], [0.5, 4.0]], [[1.0, 2.0], [0.5, 1.5], [3.0, 0.7]])


@pytest.fixture
def networks():
    """The builders of the small networks."""
    return {"encoder": small_encoder, "decoder": small_decoder, "classifier": small_classifier}


@pytest.fixture
def make_model():
    """Builds a small model; the same weights each time, biases included."""

    def make(dropout=0.0, weights_seed=0, **kwargs):
        keras.utils.set_random_seed(weights_seed)
        defaults = {
            "encoder": small_encoder(),
            "decoder": small_decoder(),
            "classifier": small_classifier(dropout=dropout),
            "prior": PRIOR,
            "beta": 0.3,
            "lambda1": 5.0,
            "lambda2": 7.0,
        }
        model = EXoN(**{**defaults, **kwargs})
        rng = np.random.default_rng(weights_seed)
        for weight in model.trainable_weights:
            if weight.path.endswith("bias"):
                weight.assign(rng.normal(scale=0.3, size=weight.shape))
        return model

    return make


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def images():
    return np.random.default_rng(1).uniform(-1, 1, (7, *IMAGE_SHAPE)).astype("float32")


@pytest.fixture
def batch():
    """What `step_losses` takes: the four parts, and `labels` of the labelled one."""
    rng = np.random.default_rng(2)
    sizes = {"labeled": NUM_LABELED, "unlabeled": NUM_UNLABELED}
    parts = {name: rng.uniform(-1, 1, (n, *IMAGE_SHAPE)).astype("float32") for name, n in sizes.items()}
    parts |= {f"{name}_augmented": parts[name] + rng.normal(scale=0.1, size=parts[name].shape) for name in sizes}
    parts = {name: np.clip(part, -1, 1).astype("float32") for name, part in parts.items()}
    return {**parts, "labels": np.eye(K, dtype="float32")[[0, 2, 1, 2]]}
