"""The option of EXoN by which its classifier recognises what its decoder draws."""

import keras
import numpy as np
import pytest
from contract import asking
from keras import ops

from keras_ssvae import losses
from keras_ssvae.distributions import sample_gaussian, straight_through_one_hot


def reconstructions(model, batch, noise):
    """What the decoder draws in a step, and the class probabilities of the images."""
    x = np.concatenate([batch["labeled"], batch["unlabeled"]])
    w = ops.softmax(model.classifier(x, training=True))
    mean, logvar = model.encoder(x)
    y = straight_through_one_hot(ops.log(w + 1e-8) + noise["gumbel"])
    return model.decoder(ops.sum(y[:, :, None] * sample_gaussian(mean, logvar, noise["epsilon"]), axis=1)), w


def test_the_term_is_the_cross_entropy_of_image_and_reconstruction_and_weighs_a_share_of_lambda2(make_model, batch):
    model = make_model(consistency=0.4)
    noise = asking.to_numpy(model.draw_noise(batch, 0))
    drawn, w = reconstructions(model, batch, noise)
    expected = losses.cross_entropy(w, ops.softmax(model.classifier(drawn, training=True)))
    terms = asking.to_numpy(model.step_losses(batch, noise, 0))
    assert set(terms) == {*model.training_terms, "total"}
    np.testing.assert_allclose(terms["consistency"], ops.convert_to_numpy(expected), rtol=1e-4)
    assert terms["consistency"].shape == (10,)
    without = asking.to_numpy(make_model().step_losses(batch, noise, 0))
    assert terms["total"] - without["total"] == pytest.approx(7.0 * 0.4 * terms["consistency"].sum(), rel=1e-3)
    for name in set(without) - {"total"}:
        np.testing.assert_allclose(terms[name], without[name], rtol=1e-6, err_msg=name)


def test_its_gradient_goes_to_the_classifier_of_the_reconstruction_alone(make_model, batch, differentiate):
    model = make_model(consistency=0.4)
    noise = asking.to_numpy(model.draw_noise(batch, 0))
    drawn, w = (ops.convert_to_numpy(each) for each in reconstructions(model, batch, noise))

    def alone():
        return losses.cross_entropy(w, ops.softmax(model.classifier(drawn, training=True)))

    variables = model.classifier.trainable_variables
    _, gradients = differentiate(lambda: model.step_losses(batch, noise, 0)["consistency"], [], variables)
    _, expected = differentiate(alone, [], variables)
    for gradient, expected_gradient in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-4)
    assert max(np.abs(gradient).max() for gradient in gradients) > 0.01

    def of_autoencoder(**arguments):
        model = make_model(**arguments)
        variables = model.variable_groups()["autoencoder"]
        return differentiate(lambda: model.step_losses(batch, noise, 0)["total"], [], variables)[1]

    for gradient, other in zip(of_autoencoder(consistency=0.4), of_autoencoder(), strict=True):
        np.testing.assert_allclose(gradient, other, rtol=1e-5, atol=1e-6)


def test_without_it_there_is_neither_term_nor_pass(make_model, batch):
    model = make_model()
    assert "consistency" not in model.step_losses(batch, model.draw_noise(batch, 0), 0)
    assert "consistency" not in model.training_terms
    assert model.forward_passes["classifier"] == 5


def test_training_logs_the_term_and_a_loaded_model_has_it(make_model, compile_model, batch, train, tmp_path):
    model = compile_model(make_model(consistency=0.4, dropout=0.5))
    logs = train(model, batch, 2)
    assert 0 < logs["consistency"] < np.log(3) * 3
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.consistency == 0.4
    assert train(loaded, batch, 1)["consistency"] == train(model, batch, 1)["consistency"]


@pytest.mark.parametrize("value", [-0.1, float("nan"), "much", None, True])
def test_it_must_be_a_number_of_at_least_0(make_model, value):
    with pytest.raises(ValueError, match=r"`consistency` is .* finite number, 0 or more\."):
        make_model(consistency=value)
