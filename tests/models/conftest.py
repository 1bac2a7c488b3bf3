"""A model so small that a test takes milliseconds: images 8x8x3, three classes, two latent dimensions."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae.models import EXoN
from keras_ssvae.networks.layers import ConvBlock, mixture_heads
from keras_ssvae.optimizers import Adam, GroupedOptimizer
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


def convolutional(rate=0.0):
    """The three networks as the papers have them: blocks of convolutions, and float32 ends under every policy."""
    images, z = keras.Input(IMAGE_SHAPE), keras.Input((D,))
    x = layers.Flatten()(ConvBlock(4, 3, strides=2, negative_slope=0.0)(images))
    x = layers.BatchNormalization()(layers.Dense(8, use_bias=False)(x))
    encoder = keras.Model(images, [mixture_heads(x, K, D, name=name) for name in ("mean", "logvar")], name="encoder")
    x = layers.Reshape((4, 4, 4))(layers.Dense(64, activation="relu")(z))
    x = ConvBlock(4, 5, strides=2, transpose=True, rate=rate, negative_slope=0.0)(x)
    x = layers.Conv2D(3, 3, padding="same", activation="tanh", dtype="float32")(x)
    decoder = keras.Model(z, x, name="decoder")
    x = ConvBlock(4, 3, pool=True, rate=rate)(ConvBlock(4, 3)(images))
    x = layers.Dense(K, dtype="float32")(layers.GlobalAveragePooling2D()(x))
    classifier = keras.Model(images, x, name="classifier")
    return {"encoder": encoder, "decoder": decoder, "classifier": classifier}


@pytest.fixture
def networks():
    """The builders of the small networks, one by one, and of all three with convolutions."""
    builders = {"encoder": small_encoder, "decoder": small_decoder, "classifier": small_classifier}
    return {**builders, "convolutional": convolutional}


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    """`make_model` gives the weights, and JAX takes a second to compile the random ones of each shape."""
    for initializer in (keras.initializers.GlorotUniform, keras.initializers.RandomUniform):
        monkeypatch.setattr(initializer, "__call__", lambda self, shape, dtype=None: ops.zeros(shape, dtype))


@pytest.fixture(scope="session", autouse=True)
def cache_of_programs(tmp_path_factory):
    """JAX compiles a step for seconds, which many tests have in common, those in other processes included."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax
    from jax.experimental.compilation_cache import compilation_cache

    folder = str(tmp_path_factory.mktemp("programs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_COMPILATION_CACHE_DIR", folder)
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()  # JAX decides at its first program whether to look
        yield
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()


@pytest.fixture
def make_model():
    """Builds a small model; the same weights each time, biases included."""

    def make(dropout=0.0, weights_seed=7, **kwargs):
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
            if weight.name == "bias":
                weight.assign(rng.normal(scale=0.3, size=weight.shape))
            elif weight.name == "kernel":
                *field, inputs, outputs = weight.shape
                weight.assign(rng.normal(size=weight.shape) * (2.0 / np.prod(field) / (inputs + outputs)) ** 0.5)
        return model

    return make


@pytest.fixture
def compile_model():
    """Compiles a model with one optimizer for each group, and returns it."""

    def compile_model(model, rate=1e-2):
        model.compile(GroupedOptimizer({"autoencoder": Adam(rate), "classifier": Adam(rate, weight_decay=1e-2)}))
        return model

    return compile_model


@pytest.fixture
def forever():
    """The batches of `fit`: a batch of `step_losses` again and again."""

    def forever(batch):
        images = {name: part for name, part in batch.items() if name != "labels"}
        while True:
            yield images, batch["labels"]

    return forever


@pytest.fixture
def train(forever):
    """`fit` on the same batch, `steps` times; returns the last logs."""

    def train(model, batch, steps):
        history = model.fit(forever(batch), steps_per_epoch=steps, shuffle=False, verbose=0)
        return {name: values[-1] for name, values in history.history.items()}

    return train


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
