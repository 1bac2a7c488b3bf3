"""The networks of M1, M2 and M1+M2: dense layers with softplus, `log(1 + exp(a))`, and linear heads.

The networks of M2 accept images `(B, H, W, C)` or rows of features `(B, F)`. In M1+M2 the features are M1's latent
variables. In the encoder's first layer the one-hot label has its own kernel; its product is added before the
activation.
"""

import math
from collections.abc import Sequence

import keras
from keras import layers

IMAGE_SHAPE = (28, 28, 1)
LATENT_DIM, NUM_CLASSES = 50, 10
_STDDEV = 0.001  # standard deviation of M2's initial weights

# M1


def m1_encoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = LATENT_DIM, hidden: Sequence[int] = (600, 600)
) -> keras.Model:
    """Images `(B, H, W, C)`, pixels in [0, 1] -> means and log-variances, each `(B, d)`.

    Args:
        image_shape: `(H, W, C)`.
        latent_dim: Number of dimensions d.
        hidden: Units of each hidden layer. Kingma et al. have two layers of 600, their released code two of 500.

    Returns:
        A `keras.Model`. Kernels start at `N(0, 1 / inputs)`, biases at 0.
    """
    images = keras.Input(image_shape, name="image")
    x = layers.Flatten(name="flatten")(images)
    for i, units in enumerate(hidden):
        x = _m1_dense(units, f"m1_encoder_{i}", activation="softplus")(x)
    heads = [_m1_dense(latent_dim, f"m1_{name}", dtype=keras.config.floatx())(x) for name in ("mean", "logvar")]
    return keras.Model(images, heads, name="m1_encoder")


def m1_decoder(
    image_shape: tuple[int, int, int] = IMAGE_SHAPE, latent_dim: int = LATENT_DIM, hidden: Sequence[int] = (600, 600)
) -> keras.Model:
    """Latent variables `(B, d)` -> logits of the pixels `(B, H, W, C)`.

    Args:
        image_shape: `(H, W, C)`; C is the number of outputs for a pixel.
        latent_dim: Number of dimensions d.
        hidden: Units of each hidden layer, as in `m1_encoder`.

    Returns:
        A `keras.Model`. Its weights start as the encoder's. The likelihood applies the sigmoid.
    """
    z, dtype = keras.Input((latent_dim,), name="z"), keras.config.floatx()
    x = z
    for i, units in enumerate(hidden):
        x = _m1_dense(units, f"m1_decoder_{i}", activation="softplus")(x)
    x = _m1_dense(math.prod(image_shape), "m1_logits", dtype=dtype)(x)
    return keras.Model(z, layers.Reshape(image_shape, dtype=dtype, name="m1_image")(x), name="m1_decoder")


# M2


def m2_encoder(
    shape: Sequence[int] = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    latent_dim: int = LATENT_DIM,
    hidden: Sequence[int] = (500,),
) -> keras.Model:
    """`[x, y]`, of shapes `(B, *shape)` and `(B, K)` -> means and log-variances of `q(z | x, y)`, each `(B, d)`.

    Args:
        shape: `(H, W, C)` of images, pixels in [0, 1], or `(F,)` of features.
        num_classes: Number of classes K.
        latent_dim: Number of dimensions d.
        hidden: Units of each hidden layer.

    Returns:
        A `keras.Model` with two inputs. Weights start at `N(0, 0.001^2)`, the head of the log-variances at 0.
    """
    x, y = keras.Input(shape, name="x"), keras.Input((num_classes,), name="y")
    first, *others = hidden
    by_x = _m2_dense(first, "encoder_0")(layers.Flatten(name="flatten")(x))
    by_y = _m2_dense(first, "encoder_label", use_bias=False)(y)
    h = layers.Activation("softplus", name="encoder_softplus")(layers.Add(name="encoder_sum")([by_x, by_y]))
    for i, units in enumerate(others, start=1):
        h = _m2_dense(units, f"encoder_{i}", activation="softplus")(h)
    dtype = keras.config.floatx()
    mean = _m2_dense(latent_dim, "mean", dtype=dtype)(h)
    logvar = layers.Dense(latent_dim, kernel_initializer="zeros", dtype=dtype, name="logvar")(h)
    return keras.Model([x, y], [mean, logvar], name="encoder")


def m2_decoder(
    shape: Sequence[int] = IMAGE_SHAPE,
    num_classes: int = NUM_CLASSES,
    latent_dim: int = LATENT_DIM,
    hidden: Sequence[int] = (500,),
) -> keras.Model:
    """Latent variables and one-hot labels side by side, `(B, d + K)` -> inputs of the likelihood, `(B, *shape)`.

    Args:
        shape: `(H, W, C)` of images, or `(F,)` of features. The last number counts outputs: it is twice the number of
            values for `likelihoods.HeteroscedasticGaussian`.
        num_classes: Number of classes K.
        latent_dim: Number of dimensions d.
        hidden: Units of each hidden layer.

    Returns:
        A `keras.Model`. The last K rows of its first kernel belong to the label. Weights start at `N(0, 0.001^2)`, the
        biases of the outputs at 0.
    """
    latent, dtype = keras.Input((latent_dim + num_classes,), name="z_y"), keras.config.floatx()
    x = latent
    for i, units in enumerate(hidden):
        x = _m2_dense(units, f"decoder_{i}", activation="softplus")(x)
    x = _m2_dense(math.prod(shape), "outputs", bias_initializer="zeros", dtype=dtype)(x)
    return keras.Model(latent, layers.Reshape(shape, dtype=dtype, name="decoded")(x), name="decoder")


def m2_classifier(
    shape: Sequence[int] = IMAGE_SHAPE, num_classes: int = NUM_CLASSES, hidden: Sequence[int] = (500,)
) -> keras.Model:
    """Pixels in [0, 1] or features, `(B, *shape)` -> logits of `q(y | x)`, `(B, K)`.

    Args:
        shape: `(H, W, C)` of images, or `(F,)` of features.
        num_classes: Number of classes K.
        hidden: Units of each hidden layer.

    Returns:
        A `keras.Model`. Kernels start at `N(0, 0.001^2)`, biases at 0.
    """
    x = keras.Input(shape, name="x")
    h = layers.Flatten(name="flatten")(x)
    for i, units in enumerate(hidden):
        h = _m2_dense(units, f"classifier_{i}", activation="softplus", bias_initializer="zeros")(h)
    logits = _m2_dense(num_classes, "class_logits", bias_initializer="zeros", dtype=keras.config.floatx())(h)
    return keras.Model(x, logits, name="classifier")


def _m1_dense(units, name, **kwargs):
    initializer = keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")
    return layers.Dense(units, kernel_initializer=initializer, name=name, **kwargs)


def _m2_dense(units, name, **kwargs):
    kernel, bias = (keras.initializers.RandomNormal(stddev=_STDDEV) for _ in range(2))
    given = {"kernel_initializer": kernel, "bias_initializer": bias, **kwargs}
    return layers.Dense(units, name=name, **given)
