"""Networks that have the right shapes, and do not give what the objective takes."""

import warnings

import keras
import numpy as np
import pytest
from contract import registry, small
from keras import layers, ops

from keras_ssvae import models, networks


def classifier(activation=None, *after):
    """As a practitioner builds one: dense, and whatever comes after it."""
    start = [keras.Input(small.IMAGE_SHAPE), layers.Flatten()]
    return keras.Sequential([*start, layers.Dense(small.K, activation=activation), *after])


def decoder(activation=None, *after, latent_dim=small.D):
    pixels = int(np.prod(small.IMAGE_SHAPE))
    start = [keras.Input((latent_dim,)), layers.Dense(pixels, activation=activation)]
    return keras.Sequential([*start, layers.Reshape(small.IMAGE_SHAPE), *after])


def mixture_encoder(logvar):
    images, width = keras.Input(small.IMAGE_SHAPE), small.K * small.D
    x = layers.Flatten()(images)
    start = keras.initializers.Constant(logvar)
    mean, logvar = layers.Dense(width)(x), layers.Dense(width, bias_initializer=start)(x)
    return keras.Model(images, [layers.Reshape((small.K, small.D))(each) for each in (mean, logvar)])


def gaussian_encoder(logvar):
    images, start = keras.Input(small.IMAGE_SHAPE), keras.initializers.Constant(logvar)
    x = layers.Flatten()(images)
    return keras.Model(images, [layers.Dense(small.D)(x), layers.Dense(small.D, bias_initializer=start)(x)])


SOFTMAX = {
    "the activation": lambda: classifier("softmax"),
    "a layer": lambda: classifier(None, layers.Softmax()),
    "an activation layer": lambda: classifier(None, layers.Activation("softmax")),
    "a function": lambda: classifier(None, layers.Lambda(lambda x: ops.softmax(x))),
    "a model in a model": lambda: keras.Sequential([keras.Input(small.IMAGE_SHAPE), classifier("softmax")]),
    "keras.applications": lambda: keras.applications.MobileNet(
        (32, 32, 3), alpha=0.25, weights=None, classes=small.K, pooling="avg"
    ),
}


@pytest.mark.parametrize("kind", list(SOFTMAX))
def test_a_classifier_that_ends_in_softmax_is_warned_of(kind):
    network = SOFTMAX[kind]()
    if kind == "keras.applications":
        start = [keras.Input(small.IMAGE_SHAPE), layers.Resizing(32, 32)]
        network = keras.Sequential([*start, network])
    with pytest.warns(UserWarning, match="`classifier` gives probabilities, whose sum is 1.*takes logits"):
        registry.exon(classifier=network)


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh"])
def test_a_classifier_that_ends_in_another_activation_is_warned_of(activation):
    with pytest.warns(UserWarning, match=f"`classifier` ends in {activation}, but the model takes logits"):
        registry.exon(classifier=classifier(activation))


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "softplus"])
def test_a_decoder_that_draws_no_dark_pixels_is_warned_of(activation):
    for network in (decoder(activation), decoder(None, layers.Activation(activation))):
        with pytest.warns(UserWarning, match=rf"`decoder` ends in {activation}, but images have pixels in \[-1, 1\]"):
            registry.exon(decoder=network)
    with pytest.warns(UserWarning, match="`decoder` gives no number below 0"):
        registry.exon(decoder=decoder(None, layers.Lambda(lambda x: ops.sigmoid(x))))


@pytest.mark.parametrize("activation", ["sigmoid", "tanh"])
def test_a_decoder_that_gives_pixels_where_logits_are_taken_is_warned_of(activation):
    sentence = f"`decoder` ends in {activation}, but the likelihood takes logits"
    with pytest.warns(UserWarning, match=sentence):
        registry.vae(decoder=decoder(activation))
    for pixel_loss in ("cross_entropy", "absolute_error"):
        with pytest.warns(UserWarning, match=sentence):
            registry.parted(decoder=decoder(activation, latent_dim=4), pixel_loss=pixel_loss)


def test_what_fits_goes_without_a_word():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.exon(classifier=classifier())
        registry.exon(classifier=classifier("log_softmax"))  # the same probabilities
        for network in (decoder(), decoder("tanh"), decoder("sigmoid", layers.Rescaling(2.0, -1.0))):
            registry.exon(decoder=network)
        registry.vae(decoder=decoder())
        registry.parted(decoder=decoder(latent_dim=4))
        models.EXoN()
        models.VAE()


@pytest.mark.parametrize("logvar", [100.0, -100.0])
def test_a_log_variance_that_overflows_is_refused(logvar):
    with pytest.raises(ValueError, match=r"Output 1 of `encoder` has a log-variance of -?10.*too small for sums"):
        registry.exon(encoder=mixture_encoder(logvar))
    with pytest.raises(ValueError, match=r"Output 1 of `encoder` has a log-variance of -?10.*too small for sums"):
        registry.vae(encoder=gaussian_encoder(logvar))


def test_weights_that_are_not_finite_are_refused():
    network = classifier()
    network.layers[-1].bias.assign([np.nan, 0.0, 0.0])
    with pytest.raises(ValueError, match="`classifier` is not finite for random inputs"):
        registry.exon(classifier=network)


def test_a_file_is_loaded_without_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="gives probabilities"):
        model = registry.exon(classifier=classifier("softmax"))
    model.save(tmp_path / "model.keras")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        keras.models.load_model(tmp_path / "model.keras")


def test_the_sentence_about_images_of_another_shape_names_arguments_and_functions_that_help():
    shape = small.IMAGE_SHAPE
    with pytest.raises(ValueError, match=r"`encoder=`, `decoder=`, `classifier=`.*networks\.exon\.mnist_encoder\("):
        models.EXoN().evaluation_terms(small.images(2), np.zeros(2, "int64"))
    model = models.EXoN(
        encoder=networks.exon.mnist_encoder(10, 2, shape),
        decoder=networks.exon.mnist_decoder(2, shape),
        classifier=networks.exon.mnist_classifier(10, image_shape=shape),
    )
    model.evaluation_terms(small.images(2), np.zeros(2, "int64"))
