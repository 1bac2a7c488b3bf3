"""Networks so small that a test takes milliseconds: images of 8x8x3, three classes, two latent dimensions."""

import keras
import numpy as np
from keras import layers, ops

from keras_ssvae.networks.layers import ConvBlock, mixture_heads

IMAGE_SHAPE = (8, 8, 3)
K, D = 3, 2
NUM_LABELED, NUM_UNLABELED = 4, 6
SEVERAL_NAMES = [["cat", "dog", "truck"], ["by day", "by night"]]  # of the values of two labels
UNEVEN = [0.5, 0.3, 0.2]  # probabilities of the classes


def encoder(num_classes=K, latent_dim=D, image_shape=IMAGE_SHAPE):
    """Images -> means and log-variances of K components."""
    images = keras.Input(image_shape)
    x = layers.Dense(8, activation="tanh", name="hidden")(layers.Flatten()(images))
    outputs = [
        layers.Reshape((num_classes, latent_dim))(layers.Dense(num_classes * latent_dim, name=name)(x))
        for name in ("mean", "logvar")
    ]
    return keras.Model(images, outputs, name="encoder")


def decoder(latent_dim=D, image_shape=IMAGE_SHAPE, activation="tanh"):
    """Latent variables -> images, or logits of the pixels if there is no activation."""
    z = keras.Input((latent_dim,))
    x = layers.Dense(int(np.prod(image_shape)), activation=activation, name="pixels")(z)
    return keras.Model(z, layers.Reshape(image_shape)(x), name="decoder")


def classifier(num_classes=K, dropout=0.0, image_shape=IMAGE_SHAPE):
    """Images -> logits of the classes. Its batch normalisation has a momentum of 0.5, so the order of passes matters.

    There is no bias before the normalisation: its gradient would be rounding only, which Adam enlarges.
    """
    images = keras.Input(image_shape)
    x = layers.Dense(6, use_bias=False, name="hidden")(layers.Flatten()(images))
    x = layers.BatchNormalization(momentum=0.5, name="bn")(x)
    x = layers.Dropout(dropout)(layers.ReLU()(x))
    return keras.Model(images, layers.Dense(num_classes, name="logits")(x), name="classifier")


def rowwise_classifier(dropout=0.0, num_classes=K):
    """A classifier without batch normalisation, which treats each image independently."""
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dense(6, activation="tanh", use_bias=False)(layers.Flatten()(images))
    x = layers.Dropout(dropout)(x)
    return keras.Model(images, layers.Dense(num_classes)(x), name="classifier")


def gaussian_encoder(dropout=0.0, latent_dim=D):
    """Images -> the mean and the log-variance of a Gaussian."""
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dense(8, activation="tanh", name="hidden")(layers.Flatten()(images))
    x = layers.Dropout(dropout)(x)
    return keras.Model(images, [layers.Dense(latent_dim, name=name)(x) for name in ("mean", "logvar")], name="encoder")


def flat_images():
    """A network whose output is not a row of features."""
    return keras.Sequential([keras.Input(IMAGE_SHAPE), layers.Conv2D(4, 3)], name="encoder")


def features(dropout=0.0, image_shape=IMAGE_SHAPE):
    """Images -> features."""
    images = keras.Input(image_shape)
    x = layers.Dense(8, activation="tanh", name="hidden")(layers.Flatten()(images))
    return keras.Model(images, layers.Dropout(dropout)(x), name="encoder")


def convolutional(rate=0.0, image_shape=IMAGE_SHAPE):
    """EXoN's three networks with the paper's layers: blocks of convolutions, and float32 outputs in every policy."""
    images, z = keras.Input(image_shape), keras.Input((D,))
    height, width, channels = image_shape
    x = layers.Flatten()(ConvBlock(4, 3, strides=2, negative_slope=0.0)(images))
    x = layers.BatchNormalization()(layers.Dense(8, use_bias=False)(x))
    encoder = keras.Model(images, [mixture_heads(x, K, D, name=name) for name in ("mean", "logvar")], name="encoder")
    smallest = (height // 2, width // 2, 4)
    x = layers.Reshape(smallest)(layers.Dense(int(np.prod(smallest)), activation="relu")(z))
    x = ConvBlock(4, 5, strides=2, transpose=True, rate=rate, negative_slope=0.0)(x)
    x = layers.Conv2D(channels, 3, padding="same", activation="tanh", dtype="float32")(x)
    decoder = keras.Model(z, x, name="decoder")
    x = ConvBlock(4, 3, pool=True, rate=rate)(ConvBlock(4, 3)(images))
    x = layers.Dense(K, dtype="float32")(layers.GlobalAveragePooling2D()(x))
    classifier = keras.Model(images, x, name="classifier")
    return {"encoder": encoder, "decoder": decoder, "classifier": classifier}


def convolutional_parted(latent_dim):
    """The two networks of PartedVAE with the layers of the paper."""
    images, z = keras.Input(IMAGE_SHAPE), keras.Input((latent_dim,))
    x = layers.ReLU()(layers.Conv2D(4, 4, strides=2, padding="same")(images))
    encoder = keras.Model(images, layers.LeakyReLU(0.1)(layers.Dense(8)(layers.Flatten()(x))), name="encoder")
    x = layers.Reshape((4, 4, 4))(layers.Dense(64, activation="relu")(z))
    x = layers.Conv2DTranspose(3, 4, strides=2, padding="same", dtype="float32")(x)
    return {"encoder": encoder, "decoder": keras.Model(z, x, name="decoder")}


# HVAE's networks beside `gaussian_encoder`, its encoder of z2. Their layers have other names: see below.


def encoder_z1(dropout=0.0, z1_dim=3, z2_dim=D):
    """`[x, z2]` -> the mean and the log-variance of z1."""
    x, z2 = keras.Input(IMAGE_SHAPE), keras.Input((z2_dim,))
    by_x, by_z2 = layers.Dense(8, name="z1_by_x")(layers.Flatten()(x)), layers.Dense(8, name="z1_by_z2")(z2)
    h = layers.Dropout(dropout)(layers.Activation("tanh")(layers.Add()([by_x, by_z2])))
    heads = [layers.Dense(z1_dim, name=f"z1_{name}")(h) for name in ("mean", "logvar")]
    return keras.Model([x, z2], heads, name="encoder_z1")


def prior_z1(z1_dim=3, z2_dim=D):
    """z2 -> the mean and the log-variance of z1."""
    z2 = keras.Input((z2_dim,))
    return keras.Model(z2, [layers.Dense(z1_dim, name=f"p_z1_{n}")(z2) for n in ("mean", "logvar")], name="prior_z1")


# M2's networks, of images or, with the shape `(F,)`, of features. Their layers have other names than M1's, since tests
# tell variables apart by their paths.


def label_encoder(dropout=0.0, num_classes=K, latent_dim=D, shape=IMAGE_SHAPE):
    """`[x, y]` -> the mean and the log-variance of a Gaussian."""
    x, y = keras.Input(shape), keras.Input((num_classes,))
    by_x, by_y = layers.Dense(8, name="by_x")(layers.Flatten()(x)), layers.Dense(8, use_bias=False, name="by_y")(y)
    h = layers.Dropout(dropout)(layers.Activation("tanh")(layers.Add()([by_x, by_y])))
    return keras.Model([x, y], [layers.Dense(latent_dim, name=f"z_{n}")(h) for n in ("mean", "logvar")], name="encoder")


def label_decoder(latent_dim=D + K, shape=IMAGE_SHAPE):
    """(z, y) -> what the likelihood takes."""
    z = keras.Input((latent_dim,))
    x = layers.Dense(int(np.prod(shape)), name="decoded")(z)
    return keras.Model(z, layers.Reshape(shape)(x), name="decoder")


def label_classifier(dropout=0.0, num_classes=K, shape=IMAGE_SHAPE):
    """x -> logits."""
    x = keras.Input(shape)
    h = layers.Dense(6, activation="tanh", name="of_class")(layers.Flatten()(x))
    return keras.Model(x, layers.Dense(num_classes, name="class")(layers.Dropout(dropout)(h)), name="classifier")


def class_encoder(dropout=0.0, num_classes=K, latent_dim=K + D):
    """N-VAE's: images -> the mean and the log-variance of a Gaussian, and logits of the classes."""
    images = keras.Input(IMAGE_SHAPE)
    x = layers.Dropout(dropout)(layers.Dense(8, activation="tanh", name="seen")(layers.Flatten()(images)))
    heads = {"mean": latent_dim, "logvar": latent_dim, "logits": num_classes}
    return keras.Model(images, [layers.Dense(units, name=f"of_{n}")(x) for n, units in heads.items()], name="encoder")


def with_weights(model, seed):
    """Gives a model the same random weights each time, biases included."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        if weight.name.startswith("bias"):
            weight.assign(rng.normal(scale=0.3, size=weight.shape))
        elif weight.name.startswith("kernel"):
            *field, inputs, outputs = weight.shape
            weight.assign(rng.normal(size=weight.shape) * (2.0 / np.prod(field) / (inputs + outputs)) ** 0.5)
        elif weight.name.startswith("free_"):
            weight.assign(rng.normal(size=weight.shape))
        elif weight.name == "pseudo_inputs":
            weight.assign(rng.uniform(size=weight.shape))
    return model


def images(count, seed=1, image_shape=IMAGE_SHAPE):
    return np.random.default_rng(seed).uniform(-1, 1, (count, *image_shape)).astype("float32")


def batch(sizes=(K,), image_shape=IMAGE_SHAPE):
    """The four parts of a training batch, and one-hot `labels` of the labelled part, several labels side by side."""
    rng = np.random.default_rng(2)
    counts = {"labeled": NUM_LABELED, "unlabeled": NUM_UNLABELED}
    parts = {name: rng.uniform(-1, 1, (n, *image_shape)).astype("float32") for name, n in counts.items()}
    parts |= {f"{name}_augmented": parts[name] + rng.normal(scale=0.1, size=parts[name].shape) for name in counts}
    parts = {name: np.clip(part, -1, 1).astype("float32") for name, part in parts.items()}
    chosen = zip(sizes, ([0, 2, 1, 2], [1, 0, 0, 1]), strict=False)
    labels = [np.eye(k, dtype="float32")[classes] for k, classes in chosen]
    return {**parts, "labels": np.concatenate(labels, axis=-1)}


def without_random_weights(patch):
    """Makes first weights 0: JAX compiles random ones for a second for each shape, and `with_weights` sets others."""
    initializers = keras.initializers
    for initializer in (initializers.VarianceScaling, initializers.RandomUniform, initializers.RandomNormal):
        patch.setattr(initializer, "__call__", lambda self, shape, dtype=None: ops.zeros(shape, dtype))
