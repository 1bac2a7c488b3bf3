"""Models so small that a test takes milliseconds: images 8x8x3, three classes, two latent dimensions."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from keras_ssvae.models import EXoN, PartedVAE
from keras_ssvae.networks.layers import ConvBlock, mixture_heads
from keras_ssvae.optimizers import Adam, GroupedOptimizer, PlateauAdam
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


def small_features(dropout=0.0):
    """The encoder of PartedVAE."""
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dense(8, activation="tanh", name="hidden")(layers.Flatten()(images))
    return keras.Model(images, layers.Dropout(dropout)(x), name="encoder")


# Here too: each weight of PartedVAE's objective is a number of its own, and all that rises is at its end in five steps.
WEIGHTS = {"gamma_z": 2.0, "gamma_u": 3.0, "gamma_c": 5.0, "gamma_h": 0.7, "gamma_bc": 1.1, "tolerance": 0.3}
WEIGHTS |= {"capacity_z": 4.0, "capacity_u": 6.0, "capacity_steps": 5, "slope_steps": 4}
SEVERAL_LABELS = {
    "num_classes": (K, 2),
    "u_dims": (2, 1),
    "class_priors": [(0.5, 0.3, 0.2), (0.6, 0.4)],
    "pixel_loss": "absolute_error",
}


@pytest.fixture
def everything():
    """All variables of a model and its optimizer, but for the noise generators: their state is set at each step."""

    def read(model):
        variables = (*model.weights, *model.optimizer.variables)
        return [(v.path, ops.convert_to_numpy(v)) for v in variables if not v.path.endswith("seed_generator_state")]

    return read


@pytest.fixture
def assert_same_bits(everything):
    """Of everything in two models."""

    def check(model, expected):
        for (path, value), (_, expected_value) in zip(everything(model), everything(expected), strict=True):
            np.testing.assert_array_equal(value, expected_value, err_msg=path)

    return check


@pytest.fixture
def networks():
    """The builders of the small networks, one by one, and of all three with convolutions."""
    builders = {"encoder": small_encoder, "decoder": small_decoder, "classifier": small_classifier}
    return {**builders, "convolutional": convolutional}


@pytest.fixture(autouse=True)
def no_random_weights(monkeypatch):
    """`make_model` gives the weights, and JAX takes a second to compile the random ones of each shape."""
    initializers = keras.initializers
    for initializer in (initializers.GlorotUniform, initializers.RandomUniform, initializers.RandomNormal):
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
        return with_weights(EXoN(**{**defaults, **kwargs}), weights_seed)

    return make


def with_weights(model, seed):
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if weight.name == "bias":
            weight.assign(rng.normal(scale=0.3, size=weight.shape))
        elif weight.name == "kernel":
            *field, inputs, outputs = weight.shape
            weight.assign(rng.normal(size=weight.shape) * (2.0 / np.prod(field) / (inputs + outputs)) ** 0.5)
        elif weight.name.startswith("free_"):
            weight.assign(rng.normal(size=weight.shape))
    return model


@pytest.fixture
def make_parted():
    """Builds a small PartedVAE of one label or, with `several`, of two; the same weights each time."""

    def make(several=False, dropout=0.0, weights_seed=5, **kwargs):
        arguments = {"num_classes": K, "u_dims": 2, "z_dim": 2, **WEIGHTS, **(SEVERAL_LABELS if several else {})}
        arguments |= {"encoder": small_features(dropout), "decoder": small_decoder(5 if several else 4), **kwargs}
        return with_weights(PartedVAE(**arguments), weights_seed)

    return make


@pytest.fixture
def compile_parted():
    """Compiles a PartedVAE whose two rates halve after steps 4, 8, ... unless a loss falls to a tenth; returns it."""

    def compile_parted(model, rate=1e-2):
        plateau = {"steps_per_epoch": 2, "patience": 0, "threshold": 0.9, "cooldown": 1}
        members = {name: PlateauAdam(rate, **plateau) for name in ("supervised", "main")}
        model.compile(GroupedOptimizer(members))
        return model

    return compile_parted


@pytest.fixture
def parted_batch():
    """What `step_losses` of a PartedVAE takes, of as many labels as the model has."""

    def parted_batch(model):
        rng = np.random.default_rng(2)
        sizes = {"labeled": NUM_LABELED, "unlabeled": NUM_UNLABELED}
        parts = {name: rng.uniform(-1, 1, (n, *IMAGE_SHAPE)).astype("float32") for name, n in sizes.items()}
        sizes = (model.num_classes,) if isinstance(model.num_classes, int) else model.num_classes
        chosen = zip(sizes, ([0, 2, 1, 2], [1, 0, 0, 1]), strict=False)
        labels = [np.eye(k, dtype="float32")[classes] for k, classes in chosen]
        return {**parts, "labels": np.concatenate(labels, axis=-1)}

    return parted_batch


@pytest.fixture
def compile_model():
    """Compiles a model with one optimizer for each group, and returns it."""

    def compile_model(model, rate=1e-2):
        model.compile(GroupedOptimizer({"autoencoder": Adam(rate), "classifier": Adam(rate, weight_decay=1e-2)}))
        return model

    return compile_model


@pytest.fixture
def forever():
    """The batches of `fit`: a batch of `step_losses`, with labels or without, again and again."""

    def forever(batch):
        images = {name: part for name, part in batch.items() if name != "labels"}
        while True:
            yield (images, batch["labels"]) if "labels" in batch else (images,)

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
