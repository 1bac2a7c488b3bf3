"""Mistakes that only EXoN knows, each a sentence that names the argument; and its defaults."""

import numpy as np
import pytest

from keras_ssvae import priors
from keras_ssvae.models import EXoN


@pytest.mark.parametrize(
    ("prior", "network"),
    [(priors.circle(4), "encoder"), (priors.line(3, latent_dim=5), "encoder")],
    ids=["K", "d"],
)
def test_a_prior_that_does_not_fit_the_networks_is_refused(make_model, prior, network):
    sentence = (
        rf"`{network}` maps .*a `prior` of {prior.num_classes} classes in {prior.latent_dim} dimensions.*Pass another"
    )
    with pytest.raises(ValueError, match=sentence):
        make_model(prior=prior)


@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan")])
def test_beta_must_be_positive(make_model, beta):
    with pytest.raises(ValueError, match=f"`beta` is {beta}"):
        make_model(beta=beta)


def test_the_default_networks_are_the_papers():
    model = EXoN()
    assert [n.name for n in (model.encoder, model.decoder, model.classifier)] == ["encoder", "decoder", "classifier"]
    assert (model.num_classes, model.latent_dim, model.image_shape) == (10, 2, (28, 28, 1))
    assert (model.beta, model.lambda1, float(model.lambda2)) == (0.25, 6000.0, 6000.0)
    np.testing.assert_array_equal(model.prior.means, priors.circle().means)
