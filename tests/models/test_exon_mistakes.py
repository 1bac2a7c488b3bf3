"""A mistake is a sentence that names the argument, before any training."""

import keras
import numpy as np
import pytest

from keras_ssvae import priors
from keras_ssvae.models import EXoN
from keras_ssvae.optimizers import Adam, GroupedOptimizer


@pytest.mark.parametrize(
    ("prior", "network"),
    [(priors.circle(4), "encoder"), (priors.line(3, latent_dim=5), "encoder")],
    ids=["K", "d"],
)
def test_a_prior_that_does_not_fit_the_networks_is_refused(make_model, prior, network):
    sentence = rf"`{network}` maps .*a `prior` of {prior.num_classes} classes in {prior.latent_dim} dimensions.*Change"
    with pytest.raises(ValueError, match=sentence):
        make_model(prior=prior)


@pytest.mark.parametrize(
    ("network", "arguments"),
    [
        ("encoder", {"num_classes": 4}),
        ("encoder", {"latent_dim": 3}),
        ("decoder", {"latent_dim": 3}),
        ("decoder", {"image_shape": (8, 8, 1)}),
        ("classifier", {"num_classes": 2}),
    ],
)
def test_a_network_of_the_wrong_shape_is_refused_by_name(make_model, networks, network, arguments):
    with pytest.raises(ValueError, match=rf"`{network}` maps .*it must map .*Change one of them"):
        make_model(**{network: networks[network](**arguments)})


def test_an_encoder_with_one_output_is_refused(make_model, networks):
    encoder = networks["encoder"]()
    with pytest.raises(ValueError, match="`encoder` maps"):
        make_model(encoder=keras.Model(encoder.input, encoder.outputs[0]))


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(make_model, beta):
    with pytest.raises(ValueError, match=f"`beta` is {beta}"):
        make_model(beta=beta)


def test_groups_of_the_optimizer_must_be_the_models(model):
    with pytest.raises(ValueError, match=r"\['encoder'\].*\['autoencoder', 'classifier'\]"):
        model.compile(GroupedOptimizer({"encoder": Adam()}))


def test_integer_labels_in_training_are_refused(model, batch, train):
    model.compile(Adam())
    three = {name: part[:3] if name.startswith("labeled") else part for name, part in batch.items()}
    with pytest.raises(ValueError, match="one-hot"):
        train(model, {**three, "labels": np.float32([0, 2, 1])}, 1)


def test_interpolation_needs_two_points(model, images):
    with pytest.raises(ValueError, match="`n` is 1"):
        model.interpolate(images[:1], images[1:2], n=1)


def test_the_default_networks_are_the_papers():
    model = EXoN()
    assert [n.name for n in (model.encoder, model.decoder, model.classifier)] == ["encoder", "decoder", "classifier"]
    assert (model.num_classes, model.latent_dim, model.image_shape) == (10, 2, (28, 28, 1))
    assert (model.beta, model.lambda1, float(model.lambda2)) == (0.25, 6000.0, 6000.0)
    np.testing.assert_array_equal(model.prior.means, priors.circle().means)


@pytest.mark.parametrize(
    ("name", "value"), [("beta", float("inf")), ("lambda1", -1.0), ("lambda2", float("nan")), ("lambda2", abs)]
)
def test_a_weight_that_is_no_finite_number_is_refused(make_model, name, value):
    with pytest.raises(ValueError, match=f"`{name}` is .*; it must be a finite number"):
        make_model(**{name: value})


def test_a_network_without_a_known_input_is_refused_by_name(make_model):
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="`encoder` takes None; it must be a built functional"):
        make_model(encoder=Subclassed())


def test_compile_refuses_what_it_would_ignore(model, make_model, networks):
    with pytest.raises(ValueError, match=r"`compile` was given \['loss'\]"):
        model.compile(Adam(), loss="mse")
    z = keras.Input((2,))
    penalized = keras.layers.Dense(2, kernel_regularizer="l2")(z)
    with pytest.raises(ValueError, match="regulariser"):
        make_model(decoder=keras.Model(z, networks["decoder"]()(penalized), name="decoder")).compile(Adam())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [({"y": np.zeros(7), "sample_weight": np.ones(7)}, "sample weights"), ({}, "no labels")],
)
def test_sample_weights_and_missing_labels_are_refused(model, images, arguments, sentence):
    model.compile(Adam())
    with pytest.raises(ValueError, match=sentence):
        model.evaluate(images, **arguments, verbose=0)


def test_validation_images_that_are_not_scaled_are_refused(model, images):
    model.compile(Adam())
    with pytest.raises(ValueError, match=r"`x` is uint8 .*`data.scale` converts"):
        model.evaluate(images.astype("uint8"), np.zeros(len(images)), verbose=0)


@pytest.mark.parametrize("labels", [[[0, 1, 0]], [1.7], [-1], [3]])
def test_generate_refuses_what_is_no_list_of_classes(model, labels):
    with pytest.raises(ValueError, match=r"`labels` (has .*it must be one integer|run .*they must be 0 to 2)"):
        model.generate(labels, seed=1)
